"""Who may use Redis, and what is said when it lets nobody in."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlsplit

from redcouch.commands import (
    Command,
    Dump,
    Flush,
    Store,
    StoreMode,
)
from redcouch.errors import BackendError
from redcouch.results import ErrorKind, Failed, Stored
from tests.backends.redis.access import (
    BASICS,
    EVERYTHING,
    FIGURES,
    FLUSHING,
    KEYS,
    OTHERS,
    STANDING,
)
from tests.backends.redis.case import SharedRedisCase
from tests.support.polling import eventually_in_reactor

QUIETLY_NEEDED = {
    "+hlen",  # a set that is refused for lack of memory
    "+get",  # a delayed flush: it does not happen otherwise
}
"""What fails no command when it is missing."""


class AccessTests(SharedRedisCase):
    """Redis 7.0; the versions below run the same tests."""

    connects = False

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.addCleanup(self.client.execute_command, "ACL", "DELUSER", "couch")
        self.address = urlsplit(self.url).netloc

    def allow(self, *rules: str) -> None:
        """Make the user anew, with these permissions."""
        self.client.execute_command("ACL", "DELUSER", "couch")
        words = " ".join((KEYS, *rules)).split()
        self.client.execute_command("ACL", "SETUSER", "couch", "on", ">pass word", *words)

    async def enter(self, database: int = 0) -> None:
        """Come in as that user, with time for a busy machine."""
        await self.connect(f"redis://couch:pass%20word@{self.address}/{database}?timeout=60")

    async def failures(self) -> list[tuple[Command, Failed]]:
        """What fails of everything."""
        self.client.flushall()
        self.client.hset("rc:native", "v", "31")
        failures = []
        for command in EVERYTHING:
            result = await self.do(command)
            for part in result if isinstance(result, list) else [result]:
                if isinstance(part, Failed):
                    failures.append((command, part))
        return failures

    async def test_least_permissions(self) -> None:
        """A user who may do no more than this can use everything."""
        self.allow(BASICS, STANDING, FLUSHING, FIGURES, OTHERS)
        await self.enter(database=1)
        self.assertEqual(await self.failures(), [])
        self.assertIn("curr_items", await self.storage.statistics())

    async def test_plain_use(self) -> None:
        """Without flush_all, dumps and stats it takes a little less."""
        self.allow(BASICS)
        await self.enter()
        self.assertIsInstance(await self.do(Store(StoreMode.SET, b"k", b"v")), Stored)
        self.assertEqual(await self.value(), b"v")
        for command, failure in await self.failures():
            self.assertIsInstance(command, Flush | Dump)
            self.assertEqual(failure.message, "storage answered NOPERM")

    async def test_within_a_script(self) -> None:
        """What a script may not do is named as what a command may not."""
        for left_out in ("+hset", "+hdel", "+persist"):
            self.allow(*(rule for rule in BASICS.split() if rule != left_out))
            await self.enter()
            failed = await self.do(Store(StoreMode.SET, b"k", b"v"))
            assert isinstance(failed, Failed)
            self.assertEqual(failed.message, "storage answered NOPERM")

    async def test_probe(self) -> None:
        """Who may do no more than it takes is probed well, and each part of it is looked for."""
        self.allow(BASICS)
        await self.enter()
        probing: Any = self.storage
        await probing.probe_writes()
        self.assertEqual(self.client.keys(), [])
        self.client.set("redcouch:sys:cas_counter", 5)
        for left_out in {*BASICS.split()} - {"+script|load", "+eval", "+multi", "+exec"}:
            self.client.execute_command("ACL", "SETUSER", "couch", left_out.replace("+", "-"))
            with self.assertRaisesRegex(BackendError, "NOPERM|allow INCR"):
                await probing.probe_writes()
            self.assertEqual(self.client.keys(), [b"redcouch:sys:cas_counter"], left_out)
            self.client.execute_command("ACL", "SETUSER", "couch", left_out)

    async def test_probe_among_native_keys(self) -> None:
        """Who may use some keys of plain strings alone is probed well: clients may use these."""
        self.allow(BASICS, "+mget +strlen +get +set", "resetkeys ~session:* ~redcouch:sys:*")
        await self.connect(f"redis://couch:pass%20word@{self.address}?layout=string&timeout=60")
        await self.set(b"v", b"session:1")
        probing: Any = self.storage
        before = self.client.keys()
        await probing.probe_writes()
        self.assertCountEqual(self.client.keys(), before)
        self.client.execute_command("ACL", "SETUSER", "couch", "-incr")
        with self.assertRaisesRegex(BackendError, "allow INCR"):
            await probing.probe_writes()

    async def test_each_permission_is_needed(self) -> None:
        """The rule has nothing in it that could be left out."""
        every = f"{BASICS} {FLUSHING}".split()
        spare = set()
        for left_out in every:
            self.allow(*(rule for rule in every if rule != left_out))
            await self.enter()
            with contextlib.suppress(BackendError):  # not even a connection
                if not await self.failures():
                    spare.add(left_out)
        self.assertEqual(spare, QUIETLY_NEEDED)

    async def test_keys_outside(self) -> None:
        """Items under a prefix that the user may not use fail, one by one, and clearly."""
        self.allow(BASICS, FLUSHING)
        await self.connect(f"redis://couch:pass%20word@{self.address}?prefix=other:")
        self.assert_failed(await self.do(Store(StoreMode.SET, b"k", b"v")), ErrorKind.REFUSED)
        self.assert_failed(await self.get(), ErrorKind.REFUSED)
        self.assertEqual(self.client.keys("other:*"), [])

    async def refused(self, url: str, words: str, told: int = 1) -> None:
        """Check that nobody gets in, and that it is said why, without the password."""
        lines = self.logged()
        await self.connect(url)
        for _ in range(3):
            with self.assertRaisesRegex(Exception, "storage not reachable"):
                await self.get()
        health = self.storage.health()
        self.assertFalse(health.ready)
        self.assertRegex(health.reason, words)
        self.assertNotIn("SECRET", health.reason)
        self.assertEqual([line for line in lines if "SECRET" in line], [])
        complaints = [line for line in lines if "Cannot reach Redis" in line]
        self.assertEqual(len(complaints), told)
        self.assertRegex(complaints[0], words)

    async def test_wrong_password(self) -> None:
        """A wrong password is named as the reason; once it is right, service begins."""
        self.allow(BASICS, FLUSHING)
        await self.refused(f"redis://couch:SECRET@{self.address}", "WRONGPASS")
        self.client.execute_command("ACL", "SETUSER", "couch", ">SECRET")
        await eventually_in_reactor(lambda: self.storage.health().ready)
        await self.set(b"v")

    async def test_no_such_user(self) -> None:
        """So is a user whom Redis does not know."""
        await self.refused(f"redis://nobody:SECRET@{self.address}", "WRONGPASS")

    async def test_user_may_not_load_scripts(self) -> None:
        """So is a user who may not do what every connection needs."""
        self.allow("+get")
        self.client.execute_command("ACL", "SETUSER", "couch", ">SECRET")
        await self.refused(f"redis://couch:SECRET@{self.address}", "NOPERM|no permissions")

    async def test_wrong_database(self) -> None:
        """So is a database number that Redis does not have."""
        await self.refused(f"redis://{self.address}/4711", "DB index is out of range")

    async def test_password_is_required(self) -> None:
        """So is a password that was not given, and it may be given to Redis' default user."""
        server = self.start_redis("--requirepass", "SECRET", version=self.version)
        await self.refused(server.url, "NOAUTH")
        await self.connect(f"redis://:SECRET@127.0.0.1:{server.port}")
        await self.set(b"v")

    async def test_password_is_changed(self) -> None:
        """A user who is thrown out gets errors at once, and is told why."""
        self.allow(BASICS, FLUSHING)
        await self.enter()
        await self.set(b"v")
        self.client.execute_command("ACL", "DELUSER", "couch")
        await eventually_in_reactor(lambda: not self.storage.health().ready)
        await eventually_in_reactor(lambda: "WRONGPASS" in self.storage.health().reason)
        self.allow(BASICS, FLUSHING)
        await eventually_in_reactor(lambda: self.storage.health().ready)
        self.assertEqual(await self.value(), b"v")


class AccessTests62(AccessTests):
    """The same on Redis 6.2."""

    version = "6.2"


class AccessTests82(AccessTests):
    """The same on Redis 8.2."""

    version = "8.2"
