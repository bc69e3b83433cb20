"""Redis has no memory left and may not evict; or takes no write at all."""

from __future__ import annotations

from typing import Any

from redcouch.backends.fill_leases import (
    Beat,
    BeginChanges,
    DenyAllFills,
    DenyFill,
    Fill,
    NoteLack,
    PauseFills,
    RevokeAllLeases,
    RevokeLeases,
    TakeLease,
)
from redcouch.commands import Arithmetic, Command, Delete, Flush, Get, Store, StoreMode, Touch
from redcouch.results import ErrorKind, Item, Outcome, Stored, Touched
from tests.backends.redis.case import SharedRedisCase
from tests.support.polling import eventually_in_reactor

COUNTER = b"redcouch:sys:cas_counter"


class OutOfMemoryTests(SharedRedisCase):
    """Redis 7.0 past its maxmemory; the versions below run the same tests."""

    def use_up(self) -> None:
        """From now on Redis refuses whatever needs memory."""
        self.addCleanup(self.client.config_set, "maxmemory", 0)
        self.client.config_set("maxmemory-policy", "noeviction")
        self.client.config_set("maxmemory", 1)

    async def test_set(self) -> None:
        """A refused C{set} takes the old item with it, so that no stale value lives on."""
        await self.set(b"old")
        self.use_up()
        self.assert_failed(await self.do(Store(StoreMode.SET, b"k", b"v")), ErrorKind.OUT_OF_MEMORY)
        self.assertIsNone(await self.get())
        self.assertEqual(self.client.keys("rc:*"), [])
        self.assert_failed(await self.do(Store(StoreMode.SET, b"k", b"v")), ErrorKind.OUT_OF_MEMORY)

    async def test_large_set(self) -> None:
        """The same for a large value, which is stored by a transaction."""
        large = b"v" * 100_000
        await self.set(b"old")
        await self.set(b"other", key=b"other")
        self.use_up()
        refused, read, other = await self.all(
            Store(StoreMode.SET, b"k", large), Get([b"other"]), Store(StoreMode.SET, b"k", large)
        )
        self.assert_failed(refused, ErrorKind.OUT_OF_MEMORY)
        self.assert_failed(other, ErrorKind.OUT_OF_MEMORY)
        self.assertEqual(read[0].value, b"other")
        self.assertIsNone(await self.get())
        self.client.config_set("maxmemory", 0)
        await self.set(large)
        self.assertEqual(await self.value(), large)

    async def test_others_keep_the_item(self) -> None:
        """Any other change that is refused leaves the item as it was."""
        token = await self.set(b"5", flags=7, exptime=500)
        self.use_up()
        refused: list[Command] = [
            Store(StoreMode.REPLACE, b"k", b"v"),
            Store(StoreMode.APPEND, b"k", b"v"),
            Store(StoreMode.PREPEND, b"k", b"v"),
            Store(StoreMode.SET, b"k", b"v", compare=token),
            Arithmetic(b"k", 1),
            Arithmetic(b"k", 1, decrement=True),
        ]
        for command in refused:
            self.assert_failed(await self.do(command), ErrorKind.OUT_OF_MEMORY)
        self.assertEqual(await self.get(), Item(b"5", 7, token))
        self.assertIn(self.client.ttl("rc:k"), range(470, 501))

    async def test_nothing_new(self) -> None:
        """Items that are not there yet cannot be added."""
        self.use_up()
        refused: list[Command] = [
            Store(StoreMode.ADD, b"k", b"v"),
            Store(StoreMode.APPEND, b"k", b"v", vivify=0),
            Arithmetic(b"k", 1, initial=1),
        ]
        for command in refused:
            self.assert_failed(await self.do(command), ErrorKind.OUT_OF_MEMORY)
            self.assertIsNone(await self.get())

    async def test_answers_that_need_no_memory(self) -> None:
        """What would not be stored anyway is answered as always."""
        other = await self.set(b"v") + 1
        self.use_up()
        commands: list[Command] = [
            Store(StoreMode.ADD, b"k", b"v"),
            Store(StoreMode.REPLACE, b"none", b"v"),
            Store(StoreMode.SET, b"k", b"v", compare=other),
            Store(StoreMode.SET, b"none", b"v", compare=1),
            Arithmetic(b"none", 1),
            Arithmetic(b"k", 1),
        ]
        expected = [
            Outcome.NOT_STORED,
            Outcome.NOT_STORED,
            Outcome.EXISTS,
            Outcome.NOT_FOUND,
            Outcome.NOT_FOUND,
            Outcome.NON_NUMERIC,
        ]
        self.assertEqual(await self.all(*commands), expected)

    async def test_reading_and_removing(self) -> None:
        """Items can still be read, touched, deleted and flushed."""
        token = await self.set(b"v", b"a")
        await self.set(b"v", b"b")
        self.use_up()
        self.assertEqual(await self.get(b"a"), Item(b"v", 0, token))
        self.assertEqual(await self.do(Touch(b"a", 500)), Touched(0, token))
        self.assertIs(await self.do(Delete(b"a")), Outcome.DELETED)
        self.assertIs(await self.do(Flush()), Outcome.OK)
        self.assertEqual(await self.do(Get([b"a", b"b"])), [None, None])

    async def test_delayed_flush(self) -> None:
        """It is taken; and one that is due by now makes room."""
        await self.set(b"v")
        self.use_up()
        self.assertIs(await self.do(Flush(1000)), Outcome.OK)
        self.client.config_set("maxmemory", 0)
        self.client.set("redcouch:sys:flush_at:rc:", "1")
        self.client.config_set("maxmemory", 1)
        self.storage._admin.look_for_flush()  # type: ignore[attr-defined]
        await eventually_in_reactor(lambda: not self.client.keys("*rc:*"))

    async def test_filling(self) -> None:
        """What those note who fill in items is taken; and so one of them leads."""
        self.use_up()
        beats = [Beat(name, b"{}", b"0", b"redis-first", 0) for name in (b"a", b"b", b"a")]
        states = await self.all(*beats)
        self.assertEqual([state.leads for state in states], [True, False, True])
        (members,) = self.client.keys("redcouch:sys:*members:rc:")
        self.assertEqual(self.client.hlen(members), 2)
        noted = await self.all(NoteLack(), DenyFill([b"k"]), DenyAllFills())
        self.assertEqual(noted, [Outcome.OK, Outcome.OK, Outcome.NOT_STORED])

    async def test_flushing_and_changing(self) -> None:
        """
        So is what a flush stops: what was read before it, and what would be while it goes on; and
        what begins.
        """
        lease = await self.do(TakeLease(b"k"))
        assert isinstance(lease, bytes)
        self.use_up()
        notes = RevokeAllLeases(), PauseFills(1.0, 2e10), BeginChanges({b"a/1": b"k"})
        self.assertEqual(await self.all(*notes), [Outcome.OK] * 3)
        self.client.config_set("maxmemory", 0)
        self.assertIsNone(await self.do(TakeLease(b"k")))
        self.assertIs(await self.do(PauseFills(0.0, 0.0)), Outcome.OK)
        self.assertIs(await self.do(Fill(b"k", b"v", 0, 0, lease)), Outcome.NOT_STORED)
        (changing,) = self.client.keys("redcouch:sys:*changing:rc:")
        self.assertEqual(self.client.hvals(changing), [b"k"])

    async def test_filling_without_writes(self) -> None:
        """
        Without enough replicas Redis takes no write, for longer than who fills in items may be
        silent: each still hears how things stand, that nobody sees it, and that no lease could be
        revoked.
        """
        beat = Beat(b"a", b"{}", b"0", b"redis-first", 0)
        self.assertTrue((await self.do(beat)).noted)
        (members,) = self.client.keys("redcouch:sys:*members:rc:")
        self.client.hset(members, "a", "1 0 {}")
        (state,) = self.client.keys("redcouch:sys:*state:rc:")
        self.client.hset(state, mapping={"next": "redis-only", "holding": 1, "deadline": 1})
        self.addCleanup(self.client.config_set, "min-replicas-to-write", 0)
        self.client.config_set("min-replicas-to-write", 9)
        said = await self.do(beat)
        self.assertEqual((said.stage, said.noted), (b"redis-first", False))
        self.assertEqual((said.next, said.holding), (b"", False), "that is over")
        self.assert_failed(await self.do(RevokeLeases([b"k", b"l"])), ErrorKind.REFUSED)

    async def test_discovery(self) -> None:
        """Clients are told where to connect, by a service that has just been started, too."""
        self.use_up()
        storage: Any = self.storage
        for nodes, version in ((b"a:1", 6), (b"a:1", 6), (b"b:1", 7)):
            self.assertEqual(await storage.list_version(nodes, 5), version)

    async def test_native_item(self) -> None:
        """An item that has no token yet can be read and touched; only the token fails."""
        self.client.hset("rc:k", "v", "6869")
        self.use_up()
        self.assertEqual(await self.get(cas=False), Item(b"hi", 0, 0))
        self.assertNotEqual(await self.do(Touch(b"k", 500)), Outcome.NOT_FOUND)
        self.assertIn(self.client.ttl("rc:k"), range(470, 501))

    async def test_among_others(self) -> None:
        """Refused commands harm no other of the batch."""
        await self.set(b"5", b"other")
        self.use_up()
        results = await self.all(
            Get([b"other"]), Store(StoreMode.SET, b"k", b"v"), Get([b"other"]), Delete(b"other")
        )
        self.assertEqual([results[0][0].value, results[2][0].value], [b"5", b"5"])
        self.assert_failed(results[1], ErrorKind.OUT_OF_MEMORY)
        self.assertIs(results[3], Outcome.DELETED)

    async def test_recovery(self) -> None:
        """With memory again, everything works again, over the same connection."""
        self.use_up()
        self.assert_failed(await self.do(Store(StoreMode.SET, b"k", b"v")), ErrorKind.OUT_OF_MEMORY)
        self.client.config_set("maxmemory", 0)
        self.assertIsInstance(await self.do(Store(StoreMode.SET, b"k", b"v")), Stored)
        self.assertTrue(self.storage.health().ready)


class OutOfMemoryTests62(OutOfMemoryTests):
    """The same on Redis 6.2."""

    version = "6.2"


class OutOfMemoryTests82(OutOfMemoryTests):
    """The same on Redis 8.2."""

    version = "8.2"
