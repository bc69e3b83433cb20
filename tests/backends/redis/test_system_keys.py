"""What makes no sense at RedCouch's own keys in Redis is passed over, and told once."""

from __future__ import annotations

from dataclasses import replace
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
        self.began = self.clock()
        await self.keep("10.0.0.1", 5)

    def clock(self) -> float:
        """What Redis has for the time."""
        seconds, micros = self.client.time()
        return float(seconds) + micros / 1e6

    async def keep(self, client: str, seconds: int, clock: int = 1000) -> None:
        """Somebody was seen just now by a clock that differs."""
        await self.store.keep_traffic(
            [UsageSample("client", client.encode(), clock, seconds)], clock
        )

    def assert_now(self, moment: float) -> None:
        """Check that it is one of this test."""
        self.assertTrue(self.began - 1 <= moment <= self.clock() + 1)

    def told(self) -> list[str]:
        return [line for line in self.lines if "makes no sense" in line]

    async def test_as_it_is(self) -> None:
        """What was kept comes back, by the clock of Redis, and nothing is told."""
        inventory = await self.store.traffic()
        self.assert_now(inventory.since)
        self.assertEqual((inventory.looked, inventory.gap), (inventory.since, None))
        (seen,) = inventory.seen
        self.assertEqual((seen.kind, seen.name, seen.seconds), ("client", b"10.0.0.1", 5))
        self.assert_now(seen.last)
        self.assertEqual(self.told(), [])

    async def test_goes_on(self) -> None:
        """A process that notes again and again has watched since its first note."""
        first = (await self.store.traffic()).since
        await eventually_in_reactor(lambda: self.clock() > first + 0.1)
        await self.keep("10.0.0.1", 1)
        inventory = await self.store.traffic()
        self.assertEqual((inventory.since, inventory.gap), (first, None))
        self.assertGreater(inventory.looked, first)

    async def test_late_note(self) -> None:
        """What a process could not write down in time hides nothing that was seen since."""
        late = UsageSample("client", b"10.0.0.1", 1000 - 7200, 2)
        await self.store.keep_traffic([late, replace(late, name=b"10.0.0.2")], 1000)
        first, second = (await self.store.traffic()).seen
        self.assertEqual((first.name, first.seconds), (b"10.0.0.1", 7))
        self.assert_now(first.last)
        self.assert_now(second.last + 7200)

    async def test_from_a_clock_ahead(self) -> None:
        """Nothing is later than now; a clock that was set back hides nobody."""
        self.client.hset(f"{ROOT}:client", "10.0.0.1", int(self.clock()) + 3600)
        await self.keep("10.0.0.1", 1)
        (seen,) = (await self.store.traffic()).seen
        self.assert_now(seen.last)

    async def test_lapse(self) -> None:
        """One that has noted nothing for too long begins anew; when it did not watch is known."""
        ((process, _),) = self.client.hgetall(ROOT).items()
        self.client.hset(ROOT, process, "1000 2000")
        await self.keep("10.0.0.1", 1)
        inventory = await self.store.traffic()
        self.assertEqual(inventory.gap, (2.0, inventory.since))
        self.assertEqual(inventory.since, inventory.looked)

    async def test_clock_set_back(self) -> None:
        """What a clock says that was ahead does not count as watched."""
        ahead = int(self.clock() * 1000) + 3_600_000
        ((process, _),) = self.client.hgetall(ROOT).items()
        self.client.hset(ROOT, process, f"1000 {ahead}")
        await self.keep("10.0.0.1", 1)
        self.assert_now((await self.store.traffic()).since)

    async def test_lost_record(self) -> None:
        """Where the record of clients was lost, it tells since when there is one again."""
        self.client.delete(f"{ROOT}:client")
        await self.keep("10.0.0.2", 1)
        inventory = await self.store.traffic()
        self.assertGreaterEqual(inventory.recorded["client"], inventory.since)
        self.assertEqual([one.name for one in inventory.seen], [b"10.0.0.2"])

    async def test_senseless_watch(self) -> None:
        """Where nothing makes sense, nobody has looked, and nobody concludes anything."""
        ((process, _),) = self.client.hgetall(ROOT).items()
        for senseless in ("abc", "", "-1", "1.5 2", "nan", "9" * 400, "1 2 3", "\xff"):
            self.client.hset(ROOT, process, senseless)
            inventory = await self.store.traffic()
            self.assertEqual((inventory.since, inventory.looked), (None, None))
        self.assertEqual(len(self.told()), 1)
        await self.keep("10.0.0.1", 1)
        self.assertIsNotNone((await self.store.traffic()).since)

    async def test_earlier_fields(self) -> None:
        """What an earlier RedCouch has left says nothing, and is not told."""
        self.client.hset(ROOT, mapping={"since": "5", "looked": "9"})
        inventory = await self.store.traffic()
        self.assert_now(inventory.since)
        self.assertEqual(self.told(), [])

    async def test_names_without_sense(self) -> None:
        """A client that was seen nobody knows when may have been there just now."""
        self.client.hset(f"{ROOT}:client", "10.0.0.2", "yesterday")
        self.client.hset(f"{ROOT}:client:seconds", "10.0.0.1", "many")
        for _ in range(3):
            inventory = await self.store.traffic()
            seen = {one.name: one.seconds for one in inventory.seen}
            self.assertEqual(seen, {b"10.0.0.1": 0, b"10.0.0.2": 0})
            for one in inventory.seen:
                self.assert_now(one.last)
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
        await self.keep("10.0.0.1", 1)
        left = self.client.hgetall(f"{ROOT}:client")
        self.assertEqual(len(left), 802)
        self.assertIn(b"10.0.0.1", left)
        self.assertIn("client", (await self.store.traffic()).recorded)

    async def test_too_many_processes(self) -> None:
        """Of very many that have watched, those of long ago go."""
        self.client.hset(ROOT, mapping={f"n{one}": f"{one} {one}" for one in range(1100)})
        await self.keep("10.0.0.1", 1)
        self.assertEqual(self.client.hlen(ROOT), 800)
        self.assert_now((await self.store.traffic()).since)


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
