"""Clusters in which one node is not well: what clients see, as docs/cluster.md says it."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from redcouch.backends.redis.cluster.slots import slot_of
from redcouch.commands import Get, Store, StoreMode
from redcouch.errors import BackendError
from redcouch.results import ErrorKind, Failed, Item, Outcome, Result, Stored
from tests.backends.redis.access import CLUSTER_RULES, EVERYTHING
from tests.backends.redis.certificates import Authority
from tests.backends.redis.cluster.case import ClusterCase
from tests.support import servers
from tests.support.cluster import QUICKLY, Cluster, ClusterNode
from tests.support.polling import eventually_in_reactor

reactor: Any = _reactor

# Twisted hands over what pyOpenSSL would rather not be given any more.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

KEYS = [b"k%d" % number for number in range(30)]


class TroubleTests(ClusterCase):
    """Clusters of the tests' own, without replicas where nobody is to take over."""

    connects = False

    async def begin(self, parameters: str = "", **options: Any) -> Cluster:
        """A cluster with items on all nodes, and a storage that serves them."""
        cluster = self.start_cluster(**options)
        for node in cluster.nodes:
            node.ask("CONFIG SET", "cluster-require-full-coverage", "no")
        await self.connect(f"{cluster.url}{parameters}")
        await eventually_in_reactor(lambda: self.storage.health().ready)
        for stored in await self.all(*(Store(StoreMode.SET, key, b"v") for key in KEYS)):
            self.assertIsInstance(stored, Stored)
        return cluster

    def split(self, cluster: Cluster, node: ClusterNode) -> tuple[list[bytes], list[bytes]]:
        """The keys that are on a node, and the others."""
        there = [key for key in KEYS if cluster.serving(slot_of(b"rc:" + key)) is node]
        return there, [key for key in KEYS if key not in there]

    async def get_all(self, keys: list[bytes]) -> list[Result]:
        try:
            (found,) = await self.all(Get(keys))
        except BackendError as error:
            return [error.failed] * len(keys)
        return list(found)

    async def all_there(self) -> None:
        """Wait until every item can be read."""
        while await self.get_all(KEYS) != [Item(b"v", 0, 0)] * len(KEYS):
            await deferLater(reactor, 0.01)

    async def test_one_node_as_if_it_were_all(self) -> None:
        """A URL of one Redis that leads to a node is refused, with what to write."""
        lines = self.logged()
        storage = await self.connect(f"redis://127.0.0.1:{self.cluster.masters[0].port}")
        await eventually_in_reactor(lambda: "a node of a cluster" in storage.health().reason)
        self.assertFalse(storage.health().ready)
        (line,) = (line for line in lines if "Cannot reach Redis" in line)
        self.assertIn("write redis+cluster", line)
        self.assertIn("until --storage names the cluster", line)

    async def test_full_in_one_node(self) -> None:
        """Its own keys cannot be set; they can be read and removed, and the others go on."""
        cluster = await self.begin(replicas=False)
        full = cluster.masters[1]
        full.ask("CONFIG SET", "maxmemory", 1)
        there, elsewhere = self.split(cluster, full)
        results = await self.all(*(Store(StoreMode.ADD, b"n{rc:%b}" % key, b"v") for key in KEYS))
        for key, result in zip(KEYS, results, strict=True):
            if key in there:
                self.assert_failed(result, ErrorKind.OUT_OF_MEMORY)
            else:
                self.assertIsInstance(result, Stored)
        self.assertEqual(await self.get_all(KEYS), [Item(b"v", 0, 0)] * len(KEYS))
        self.assertTrue(elsewhere)
        self.assertTrue(self.storage.health().ready)

    async def test_one_node_hangs(self) -> None:
        """Its keys fail after the timeout, the others are served at once; health names it."""
        cluster = await self.begin("?timeout=2", replicas=False)
        held = cluster.masters[0]
        there, elsewhere = self.split(cluster, held)
        servers.hold(held.pid)
        try:
            asked = self.storage.execute([Get(KEYS)])
            began = reactor.seconds()
            self.assertEqual(await self.get_all(elsewhere), [Item(b"v", 0, 0)] * len(elsewhere))
            self.assertFalse(asked.called)
            (found,) = await asked
            self.assertGreater(reactor.seconds() - began, 1.6)
            for key, item in zip(KEYS, found, strict=True):
                if key in there:
                    self.assert_failed(item, ErrorKind.UNAVAILABLE)
                else:
                    self.assertEqual(item, Item(b"v", 0, 0))
            await eventually_in_reactor(lambda: not self.storage.health().ready)
            self.assertIn(f"Redis at 127.0.0.1:{held.port}", self.storage.health().reason)
            began = reactor.seconds()
            self.assert_failed((await self.get_all(there[:1]))[0], ErrorKind.UNAVAILABLE)
            self.assertLess(reactor.seconds() - began, 1.6)
        finally:
            os.kill(held.pid, signal.SIGCONT)
        await eventually_in_reactor(lambda: self.storage.health().ready)
        self.assertEqual(await self.get_all(KEYS), [Item(b"v", 0, 0)] * len(KEYS))

    async def test_one_node_hangs_and_is_replaced(self) -> None:
        """Its replica takes over, and is found; the one that hung comes back as a replica."""
        cluster = await self.begin("?timeout=2", node_timeout=QUICKLY)
        held = cluster.masters[0]
        there, _ = self.split(cluster, held)
        servers.hold(held.pid)
        try:
            await eventually_in_reactor(lambda: cluster.replicas[0].ask("ROLE")[0] == b"master")
            await self.all_there()
            self.assertTrue(self.storage.health().ready)
        finally:
            os.kill(held.pid, signal.SIGCONT)
        await eventually_in_reactor(lambda: held.ask("ROLE")[0] == b"slave")
        for key in there:
            self.assertIsInstance(await self.do(Store(StoreMode.SET, key, b"w")), Stored)

    async def test_wrong_password_on_one_node(self) -> None:
        """Its keys fail at once, and health says why, until the password is right again."""
        cluster = await self.begin(replicas=False)
        other = cluster.masters[2]
        there, elsewhere = self.split(cluster, other)
        other.ask("ACL", "SETUSER", "default", "resetpass", ">another")
        password = {"password": "another"}
        with other.client(**password) as client:
            client.client_kill_filter(_type="normal", skipme=True)
            await eventually_in_reactor(lambda: "NOAUTH" in self.storage.health().reason)
            self.assertIn(f"127.0.0.1:{other.port}", self.storage.health().reason)
            found = await self.get_all(KEYS)
            for key, item in zip(KEYS, found, strict=True):
                if key in there:
                    self.assert_failed(item, ErrorKind.UNAVAILABLE)
                else:
                    self.assertEqual(item, Item(b"v", 0, 0))
            self.assertTrue(elsewhere)
            client.execute_command("ACL", "SETUSER", "default", "nopass")
        await eventually_in_reactor(lambda: self.storage.health().ready)
        self.assertEqual(await self.get_all(KEYS), [Item(b"v", 0, 0)] * len(KEYS))

    async def test_a_replica_in_place_of_a_master(self) -> None:
        """Where an address leads to the replica, requests are not sent round for ever."""
        cluster = self.start_cluster()
        master, replica = cluster.masters[0], cluster.replicas[0]
        wrong = f"map=127.0.0.1:{master.port}=127.0.0.1:{replica.port}"
        await self.connect(f"{cluster.url}?{wrong}&timeout=2")
        await eventually_in_reactor(lambda: self.storage.health().ready)
        there, elsewhere = self.split(cluster, master)
        began = reactor.seconds()
        results = await self.all(*(Store(StoreMode.SET, key, b"v") for key in KEYS))
        self.assertLess(reactor.seconds() - began, 20)
        for key, result in zip(KEYS, results, strict=True):
            if key in there:
                assert isinstance(result, Failed)
                self.assertEqual(result.message, "storage answered MOVED")
            else:
                self.assertIsInstance(result, Stored)
        self.assertTrue(elsewhere)

    async def test_down_as_a_whole(self) -> None:
        """
        With C{cluster-require-full-coverage}, Redis's default, one dead node without a replica
        stops all of them: that is said, after the timeout.
        """
        cluster = self.start_cluster(replicas=False, node_timeout=QUICKLY)
        await self.connect(f"{cluster.url}?timeout=2")
        await self.set(b"v")
        dead = cluster.masters[0]
        _, elsewhere = self.split(cluster, dead)
        dead.kill()
        alive = cluster.masters[1:]  # one of them hears of it first
        await eventually_in_reactor(
            lambda: all(node.cluster_info()["cluster_state"] == "fail" for node in alive)
        )
        result = await self.do(Store(StoreMode.SET, elsewhere[0], b"v"))
        self.assert_failed(result, ErrorKind.UNAVAILABLE)
        self.assertEqual(result.message, "storage answered CLUSTERDOWN")
        await eventually_in_reactor(lambda: not self.storage.health().ready)
        dead.start()
        cluster.wait()
        await eventually_in_reactor(lambda: self.storage.health().ready)
        self.assertIsInstance(await self.do(Store(StoreMode.SET, elsewhere[0], b"v")), Stored)

    async def test_tls_and_access(self) -> None:
        """All over TLS, with the user of the documentation and a name for the certificates."""
        authority = Authority(self.folder(), "authority")
        cluster = self.start_cluster(tls=authority, masters=3, replicas=False)
        for node in cluster.nodes:
            node.ask("ACL", "SETUSER", "redcouch", *CLUSTER_RULES[0])
        certificate, key = authority.issue("client")
        hosts = cluster.url.partition("//")[2]
        tls = f"ca={authority.path}&cert={certificate}&key={key}&tls_name=127.0.0.1&timeout=30"
        await self.connect(f"rediss+cluster://redcouch:secret@{hosts}?{tls}")
        for command in EVERYTHING:
            result = await self.do(command)
            for part in result if isinstance(result, list) else [result]:
                self.assertFalse(isinstance(part, Failed), f"{command}: {part}")
        self.assertIs(await self.do(Store(StoreMode.REPLACE, b"no", b"v")), Outcome.NOT_STORED)
        await self.connect(f"rediss+cluster://redcouch:secret@{hosts}?ca={authority.path}")
        await eventually_in_reactor(lambda: "TLS" in self.storage.health().reason)
