"""What the table keeps, and how much of it."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from redcouch.backends.cached.table import OVERHEAD, SHARE, Room, Table
from redcouch.value_lines import tell_item

pytestmark = pytest.mark.everywhere

ROOM = 32 * 1024
LARGEST = ROOM // SHARE - OVERHEAD - len(b"k1k1k1" + tell_item(b"k1", bytes(1111), 0)) + 1111
"""Bytes of a value of a key of two, of which the table takes just so many."""


def make() -> tuple[Table, dict[str, int]]:
    counts = {"cache_bytes": 0, "cache_invalidations": 0}
    return Table(Room(ROOM, counts)), counts


def keep(table: Table, *keys: bytes, size: int = 1, left: int = -1, now: float = 0.0) -> None:
    """Read these from Redis."""
    begun = table.begin()
    items = [(bytes(size), 0, 0) for _ in keys]
    table.store(keys, items, [left] * len(keys), begun, now)
    table.end()


def there(table: Table, *keys: bytes) -> list[bool]:
    """Which of them are there."""
    return [lines is not None for lines in table.find(keys)]


def use(table: Table, *keys: bytes, now: float = 0.0) -> bool:
    """Find them, and be told at this time whether they are so still."""
    begun = table.begin()
    assert all(there(table, *keys))
    table.pass_time(now)
    holds = table.holds(keys, begun)
    table.end()
    return holds


def test_bound() -> None:
    """However much is read, what is kept stays within the bound."""
    table, counts = make()
    for number in range(1000):
        keep(table, b"%d" % number, size=number % LARGEST)
        assert counts["cache_bytes"] <= ROOM
    assert counts["cache_bytes"] > ROOM / 2
    assert there(table, b"0", b"999") == [False, True]


@pytest.mark.parametrize("left", [-1, 10**6])
@pytest.mark.parametrize("length", [12, 250])
def test_bound_is_of_memory(length: int, left: int) -> None:
    """Items that may expire, and of which is noted which are in use, take no more than they may."""
    room = 8 * 1024 * 1024

    def name(number: int) -> bytes:
        """A key of its own, as each request has it."""
        return b"%0*d" % (length, number)

    tracemalloc.start()
    try:
        table = Table(Room(room, {"cache_bytes": 0, "cache_invalidations": 0}))
        for number in range(0, 20000, 1000):
            keep(table, *map(name, range(number, number + 1000)), left=left, now=float(number))
            if number % 4000 == 0:  # whoever tells Redis takes them out
                table.used = set()
            lately = map(name, range(max(0, number - 4000), number))
            use(table, *(key for key in lately if there(table, key) == [True]))
        assert room / 2 < tracemalloc.get_traced_memory()[0] <= room
    finally:
        tracemalloc.stop()


def test_share() -> None:
    """No item takes more than its share."""
    table, _ = make()
    keep(table, b"k1", size=LARGEST)
    keep(table, b"k2", size=LARGEST + 1)
    assert there(table, b"k1", b"k2") == [True, False]


def test_lines() -> None:
    """What is given of what was read: lines, nothing for a miss, and None for what is none."""
    table, _ = make()
    found = [(b"v", 7, 0), None, ValueError("no"), (b"w", 0, 0)]
    begun = table.begin()
    given = table.store([b"a", b"b", b"c", b"d"], found, [-1, -2, -1, -2], begun, 0.0)
    assert given == [b"VALUE a 7 1\r\nv\r\n", b"", None, b"VALUE d 0 1\r\nw\r\n"]
    assert table.find([b"a", b"b", b"c", b"d"]) == [given[0], None, None, None]


def test_what_is_used_stays() -> None:
    """What is used, once there is little room, stays longer than what was stored after it."""
    table, _ = make()
    number = 0
    keep(table, b"a", b"b", b"c", size=LARGEST)
    while there(table, b"b") == [True]:
        assert use(table, b"a")
        keep(table, b"%d" % number, size=LARGEST)
        number += 1
    assert there(table, b"a", b"b") == [True, False]
    while there(table, b"a") == [True]:  # and no longer, once it is not
        keep(table, b"%d" % number, size=LARGEST)
        number += 1
    assert number < 4 * ROOM // LARGEST


def test_one_that_is_new_finds_room_among_many_in_use() -> None:
    """If all is in use, something goes all the same."""
    table, counts = make()
    for number in range(200):
        keep(table, b"%d" % number)
        use(table, *(key for key in map(b"%d".__mod__, range(number)) if there(table, key)[0]))
        assert counts["cache_bytes"] <= ROOM
        assert there(table, b"%d" % number) == [True]


def test_used() -> None:
    """Whoever wants to know is told of what was used, and not of what was only found."""
    table, _ = make()
    keep(table, b"a", b"b")
    assert use(table, b"a")
    assert table.used is None
    table.used = set()
    table.find([b"a"])
    assert use(table, b"b")
    assert table.used == {b"b"}


def test_size_is_of_what_is_there() -> None:
    """What is stored again, dropped or cleared is not counted twice, or for ever."""
    table, counts = make()
    keep(table, b"a", b"b")
    both = counts["cache_bytes"]
    keep(table, b"a", b"b")
    assert counts["cache_bytes"] == both
    table.invalidate([b"a", b"not there"])
    assert counts == {"cache_bytes": both // 2, "cache_invalidations": 1}
    table.clear()
    assert counts == {"cache_bytes": 0, "cache_invalidations": 2}
    keep(table, b"a")
    table.close()  # as a connection does that is lost: nothing has changed
    assert counts == {"cache_bytes": 0, "cache_invalidations": 2}


def test_end() -> None:
    """An item is there until its time has come, to the millisecond."""
    table, _ = make()
    keep(table, b"k", b"other", left=1500, now=10.0)
    keep(table, b"other", left=-1, now=10.0)
    assert use(table, b"k", b"other", now=11.499)
    assert not use(table, b"k", b"other", now=11.5)
    assert there(table, b"k", b"other") == [False, True]
    assert use(table, b"other", now=1e9)


def test_many_that_end_together() -> None:
    """Not all are looked at, and none is told after its end."""
    table = Table(Room(64 * 1024 * 1024, {"cache_bytes": 0, "cache_invalidations": 0}))
    keys = [b"%d" % number for number in range(5000)]
    keep(table, *keys, left=1000)
    keep(table, b"stays")
    while any(there(table, *keys)):
        first = next(key for key in keys if there(table, key)[0])
        assert not use(table, first, now=1.0)
    assert use(table, b"stays", now=1.0)


def test_ends_of_what_is_stored_again_and_again() -> None:
    """The ends of items that are not there any more take no memory for long."""
    table, _ = make()
    for number in range(10_000):
        keep(table, b"k", left=1_000_000 + number)
    assert len(table._next) < 3000
    assert use(table, b"k", now=1000.0)


def test_changes_while_something_is_found() -> None:
    """Only what has changed since it was found is no more, whoever looks and in whatever order."""
    table, _ = make()
    keys = [b"%d" % number for number in range(10)]
    chance = random.Random(5)
    keep(table, *keys)
    looking: list[tuple[int, list[bytes], set[bytes]]] = []
    for _ in range(3000):
        match chance.randrange(4):
            case 0:
                some = [key for key in chance.sample(keys, 3) if there(table, key)[0]]
                looking.append((table.begin(), some, set()))
            case 1 if looking:
                begun, some, changed = looking.pop(chance.randrange(len(looking)))
                assert table.holds(some, begun) == changed.isdisjoint(some)
                table.end()
            case 2:
                key = chance.choice(keys)
                table.invalidate([key])
                for *_, changed in looking:
                    changed.add(key)
            case _:
                keep(table, chance.choice(keys))


def test_floods_of_changes() -> None:
    """Of more changes than it remembers during a read, none is lost."""
    table, _ = make()
    item = (b"v", 0, 0)
    begun = table.begin()
    table.invalidate([b"k"])
    for number in range(10_000):
        table.invalidate([b"other %d" % number])
    table.store([b"k", b"fresh"], [item, item], [-1, -1], begun, 0.0)
    assert there(table, b"k") == [False]
    assert not table.holds([b"k"], begun)
    again = table.begin()
    table.store([b"k"], [item], [-1], again, 0.0)
    assert there(table, b"k") == [True]


def test_what_is_no_item() -> None:
    """A miss, a failure and what nobody knows the life of are not kept."""
    table, _ = make()
    item = (b"v", 0, 0)
    begun = table.begin()
    keys = [b"miss", b"gone", b"ends", b"error", b"there"]
    lives = [-2, -2, 0, ValueError("no"), 1]
    table.store(keys, [None, item, item, item, item], lives, begun, 0.0)
    assert there(table, *keys) == [False, False, False, False, True]
