"""Storages on a cluster: what differs from one Redis."""

from __future__ import annotations

import re
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from redcouch.backends.redis.admin import scan
from redcouch.backends.redis.cluster import admin as admin_module
from redcouch.backends.redis.cluster.slots import slot_of
from redcouch.backends.redis.connection import State
from redcouch.backends.redis.exchange import Exchange
from redcouch.backends.redis.layout import FLUSH_AT
from redcouch.backends.redis.usage_store import SYSTEM_KEYS
from redcouch.backends.registry import make_backend
from redcouch.commands import Arithmetic, Dump, Flush, Get, MetaGet, Store, StoreMode
from redcouch.errors import BackendError, ConfigurationError
from redcouch.interfaces import BackendContext
from redcouch.limits import Limits
from redcouch.results import ErrorKind, Failed, Item, ListedPage, Outcome, Stored
from redcouch.telemetry.usage import UsageSample
from tests.backends.redis.access import EVERYTHING
from tests.backends.redis.cluster.case import ClusterCase
from tests.backends.redis.out_of_memory import OutOfMemoryTests
from tests.contract import redis_storage
from tests.support.polling import eventually_in_reactor
from tests.support.servers import LOOPBACK, patient

_PAGE = Path(__file__).parents[4] / "docs/cluster.md"


@pytest.mark.everywhere
def _are(things: list[Any], number: int) -> bool:
    """Whether there are so many by now."""
    return len(things) == number


class ClusterTests(ClusterCase):
    """Redis 7.0; the class below runs the same tests."""

    storage: Any

    async def test_many_nodes(self) -> None:
        """A request of many keys is answered in order, whichever nodes they are on."""
        keys = [b"k%d" % number for number in range(100)]
        stores = [Store(StoreMode.SET, key, b"of " + key) for key in keys]
        for stored in await self.all(*stores):
            self.assertIsInstance(stored, Stored)
        (found,) = await self.all(Get([*keys, b"none", *reversed(keys)]))
        expected = [b"of " + key for key in keys]
        values = [item and item.value for item in found]
        self.assertEqual(values, [*expected, None, *reversed(expected)])
        for node in self.cluster.masters:
            self.assertGreater(node.ask("DBSIZE"), 10)

    async def test_native_clients_find_items(self) -> None:
        """An item is where clients of clusters look for it, a hash tag in its key or not."""
        for key in (b"plain", b"{tag}a", b"{}b", b"a{b}{c}"):
            await self.set(b"v", key)
            self.assertEqual(self.client.hget(b"rc:" + key, "v"), b"76")
            self.client.hset(b"rc:" + key, "v", "6e")
            self.assertEqual((await self.item(key)).value, b"n")

    async def test_tokens(self) -> None:
        """Each change gives a higher token, whatever the item's own is; none needs a counter."""
        last = await self.set(b"v")
        for number in range(50):
            token = await self.set(b"%d" % number)
            self.assertGreater(token, last)
            last = token
        for own in (last + 10**9, 2**53 - 1, 2**53, 10**19 - 1, 2**64 - 2):
            await self.do(Store(StoreMode.SET, b"k", b"1", new_cas=own))
            self.assertEqual(await self.set(b"1"), own + 1)
        self.assertGreater(await self.set(b"after the last token"), last)
        self.client.hset("rc:k", "c", "no token")
        self.assertGreater(await self.set(b"v"), last)
        self.assertEqual(self.client.exists("redcouch:sys:cas_counter"), 0)

    async def test_native_items_get_tokens(self) -> None:
        """What a native client has written without a token has one once it is asked for."""
        for key in (b"a", b"b", b"c"):
            self.client.hset(b"rc:" + key, "v", "31")
        a, b, none = await self.do(Get([b"a", b"b", b"none"], True))
        self.assertIsNone(none)
        self.assertEqual(await self.do(Get([b"a", b"b"], True)), [a, b])
        self.assertGreater(a.cas, 0)
        self.assertGreater((await self.do(MetaGet(b"c", cas=True))).cas, 0)

    async def test_forgotten_scripts(self) -> None:
        """A node that has lost its scripts is told them again; commands keep their order."""
        await self.set(b"5", b"a")
        for node in self.cluster.masters:
            node.ask("SCRIPT FLUSH")
        commands = [Arithmetic(b"a", 1), Arithmetic(b"a", 1), Store(StoreMode.SET, b"b", b"v")]
        first, second, stored = await self.all(*commands)
        self.assertEqual([first.value, second.value], [6, 7])
        self.assertIsInstance(stored, Stored)

    async def test_wrong_type(self) -> None:
        """A key of another type harms no other key."""
        self.client.set("rc:text", "x")
        await self.set(b"v", b"a")
        (found,) = await self.all(Get([b"a", b"text", b"none"]))
        self.assertEqual(found[0], Item(b"v", 0, 0))
        self.assert_failed(found[1], ErrorKind.WRONG_TYPE)
        self.assertIsNone(found[2])
        for size in (1, 10_000):
            store = Store(StoreMode.SET, b"text", b"v" * size)
            self.assert_failed(await self.do(store), ErrorKind.WRONG_TYPE)
        self.assertEqual(self.client.get("rc:text"), b"x")

    async def test_flush_of_what_moves(self) -> None:
        """An item goes too that comes to where C{flush_all} has looked."""
        first, *_, last = self.storage.router.masters
        nodes = {node.port: node for node in self.cluster.masters}
        target, source = (nodes[port] for (_, port), _ in (first, last))
        keys = (b"k%d" % number for number in range(100))
        key = next(key for key in keys if self.cluster.serving(slot_of(b"rc:" + key)) is source)
        slot = slot_of(b"rc:" + key)
        await self.set(b"v", key)
        moved: list[bytes] = []

        async def scan_and_move(exchange: Exchange, *rest: Any) -> Any:
            found = await scan(exchange, *rest)
            if exchange.link is first[1] and not moved:
                moved.append(source.ask("MIGRATE", LOOPBACK, target.port, b"rc:" + key, 0, 5000))
            return found

        self.patch(admin_module, "scan", scan_and_move)
        with self.cluster.moving(slot, target):
            self.assertEqual(await self.do(Flush()), Outcome.OK)
        with self.cluster.moving(slot, source):  # as it was
            pass
        self.assertEqual((moved, await self.get(key)), ([b"OK"], None))

    async def test_dump(self) -> None:
        """Lists go through all nodes, page by page."""
        keys = {b"k%d" % number for number in range(2000)}
        await self.all(*(Store(StoreMode.SET, key, b"v") for key in keys))
        cursor, listed, pages = b"", set(), 0
        while cursor or not pages:
            page = await self.do(Dump(cursor))
            assert isinstance(page, ListedPage)
            listed |= {item.key for item in page.items}
            cursor, pages = page.cursor, pages + 1
        self.assertEqual(listed, keys)
        page = await self.do(Dump())
        for node in self.cluster.masters:  # another Redis would leave keys out from there on
            node.ask("CLIENT", "KILL", "TYPE", "normal")
        links = [link for _, link in self.storage.router.masters]
        await eventually_in_reactor(
            lambda: all(link.times_connected > 1 and link.state is State.UP for link in links)
        )
        self.assert_failed(await self.do(Dump(page.cursor)), ErrorKind.UNAVAILABLE)

    async def test_statistics(self) -> None:
        """Figures are sums over the masters, without RedCouch's own keys."""
        await self.all(*(Store(StoreMode.SET, b"k%d" % number, b"v") for number in range(50)))
        await self.storage.keep_traffic([UsageSample("command", b"get", 7, 3)], 9)
        self.assertEqual((await self.storage.statistics())["curr_items"], 50)
        facts = await self.storage.describe()
        self.assertEqual((facts["kind"].split()[1], facts["replicas"]), ("Cluster", 3))
        nodes = facts["nodes"]
        self.assertEqual(
            {node["address"] for node in nodes},
            {f"127.0.0.1:{node.port}" for node in self.cluster.serving_masters()},
        )
        self.assertEqual(sum(node["slots"] for node in nodes), 16384)
        for node in nodes:
            self.assertEqual((node["role"], node["replicas"]), ("master", 1))
            self.assertIn(node["lag"], range(100_000))

    async def test_statistics_while_usage_is_noted(self) -> None:
        """What comes and goes beside the items is never taken for one, nor an item for it."""
        await self.all(*[Store(StoreMode.SET, b"k%d" % number, b"v") for number in range(30)])
        over = threading.Event()

        def note_and_forget() -> None:
            with self.cluster.client() as client:
                while not over.is_set():
                    for change in (lambda key: client.hset(key, "a", 1), client.delete):
                        for key in SYSTEM_KEYS:
                            change(key)

        noted = deferToThread(note_and_forget)
        try:
            counts = [(await self.storage.statistics())["curr_items"] for _ in range(100)]
        finally:
            over.set()
            await noted
        self.assertEqual(set(counts), {30})

    async def test_inventory(self) -> None:
        """The inventory of traffic is kept."""
        await self.storage.keep_traffic([UsageSample("command", b"get", 7, 3)], 9)
        inventory = await self.storage.traffic()
        self.assertEqual([one.name for one in inventory.seen], [b"get"])
        self.assertLessEqual(abs(inventory.looked - 2 - inventory.seen[0].last), 1)

    async def test_least_permissions(self) -> None:
        """The rule in the documentation is enough for everything."""
        text = _PAGE.read_text()
        rule = re.search(r"ACL (SETUSER redcouch[^`]*)", text)
        assert rule is not None
        for node in self.cluster.nodes:
            node.ask("ACL", *rule[1].split())
            self.addCleanup(node.ask, "ACL", "DELUSER", "redcouch")
        await self.connect(self.cluster.url.replace("//", "//redcouch:secret@"))
        self.client.hset("rc:native", "v", "31")
        for command in EVERYTHING:
            result = await self.do(command)
            for part in result if isinstance(result, list) else [result]:
                self.assertFalse(isinstance(part, Failed), f"{command}: {part}")
        await self.storage.keep_traffic([UsageSample("command", b"get", 7, 3)], 9)
        self.assertIn("curr_items", await self.storage.statistics())

    async def test_one_seed_is_enough(self) -> None:
        """A replica as the only seed, and seeds that are not there, lead to all masters."""
        replica = self.cluster.replicas[0]
        await self.connect(f"redis+cluster://127.0.0.1:1,127.0.0.1:{replica.port}")
        await self.test_many_nodes()
        self.assertTrue(self.storage.health().ready)


class ClusterTests82(ClusterTests):
    """The same on Redis 8.2."""

    version = "8.2"


class ClusterTestsValkey(ClusterTests):
    """The same on Valkey."""

    version = "valkey 8.1"


class OutOfMemoryOnClusterTests(ClusterCase, OutOfMemoryTests):
    """A cluster whose nodes have no memory left."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.client.config_set = self.configure

    def configure(self, name: str, value: object) -> None:
        """Set it on each master."""
        for node in self.cluster.masters:
            node.ask("CONFIG SET", name, value)


class OutOfMemoryOnClusterTests82(OutOfMemoryOnClusterTests):
    """The same on Redis 8.2."""

    version = "8.2"


class ChangingClusterTests(ClusterCase):
    """Clusters in which something is wrong, or changes."""

    connects = False

    async def test_a_dead_node(self) -> None:
        """Its own keys fail, at once; health says which node it is."""
        cluster = self.start_cluster(replicas=False)
        for node in cluster.nodes:
            node.ask("CONFIG SET", "cluster-require-full-coverage", "no")
        await self.connect(cluster.url)
        keys = [b"k%d" % number for number in range(30)]
        await self.all(*(Store(StoreMode.SET, key, b"v") for key in keys))
        dead = cluster.masters[1]
        lost = [key for key in keys if cluster.serving(slot_of(b"rc:" + key)) is dead]
        self.assertTrue(lost)
        dead.kill()
        await eventually_in_reactor(lambda: not self.storage.health().ready)
        self.assertIn(
            f"1 of 3 masters: Redis at 127.0.0.1:{dead.port}", self.storage.health().reason
        )
        for _ in range(20):  # who waited for the dead node would be late each time
            began = reactor.seconds()
            (found,) = await self.all(Get(keys))
            if (took := reactor.seconds() - began) < 0.5:
                break
        self.assertLess(took, 0.5)
        storage: Any = self.storage
        figures = await storage.statistics()
        self.assertEqual((figures["cluster_masters"], figures["cluster_masters_down"]), (3, 1))
        nodes = {node["address"]: node for node in (await storage.describe())["nodes"]}
        troubled = [address for address, node in nodes.items() if "trouble" in node]
        self.assertEqual(troubled, [f"127.0.0.1:{dead.port}"])
        for key, item in zip(keys, found, strict=True):
            if key in lost:
                self.assert_failed(item, ErrorKind.UNAVAILABLE)
            else:
                self.assertEqual(item, Item(b"v", 0, 0))
        dead.start()
        await eventually_in_reactor(lambda: self.storage.health().ready)

    async def test_dump_while_a_master_is_replaced(self) -> None:
        """A list does not leave out what has gone to a master that comes before the others."""
        cluster = self.start_cluster()
        await self.connect(cluster.url)
        keys = [b"k%d" % number for number in range(100)]
        await self.all(*(Store(StoreMode.SET, key, b"v") for key in keys))
        page = await self.do(Dump())
        assert isinstance(page, ListedPage)
        storage: Any = self.storage
        *_, (last, _) = storage.router.masters
        master = next(node for node in cluster.masters if node.port == last[1])
        await deferToThread(cluster.fail_over, master)
        while last in dict(storage.router.masters):
            await self.all(*(Get([key]) for key in keys))
        self.assert_failed(await self.do(Dump(page.cursor)), ErrorKind.UNAVAILABLE)

    async def test_delayed_flush_of_all_but_one(self) -> None:
        """What can be flushed is flushed once; the rest when its master takes that."""
        await self.delayed_flush_of_all_but_one(handed_over=False)

    async def test_delayed_flush_that_another_ends(self) -> None:
        """So it is where the process that was at it is gone meanwhile."""
        await self.delayed_flush_of_all_but_one(handed_over=True)

    async def test_delayed_flush_that_cannot_be_noted(self) -> None:
        """So it is where what is left cannot be noted at once, as its master is away, too."""
        await self.delayed_flush_of_all_but_one(handed_over=False, noted=False)

    async def delayed_flush_of_all_but_one(self, handed_over: bool, noted: bool = True) -> None:
        """One master refuses it for a while."""
        cluster = self.start_cluster(replicas=False)
        client = cluster.client()
        self.addCleanup(client.close)
        bridge: Any = redis_storage.RedisStorage(cluster.url, client)
        await bridge.storage.start()
        self.addCleanup(bridge.storage.stop)
        admin = bridge.storage._admin
        unlink_all = admin._unlink_all
        failures = []

        async def try_to_unlink(*rest: Any) -> None:
            try:
                await unlink_all(*rest)
            except BackendError as error:
                failures.append(error)
                raise

        self.patch(admin, "_unlink_all", try_to_unlink)
        replace = admin._replace

        async def try_to_note(there: bytes, by: bytes) -> bool:
            nonlocal noted
            if b" " in by and not noted:
                noted = True
                raise BackendError(ErrorKind.UNAVAILABLE, "storage not reachable")
            return bool(await replace(there, by))

        self.patch(admin, "_replace", try_to_note)
        keys = [b"k%d" % number for number in range(30)]
        stores = [Store(StoreMode.SET, key, b"v") for key in keys]
        await bridge.storage.execute(stores)

        async def there() -> list[bytes]:
            found: Any = (await bridge.storage.execute([Get(keys)]))[0]
            return [key for key, item in zip(keys, found, strict=True) if item]

        refusing = cluster.masters[1]
        kept = [key for key in keys if cluster.serving(slot_of(b"rc:" + key)) is refusing]
        refusing.ask("ACL SETUSER default -unlink")
        client.set(FLUSH_AT + b"rc:", bridge.now() + 1)
        bridge.clock.advance(5)
        await eventually_in_reactor(lambda: failures)
        self.assertEqual(await there(), kept)
        await bridge.storage.execute(stores)
        for number in range(2, 5):
            bridge.clock.advance(11)
            await eventually_in_reactor(partial(_are, failures, number))
            self.assertEqual(await there(), keys)
        refusing.ask("ACL SETUSER default +unlink")
        if handed_over:
            bridge.storage._admin.stop()
            bridge = redis_storage.RedisStorage(cluster.url, client)
            await bridge.storage.start()
            self.addCleanup(bridge.storage.stop)
            await eventually_in_reactor(lambda: bridge.storage.health().ready)
        await bridge.elapse(100)
        self.assertEqual(await there(), [key for key in keys if key not in kept])

    async def test_no_cluster(self) -> None:
        """One Redis is no cluster, and that is said."""
        server = self.start_redis(version=self.version)
        await self.connect(f"redis+cluster://127.0.0.1:{server.port}")
        with self.assertRaisesRegex(BackendError, "storage not reachable"):
            (result,) = await self.storage.execute([Store(StoreMode.SET, b"k", b"v")])
            raise BackendError(result.kind, result.message)
        self.assertIn("write redis:// in place of redis", self.storage.health().reason)

    async def test_a_new_node(self) -> None:
        """Slots move to a node that had none, and a key is followed there."""
        cluster = self.start_cluster(masters=2, replicas=False)
        await self.connect(cluster.url)
        await self.set(b"v")
        slot = slot_of(b"rc:k")
        source = cluster.serving(slot)
        (target,) = (node for node in cluster.masters if node is not source)
        with cluster.moving(slot, target):
            self.assertEqual(await self.value(), b"v")
            await self.do(Store(StoreMode.SET, b"{rc:k}", b"new"))
            self.assertEqual((await self.item(b"{rc:k}")).value, b"new")
            large = Store(StoreMode.SET, b"x{rc:k}", b"v" * 10_000)
            self.assertIsInstance(await self.do(large), Stored)
            self.assertIs(await self.do(Store(StoreMode.ADD, b"k", b"x")), Outcome.NOT_STORED)
        self.assertEqual(await self.value(), b"v")
        self.assertEqual(len((await self.item(b"x{rc:k}")).value), 10_000)

    async def test_a_new_node_without_scripts(self) -> None:
        """Who a slot moves to has lost its scripts: it is told them, and not who has the slot."""
        cluster = self.start_cluster(masters=2, replicas=False)
        await self.connect(patient(cluster.url))
        await eventually_in_reactor(lambda: self.storage.health().ready)
        slot = slot_of(b"rc:k")
        source = cluster.serving(slot)
        (target,) = (node for node in cluster.masters if node is not source)
        with cluster.moving(slot, target):
            for number, size in enumerate((1, 10_000)):
                key = b"%d{rc:k}" % number
                target.ask("SCRIPT FLUSH")
                self.assertIsInstance(await self.set(b"v" * size, key), int)
                self.assertEqual(target.ask("CLUSTER COUNTKEYSINSLOT", slot), number + 1)

    def test_not_there_yet(self) -> None:
        """What does not work on a cluster is refused with one line."""
        context = BackendContext(reactor, Limits(), lambda: 0.0, print)
        with self.assertRaisesRegex(ConfigurationError, "layout: string is for one Redis"):
            make_backend("redis+cluster://host?layout=string", context)
