"""What is counted, under memcached's names."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
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
from redcouch.results import (
    ErrorKind,
    Failed,
    Item,
    MetaItem,
    Number,
    Outcome,
    Result,
    Stored,
    Touched,
)
from redcouch.telemetry.counters import CountedUp, Counters, count

SET, REPLACE, APPEND = StoreMode.SET, StoreMode.REPLACE, StoreMode.APPEND
X = Item(b"x", 0, 1)
META = MetaItem(b"x", 1, 0, 1)
AWAY = Failed(ErrorKind.UNAVAILABLE, "away")
FULL = Failed(ErrorKind.OUT_OF_MEMORY, "full")

COUNTED: list[tuple[Command, Result, dict[str, int]]] = [
    (Get([b"a"]), [X], {"cmd_get": 1, "get_hits": 1}),
    (Get([b"a"]), [None], {"cmd_get": 1, "get_misses": 1}),
    (
        Get([b"a", b"b", b"c", b"d"]),
        [X, None, X, AWAY],
        {"cmd_get": 4, "get_hits": 2, "get_misses": 1, "storage_errors": 1, "get_errors": 1},
    ),
    (Get([b"a", b"b"]), AWAY, {"storage_errors": 1, "get_errors": 1}),
    (MetaGet(b"a"), AWAY, {"storage_errors": 1, "get_errors": 1}),
    (
        GetAndTouch([b"a", b"b", b"c"], 0),
        [X, AWAY, None],
        {
            "cmd_touch": 3,
            "touch_hits": 1,
            "touch_misses": 1,
            "touch_errors": 1,
            "storage_errors": 1,
        },
    ),
    (
        GetAndTouch([b"a", b"b", b"c"], 0),
        [X, None, None],
        {"cmd_touch": 3, "touch_hits": 1, "touch_misses": 2},
    ),
    (Store(SET, b"a", b""), Stored(1), {"cmd_set": 1, "total_items": 1}),
    (Store(APPEND, b"a", b""), Outcome.NOT_STORED, {"cmd_set": 1, "set_not_stored": 1}),
    (
        Store(SET, b"a", b"", compare=5),
        Stored(1),
        {"cmd_set": 1, "total_items": 1, "cas_hits": 1},
    ),
    (Store(SET, b"a", b"", compare=5), Outcome.EXISTS, {"cmd_set": 1, "cas_badval": 1}),
    (Store(REPLACE, b"a", b"", compare=5), Outcome.NOT_FOUND, {"cmd_set": 1, "cas_misses": 1}),
    (
        Store(APPEND, b"a", b"", compare=5),
        Outcome.EXISTS,
        {"cmd_set": 1, "set_not_stored": 1},
    ),
    (Store(SET, b"a", b""), FULL, {"storage_errors": 1, "store_no_memory": 1, "set_errors": 1}),
    (Discard(b"a"), AWAY, {"storage_errors": 1, "set_errors": 1}),
    (Delete(b"a"), AWAY, {"storage_errors": 1, "delete_errors": 1}),
    (Invalidate(b"a", True), AWAY, {"storage_errors": 1, "delete_errors": 1}),
    (Arithmetic(b"a", 1), AWAY, {"storage_errors": 1, "incr_errors": 1}),
    (Arithmetic(b"a", 1, True), AWAY, {"storage_errors": 1, "decr_errors": 1}),
    (Touch(b"a", 0), AWAY, {"storage_errors": 1, "touch_errors": 1}),
    (Flush(), AWAY, {"storage_errors": 1, "flush_errors": 1}),
    (Inspect(b"a"), AWAY, {"storage_errors": 1}),
    (Arithmetic(b"a", 1), Number(1, 1), {"incr_hits": 1}),
    (Arithmetic(b"a", 1), Number(1, 1, created=True), {"total_items": 1}),
    (Arithmetic(b"a", 1), Outcome.NOT_FOUND, {"incr_misses": 1}),
    (Arithmetic(b"a", 1), Outcome.NON_NUMERIC, {}),
    (Arithmetic(b"a", 1, True), Number(1, 1), {"decr_hits": 1}),
    (Arithmetic(b"a", 1, True), Outcome.NOT_FOUND, {"decr_misses": 1}),
    (Delete(b"a"), Outcome.DELETED, {"delete_hits": 1}),
    (Delete(b"a"), Outcome.NOT_FOUND, {"delete_misses": 1}),
    (Delete(b"a", 5), Outcome.EXISTS, {"delete_misses": 1}),
    (Delete(b"a", 5, exists_is_miss=False), Outcome.EXISTS, {}),
    (Touch(b"a", 0), Touched(0, 1), {"cmd_touch": 1, "touch_hits": 1}),
    (Touch(b"a", 0), Outcome.NOT_FOUND, {"cmd_touch": 1, "touch_misses": 1}),
    (MetaGet(b"a"), META, {"cmd_get": 1, "get_hits": 1}),
    (MetaGet(b"a"), None, {"cmd_get": 1, "get_misses": 1}),
    (MetaGet(b"a", touch=5), META, {"cmd_touch": 1, "touch_hits": 1}),
    (Invalidate(b"a", True), Outcome.OK, {}),
    (Invalidate(b"a", True), Outcome.NOT_FOUND, {"delete_misses": 1}),
    (Invalidate(b"a", False, True), Outcome.OK, {"delete_hits": 1, "total_items": 1}),
    (Flush(), Outcome.OK, {"cmd_flush": 1}),
    (Discard(b"a"), Outcome.DELETED, {"store_too_large": 1}),
    (Inspect(b"a"), None, {}),
]


def differences(counters: Counters) -> dict[str, int]:
    """What is not zero."""
    return {name: value for name, value in asdict(counters).items() if value}


@pytest.mark.parametrize(("command", "result", "expected"), COUNTED)
def test_count(command: Command, result: Result, expected: dict[str, int]) -> None:
    """An answered command adds to what C{stats} shows about its kind, and to nothing else."""
    counters = Counters()
    count(counters, command, result)
    assert differences(counters) == expected
    count(counters, command, result)
    assert differences(counters) == {name: 2 * value for name, value in expected.items()}


def test_reset() -> None:
    """C{stats reset} forgets everything but what is so now."""
    counters = Counters(**dict.fromkeys(asdict(Counters()), 7))
    counters.reset()
    assert differences(counters) == {"curr_connections": 7}


def test_add() -> None:
    """The books of two processes are one."""
    counters = Counters(cmd_get=3, curr_connections=1)
    counters.add(Counters(cmd_get=4, curr_connections=2, cmd_set=1))
    assert differences(counters) == {"cmd_get": 7, "curr_connections": 3, "cmd_set": 1}


def test_counted_up() -> None:
    """Sums go on from where they were; what is told late is nothing new."""
    counted = CountedUp()
    assert counted.take({"a": {"at": 5, "x": 10}, "b": {"at": 1, "x": 7, "y": 1}})["x"] == 17
    assert counted.take({"a": {"at": 6, "x": 12}}) == {"x": 19, "y": 1}  # the other is away
    assert counted.take({"a": {"at": 5, "x": 11}}) == {"x": 19, "y": 1}  # who had asked before
    assert counted.take({"a": {"at": 7, "x": 3}}) == {"x": 22, "y": 1}  # it has begun anew
    hour = 3_600_000_000
    assert counted.take({"a": {"at": hour, "x": 4}})["x"] == 23
    assert counted.take({"a": {"at": 9, "x": 6}})["x"] == 25  # its clock has been set back
