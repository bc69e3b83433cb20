"""The cache over a real Redis, of each version."""

from __future__ import annotations

import pytest

from redcouch.commands import Delete, Get, MetaGet, Store, StoreMode
from redcouch.telemetry.usage import UsageSample
from tests.backends.redis.access import BASICS, FIGURES, FLUSHING, KEYS, STANDING
from tests.backends.redis.case import SharedRedisCase
from tests.support.polling import eventually_in_reactor
from tests.support.results import named

pytestmark = pytest.mark.everywhere


class CachedTests(SharedRedisCase):
    """What clients see, and what is counted."""

    version = "7.0"
    parameters = "cache=1m"
    rights = ""
    connects = False

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.start_cached(f"{self.url}?{self.parameters}")

    async def start_cached(self, url: str) -> None:
        """Make a storage with a cache, and wait until it is connected."""
        await self.connect(url)
        await eventually_in_reactor(lambda: self.storage.health().ready)

    async def read(self, *keys: bytes) -> list[bytes | None]:
        """Values, as a plain get reads them."""
        (found,) = named(await self.storage.execute([Get(keys)]))
        return [item and item.value for item in found]

    async def assert_hit(self, *keys: bytes, values: list[bytes]) -> None:
        """
        Check that these are answered from memory, after they were read a few times: a
        connection may still be made, and what is told of a set comes behind its reply.
        """
        for _ in range(100):
            before = self.counts["cache_hits"]
            self.assertEqual(await self.read(*keys), values)
            if self.counts["cache_hits"] == before + len(keys):
                return
        self.fail("not kept")

    async def test_hits(self) -> None:
        """What has been read is answered from memory, small and large, until it changes."""
        for value in (b"v", b"x" * 20_000, b""):
            await self.set(value, b"a", flags=7)
            await self.set(b"w", b"b", exptime=100)
            await self.assert_hit(b"a", b"b", values=[value, b"w"])
            (found,) = named(await self.storage.execute([Get([b"a"])]))
            self.assertEqual(found[0].flags, 7)

    async def test_all_who_write(self) -> None:
        """A change is seen at once, whoever makes it and how."""
        write = self.client
        side = f"{self.url}?{self.parameters.replace('cache=1m', 'timeout=30')}"
        for change, after in (
            (lambda: write.delete("rc:k"), None),
            (lambda: write.rename("rc:k", "rc:other"), None),
            (lambda: write.expire("rc:k", 0), None),
            (lambda: write.flushdb(), None),
            (lambda: write.flushall(), None),
        ):
            await self.set(b"v")
            await self.assert_hit(b"k", values=[b"v"])
            change()
            self.assertEqual(await self.read(b"k"), [after])
        cached = self.storage
        other = await self.connect(side)
        await eventually_in_reactor(lambda: other.health().ready)
        for number in range(20):
            value = b"%d" % number
            await other.execute([Store(StoreMode.SET, b"k", value)])
            self.storage = cached
            self.assertEqual(await self.read(b"k"), [value])
            self.assertEqual(await self.read(b"k"), [value])

    async def test_own_writes(self) -> None:
        """A client's get behind its change sees it, in one batch and in the next."""
        await self.set(b"v")
        await self.assert_hit(b"k", values=[b"v"])
        for number in range(20):
            value = b"%d" % number
            batch = [Store(StoreMode.SET, b"k", value), Get([b"k"]), Delete(b"other")]
            self.assertEqual((await self.all(*batch))[1][0].value, value)
            self.assertEqual(await self.read(b"k"), [value])
        await self.do(Delete(b"k"))
        self.assertEqual(await self.read(b"k"), [None])

    async def test_expiry(self) -> None:
        """What has expired in Redis is not read, however often it was."""
        for _ in range(20):  # the machine may stand still for as long as it lives
            if await self.expires():
                return
        self.fail("not kept")

    async def expires(self) -> bool:
        """Let one item; whether it was answered from memory before."""
        await self.set(b"v", exptime=100)
        self.client.pexpire(self.name(b"k"), 300)
        before = self.counts["cache_hits"]
        while self.client.exists(self.name(b"k")):
            await self.read(b"k")
        self.assertEqual(await self.read(b"k"), [None])
        return bool(self.counts["cache_hits"] > before)

    def name(self, key: bytes) -> bytes:
        """The key in Redis."""
        return b"rc:" + key

    async def test_all_that_is_kept_beside(self) -> None:
        """What reads hashes and figures understands a connection of this kind."""
        assert hasattr(self.storage, "keep_traffic")
        await self.storage.keep_traffic([UsageSample("user", b"somebody", 5, 1)], 5)
        inventory = await self.storage.traffic()  # type: ignore[attr-defined]
        self.assertEqual([one.name for one in inventory.seen], [b"somebody"])
        statistics = await self.storage.statistics()
        self.assertGreater(statistics["bytes"], 0)
        facts = await self.storage.describe()  # type: ignore[attr-defined]
        self.assertEqual(facts["role"], "master")
        await self.set(b"v")
        self.assertEqual((await self.do(MetaGet(b"k", metadata=True))).value, b"v")

    async def test_connection_lost(self) -> None:
        """The table ends with its connection."""
        await self.set(b"v")
        await self.assert_hit(b"k", values=[b"v"])
        self.client.client_kill_filter(_type="normal", skipme=True)
        await eventually_in_reactor(lambda: self.counts["cache_bytes"] == 0)
        await eventually_in_reactor(lambda: self.storage.health().ready)
        await self.assert_hit(b"k", values=[b"v"])

    async def test_access(self) -> None:
        """A user of Redis needs three rights more; without them Redis answers all itself."""
        rights = f"on nopass {KEYS} {BASICS} {STANDING} {FLUSHING} {FIGURES} {self.rights}"
        lines = self.logged()
        more = "+client|tracking +touch +ping"
        for missing in ("", *more.split()):
            words = " ".join(word for word in more.split() if word != missing)
            self.client.execute_command(
                "ACL", "SETUSER", "bridge", "reset", *rights.split(), *words.split()
            )
            url = self.url.replace("redis://", "redis://bridge:x@")
            await self.start_cached(f"{url}?{self.parameters}")
            await self.set(b"v")
            if missing:
                self.assertEqual(await self.read(b"k"), [b"v"])
                self.assertEqual(await self.read(b"k"), [b"v"])
                self.assertEqual(self.counts["cache_hits"], 0)
                self.assertTrue(any("cannot be cached" in line for line in lines), missing)
            else:
                await self.assert_hit(b"k", values=[b"v"])
            lines.clear()
            await self.stop(self.storage)
        self.client.execute_command("ACL", "DELUSER", "bridge")


class Redis62CachedTests(CachedTests):
    version = "6.2"


class Redis82CachedTests(CachedTests):
    version = "8.2"


class CachedStringTests(CachedTests):
    """The same with plain strings."""

    parameters = "cache=1m&layout=string&prefix=rc:"
    rights = "+mget +strlen +get +set"
