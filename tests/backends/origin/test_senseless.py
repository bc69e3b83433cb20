"""What makes no sense at the keys of a warm storage is said once, and clients are served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import redis as redis_py

from redcouch.backends.redis.fill_leases import FillKeys
from redcouch.backends.redis.layout import Layout
from tests.backends.origin.conftest import PATIENT
from tests.backends.origin.conversation import say, stats
from tests.cli.running import Ended, run
from tests.http.pages import fetch
from tests.support import servers
from tests.support.cluster import Cluster
from tests.support.polling import eventually
from tests.support.requirements import fixture_needs
from tests.support.servers import Memcached, RedCouch, RedisServer

NUMBERS = ("version", "epoch", "returning", "left", "keys", "from", "until", "deadline")
GARBAGE = ("abc", "", "-5", "9" * 400, "1e300", "nan", "inf", "\xff")

TYPES = {
    "hash": ("HSET", "x", "y"),
    "list": ("RPUSH", "x"),
    "set": ("SADD", "x"),
    "string": ("SET", "x"),
    "zset": ("ZADD", "1", "x"),
}


_REPLACE = "redis.call('DEL', KEYS[1]) redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))"
"""In one step: a service writes there all the time."""


@pytest.fixture
@fixture_needs("memcached")
def old() -> Iterator[Memcached]:
    """A memcached with one item."""
    with servers.memcached() as server:
        assert say(server, b"set cold 0 0 1\r\nx\r\n") == b"STORED\r\n"
        yield server


class Warm:
    """A warm storage, its keys, and a service on it."""

    def __init__(self, redis: RedisServer | Cluster, old: Memcached, client: Any) -> None:
        layout = Layout(cluster=isinstance(redis, Cluster))
        self.keys = [key.decode() for key in FillKeys.of(layout)]
        self.state, self.denied, self.members, self.changing = self.keys
        self.url = f"warm:{redis.url}?from={old.url}&{PATIENT}"
        self.client = client

    def stage(self, *arguments: str) -> Ended:
        """What C{redcouch stage} says, which is a line or two and never a traceback."""
        return run("stage", *arguments, "-s", self.url)

    def replace(self, key: str, kind: str) -> None:
        """Put something of another type there."""
        self.client.eval(_REPLACE, 1, key, *TYPES[kind])


@pytest.fixture
def warm(redis: RedisServer | Cluster, old: Memcached) -> Iterator[Warm]:
    with redis.client() as client:
        yield Warm(redis, old, client)


def serves(bridge: RedCouch) -> None:
    """Items are read, written and removed."""
    assert say(bridge, b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    assert say(bridge, b"get k\r\n", b"END\r\n") == b"VALUE k 0 1\r\nv\r\nEND\r\n"
    assert say(bridge, b"delete k\r\n") == b"DELETED\r\n"


def told(bridge: RedCouch, what: str) -> list[str]:
    """The lines of the log about it."""
    return [line for line in bridge.log.splitlines() if what in line]


def test_the_stage(warm: Warm) -> None:
    """The stage that a process knows is put back, and counts all the time; it is said once."""
    with servers.redcouch(warm.url) as bridge:
        eventually(lambda: warm.stage("origin-first").status == 0)
        for bogus in ("bogus", "", "REDIS-FIRST", "\xff" * 1000):
            warm.client.hset(warm.state, "stage", bogus)
            eventually(lambda: warm.client.hget(warm.state, "stage") == b"origin-first")
            serves(bridge)
            assert stats(bridge)["warm_stage"] == 1
            eventually(lambda: told(bridge, f"{warm.state} stage"))
        assert len(told(bridge, f"{warm.state} stage")) <= 4
        eventually(lambda: warm.stage("redis-first", "--force").status == 0)
        serves(bridge)


# What another type is makes no difference to who asks, and so to several.
@pytest.mark.parametrize(("kind", "workers"), [*((kind, "1") for kind in TYPES), ("list", "2")])
def test_nobody_knows_the_stage(warm: Warm, kind: str, workers: str) -> None:
    """Then nobody is served, and everybody is told why, until somebody says what it is."""
    warm.replace(warm.state, kind)
    if kind == "hash":
        warm.client.hset(warm.state, "stage", "bogus")
    reason = f"{warm.state} has no stage in its field stage: redcouch stage STAGE --force sets it"
    options = ("--http", "0", "--workers", workers)
    with servers.redcouch(warm.url, *options, ready=False) as bridge:
        eventually(lambda: fetch(bridge, "/readyz").body.startswith(reason))
        assert fetch(bridge, "/readyz").status == 503
        for request in (b"get k\r\n", b"set k 0 0 1\r\nv\r\n"):
            assert say(bridge, request).startswith(f"SERVER_ERROR {reason}".encode())
        eventually(lambda: len(told(bridge, reason)) == int(workers))
        for command in (warm.stage(), run("sweep", "-s", warm.url)):
            assert (command.status, len(command.err.splitlines())) == (3, 1)
            assert reason in command.err
        refused = warm.stage("redis-only")
        assert (refused.status, refused.out.count("\n")) == (1, 2)
        assert reason in refused.out
        assert "With --force: " in refused.out
        eventually(lambda: warm.stage("redis-only", "--force").status == 0)
        eventually(lambda: fetch(bridge, "/readyz").status == 200)
        serves(bridge)
        assert stats(bridge)["warm_stage"] == 3


def is_done(warm: Warm, stage: str) -> bool:
    return warm.stage(stage, "--force").status == 0


def test_numbers(warm: Warm) -> None:
    """Whatever stands in their place, clients are served and stages change."""
    with servers.redcouch(warm.url) as bridge:
        eventually(lambda: warm.client.hexists(warm.state, "stage"))
        for name in NUMBERS:
            for garbage in GARBAGE:
                warm.client.hset(warm.state, name, garbage)
                said = warm.stage().err  # by whoever comes first
                serves(bridge)
                where = f"{warm.state} {name}"
                if name != "deadline" and where not in said:
                    eventually(partial(told, bridge, where))
            warm.client.hdel(warm.state, name)
            assert warm.stage().err == ""
        warm.client.hdel(warm.state, "all")
        eventually(lambda: stats(bridge)["warm_ended"] == 0)
        for stage in ("origin-first", "redis-first"):
            eventually(partial(is_done, warm, stage))
        assert say(bridge, b"get cold\r\n", b"END\r\n") == b"VALUE cold 0 1\r\nx\r\nEND\r\n"
        warm.client.hset(warm.state, mapping={"holding": 1, "next": "bogus"})  # without an end
        eventually(lambda: not warm.client.hexists(warm.state, "holding"))
        serves(bridge)


def test_from_and_until(warm: Warm) -> None:
    """While nobody knows whether items are being flushed, nothing is brought over."""
    with servers.redcouch(warm.url) as bridge:
        for name in ("from", "until"):
            for garbage in ("abc", "", "nan", "\xff"):
                warm.client.delete(warm.state)
                warm.client.hset(warm.state, name, garbage)
                assert say(bridge, b"get cold\r\n") == b"END\r\n"


def test_members(warm: Warm) -> None:
    """One whose record makes no sense is nobody, and is dropped."""
    with servers.redcouch(warm.url) as bridge:
        eventually(lambda: warm.client.hlen(warm.members) == 1)
        ahead = f"{9 * 10**12} 0 {{}}"
        records = ["garbage", "", "-1 0 {}", "nan 0 {}", "1e3 0 {}", "9" * 400 + " 0 {}", ahead]
        warm.client.hset(warm.members, mapping={f"m{n}": one for n, one in enumerate(records)})
        serves(bridge)
        eventually(lambda: warm.client.hlen(warm.members) == 1)
        for number in range(5):  # the others are of another time
            eventually(partial(told, bridge, f"{warm.members} m{number}"))
        now = int(warm.client.time(**warm_options(warm))[0] * 1000)
        for about in ("garbage", "[]", '{"up": 1}', '{"ports": ["x"]}', '{"up": null}'):
            warm.client.hset(warm.members, "m", f"{now} 0 {about}")
            assert "Traceback" not in warm.stage().err
        serves(bridge)


def warm_options(warm: Warm) -> dict[str, Any]:
    cluster = isinstance(warm.client, redis_py.RedisCluster)
    return {"target_nodes": redis_py.RedisCluster.RANDOM} if cluster else {}


@pytest.mark.parametrize("place", range(4))
def test_types(warm: Warm, place: int) -> None:
    """A key of another type counts as lost, and is said once; clients are served all the time."""
    key = warm.keys[place]
    right = "set" if "warm_barred" in key else "hash"
    with servers.redcouch(warm.url, "--http", "0") as bridge:
        eventually(lambda: warm.client.exists(warm.members))
        for kind in TYPES.keys() - {right}:
            warm.replace(key, kind)
            eventually(lambda: warm.client.type(key).decode() in (right, "none"))
            assert fetch(bridge, "/readyz").status == 200
            serves(bridge)
            assert warm.stage().err == ""
        assert 1 <= len(told(bridge, f"What stands at {key}")) <= 4


def test_full(redis: RedisServer | Cluster, warm: Warm, old: Memcached) -> None:
    """A full Redis takes what is noted there: nothing ends by what an old memcached has missed."""
    nodes = redis.masters if isinstance(redis, Cluster) else [redis]
    with servers.redcouch(warm.url) as bridge, ExitStack() as stack:
        assert stats(bridge)["warm_old_up"] == 1
        for client in [stack.enter_context(node.client()) for node in nodes]:
            stack.callback(client.config_set, "maxmemory", "0")
            client.config_set("maxmemory", "1")
        old.kill()
        assert say(bridge, b"delete cold\r\n") in (b"NOT_FOUND\r\n", b"DELETED\r\n")
        told = eventually(lambda: stats(bridge), lambda now: now["warm_barred"])
    assert (told["warm_barred"], told["warm_ended"]) == (1, 0)
