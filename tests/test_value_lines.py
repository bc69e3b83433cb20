"""Items as lines, and as items again."""

from __future__ import annotations

import pytest

from redcouch.value_lines import Lines, read_item, tell_item

ITEMS = [
    (b"k", b"v", 0),
    (b"k", b"", 0),
    (b"k" * 250, b"v" * 2047, 0),
    (b"k", b"v" * 2048, 0),
    (b"k", b"\r\nEND\r\n", 2**32 - 1),
    (b"VALUE k 0 1", b"VALUE k 0 1\r\nv", 1),
    (b"of the binary protocol\r\n 1 2", b"v", 7),
]


@pytest.mark.parametrize(("key", "value", "flags"), ITEMS)
def test_there_and_back(key: bytes, value: bytes, flags: int) -> None:
    """The lines are memcached's; the item can be read out of them, whatever is in its key."""
    lines = tell_item(key, value, flags)
    assert lines == b"VALUE %b %d %d\r\n%b\r\n" % (key, flags, len(value), value)
    assert read_item(key, lines) == (value, flags, 0)


def test_a_result_like_others() -> None:
    """It is a sequence of items and misses, and a part of it is one too."""
    lines = Lines([b"a", b"b", b"c"], [tell_item(b"a", b"1", 0), b"", tell_item(b"c", b"3", 9)], 1)
    assert list(lines) == [(b"1", 0, 0), None, (b"3", 9, 0)]
    assert len(lines) == 3
    rest = lines[1:]
    assert isinstance(rest, Lines)
    assert (list(rest), rest.misses) == ([None, (b"3", 9, 0)], 1)
    assert lines[:1].misses == 0
