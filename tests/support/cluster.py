"""Real Redis Clusters for the tests: masters and their replicas on loopback ports."""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis

from tests.support.polling import eventually
from tests.support.servers import LOOPBACK, RedisServer, free_port, redis_binary

CLUSTER_VERSIONS = ("7.0", "8.2", "valkey 8.1")
SLOTS = 16384

_NODE_TIMEOUT = "1000"
"""Milliseconds after which a node that does not answer is replaced."""


class ClusterNode(RedisServer):
    """One node. What it knows of its cluster outlives a restart."""

    name = "cluster node"

    def __init__(self, folder: Path, version: str, options: Sequence[str]) -> None:
        super().__init__(folder, version, options)
        self.bus_port = free_port()

    def command(self) -> Sequence[str]:
        return [
            *super().command(),
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
            *("--cluster-port", str(self.bus_port), "--cluster-node-timeout", _NODE_TIMEOUT),
            *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
        ]

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def ask(self, *command: Any) -> Any:
        """The reply to one command, over a connection of its own."""
        with self.client() as client:
            return client.execute_command(*command)

    @property
    def id(self) -> str:
        """The name by which the other nodes know it."""
        said: bytes | str = self.ask("CLUSTER MYID")
        return said.decode() if isinstance(said, bytes) else said

    def cluster_info(self) -> dict[str, str]:
        """What it says of the state of the cluster."""
        said = self.ask("CLUSTER INFO")
        if isinstance(said, dict):
            return said
        return dict(line.split(":", 1) for line in said.decode().split())


class Cluster:
    """
    A cluster as it has been started.

    @ivar nodes: masters first, then their replicas in the same order.
    """

    def __init__(self, nodes: Sequence[ClusterNode], masters: int) -> None:
        self.nodes = list(nodes)
        self.masters = self.nodes[:masters]
        self.replicas = self.nodes[masters:]

    @property
    def url(self) -> str:
        """A storage URL, with every node that was a master at the start."""
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{node.port}" for node in self.masters)

    def client(self) -> redis.RedisCluster:
        """A native client, for the caller to close."""
        nodes = [redis.cluster.ClusterNode(LOOPBACK, node.port) for node in self.nodes]
        return redis.RedisCluster(startup_nodes=nodes)

    def clear(self) -> None:
        """Remove every key."""
        for node in self.nodes:
            with node.client() as client:
                if client.execute_command("ROLE")[0] == b"master":
                    client.flushall()

    def join(self) -> None:
        """Make one cluster of nodes that have nothing to do with each other yet."""
        for epoch, node in enumerate(self.nodes, 1):
            node.ask("CLUSTER SET-CONFIG-EPOCH", epoch)
        step = SLOTS / len(self.masters)
        for place, node in enumerate(self.masters):
            first, last = int(place * step), int((place + 1) * step) - 1
            node.ask("CLUSTER ADDSLOTSRANGE", first, last)
        first_node = self.nodes[0]
        for node in self.nodes[1:]:
            first_node.ask("CLUSTER MEET", LOOPBACK, node.port, node.bus_port)
        eventually(lambda: all(self._knows_all(node) for node in self.nodes))
        for master, replica in zip(self.masters, self.replicas, strict=False):
            replica.ask("CLUSTER REPLICATE", master.id)
        self.wait()

    def wait(self) -> None:
        """Until every node finds the cluster well, and its replicas follow."""
        eventually(lambda: all(self._is_well(node) for node in self.nodes))

    # What changes it

    def serving(self, slot: int) -> ClusterNode:
        """The master of a slot, as the first node that runs sees it."""
        asked = next(node for node in self.nodes if node.is_running)
        for first, last, master, *_ in asked.ask("CLUSTER SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == master[1])
        raise AssertionError(f"nobody serves slot {slot}")

    @contextmanager
    def moving(self, slot: int, target: ClusterNode) -> Iterator[None]:
        """
        Move a slot by the old method: before the block, new keys go to the target already;
        then those that are there follow, one by one.
        """
        source = self.serving(slot)
        target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
        yield
        while keys := source.ask("CLUSTER GETKEYSINSLOT", slot, 10):
            source.ask("MIGRATE", LOOPBACK, target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source):
            node.ask("CLUSTER SETSLOT", slot, "NODE", target.id)

    def replica_of(self, master: ClusterNode) -> ClusterNode:
        """Who takes over should it die."""
        for node in self.nodes:
            if node is not master and node.is_running:
                role = node.ask("ROLE")
                if role[0] == b"slave" and role[2] == master.port:
                    return node
        raise AssertionError("it has no replica")

    def _knows_all(self, node: ClusterNode) -> bool:
        return node.cluster_info()["cluster_known_nodes"] == str(len(self.nodes))

    def _is_well(self, node: ClusterNode) -> bool:
        info = node.cluster_info()
        if info["cluster_state"] != "ok" or info["cluster_size"] != str(len(self.masters)):
            return False
        role = node.ask("ROLE")
        return bool(role[0] == b"master" or role[3] == b"connected")


@contextmanager
def redis_cluster(
    *options: str, version: str = "", masters: int = 3, replicas: bool = True
) -> Iterator[Cluster]:
    """A cluster of masters, with a replica each, of one of L{CLUSTER_VERSIONS}."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="redcouch-tests-")))
        nodes = []
        for number in range(masters * (2 if replicas else 1)):
            place = folder / str(number)
            place.mkdir()
            node = ClusterNode(place, version, options)
            stack.callback(node.stop)
            node.start()
            nodes.append(node)
        cluster = Cluster(nodes, masters)
        cluster.join()
        yield cluster


def shared_cluster(version: str) -> Cluster:
    """A cluster that lives until the end of the run, for tests that clean up before themselves."""
    redis_binary(version)
    return _shared_cluster(version)


@cache
def _shared_cluster(version: str) -> Cluster:
    return _shared.enter_context(redis_cluster(version=version))


_shared = ExitStack()
atexit.register(_shared.close)
