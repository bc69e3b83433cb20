"""
The data as native Redis clients see and write it while memcached clients use
it, on each version of Redis; and the shell lines that people already script.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.support.requirements import fixture_needs
from tests.support.servers import LOOPBACK, RedCouch, RedisServer
from tests.support.wire import Wire, whole


@pytest.fixture
def wire(bridge: RedCouch, native: redis.Redis) -> Iterator[Wire]:
    """A memcached client's connection. Redis is empty."""
    with Wire(bridge.address) as wire:
        yield wire


def _say(wire: Wire, sent: bytes) -> bytes:
    return wire.converse(whole(sent)).reply


def _fields(native: redis.Redis, key: str) -> dict[bytes, bytes]:
    fields: Any = native.hgetall(key)
    return dict(fields)


def _keys(native: redis.Redis) -> set[bytes]:
    """All keys but those of the system."""
    keys: Iterator[Any] = native.scan_iter()
    return {key for key in keys if not key.startswith(b"redcouch:sys:")}


# -- written by a memcached client -------------------------------------------------------------


def test_item(wire: Wire, native: redis.Redis) -> None:
    """An item is a hash: its value in hex, its flags, and its CAS token."""
    _say(wire, b"set session:abc 42 0 5\r\nhello\r\n")
    token = _say(wire, b"gets session:abc\r\n").splitlines()[0].split()[-1]
    expected = {b"v": b"68656c6c6f", b"f": b"42", b"c": token}
    assert _fields(native, "rc:session:abc") == expected
    assert native.ttl("rc:session:abc") == -1
    assert bytes.fromhex(expected[b"v"].decode()) == b"hello"


def test_every_change_keeps_the_layout(wire: Wire, native: redis.Redis) -> None:
    """Whichever command wrote last, the same three fields are there, and the same time to live."""
    tokens = set()
    for change, value in (
        (b"set n 7 500 1\r\n5\r\n", b"5"),
        (b"incr n 5\r\n", b"10"),
        (b"append n 0 0 1\r\n0\r\n", b"100"),
        (b"prepend n 0 0 1\r\n2\r\n", b"2100"),
        (b"decr n 2095\r\n", b"5   "),
        (b"replace n 7 500 2\r\n99\r\n", b"99"),
    ):
        _say(wire, change)
        fields = _fields(native, "rc:n")
        assert (fields[b"v"], fields[b"f"]) == (value.hex().encode(), b"7")
        assert fields.keys() == {b"v", b"f", b"c"}
        assert 400 < native.ttl("rc:n") <= 500
        tokens.add(fields[b"c"])
    assert len(tokens) == 6


def test_time_to_live(wire: Wire, native: redis.Redis) -> None:
    """The hash lives as long as the item does: TTL and EXPIRE say and mean the item's time."""
    _say(wire, b"set a 0 100 1\r\nx\r\nset b 0 100 1\r\nx\r\ntouch b 0\r\nset c 0 -1 1\r\nx\r\n")
    assert 0 < native.ttl("rc:a") <= 100
    assert native.ttl("rc:b") == -1
    assert not native.exists("rc:c")
    _say(wire, b"gat 1000 a\r\n")
    assert 100 < native.ttl("rc:a") <= 1000
    native.expire("rc:a", 0)
    assert _say(wire, b"get a\r\n") == b"END\r\n"


def test_only_these_keys(wire: Wire, native: redis.Redis) -> None:
    """Items are under rc:, and everything else is under redcouch:sys:."""
    _say(wire, b"set a 0 0 1\r\nx\r\nincr a 1\r\nget b\r\ndelete a\r\nset c 0 0 1\r\nx\r\n")
    assert _keys(native) == {b"rc:c", b"rc:the-end"}


def test_flush_leaves_the_rest_alone(wire: Wire, native: redis.Redis) -> None:
    """flush_all removes the items, and nobody else's keys."""
    native.set("app:1", "x")
    native.set("rcx", "x")
    _say(wire, b"set a 0 0 1\r\nx\r\n")
    assert wire.say([b"flush_all\r\n"], b"\r\n").reply == b"OK\r\n"
    assert _keys(native) == {b"app:1", b"rcx"}


# -- written by a native client ----------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "68656c6c6f",
        "68656C6C6F",
        "68656c6c6f\n",
        "68656c\n6c6f\n",
        " 68 65 6c 6c 6f ",
        "68656c6c6f\r\n",
    ],
)
def test_native_value(wire: Wire, native: redis.Redis, value: str) -> None:
    """A value written by hand is read, in the ways that people and xxd write hex."""
    native.hset("rc:k", mapping={"v": value, "f": "5", "c": "42"})
    assert _say(wire, b"gets k\r\n") == b"VALUE k 5 5 42\r\nhello\r\nEND\r\n"


def test_native_item_without_flags_and_token(wire: Wire, native: redis.Redis) -> None:
    """A value alone is an item. It has flags 0, and a token from when somebody asks for it."""
    native.hset("rc:k", "v", "68656c6c6f")
    assert _say(wire, b"get k\r\n") == b"VALUE k 0 5\r\nhello\r\nEND\r\n"
    first = _say(wire, b"gets k\r\n")
    token = first.splitlines()[0].split()[-1]
    assert int(token) > 0
    assert _say(wire, b"gets k\r\n") == first
    assert _say(wire, b"cas k 0 0 1 %b\r\nx\r\n" % token) == b"STORED\r\n"
    assert _say(wire, b"cas k 0 0 1 %b\r\ny\r\n" % token) == b"EXISTS\r\n"


def test_native_item_can_be_changed(wire: Wire, native: redis.Redis) -> None:
    """Counters and appended values work on what a native client wrote."""
    native.hset("rc:n", mapping={"v": b"41".hex(), "f": "3"})
    native.expire("rc:n", 1000)
    assert _say(wire, b"incr n 1\r\nappend n 0 0 1\r\n!\r\nget n\r\n") == (
        b"42\r\nSTORED\r\nVALUE n 3 3\r\n42!\r\nEND\r\n"
    )
    assert 900 < native.ttl("rc:n") <= 1000


def test_raw_value(wire: Wire, native: redis.Redis) -> None:
    """A value in field r is read as the bytes that it is, and a change writes field v."""
    native.hset("rc:k", mapping={"r": b"\0\xffraw", "f": "1"})
    assert _say(wire, b"get k\r\n") == b"VALUE k 1 5\r\n\0\xffraw\r\nEND\r\n"
    _say(wire, b"set k 0 0 3\r\nhex\r\n")
    assert _fields(native, "rc:k").keys() == {b"v", b"f", b"c"}


@pytest.mark.parametrize("trouble", ["string", "list", "hex"])
def test_what_is_no_item_harms_nobody(wire: Wire, native: redis.Redis, trouble: str) -> None:
    """A key of another type or with no value in it is an error for that key, and stays as it is."""
    match trouble:
        case "string":
            native.set("rc:odd", "x")
        case "list":
            native.rpush("rc:odd", "x")
        case _:
            native.hset("rc:odd", mapping={"v": "68656c6c6", "f": "0", "c": "1"})
    before = native.dump("rc:odd")
    _say(wire, b"set a 0 0 1\r\n1\r\nset b 0 0 1\r\n2\r\n")
    reply = _say(wire, b"get a odd b\r\n")
    assert b"VALUE a 0 1\r\n1\r\n" in reply
    assert b"VALUE b 0 1\r\n2\r\n" in reply
    assert b"VALUE odd" not in reply
    assert reply.splitlines()[-1].startswith(b"SERVER_ERROR ")
    for line in (b"incr odd 1\r\n", b"append odd 0 0 1\r\nx\r\n"):
        assert _say(wire, line).startswith((b"SERVER_ERROR ", b"CLIENT_ERROR "))
    assert native.dump("rc:odd") == before
    assert _say(wire, b"get a b\r\n") == b"VALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n2\r\nEND\r\n"


# -- from the shell ----------------------------------------------------------------------------


class Shell:
    """Runs shell lines as a user of both servers types them."""

    def __init__(self, memcached_port: int, redis_port: int) -> None:
        memcached = f"nc.openbsd -N {LOOPBACK} {memcached_port}"
        self._commands = {
            "nc -N localhost 11210": memcached,
            "redis-cli": f"redis-cli -p {redis_port}",
        }

    def __call__(self, line: str) -> str:
        """What a line prints. It names the ports that everybody knows."""
        for usual, here in self._commands.items():
            line = line.replace(usual, here)
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert not done.stderr, done.stderr
        return done.stdout.replace("\r\n", "\n")


@pytest.fixture
@fixture_needs("nc", "redis-cli", "xxd")
def shell(bridge: RedCouch, redis_server: RedisServer, native: redis.Redis) -> Shell:
    """A shell beside the two servers."""
    return Shell(bridge.port, redis_server.port)


def test_first_look(shell: Shell) -> None:
    """The first thing that anybody tries: who is there, and are the keys in Redis?"""
    assert shell("echo version | nc -N localhost 11210").startswith("VERSION RedCouch ")
    assert shell("printf 'set foo 0 0 3\\r\\nbar\\r\\n' | nc -N localhost 11210") == "STORED\n"
    assert shell("redis-cli KEYS 'rc:*'") == "rc:foo\n"
    fields = shell("redis-cli HGETALL rc:foo").split()
    assert dict(zip(fields[::2], fields[1::2], strict=True)).keys() == {"v", "f", "c"}
    assert shell("redis-cli HGET rc:foo v | xxd -r -p") == "bar"


def test_bare_line_ends(shell: Shell) -> None:
    """echo ends a line with LF alone, echo -e with what it is told, and nc takes either."""
    assert "STAT pid " in shell("echo stats | nc -N localhost 11210")
    assert shell("printf 'set k 0 0 1\\nx\\r\\n' | nc -N localhost 11210") == "STORED\n"
    assert shell(r"echo -e 'get k\r' | nc -N localhost 11210") == "VALUE k 0 1\nx\nEND\n"
    assert shell("echo 'get k' | nc -N localhost 11210") == "VALUE k 0 1\nx\nEND\n"
    assert shell("printf 'get k\\nquit\\n' | nc -N localhost 11210") == "VALUE k 0 1\nx\nEND\n"


@pytest.mark.parametrize("length", [5, 29, 30, 31, 60, 300])
def test_warming_up(shell: Shell, length: int) -> None:
    """A script fills the cache from Redis' side with xxd, which breaks its lines at 60 digits."""
    value = "0123456789" * 30
    line = f'redis-cli HSET rc:k v "$(printf %s {value[:length]} | xxd -p)" f 0 c 1'
    assert shell(line) == "3\n"
    expected = f"VALUE k 0 {length}\n{value[:length]}\nEND\n"
    assert shell("echo 'get k' | nc -N localhost 11210") == expected


def test_short_append(shell: Shell) -> None:
    """append and prepend with a length and nothing else, as another bridge's guide has them."""
    conversation = (
        r"set log 0 0 5\r\nhello\r\nappend log 7\r\n, world\r\nprepend log 2\r\n> \r\nget log\r\n"
    )
    expected = "STORED\nSTORED\nSTORED\nVALUE log 0 14\n> hello, world\nEND\n"
    assert shell(f"printf '{conversation}' | nc -N localhost 11210") == expected


def test_counters_are_readable(shell: Shell) -> None:
    """A rate limiter's counter can be looked at from Redis, with the time that it has left."""
    start = r"set rate:1 0 60 1\r\n0\r\nincr rate:1 1\r\nincr rate:1 1\r\n"
    assert shell(f"printf '{start}' | nc -N localhost 11210") == "STORED\n1\n2\n"
    assert shell("redis-cli HGET rc:rate:1 v | xxd -r -p") == "2"
    assert 0 < int(shell("redis-cli TTL rc:rate:1")) <= 60


def test_cleaning_up(shell: Shell, native: redis.Redis) -> None:
    """The last step of a migration: every item is removed by its prefix, and no other key."""
    native.set("app:1", "x")
    native.hset("rcx", "v", "78")
    lines = "".join(rf"set k{number} 0 0 1\r\nx\r\n" for number in range(20))
    shell(f"printf '{lines}' | nc -N localhost 11210")
    assert shell("redis-cli --scan --pattern 'rc:*' | xargs redis-cli DEL") == "20\n"
    assert shell("echo 'get k0 k1' | nc -N localhost 11210") == "END\n"
    assert shell("redis-cli EXISTS app:1 rcx") == "2\n"
