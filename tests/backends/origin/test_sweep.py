"""What is brought over beside a bridge that serves: how fast, how far, and nothing that is gone."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from itertools import combinations

import pytest

from tests.backends.origin.conftest import PATIENT
from tests.backends.origin.conversation import say, stats
from tests.cli.filling import fill_many
from tests.cli.running import finish, run, start
from tests.http.pages import fetch, metrics
from tests.support import servers
from tests.support.cluster import shared_cluster
from tests.support.polling import eventually
from tests.support.requirements import needs
from tests.support.servers import Memcached, RedisServer, hold
from tests.support.wire import Wire

ITEMS = 600


@pytest.fixture
def url(own_redis: RedisServer, own_memcached: Memcached) -> str:
    return f"warm:{own_redis.url}?from={own_memcached.url}&{PATIENT}"


def test_rate(url: str, own_redis: RedisServer, own_memcached: Memcached) -> None:
    """
    In no span of time does the storage get more than the rate allows, and what is late: a batch
    from before it, and one at its beginning.
    """
    rate, batch = 200, 20
    fill_many(own_memcached.address, b"k", ITEMS)
    with own_redis.client() as client:
        sweep = start("sweep", "-s", url, "--rate", rate, "--json")
        # Of all looks that found so many items, when the last began, and when the first ended.
        began: dict[int, float] = {}
        ended: dict[int, float] = {}
        while sweep.poll() is None:
            before = time.monotonic()
            count = len(set(client.scan_iter("rc:*", count=1000)))
            began[count] = before
            ended.setdefault(count, time.monotonic())
        said = finish(sweep)
    assert (said.status, said.json["copied"]) == (0, ITEMS)
    assert said.json["seconds"] >= (ITEMS - batch) / rate
    assert len(began) > 5
    for count, more in combinations(sorted(began), 2):
        assert more - count <= (ended[more] - began[count]) * rate + 2 * batch


def test_ctrl_c(url: str, own_redis: RedisServer, own_memcached: Memcached) -> None:
    """It ends between two batches, is no whole sweep, and the next one does the rest."""
    fill_many(own_memcached.address, b"k", ITEMS)
    with own_redis.client() as client:
        sweep = start("sweep", "-s", url, "--rate", 50, "--json")
        eventually(lambda: len(client.keys("rc:*")) > 20)
        sweep.send_signal(signal.SIGINT)
        said = finish(sweep)
        assert said.status == 130
        assert said.json["interrupted"]
        there = len(client.keys("rc:*"))
        assert 0 < there == said.json["copied"] < ITEMS
        refused = run("stage", "redis-only", "-s", url, "--json")
        assert "redcouch sweep brings it over" in refused.json["reason"]
        rest = run("sweep", "-s", url, "--json")
        assert rest.status == 0
        assert (rest.json["present"], rest.json["copied"]) == (there, ITEMS - there)
        assert len(client.keys("rc:*")) == ITEMS
    assert run("stage", "redis-only", "-s", url).status == 0


@pytest.mark.parametrize("words", ["sweep -s", "import OLD --to", "import OLD --overwrite --to"])
def test_a_redis_that_is_started_again(words: str, own_memcached: Memcached) -> None:
    """It may have lost what had been brought over, and nobody notices between two batches."""
    fill_many(own_memcached.address, b"k", ITEMS)
    with servers.redis_server() as server:
        url = f"warm:{server.url}?from={own_memcached.url}&{PATIENT}"
        given = words.replace("OLD", own_memcached.url).split()
        process = start(*given, url, "--rate", 100, "--json")
        with server.client() as client:
            eventually(lambda: len(client.keys("rc:*")) > 50)
        hold(process.pid)
        server.kill()
        server.start()
        os.kill(process.pid, signal.SIGCONT)
        said = finish(process)
        assert said.status == 3
        assert f"{server.url}: " in said.json["error"]
        assert "redcouch sweep" in run("stage", "redis-only", "-s", url, "--json").json["reason"]


def test_other_old_memcacheds(url: str, own_redis: RedisServer, own_memcached: Memcached) -> None:
    """
    Nothing is brought over from other old memcacheds than RedCouch's own, and where none runs,
    their sweep is none of the right ones: what these alone have would be lost.
    """
    fill_many(own_memcached.address, b"k", 3)
    with servers.memcached() as wrong:
        other = f"warm:{own_redis.url}?from={wrong.url}&{PATIENT}"
        assert run("sweep", "-s", other).status == 0  # nobody can know better
        refused = run("stage", "redis-only", "-s", url, "--json")
        assert "redcouch sweep brings it over" in refused.json["reason"]
        fill_many(wrong.address, b"wrong", 3)
        with servers.redcouch(url):
            refused = run("sweep", "-s", other)
            with own_redis.client() as client:
                assert (refused.status, client.keys("rc:*")) == (1, [])
            assert "has other old memcacheds" in refused.err
            shown = run("stage", "-s", other, "--json")
            assert (shown.status, shown.json["rollback_safe"]) == (1, False)
            assert "has other old memcacheds" in shown.json["because"]
            assert run("sweep", "-s", url, "--json").json["copied"] == 3
            assert run("stage", "redis-only", "-s", url).status == 0


@pytest.mark.parametrize("on_cluster", [False, pytest.param(True, marks=needs("redis 7.0"))])
def test_items_left(own_redis: RedisServer, own_memcached: Memcached, on_cluster: bool) -> None:
    """Who looks at RedCouch sees how many items are left to move, while a sweep runs and after."""
    storage = own_redis.url
    if on_cluster:
        cluster = shared_cluster("7.0")
        cluster.clear()
        storage = cluster.url
    url = f"warm:{storage}?from={own_memcached.url}&{PATIENT}"
    fill_many(own_memcached.address, b"k", ITEMS)
    with servers.redcouch(url, "--http", "0") as bridge:

        def left() -> int | None:
            shown: int | None = fetch(bridge, "/api/status").json()["warm"]["warm_left"]
            return shown

        assert left() is None
        sweep = start("sweep", "-s", url, "--rate", 50, "--json")
        eventually(lambda: 0 < (left() or 0) < ITEMS)
        sweep.send_signal(signal.SIGINT)
        rest = ITEMS - finish(sweep).json["copied"]
        assert run("stage", "-s", url, "--json").json["left"] == rest
        assert f"left to move   {rest} items" in run("stage", "-s", url).out
        eventually(lambda: left() == rest)
        assert run("sweep", "-s", url).status == 0
        eventually(lambda: left() == stats(bridge)["warm_left"] == 0)
        assert metrics(bridge)["redcouch_warm_left"] == 0
        assert run("stage", "redis-only", "-s", url).status == 0
        eventually(lambda: left() is None)  # it was of another stage


def test_what_could_not_be_brought_over_is_left(
    url: str, own_redis: RedisServer, own_memcached: Memcached
) -> None:
    """Nobody knows how many where an old memcached could not be asked; what failed is counted."""
    fill_many(own_memcached.address, b"k", 10)
    with servers.memcached() as other, own_redis.client() as client:
        fleet = f"{url}&from={other.url}&ring=modula"
        other.kill()
        assert run("sweep", "-s", fleet).status == 3
        assert run("stage", "-s", fleet, "--json").json["left"] is None
        client.rpush("rc:k1", "a native client's list")
        assert run("sweep", "-s", url).status == 1
        assert run("stage", "-s", url, "--json").json["left"] == 1
        client.delete("rc:k1")
        assert run("sweep", "-s", url).status == 0
        assert run("stage", "-s", url, "--json").json["left"] == 0


def test_started_again_after_a_sweep(url: str, own_memcached: Memcached) -> None:
    """What a sweep has brought over is missing where the memcached has been started again since."""
    fill_many(own_memcached.address, b"k", 50)
    assert run("sweep", "-s", url).status == 0
    own_memcached.kill()
    own_memcached.start()
    said = run("stage", "-s", url, "--json")
    assert (said.status, said.json["rollback_safe"]) == (1, False)
    assert "started again" in said.json["because"]


@pytest.mark.parametrize("command", ["import", "sweep"])
def test_what_is_deleted_meanwhile(
    command: str, url: str, own_redis: RedisServer, own_memcached: Memcached
) -> None:
    """What clients delete while all is brought over does not come back."""
    keys = [b"k%d" % number for number in range(2000)]
    value = b"x" * 20_000
    for key in keys:
        say(own_memcached, b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value))
    gone = random.Random(5).sample(keys, 1500)
    begin = threading.Event()
    answers: list[bytes] = []
    words = {
        "import": ("import", own_memcached.url, "--to", url),
        "sweep": ("sweep", "-s", url),
    }[command]
    with servers.redcouch(url) as bridge, own_redis.client() as client:

        def delete(mine: list[bytes]) -> None:
            begin.wait(60)
            with Wire(bridge.address) as wire:
                for key in mine:
                    answers.append(wire.say([b"delete %b\r\n" % key], b"\r\n").reply)

        clients = [threading.Thread(target=delete, args=(gone[n::3],)) for n in range(3)]
        for one in clients:
            one.start()
        copying = start(*words, "--json")
        eventually(lambda: client.dbsize() > 20 or copying.poll() is not None)
        servers.hold(copying.pid)  # it is not to be over before some are deleted
        try:
            begin.set()
            eventually(lambda: len(answers) > 50)
        finally:
            os.kill(copying.pid, signal.SIGCONT)
        said = finish(copying)
        for one in clients:
            one.join(60)
        assert said.status == 0, said
        assert answers == [b"DELETED\r\n"] * len(gone)
        assert said.json["copied"] < len(keys), "all was over before anything was deleted"
        left = {key.removeprefix(b"rc:") for key in client.keys("rc:*")}
        assert left == {*keys} - {*gone}
        assert say(bridge, b"get %b\r\n" % b" ".join(gone), b"END\r\n") == b"END\r\n"
