"""How large an item may be."""

from __future__ import annotations

import pytest

from redcouch.limits import MAX_KEY, Limits


def test_longest_key() -> None:
    """Keys are as long as memcached's."""
    assert MAX_KEY == 250


@pytest.mark.parametrize(
    ("key", "flags", "longest"),
    [
        (b"k", 0, 1_048_516),
        (b"k", 1, 1_048_512),
        (b"k", 2**32 - 1, 1_048_512),
        (b"k" * 250, 0, 1_048_267),
        (b"k" * 250, 1, 1_048_263),
    ],
)
def test_item_size(key: bytes, flags: int, longest: int) -> None:
    """The longest value is the one that memcached 1.6 takes with its -I at 1m."""
    limits = Limits()
    assert limits.fits(key, flags, longest)
    assert not limits.fits(key, flags, longest + 1)
    assert limits.fits(key, flags, 0)


def test_room_is_without_flags() -> None:
    """What append may fill up is what a set without flags may bring."""
    limits = Limits(max_item_size=2048)
    assert limits.fits(b"key", 0, limits.value_room(b"key"))
    assert not limits.fits(b"key", 0, limits.value_room(b"key") + 1)


def test_no_room_at_all() -> None:
    """With an item size smaller than its overhead, nothing fits."""
    assert not Limits(max_item_size=50).fits(b"k", 0, 0)
