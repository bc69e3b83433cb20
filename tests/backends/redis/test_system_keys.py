"""What makes no sense at RedCouch's own keys in Redis is passed over, and told once."""

from __future__ import annotations

from typing import Any

from redcouch.backends.redis.usage_store import SYSTEM_KEYS
from redcouch.commands import Get
from redcouch.interfaces import ITrafficBackend
from redcouch.telemetry.usage import UsageSample
from tests.backends.redis.case import SharedRedisCase
from tests.support.polling import eventually_in_reactor

ROOT = "redcouch:sys:traffic"


class InventoryTests(SharedRedisCase):
    """The inventory of who speaks memcached."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.lines = self.logged()
        assert ITrafficBackend.providedBy(self.storage)
        self.store: Any = self.storage
        await self.store.keep_traffic([UsageSample("client", b"10.0.0.1", 1000, 5)], 1000)

    def told(self) -> list[str]:
        return [line for line in self.lines if "makes no sense" in line]

    async def test_as_it_is(self) -> None:
        """What was kept comes back, and nothing is told."""
        inventory = await self.store.traffic()
        self.assertEqual((inventory.since, inventory.looked), (1000, 1000))
        self.assertEqual(inventory.seen, [UsageSample("client", b"10.0.0.1", 1000, 5)])
        self.assertEqual(self.told(), [])

    async def test_without_a_last_look(self) -> None:
        """Without C{looked}, the last look was the first."""
        self.client.hdel(ROOT, "looked")
        inventory = await self.store.traffic()
        self.assertEqual((inventory.since, inventory.looked), (1000, 1000))

    async def test_without_a_first_look(self) -> None:
        """Without C{since} nobody has looked, so that nobody concludes anything from silence."""
        for senseless in ("abc", "", "-1", "1.5", "nan", "9" * 400, "\xff"):
            self.client.hset(ROOT, "since", senseless)
            inventory = await self.store.traffic()
            self.assertEqual((inventory.since, inventory.looked), (None, None))
        self.client.hdel(ROOT, "since")
        self.assertIsNone((await self.store.traffic()).since)
        self.assertEqual(len(self.told()), 1)

    async def test_names_without_sense(self) -> None:
        """A client that was seen nobody knows when may have been there just now."""
        self.client.hset(f"{ROOT}:client", "10.0.0.2", "yesterday")
        self.client.hset(f"{ROOT}:client:seconds", "10.0.0.1", "many")
        for _ in range(3):
            inventory = await self.store.traffic()
            seen = {one.name: (one.last, one.seconds) for one in inventory.seen}
            self.assertEqual(seen, {b"10.0.0.1": (1000, 0), b"10.0.0.2": (1000, 0)})
        self.assertEqual(len(self.told()), 2)

    async def test_other_types(self) -> None:
        """Keys of other types are passed over, each told once."""
        for key in SYSTEM_KEYS:
            self.client.delete(key)
            self.client.set(key, "x")
        for _ in range(3):
            inventory = await self.store.traffic()
            self.assertEqual((inventory.since, inventory.looked, inventory.seen), (None, None, []))
        self.assertEqual(len(self.told()), len(SYSTEM_KEYS))

    async def test_too_many_without_sense(self) -> None:
        """When names have to go, those without sense go first."""
        self.client.hset(f"{ROOT}:client", mapping={f"n{one}": "x" for one in range(1100)})
        await self.store.keep_traffic([UsageSample("client", b"10.0.0.1", 2000, 1)], 2000)
        left = self.client.hgetall(f"{ROOT}:client")
        self.assertEqual(len(left), 800)
        self.assertEqual(left[b"10.0.0.1"], b"2000")


class FlushTests(SharedRedisCase):
    """When a delayed flush is due."""

    connects = False

    async def told(self, lines: list[str]) -> None:
        """Wait until something is said about it."""
        await eventually_in_reactor(lambda: [one for one in lines if "flush_all" in one])

    async def test_no_time(self) -> None:
        """A flush that is due at no time is not done, and told once."""
        for senseless in (b"nan", b"inf", b"-inf", b"0x10", b"abc", b"", b"-5", b"1e3", b"\xff"):
            self.client.flushall()
            self.client.hset("rc:k", "v", "76")
            self.client.set("redcouch:sys:flush_at:rc:", senseless)
            lines = self.logged()
            await self.connect(self.url)
            await self.told(lines)
            self.assertEqual(await self.value(), b"v")
            self.assertEqual(self.client.get("redcouch:sys:flush_at:rc:"), senseless)
            self.assertEqual(len([one for one in lines if "flush_all" in one]), 1)

    async def test_another_type(self) -> None:
        """Nor is one whose key is of another type."""
        self.client.hset("rc:k", "v", "76")
        self.client.rpush("redcouch:sys:flush_at:rc:", "0")
        lines = self.logged()
        await self.connect(self.url)
        await self.told(lines)
        self.assertIsNotNone((await self.do(Get([b"k"])))[0])
