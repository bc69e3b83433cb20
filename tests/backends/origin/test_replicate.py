"""What the old side is told of a change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from redcouch.backends.origin.origin_first import OriginFirst
from redcouch.backends.origin.replicate import from_now, replicated_changes
from redcouch.commands import (
    Arithmetic,
    Command,
    Flush,
    GetAndTouch,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from redcouch.memcached_client.protocol import Reply
from redcouch.results import Item, MetaItem, Number, Outcome, Result, Stored, Touched

NOW = 1_700_000_000.5
K = b"k"
IN_A_WHILE = 1_700_000_100
DAYS_30 = 30 * 24 * 3600


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (Store(StoreMode.SET, K, b"x", exptime=IN_A_WHILE), Stored(1)),
        (Arithmetic(K, 1, initial=5, exptime=IN_A_WHILE), Number(5, 1, created=True)),
        (Arithmetic(K, 1, touch=IN_A_WHILE), Number(5, 1)),
        (Touch(K, IN_A_WHILE), Touched(0, 1)),
        (GetAndTouch([K], IN_A_WHILE), [Item(b"x", 0, 1)]),
        (MetaGet(K, touch=IN_A_WHILE), MetaItem(b"x", 1, 0, 1)),
    ],
)
def test_an_expiry_is_told_from_now(command: Command, result: Result) -> None:
    """Its clock may be another one, and what is over here would not be there."""
    request = b"".join(one.request for one in replicated_changes([command], [result], NOW))
    assert b" T100" in request
    assert b"%d" % IN_A_WHILE not in request


@pytest.mark.parametrize(
    ("exptime", "told"),
    [
        *((same, same) for same in (0, -1, 100, DAYS_30, 1_800_000_000)),
        (1_700_000_001, 1),
        (1_700_000_000 + DAYS_30, DAYS_30),
        (1_700_000_000, -1),  # 0 would be for ever
        (DAYS_30 + 1, -1),
    ],
)
def test_from_now(exptime: int, told: int) -> None:
    assert from_now(exptime, NOW) == told


class _Pool:
    def __init__(self) -> None:
        self.told: list[bytes] = []

    async def tell_all(self, request: bytes, time_budget: Any) -> list[Reply]:
        self.told.append(request)
        return [Reply(b"OK")]


@pytest.mark.parametrize(
    ("exptime", "told"),
    [
        (0, b"flush_all\r\n"),
        (60, b"flush_all 60\r\n"),
        (IN_A_WHILE, b"flush_all 100\r\n"),
        (DAYS_30 + 1, b"flush_all 2592001\r\n"),  # what that means it knows itself
    ],
)
def test_a_flush_while_the_old_side_is_right(exptime: int, told: bytes) -> None:
    """Both sides are emptied at the same time, as Redis may be right by then."""

    async def ask(commands: Sequence[Command]) -> list[Result]:
        return [Outcome.OK] * len(commands)

    pool: Any = _Pool()
    nothing: Any = None
    first = OriginFirst(ask, pool, nothing, lambda: nothing, lambda *_: None, lambda: NOW)
    results: list[list[Result]] = []
    Deferred.fromCoroutine(first.perform([Flush(exptime)])).addCallback(results.append)
    assert (results, pool.told) == ([[Outcome.OK]], [told])
