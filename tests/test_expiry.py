"""memcached's rules for exptime."""

from __future__ import annotations

import pytest

from redcouch.expiry import MAX_RELATIVE, deadline, seconds_left

NOW = 1_700_000_000.25


@pytest.mark.parametrize(
    ("exptime", "left"),
    [
        (0, None),
        (-1, 0.0),
        (-(2**31), 0.0),
        (1, 1.0),
        (2_592_000, 2_592_000.0),
        (2_592_001, 0.0),
        (1_700_000_000, 0.0),
        (1_700_000_001, 0.75),
        (2**31 - 1, 2**31 - 1 - NOW),
        (2**32 - 1, 2**32 - 1 - NOW),
    ],
)
def test_exptime(exptime: int, left: float | None) -> None:
    """0 never ends, negative is over, 30 days count from now, more is a point in time."""
    assert seconds_left(exptime, NOW) == left
    assert deadline(exptime, NOW) == (None if left is None else NOW + left)


def test_thirty_days() -> None:
    """The border is 30 days, in seconds."""
    assert MAX_RELATIVE == 30 * 24 * 3600
