"""The layout in Redis, field by field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcouch.backends.redis.layout import NO_CAS, Layout, read_item
from redcouch.errors import ConfigurationError
from redcouch.results import ErrorKind, Failed, Item


def test_fields() -> None:
    """Values are hex in field v, or with encoding raw as they are in field r."""
    hexed, raw = Layout(), Layout(raw=True)
    assert (hexed.field, hexed.encode(b"\0Az")) == (b"v", b"00417a")
    assert (raw.field, raw.encode(b"\0Az")) == (b"r", b"\0Az")


@pytest.mark.parametrize(
    ("prefix", "pattern"),
    [
        (b"rc:", b"rc:*"),
        (b"*", rb"\**"),
        (b"a?b[c]d\\e^f-", rb"a\?b\[c\]d\\e^f-*"),
        (b"\0\xff%", b"\0\xff%*"),
    ],
)
def test_pattern(prefix: bytes, pattern: bytes) -> None:
    """What is a glob in Redis is only text in a prefix."""
    assert Layout(prefix).pattern == pattern


@pytest.mark.parametrize(
    "prefix", [b"", b"r", b"redcouch:", b"redcouch:sys:", b"redcouch:sys:cas_counter"]
)
def test_wrong_prefix(prefix: bytes) -> None:
    """Items and system keys stay apart, and flush_all never means all of Redis."""
    with pytest.raises(ConfigurationError, match=r"^prefix: must not"):
        Layout(prefix)


@pytest.mark.parametrize(
    ("fields", "item"),
    [
        ((None, None, None), None),
        ((None, None, b"7"), None),
        ((b"6869", None, None), Item(b"hi", 0, 0)),
        ((b"6869", None, b"7"), Item(b"hi", 7, 0)),
        ((b"6869", None, b""), Item(b"hi", 0, 0)),
        ((b"", None, b"0"), Item(b"", 0, 0)),
        ((None, b"hi", b"7"), Item(b"hi", 7, 0)),
        ((None, b"", None), Item(b"", 0, 0)),
        ((b"6869", b"other", None), Item(b"hi", 0, 0)),
        ((b"4A4b", None, None), Item(b"JK", 0, 0)),
        ((b" 68\t69\r\n", None, None), Item(b"hi", 0, 0)),
        ((b"6 86\n9", None, None), Item(b"hi", 0, 0)),
        ((b"\n", None, None), Item(b"", 0, 0)),
        (
            (b"6869", None, b"4294967295", b"18446744073709551615"),
            Item(b"hi", 2**32 - 1, 2**64 - 1),
        ),
        ((b"6869", None, None, b"42"), Item(b"hi", 0, 42)),
        ((b"6869", None, None, None), Item(b"hi", 0, NO_CAS)),
        ((None, None, None, b"42"), None),
    ],
)
def test_read(fields: tuple[bytes | None, ...], item: Item | None) -> None:
    """An item is read in either encoding, in any spelling of hex, with or without f and c."""
    assert read_item(fields) == item


@pytest.mark.parametrize(
    "fields",
    [
        (b"6", None, None),
        (b"hi", None, None),
        (b"0x6869", None, None),
        (b"68 6g", None, None),
        (b"hi", b"good", None),
        (b"6869", None, b"seven"),
        (b"6869", None, b"-1"),
        (b"6869", None, b"1_0"),
        (b"6869", None, b"4294967296"),
        (b"6869", None, None, b"token"),
        (b"6869", None, None, b""),
        (b"6869", None, None, b"-1"),
        (b"6869", None, None, b"18446744073709551616"),
    ],
)
def test_unreadable(fields: tuple[bytes | None, ...]) -> None:
    """What cannot be sent to a memcached client is not readable, and is not guessed at."""
    found = read_item(fields)
    assert isinstance(found, Failed)
    assert found.kind is ErrorKind.UNREADABLE


@given(st.binary(), st.booleans())
def test_round_trip(value: bytes, raw: bool) -> None:
    """What is written is what is read."""
    written = Layout(raw=raw).encode(value)
    fields = (None, written, b"0") if raw else (written, None, b"0")
    assert read_item(fields) == Item(value, 0, 0)
