"""Delayed flushes, with one bridge and with several: each by a clock of its own."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from redcouch.commands import Flush, Get, Store, StoreMode
from redcouch.errors import BackendError
from redcouch.results import ErrorKind
from tests.backends.redis.case import SharedRedisCase
from tests.contract import redis_storage
from tests.support.polling import eventually_in_reactor

FLUSH_AT = "redcouch:sys:flush_at:rc:"


class FlushingTests(SharedRedisCase):
    """See the module."""

    def bridge(self) -> redis_storage.RedisStorage:
        """A storage whose delayed flushes go by a clock of its own."""
        return redis_storage.RedisStorage(self.url, self.client)

    async def started_bridge(self) -> tuple[redis_storage.RedisStorage, Any]:
        """One that has looked for a flush, and what of it does flushes."""
        bridge = self.bridge()
        await bridge.storage.start()
        self.addCleanup(bridge.storage.stop)
        await eventually_in_reactor(bridge.clock.getDelayedCalls)
        await bridge.storage.execute([Get([b"k"])])
        return bridge, bridge.storage._admin  # type: ignore[attr-defined]

    def note_flush(self, bridge: redis_storage.RedisStorage, delay: int) -> None:
        """Note a flush as a bridge does that is gone before it is due."""
        self.client.set(FLUSH_AT, bridge.now() + delay)

    async def test_flush_waits_in_redis(self) -> None:
        """A delayed flush happens even if the bridge that was asked ends before."""
        first = self.bridge()
        await first.storage.start()
        await first.storage.execute([Store(StoreMode.SET, b"k", b"v"), Flush(1000)])
        await first.storage.stop()
        self.assertEqual(first.clock.getDelayedCalls(), [])
        second = self.bridge()
        second.clock.advance(1001)
        await second.storage.start()
        self.addCleanup(second.storage.stop)
        while self.client.exists("redcouch:sys:flush_at:rc:"):
            await second.storage.execute([Get([b"k"])])
        self.assertIsNone(await self.get())

    async def test_flush_is_taken_over(self) -> None:
        """A bridge that starts before a noted flush is due carries it out in time."""
        await self.do(Flush(1000))
        second = self.bridge()
        await second.storage.start()
        self.addCleanup(second.storage.stop)
        while not second.clock.getDelayedCalls():
            await second.storage.execute([Get([b"k"])])
        await self.set(b"v")
        await second.elapse(1001)
        self.assertIsNone(await self.get())

    async def test_flush_called_off_elsewhere(self) -> None:
        """A flush at once by one bridge calls off the delayed one of another."""
        first = self.bridge()
        await first.storage.start()
        self.addCleanup(first.storage.stop)
        await first.storage.execute([Flush(1000)])
        await self.all(Flush(), Store(StoreMode.SET, b"k", b"v"))
        await first.elapse(1001)
        await first.storage.execute([Get([b"k"])])
        self.assertEqual(await self.value(), b"v")

    async def test_flush_put_off_elsewhere(self) -> None:
        """Of delayed flushes on several bridges, the last one asked for counts."""
        first = self.bridge()
        await first.storage.start()
        self.addCleanup(first.storage.stop)
        await first.storage.execute([Flush(1000)])
        await self.all(Flush(3000), Store(StoreMode.SET, b"k", b"v"))
        await first.elapse(1001)
        await first.storage.execute([Get([b"k"])])
        self.assertEqual(await self.value(), b"v")
        await first.elapse(2900)
        self.assertIsNone(await self.get())

    async def test_flush_of_one_that_is_gone(self) -> None:
        """What another bridge has noted is carried out by one that was connected all the time."""
        bridge, _ = await self.started_bridge()
        await self.set(b"v")
        self.note_flush(bridge, 1000)
        await bridge.elapse(1001)
        self.assertIsNone(await self.get())

    async def test_flush_during_a_flush(self) -> None:
        """A flush that is asked for while another is carried out happens as well."""
        bridge, admin = await self.started_bridge()
        unlink_all, going_on = admin._unlink_all, Deferred[None]()
        begun = []

        async def slowly(*_: object) -> None:
            begun.append(True)
            await going_on
            await unlink_all()

        admin._unlink_all = slowly
        self.note_flush(bridge, 1)
        bridge.clock.advance(5)
        await eventually_in_reactor(lambda: begun)
        await bridge.storage.execute([Flush(3000)])
        noted = self.client.get(FLUSH_AT)
        going_on.callback(None)
        await eventually_in_reactor(lambda: not admin._lease)
        self.assertEqual(self.client.get(FLUSH_AT), noted)
        await self.set(b"v")
        await bridge.elapse(3000)
        self.assertIsNone(await self.get())

    async def test_flush_that_fails(self) -> None:
        """It is tried again, with nothing else happening, and said once."""
        lines = self.logged()
        bridge, admin = await self.started_bridge()
        unlink_all = admin._unlink_all

        async def fail(*_: object) -> None:
            admin._unlink_all = unlink_all
            raise BackendError(ErrorKind.REFUSED, "storage answered BUSY")

        admin._unlink_all = fail
        await self.set(b"v")
        self.note_flush(bridge, 1)
        bridge.clock.advance(5)
        await eventually_in_reactor(lambda: admin._unlink_all != fail and not admin._under_way)
        await bridge.elapse(11)
        self.assertIsNone(await self.get())
        said = [line for line in lines if "cannot be carried out: storage answered BUSY" in line]
        self.assertEqual(len(said), 1)

    async def test_flush_that_one_cannot_do(self) -> None:
        """Who fails at one again and again does not keep it from who can carry it out."""
        first, admin = await self.started_bridge()
        second, _ = await self.started_bridge()
        failures = []

        async def fail(*_: object) -> None:
            failures.append(True)
            raise BackendError(ErrorKind.REFUSED, "storage answered NOPERM")

        admin._unlink_all = fail
        await self.set(b"v")
        self.note_flush(first, 1)
        first.clock.advance(5)
        await eventually_in_reactor(lambda: failures and not admin._under_way)
        for _ in range(4):
            second.clock.advance(6)
            for _ in range(5):
                await second.storage.execute([Get([b"k"])])
            first.clock.advance(4)  # so that it never looks just when its own lease ends
            for _ in range(5):
                await first.storage.execute([Get([b"k"])])
        self.assertIsNone(await self.get())

    async def test_long_flush(self) -> None:
        """What one bridge is at is done by another only once the first is gone."""
        first, admin = await self.started_bridge()
        second, _ = await self.started_bridge()
        await self.set(b"v")

        async def forever(*_: object) -> None:
            await Deferred[None]()

        admin._unlink_all = forever
        self.note_flush(first, 1)
        first.clock.advance(5)
        await eventually_in_reactor(lambda: admin._lease)
        second.clock.advance(5)
        for _ in range(5):
            lease = self.client.get(FLUSH_AT)
            first.clock.advance(5)
            await eventually_in_reactor(lambda lease=lease: self.client.get(FLUSH_AT) != lease)  # type: ignore[misc]
            second.clock.advance(5)
            for _ in range(3):  # one round trip more than a flush would take
                await second.storage.execute([Get([b"k"])])
            self.assertEqual(await self.value(), b"v")
        await second.elapse(15)
        self.assertIsNone(await self.get())
