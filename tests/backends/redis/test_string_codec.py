"""Items as plain strings, which native clients read and write as they always have."""

from __future__ import annotations

from redcouch.backends.redis.url import read_location
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Dump,
    Flush,
    Get,
    GetAndTouch,
    Inspect,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from redcouch.errors import ConfigurationError
from redcouch.results import ErrorKind, Failed, Number, Outcome
from tests.backends.redis.case import SharedRedisCase

SIDE = "redcouch:sys:item:"
COUNTER = b"redcouch:sys:cas_counter"


class StringTests(SharedRedisCase):
    """Both sides see the same data at once."""

    connects = False

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.connect(f"{self.url}?layout=string")

    async def store(self, value: bytes, flags: int = 0, exptime: int = 0) -> int:
        return await self.set(value, flags=flags, exptime=exptime)

    async def test_memcached_writes_native_reads(self) -> None:
        """The string is the value, with the item's time to live."""
        await self.store(b"\0\xff", 7, 500)
        self.assertEqual(self.client.get("k"), b"\0\xff")
        self.assertTrue(490 < self.client.ttl("k") <= 500)
        self.assertGreater(self.client.ttl(SIDE + "k"), 500)
        await self.do(Store(StoreMode.APPEND, b"k", b"!"))
        self.assertEqual(self.client.get("k"), b"\0\xff!")
        self.assertTrue(490 < self.client.ttl("k") <= 500)
        await self.do(Touch(b"k", 0))
        self.assertEqual((self.client.ttl("k"), self.client.ttl(SIDE + "k")), (-1, -1))
        await self.do(Delete(b"k"))
        self.assertEqual(self.client.keys(), [COUNTER])

    async def test_native_writes(self) -> None:
        """A native write is seen at once; its flags are 0, and tokens from before it fail."""
        changes = (
            lambda: self.client.set("k", "new"),
            lambda: self.client.execute_command("SETEX", "k", 60, "new"),
            lambda: self.client.append("k", "new"),
            lambda: self.client.setrange("k", 1, "new"),
            lambda: self.client.execute_command("GETSET", "k", "new"),
        )
        for change in changes:
            token = await self.store(b"old", 7)
            change()
            value = self.client.get("k")
            (found,) = await self.do(Get([b"k"]))
            self.assertEqual(found[:2], (value, 0))
            late = await self.do(Store(StoreMode.SET, b"k", b"late", compare=token))
            self.assertIs(late, Outcome.EXISTS)
            self.assertIs(await self.do(Delete(b"k", compare=token)), Outcome.EXISTS)
            seen = await self.item()
            self.assertEqual((seen.value, seen.flags), (value, 0))
            self.assertNotEqual(seen.cas, token)
            self.assertEqual((await self.item()).cas, seen.cas)
            again = await self.do(Store(StoreMode.SET, b"k", b"later", compare=seen.cas))
            self.assertGreater(again.cas, seen.cas)

    async def test_the_same_bytes(self) -> None:
        """A native write of the same bytes changes neither flags nor token."""
        token = await self.store(b"same", 7)
        self.client.set("k", "same")
        self.assertEqual(await self.item(), (b"same", 7, token))

    async def test_native_removal(self) -> None:
        """DEL, and an EXPIRE that is over, are misses; nothing of before comes back."""
        for remove in (
            lambda: self.client.delete("k"),
            lambda: self.client.pexpire("k", -1),
        ):
            token = await self.store(b"value", 7)
            remove()
            self.assertEqual(await self.do(Get([b"k"], cas=True)), [None])
            late = await self.do(Store(StoreMode.SET, b"k", b"late", compare=token))
            self.assertIs(late, Outcome.NOT_FOUND)
            self.assertNotIsInstance(await self.do(Store(StoreMode.ADD, b"k", b"n")), Outcome)
            self.assertEqual((await self.item())[:2], (b"n", 0))

    async def test_numbers(self) -> None:
        """INCR by either side counts on."""
        self.client.set("k", 10)
        self.assertEqual((await self.do(Arithmetic(b"k", 5))).value, 15)
        self.assertEqual(self.client.incr("k"), 16)
        number = await self.do(Arithmetic(b"k", 4))
        self.assertIsInstance(number, Number)
        self.assertEqual(self.client.get("k"), b"20")

    async def test_stale_marks_end_with_a_native_write(self) -> None:
        """A value that a native client has renewed is not stale."""
        await self.store(b"old")
        await self.do(Invalidate(b"k", stale=True))
        self.client.set("k", "new")
        found = await self.do(MetaGet(b"k"))
        self.assertEqual((found.value, found.stale, found.won), (b"new", False, False))

    async def test_the_side_key_is_never_mistaken(self) -> None:
        """Whatever stands in the side key, an item of a native client is its value."""
        for line in ("", "x", "0 0 0", "a b c d", "\0", "z" * 20 + " 7 9"):
            self.client.set("k", "value")
            self.client.set(SIDE + "k", line)
            (found,) = await self.do(Get([b"k"]))
            self.assertEqual(found[:2], (b"value", 0), line)
            self.assertEqual((await self.item())[:2], (b"value", 0), line)

    async def test_wrong_type(self) -> None:
        """A key of another type is an error for that key alone, and is left as it was."""
        self.client.rpush("list", "x")
        self.client.hset("hash", "v", "00")
        before = {key: self.client.dump(key) for key in ("list", "hash")}
        for key in (b"list", b"hash"):
            commands: list[Command] = [
                *(Store(mode, key, b"v") for mode in StoreMode),
                Arithmetic(key, 1, initial=1),
                Delete(key),
                Touch(key, -1),
                MetaGet(key, vivify=0),
                Invalidate(key, stale=True),
                Inspect(key),
            ]
            for command in commands:
                result = await self.do(command)
                self.assertIsInstance(result, Failed, command)
                self.assertIs(result.kind, ErrorKind.WRONG_TYPE)
            for reader in (Get([b"k", key, b"k"]), GetAndTouch([b"k", key, b"k"], 500)):
                await self.store(b"v")
                first, found, last = await self.do(reader)
                self.assertEqual((first[0], last[0]), (b"v", b"v"))
                self.assertIs(found.kind, ErrorKind.WRONG_TYPE)
        self.assertEqual({key: self.client.dump(key) for key in before}, before)

    async def test_reserved(self) -> None:
        """RedCouch's own keys can be neither read nor written; their neighbours are well."""
        await self.store(b"v")
        before = {key: self.client.dump(key) for key in self.client.scan_iter()}
        for key in (COUNTER, SIDE.encode() + b"k", b"redcouch:sys:"):
            commands: list[Command] = [
                *(Store(mode, key, b"1") for mode in StoreMode),
                Arithmetic(key, 1),
                Delete(key),
                Touch(key, 0),
                MetaGet(key),
                MetaGet(key, metadata=True),
                Invalidate(key, stale=True),
                Inspect(key),
            ]
            for command in commands:
                for result in (await self.do(command), (await self.all(Get([b"k"]), command))[1]):
                    self.assertEqual(result, Failed(ErrorKind.REFUSED, "key is reserved"))
            for reader in (
                Get([b"k", key]),
                Get([b"k", key], cas=True),
                GetAndTouch([b"k", key], 0),
            ):
                for found in (await self.do(reader), (await self.all(Touch(b"k", 0), reader))[1]):
                    self.assertEqual(found[0][0], b"v")
                    self.assertEqual(found[1], Failed(ErrorKind.REFUSED, "key is reserved"))
        self.assertEqual({key: self.client.dump(key) for key in before}, before)

    async def test_scripts_are_forgotten(self) -> None:
        """SCRIPT FLUSH changes nothing for anybody."""
        await self.store(b"v", 7)
        self.client.script_flush()
        results = await self.all(Get([b"k"]), Store(StoreMode.SET, b"k", b"w"), Get([b"k"]))
        self.assertEqual(results[0][0][:2], (b"v", 7))
        self.assertEqual(results[2][0][:2], (b"w", 0))

    async def test_reads_among_changes(self) -> None:
        """A read before a change finds what was there, though its token had to be made."""
        self.client.set("k", "native")
        results = await self.all(
            Get([b"k"], cas=True), Store(StoreMode.SET, b"k", b"w", 3), Get([b"k"], cas=True)
        )
        self.assertEqual(results[0][0][:2], (b"native", 0))
        self.assertEqual(results[2][0][:2], (b"w", 3))
        self.assertLess(results[0][0][2], results[2][0][2])

    # Flushing and listing

    async def test_flush_is_refused(self) -> None:
        """Without a prefix nobody knows which keys are items, so C{flush_all} is refused."""
        await self.store(b"v")
        self.client.set("other", "x")
        for flush in (Flush(), Flush(100)):
            result = await self.do(flush)
            self.assertIs(result.kind, ErrorKind.REFUSED)
            self.assertIn("flush=all", result.message)
        self.client.set("redcouch:sys:flush_at:", "1")
        await self.connect(f"{self.url}?layout=string")
        await self.store(b"v")
        self.assertEqual(self.client.mget("k", "other"), [b"v", b"x"])

    async def test_flush_all(self) -> None:
        """With C{flush=all} every string goes, and nothing else."""
        await self.connect(f"{self.url}?layout=string&flush=all")
        await self.store(b"v")
        self.client.set("other", "x")
        self.client.rpush("list", "x")
        self.client.set("redcouch:sys:more", "x")
        self.assertIs(await self.do(Flush()), Outcome.OK)
        self.assertEqual(set(self.client.keys()), {b"list", b"redcouch:sys:more", COUNTER})

    async def test_flush_under_a_prefix(self) -> None:
        """With a prefix its strings go, with what stands beside them."""
        await self.connect(f"{self.url}?layout=string&prefix=app:")
        await self.store(b"v")
        self.assertEqual(self.client.get("app:k"), b"v")
        self.client.set("other", "x")
        self.client.hset("app:hash", "a", "b")
        await self.do(Flush())
        self.assertEqual(set(self.client.keys()), {b"other", b"app:hash", COUNTER})

    async def test_dump(self) -> None:
        """Lists have the strings, and none of RedCouch's own keys."""
        await self.store(b"v", 7, 500)
        self.client.set("native", "four")
        self.client.rpush("list", "x")
        (page,) = await self.all(Dump())
        listed = {one.key: (one.size, one.flags) for one in page.items}
        self.assertEqual(listed, {b"k": (1, 7), b"native": (4, 0)})

    async def test_no_options_are_ignored(self) -> None:
        """What makes no sense together is refused, in words."""
        for parameters in (
            "layout=string&encoding=hex",
            "layout=list",
            "flush=all",
            "layout=string&flush=some",
            "layout=string&prefix=redcouch:sys:x",
        ):
            with self.assertRaises(ConfigurationError):
                read_location(f"{self.url}?{parameters}")


class StringTests62(StringTests):
    """The same on Redis 6.2."""

    version = "6.2"


class StringTests82(StringTests):
    """The same on Redis 8.2."""

    version = "8.2"
