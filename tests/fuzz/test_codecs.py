"""Anything at all, through the dialect that its first byte picks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcouch.dialects.detect import dialect_name, dialect_of
from redcouch.dialects.request import Dialect
from redcouch.limits import Limits
from tests.fuzz.feeding import Heard, feed, split
from tests.fuzz.mutations import conversation

LIMITS = Limits(max_item_size=1024, keys_per_get=2)


def heard(data: bytes, pieces: list[bytes], guarded: bool, proven: bool) -> tuple[Heard, bool]:
    def make() -> Dialect:
        return dialect_of(dialect_name(data), LIMITS, guarded)

    return feed(make, pieces, proven)


@given(
    st.binary(min_size=1, max_size=300),
    st.lists(st.integers(0, 9999), max_size=10),
    st.booleans(),
    st.booleans(),
)
def test_any_bytes(data: bytes, places: list[int], guarded: bool, proven: bool) -> None:
    """Any bytes in any pieces: never a fault, and the same requests."""
    pieces = split(data, places)
    assert heard(data, pieces, guarded, proven) == heard(data, [data], guarded, proven)


@pytest.mark.parametrize("seed", range(8))
def test_mutated_conversations(seed: int) -> None:
    """What clients say, with something wrong in it: never a fault, and the same in any pieces."""
    chance = random.Random(seed)
    for _ in range(150):
        data = conversation(chance)
        guarded, proven = chance.random() < 0.3, chance.random() < 0.7
        if not data:
            continue
        places = chance.choices(range(len(data) + 1), k=chance.randrange(20))
        whole = heard(data, [data], guarded, proven)
        if not whole[1] or b"\n" in data:  # where a line never ends, its pieces decide when
            assert heard(data, split(data, places), guarded, proven) == whole, (seed, data)
