"""The service on a C{warm:} storage of each kind, with real memcacheds behind it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from pymemcache.client.rendezvous import RendezvousHash

from tests.backends.origin.conftest import PATIENT
from tests.backends.origin.conversation import say, stats
from tests.backends.redis.access import (
    BASICS,
    FIGURES,
    FILLING,
    FLUSHING,
    KEYS,
    OTHERS,
    STANDING,
)
from tests.cli.running import run
from tests.support import servers
from tests.support.polling import eventually
from tests.support.requirements import fixture_needs, needs
from tests.support.servers import Memcached, RedCouch, RedisServer
from tests.support.wire import Wire, ask

_ROOT = Path(__file__).parents[3]

COLD = b"set k 5 1000 3\r\nold\r\nset n 0 0 1\r\n7\r\n"


def source(*nodes: Memcached) -> str:
    """The parameters that say from where."""
    each = "&".join(f"from={node.url}" for node in nodes)
    return f"{each}&{PATIENT}"


@pytest.fixture
@fixture_needs("memcached")
def old() -> Iterator[Memcached]:
    """A memcached with two items."""
    with servers.memcached() as server:
        assert say(server, COLD, b"STORED\r\nSTORED\r\n")
        yield server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with servers.redis_server() as server:
        yield server


def live(bridge: RedCouch, old: Memcached) -> None:
    """What becomes of two cold items, on either side."""
    assert say(bridge, b"get k x\r\n", b"END\r\n") == b"VALUE k 5 3\r\nold\r\nEND\r\n"
    assert say(bridge, b"incr n 3\r\n") == b"10\r\n"
    assert say(old, b"get n\r\n", b"END\r\n") == b"VALUE n 0 2\r\n10\r\nEND\r\n"
    assert say(bridge, b"set k 1 0 3\r\nnew\r\n") == b"STORED\r\n"
    assert say(old, b"get k\r\n", b"END\r\n") == b"VALUE k 1 3\r\nnew\r\nEND\r\n"
    assert say(bridge, b"delete k\r\n") == b"DELETED\r\n"
    for server in (old, bridge):
        assert say(server, b"get k\r\n", b"END\r\n") == b"END\r\n"


def all_are_up(found: dict[str, int]) -> bool:
    """Whether no worker's share is missing, and each has its memcached."""
    return (found["warm_pulled"], found.get("warm_old_up")) == (2, 1)


@pytest.mark.parametrize(
    "parameters", ["", "encoding=raw&", "layout=string&prefix=s:&", "cache=1m&"]
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_redis(redis: RedisServer, old: Memcached, parameters: str, workers: str) -> None:
    """Every layout, with one worker and with more."""
    url = f"warm:{redis.url}?{parameters}{source(old)}"
    with servers.redcouch(url, "--workers", workers) as bridge:
        live(bridge, old)
        found = eventually(lambda: stats(bridge), all_are_up)
    assert found["warm_pulled"] == 2
    assert (found["warm_hits"], found["warm_errors"]) == (0, 0)
    assert found["warm_misses"] >= 2  # x, k, and what was asked to see whether it serves
    assert (found["warm_barred"], found["warm_ended"], found["warm_old_up"]) == (0, 0, 1)


def test_without_the_rights(redis: RedisServer, old: Memcached) -> None:
    """
    A Redis user who may not do what C{warm:} takes is answered so, and not as if the old memcached
    had missed too much; once the user may, all goes on.
    """
    rule = f"on >pw {KEYS} {BASICS} {STANDING} {FLUSHING} {FIGURES} {OTHERS} +hincrby +hgetall"
    with redis.client() as native:
        native.execute_command("ACL", "SETUSER", "bridge", *rule.split())
        url = f"warm:redis://bridge:pw@127.0.0.1:{redis.port}?{source(old)}"
        with servers.redcouch(url, ready=False) as server:
            refused = b"SERVER_ERROR storage answered NOPERM\r\n"
            eventually(lambda: say(server, b"get k\r\n") == refused)
            native.execute_command("ACL", "SETUSER", "bridge", *FILLING.split())
            eventually(lambda: say(server, b"get k\r\n") != refused)
            live(server, old)


def test_memory(old: Memcached) -> None:
    """Items in the process itself."""
    with servers.redcouch(f"warm:memory:?{source(old)}") as bridge:
        live(bridge, old)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_embedded(old: Memcached, workers: str) -> None:
    """A Redis of the service's own."""
    with servers.redcouch(f"warm:embedded:?{source(old)}", "--workers", workers) as bridge:
        live(bridge, old)


def test_memory_is_of_one_worker(old: Memcached) -> None:
    """Several workers would have items of their own, as with plain memory."""
    with servers.redcouch(f"warm:memory:?{source(old)}") as bridge:
        status, said = bridge.run("--workers", "2")
    assert status == 1
    assert "each worker would have items of its own" in said


def test_time_to_live(redis: RedisServer, old: Memcached) -> None:
    """What is fetched lives as long as it would have."""
    with servers.redcouch(f"warm:{redis.url}?{source(old)}") as bridge:
        say(bridge, b"get k n\r\n", b"END\r\n")
        with redis.client() as client:
            assert 900 < client.ttl("rc:k") <= 1000
            assert client.ttl("rc:n") == -1
            assert client.hget("rc:k", "f") == b"5"


def test_plain_afterwards(redis: RedisServer, old: Memcached) -> None:
    """The switch to plain storage is another URL, and going back to the old side is one too."""
    with servers.redcouch(f"warm:{redis.url}?{source(old)}") as bridge:
        say(bridge, b"get k\r\n", b"END\r\n")
        assert say(bridge, b"set fresh 3 0 1\r\nx\r\n") == b"STORED\r\n"
    with servers.redcouch(redis.url) as bridge:
        both = b"VALUE k 5 3\r\nold\r\nVALUE fresh 3 1\r\nx\r\nEND\r\n"
        assert say(bridge, b"get k fresh\r\n", b"END\r\n") == both
    assert say(old, b"get k fresh\r\n", b"END\r\n") == both


@contextmanager
def fleet(redis: RedisServer) -> Iterator[tuple[RedCouch, list[Memcached], Callable[[str], int]]]:
    """A bridge before three memcacheds of pymemcache's, and which of them has a key."""
    with ExitStack() as running:
        nodes = [running.enter_context(servers.memcached()) for _ in range(3)]
        url = f"warm:{redis.url}?{source(*nodes)}&ring=pymemcache"
        bridge = running.enter_context(servers.redcouch(url))
        places = {f"127.0.0.1:{node.port}": place for place, node in enumerate(nodes)}
        ring = RendezvousHash(list(places))
        yield bridge, nodes, lambda key: places[ring.get_node(key)]


@needs("memcached")
def test_only_the_owner_counts(redis: RedisServer) -> None:
    """A copy on another node is never believed, and a change reaches none but the owner."""
    keys = [f"key{number}" for number in range(60)]
    with fleet(redis) as (bridge, nodes, owner):
        for key in keys:
            for place, node in enumerate(nodes):
                value = b"new" if place == owner(key) else b"old"
                say(node, b"set %b 7 0 3\r\n%b\r\n" % (key.encode(), value))
        for key in keys[:20]:  # only copies that nobody looks for
            say(nodes[owner(key)], b"delete %b\r\n" % key.encode())
        found = say(bridge, b"get %b\r\n" % " ".join(keys).encode(), b"END\r\n")
        assert found.count(b"new") == 40
        assert b"old" not in found
        for key in keys[20:]:
            say(bridge, b"set %b 0 0 4\r\nbest\r\n" % key.encode())
            say(bridge, b"incr %b 1\r\n" % key.encode())
        for key in keys[30:40]:
            assert say(bridge, b"delete %b\r\n" % key.encode()) == b"DELETED\r\n"
        for number, key in enumerate(keys):
            expected = b"best" if number in {*range(20, 30), *range(40, 60)} else b""
            for place, node in enumerate(nodes):
                reply = say(node, b"get %b\r\n" % key.encode(), b"END\r\n")
                assert (expected if place == owner(key) else b"old") in reply
                assert place != owner(key) or b"old" not in reply
        assert say(bridge, b"flush_all\r\n") == b"OK\r\n"
        for node in nodes:
            assert say(node, b"get %b\r\n" % " ".join(keys).encode(), b"END\r\n") == b"END\r\n"


@needs("memcached")
def test_a_node_that_is_away(redis: RedisServer) -> None:
    """The keys of the others are found and told as before; its own are never pulled later."""
    keys = [f"key{number}" for number in range(60)]
    with fleet(redis) as (bridge, nodes, owner):
        mine = [key for key in keys if owner(key) == 0]
        for key in keys:
            say(nodes[owner(key)], b"set %b 0 0 3\r\nold\r\n" % key.encode())
        nodes[0].kill()
        eventually(lambda: stats(bridge)["warm_old_up"] == 2)
        found = say(bridge, b"get %b\r\n" % " ".join(keys).encode(), b"END\r\n")
        assert found.count(b"old") == len(keys) - len(mine)
        for key in keys:
            say(bridge, b"delete %b\r\n" % key.encode())
        eventually(lambda: stats(bridge)["warm_barred"] == len(mine))
        assert 0 < len(mine) < len(keys)
        for node in nodes[1:]:
            assert say(node, b"get %b\r\n" % " ".join(keys).encode(), b"END\r\n") == b"END\r\n"
        servers.hold(bridge.pid)  # it tells the node nothing before they are there
        nodes[0].start()
        for key in mine:
            say(nodes[0], b"set %b 0 0 3\r\nold\r\n" % key.encode())
        os.kill(bridge.pid, signal.SIGCONT)
        told = "been told of all that it had missed"
        eventually(lambda: told in bridge.log)
        assert say(nodes[0], b"get %b\r\n" % " ".join(mine).encode(), b"END\r\n") == b"END\r\n"


def test_delayed_flush(redis: RedisServer, old: Memcached) -> None:
    """It empties both sides, what was pulled before it included."""
    with servers.redcouch(f"warm:{redis.url}?{source(old)}") as bridge:
        assert say(bridge, b"flush_all 2\r\n") == b"OK\r\n"
        eventually(lambda: say(old, b"get n\r\n", b"END\r\n") == b"END\r\n")
        with redis.client() as client:
            eventually(lambda: not client.exists("redcouch:sys:flush_at:rc:"))
        assert say(bridge, b"get k n\r\n", b"END\r\n") == b"END\r\n"


def test_a_flush_of_long_ago(redis: RedisServer, old: Memcached) -> None:
    """It is one of now, where memcached does nothing: nothing comes back from there."""
    with servers.redcouch(f"warm:{redis.url}?{source(old)}") as bridge:
        assert say(bridge, b"get k\r\n", b"END\r\n") != b"END\r\n"
        assert say(bridge, b"flush_all 2678400\r\n") == b"OK\r\n"
        assert say(bridge, b"get k n\r\n", b"END\r\n") == b"END\r\n"


def test_large(redis: RedisServer, old: Memcached) -> None:
    """Items as large as they may be, many at once."""
    value = bytes(range(256)) * 4000
    for number in range(12):
        say(old, b"set big%d 0 0 %d\r\n%b\r\n" % (number, len(value), value))
    keys = [b"big%d" % number for number in range(12)]
    with servers.redcouch(f"warm:{redis.url}?{source(old)}") as bridge:
        for _ in range(2):
            found = say(bridge, b"get %b\r\n" % b" ".join(keys), b"\r\nEND\r\n")
            assert found.count(value) == 12
        assert stats(bridge)["warm_pulled"] == 12


def test_too_large(redis: RedisServer, old: Memcached) -> None:
    """What is larger than an item may be here stays there, until it is overwritten."""
    say(old, b"set k 0 0 20000\r\n%b\r\n" % (b"x" * 20_000))
    with servers.redcouch(f"warm:{redis.url}?{source(old)}", "--max-item-size", "10k") as bridge:
        assert say(bridge, b"get k n\r\n", b"END\r\n") == b"VALUE n 0 1\r\n7\r\nEND\r\n"
        assert say(bridge, b"append k 0 0 1\r\ny\r\n") == b"NOT_STORED\r\n"
        assert say(bridge, b"set k 0 0 1\r\ny\r\n") == b"STORED\r\n"
        assert say(old, b"get k\r\n", b"END\r\n") == b"VALUE k 0 1\r\ny\r\nEND\r\n"


def test_too_large_there(redis: RedisServer, old: Memcached) -> None:
    """Where the old memcached does not take what is stored here, it loses what was there."""
    large = b"y" * 1_500_000
    with servers.redcouch(f"warm:{redis.url}?{source(old)}", "--max-item-size", "2m") as bridge:
        assert say(bridge, b"set k 0 0 1500000\r\n%b\r\n" % large) == b"STORED\r\n"
        assert say(old, b"get k\r\n", b"END\r\n") == b"END\r\n"
        assert large in say(bridge, b"get k\r\n", b"\r\nEND\r\n")
        eventually(lambda: stats(bridge)["warm_barred"] == 0)  # as nothing can be repaired


def test_quiet(redis: RedisServer, old: Memcached) -> None:
    """Who wants no answer is heard on both sides, in order."""
    with servers.redcouch(f"warm:{redis.url}?{source(old)}") as bridge:
        with Wire(bridge.address) as wire:
            for request in (
                b"append k 0 0 1 noreply\r\n+\r\n",
                b"incr n 5 noreply\r\n",
                b"set x 0 0 1 noreply\r\n1\r\ndelete x noreply\r\n",
                b"ms y 1 q\r\n2\r\nma y q\r\nmd n q\r\n",
            ):
                wire.say([request, b"mn\r\n"], b"MN\r\n")
        both = b"VALUE k 5 4\r\nold+\r\nVALUE y 0 1\r\n3\r\nEND\r\n"
        for server in (bridge, old):
            assert say(server, b"get k n x y\r\n", b"END\r\n") == both


@needs("memcached")
def test_password(redis: RedisServer, tmp_path: Path) -> None:
    """A memcached that asks for a password (-Y) is given the one in its URL."""
    users = tmp_path / "users"
    users.write_text("couch:se/cret\n")
    with servers.memcached("-Y", str(users)) as old:
        login = b"set auth 0 0 13\r\ncouch se/cret\r\n"
        with Wire(old.address) as wire:
            wire.say([login, COLD], b"STORED\r\nSTORED\r\nSTORED\r\n")
        at = f"{servers.LOOPBACK}:{old.port}"
        url = f"warm:{redis.url}?{PATIENT}&from=memcached://couch:se%2Fcret@{at}"
        with servers.redcouch(url) as bridge:
            assert say(bridge, b"get n\r\n", b"END\r\n") == b"VALUE n 0 1\r\n7\r\nEND\r\n"
            assert "cret" not in bridge.log
        with servers.redcouch(f"warm:{redis.url}?{PATIENT}&from=memcached://a:b@{at}") as bridge:
            assert say(bridge, b"get k\r\n", b"END\r\n") == b"END\r\n"
            assert "is away (it refuses the password)" in bridge.log
        with servers.redcouch(f"warm:{redis.url}?{PATIENT}&from=memcached://{at}") as bridge:
            assert "is away (it says CLIENT_ERROR unauthenticated)" in bridge.log


@needs("memcached")
def test_a_password_that_nobody_asks_for(redis: RedisServer) -> None:
    """A memcached without -Y would keep it as an item, in place of the clients' own."""
    with servers.memcached() as old, Wire(old.address) as wire:
        wire.say([b"set auth 0 0 6\r\ntheirs\r\n"], b"STORED\r\n")
        place = f"couch:secret@{servers.LOOPBACK}:{old.port}"
        with servers.redcouch(f"warm:{redis.url}?{PATIENT}&from=memcached://{place}") as bridge:
            theirs = b"VALUE auth 0 6\r\ntheirs\r\nEND\r\n"
            assert say(bridge, b"get auth\r\n", b"END\r\n") == theirs
        assert say(old, b"get auth\r\n", b"END\r\n") == theirs


@needs("memcached")
def test_no_place(redis: RedisServer) -> None:
    """A memcached that has no place for more connections (-c) is away, and says itself why."""
    with servers.memcached("-c", "40") as old, ExitStack() as clients:
        while clients.enter_context(Wire(old.address)).say([b"mn\r\n"], b"\r\n").reply == b"MN\r\n":
            pass
        url = f"warm:{redis.url}?{PATIENT}&from=memcached://{servers.LOOPBACK}:{old.port}"
        with servers.redcouch(url) as bridge:
            assert "is away (it says ERROR Too many open connections)" in bridge.log


@needs("memcached")
def test_unix_socket(redis: RedisServer, tmp_path: Path) -> None:
    """A memcached on a unix socket."""
    path = tmp_path / "old.sock"
    with at_socket(path):
        url = f"warm:{redis.url}?{PATIENT}&from=memcached://{path}"
        with servers.redcouch(url) as bridge:
            ask(str(path), COLD, b"STORED\r\nSTORED\r\n")
            assert say(bridge, b"get n\r\n", b"END\r\n") == b"VALUE n 0 1\r\n7\r\nEND\r\n"


@contextmanager
def at_socket(path: Path) -> Iterator[None]:
    class AtSocket(Memcached):
        def command(self) -> list[str]:
            return [*super().command(), "-s", str(path)]

        def answers(self) -> bool:
            return ask(str(path), b"version\r\n", b"\r\n").startswith(b"VERSION")

    server = AtSocket(path.parent, [])
    try:
        server.start()
        yield
    finally:
        server.stop()


def test_itself(tmp_path: Path) -> None:
    """A RedCouch tells itself of no change, which it would make again, and tell itself of."""
    socket = tmp_path / "own.sock"
    storage = f"warm:memory:?from=memcached://{socket}&{PATIENT}"
    with servers.redcouch(storage, "--port", f"unix:{socket}") as bridge:
        eventually(lambda: "perhaps this itself" in bridge.log)
        assert say(bridge, b"set k 0 0 1\r\na\r\nappend k 0 0 1\r\nb\r\nmn\r\n", b"MN\r\n")
        assert say(bridge, b"get k\r\n", b"END\r\n") == b"VALUE k 0 2\r\nab\r\nEND\r\n"
        assert " answers" not in bridge.log


def test_commands(redis: RedisServer, old: Memcached) -> None:
    """The redcouch command takes the service's URL, and works on the storage in it."""
    url = f"warm:{redis.url}?{source(old)}"
    with servers.redcouch(url) as bridge:
        say(bridge, b"get k\r\n", b"END\r\n")
        assert run("ls", "--storage", url).out.splitlines()[1].split()[-1] == "k"
        eventually(lambda: run("traffic", "--storage", url).status == 0)


def test_never_back(redis: RedisServer, old: Memcached) -> None:
    """
    Items that others read at the very moment of their deletion stay deleted,
    however many processes serve.
    """
    url = f"warm:{redis.url}?{source(old)}"
    rounds = 150
    with servers.redcouch(url, "--workers", "2") as bridge:
        turn = threading.Barrier(4)
        wrong: list[bytes] = []

        def read() -> None:
            with Wire(bridge.address) as wire:
                for number in range(rounds):
                    turn.wait(60)
                    for _ in range(3):
                        wire.say([b"get r%d\r\n" % number], b"END\r\n")
                    turn.wait(60)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        with Wire(bridge.address) as wire, Wire(old.address) as behind:
            for number in range(rounds):
                behind.say([b"set r%d 0 0 1\r\nx\r\n" % number], b"STORED\r\n")
                turn.wait(60)
                wire.say([b"delete r%d\r\n" % number], b"\r\n")
                turn.wait(60)
                said = wire.say([b"get r%d\r\n" % number], b"END\r\n").reply
                if said != b"END\r\n":
                    wrong.append(said)
        for reader in readers:
            reader.join(60)
        assert wrong == []
        with redis.client() as client:
            assert client.keys("rc:*") == []


def test_two_who_write(redis: RedisServer, old: Memcached) -> None:
    """Where two processes write the same keys, the old side ends with the same or with nothing."""
    url = f"warm:{redis.url}?{source(old)}"
    keys = [b"w%d" % number for number in range(10)]
    with servers.redcouch(url, "--workers", "2") as bridge:

        def write(name: bytes) -> None:
            with Wire(bridge.address) as wire:
                for number in range(100):
                    key = keys[number % len(keys)]
                    if number % 3:
                        wire.say([b"set %b 0 0 3\r\n%b%02d\r\n" % (key, name, number)], b"\r\n")
                    else:
                        wire.say([b"append %b 0 0 1\r\n%b\r\n" % (key, name)], b"\r\n")

        writers = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b", b"c")]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        for key in keys:
            ours = say(bridge, b"get %b\r\n" % key, b"END\r\n")
            assert say(old, b"get %b\r\n" % key, b"END\r\n") in (ours, b"END\r\n")


def test_refused_address(redis: RedisServer) -> None:
    """What is no memcached URL is refused in one line before anything starts."""
    with servers.redcouch(redis.url) as bridge:
        status, said = bridge.run("--storage", f"warm:{redis.url}?from=nonsense")
    assert status == 1
    assert "write memcached://host:port" in said


def test_access(redis: RedisServer, old: Memcached) -> None:
    """A user of Redis with the rights that are documented can be used."""
    assert f"`warm:` takes `{FILLING}`" in (_ROOT / "docs/storage.md").read_text()
    rights = f"{KEYS} {BASICS} {STANDING} {FLUSHING} {FIGURES} {OTHERS} {FILLING}"
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "couch", "on", ">pw", *rights.split())
    url = f"warm:redis://couch:pw@{servers.LOOPBACK}:{redis.port}?{source(old)}"
    with servers.redcouch(url, "--no-inventory") as bridge:
        live(bridge, old)
        assert say(bridge, b"flush_all 100\r\n") == b"OK\r\n"
        assert say(bridge, b"flush_all\r\n") == b"OK\r\n"
        assert stats(bridge)["warm_barred"] == 0
        with redis.client() as client:
            client.execute_command("ACL", "SETUSER", "couch", "-eval")
        for flush in (b"flush_all\r\n", b"flush_all -1\r\n"):  # or items could come back
            assert say(bridge, flush) == b"SERVER_ERROR storage answered NOPERM\r\n"
        with redis.client() as client:
            client.execute_command("ACL", "SETUSER", "couch", "+eval")
    away = f"{url.partition('?')[0]}?from=memcached://{servers.LOOPBACK}:1"
    with servers.redcouch(away) as bridge:
        assert say(bridge, b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        assert stats(bridge)["warm_barred"] == 1
        assert "NOPERM" not in bridge.log.replace("Cannot write down who speaks", "")


def test_page_and_metrics(redis: RedisServer, old: Memcached) -> None:
    """Whoever watches sees how warm it is."""
    port = servers.free_port()
    url = f"warm:{redis.url}?{source(old)}"
    with servers.redcouch(url, "--http", str(port)) as bridge:

        def status() -> Any:
            return json.loads(urlopen(f"http://{servers.LOOPBACK}:{port}/api/status").read())

        assert say(bridge, b"stats reset\r\n") == b"RESET\r\n"
        assert "The old memcached is still asked." in status()["phase"]["blockers"]
        assert say(bridge, b"get k\r\n", b"END\r\n").startswith(b"VALUE")
        assert say(bridge, b"get k\r\n", b"END\r\n").startswith(b"VALUE")
        eventually(lambda: (status()["warm"] or {}).get("share") == 0.5)
        assert status()["warm"]["warm_pulled"] == 1
        assert status()["warm"]["stage"] == "redis-first"
        assert status()["warm"]["no_way_back"] is None
        assert any("had 50.0% of the hits" in one for one in status()["phase"]["blockers"])
        metrics = urlopen(f"http://{servers.LOOPBACK}:{port}/metrics").read().decode()
        assert "redcouch_warm_pulled_total 1.0" in metrics
        assert "redcouch_warm_ended 0.0" in metrics
        assert "redcouch_warm_stage 2.0" in metrics
        assert run("sweep", "-s", url).status == 0
        assert run("stage", "redis-only", "-s", url).status == 0
        eventually(lambda: status()["warm"]["stage"] == "redis-only")
        assert "no change" in status()["warm"]["no_way_back"]
        assert any("not asked any more" in one for one in status()["phase"]["blockers"])
        old.kill()  # who is not asked any more may go
        eventually(lambda: stats(bridge)["warm_old_up"] == 0)
        assert urlopen(f"http://{servers.LOOPBACK}:{port}/readyz").status == 200
