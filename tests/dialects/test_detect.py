"""One port for every protocol: the first byte tells them apart."""

from __future__ import annotations

import pytest

from redcouch.commands import Get, Version
from redcouch.dialects.auth import BinaryAuth, TextAuth
from redcouch.dialects.binary import BinaryDialect
from redcouch.dialects.detect import dialect_name, dialect_of
from redcouch.dialects.request import Dialect
from redcouch.dialects.text import TextDialect
from redcouch.limits import Limits
from tests.dialects.reading import asked, bytewise, receive

LIMITS = Limits()

BINARY_VERSION = b"\x80\x0b" + bytes(22)


@pytest.mark.parametrize("first", range(256))
@pytest.mark.parametrize("guarded", [False, True])
def test_first_byte(first: int, guarded: bool) -> None:
    """0x80 speaks binary, every other byte text, each behind its gate where there is one."""
    dialect = dialect_of(dialect_name(bytes([first]) + b"get"), LIMITS, guarded)
    binary, text = (BinaryAuth, TextAuth) if guarded else (BinaryDialect, TextDialect)
    assert type(dialect) is (binary if first == 0x80 else text)


def test_one_byte_is_enough() -> None:
    """A client whose first packet is a single byte is understood all the same."""
    dialect: Dialect = dialect_of(dialect_name(b"g"), LIMITS)
    assert asked(receive(dialect, bytewise(b"get a\r\n"))) == [Get([b"a"])]

    dialect = dialect_of(dialect_name(b"\x80"), LIMITS)
    (request,) = receive(dialect, bytewise(BINARY_VERSION))
    assert request.command == Version()


def test_no_change_of_mind() -> None:
    """Text that is followed by a binary frame stays text, and the other way round it ends."""
    dialect = dialect_of(dialect_name(b"get"), LIMITS)
    requests = receive(dialect, [b"version\r\n" + BINARY_VERSION + b"\r\n"])
    assert [request.encode(b"1") for request in requests] == [b"VERSION 1\r\n", b"ERROR\r\n"]
    dialect = dialect_of(dialect_name(BINARY_VERSION), LIMITS)
    assert len(receive(dialect, [BINARY_VERSION + b"version\r\n" + bytes(24)])) == 1
    assert dialect.broken
