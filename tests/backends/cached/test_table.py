"""What the table keeps, and how much of it."""

from __future__ import annotations

from redcouch.backends.cached.table import OVERHEAD, SHARE, Found, Table

ROOM = 16 * 1024
LARGEST = ROOM // SHARE - OVERHEAD - 2
"""Bytes of a value of a key of two, of which the table takes just so many."""


def make() -> tuple[Table, dict[str, int]]:
    counts = {"cache_bytes": 0, "cache_invalidations": 0}
    return Table(ROOM, counts), counts


def keep(table: Table, *keys: bytes, size: int = 1, left: int = -1, now: float = 0.0) -> None:
    """Read these from Redis."""
    begun = table.begin()
    items: list[Found] = [(bytes(size), 0, 0) for _ in keys]
    table.store(keys, items, [left] * len(keys), begun, now)
    table.end()


def there(table: Table, *keys: bytes) -> list[bool]:
    """Which of them are there."""
    return [entry is not None for entry in table.find(keys)]


def test_bound() -> None:
    """However much is read, what is kept stays within the bound."""
    table, counts = make()
    for number in range(1000):
        keep(table, b"%d" % number, size=number % LARGEST)
        assert counts["cache_bytes"] <= ROOM
    assert counts["cache_bytes"] > ROOM / 2
    assert there(table, b"0", b"999") == [False, True]


def test_share() -> None:
    """No item takes more than its share."""
    table, _ = make()
    keep(table, b"k1", size=LARGEST)
    keep(table, b"k2", size=LARGEST + 1)
    assert there(table, b"k1", b"k2") == [True, False]


def test_least_recently_used_goes_first() -> None:
    """What was used since stays longer than what was stored after it."""
    table, _ = make()
    keep(table, b"a", b"b", b"c", size=LARGEST)
    entries = table.find([b"a"])
    assert table.confirm([b"a"], entries, 5.0) == [(bytes(LARGEST), 0, 0)]
    number = 0
    while all(there(table, b"a", b"b")):
        keep(table, b"%d" % number, size=LARGEST)
        number += 1
    assert there(table, b"a", b"b") == [True, False]
    assert table.cold == [b"a"]


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


def test_end() -> None:
    """An item is there until its time has come, to the millisecond."""
    table, _ = make()
    keep(table, b"k", left=1500, now=10.0)
    entries = table.find([b"k"])
    assert table.confirm([b"k"], entries, 11.499) is not None
    assert table.confirm([b"k"], entries, 11.5) is None
    assert there(table, b"k") == [False]


def test_floods_of_changes() -> None:
    """Of more changes than it remembers during a read, none is lost."""
    table, _ = make()
    item: Found = (b"v", 0, 0)
    begun = table.begin()
    table.invalidate([b"k"])
    for number in range(10_000):
        table.invalidate([b"other %d" % number])
    table.store([b"k", b"fresh"], [item, item], [-1, -1], begun, 0.0)
    assert there(table, b"k") == [False]
    again = table.begin()
    table.store([b"k"], [item], [-1], again, 0.0)
    assert there(table, b"k") == [True]


def test_what_is_no_item() -> None:
    """A miss, a failure and what nobody knows the life of are not kept."""
    table, _ = make()
    item: Found = (b"v", 0, 0)
    begun = table.begin()
    keys = [b"miss", b"gone", b"ends", b"error", b"there"]
    lives = [-2, -2, 0, ValueError("no"), 1]
    table.store(keys, [None, item, item, item, item], lives, begun, 0.0)
    assert there(table, *keys) == [False, False, False, False, True]
