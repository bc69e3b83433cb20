"""Masters of the cluster behind C{warm:} are replaced and killed while an application works."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from pymemcache.exceptions import MemcacheServerError

from redcouch.backends.redis.cluster.slots import slot_of
from tests.cli.running import run
from tests.reliability.clients import RECOVERY
from tests.reliability.soak import until_stored
from tests.support import servers
from tests.support.cluster import Cluster, ClusterNode, redis_cluster
from tests.support.polling import eventually
from tests.support.requirements import needs
from tests.support.servers import Memcached, RedCouch
from tests.support.wire import Wire, ask

pytestmark = [pytest.mark.once, needs("memcached", "pylibmc")]

CLIENTS = 4

RATE = 60.0
"""Pieces of work of each client in a second."""

PROBES = [f"probe-{number}" for number in range(12)]
"""Keys of which some are on each master."""

USUAL_RECOVERY = 5.0
"""Seconds after the cluster's own recovery; RedCouch looks at the topology once in 1.25."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster that these tests leave well, but not with the same masters."""
    with redis_cluster() as running:
        yield running


@dataclass
class Trial:
    """What runs, and the clients that work."""

    cluster: Cluster
    url: str
    nodes: list[Memcached]
    bridges: list[RedCouch]
    model: Any
    workers: list[Any]
    recoveries: list[float] = field(default_factory=list)

    def go_on(self) -> None:
        """Let the clients work for a while."""
        goal = self.model.phase.operations + 100
        eventually(lambda: self.model.phase.operations >= goal)

    def masters(self) -> Iterator[ClusterNode]:
        """The one that has the stage, and then one that has not."""
        yield self.cluster.serving(slot_of(b"{warm}"))
        home = self.cluster.serving(slot_of(b"{warm}"))
        yield next(node for node in self.cluster.serving_masters() if node is not home)

    def recover(self) -> None:
        """Wait until both bridges serve all slots."""
        began = time.monotonic()
        for bridge in self.bridges:
            for key in PROBES:
                until_stored(bridge.address, key)
        self.recoveries.append(time.monotonic() - began)

    def finish(self, stage: str) -> None:
        """The old side is as it has to be as soon as that is said, and Redis alone is so, too."""
        for worker in self.workers:
            worker.stop()
        if stage == "origin-first":
            self._change_to("redis-first")
        eventually(lambda: run("stage", "-s", self.url).status == 0)
        self._look(*self.nodes)
        assert run("sweep", "-s", self.url).status == 0
        self._change_to("redis-only")
        self._look(self.bridges[0])
        assert not self.model.phase.faults, self.model.phase.examples
        assert min(self.recoveries, default=0.0) < USUAL_RECOVERY
        assert max(self.recoveries, default=0.0) < RECOVERY

    def _change_to(self, stage: str) -> None:
        """Change the stage; again, where a process is late to acknowledge."""
        words = ("stage", stage, "--timeout", "30", "-s", self.url)
        eventually(lambda: run(*words).status == 0)

    def _look(self, *where: Memcached | RedCouch) -> None:
        from tests.migration.fleet_clients import Pymemcache

        client = Pymemcache()
        client.use([(servers.LOOPBACK, one.port) for one in where])
        self.model.look(client)
        client.close()


@contextmanager
def services(cluster: Cluster, stage: str) -> Iterator[tuple[str, list[Memcached], list[RedCouch]]]:
    """The URL of a storage in a stage, its two memcacheds, and two RedCouches."""
    cluster.wait()
    cluster.clear()
    with ExitStack() as stack:
        nodes = [stack.enter_context(servers.memcached()) for _ in range(2)]
        sources = "&".join(f"from={node.url}" for node in nodes)
        url = f"warm:{cluster.url}?timeout=10&{sources}&ring=modula&hash=crc&from-timeout=5"
        assert run("stage", stage, "-s", url).status == 0
        start = [servers.redcouch(url, "--no-inventory") for _ in range(2)]
        yield url, nodes, [stack.enter_context(one) for one in start]


@contextmanager
def trial(cluster: Cluster, stage: str) -> Iterator[Trial]:
    """The same, and clients at work."""
    from tests.migration.fleet_clients import Pymemcache
    from tests.migration.fleet_model import Model, Worker

    with services(cluster, stage) as (url, nodes, bridges), ExitStack() as stack:
        running = Trial(cluster, url, nodes, bridges, Model(), [])
        for number in range(CLIENTS):
            client = Pymemcache()
            stack.callback(client.close)
            client.use([(servers.LOOPBACK, bridges[number % 2].port)])
            if not number:
                running.model.begin(client)
            running.workers.append(Worker(number, CLIENTS, client, running.model, RATE))
        for worker in running.workers:
            worker.start()
        try:
            running.go_on()
            yield running
        finally:
            for worker in running.workers:
                worker.stop()


@pytest.mark.parametrize("stage", ["origin-first", "redis-first"])
def test_replaced(cluster: Cluster, stage: str) -> None:
    """C{CLUSTER FAILOVER}: no client notices, in answers or in failures."""
    with trial(cluster, stage) as running:
        for master in running.masters():
            cluster.fail_over(master)
            running.recover()
            running.go_on()
        running.finish(stage)


@pytest.mark.parametrize("stage", ["origin-first", "redis-first"])
def test_killed(cluster: Cluster, stage: str) -> None:
    """
    C{kill -9} of a master whose replica has everything: some requests fail until it has taken
    over, and then soon none. Nothing that was acknowledged is lost, nothing comes back.
    """
    from tests.migration.fleet_model import at_rest

    with trial(cluster, stage) as running:
        killed = []
        try:
            for master in running.masters():
                running.model.excused = MemcacheServerError
                killed.append(master)
                cluster.kill_master(master)
                running.recover()
                with at_rest(running.workers):
                    running.model.excused = ()
                running.go_on()
            assert running.model.refused
            running.finish(stage)
        finally:
            for master in killed:
                master.start()


@contextmanager
def one_change(cluster: Cluster) -> Iterator[tuple[str, list[Memcached], ClusterNode, Wire]]:
    """
    The URL of a storage with an item, its memcacheds, the master that has the item and not the
    stage, and a connection to a RedCouch. What dies is started again.
    """
    with services(cluster, "redis-first") as (url, nodes, bridges):
        home = cluster.serving(slot_of(b"{warm}"))
        keeper = cluster.serving(slot_of(b"rc:k"))
        assert keeper is not home
        with Wire(bridges[0].address) as wire:
            wire.say([b"set k 0 0 3\r\nold\r\n"], b"STORED\r\n")
            try:
                yield url, nodes, keeper, wire
            finally:
                for node in (home, keeper):
                    if not node.is_running:
                        node.start()


def assert_safe(url: str, nodes: list[Memcached], value: bytes) -> None:
    """Going back is said to be safe before long, and then the old side has this value."""
    eventually(lambda: run("stage", "-s", url).status == 0)
    found = b"".join(ask(node.address, b"get k\r\n", b"END\r\n") for node in nodes)
    assert found.count(value) == 1, found


def test_a_change_that_is_lost(cluster: Cluster) -> None:
    """Nobody knows whether it was done: the old side gets what Redis has when that is known."""
    with one_change(cluster) as (url, nodes, keeper, wire):

        def change() -> None:
            wire.say([b"set k 0 0 3\r\nnew\r\n"], b"")
            eventually(lambda: keeper.ask("INFO", "clients")["blocked_clients"])

        cluster.kill_master(keeper, before=change)
        assert wire.say([], b"\r\n").reply == b"SERVER_ERROR storage connection lost\r\n"
        assert_safe(url, nodes, b"old")


def test_a_change_whose_end_is_not_noted(cluster: Cluster) -> None:
    """It is noted when the master that has the stage has been replaced."""
    with one_change(cluster) as (url, nodes, _, wire):
        for node in nodes:
            servers.hold(node.pid)

        def go_on() -> None:
            for node in nodes:
                os.kill(node.pid, signal.SIGCONT)

        wire.say([b"set k 0 0 3\r\nnew\r\n"], b"")
        with cluster.client() as client:
            eventually(lambda: client.hget("rc:k", "v") == b"new".hex().encode())
        cluster.kill_master(cluster.serving(slot_of(b"{warm}")), behind=go_on)
        assert wire.say([], b"\r\n").reply == b"STORED\r\n"
        assert_safe(url, nodes, b"new")
