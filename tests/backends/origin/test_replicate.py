"""What the old side is told of a change."""

from __future__ import annotations

import pytest

from redcouch.backends.origin.replicate import from_now, replicated_changes
from redcouch.commands import Arithmetic, Command, GetAndTouch, MetaGet, Store, StoreMode, Touch
from redcouch.results import Item, MetaItem, Number, Result, Stored, Touched

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
