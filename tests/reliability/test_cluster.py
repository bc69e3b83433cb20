"""Slots move and masters are replaced under load."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from statistics import median

import pytest

from redcouch.backends.redis.cluster.slots import slot_of
from tests.reliability import cluster_soak
from tests.reliability.clients import (
    RECOVERY,
    BinaryClient,
    Client,
    Load,
    MetaClient,
    RefusedError,
    Survivor,
    at_work,
    until_stored,
)
from tests.reliability.historians import KEYS, historians, judge, wait_for_more
from tests.support import servers
from tests.support.cluster import (
    CLUSTER_VERSIONS,
    MOVES_AT_ONCE,
    QUICKLY,
    Cluster,
    ClusterNode,
    redis_cluster,
)
from tests.support.polling import PACE, eventually
from tests.support.requirements import needs, redis_name
from tests.support.servers import RedCouch
from tests.support.wire import ask

VERSIONS = [pytest.param(one, marks=needs(redis_name(one))) for one in CLUSTER_VERSIONS]
KINDS = (Client, MetaClient, BinaryClient)

SECONDS = float(os.environ.get("REDCOUCH_SOAK_SECONDS", "15"))


@pytest.fixture(scope="module", params=VERSIONS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster that these tests leave well, but not with the same masters."""
    with redis_cluster(version=request.param) as running:
        yield running


@contextmanager
def two_services(cluster: Cluster, parameters: str = "") -> Iterator[list[RedCouch]]:
    cluster.wait()
    cluster.clear()
    url = cluster.url + parameters
    with ExitStack() as running:
        yield [running.enter_context(servers.redcouch(url)) for _ in range(2)]


def wait_until_master(node: ClusterNode) -> None:
    eventually(lambda: node.ask("ROLE")[0] == b"master")


def wait_for_each_key(loads: list[Load]) -> None:
    """Until each of their keys has been stored again: what is there is known then."""
    before = [dict(load.acknowledged) for load in loads]

    def stored() -> bool:
        return all(
            load.acknowledged.get(key, 0) > known.get(key, 0)
            for load, known in zip(loads, before, strict=True)
            for key in load.uncertain
            if load.is_alive()
        )

    eventually(stored)


def test_resharding(cluster: Cluster) -> None:
    """
    Slots move by the old method, each open for a while: no client is refused
    anything, and one order explains all that those are told who share the moving keys.
    """
    loads: list[Load] = []
    with two_services(cluster) as bridges:
        loads += [
            Load(kind(bridges[place % 2].address, f"load-{place}"), keys=2)
            for place, kind in enumerate(KINDS)
        ]
        keys = [b"rc:k%d" % number for number in range(KEYS)]
        keys += [b"rc:load-%d-0" % place for place in range(len(KINDS))]
        addresses = [bridge.address for bridge in bridges]
        with at_work(loads), historians(addresses) as clients:
            targets = cycle(cluster.serving_masters())
            for slot in map(slot_of, keys):
                target = next(targets)
                if target is cluster.serving(slot):
                    target = next(targets)
                tag = next(key for key in keys if slot_of(key) == slot)
                asks_in_order(bridges[0], tag)
                with cluster.moving(slot, target):
                    wait_for_more(clients, 5)
                    until_stored(loads, 3)
                    asks_in_order(bridges[1], tag)
                    asks_in_order(bridges[0], tag)
                asks_in_order(bridges[0], tag)
                wait_for_more(clients, 5)
        judge(clients)
    for load in loads:
        assert (load.wrong, load.failed, load.refused) == ([], [], {})


@needs(MOVES_AT_ONCE)
@pytest.mark.parametrize("parameters", ["", "?cache=1m"])
def test_atomic_resharding(parameters: str) -> None:
    """The same where a slot moves in one step, without and with items kept in memory."""
    with (
        redis_cluster(version=MOVES_AT_ONCE) as cluster,
        two_services(cluster, parameters) as bridges,
    ):
        loads: list[Load] = [
            Load(kind(bridges[place % 2].address, f"load-{place}"), keys=2)
            for place, kind in enumerate(KINDS)
        ]
        slots = [slot_of(b"rc:k%d" % number) for number in range(KEYS)]
        slots += [slot_of(b"rc:load-%d-0" % place) for place in range(len(KINDS))]
        addresses = [bridge.address for bridge in bridges]
        with at_work(loads), historians(addresses) as clients:
            targets = cycle(cluster.serving_masters())
            for slot in slots * 2:
                target = next(targets)
                if target is cluster.serving(slot):
                    target = next(targets)
                wait_for_more(clients, 5)
                until_stored(loads, 3)
                cluster.move_at_once(range(slot, slot + 1), target)
            wait_for_more(clients, 5)
        judge(clients)
    for load in loads:
        assert (load.wrong, load.failed, load.refused) == ([], [], {})


@needs("redis-cli")
def test_growing(cluster: Cluster) -> None:
    """From three masters to five and back: no client is refused anything."""
    loads: list[Load] = []
    slots = 15
    with two_services(cluster) as bridges:
        old = cluster.serving_masters()
        moving = {slot for node in old for slot in slots_of(cluster, node)[: 2 * slots]}
        names = [name for name in (f"load-{n}" for n in range(10_000)) if rc_slot(name) in moving]
        assert len(names) > 30
        loads += [
            Load(kind(bridges[place % 2].address, f"load-{place}"), names[place :: len(KINDS)])
            for place, kind in enumerate(KINDS)
        ]
        with at_work(loads):
            new = [cluster.grow() for _ in range(2)]
            for source in old:
                for target in new:
                    cluster.reshard(source, target, slots)
            wait_for_each_key(loads)
            assert not {rc_slot(name) for name in names}.intersection(
                slot for node in old for slot in slots_of(cluster, node)
            )
            for source in new:
                for target in old:
                    cluster.reshard(source, target, slots)
                cluster.shrink(source)
            wait_for_each_key(loads)
    for load in loads:
        assert (load.wrong, load.failed, load.refused) == ([], [], {})


def slots_of(cluster: Cluster, node: ClusterNode) -> list[int]:
    """Those that a master serves, in the order in which redis-cli takes them away."""
    return sorted(slot for some, master in cluster.slots() if master is node for slot in some)


def rc_slot(key: str) -> int:
    """The slot of an item."""
    return slot_of(b"rc:" + key.encode())


def asks_in_order(bridge: RedCouch, tag: bytes) -> None:
    """Many changes of two keys of a slot, sent at once, of which each is right only in its turn."""
    there, new = b"there{%b}" % tag, b"new{%b}" % tag
    asked = b""
    expected = b""
    for key in (there, new):
        asked += b"set %b 0 0 1\r\n5\r\n" % key
        expected += b"STORED\r\n"
        for number in range(6, 40):
            asked += b"incr %b 1\r\nget %b\r\n" % (key, key)
            size = len(b"%d" % number)
            expected += b"%d\r\nVALUE %b 0 %d\r\n%d\r\nEND\r\n" % (number, key, size, number)
    asked += b"delete %b\r\n" % new
    expected += b"DELETED\r\n"
    assert ask(bridge.address, asked, b"DELETED\r\n") == expected


def test_planned_failover(cluster: Cluster) -> None:
    """C{CLUSTER FAILOVER} loses nothing that was acknowledged."""
    with two_services(cluster) as bridges:
        with historians([bridge.address for bridge in bridges]) as clients:
            wait_for_more(clients, 30)
            for number in range(2):
                master = cluster.serving(slot_of(b"rc:k%d" % number))
                cluster.fail_over(master)
                wait_for_more(clients, 30)
        judge(clients)


def test_killed_master(cluster: Cluster) -> None:
    """
    Only the dead node's keys fail, at once; they are served again within seconds of the
    cluster's own recovery. Each answer is one to its request.
    """
    with two_services(cluster, "?timeout=10") as bridges:
        slot = slot_of(b"rc:survivor-0")
        dead = cluster.serving(slot)
        replica = cluster.replica_of(dead)
        other = next(
            key
            for key in (f"other-{number}" for number in range(100))
            if cluster.serving(slot_of(b"rc:" + key.encode())) is not dead
        )
        loads: list[Load] = [
            Survivor(kind(bridges[place % 2].address, f"survivor-{place}"))
            for place, kind in enumerate(KINDS)
        ]
        client = Client(bridges[0].address, "client")
        client.store("survivor-0", "before")
        client.store(other, "before")
        with at_work(loads):
            until_stored(loads, 20)
            for load in loads:
                load.strict = False  # type: ignore[attr-defined]
            dead.kill()  # nobody takes over before the keys are seen to fail
            begun = time.monotonic()
            with pytest.raises(RefusedError, match=r"storage (connection lost|not reachable)"):
                while True:
                    client.store("survivor-0", "v")
            assert time.monotonic() - begun < 8  # and so not after the timeout
            assert client.get(other) == b"before"
            with cluster.node_timeout(QUICKLY):
                wait_until_master(replica)
                eventually(lambda: replica.cluster_info()["cluster_state"] == "ok")
            recovered = time.monotonic()
            eventually(lambda: _stores(client, "survivor-0"))
            took = time.monotonic() - recovered
            wait_for_each_key(loads)
            for load in loads:
                load.strict = True  # type: ignore[attr-defined]
            until_stored(loads, 20)
        client.close()
        for load in loads:
            assert (load.wrong, load.failed, load.reconnected) == ([], [], 0)
        assert took < RECOVERY
        dead.start()
        cluster.wait()


def _stores(client: Client, key: str) -> bool:
    try:
        client.store(key, "v")
    except RefusedError:
        return False
    return True


@pytest.mark.once
@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("version", VERSIONS)
@needs("redis-cli")
def test_changes_under_load(version: str) -> None:
    """
    Whatever changes in the cluster, and at once: no answer is wrong, no acknowledged write is
    lost, and who counts by C{cas} has counted as often as was acknowledged.
    """
    report = cluster_soak.run(SECONDS / len(VERSIONS), version, PACE)
    assert report.wrong == [], str(report)
    assert report.counted > 20, str(report)
    assert median(report.recoveries) < 2.5, str(report)
    assert report.slowest_recovery < RECOVERY, str(report)
