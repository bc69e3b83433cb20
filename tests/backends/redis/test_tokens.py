"""CAS tokens: where they begin, that none comes twice, and what a broken counter harms."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from redcouch.commands import (
    Arithmetic,
    Command,
    Dump,
    Flush,
    GetAndTouch,
    Inspect,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from redcouch.interfaces import IStorageBackend
from redcouch.results import ErrorKind, Failed, Item, MetaItem, Outcome, Stored
from tests.backends.redis.case import SharedRedisCase
from tests.support.polling import PATIENCE, eventually_in_reactor

COUNTER = "redcouch:sys:cas_counter"

LARGE = b"v" * 10_000
"""A value that is stored by a transaction."""


class TokensCase(SharedRedisCase):
    """
    Redis 7.0 and hashes; what is below runs the same tests with others. Where tokens begin
    depends on how many keys can be looked at within the timeout: here, any number.
    """

    connects = False
    parameters: ClassVar[str] = ""

    async def begin(self) -> IStorageBackend:
        """A service that comes to Redis as it is now."""
        further = self.parameters and f"&{self.parameters}"
        return await self.connect(f"{self.url}?timeout={PATIENCE:g}{further}")

    def fill(self, many: int) -> None:
        """Foreign keys of several types, none of which is an item."""
        with self.client.pipeline(transaction=False) as pipe:
            for number in range(many):
                match number % 4:
                    case 0:
                        pipe.hset(f"user:{number}", mapping={"name": "x", "age": "1"})
                    case 1:
                        pipe.rpush(f"queue:{number}", "v")
                    case 2:
                        pipe.sadd(f"set:{number}", "r")
                    case _:
                        pipe.zadd(f"scores:{number}", {"c": 1})
            pipe.execute()


class TokenTests(TokensCase):
    """What is alike in both layouts."""

    async def test_from_one(self) -> None:
        """The first token of an empty Redis is 1, the next one 2, as in memcached."""
        await self.begin()
        self.assertEqual([await self.set(b"v"), await self.set(LARGE, b"l")], [1, 2])

    async def test_beside_foreign_keys(self) -> None:
        """So it is beside foreign keys, few or many."""
        for many in (10, 900, 5_000):
            self.client.flushall()
            self.fill(many)
            await self.begin()
            self.assertEqual([await self.set(b"v"), await self.set(b"v")], [1, 2])

    async def test_emptied(self) -> None:
        """After FLUSHALL under a running service tokens count from 1, after C{flush_all} on."""
        await self.begin()
        for _ in range(3):
            await self.set(b"v")
        if not self.parameters or "prefix" in self.parameters:
            self.assertIs(await self.do(Flush()), Outcome.OK)
            self.assertEqual(await self.set(b"v"), 4)
        self.client.flushall()
        self.assertEqual(await self.set(b"v"), 1)

    async def test_lost_while_items_live(self) -> None:
        """A counter that is lost, by whatever way, gives no token twice."""
        await self.begin()
        given = [await self.set(b"v", b"%d" % number) for number in range(20)]
        for lose in (
            lambda: self.client.delete(COUNTER),
            lambda: self.client.set(COUNTER, 0),
            lambda: self.client.set(COUNTER, -1),
            lambda: self.client.set(COUNTER, -5),
            lambda: self.client.delete(COUNTER),
        ):
            for value in (b"other", LARGE):
                lose()
                given += [await self.set(value), await self.set(value, b"other")]
        self.assertEqual(len(set(given)), len(given))

    async def test_lost_while_one_item_lives(self) -> None:
        """One item among many foreign keys is enough, also for a service that comes later."""
        await self.begin()
        token = await self.set(b"v", b"one")
        self.fill(5_000)
        self.client.delete(COUNTER)
        await self.begin()
        self.assertGreater(await self.set(b"v"), token + 1)

    async def test_shared(self) -> None:
        """Services with other prefixes count on: a counter lost while one has items is lost."""
        await self.begin()
        token = await self.set(b"v")
        self.client.delete(COUNTER)
        await self.connect(f"{self.url}?timeout={PATIENCE:g}&prefix=other:")
        self.assertGreater(await self.set(b"v"), token + 1)

    async def test_many_begin_together(self) -> None:
        """Services that come at the same time to a new Redis count together from 1."""
        self.fill(3_000)
        one, two = await self.begin(), await self.begin()
        tokens = []
        for self.storage in (one, two, one):
            tokens.append(await self.set(b"v"))
        self.assertEqual(tokens, [1, 2, 3])

    async def test_exact(self) -> None:
        """Past 2^53, where a double knows no odd numbers, tokens differ by one as before."""
        await self.begin()
        await self.set(b"v")
        for start in (2**32 - 2, 2**53 - 2, 2**53 + 1, 2**62, 2**63 - 10):
            self.client.set(COUNTER, start)
            tokens = [await self.set(b"v"), await self.set(LARGE)]
            tokens.append((await self.do(Store(StoreMode.REPLACE, b"k", b"5"))).cas)
            tokens.append((await self.do(Arithmetic(b"k", 1))).cas)
            tokens.append((await self.do(Store(StoreMode.APPEND, b"k", b"0"))).cas)
            self.assertEqual(tokens, list(range(start + 1, start + 6)))
            self.assertEqual(await self.get(), Item(b"60", 0, start + 5))
            late = Store(StoreMode.SET, b"k", b"late", compare=start + 4)
            self.assertIs(await self.do(late), Outcome.EXISTS)
            now = Store(StoreMode.SET, b"k", b"now", compare=start + 5)
            self.assertEqual(await self.do(now), Stored(start + 6))

    def contents(self) -> dict[bytes, object]:
        """All that is in Redis, but for the counter."""
        read: dict[object, Any] = {b"hash": self.client.hgetall, b"string": self.client.get}
        keys = [key for key in self.client.scan_iter() if key != COUNTER.encode()]
        return {key: read[self.client.type(key)](key) for key in keys}

    async def broken(self, words: str) -> None:
        """Check that no item is lost to a counter that is of no use, and what is said."""
        writes: list[Command] = [
            Store(StoreMode.SET, b"k", b"new"),
            Store(StoreMode.SET, b"k", LARGE),
            Store(StoreMode.ADD, b"none", b"new"),
            Store(StoreMode.SET, b"none", LARGE),
            Store(StoreMode.SET, b"none", b"new"),
            Store(StoreMode.REPLACE, b"k", b"new"),
            Store(StoreMode.APPEND, b"k", b"new"),
            Arithmetic(b"k", 1),
            Arithmetic(b"none", 1, initial=5),
            Store(StoreMode.SET, b"k", b"new", compare=(await self.item()).cas),
            MetaGet(b"none", vivify=50),
        ]
        before = await self.item()
        left = self.contents()
        for command in writes:
            said = await self.do(command)
            self.assert_failed(said, ErrorKind.REFUSED)
            self.assertRegex(said.message, f"{COUNTER} .*{words}")
        self.assertEqual(self.contents(), left)
        self.assertEqual(await self.get(), before)
        marked = await self.do(MetaGet(b"k", metadata=True))
        self.assertEqual((marked.value, marked.cas), (before.value, before.cas))
        self.assertNotIsInstance(await self.do(Touch(b"k", 500)), Failed)

    async def test_broken_counter(self) -> None:
        """A counter that cannot count is named, with what to do, and nothing else is lost."""
        await self.begin()
        await self.set(b"7", flags=3, exptime=900)
        for breaking, words in (
            (lambda: self.client.set(COUNTER, "abc"), "no number: delete it"),
            (lambda: self.client.set(COUNTER, ""), "no number: delete it"),
            (lambda: self.client.set(COUNTER, "1.5"), "no number: delete it"),
            (lambda: self.client.rpush(COUNTER, "x"), "another type: delete it"),
            (lambda: self.client.hset(COUNTER, "x", "1"), "another type: delete it"),
            (lambda: self.client.set(COUNTER, 2**63 - 1), "at its end: delete it"),
        ):
            self.client.delete(COUNTER)
            breaking()
            await self.broken(words)
        self.client.delete(COUNTER)
        self.assertGreater(await self.set(b"mended"), 20)

    async def test_counter_that_may_not_be_counted(self) -> None:
        """The same where the user may not count."""
        await self.begin()
        await self.set(b"7", flags=3, exptime=900)
        self.addCleanup(self.client.execute_command, "ACL", "DELUSER", "couch")
        self.client.execute_command(
            "ACL", "SETUSER", "couch", "reset", "on", ">secret", "~*", "+@all", "-incr"
        )
        address = urlsplit(self.url).netloc
        await self.connect(f"redis://couch:secret@{address}?{self.parameters}")
        await self.broken("cannot be counted up: allow INCR on it")


class TokenTests62(TokenTests):
    """The same on Redis 6.2."""

    version = "6.2"


class TokenTests82(TokenTests):
    """The same on Redis 8.2."""

    version = "8.2"


class TokenTestsRaw(TokenTests):
    """The same with values as they are."""

    parameters = "encoding=raw"


class TokenTestsOfStrings(TokenTests):
    """The same with items that are plain strings."""

    parameters = "layout=string"

    async def test_native_strings(self) -> None:
        """Strings that native clients wrote have no tokens, and are no reason not to begin at 1."""
        for number in range(2_000):
            self.client.set(f"native:{number}", "v")
        await self.begin()
        self.assertEqual((await self.item(b"native:0")).cas, 1)


class TokenTestsUnderAPrefix(TokenTestsOfStrings):
    """And under a prefix."""

    parameters = "layout=string&prefix=native:"

    async def test_native_strings(self) -> None:
        """See the original."""
        for number in range(2_000):
            self.client.set(f"native:{number}", "v")
        await self.begin()
        self.assertEqual((await self.item(b"0")).cas, 1)


class HashTests(TokensCase):
    """What only hashes have."""

    async def test_native_item(self) -> None:
        """An item whose token a native client has removed is an item: nothing begins anew."""
        await self.begin()
        token = await self.set(b"v")
        self.client.hdel("rc:k", "c")
        self.client.delete(COUNTER)
        self.assertGreater((await self.item()).cas, token)

    async def test_evicted(self) -> None:
        """Under a policy that evicts anything, no token comes twice, whatever goes."""
        server = self.start_redis("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random")
        client = self.native(server)
        await self.connect(server.url)
        given, lost = [], 0
        for number in range(3_000):
            given.append(await self.set(b"v" * 2_000, b"%d" % number))
            lost += not client.exists(COUNTER)
            if number > 500 and lost > 3:
                break
        self.assertEqual(len(set(given)), len(given))
        self.assertGreater(client.info("stats")["evicted_keys"], 0)


class UnreadableTests(TokensCase):
    """What a native client has left unreadable."""

    async def test_nothing_changes_before_an_error(self) -> None:
        """A command that cannot read flags or token has not touched the item."""
        await self.begin()
        for fields in (
            {"f": "abc"},
            {"f": str(2**32)},
            {"f": "-1"},
            {"f": "1.0"},
            {"c": "abc"},
            {"c": str(2**64)},
            {"c": ""},
            {"c": "-1"},
        ):
            self.client.delete("rc:k")
            self.client.hset("rc:k", mapping={"v": "31", "c": "5", "f": "0"})
            for name, value in fields.items():
                self.client.hset("rc:k", name, value)
            self.client.expire("rc:k", 1000)
            before = self.client.hgetall("rc:k")
            commands: list[Command] = [
                Touch(b"k", 9000),
                Touch(b"k", -1),
                MetaGet(b"k", touch=9000),
                MetaGet(b"k", touch=9000, value=False, metadata=True),
            ]
            for command in commands:
                self.assert_failed(await self.do(command), ErrorKind.UNREADABLE)
            (found,) = await self.do(GetAndTouch([b"k"], 9000))
            self.assert_failed(found, ErrorKind.UNREADABLE)
            self.assertEqual(self.client.hgetall("rc:k"), before)
            self.assertIn(self.client.ttl("rc:k"), range(900, 1001))

    async def test_nothing_changes_before_an_unreadable_value(self) -> None:
        """So it is where the value has been written as it is, and not in hex."""
        await self.begin()
        for value in ("abc", "zz", "plain text", "beef it"):
            self.client.delete("rc:k")
            self.client.hset("rc:k", mapping={"v": value, "s": "1"})
            self.client.expire("rc:k", 1000)
            before = self.client.hgetall("rc:k")
            for command in (
                MetaGet(b"k", touch=9000),
                MetaGet(b"k", recache=9000),
                MetaGet(b"k", metadata=True),
            ):
                self.assert_failed(await self.do(command), ErrorKind.UNREADABLE)
            (found,) = await self.do(GetAndTouch([b"k"], 9000))
            self.assert_failed(found, ErrorKind.UNREADABLE)
            self.assertEqual(self.client.hgetall("rc:k"), before)
            self.assertIn(self.client.ttl("rc:k"), range(900, 1001))
        self.client.hset("rc:k", "v", "616\n2")
        self.assertEqual((await self.do(MetaGet(b"k", touch=9000))).value, b"ab")

    async def test_no_flags(self) -> None:
        """Empty flags are no flags, for a listing too."""
        await self.begin()
        self.client.hset("rc:k", mapping={"v": "31", "f": "", "c": "00018446744073709551615"})
        (page,) = await self.all(Dump())
        for found in (await self.do(Touch(b"k", 9000)), await self.do(Inspect(b"k")), *page.items):
            self.assertEqual((found.flags, found.cas), (0, 2**64 - 1))


class LengthTests(TokensCase):
    """How long a value is, without reading it."""

    @pytest.mark.timeout(120)
    async def test_long_values(self) -> None:
        """C{mg k s} of 50 MiB that a native client wrote keeps Redis for no time at all."""
        size = 50 * 1024 * 1024
        server = self.start_redis("--slowlog-log-slower-than", "5000")
        client = self.native(server)
        for parameters, write in (
            ("", lambda: client.hset("rc:k", "v", b"61" * size)),
            ("", lambda: client.hset("rc:k", "r", b"a" * size)),
            ("&layout=string", lambda: client.set("k", b"a" * size)),
        ):
            client.flushall()
            write()
            await self.connect(f"{server.url}?timeout=60{parameters}")
            await self.do(MetaGet(b"none", value=False, metadata=True))
            for command in (
                MetaGet(b"k", value=False, metadata=True),
                MetaGet(b"k", value=False),
                MetaGet(b"k", value=False, touch=500),
                MetaGet(b"k", value=False, recache=30),
            ):
                for _ in range(20):  # Redis may lose the processor in the middle of one
                    client.slowlog_reset()
                    found = await self.do(command)
                    self.assertIsInstance(found, MetaItem)
                    self.assertEqual(found.size, size)
                    slow = [one["command"][:200] for one in client.slowlog_get()]
                    if not slow:
                        break
                self.assertEqual(slow, [])

    async def test_white_space(self) -> None:
        """Hex as C{xxd -p} prints it is measured without its line breaks, where it is short."""
        await self.begin()
        self.client.hset("rc:k", "v", "61" * 30 + "\n" + "61" * 10 + "\n")
        self.assertEqual((await self.do(MetaGet(b"k", value=False, metadata=True))).size, 40)
        self.assertEqual((await self.do(MetaGet(b"k", value=True, metadata=True))).size, 40)


class ReplicaTests(TokensCase):
    """What reads leave behind, where nothing can be written."""

    async def test_marks_are_left_out(self) -> None:
        """Reads that would note something go on, on a replica and without memory."""
        server = self.start_redis()
        client = self.native(server)
        await self.connect(server.url)
        await self.set(b"v", b"a", exptime=25)
        client.hset("rc:b", mapping={"v": "76", "s": "1"})
        for begin, end in (
            (lambda: client.replicaof("127.0.0.1", 1), lambda: client.replicaof("NO", "ONE")),
            (
                lambda: client.config_set("maxmemory", 1),
                lambda: client.config_set("maxmemory", 0),
            ),
        ):
            begin()
            for key in (b"a", b"b"):
                found = await self.do(MetaGet(key, metadata=True, cas=True, recache=30))
                self.assertIsInstance(found, MetaItem)
                self.assertEqual((found.value, found.won), (b"v", False))
            end()
            await eventually_in_reactor(lambda: self.storage.health().ready)
