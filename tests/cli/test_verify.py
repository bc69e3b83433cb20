"""C{redcouch verify}: a real memcached and a real Redis, the same and not."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
import redis
from pymemcache.client.rendezvous import RendezvousHash

from redcouch.cli.storage import Call, Storage
from redcouch.cli.verify import choose
from tests.cli.filling import Given, fill, fill_many
from tests.cli.running import run
from tests.support import servers
from tests.support.servers import Memcached, RedCouch, RedisServer, free_port
from tests.support.wire import ask


@pytest.mark.over("redis", "cluster")
def test_the_same(memcached: Memcached, old: str, storage: str) -> None:
    """After an import nothing differs, whatever the keys are; status 0."""
    keys = (b"a", b"50%", b"two words", b"\x00\xff" * 50, bytes(range(1, 251)))
    fill(memcached.address, {key: Given(key, len(key), 500) for key in keys})
    fill_many(memcached.address, b"k", 300)
    assert run("import", old, "--to", storage).status == 0
    said = run("verify", old, storage)
    assert said.status == 0, said
    assert said.out.startswith("memcached 305 items, Redis 305; compared 305 in ")
    assert said.out.endswith(": no differences\n")


def test_the_rate_of_extras(
    memcached: Memcached, old: str, redcouch: RedCouch, storage: str
) -> None:
    """Memcached is asked for what only the storage has at that rate, too."""
    fill_many(memcached.address, b"k", 300)
    assert run("import", old, "--to", storage).status == 0
    assert ask(memcached.address, b"flush_all\r\n", b"\r\n") == b"OK\r\n"
    said = run("verify", old, storage, "--rate", 500, "--json")
    assert said.json["differences"]["extra"] == 300
    assert said.json["seconds"] >= 0.5


@pytest.mark.over("redis", "cluster")
def test_each_difference_is_named(
    memcached: Memcached, old: str, redcouch: RedCouch, client: redis.Redis, any_redis: RedisServer
) -> None:
    """Missing, extra, value, flags, ttl, unreadable; status 1."""
    names = (b"missing", b"value", b"flags", b"ttl", b"ever", b"list", b"broken", b"same")
    fill(memcached.address, {key: Given(b"abc", 1, 500) for key in names})
    fill(redcouch.address, {key: Given(b"abc", 1, 500) for key in names[1:]})
    fill(
        redcouch.address,
        {
            b"value": Given(b"other", 1, 500),
            b"flags": Given(b"abc", 2, 500),
            b"ttl": Given(b"abc", 1, 900),
            b"ever": Given(b"abc", 1, 0),
            b"only here": Given(b""),
        },
    )
    client.delete("rc:list")
    client.lpush("rc:list", "x")
    client.hset("rc:broken", "v", "no hex")

    said = run("verify", old, "--storage", any_redis.url, "--json", "--ttl-tolerance", 100)
    assert said.status == 1
    told = said.json
    assert not told["same"]
    assert (told["memcached"], told["redis"], told["compared"]) == (8, 8, 8)
    assert told["differences"] == {
        "missing": 1, "extra": 1, "value": 1, "flags": 1, "ttl": 2, "unreadable": 2,
    }  # fmt: skip
    named = {one.pop("key"): one for one in told["named"]}
    assert set(named) == {*(key.decode() for key in names[:-1]), "only%20here"}
    assert named["flags"] == {"kind": "flags", "memcached": "1", "redis": "2"}
    assert named["value"] == {"kind": "value", "memcached": "3 bytes", "redis": "5 bytes"}
    assert named["ever"]["redis"] == "for ever"
    assert named["only%20here"] == {"kind": "extra"}
    assert named["list"]["redis"] == "not an item"

    shown = run("verify", old, any_redis.url, "--show", 2, "--ttl-tolerance", 100).out
    assert len(shown.splitlines()) == 4
    assert shown.endswith("  and 6 more\n")


@pytest.mark.everywhere
def test_the_tolerance_of_ttl(
    memcached: Memcached, old: str, redcouch: RedCouch, any_redis: RedisServer
) -> None:
    fill(memcached.address, {b"a": Given(b"1", 0, 1000)})
    fill(redcouch.address, {b"a": Given(b"1", 0, 700)})
    assert run("verify", old, any_redis.url, "--ttl-tolerance", 200).status == 1
    assert run("verify", old, any_redis.url, "--ttl-tolerance", 400).status == 0


@pytest.mark.parametrize("side", ["memcached", "redis"])
def test_items_that_are_about_to_end(
    side: str, memcached: Memcached, old: str, redcouch: RedCouch, any_redis: RedisServer
) -> None:
    """
    An item whose end is nearer than the tolerance may be over on one side: neither missing nor
    extra. One that lives longer, or for ever, is.
    """
    there = (memcached if side == "memcached" else redcouch).address
    fill(
        there, {b"ends": Given(b"1", 0, 300), b"lives": Given(b"1", 0, 3000), b"ever": Given(b"1")}
    )
    said = run("verify", old, any_redis.url, "--ttl-tolerance", 400, "--json")
    assert said.status == 1
    assert {one["key"] for one in said.json["named"]} == {"lives", "ever"}
    kind = "missing" if side == "memcached" else "extra"
    assert said.json["differences"] | {kind: 0} == dict.fromkeys(said.json["differences"], 0)
    sharp = run("verify", old, any_redis.url, "--json").json
    assert {one["key"] for one in sharp["named"]} == {"ends", "lives", "ever"}
    assert ask(there, b"delete lives\r\ndelete ever\r\nmn\r\n", b"MN\r\n")
    assert run("verify", old, any_redis.url, "--ttl-tolerance", 400).status == 0


@pytest.mark.over("redis", "cluster")
def test_a_sample(
    memcached: Memcached, old: str, client: redis.Redis, any_redis: RedisServer
) -> None:
    """Only so many are compared; all are counted."""
    fill_many(memcached.address, b"k", 400)
    assert run("import", old, "--to", any_redis.url).status == 0
    told = run("verify", old, any_redis.url, "--sample", 50, "--json").json
    assert (told["same"], told["memcached"], told["redis"], told["compared"]) == (
        True, 400, 400, 50,
    )  # fmt: skip
    client.flushall()
    assert (
        run("verify", old, any_redis.url, "--sample", 50, "--json").json["differences"]["missing"]
        == 50
    )


def test_large_values_that_differ(
    memcached: Memcached, old: str, redcouch: RedCouch, any_redis: RedisServer
) -> None:
    """More than is held together, each looked at twice."""
    fill(memcached.address, {b"k%d" % place: Given(b"x" * 900_000) for place in range(12)})
    fill(redcouch.address, {b"k%d" % place: Given(b"y" * 900_000) for place in range(12)})
    told = run("verify", old, any_redis.url, "--json").json
    assert told["differences"]["value"] == told["compared"] == 12


@pytest.mark.over("redis", "cluster")
def test_large_values_that_only_redis_has(
    old: str, storage: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are named, and not read: all of a batch would be in Redis' memory once more."""
    client.hset("rc:k", mapping={"v": "61", "f": 0})
    client.hset("rc:stale", mapping={"v": "61", "s": 1})
    client.hset("rc:nothing", "f", 0)
    client.hset("rc:ending", mapping={"r": "a"})
    client.expire("rc:ending", 4)
    client.hset("rc:broken", "v", "no hex")
    client.lpush("rc:list", "a")
    monkeypatch.setattr(Storage, "read", None)
    said = run("verify", old, storage, "--json").json
    assert {one["key"] for one in said["named"]} == {"k", "broken"}
    assert said["differences"]["extra"] == 2


def test_a_fleet(
    memcached: Memcached, old: str, client: redis.Redis, any_redis: RedisServer
) -> None:
    """Each key is compared with its owner's item; a copy on another node is named."""
    with servers.memcached() as second:
        other = second.url
        ring = RendezvousHash([f"127.0.0.1:{memcached.port}", f"127.0.0.1:{second.port}"])
        mine = [
            key
            for key in (b"key%d" % number for number in range(100))
            if ring.get_node(key.decode()) == f"127.0.0.1:{second.port}"
        ]
        fill(second.address, {key: Given(b"new") for key in mine})
        fill(memcached.address, {mine[0]: Given(b"stale")})
        fleet = [old, other, "--ring", "pymemcache"]
        assert run("import", *fleet, "--to", any_redis.url).status == 0
        said = run("verify", *fleet, "--storage", any_redis.url, "--json")
        assert said.status == 1
        assert said.json["differences"]["elsewhere"] == 1
        assert sum(said.json["differences"].values()) == 1
        named = {"kind": "elsewhere", "key": mine[0].decode(), "node": old, "owner": other}
        assert said.json["named"] == [named]
        said = run("verify", *fleet, "--storage", any_redis.url)
        assert f"  elsewhere  {mine[0].decode()}  on {old}, its owner is {other}" in said.out

        ask(second.address, b"delete %b\r\n" % mine[0], b"\r\n")
        told = run("verify", *fleet, "--storage", any_redis.url, "--json").json["differences"]
        assert (told["elsewhere"], told["extra"], told["value"]) == (1, 1, 0)
        ask(memcached.address, b"delete %b\r\n" % mine[0], b"\r\n")
        client.delete(b"rc:" + mine[0])
        assert run("verify", *fleet, "--storage", any_redis.url).status == 0
        client.delete(b"rc:" + mine[1])
        told = run("verify", *fleet, "--storage", any_redis.url, "--json").json["differences"]
        assert told["missing"] == 1
    assert "copies on others count as elsewhere" in " ".join(run("verify", "--help").out.split())


@pytest.mark.over("redis", "cluster")
def test_two_bridges(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """RedCouch itself can be what is compared with."""
    fill(redcouch.address, {b"a b": Given(b"1", 1, 100), b"c": Given(b"2")})
    assert run("verify", f"memcached://127.0.0.1:{redcouch.port}", any_redis.url).status == 0


def test_what_cannot_be_compared(old: str, any_redis: RedisServer) -> None:
    """A side that is not there is status 3, and never looks like no difference."""
    gone = f"memcached://127.0.0.1:{free_port()}"
    said = run("verify", gone, any_redis.url, "--json")
    assert (said.status, said.json["same"], said.json["complete"]) == (3, False, False)
    said = run("verify", old, f"redis://127.0.0.1:{free_port()}")
    assert said.status == 3
    assert said.out.startswith("not complete: ")
    assert run("verify", any_redis.url).status == 2


def test_which_storage(memcached: Memcached, old: str, storage: str) -> None:
    """What is named counts, whatever the service's environment has; and one only may be."""
    assert run("verify", old, storage, env={"REDCOUCH_STORAGE": "memory:"}).status == 0
    both = run("verify", old, storage, "--storage", storage)
    assert (both.status, f"name one storage: {storage} or --storage" in both.err) == (2, True)


def test_choose() -> None:
    """Each thing has the same chance."""
    random.seed(7)
    often = [0] * 10
    for _ in range(3000):
        chosen = choose(range(10), 3)
        assert len(set(chosen)) == 3
        for one in chosen:
            often[one] += 1
    assert all(750 < count < 1050 for count in often)
    assert choose(range(2), 3) == [0, 1]


@pytest.mark.parametrize("key", [b"gone", b"k"])
def test_nothing_is_changed(
    key: bytes, memcached: Memcached, old: str, redcouch: RedCouch, any_redis: RedisServer
) -> None:
    fill(memcached.address, {b"k": Given(b"1", 0, 500)})
    fill(redcouch.address, {b"k": Given(b"1", 0, 500)})
    with any_redis.client() as client:
        before = client.hgetall(b"rc:" + key)
        run("verify", old, any_redis.url)
        assert client.hgetall(b"rc:" + key) == before


def test_what_is_missing_costs_little(
    old: str, memcached: Memcached, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all differs, each batch is looked at twice, and not each item by itself."""
    trips: Counter[str] = Counter()
    pipeline = Storage.pipeline

    def counted(self: Storage, commands: Iterable[Call]) -> list[Any]:
        trips["all"] += 1
        return pipeline(self, commands)

    fill_many(memcached.address, b"k", 3000)
    monkeypatch.setattr(Storage, "pipeline", counted)
    missing = run("verify", old, storage, "--json").json
    of_missing = trips.pop("all")
    assert missing["differences"]["missing"] == missing["compared"] == 3000
    assert run("import", old, "--to", storage).status == 0
    trips.clear()
    assert run("verify", old, storage).status == 0
    assert of_missing <= 2 * trips.pop("all") <= 3000 / 10

    assert ask(memcached.address, b"flush_all\r\n", b"\r\n") == b"OK\r\n"
    extra = run("verify", old, storage, "--json").json
    assert extra["differences"]["extra"] == 3000
    assert trips["all"] <= 3000 / 10
