"""What native clients of Redis see of items, and what they may leave for us to read."""

from __future__ import annotations

import time
from binascii import unhexlify
from dataclasses import replace
from typing import Any

from redcouch.backends.fill_leases import AllowFill, DenyFill
from redcouch.backends.redis.layout import NO_CAS
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
from redcouch.results import ErrorKind, Failed, Item, Outcome, Stored, Touched
from tests.backends.redis.case import SharedRedisCase

COUNTER = b"redcouch:sys:cas_counter"


def tokens_of(results: list[Any]) -> list[int]:
    """The tokens of the items in a batch's results, in order."""
    each = [one if isinstance(one, list) else [one] for one in results]
    return [item.cas for items in each for item in items]


class NativeTests(SharedRedisCase):
    """Redis 7.0; the versions below run the same tests."""

    async def test_items_without_tokens(self) -> None:
        """Many items that native clients wrote are given tokens together: in two round trips."""
        keys = [b"%d" % number for number in range(100)]
        batches: list[list[Command]] = [
            [Get(keys, cas=True)],
            [MetaGet(key, cas=True) for key in keys],
        ]
        for parameters in ("", "?layout=string"):
            storage: Any = await self.connect(self.url + parameters)
            await self.get()
            storage._admin.stop()  # to look for a flush takes a round trip
            trips = self.count_calls(storage._link, "submit")
            for batch in batches:
                self.client.flushall()
                native = self.client.pipeline()
                for key in keys:
                    if parameters:
                        native.set(key, "v")
                    else:
                        native.hset(b"rc:" + key, "v", "76")
                native.execute()
                self.client.config_resetstat()
                before = len(trips)
                tokens = tokens_of(await self.all(*batch))
                self.assertEqual(len(set(tokens) - {0, NO_CAS}), len(keys))
                self.assertLessEqual(len(trips) - before, 2)
                self.assertNotIn("cmdstat_script|load", self.client.info("commandstats"))
                self.assertEqual(tokens_of(await self.all(*batch)), tokens)

    def count_calls(self, of: Any, name: str) -> list[None]:
        """A list that grows with each call of a method."""
        calls: list[None] = []
        method = getattr(of, name)

        def counted(*arguments: Any) -> Any:
            calls.append(None)
            return method(*arguments)

        self.patch(of, name, counted)
        return calls

    # The layout

    async def test_item(self) -> None:
        """C{HGETALL rc:k} shows value in hex, flags and token, and C{TTL} the expiry."""
        token = await self.set(b"hello\0\xff", flags=7, exptime=500)
        fields = {b"v": b"68656c6c6f00ff", b"f": b"7", b"c": b"%d" % token}
        self.assertEqual(self.client.hgetall("rc:k"), fields)
        self.assertIn(self.client.ttl("rc:k"), range(470, 501))
        self.assertEqual(set(self.client.keys()), {b"rc:k", COUNTER})
        self.assertEqual(self.client.get(COUNTER), b"%d" % token)

    async def test_raw_item(self) -> None:
        """With encoding raw, field r holds the bytes themselves."""
        await self.connect(f"{self.url}?encoding=raw")
        token = await self.set(b"hello\0\xff", flags=7)
        fields = {b"r": b"hello\0\xff", b"f": b"7", b"c": b"%d" % token}
        self.assertEqual(self.client.hgetall("rc:k"), fields)
        self.assertEqual(self.client.ttl("rc:k"), -1)

    async def test_every_writer_keeps_the_layout(self) -> None:
        """Whatever command wrote last, an item has the same three fields and no more."""
        writers: list[Command] = [
            Store(StoreMode.ADD, b"k", b"1", 7, 500),
            Store(StoreMode.REPLACE, b"k", b"1", 7, 500),
            Store(StoreMode.APPEND, b"k", b"2"),
            Store(StoreMode.PREPEND, b"k", b"3"),
            Arithmetic(b"k", 1),
            Arithmetic(b"k", 1, decrement=True),
        ]
        for encoding, field in (("hex", b"v"), ("raw", b"r")):
            await self.connect(f"{self.url}?encoding={encoding}")
            self.client.delete("rc:k")
            for writer in writers:
                token = (await self.do(writer)).cas
                fields = self.client.hgetall("rc:k")
                self.assertEqual(set(fields), {field, b"f", b"c"}, writer)
                self.assertEqual((fields[b"f"], fields[b"c"]), (b"7", b"%d" % token))
                self.assertIn(self.client.ttl("rc:k"), range(470, 501))
            value = fields[field]
            self.assertEqual(unhexlify(value) if field == b"v" else value, b"312")

    async def test_milliseconds(self) -> None:
        """An expiry that is a point in time is that very point."""
        moment = int(time.time()) + 5_000_000
        await self.set(b"v", exptime=moment)
        before = time.time()
        left = self.client.pttl("rc:k") / 1000
        self.assertTrue(before - 0.01 < moment - left < time.time() + 0.01)

    async def test_system_keys(self) -> None:
        """What is no item lives under redcouch:sys:, never under the prefix."""
        await self.all(Store(StoreMode.SET, b"k", b"v"), Flush(1000))
        self.assertEqual(set(self.client.keys("rc:*")), {b"rc:k"})
        others = set(self.client.keys()) - {b"rc:k"}
        self.assertEqual(others, {COUNTER, b"redcouch:sys:flush_at:rc:"})

    async def test_prefix(self) -> None:
        """Another prefix is another set of items, on the same counter."""
        first = await self.set(b"1")
        await self.connect(f"{self.url}?prefix=my%25app%00:")
        self.assertIsNone(await self.get())
        second = await self.set(b"2")
        self.assertNotEqual(first, second)
        self.assertEqual(self.client.hget(b"my%app\0:k", "v"), b"32")

    async def test_database(self) -> None:
        """The number behind the slash chooses the database."""
        await self.connect(f"{self.url}/3")
        await self.set(b"v")
        self.assertEqual(self.client.dbsize(), 0)
        self.client.select(3)
        self.assertEqual(set(self.client.keys()), {b"rc:k", COUNTER})

    # Two encodings side by side

    async def test_encodings_side_by_side(self) -> None:
        """Items of both encodings are read and changed by either bridge."""
        hexed = self.storage
        raw = await self.connect(f"{self.url}?encoding=raw")
        for writer, reader in ((hexed, raw), (raw, hexed)):
            self.storage = writer
            token = await self.set(b"1", flags=7)
            self.storage = reader
            self.assertEqual(await self.get(), Item(b"1", 7, token))
            await self.all(
                Store(StoreMode.APPEND, b"k", b"\xff"),
                Store(StoreMode.PREPEND, b"k", b"0 "),
            )
            self.assertEqual(await self.value(), b"0 1\xff")
            self.assertEqual((await self.do(Arithmetic(b"k", 12))).value, 12)
            self.storage = writer
            self.assertEqual(await self.value(), b"12  ")
            self.assertEqual(self.client.hlen("rc:k"), 3)

    async def test_a_write_removes_the_other_field(self) -> None:
        """After a set there is one value, in the encoding of who wrote it."""
        raw = await self.connect(f"{self.url}?encoding=raw")
        hexed = await self.connect(self.url)
        for self.storage, fields in ((raw, {b"r", b"f", b"c"}), (hexed, {b"v", b"f", b"c"})):
            await self.set(b"v")
            self.assertEqual(set(self.client.hgetall("rc:k")), fields)

    async def test_both_fields(self) -> None:
        """Where a native client has left both, v counts, for every command."""
        self.client.hset("rc:k", mapping={"v": "35", "r": "7", "c": "42"})
        self.assertEqual(await self.get(), Item(b"5", 0, 42))
        number = await self.do(Arithmetic(b"k", 1))
        self.assertEqual(number.value, 6)
        fields = {b"v": b"36", b"c": b"%d" % number.cas}
        self.assertEqual(self.client.hgetall("rc:k"), fields)

    # Items of native clients

    async def test_native_item(self) -> None:
        """What a native client wrote in full is an item like any other."""
        self.client.hset("rc:k", mapping={"v": "68656c6c6f", "f": "0", "c": "42"})
        self.assertEqual(await self.get(), Item(b"hello", 0, 42))
        stored = await self.do(Store(StoreMode.SET, b"k", b"new", compare=42))
        self.assertIsInstance(stored, Stored)

    async def test_only_a_value(self) -> None:
        """An item needs no more than v: flags are 0, and get asks for no token."""
        self.client.hset("rc:k", "v", "68656c6c6f")
        found = await self.get(cas=False)
        self.assertEqual(found, Item(b"hello", 0, 0))
        self.assertEqual(self.client.hgetall("rc:k"), {b"v": b"68656c6c6f"})

    async def test_token_is_assigned(self) -> None:
        """The first C{gets} gives a token, and it stays until the item changes."""
        for field, value in (("v", "68690a"), ("v", "68 69\n0A"), ("r", "hi\n")):
            self.client.delete("rc:k")
            self.client.hset("rc:k", field, value)
            self.client.expire("rc:k", 500)
            found = await self.do(Get([b"k", b"none", b"k"], cas=True))
            token = found[0].cas
            self.assertGreater(token, 0)
            self.assertEqual(found, [Item(b"hi\n", 0, token), None, Item(b"hi\n", 0, token)])
            self.assertEqual((await self.item()).cas, token)
            self.assertEqual(self.client.hget("rc:k", "c"), b"%d" % token)
            self.assertIn(self.client.ttl("rc:k"), range(470, 501))
            self.assertNotEqual(await self.set(b"other"), token)

    async def test_large_values(self) -> None:
        """A large set leaves what a small one does, over whatever was there before."""
        large = bytes(range(256)) * 100
        token = await self.set(b"small", flags=7, exptime=500)
        self.client.hset("rc:k", mapping={"r": "r", "s": "", "w": "", "h": ""})
        later = await self.set(large, flags=3)
        self.assertGreater(later, token)
        self.assertEqual(await self.get(), Item(large, 3, later))
        self.assertEqual(set(self.client.hkeys("rc:k")), {b"v", b"f", b"c"})
        self.assertEqual(self.client.ttl("rc:k"), -1)
        await self.set(large, exptime=500)
        self.assertIn(self.client.ttl("rc:k"), range(470, 501))
        await self.set(large, exptime=-1)
        self.assertIsNone(await self.get())
        self.assertEqual(self.client.exists("rc:k"), 0)

    async def test_fields_of_others(self) -> None:
        """Fields that a native client has for itself stay, whatever the item is made."""
        names = {b"%c" % code for code in range(97, 123)} - {*(b"%c" % code for code in b"vrfcswh")}
        own: dict[Any, Any] = dict.fromkeys(names, b"mine")
        for size in (1, 10_000):
            self.client.hset("rc:k", mapping=own)
            await self.set(b"v" * size)
            fields = self.client.hgetall("rc:k")
            self.assertEqual({name: fields.get(name) for name in own}, own)
            self.assertEqual(fields.keys() - own.keys(), {b"v", b"f", b"c"})

    async def test_large_value_over_another_type(self) -> None:
        """What is no item is left alone."""
        self.client.lpush("rc:k", "1")
        results = await self.all(Store(StoreMode.SET, b"k", b"v" * 10_000), Get([b"k"]))
        for failed in (results[0], results[1][0]):
            self.assert_failed(failed, ErrorKind.WRONG_TYPE)
        self.assertEqual(self.client.lrange("rc:k", 0, -1), [b"1"])

    async def test_large_values_without_scripts(self) -> None:
        """Even if Redis has forgotten the scripts, a large set is made at once."""
        self.client.script_flush()
        await self.set(b"v" * 10_000)
        self.assertEqual(await self.value(), b"v" * 10_000)

    async def test_two_clients_are_given_the_same_token(self) -> None:
        """Two that ask for the token at the same time are told the same."""
        self.client.hset("rc:k", "v", "6869")
        one = self.storage.execute([Get([b"k"], cas=True)])
        two = self.storage.execute([Get([b"k"], cas=True)])
        ((first,),), ((second,),) = await one, await two
        self.assertEqual(first, second)

    async def test_assigned_tokens_are_unique(self) -> None:
        """Each native item has a token of its own."""
        for number in range(20):
            self.client.hset(f"rc:{number}", "v", "6869")
        keys = [b"%d" % number for number in range(20)]
        found = await self.do(Get(keys, cas=True))
        tokens = {item.cas for item in found}
        self.assertEqual(len(tokens), 20)
        self.assertNotIn(await self.set(b"v"), tokens)

    async def test_every_reader_assigns(self) -> None:
        """C{gats}, C{touch} with its token and C{mg} give a native item one as well."""
        readers: list[Command] = [
            GetAndTouch([b"k"], 500, cas=True),
            MetaGet(b"k", cas=True),
            MetaGet(b"k", cas=True, metadata=True),
            Touch(b"k", 0),
        ]
        for reader in readers:
            self.client.delete("rc:k")
            self.client.hset("rc:k", "v", "6869")
            found = await self.do(reader)
            token = (found[0] if isinstance(found, list) else found).cas
            self.assertGreater(token, 0)
            self.assertEqual((await self.item()).cas, token, reader)

    async def test_changes_of_a_native_item(self) -> None:
        """Every command works on an item that is nothing but a value."""
        changes: list[tuple[Command, bytes | None]] = [
            (Store(StoreMode.APPEND, b"k", b"!"), b"5!"),
            (Store(StoreMode.PREPEND, b"k", b"1"), b"15"),
            (Store(StoreMode.REPLACE, b"k", b"new"), b"new"),
            (Store(StoreMode.ADD, b"k", b"new"), b"5"),
            (Arithmetic(b"k", 10), b"15"),
            (Touch(b"k", 500), b"5"),
            (Delete(b"k"), None),
            (Store(StoreMode.SET, b"k", b"new", compare=0), b"5"),
        ]
        for field, value in (("v", "35"), ("v", " 3\n5 "), ("r", "5")):
            for change, expected in changes:
                self.client.delete("rc:k")
                self.client.hset("rc:k", field, value)
                self.assertNotIsInstance(await self.do(change), Failed)
                self.assertEqual(await self.value(), expected, (field, value, change))

    async def test_hex_as_people_write_it(self) -> None:
        """Upper case and white space (C{xxd -p} breaks lines) are read and changed."""
        self.client.hset("rc:k", mapping={"v": " 4A4b\n4C \t"})
        self.assertEqual(await self.value(), b"JKL")
        await self.do(Store(StoreMode.APPEND, b"k", b"M"))
        self.assertEqual(await self.value(), b"JKLM")
        self.client.hset("rc:k", mapping={"v": "31\n32\n"})
        self.assertEqual((await self.do(Arithmetic(b"k", 1))).value, 13)
        self.assertEqual(await self.value(), b"13")

    async def test_a_hash_that_is_no_item(self) -> None:
        """A hash without a value is a miss, and keeps its fields."""
        self.client.hset("rc:k", mapping={"name": "x"})
        results = await self.all(
            Get([b"k"], cas=True),
            Store(StoreMode.REPLACE, b"k", b"v"),
            Store(StoreMode.APPEND, b"k", b"v"),
            Arithmetic(b"k", 1),
            Touch(b"k", 500),
            Delete(b"k"),
            MetaGet(b"k"),
            Inspect(b"k"),
        )
        not_found = [Outcome.NOT_FOUND] * 3
        expected = [[None], Outcome.NOT_STORED, Outcome.NOT_STORED, *not_found, None, None]
        self.assertEqual(results, expected)
        self.assertEqual(self.client.hgetall("rc:k"), {b"name": b"x"})

    # What cannot be understood

    async def among_neighbours(self, command: Command) -> Any:
        """A command's result, after checking that its neighbours in the batch are well."""
        results = await self.all(
            Store(StoreMode.SET, b"before", b"1"),
            Get([b"before"]),
            command,
            Arithmetic(b"before", 1),
            Get([b"before"]),
        )
        self.assertEqual(results[1][0].value, b"1")
        self.assertEqual(results[3].value, 2)
        self.assertEqual(results[4][0].value, b"2")
        return results[2]

    async def test_undecodable(self) -> None:
        """A value that is no hex is an error for that key, and can be replaced or deleted."""
        for value in ("hello", "6", "68 6g", "0x68"):
            self.client.delete("rc:k")
            self.client.hset("rc:k", "v", value)
            await self.set(b"fine", b"good")
            found = await self.among_neighbours(Get([b"good", b"k", b"good"], cas=True))
            self.assert_failed(found[1], ErrorKind.UNREADABLE)
            self.assertEqual([item.value for item in found[::2]], [b"fine", b"fine"])
            found = await self.among_neighbours(GetAndTouch([b"k", b"good"], 0))
            self.assert_failed(found[0], ErrorKind.UNREADABLE)
            self.assertEqual(found[1].value, b"fine")
            for command in (
                Store(StoreMode.APPEND, b"k", b"1"),
                Arithmetic(b"k", 1),
                MetaGet(b"k"),
                MetaGet(b"k", metadata=True),
            ):
                result = await self.among_neighbours(command)
                self.assert_failed(result, ErrorKind.UNREADABLE)
            self.assertEqual(self.client.hget("rc:k", "v"), value.encode())
            self.assertIsInstance(await self.among_neighbours(Touch(b"k", 0)), Touched)
            await self.set(b"new")
            self.assertEqual(await self.value(), b"new")
            self.client.hset("rc:k", "v", value)
            self.assertIs(await self.do(Delete(b"k")), Outcome.DELETED)

    async def test_wrong_flags_and_tokens(self) -> None:
        """Flags or a token that are no such number are an error for that key alone."""
        for field, value in (
            ("f", "seven"),
            ("f", "-1"),
            ("f", "4294967296"),
            ("c", "token"),
            ("c", "-1"),
            ("c", "18446744073709551616"),
        ):
            readers: list[Command] = [
                Get([b"k"], cas=True),
                GetAndTouch([b"k"], 500, cas=True),
                Touch(b"k", 500),
                MetaGet(b"k", cas=True),
                MetaGet(b"k", cas=True, metadata=True),
                Inspect(b"k"),
            ]
            for reader in readers:
                self.client.delete("rc:k")
                self.client.hset("rc:k", mapping={"v": "35", field: value})
                result = await self.among_neighbours(reader)
                if isinstance(result, list):
                    (result,) = result
                self.assertIsInstance(result, Failed, (field, value, reader))
            (page,) = await self.all(Dump())
            self.assertEqual({listed.key for listed in page.items} - {b"k"}, {b"before"})

    async def test_late_change_of_an_item_without_a_readable_token(self) -> None:
        """C{ms} with C{C} and C{I} does not take such a token for a higher one."""
        late = Store(StoreMode.SET, b"k", b"late", compare=6, invalidate=True)
        for token in ("token", "-1", "18446744073709551616"):
            fields: dict[Any, Any] = {"v": "35", "c": token}
            self.client.hset("rc:k", mapping=fields)
            self.assertIs(await self.do(late), Outcome.EXISTS, token)
            self.assertEqual(self.client.hmget("rc:k", *fields, "s"), [b"35", token.encode(), None])

    async def test_wrong_type(self) -> None:
        """A key of another type is an error for every command, and is left as it was."""
        self.client.rpush("rc:list", "x")
        self.client.set("rc:string", "x")
        self.client.sadd("rc:set", "x")
        before = {key: self.client.dump(key) for key in ("rc:list", "rc:string", "rc:set")}
        for key in (b"list", b"string", b"set"):
            commands: list[Command] = [
                *(Store(mode, key, b"v") for mode in StoreMode),
                Store(StoreMode.SET, key, b"v", compare=1),
                Store(StoreMode.SET, key, b"v", exptime=-1),
                Store(StoreMode.APPEND, key, b"v", vivify=0),
                Arithmetic(key, 1),
                Arithmetic(key, 1, initial=1),
                Delete(key),
                Delete(key, compare=1),
                Touch(key, 500),
                Touch(key, -1),
                MetaGet(key),
                MetaGet(key, metadata=True, vivify=0),
                Invalidate(key, stale=True),
                Inspect(key),
            ]
            for command in commands:
                result = await self.among_neighbours(command)
                self.assert_failed(result, ErrorKind.WRONG_TYPE)
            for reader in (Get([b"before", key], cas=True), GetAndTouch([b"before", key], 500)):
                found = await self.among_neighbours(reader)
                self.assertEqual(found[0].value, b"1")
                self.assert_failed(found[1], ErrorKind.WRONG_TYPE)
        after = {key: self.client.dump(key) for key in before}
        self.assertEqual(after, before)
        self.assertEqual([self.client.ttl(key) for key in before], [-1, -1, -1])

    async def test_failures_show_no_secrets(self) -> None:
        """An error tells what kind it is, and nothing of the value, in one line."""
        self.client.set("rc:k", "SECRET")
        for command in (Store(StoreMode.SET, b"k", b"SECRET"), Get([b"k"]), Arithmetic(b"k", 1)):
            result = await self.do(command)
            if isinstance(result, list):
                (result,) = result
            self.assertNotIn("SECRET", result.message)
            self.assertNotIn("\n", result.message)

    # Flushing

    async def test_flush_leaves_the_rest_alone(self) -> None:
        """C{flush_all} is about items: other keys, other databases and the counter stay."""
        token = await self.set(b"v")
        self.client.rpush("rc:list", "under the prefix, so it goes")
        others = {"other": "1", "RC:k": "2", "rc": "3", "xrc:k": "4", "redcouch:sys:more": "5"}
        self.client.mset(others)
        self.client.select(1)
        self.client.set("rc:k", "x")
        self.assertIs(await self.do(Flush()), Outcome.OK)
        self.assertEqual(self.client.keys(), [b"rc:k"])
        self.client.select(0)
        self.assertEqual(set(self.client.keys()), {COUNTER, *map(str.encode, others)})
        self.assertGreater(await self.set(b"v"), token)

    async def test_globs_in_a_prefix(self) -> None:
        """A prefix that looks like a glob flushes its own items and no others."""
        for prefix, escaped, neighbours in (
            ("*", "*", ["x", "rc:k", "**"]),
            ("a*", "a*", ["ab", "aa*"]),
            ("a?c:", "a%3Fc:", ["abc:k"]),
            ("[ab]:", "%5Bab%5D:", ["a:k", "b:k"]),
            ("a\\*", "a%5C*", ["a*", "a\\x"]),
            ("\\", "%5C", ["*", "x"]),
            ("[^a]", "%5B%5Ea%5D", ["b", "^"]),
        ):
            self.client.flushdb()
            await self.connect(f"{self.url}?prefix={escaped}")
            names = [name for name in neighbours if not name.startswith(prefix)]
            for name in names:
                self.client.set(name, "x")
            await self.set(b"v")
            self.assertEqual(self.client.hget(prefix + "k", "v"), b"76")
            await self.do(Flush())
            self.assertIsNone(await self.get())
            left = set(self.client.keys()) - {COUNTER}
            self.assertEqual(left, {name.encode() for name in names})

    # Tokens

    async def test_counter_is_lost(self) -> None:
        """Redis may evict or lose the counter: no token is given a second time."""
        tokens = [await self.set(b"1"), await self.set(b"2")]
        for _ in range(3):
            self.client.delete(COUNTER)
            tokens += [await self.set(b"1"), await self.set(b"2")]
        self.assertEqual(len(set(tokens)), len(tokens))
        self.assertEqual(tokens, sorted(tokens))

    async def test_counter_is_no_number(self) -> None:
        """A counter that somebody has overwritten is an error, and no harm to anything."""
        await self.set(b"1")
        self.client.set(COUNTER, "x")
        for command in (
            Store(StoreMode.ADD, b"new", b"v"),
            Store(StoreMode.REPLACE, b"k", b"v"),
            Store(StoreMode.APPEND, b"k", b"v"),
            Arithmetic(b"k", 1),
        ):
            self.assertIsInstance(await self.do(command), Failed)
        self.assertEqual(await self.value(), b"1")
        self.assertIsNone(await self.get(b"new"))

    async def test_large_tokens(self) -> None:
        """Tokens of all 64 bits compare exactly, those of native clients too."""
        for token in (2**53, 2**53 + 1, 2**63, 2**64 - 1):
            self.client.hset("rc:k", mapping={"v": "35", "c": str(token)})
            self.assertEqual((await self.item()).cas, token)
            near = token - 1
            late = await self.do(Store(StoreMode.SET, b"k", b"v", compare=near))
            self.assertIs(late, Outcome.EXISTS)
            self.assertIs(await self.do(Delete(b"k", compare=token)), Outcome.DELETED)

    async def test_tokens_with_zeros_before_them(self) -> None:
        """The token that C{gets} tells is the one to compare, however a native client wrote it."""
        for written in ("007", "7", "0" * 30 + "7"):
            changes: list[Any] = [
                Store(StoreMode.SET, b"k", b"v", compare=7),
                Store(StoreMode.APPEND, b"k", b"1", compare=7),
                Arithmetic(b"k", 1, compare=7),
                Invalidate(b"k", stale=True, compare=7),
                Delete(b"k", compare=7),
            ]
            for change in changes:
                self.client.delete("rc:k")
                self.client.hset("rc:k", mapping={"v": "35", "c": written})
                self.assertEqual((await self.item()).cas, 7)
                other = replace(change, compare=8)
                self.assertIs(await self.do(other), Outcome.EXISTS, (written, other))
                result = await self.do(change)
                self.assertFalse(isinstance(result, Failed) or result is Outcome.EXISTS, change)
            self.client.delete("rc:k")
            self.client.hset("rc:k", mapping={"v": "35", "c": written, "s": "1"})
            plain: Any = await self.do(MetaGet(b"k", value=True, no_update=True))
            self.assertTrue(plain.won, written)
            await self.do(DenyFill([b"k"]))
            self.assertIs(await self.do(AllowFill(b"k", 7)), Outcome.OK)


class NativeTests62(NativeTests):
    """The same on Redis 6.2."""

    version = "6.2"


class NativeTests82(NativeTests):
    """The same on Redis 8.2."""

    version = "8.2"
