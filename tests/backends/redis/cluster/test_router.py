"""What is sent again, and what is not: a node that answers as the test says."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from redcouch.backends.redis.cluster import router as router_module
from redcouch.backends.redis.cluster.slots import slot_of
from redcouch.backends.redis.connection import State
from redcouch.commands import Get, Store, StoreMode
from redcouch.results import ErrorKind, Item, Result, Stored
from tests.backends.redis.case import RedisCase
from tests.backends.redis.fake import FakeRedisFactory, nothing
from tests.support.polling import PATIENCE, eventually_in_reactor
from tests.support.servers import free_port

pytestmark = pytest.mark.everywhere

DOWN = b"-CLUSTERDOWN The cluster is down\r\n"
GONE = b""
reactor: Any = _reactor


class OneNodeTests(RedisCase):
    """A cluster of one node that has all slots."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.fake = FakeRedisFactory()
        self.fake.answer = self.answer
        listening = reactor.listenTCP(0, self.fake, interface="127.0.0.1")
        self.addCleanup(eventually_in_reactor, lambda: not self.fake.connections)
        self.addCleanup(listening.stopListening)
        self.port = listening.getHost().port
        #: What the node says to a set of each value, time after time.
        self.script: dict[bytes, list[bytes]] = defaultdict(list)
        self.seen: list[bytes] = []
        await self.connect(f"redis+cluster://127.0.0.1:{self.port}?timeout=20&encoding=raw")

    def answer(self, command: list[bytes]) -> bytes:
        if command[0] == b"CLUSTER":
            return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:%d\r\n" % self.port
        if command[0] != b"EVALSHA" or command[2] == b"0":
            return nothing(command)
        value = command[5]
        self.seen.append(value)
        said = self.script[value].pop(0)
        if said == GONE:
            self.fake.connections[0].transport.abortConnection()
        return said

    async def sets(self, *values: bytes, key: bytes = b"k") -> list[Result]:
        return await self.all(*(Store(StoreMode.SET, key, value) for value in values))

    async def test_again(self) -> None:
        """What the cluster could not do for a moment is done in its order."""
        self.script |= {b"a": [DOWN, DOWN, b":1\r\n"], b"b": [DOWN, DOWN, b":2\r\n"]}
        self.assertEqual(await self.sets(b"a", b"b"), [Stored(1), Stored(2)])
        self.assertEqual(self.seen, [b"a", b"b"] * 3)

    async def test_a_later_change_was_done(self) -> None:
        """Then the earlier one has failed, and what came after both is done."""
        self.script |= {b"a": [DOWN], b"b": [b":7\r\n"], b"c": [DOWN, b":8\r\n"]}
        a, b, c = await self.sets(b"a", b"b", b"c")
        self.assert_failed(a, ErrorKind.UNAVAILABLE)
        self.assertEqual((b, c), (Stored(7), Stored(8)))
        self.assertEqual(self.seen, [b"a", b"b", b"c", b"c"])

    async def test_other_keys(self) -> None:
        """A change of another key keeps nothing from being done."""
        self.script |= {b"a": [DOWN, b":1\r\n"], b"b": [b":2\r\n"]}
        stores = [Store(StoreMode.SET, b"k", b"a"), Store(StoreMode.SET, b"other", b"b")]
        self.assertEqual(await self.all(*stores), [Stored(1), Stored(2)])

    async def test_reads_among_changes(self) -> None:
        """A read is asked again where the change before it was not done."""
        self.script |= {b"a": [DOWN, b":1\r\n"]}
        reads = 0

        def answer(command: list[bytes]) -> bytes:
            nonlocal reads
            if command[0] != b"HMGET":
                return self.answer(command)
            reads += 1
            return b"*3\r\n$-1\r\n$1\r\na\r\n$1\r\n0\r\n" if reads > 1 else nothing(command)

        self.fake.answer = answer
        stored, found = await self.all(Store(StoreMode.SET, b"k", b"a"), Get([b"k"]))
        self.assertEqual((stored, found), (Stored(1), [Item(b"a", 0, 0)]))

    async def test_for_good(self) -> None:
        """What cannot be done within the timeout fails, and was not done."""
        storage: Any = self.storage
        router = storage.router
        self.patch(router, "_location", replace(router._location, timeout=0.4))
        self.script |= {b"a": [DOWN] * 1000}
        began = reactor.seconds()
        (failed,) = await self.sets(b"a")
        self.assert_failed(failed, ErrorKind.UNAVAILABLE)
        self.assertGreater(reactor.seconds() - began, 0.3)

    async def test_waiting_in_vain(self) -> None:
        """Who asks soon after somebody has waited in vain does not wait."""
        storage: Any = self.storage
        router = storage.router
        self.patch(router, "_location", replace(router._location, timeout=0.4))
        self.patch(router_module, "_VAIN", 1000.0)
        self.script |= {b"a": [DOWN] * 1000, b"b": [DOWN] * 1000, b"c": [b":1\r\n"]}
        for value in (b"a", b"b"):
            (failed,) = await self.sets(value)
            self.assertEqual(failed.message, "storage answered CLUSTERDOWN")
        self.assertEqual(self.seen.count(b"b"), 1)
        self.assertEqual(await self.sets(b"c"), [Stored(1)])

    async def test_waiting_beside_others(self) -> None:
        """Who waits already goes on, though somebody has waited in vain by then."""
        storage: Any = self.storage
        router = storage.router
        self.script |= {b"a": [DOWN] * 1000, b"b": [DOWN] * 1000}
        self.patch(router_module, "_VAIN", 1000.0)
        self.patch(router, "_location", replace(router._location, timeout=PATIENCE))
        patient = Deferred.fromCoroutine(self.sets(b"b", key=b"other"))
        await eventually_in_reactor(lambda: self.seen.count(b"b") > 1)
        self.patch(router, "_location", replace(router._location, timeout=0.1))
        self.assert_failed((await self.sets(b"a"))[0], ErrorKind.UNAVAILABLE)
        asked = self.seen.count(b"b")
        await eventually_in_reactor(lambda: patient.called or self.seen.count(b"b") > asked)
        self.script[b"b"] = [b":2\r\n"]
        self.assertEqual(await patient, [Stored(2)])

    async def test_lost_connection(self) -> None:
        """What may have been done is not sent again."""
        self.script |= {b"a": [GONE]}
        results = await self.storage.execute(
            [Store(StoreMode.SET, b"k", b"a"), Get([b"k", b"other"])]
        )
        self.assert_failed(results[0], ErrorKind.UNAVAILABLE)
        self.assertEqual(self.seen, [b"a"])

    async def test_strangers(self) -> None:
        """A redirection that makes no sense, or a text that only looks like one, leads nowhere."""
        for said in (b"-ERR no MOVED 1 evil:1\r\n", b"-OOM MOVED 1 evil:1\r\n"):
            self.script |= {b"a": [said]}
            (failed,) = await self.sets(b"a")
            self.assertIn(failed.kind, (ErrorKind.REFUSED, ErrorKind.OUT_OF_MEMORY))
        self.assertEqual(self.seen, [b"a", b"a"])


class TwoNodesTests(RedisCase):
    """A cluster of two nodes, each of which has half of the slots."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.is_lost = False
        self.ports: list[int] = []
        for _ in range(2):
            fake = FakeRedisFactory()
            fake.answer = partial(self.answer, fake)
            listening = reactor.listenTCP(0, fake, interface="127.0.0.1")
            self.addCleanup(eventually_in_reactor, lambda fake=fake: not fake.connections)
            self.addCleanup(listening.stopListening)
            self.ports.append(listening.getHost().port)
        await self.connect(f"redis+cluster://127.0.0.1:{self.ports[0]}?timeout=20&encoding=raw")

    def answer(self, fake: FakeRedisFactory, command: list[bytes]) -> bytes:
        """The first has no memory, and leaves at the next script. Until then, the other waits."""
        if command[0] == b"CLUSTER":
            half = b"*3\r\n:%d\r\n:%d\r\n*2\r\n$0\r\n\r\n:%d\r\n"
            first, second = self.ports
            return b"*2\r\n" + half % (0, 8191, first) + half % (8192, 16383, second)
        if command[0] == b"EXEC":
            return b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
        if command[0] != b"EVALSHA" or command[2] == b"0":
            return nothing(command)
        if slot_of(command[3]) >= 8192:
            return b":2\r\n" if self.is_lost else DOWN
        assert fake.speaker is not None
        fake.speaker.transport.abortConnection()
        self.is_lost = True
        return GONE

    async def test_one_cannot_be_finished(self) -> None:
        """The batch is answered once all is over: nothing of it is done after what comes next."""
        keys = [b"%d" % number for number in range(100)]
        here = next(key for key in keys if slot_of(b"rc:" + key) < 8192)
        there = next(key for key in keys if slot_of(b"rc:" + key) >= 8192)
        refused, stored, found = await self.all(
            Store(StoreMode.SET, here, b"v" * 100_000),
            Store(StoreMode.SET, there, b"v"),
            Get([here, there]),
        )
        self.assert_failed(refused, ErrorKind.UNAVAILABLE)
        self.assertEqual((stored, found), (Stored(2), [refused, None]))


class LeftBehindTests(RedisCase):
    """Nodes that no longer agree about the cluster."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.patch(router_module, "_REFRESH", 0.01)
        self.patch(router_module, "_SPARE", 0.5)
        #: Who serves the lower half of the slots, and the upper one, as each node says.
        self.says: dict[FakeRedisFactory, tuple[int, int]] = {}
        #: Those of another cluster.
        self.strangers: set[FakeRedisFactory] = set()
        self.asked: Counter[FakeRedisFactory] = Counter()
        self.listening: dict[FakeRedisFactory, Any] = {}

    def node(self) -> tuple[FakeRedisFactory, int]:
        """A node, and its port."""
        fake = FakeRedisFactory()
        fake.answer = partial(self.answer, fake)
        self.listening[fake] = listening = reactor.listenTCP(0, fake, interface="127.0.0.1")
        self.addCleanup(eventually_in_reactor, lambda: not fake.connections)
        self.addCleanup(listening.stopListening)
        return fake, listening.getHost().port

    def answer(self, fake: FakeRedisFactory, command: list[bytes]) -> bytes:
        if command[0] != b"CLUSTER":
            return nothing(command)
        self.asked[fake] += 1
        name = b"theirs" if fake in self.strangers else b"ours"
        half = b"*3\r\n:%d\r\n:%d\r\n*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n+" + name + b"\r\n"
        if fake not in self.says:
            return b"*0\r\n"
        low, high = self.says[fake]
        return b"*2\r\n" + half % (0, 8191, low) + half % (8192, 16383, high)

    async def begin(self, *seeds: int) -> None:
        """Make a storage that is told of these nodes."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in seeds)
        storage: Any = await self.connect(f"redis+cluster://{hosts}")
        self.router = storage.router
        await eventually_in_reactor(lambda: self.router.table[0] is not None)

    async def begin_without_the_master(self) -> list[tuple[FakeRedisFactory, int]]:
        """A master, and two that serve nothing: only these are in the URL. Each with its port."""
        nodes = [self.node() for _ in range(3)]
        (_, port), *seeds = nodes
        self.says = {fake: (port, port) for fake, _ in nodes}
        await self.begin(*(seed_port for _, seed_port in seeds))
        await eventually_in_reactor(
            lambda: all(seed.made and not seed.connections for seed, _ in seeds)
        )
        return nodes

    def masters(self) -> tuple[int, ...]:
        """The ports of who serves the first slot, and the last one."""
        table = self.router.table
        return tuple(self.router.address_of(link)[1] for link in (table[0], table[-1]))

    async def test_seeds_are_asked(self) -> None:
        """Where a master is away, a seed may know who has taken over; the one left does not."""
        nodes = left, away, new, seed = [self.node() for _ in range(4)]
        self.says = dict.fromkeys((fake for fake, _ in nodes), (left[1], away[1]))
        await self.begin(left[1], seed[1])
        await eventually_in_reactor(lambda: away[0].connections and not seed[0].connections)
        self.says |= dict.fromkeys((new[0], seed[0]), (left[1], new[1]))
        await self.listening[away[0]].stopListening()
        away[0].connections[0].transport.abortConnection()
        await eventually_in_reactor(lambda: self.masters() == (left[1], new[1]))

    async def test_no_word_of_who_serves_nothing(self) -> None:
        """A master that another has replaced and that does not know is not believed again."""
        (old, old_port), (new, new_port) = self.node(), self.node()
        away = free_port()
        self.says = dict.fromkeys((old, new), (new_port, away))
        await self.begin(old_port, new_port)
        await eventually_in_reactor(lambda: self.router.table[0].state is State.UP)
        self.says[old] = (old_port, away)
        before = self.asked[old]
        seen = set()

        def asked_again() -> bool:
            seen.add(self.masters())
            return self.asked[old] > before + 5

        await eventually_in_reactor(asked_again)
        self.assertEqual(seen, {(new_port, away)})

    async def test_strangers(self) -> None:
        """A node of another cluster that has the address of a dead one is given no requests."""
        (left, left_port), (away, away_port) = self.node(), self.node()
        self.says = dict.fromkeys((left, away), (left_port, away_port))
        await self.begin(left_port)
        await eventually_in_reactor(lambda: self.router.health().ready)
        self.strangers = {away}
        self.says[away] = (away_port, away_port)
        away.connections[0].transport.abortConnection()
        before = away.made
        await eventually_in_reactor(lambda: away.made > before + 2)
        self.assertEqual(self.masters(), (left_port, away_port))
        self.assertIn("it is a node of another cluster", self.router.health().reason)
        self.strangers = set()
        await eventually_in_reactor(lambda: self.router.health().ready)

    async def test_strangers_among_the_seeds(self) -> None:
        """Nor while no other node can be reached: the master that the URL names may come back."""
        (ours, port), (freed, freed_port) = self.node(), self.node()
        self.says = dict.fromkeys((ours, freed), (port, port))
        await self.begin(port, freed_port)
        await eventually_in_reactor(lambda: freed.made and not freed.connections)
        self.strangers = {freed}
        self.says[freed] = (freed_port, freed_port)
        await self.listening[ours].stopListening()
        ours.connections[0].transport.abortConnection()
        before = freed.made
        await eventually_in_reactor(lambda: freed.made > before + 2)
        self.assertEqual(self.masters(), (port, port))

    async def test_strangers_among_the_seeds_after_a_failover(self) -> None:
        """Nor where the master is another one than the URL names."""
        nodes = await self.begin_without_the_master()
        (master, port), (seed, _), (freed, freed_port) = nodes
        self.strangers = {freed}
        self.says[freed] = (freed_port, freed_port)
        for fake in (master, seed):
            await self.listening[fake].stopListening()
        master.connections[0].transport.abortConnection()
        before = freed.made
        wrong = (freed_port, freed_port)
        await eventually_in_reactor(lambda: freed.made > before + 2 or self.masters() == wrong)
        self.assertEqual(self.masters(), (port, port))

    async def test_a_cluster_made_anew(self) -> None:
        """Where no master of the old one is left, its addresses are those of the new one."""
        (first, first_port), (second, second_port) = nodes = self.node(), self.node()
        self.says = dict.fromkeys((first, second), (first_port, second_port))
        await self.begin(first_port)
        await eventually_in_reactor(lambda: self.router.health().ready)
        self.strangers = {first, second}
        self.says = dict.fromkeys((first, second), (second_port, first_port))
        for fake, _ in nodes:
            fake.connections[0].transport.abortConnection()
        await eventually_in_reactor(lambda: self.masters() == (second_port, first_port))
        await eventually_in_reactor(lambda: self.router.health().ready)

    async def test_a_cluster_made_anew_elsewhere(self) -> None:
        """Its nodes are named by the URL, and had no slots when they were connected to."""
        nodes = await self.begin_without_the_master()
        (master, _), (seed, seed_port), (other, other_port) = nodes
        seeds = seed, other
        self.says.clear()
        await self.listening[master].stopListening()
        master.connections[0].transport.abortConnection()
        await eventually_in_reactor(
            lambda: all(self.asked[one] and one.connections for one in seeds)
        )
        self.strangers = {*seeds}
        self.says = dict.fromkeys(seeds, (seed_port, other_port))
        await eventually_in_reactor(lambda: self.masters() == (seed_port, other_port))
        await eventually_in_reactor(lambda: self.router.health().ready)
