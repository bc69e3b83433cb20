"""Real Redis Clusters for the tests: masters and their replicas on loopback ports."""

from __future__ import annotations

import atexit
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis

from tests.backends.redis.certificates import Authority
from tests.support.polling import PATIENCE, eventually
from tests.support.requirements import installed
from tests.support.servers import LOOPBACK, RedisServer, free_port, redis_binary

CLUSTER_VERSIONS = ("7.0", "8.2", "valkey 8.1")
MOVES_AT_ONCE = "valkey 9.1"
"""A server that moves slots atomically, too."""

SLOTS = 16384

QUICKLY = 1_000
"""
Milliseconds after which a node that does not answer is replaced, where one is to be: by default
it may stand still for longer, as it does on a busy machine.
"""

_NODE_TIMEOUT = 15_000

_VOTE = 6.0
"""Seconds after which a planned failover has been given up by those who take part."""


class ClusterNode(RedisServer):
    """One node. What it knows of its cluster outlives a restart."""

    name = "cluster node"

    def __init__(
        self,
        folder: Path,
        version: str,
        options: Sequence[str],
        tls: Authority | None = None,
        node_timeout: int = _NODE_TIMEOUT,
    ) -> None:
        """@param tls: who has signed its certificate, and those of its clients, if it needs one."""
        super().__init__(folder, version, options)
        self._node_timeout = node_timeout
        self.bus_port = free_port()
        self._authority = tls
        self._certificate = None if tls is None else tls.issue(f"node-{folder.name}")
        self._asked: redis.Redis | None = None

    def client(self, **options: Any) -> redis.Redis:
        if self._authority is not None and self._certificate is not None:
            certificate, key = map(str, self._certificate)
            options |= {"ssl": True, "ssl_ca_certs": str(self._authority.path)}
            options |= {"ssl_certfile": certificate, "ssl_keyfile": key}
        return super().client(**options)

    def answers(self) -> bool:
        if self._authority is None:
            return super().answers()
        with suppress(redis.ConnectionError):
            return bool(self.ask("PING"))
        return False

    def _tls(self) -> Sequence[str]:
        if self._authority is None or self._certificate is None:
            return []
        certificate, key = map(str, self._certificate)
        return [
            *("--port", "0", "--tls-port", str(self.port), "--tls-cluster", "yes"),
            *("--tls-cert-file", certificate, "--tls-key-file", key),
            *("--tls-ca-cert-file", str(self._authority.path)),
        ]

    def command(self) -> Sequence[str]:
        return [
            *super().command(),
            *self._tls(),
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
            *("--cluster-port", str(self.bus_port)),
            *("--cluster-node-timeout", str(self._node_timeout)),
            *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
        ]

    def start(self) -> None:
        """See L{Server.start}."""
        written = self.folder / "nodes.conf"
        if written.exists():
            written.write_text(_with_shards_of_masters(written.read_text()))
        super().start()

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def ask(self, *command: Any) -> Any:
        """The reply to one command, over a connection that no test has to itself."""
        if self._asked is None:
            self._asked = self.client()
        return self._asked.execute_command(*command)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """See L{Server.stop}."""
        if self._asked is not None:
            self._asked.close()
        return super().stop(how)

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


def _with_shards_of_masters(written: str) -> str:
    """
    What a node has written of its cluster, with each replica in the shard of its master. For some
    seconds after it has joined, a Valkey 8.1.1 may write another one, and it does not start with
    that (valkey-io/valkey issue 2171).
    """
    shards = dict(re.findall(r"^(\S+) \S+,shard-id=(\w+)", written, re.MULTILINE))
    return re.sub(
        r"(,shard-id=)\w+( (?:myself,)?slave (\w+))",
        lambda found: found[1] + shards[found[3]] + found[2],
        written,
    )


class NativeClient(redis.RedisCluster):
    """One whose C{keys} are those of all masters, as they are of one Redis."""

    def keys(self, pattern: Any = "*", **_: Any) -> Any:
        """See L{redis.Redis.keys}."""
        return list(self.scan_iter(pattern))


class Cluster:
    """
    A cluster as it has been started.

    @ivar nodes: masters first, then their replicas in the same order.
    """

    def __init__(
        self,
        nodes: Sequence[ClusterNode],
        masters: int,
        make: Callable[[int], ClusterNode] | None = None,
    ) -> None:
        """@param make: starts one node more."""
        self._make = make
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
        return NativeClient(startup_nodes=nodes)

    def clear(self) -> None:
        """Remove every key."""
        for node in self.nodes:
            if node.ask("ROLE")[0] == b"master":
                node.ask("FLUSHALL")

    def join(self) -> None:
        """Make one cluster of nodes that have nothing to do with each other yet."""
        for epoch, node in enumerate(self.nodes, 1):
            node.ask("CLUSTER SET-CONFIG-EPOCH", epoch)
        step = SLOTS / len(self.masters)
        for place, node in enumerate(self.masters):
            first, last = int(place * step), int((place + 1) * step) - 1
            node.ask("CLUSTER ADDSLOTSRANGE", first, last)
        eventually(self._all_have_met)
        for master, replica in zip(self.masters, self.replicas, strict=False):
            replica.ask("CLUSTER REPLICATE", master.id)
        self.wait()

    def wait(self) -> None:
        """Until every node finds the cluster well, and its replicas follow."""
        deadline = time.monotonic() + PATIENCE
        remind = time.monotonic() + _VOTE
        while not all(self._is_well(node) for node in self.nodes):
            if time.monotonic() > deadline:
                states = {node.port: (node.ask("ROLE"), node.cluster_info()) for node in self.nodes}
                raise AssertionError((states, self.nodes[0].ask("CLUSTER NODES")))
            if time.monotonic() > remind:
                self._remind()
            time.sleep(0.02)

    def _remind(self) -> None:
        """
        Tell each node who serves the slots that it knows nobody for. Where slots have moved and
        a replica takes over, one of 7.0 may forget who has some, and never hears of it again.
        """
        ids = {node.port: node.id for node in self.nodes}
        known = {
            node: {
                slot: port
                for first, last, port in _served_by(node)
                for slot in range(first, last + 1)
            }
            for node in self.nodes
        }
        everything = {slot: port for told in known.values() for slot, port in told.items()}
        for node, told in known.items():
            for slot in everything.keys() - told.keys():
                with suppress(redis.ResponseError):  # a replica hears of it from its master
                    node.ask("CLUSTER SETSLOT", slot, "NODE", ids[everything[slot]])

    @contextmanager
    def node_timeout(self, milliseconds: int) -> Iterator[None]:
        """Meanwhile a node counts as dead after so long."""
        running = [node for node in self.nodes if node.is_running]
        before = [node.ask("CONFIG GET", "cluster-node-timeout") for node in running]
        for node in running:
            node.ask("CONFIG SET", "cluster-node-timeout", milliseconds)
        try:
            yield
        finally:
            for node, said in zip(running, before, strict=True):
                if node.is_running:
                    value = said["cluster-node-timeout"] if isinstance(said, dict) else said[1]
                    node.ask("CONFIG SET", "cluster-node-timeout", value)

    # What changes it

    def redis_cli(self, command: str, *words: str) -> subprocess.Popen[str]:
        """C{redis-cli --cluster command}, which is told a node that runs."""
        asked = next(node for node in self.nodes if node.is_running)
        return subprocess.Popen(
            [installed("redis-cli"), "--cluster", command, f"{LOOPBACK}:{asked.port}", *words],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run_redis_cli(self, command: str, *words: str) -> None:
        """The same to its end, which has to be a good one."""
        process = self.redis_cli(command, *words)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said

    def reshard(self, source: ClusterNode, target: ClusterNode, slots: int) -> None:
        """Move so many slots, once all nodes know of those that were moved before."""
        eventually(lambda: len({_served_by(node) for node in self.nodes}) == 1)
        between = ("--cluster-from", source.id, "--cluster-to", target.id)
        self.run_redis_cli("reshard", *between, "--cluster-slots", str(slots), "--cluster-yes")

    def move_at_once(self, slots: range, target: ClusterNode) -> None:
        """Move slots of one master to another in one step; only L{MOVES_AT_ONCE} can."""
        source = self.serving(slots[0])
        between = ("SLOTSRANGE", slots[0], slots[-1], "NODE", target.id)
        assert source.ask("CLUSTER MIGRATESLOTS", *between) == b"OK"

        def is_over() -> bool:
            latest = source.ask("CLUSTER GETSLOTMIGRATIONS")[0]
            assert latest[b"state"] not in (b"failed", b"cancelled"), latest
            return bool(latest[b"state"] == b"success")

        eventually(is_over)

    def fail_over(self, master: ClusterNode) -> None:
        """Have its replica take its place: asked again, should the others not vote in time."""
        replica = self.replica_of(master)
        deadline = time.monotonic() + PATIENCE

        def is_master() -> bool:
            return bool(replica.ask("ROLE")[0] == b"master")

        while not is_master():
            assert time.monotonic() < deadline
            with self.node_timeout(QUICKLY), suppress(redis.ResponseError):  # not now
                replica.ask("CLUSTER FAILOVER")
                over = time.monotonic() + _VOTE
                eventually(lambda over=over: is_master() or time.monotonic() > over)  # type: ignore[misc]

    def kill_master(
        self,
        master: ClusterNode,
        before: Callable[[], object] = lambda: None,
        behind: Callable[[], object] = lambda: None,
    ) -> None:
        """
        Kill it when its replica has all that it has acknowledged, so that Redis itself loses
        nothing, and wait until that has taken over.

        @param before: called when it takes no writes any more.
        @param behind: called when it is dead, and nobody has taken over.
        """
        replica = self.replica_of(master)
        master.ask("CLIENT PAUSE", 1000 * int(PATIENCE), "WRITE")
        before()
        eventually(lambda: _offset(master) == _offset(replica))
        with self.node_timeout(QUICKLY):
            master.kill()
            behind()
            eventually(lambda: replica.ask("ROLE")[0] == b"master")
            eventually(lambda: replica.cluster_info()["cluster_state"] == "ok")

    def grow(self) -> ClusterNode:
        """Add a master, which has no slot yet."""
        assert self._make is not None
        node = self._make(len(self.nodes))
        self.nodes.append(node)
        self.masters.append(node)
        eventually(self._all_have_met)
        eventually(lambda: node.cluster_info()["cluster_state"] == "ok")
        return node

    def shrink(self, node: ClusterNode) -> None:
        """Remove a master that has no slot any more."""
        self.nodes.remove(node)
        self.masters.remove(node)
        self.run_redis_cli("del-node", node.id)

    def slots(self) -> list[tuple[range, ClusterNode]]:
        """Which master serves which slots, as the first node that runs sees it."""
        asked = next(node for node in self.nodes if node.is_running)
        nodes = {node.port: node for node in self.nodes}
        return [
            (range(first, last + 1), nodes[master[1]])
            for first, last, master, *_ in asked.ask("CLUSTER SLOTS")
        ]

    def serving(self, slot: int) -> ClusterNode:
        """The master of a slot, as the first node that runs sees it."""
        for slots, master in self.slots():
            if slot in slots:
                return master
        raise AssertionError(f"nobody serves slot {slot}")

    def serving_masters(self) -> list[ClusterNode]:
        """The masters that have slots, as the first node that runs sees it."""
        serving = {master for _, master in self.slots()}
        return [node for node in self.nodes if node in serving]

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

    def _all_have_met(self) -> bool:
        """
        Whether all know of all. The first node is to meet those that it does not know: it forgets
        about one that does not answer in time, which may be a second.
        """
        first_node = self.nodes[0]
        known = str(first_node.ask("CLUSTER NODES"))
        for node in self.nodes:
            if f":{node.port}" not in known:
                first_node.ask("CLUSTER MEET", LOOPBACK, node.port, node.bus_port)
        return all(self._knows_all(node) for node in self.nodes)

    def _knows_all(self, node: ClusterNode) -> bool:
        """Whether it knows them by their names, which they tell in a handshake."""
        known = str(node.ask("CLUSTER NODES"))
        return all(other.id in known for other in self.nodes)

    def _is_well(self, node: ClusterNode) -> bool:
        info = node.cluster_info()
        if info["cluster_state"] != "ok" or info["cluster_size"] != str(len(self.masters)):
            return False
        role = node.ask("ROLE")
        return bool(role[0] == b"master" or role[3] == b"connected")


def _served_by(node: ClusterNode) -> tuple[tuple[int, int, int], ...]:
    """Which slots are served by which port, as far as a node knows."""
    told = node.ask("CLUSTER SLOTS")
    return tuple(sorted((first, last, master[1]) for first, last, master, *_ in told))


def _offset(node: ClusterNode) -> object:
    """Up to where of the stream of changes a node has come."""
    role = node.ask("ROLE")
    return role[1] if role[0] == b"master" else role[4]


@contextmanager
def redis_cluster(
    *options: str,
    version: str = "",
    masters: int = 3,
    replicas: bool = True,
    tls: Authority | None = None,
    node_timeout: int = _NODE_TIMEOUT,
) -> Iterator[Cluster]:
    """
    A cluster of masters, with a replica each, of one of L{CLUSTER_VERSIONS}.

    @param node_timeout: L{QUICKLY} where a node is to be found dead.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="redcouch-tests-")))

        def start(number: int) -> ClusterNode:
            place = folder / str(number)
            place.mkdir()
            node = ClusterNode(place, version, options, tls, node_timeout)
            stack.callback(node.kill)
            node.start()
            return node

        nodes = [start(number) for number in range(masters * (2 if replicas else 1))]
        cluster = Cluster(nodes, masters, start)
        cluster.join()
        yield cluster


def shared_cluster(version: str) -> Cluster:
    """A cluster that lives until the end of the run, for tests that clean up before themselves."""
    redis_binary(version)
    return _shared_cluster(version)


@cache
def _shared_cluster(version: str) -> Cluster:
    cluster = _shared.enter_context(redis_cluster(version=version))
    for node in cluster.nodes:
        node.rest()
    return cluster


@cache
def shared_cluster_client(version: str) -> redis.RedisCluster:
    """A native client of it that lives as long: one learns all commands when it is made."""
    client = shared_cluster(version).client()
    _shared.callback(client.close)
    return client


_shared = ExitStack()
atexit.register(_shared.close)
