"""The cache over a real cluster: each master tells of its own keys, wherever they go."""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from redcouch.commands import Get, MetaGet
from redcouch.errors import BackendError
from redcouch.results import Item
from redcouch.value_lines import Lines
from tests.backends.redis.cluster.case import ClusterCase
from tests.support.cluster import Cluster
from tests.support.polling import eventually, eventually_in_reactor
from tests.support.requirements import needs
from tests.support.results import named
from tests.support.servers import hold

KEYS = [b"key %d" % number for number in range(60)]


class CachedClusterTests(ClusterCase):
    """What is answered from memory, and what no more."""

    connects = False

    async def start_cached(self, cluster: Cluster, parameters: str = "") -> None:
        """Make a storage with a cache, with an item of each key in memory."""
        cluster.wait()
        storage: Any = await self.connect(f"{cluster.url}?cache=4m{parameters}")
        await eventually_in_reactor(lambda: storage.health().ready)
        for key in KEYS:
            await self.set(b"v", key)
        await self.read_from_memory()

    async def read(self, *keys: bytes) -> list[bytes | None]:
        """Values, as a plain get reads them."""
        (found,) = named(await self.storage.execute([Get(keys)]))
        return [item and item.value for item in found]

    async def read_from_memory(self) -> None:
        """Read all, until they are answered from memory."""
        for _ in range(100):
            before = self.counts["cache_hits"]
            self.assertEqual(await self.read(*KEYS), [b"v"] * len(KEYS))
            if self.counts["cache_hits"] == before + len(KEYS):
                return
        self.fail("not kept")

    async def test_hits(self) -> None:
        """A multi-get over all masters is answered from memory; and so is each key, in each way."""
        await self.start_cached(self.cluster)
        before = self.counts["cache_misses"]
        (found,) = await self.storage.execute([Get(KEYS)])
        assert isinstance(found, Lines)
        self.assertEqual(found.misses, 0)
        results: list[Any] = await self.storage.execute(
            [Get(KEYS[:3], cas=True), MetaGet(KEYS[0], cas=True), Get([KEYS[1]])]
        )
        tokens = [item[2] for item in results[0]]
        self.assertEqual(len(set(tokens)), 3)
        self.assertEqual(results[1].cas, tokens[0])
        self.assertEqual([item and item[0] for item in results[2]], [b"v"])
        self.assertEqual(self.counts["cache_misses"], before)
        self.assertEqual(await self.read(b"none", *KEYS, b"neither"), [None, *[b"v"] * 60, None])
        self.assertEqual(self.counts["cache_misses"], before + 2)

    async def test_native_writes(self) -> None:
        """What a native client changes on any master is seen at once."""
        await self.start_cached(self.cluster)
        for number, key in enumerate(KEYS):
            self.client.hset(b"rc:" + key, "v", (b"%d" % number).hex())
            self.assertEqual(await self.read(key), [b"%d" % number])
        self.client.flushall(target_nodes="primaries")
        self.assertEqual(await self.read(*KEYS), [None] * len(KEYS))

    async def test_bound(self) -> None:
        """All masters together have the memory that the URL says."""
        await self.start_cached(self.cluster)
        for number in range(150):
            await self.set(bytes(50_000), b"large %d" % number)
            for _ in range(2):  # what is told of the set may come while it is read
                await self.read(b"large %d" % number)
            self.assertLessEqual(self.counts["cache_bytes"], 4 << 20)
        self.assertGreater(self.counts["cache_bytes"], 2 << 20)

    async def test_kept_warm(self) -> None:
        """Masters that evict what is idle hear of all that is in use here."""
        cluster = self.start_cluster(replicas=False)
        masters = cluster.serving_masters()
        for node in masters:
            node.ask("CONFIG", "SET", "maxmemory", "100mb")
            node.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        await self.start_cached(cluster)

        def touched() -> int:
            stats = [node.ask("INFO", "commandstats") for node in masters]
            return sum(one.get("cmdstat_touch", {}).get("calls", 0) for one in stats)

        while touched() < 2 * len(KEYS):
            await self.read(*KEYS)
            await deferLater(reactor, 0.1)

    @needs("redis-cli")
    async def test_slots_move(self) -> None:
        """What has moved to another master is read from there, and kept again."""
        cluster = self.start_cluster(replicas=False)
        await self.start_cached(cluster)
        source, target, _ = cluster.serving_masters()
        cluster.reshard(source, target, 2000)
        with cluster.client() as native:
            for key in KEYS[::2]:
                native.hset(b"rc:" + key, "v", b"changed".hex())
        wanted = [b"v" if number % 2 else b"changed" for number in range(len(KEYS))]
        self.assertEqual(await self.read(*KEYS), wanted)
        for key in KEYS[::2]:
            await self.set(b"v", key)
        await self.read_from_memory()

    async def test_another_master(self) -> None:
        """A master that is none any more answers PING, and yet nothing is taken from memory."""
        cluster = self.start_cluster()
        await self.start_cached(cluster)
        master = cluster.serving_masters()[0]
        cluster.fail_over(master)
        eventually(lambda: master.ask("ROLE")[0] == b"slave")  # and answers as such from now on
        with cluster.client() as native:
            for number, key in enumerate(KEYS):
                native.hset(b"rc:" + key, "v", (b"%d" % number).hex())
                self.assertEqual(await self.read(key), [b"%d" % number])

    async def test_master_that_hangs(self) -> None:
        """One master that answers nothing fails its own keys only, although they were in memory."""
        cluster = self.start_cluster(replicas=False)
        await self.start_cached(cluster, "&timeout=2")
        node = cluster.serving_masters()[0]
        hold(node.pid)
        try:
            found = [await self.read_one(key) for key in KEYS]
        finally:
            os.kill(node.pid, signal.SIGCONT)
        self.assertTrue(0 < found.count(False) < len(KEYS))

    async def read_one(self, key: bytes) -> bool:
        """Whether an item can be read."""
        try:
            (found,) = named(await self.storage.execute([Get([key])]))
        except BackendError:
            return False
        return isinstance(found, list | Lines) and isinstance(found[0], Item)
