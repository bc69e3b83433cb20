"""C{redcouch export}: from Redis back into memcacheds."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
import redis
from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient

from tests.cli.filling import Given, binary_get, fill, fill_many, get
from tests.cli.running import finish, run, start
from tests.cli.stand_in import stand_in
from tests.support import servers
from tests.support.polling import eventually
from tests.support.requirements import needs
from tests.support.servers import Memcached, RedCouch, RedisServer, free_port
from tests.support.spans import left_of
from tests.support.wire import ask

BIGGEST = 2**64 - 1


@pytest.fixture(params=["?encoding=hex", "?encoding=raw", "?layout=string&prefix=s:"])
def any_storage(
    any_redis: RedisServer, client: redis.Redis, request: pytest.FixtureRequest
) -> Iterator[tuple[str, RedCouch]]:
    """A storage in each form, and a RedCouch that serves it."""
    url = f"{any_redis.url}/0{request.param}"
    with servers.redcouch(url) as bridge:
        yield url, bridge


@pytest.mark.everywhere
def test_everything_is_kept(any_storage: tuple[str, RedCouch], memcached: Memcached) -> None:
    """Value, flags and time to live of any keys, and counters to the last digit; verified."""
    storage, bridge = any_storage
    month = 60 * 60 * 24 * 30
    items = {
        b"plain": Given(b"value", 7, 500),
        b"ever": Given(b"", 2**32 - 1),
        b"two words": Given(b"\r\n", 1, 500),
        b"\x00\xff" * 50: Given(bytes(range(256)), 0, 500),
        bytes(range(1, 251)): Given(b"binary alone names it", 5, 500),
        b"x" * 250: Given(b"1", 0, 500),
        b"large": Given(b"l" * 900_000, 0, 500),
        b"counter": Given(b"%d" % BIGGEST, 0, 500),
        b"far": Given(b"f", 0, int(time.time()) + 2 * month),
    }
    fill(bridge.address, items)
    fill(memcached.address, {b"plain": Given(b"out of date")})
    said = run("export", "--to", memcached.url, "--storage", storage)
    assert said.status == 0, said
    assert said.out.startswith(f"{len(items)} items in ")
    assert f"exported {len(items)}, gone 0, failed 0" in said.out
    assert said.out.endswith(": no differences\n")
    for key, item in items.items():
        assert binary_get(memcached.address, key) == (item.value, item.flags), key
    left = ask(memcached.address, b"mg far t\r\n", b"\r\n")
    assert 2 * month - 60 <= int(left.split(b"t")[-1]) <= 2 * month + 1
    assert ask(memcached.address, b"incr counter 2\r\n", b"\r\n") == b"1\r\n"  # past 2^64
    assert run("verify", memcached.url, storage).status == 1


def test_stale(any_storage: tuple[str, RedCouch], memcached: Memcached) -> None:
    """What clients have marked stale becomes no fresh item; an older one there is named."""
    storage, bridge = any_storage
    fill(bridge.address, {key: Given(b"1") for key in (b"fresh", b"stale", b"older")})
    fill(memcached.address, {b"older": Given(b"1")})
    assert ask(bridge.address, b"md stale I\r\n", b"\r\n") == b"HD\r\n"
    assert ask(bridge.address, b"md older I\r\n", b"\r\n") == b"HD\r\n"
    export = ("export", "--to", memcached.url, "--storage", storage, "--json")
    said = run(*export)
    assert (said.status, said.json["exported"], said.json["gone"]) == (1, 1, 2)
    assert [(one["kind"], one["key"]) for one in said.json["verify"]["named"]] == [
        ("missing", "older")
    ]
    assert get(memcached.address, b"stale") is None
    assert run(*export, "--flush").status == 0
    assert run("verify", memcached.url, storage).status == 0
    assert ask(bridge.address, b"mg stale\r\n", b"\r\n") == b"HD X W\r\n"


def test_what_no_memcached_can_hold(
    memcached: Memcached, redcouch: RedCouch, client: redis.Redis, any_redis: RedisServer
) -> None:
    """Native items that memcached has no room for are named, and the others arrive: status 1."""
    fill(redcouch.address, {b"good": Given(b"1")})
    client.hset("rc:" + "k" * 251, "v", "31")
    client.hset("rc:", "v", "31")
    client.hset("rc:large", "r", b"l" * 2**20)
    client.hset("rc:broken", "v", "no hex")
    client.lpush("rc:list", "x")
    said = run("export", "--to", memcached.url, "-s", any_redis.url, "--json")
    assert said.status == 1
    told = said.json
    assert (told["exported"], told["failed"], told["evicted"]) == (1, 5, 0)
    named = {one["key"]: one["reason"] for one in told["named"]}
    assert set(named) == {"k" * 251, "", "large", "broken", "list"}
    assert "250 bytes" in named["k" * 251]
    assert "-I" in named["large"]
    assert get(memcached.address, b"good") == (b"1", 0)
    shown = run("export", "--to", memcached.url, "-s", any_redis.url, "--show", 1)
    assert shown.status == 1
    assert "failed 2: no memcached has a key of more than 250 bytes" in shown.out


def test_what_would_end_too_late(
    memcached: Memcached, redcouch: RedCouch, client: redis.Redis, any_redis: RedisServer
) -> None:
    """What would end after January 2038 ends then, which is named, and C{--help} says so."""
    century = 100 * 365 * 86400
    client.hset("rc:late", mapping={"v": b"late".hex(), "f": 5})
    client.expire("rc:late", century)
    said = run("export", "--to", memcached.url, "-s", any_redis.url)
    assert said.status == 1
    assert "exported 1, gone 0, failed 0" in said.out
    assert "no differences" not in said.out
    assert "  ttl        late  memcached " in said.out
    assert get(memcached.address, b"late") == (b"late", 5)
    left = int(ask(memcached.address, b"mg late t\r\n", b"\r\n").split(b"t")[-1])
    assert abs(time.time() + left - datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC).timestamp()) < 3600
    assert "after 19 January 2038" in " ".join(run("export", "--help").out.split())


def test_hex_in_lines(memcached: Memcached, any_redis: RedisServer, client: redis.Redis) -> None:
    """A value goes if memcached takes it, however many lines its hex has in Redis."""
    digits = "61" * 1_040_000
    lines = "\n".join(digits[place : place + 60] for place in range(0, len(digits), 60))
    client.hset("rc:k", "v", lines)
    said = run("export", "--to", memcached.url, "-s", any_redis.url, "--json")
    assert (said.status, said.json["exported"]) == (0, 1)
    assert get(memcached.address, b"k") == (b"a" * 1_040_000, 0)


def test_what_is_left_on_the_memcached(
    memcached: Memcached, redcouch: RedCouch, any_redis: RedisServer
) -> None:
    """What was deleted in Redis is named, and goes with --flush."""
    fill(redcouch.address, {b"kept": Given(b"1")})
    fill(memcached.address, {b"deleted": Given(b"1")})
    export = ("export", "--to", memcached.url, "-s", any_redis.url, "--json")
    said = run(*export)
    assert (said.status, said.json["verify"]["differences"]["missing"]) == (1, 1)
    said = run(*export, "--flush")
    assert (said.status, said.json["verify"]["same"]) == (0, True)
    assert get(memcached.address, b"deleted") is None
    assert get(memcached.address, b"kept") == (b"1", 0)


def test_a_storage_without_items(memcached: Memcached, any_redis: RedisServer) -> None:
    """Where nothing is under the prefix, which may be a wrong one, --flush empties no memcached."""
    fill(memcached.address, {b"kept": Given(b"1")})
    url = f"{any_redis.url}?prefix=mistyped:"
    said = run("export", "--to", memcached.url, "-s", url, "--flush")
    assert (said.status, said.out) == (1, "")
    assert "no memcached is emptied" in said.err
    assert get(memcached.address, b"kept") == (b"1", 0)


@pytest.mark.everywhere
def test_a_redcouch_over_the_storage(any_storage: tuple[str, RedCouch]) -> None:
    """It is no other side: --flush would empty the storage, and find no differences."""
    storage, bridge = any_storage
    fill(bridge.address, {b"k": Given(b"1")})
    said = run("export", "--to", f"memcached://127.0.0.1:{bridge.port}", "--flush", "-s", storage)
    assert (said.status, said.out) == (2, "")
    assert "is a RedCouch over this very storage" in said.err
    assert get(bridge.address, b"k") == (b"1", 0)
    assert run("ls", "-s", storage, "--json").out.count("\n") == 1


@needs("memcached")
def test_fleet(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """Each item goes to the memcached where its clients look for it, and to no other."""
    fill_many(redcouch.address, b"k", 1000)
    with ExitStack() as stack:
        nodes = [stack.enter_context(servers.memcached()) for _ in range(3)]
        words = [word for node in nodes for word in ("--to", node.url)]
        storage = ("-s", any_redis.url)
        refused = run("export", *words, *storage)
        assert refused.status == 2
        assert "--ring" in refused.err
        said = run("export", *words, "--ring", "pymemcache", *storage, "--json")
        assert (said.status, said.json["exported"]) == (0, 1000)
        fleet = HashClient([("127.0.0.1", node.port) for node in nodes])
        assert all(fleet.get(f"k{number}") == b"%d" % number for number in range(1000))
        fleet.close()
        held = 0
        for node in nodes:
            single = Client(("127.0.0.1", node.port))
            held += single.stats()[b"curr_items"]
            single.close()
        assert held == 1000

        nodes[1].kill()
        said = run("export", *words, "--ring", "pymemcache", *storage, "--json")
        assert said.status == 3
        assert str(nodes[1].port) in said.err
        told = said.json
        assert told["exported"] + told["failed"] == 1000
        assert told["failed"] == told["reasons"]["its memcached has failed"] > 100
        assert not told["verify"]["complete"]


@needs("memcached")
def test_evictions(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """A memcached that is too small makes it fail, and says so."""
    for number in range(40):
        fill(redcouch.address, {b"k%d" % number: Given(b"v" * 500_000)})
    with servers.memcached("-m", "4") as small:
        said = run("export", "--to", small.url, "-s", any_redis.url)
    assert said.status == 1
    assert "too little memory for all of it" in said.out


def test_ctrl_c(redcouch: RedCouch, memcached: Memcached, any_redis: RedisServer) -> None:
    """It ends between two batches, and says what was done; a second run does the rest."""
    fill_many(redcouch.address, b"k", 1000)
    export = ("export", "--to", memcached.url, "-s", any_redis.url)
    process = start(*export, "--rate", 50, "--json")
    every = b"get " + b" ".join(b"k%d" % number for number in range(1000)) + b"\r\n"
    eventually(lambda: ask(memcached.address, every, b"END\r\n") != b"END\r\n")
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    assert (ended.status, ended.json["interrupted"]) == (130, True)
    assert 0 < ended.json["exported"] < 1000
    assert not ended.json["verify"]["complete"]
    assert run(*export).status == 0


def test_ctrl_c_before_it_begins(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """No memcached is emptied for somebody who wants nothing to be done any more."""
    fill(redcouch.address, {b"k": Given(b"value")})
    heard: list[bytes] = []
    asking: list[subprocess.Popen[bytes]] = []

    def answer(line: bytes) -> bytes:
        heard.append(line)
        if line == b"flush_all":
            return b"OK\r\n"
        if line == b"stats":
            if heard.count(line) == 1:  # a second Ctrl-C would end it at once
                eventually(lambda: asking)
                asking[0].send_signal(signal.SIGINT)
            return b"STAT version 1.5.22\r\nSTAT time %d\r\nEND\r\n" % time.time()
        return b"END\r\n"

    with stand_in(answer) as old:
        asking.append(start("export", "--to", old, "-s", any_redis.url, "--flush", "--json"))
        ended = finish(asking[0])
    assert (ended.status, ended.json["interrupted"], ended.json["exported"]) == (130, True, 0)
    assert b"stats" in heard
    assert b"flush_all" not in heard


def test_nobody_there(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """Status 3 and one line."""
    gone = f"memcached://127.0.0.1:{free_port()}"
    said = run("export", "--to", gone, "-s", any_redis.url)
    assert said.status == 3
    assert said.err == f"redcouch: {gone}: Connection refused\n"


def test_without_meta(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """A memcached before 1.6 is told in classic text."""
    left = left_of(500)
    fill(redcouch.address, {b"k": Given(b"value", 3, 500)})
    heard: list[bytes] = []

    def answer(line: bytes) -> bytes:
        heard.append(line)
        if line == b"stats":
            return b"STAT version 1.5.22\r\nSTAT time %d\r\nEND\r\n" % time.time()
        if line == b"stats settings":
            return b"END\r\n"
        if line.startswith(b"set "):
            return b""
        return b"STORED\r\n" if line == b"value" else b"ERROR\r\n"

    with stand_in(answer) as old:
        said = run("export", "--to", old, "-s", any_redis.url, "--json")
    assert (said.status, said.json["exported"]) == (3, 1)
    assert "gives no list of its keys" in said.err
    (told,) = (line.split() for line in heard if line.startswith(b"set "))
    assert (told[:3], int(told[3]), told[4:]) == ([b"set", b"k", b"3"], left, [b"5"])


def test_plain_strings_of_others(any_redis: RedisServer, memcached: Memcached) -> None:
    """With layout=string, what a native client wrote goes too; RedCouch's own keys do not."""
    with any_redis.client() as client:
        client.flushall()
        client.set("native", b"\x00text", ex=500)
        client.set("redcouch:sys:cas_counter", 5)
        client.hset("hash", "v", "31")
    url = f"{any_redis.url}?layout=string"
    said = run("export", "--to", memcached.url, "-s", url, "--json")
    assert (said.status, said.json["exported"]) == (0, 1)
    assert get(memcached.address, b"native") == (b"\x00text", 0)


@needs("memcached")
@pytest.mark.parametrize("options", [[], ["--flush"]])
def test_old_memcacheds_of_warm(own_redis: RedisServer, options: list[str]) -> None:
    """In redis-first they have what Redis does not have yet, and clients change them meanwhile."""
    with servers.memcached() as old, servers.memcached() as other:
        assert ask(old.address, b"set lonely 0 0 1\r\nx\r\n", b"\r\n") == b"STORED\r\n"
        url = f"warm:{own_redis.url}?from={old.url}"
        with servers.redcouch(url) as bridge:
            assert ask(bridge.address, b"set k 0 0 1\r\ny\r\n", b"\r\n") == b"STORED\r\n"
            eventually(lambda: run("stage", "--storage", url).status == 0)  # it has begun just now
            for storage in (url, own_redis.url):
                for there in (old.url, old.url.replace("127.0.0.1", "localhost")):
                    refused = run("export", "--to", there, "--storage", storage, *options)
                    assert (refused.status, refused.out) == (1, "")
                    assert "has it as an old memcached" in refused.err
            assert get(old.address, b"lonely") == (b"x", 0)
            assert run("export", "--to", other.url, "--storage", url, *options).status == 0
            assert get(other.address, b"k") == (b"y", 0)
            assert run("sweep", "--storage", url).status == 0
            assert run("stage", "redis-only", "--storage", url).status == 0
            assert run("export", "--to", old.url, "--storage", url, *options).status == 0
