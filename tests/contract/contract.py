"""
The contract of L{redcouch.interfaces.IStorageBackend}, as tests.

A storage's own test module makes a subclass of L{StorageContract} that says
how to build the storage and how to let time pass for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Flush,
    Get,
    GetAndTouch,
    Store,
    StoreMode,
    Touch,
)
from redcouch.expiry import MAX_RELATIVE
from redcouch.interfaces import Health, IStorageBackend
from redcouch.limits import FLAGS_OVERHEAD, Limits
from redcouch.results import Item, Number, Outcome, Result, Stored, Touched
from tests.contract.numbers import TWO_63, TWO_64, counted
from tests.support.polling import PATIENCE
from tests.support.results import named

LIMITS = Limits(max_item_size=4096)
"""Small, so that an item is soon too large."""

EVERY_BYTE = bytes(range(256))

EDGES = (
    *(0, 1, 9, 10, 99, 10**9, 10**10 - 1, 10**10, 10**10 + 1, 10**19, 10**19 + 1),
    *(
        edge + offset
        for edge in (1 << 31, 1 << 32, 1 << 53, 1 << 54, TWO_63, TWO_64)
        for offset in (-2, -1, 0, 1, 2)
        if 0 <= edge + offset < TWO_64
    ),
)
"""Numbers around which arithmetic goes wrong where it does."""

ODD_NUMBERS = (
    *(b"%d" % number for number in EDGES),
    b"",
    b" ",
    b"00",
    b"007",
    b"0" * 40 + b"7",
    b" 7",
    b"\t\n\v\f\r 7",
    b"7 ",
    b"7 seven",
    b"7\r\n8",
    b"7seven",
    b"seven",
    b"7\0seven",
    b"\x007",
    b"7\x85",
    b"\xa07",
    b"+7",
    b"+ 7",
    b"++7",
    b"-",
    b"+",
    b"-0",
    b"-7",
    b"- 7",
    b"7 -",
    b"7 -8",
    b"-%d" % (TWO_63 - 1),
    b"-%d" % TWO_63,
    b"-%d" % (TWO_63 + 1),
    b"-%d" % (TWO_64 - 1),
    b"-%d" % TWO_64,
    b"%d -" % (TWO_63 - 1),
    b"%d -" % TWO_63,
    b"%d" % TWO_64,
    b"%d" % (TWO_64 + 1),
    b"9" * 20,
    b"1" * 21,
    b"0x10",
    b"1e3",
    b"1.5",
    b"\xef\xbc\x97",
    b"7" + b" " * 60,
)
"""Values that incr and decr may find."""


class StorageContract(TestCase):
    """What every storage has to do."""

    timeout = PATIENCE
    storage: IStorageBackend
    #: What it counts beside what all storages may.
    further_statistics: ClassVar[frozenset[str]] = frozenset()

    # What a storage's own tests say

    def build(self) -> IStorageBackend:
        """An empty storage, within L{LIMITS}, not started."""
        raise NotImplementedError

    def now(self) -> float:
        """The UNIX time that delayed flushes go by."""
        raise NotImplementedError

    def absolute(self, seconds: int) -> int:
        """An exptime that is a point in time, so many seconds from now."""
        return int(self.now()) + seconds

    async def elapse(self, seconds: float) -> None:
        """Let time pass."""
        raise NotImplementedError

    async def left(self, key: bytes) -> float | None:
        """Seconds that an item has to live; C{None} for ever."""
        raise NotImplementedError

    # What the tests use

    async def setUp(self) -> None:  # type: ignore[override]
        self.storage = self.build()
        await maybeDeferred(self.storage.start)
        self.addCleanup(maybeDeferred, self.storage.stop)

    async def all(self, commands: Iterable[Command]) -> list[Result]:
        """A batch's results."""
        commands = list(commands)
        results = named(await self.storage.execute(commands))
        self.assertEqual(len(results), len(commands))
        return results

    async def do(self, command: Command) -> Result:
        """One command's result."""
        return (await self.all([command]))[0]

    async def get(self, key: bytes = b"k") -> Item | None:
        """An item, as C{gets} gives it."""
        (found,) = await self.do(Get([key], cas=True))
        self.assertIsInstance(found, Item | None)
        return found  # type: ignore[no-any-return]

    async def item(self, key: bytes = b"k") -> Item:
        """An item that is there."""
        found = await self.get(key)
        assert found is not None
        return found

    async def value(self, key: bytes = b"k") -> bytes | None:
        """An item's value; C{None} where there is no item."""
        found = await self.get(key)
        return None if found is None else found.value

    async def set(
        self, value: bytes, key: bytes = b"k", flags: int = 0, exptime: int = 0, **more: Any
    ) -> int:
        """Store an item; gives its token."""
        stored = await self.do(Store(StoreMode.SET, key, value, flags, exptime, **more))
        return self.token(stored)

    def token(self, result: Result) -> int:
        """The token of a change that was made."""
        self.assertIsInstance(result, Stored | Number)
        token: int = result.cas
        self.assertTrue(0 < token < TWO_64, token)
        return token

    async def lives_for(self, seconds: int | None, key: bytes = b"k") -> None:
        """Check how long an item has to live, but for what this test itself took."""
        left = await self.left(key)
        if seconds is None or left is None:
            self.assertEqual(left, seconds)
        else:
            self.assertTrue(seconds - 30 < left <= seconds, left)

    # The interface

    def test_interface(self) -> None:
        """The storage can be plugged in: it has every method, with these arguments."""
        verifyObject(IStorageBackend, self.storage)

    async def test_healthy(self) -> None:
        """Once it has answered something, the storage says that it can serve."""
        await self.get()
        self.assertEqual(self.storage.health(), Health(True, ""))

    async def test_statistics(self) -> None:
        """C{stats} shows how many items there are, if known, as a number, and nothing unknown."""
        await self.all(Store(StoreMode.SET, b"%d" % number, b"v") for number in range(3))
        statistics = await self.storage.statistics()
        self.assertGreaterEqual(statistics.get("curr_items", 3), 3)
        known = {"curr_items", "bytes", "limit_maxbytes", "evictions", "reclaimed"}
        self.assertLessEqual(set(statistics), known | self.further_statistics)
        for number in statistics.values():
            self.assertIsInstance(number, int)

    # get

    async def test_miss(self) -> None:
        """A key that was never set is a miss."""
        self.assertEqual(await self.do(Get([b"k"])), [None])

    async def test_get_many(self) -> None:
        """Items come in the order asked for, a key named twice comes twice, misses in between."""
        await self.set(b"1", b"a", flags=1)
        await self.set(b"2", b"b", flags=2)
        found = await self.do(Get([b"b", b"none", b"a", b"b", b"none"]))
        seen = [item and (item.value, item.flags) for item in found]
        self.assertEqual(seen, [(b"2", 2), None, (b"1", 1), (b"2", 2), None])

    async def test_get_with_token(self) -> None:
        """C{gets} shows the token that the item was given when it was stored."""
        token = await self.set(b"v")
        self.assertEqual(await self.get(), Item(b"v", 0, token))

    async def test_get_does_not_change(self) -> None:
        """Reading leaves value, token and expiry alone."""
        await self.set(b"v", exptime=500)
        before = await self.item()
        await self.do(Get([b"k"]))
        self.assertEqual(await self.item(), before)
        await self.lives_for(500)

    async def test_every_value(self) -> None:
        """Any bytes can be a value, and the empty value is not a miss."""
        values = [b"", b"\0", b"\r\n", b" ", EVERY_BYTE, EVERY_BYTE * 10, b"1.0", b"None", b"-1"]
        for mode in (StoreMode.SET, StoreMode.REPLACE):
            await self.all(
                Store(StoreMode.SET if mode is StoreMode.SET else mode, b"%d" % index, value)
                for index, value in enumerate(values)
            )
            found = await self.do(Get([b"%d" % index for index in range(len(values))]))
            self.assertEqual([item.value for item in found], values)

    async def test_every_key(self) -> None:
        """Any bytes can be a key: percent signs, globs, backslashes, 250 of them."""
        keys = [bytes((code,)) for code in range(256)]
        keys += [b"%s", b"%b%d%%", b"*", b"k*", b"[a]", b"\\", b"{a}b", b"\r\n", b"k" * 250]
        keys += [EVERY_BYTE[3:253]]
        await self.all(Store(StoreMode.SET, key, b"<" + key + b">") for key in keys)
        found = await self.do(Get(keys))
        self.assertEqual([item.value for item in found], [b"<" + key + b">" for key in keys])
        self.assertEqual(await self.do(Delete(b"*")), Outcome.DELETED)
        self.assertEqual(await self.value(b"k*"), b"<k*>")

    async def test_every_flag(self) -> None:
        """Flags are 32 bits, and come back as they were given."""
        many = (0, 1, 255, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
        await self.all(Store(StoreMode.SET, b"%d" % flags, b"v", flags) for flags in many)
        found = await self.do(Get([b"%d" % flags for flags in many]))
        self.assertEqual(tuple(item.flags for item in found), many)

    # set, add, replace

    async def test_set_again(self) -> None:
        """A set replaces value, flags, expiry and token."""
        first = await self.set(b"first", flags=7, exptime=500)
        second = await self.set(b"second")
        self.assertNotEqual(first, second)
        self.assertEqual(await self.get(), Item(b"second", 0, second))
        await self.lives_for(None)

    async def test_add(self) -> None:
        """C{add} stores only where there is nothing."""
        token = self.token(await self.do(Store(StoreMode.ADD, b"k", b"v", 7, 500)))
        again = await self.do(Store(StoreMode.ADD, b"k", b"other", 8, 900))
        self.assertIs(again, Outcome.NOT_STORED)
        self.assertEqual(await self.get(), Item(b"v", 7, token))
        await self.lives_for(500)

    async def test_replace(self) -> None:
        """C{replace} stores only where there is something."""
        replace = Store(StoreMode.REPLACE, b"k", b"new", 7, 500)
        self.assertIs(await self.do(replace), Outcome.NOT_STORED)
        self.assertIsNone(await self.get())
        await self.set(b"old", flags=1)
        token = self.token(await self.do(replace))
        self.assertEqual(await self.get(), Item(b"new", 7, token))
        await self.lives_for(500)

    # cas

    async def test_compare(self) -> None:
        """C{cas} with the item's token stores, with the token it had before it does not."""
        for mode in (StoreMode.SET, StoreMode.REPLACE):
            old = await self.set(b"1")
            new = await self.set(b"2")
            late = await self.do(Store(mode, b"k", b"3", 7, compare=old))
            self.assertIs(late, Outcome.EXISTS)
            self.assertEqual(await self.get(), Item(b"2", 0, new))
            last = self.token(await self.do(Store(mode, b"k", b"3", 7, 500, compare=new)))
            self.assertEqual(await self.get(), Item(b"3", 7, last))
            await self.lives_for(500)

    async def test_compare_with_nothing(self) -> None:
        """C{cas} on a key that is not there is NOT_FOUND, and stores nothing."""
        for mode in (StoreMode.SET, StoreMode.REPLACE):
            result = await self.do(Store(mode, b"k", b"v", compare=1))
            self.assertIs(result, Outcome.NOT_FOUND)
            self.assertIsNone(await self.get())

    async def test_compare_with_strange_tokens(self) -> None:
        """A token that no item ever had matches none, however large."""
        token = await self.set(b"v")
        for compare in (0, token - 1, token + 1, TWO_63, TWO_64 - 1):
            result = await self.do(Store(StoreMode.SET, b"k", b"new", compare=compare))
            self.assertIs(result, Outcome.EXISTS)
        self.assertEqual(await self.get(), Item(b"v", 0, token))

    async def test_compare_with_zero(self) -> None:
        """Nor does 0 match the token of an item that has been given 0."""
        await self.do(Store(StoreMode.SET, b"k", b"v", new_cas=0))
        for invalidate in (False, True):
            cas = Store(StoreMode.SET, b"k", b"new", compare=0, invalidate=invalidate)
            self.assertIs(await self.do(cas), Outcome.EXISTS)
        self.assertEqual(await self.get(), Item(b"v", 0, 0))

    async def test_compare_elsewhere(self) -> None:
        """Every change can be made to depend on the token, not just a set."""
        old = await self.set(b"1")
        new = await self.set(b"2")
        late: list[Command] = [
            Store(StoreMode.APPEND, b"k", b"x", compare=old),
            Store(StoreMode.PREPEND, b"k", b"x", compare=old),
            Arithmetic(b"k", 1, compare=old),
            Arithmetic(b"k", 1, decrement=True, compare=old),
            Delete(b"k", compare=old),
        ]
        self.assertEqual(await self.all(late), [Outcome.EXISTS] * len(late))
        self.assertEqual(await self.get(), Item(b"2", 0, new))
        token = self.token(await self.do(Store(StoreMode.APPEND, b"k", b"1", compare=new)))
        token = self.token(await self.do(Store(StoreMode.PREPEND, b"k", b"3", compare=token)))
        number = await self.do(Arithmetic(b"k", 1, compare=token))
        self.assertEqual(number.value, 322)
        self.assertIs(await self.do(Delete(b"k", compare=number.cas)), Outcome.DELETED)

    async def test_compare_elsewhere_with_nothing(self) -> None:
        """Without an item, the token to compare does not matter."""
        missing: list[Command] = [
            Store(StoreMode.APPEND, b"k", b"x", compare=1),
            Arithmetic(b"k", 1, compare=1),
            Delete(b"k", compare=1),
        ]
        expected = [Outcome.NOT_STORED, Outcome.NOT_FOUND, Outcome.NOT_FOUND]
        self.assertEqual(await self.all(missing), expected)

    async def test_tokens_are_never_repeated(self) -> None:
        """Each change of any item gives a token that no item has had."""
        tokens = []
        for _ in range(3):
            tokens.append(await self.set(b"1"))
            tokens.append(await self.set(b"1", b"other"))
            tokens.append(self.token(await self.do(Store(StoreMode.REPLACE, b"k", b"1"))))
            tokens.append(self.token(await self.do(Store(StoreMode.APPEND, b"k", b"2"))))
            tokens.append(self.token(await self.do(Store(StoreMode.PREPEND, b"k", b"3"))))
            tokens.append(self.token(await self.do(Arithmetic(b"k", 5))))
            tokens.append(self.token(await self.do(Arithmetic(b"k", 0))))
            tokens.append(self.token(await self.do(Arithmetic(b"k", 5, decrement=True))))
            compared = Store(StoreMode.SET, b"k", b"1", compare=tokens[-1])
            tokens.append(self.token(await self.do(compared)))
            self.assertEqual((await self.item()).cas, tokens[-1])
            await self.do(Delete(b"k"))
            tokens.append(self.token(await self.do(Store(StoreMode.ADD, b"k", b"1"))))
            await self.do(Flush())
            tokens.append(self.token(await self.do(Arithmetic(b"k", 1, initial=1))))
        self.assertEqual(len(set(tokens)), len(tokens))

    # append, prepend

    async def test_append_and_prepend(self) -> None:
        """They add to the value, keep flags and expiry, and give a new token."""
        first = await self.set(b"m", flags=7, exptime=500)
        second = self.token(await self.do(Store(StoreMode.APPEND, b"k", EVERY_BYTE, 8, 900)))
        third = self.token(await self.do(Store(StoreMode.PREPEND, b"k", b"\0\xff", 9, -1)))
        self.assertEqual(len({first, second, third}), 3)
        self.assertEqual(await self.get(), Item(b"\0\xffm" + EVERY_BYTE, 7, third))
        await self.lives_for(500)

    async def test_append_nothing(self) -> None:
        """Adding no bytes, or adding to no bytes, is a change like any other."""
        first = await self.set(b"")
        second = self.token(await self.do(Store(StoreMode.APPEND, b"k", b"")))
        self.assertNotEqual(first, second)
        self.assertEqual(await self.value(), b"")
        await self.do(Store(StoreMode.PREPEND, b"k", b"v"))
        self.assertEqual(await self.value(), b"v")

    async def test_append_to_nothing(self) -> None:
        """Without an item there is nothing to add to."""
        for mode in (StoreMode.APPEND, StoreMode.PREPEND):
            result = await self.do(Store(mode, b"k", b"v"))
            self.assertIs(result, Outcome.NOT_STORED)
            self.assertIsNone(await self.get())

    async def test_append_beyond_room(self) -> None:
        """An item may grow to the limit and not a byte further; too much leaves it as it was."""
        for flags, key in ((0, b"k"), (1, b"a longer key"), (0, b"k" * 250)):
            room = LIMITS.value_room(key) - (FLAGS_OVERHEAD if flags else 0)
            self.assertTrue(LIMITS.fits(key, flags, room))
            self.assertFalse(LIMITS.fits(key, flags, room + 1))
            for mode in (StoreMode.APPEND, StoreMode.PREPEND):
                token = await self.set(b"\0" * (room - 10), key, flags)
                too_much = await self.do(Store(mode, key, b"x" * 11))
                self.assertIs(too_much, Outcome.NOT_STORED)
                self.assertEqual(await self.get(key), Item(b"\0" * (room - 10), flags, token))
                self.token(await self.do(Store(mode, key, b"x" * 10)))
                self.assertIs(await self.do(Store(mode, key, b"x")), Outcome.NOT_STORED)
                self.token(await self.do(Store(mode, key, b"")))
                self.assertEqual(len((await self.item(key)).value), room)

    # incr, decr

    async def test_count(self) -> None:
        """A counter counts up and down; flags and expiry stay."""
        first = await self.set(b"10", flags=7, exptime=500)
        up = await self.do(Arithmetic(b"k", 5))
        self.assertEqual(up.value, 15)
        down = await self.do(Arithmetic(b"k", 7, decrement=True))
        self.assertEqual(down.value, 8)
        self.assertEqual(len({first, up.cas, down.cas}), 3)
        self.assertEqual(await self.get(), Item(b"8 ", 7, down.cas))
        await self.lives_for(500)

    async def test_count_nothing(self) -> None:
        """Without an item and without a first value, there is nothing to count."""
        for decrement in (False, True):
            result = await self.do(Arithmetic(b"k", 1, decrement))
            self.assertIs(result, Outcome.NOT_FOUND)
        self.assertIsNone(await self.get())

    async def test_initial(self) -> None:
        """A first value is stored as it is, with its expiry; after that it does not matter."""
        for initial in (0, 5, TWO_63 + 1, TWO_64 - 1):
            key = b"%d" % initial
            first = await self.do(Arithmetic(key, 3, initial=initial, exptime=500))
            self.assertEqual(first.value, initial)
            self.assertEqual(await self.get(key), Item(key, 0, first.cas))
            await self.lives_for(500, key)
            second = await self.do(Arithmetic(key, 3, True, initial=99, exptime=900))
            self.assertEqual(second.value, max(0, initial - 3))
            await self.lives_for(500, key)

    async def test_arithmetic(self) -> None:
        """Over the whole range, counting is what exact numbers say; oddly spelled ones too."""
        cases = [
            (value, delta, decrement)
            for value in ODD_NUMBERS
            for delta in EDGES
            for decrement in (False, True)
        ]
        expected: list[tuple[Any, bytes]] = []
        commands: list[Command] = []
        for value, delta, decrement in cases:
            counts = counted(value, delta, decrement)
            expected.append((Outcome.NON_NUMERIC, value) if counts is None else counts)
            commands.append(Store(StoreMode.SET, b"k", value))
            commands.append(Arithmetic(b"k", delta, decrement))
            commands.append(Get([b"k"]))
        results = await self.all(commands)
        for case, outcome, result, (item,) in zip(
            cases, expected, results[1::3], results[2::3], strict=True
        ):
            seen = result.value if isinstance(result, Number) else result
            self.assertEqual((seen, item.value), outcome, case)

    async def test_long_value_that_begins_with_a_number(self) -> None:
        """The number takes the value's place, and blanks fill up what it leaves."""
        await self.set(b"7 " + b"x" * 3000)
        await self.do(Arithmetic(b"k", 3))
        self.assertEqual(await self.value(), b"10".ljust(3002))

    async def test_not_a_number(self) -> None:
        """A value that is no number stays as it is, with its token."""
        token = await self.set(b"seven", flags=7)
        self.assertIs(await self.do(Arithmetic(b"k", 1)), Outcome.NON_NUMERIC)
        self.assertEqual(await self.get(), Item(b"seven", 7, token))

    async def test_empty_is_no_number_whatever_its_token(self) -> None:
        """An empty value is refused before its token is looked at, as in memcached."""
        token = await self.set(b"")
        for compare in (token, token + 1):
            self.assertIs(await self.do(Arithmetic(b"k", 1, compare=compare)), Outcome.NON_NUMERIC)

    # delete, discard

    async def test_delete(self) -> None:
        """A deleted item is gone, and so is what it was: flags, expiry, token."""
        await self.set(b"v", flags=7, exptime=500)
        self.assertIs(await self.do(Delete(b"k")), Outcome.DELETED)
        self.assertIs(await self.do(Delete(b"k")), Outcome.NOT_FOUND)
        self.assertIsNone(await self.get())
        token = self.token(await self.do(Store(StoreMode.ADD, b"k", b"v")))
        self.assertEqual(await self.get(), Item(b"v", 0, token))
        await self.lives_for(None)

    async def test_discard(self) -> None:
        """The item whose next value was refused is gone, if it was there."""
        await self.set(b"v")
        await self.set(b"v", b"other")
        await self.all([Discard(b"k"), Discard(b"k"), Discard(b"none")])
        self.assertIsNone(await self.get())
        self.assertEqual(await self.value(b"other"), b"v")

    # touch and expiry

    async def test_touch(self) -> None:
        """A touch gives a new expiry, and leaves value and token alone."""
        token = await self.set(b"v", flags=7)
        for exptime, left in ((500, 500), (900, 900), (0, None)):
            self.assertEqual(await self.do(Touch(b"k", exptime)), Touched(7, token))
            await self.lives_for(left)
            self.assertEqual(await self.get(), Item(b"v", 7, token))

    async def test_touch_nothing(self) -> None:
        """There is nothing to touch where there is no item."""
        for exptime in (0, 500, -1):
            self.assertIs(await self.do(Touch(b"k", exptime)), Outcome.NOT_FOUND)
            self.assertEqual(await self.do(GetAndTouch([b"k"], exptime)), [None])
        self.assertIsNone(await self.get())

    async def test_touch_away(self) -> None:
        """A touch with an expiry that is over ends the item, and says so as for any touch."""
        for exptime in (-1, MAX_RELATIVE + 1, self.absolute(-10)):
            token = await self.set(b"v")
            self.assertEqual(await self.do(Touch(b"k", exptime)), Touched(0, token))
            self.assertIsNone(await self.get())

    async def test_get_and_touch(self) -> None:
        """C{gat} gives the items and each that is there a new expiry."""
        token = await self.set(b"1", b"a", flags=7)
        await self.set(b"2", b"b", exptime=100)
        found = await self.do(GetAndTouch([b"a", b"none", b"b", b"a"], 500, cas=True))
        self.assertEqual([item and item.value for item in found], [b"1", None, b"2", b"1"])
        self.assertEqual((found[0].flags, found[0].cas), (7, token))
        await self.lives_for(500, b"a")
        await self.lives_for(500, b"b")
        self.assertIsNone(await self.get(b"none"))
        await self.do(GetAndTouch([b"a"], 0))
        await self.lives_for(None, b"a")

    async def test_get_and_touch_away(self) -> None:
        """C{gat} with an expiry that is over shows the item once more."""
        await self.set(b"v")
        found = await self.do(GetAndTouch([b"k", b"k"], -1))
        self.assertEqual([item and item.value for item in found], [b"v", None])

    async def test_exptime(self) -> None:
        """0 is for ever, up to 30 days count from now, more is a point in time."""
        for exptime, left in (
            (0, None),
            (1000, 1000),
            (MAX_RELATIVE, MAX_RELATIVE),
            (self.absolute(1000), 1000),
            (self.absolute(MAX_RELATIVE * 5), MAX_RELATIVE * 5),
        ):
            await self.set(b"v", exptime=exptime)
            await self.lives_for(left)

    async def test_stored_and_gone(self) -> None:
        """An expiry in the past stores the item as for any set, and it is gone at once."""
        for exptime in (-1, -(2**31), MAX_RELATIVE + 1, self.absolute(-10)):
            await self.set(b"old")
            await self.set(b"v", exptime=exptime)
            self.assertIsNone(await self.get())
            self.token(await self.do(Store(StoreMode.ADD, b"k", b"v", exptime=exptime)))
            self.assertIsNone(await self.get())
            number = await self.do(Arithmetic(b"k", 1, initial=5, exptime=exptime))
            self.assertEqual(number.value, 5)
            self.assertIsNone(await self.get())

    async def test_expiry(self) -> None:
        """An item lives as long as it should, and then every command finds nothing."""
        for relative in (True, False):
            await self.set(b"1", exptime=1000 if relative else self.absolute(1000))
            await self.elapse(900)
            self.assertEqual(await self.value(), b"1")
            await self.elapse(101)
            gone: list[Command] = [
                Get([b"k"]),
                Store(StoreMode.REPLACE, b"k", b"v"),
                Store(StoreMode.APPEND, b"k", b"v"),
                Store(StoreMode.SET, b"k", b"v", compare=1),
                Arithmetic(b"k", 1),
                Touch(b"k", 0),
                Delete(b"k"),
            ]
            expected = [[None], Outcome.NOT_STORED, Outcome.NOT_STORED] + [Outcome.NOT_FOUND] * 4
            self.assertEqual(await self.all(gone), expected)
            self.token(await self.do(Store(StoreMode.ADD, b"k", b"v")))
            await self.elapse(10**6)
            self.assertEqual(await self.value(), b"v")

    async def test_expiry_survives_changes(self) -> None:
        """Counting and adding do not prolong an item's life."""
        await self.set(b"1", exptime=1000)
        await self.elapse(500)
        await self.all([Store(StoreMode.APPEND, b"k", b"2"), Arithmetic(b"k", 1, exptime=5000)])
        self.assertEqual(await self.value(), b"13")
        await self.elapse(501)
        self.assertIsNone(await self.get())

    # flush

    async def test_flush(self) -> None:
        """C{flush_all} takes every item, and what is stored after it stays."""
        for exptime in (0, -1):
            for key in (b"a", b"b", b"*"):
                await self.set(b"v", key)
            results = await self.all(
                [Get([b"a"]), Flush(exptime), Get([b"a", b"b", b"*"]), *_sets(b"a"), Get([b"a"])]
            )
            self.assertEqual(results[0][0].value, b"v")
            self.assertIs(results[1], Outcome.OK)
            self.assertEqual(results[2], [None, None, None])
            self.assertEqual(results[4][0].value, b"v")
            self.assertEqual(await self.value(b"a"), b"v")

    async def test_flush_many(self) -> None:
        """However many items there are, none is left."""
        keys = [b"%d" % number for number in range(3000)]
        await self.all(_sets(*keys))
        self.assertIs(await self.do(Flush()), Outcome.OK)
        self.assertEqual(await self.do(Get(keys)), [None] * len(keys))

    async def test_flush_later(self) -> None:
        """A delayed flush takes everything when its time comes, what came meanwhile too."""
        for relative in (True, False):
            await self.set(b"v", b"a")
            exptime = 1000 if relative else int(self.now()) + 1000
            self.assertIs(await self.do(Flush(exptime)), Outcome.OK)
            await self.elapse(900)
            self.assertEqual(await self.value(b"a"), b"v")
            await self.set(b"v", b"b")
            await self.elapse(101)
            self.assertEqual(await self.do(Get([b"a", b"b"])), [None, None])
            await self.set(b"v", b"a")
            await self.elapse(10**6)
            self.assertEqual(await self.value(b"a"), b"v")

    async def test_flush_replaces_a_later_one(self) -> None:
        """Only the last C{flush_all} counts: one at once calls off the one that waits."""
        await self.do(Flush(1000))
        await self.do(Flush())
        await self.set(b"v")
        await self.elapse(1001)
        self.assertEqual(await self.value(), b"v")
        await self.all([Flush(1000), Flush(3000)])
        await self.elapse(2000)
        self.assertEqual(await self.value(), b"v")
        await self.elapse(1001)
        self.assertIsNone(await self.get())
        await self.set(b"v")
        await self.all([Flush(3000), Flush(1000)])
        await self.elapse(1001)
        self.assertIsNone(await self.get())
        await self.set(b"v")
        await self.elapse(3000)
        self.assertEqual(await self.value(), b"v")

    async def test_flush_after_one_that_was_due(self) -> None:
        """A flush whose time has come has taken its items, though nobody has looked since."""
        await self.set(b"v", b"a")
        await self.do(Flush(1000))
        await self.elapse(1001)
        await self.do(Flush(1000))
        self.assertIsNone(await self.get(b"a"))

    # batches

    async def test_no_commands(self) -> None:
        """Nothing asked is nothing answered, and harms nobody who asks after."""
        self.assertEqual(await self.all([]), [])
        self.assertEqual(await self.all([Get([]), Get([b"k"])]), [[], [None]])
        self.assertEqual(await self.all([Get([])]), [[]])
        await self.set(b"v")
        self.assertEqual(await self.value(), b"v")

    async def test_order_in_a_batch(self) -> None:
        """Each command sees what the one before it has done."""
        results = await self.all(
            [
                Get([b"k"]),
                Store(StoreMode.ADD, b"k", b"1"),
                Get([b"k"]),
                Store(StoreMode.APPEND, b"k", b"0"),
                Arithmetic(b"k", 5),
                Store(StoreMode.ADD, b"k", b"9"),
                Get([b"k", b"k"]),
                Delete(b"k"),
                Touch(b"k", 0),
                Arithmetic(b"k", 5, initial=7),
                Flush(),
                Get([b"k"]),
                Store(StoreMode.SET, b"k", b"last", 3),
                Get([b"k"]),
            ]
        )
        seen = [_plain(result) for result in results]
        self.assertEqual(
            seen,
            [
                [None],
                "stored",
                [(b"1", 0)],
                "stored",
                15,
                Outcome.NOT_STORED,
                [(b"15", 0), (b"15", 0)],
                Outcome.DELETED,
                Outcome.NOT_FOUND,
                7,
                Outcome.OK,
                [None],
                "stored",
                [(b"last", 3)],
            ],
        )

    async def test_large_batch(self) -> None:
        """Thousands of commands at once are answered in their order."""
        commands: list[Command] = []
        expected: list[Any] = []
        for number in range(1500):
            key = b"%d" % (number % 100)
            commands += [
                Store(StoreMode.SET, key, b"%d" % number, number),
                Arithmetic(key, 1),
                Get([key, b"none"]),
            ]
            expected += ["stored", number + 1, [(b"%d" % (number + 1), number), None]]
        self.assertEqual([_plain(result) for result in await self.all(commands)], expected)

    async def test_batches_at_the_same_time(self) -> None:
        """Batches of different clients are each answered, and no change is lost."""
        pending = [
            self.storage.execute([Arithmetic(b"k", 1, initial=1), Get([b"k"])]) for _ in range(200)
        ]
        counts = [(await answer)[0].value for answer in pending]
        self.assertEqual(sorted(counts), list(range(1, 201)))


def _sets(*keys: bytes) -> list[Command]:
    return [Store(StoreMode.SET, key, b"v") for key in keys]


def _plain(result: Result) -> Any:
    """A result without its tokens."""
    match result:
        case list():
            return [found and (found.value, found.flags) for found in result]
        case Stored():
            return "stored"
        case Number(value=value):
            return value
    return result


START = 1_700_000_000.25
