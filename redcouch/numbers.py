"""
Numbers as memcached reads them in text: with C's strtol and strtoul.

So blanks before a number, a sign, and anything after a blank behind it are
taken, as memcached's safe_strtoul, safe_strtol and safe_strtoull take them.
Nearly every number is plain digits, and those go the short way.
"""

from __future__ import annotations

import re

_BLANKS = rb"[ \t\n\v\f\r]"
_NUMBER = re.compile(_BLANKS + rb"*([+-]?)0*([0-9]*)(?=" + _BLANKS + rb"|\Z)")
_MOST_DIGITS = 20
_TWO_32 = 1 << 32
_TWO_63 = 1 << 63
_TWO_64 = 1 << 64


def _read(token: bytes) -> tuple[bool, int] | None:
    """Sign and magnitude; C{None} for what is no number or is beyond 20 digits."""
    match = _NUMBER.match(token)
    if match is None:
        return None
    sign, digits = match.groups()
    if len(digits) > _MOST_DIGITS or not (digits or b"0" in token[: match.end()]):
        return None
    return sign == b"-", int(digits or b"0")


def unsigned_64(token: bytes) -> int | None:
    """A number from 0 to 2**64 - 1, or C{None}. A negative one wraps, if small enough."""
    if token.isdigit() and len(token) < _MOST_DIGITS:
        return int(token)
    read = _read(token)
    if read is None or read[1] >= _TWO_64:
        return None
    negative, number = read
    if negative:
        number = -number % _TWO_64
    if number >= _TWO_63 and b"-" in token:
        return None
    return number


def unsigned_32(token: bytes) -> int | None:
    """The low 32 bits of what L{unsigned_64} reads, or C{None}."""
    if token.isdigit() and len(token) < 10:
        return int(token)
    number = unsigned_64(token)
    return None if number is None else number % _TWO_32


def signed_32(token: bytes) -> int | None:
    """The low 32 bits of a signed 64-bit number, themselves signed, or C{None}."""
    if token.isdigit() and len(token) < 10:
        return int(token)
    read = _read(token)
    if read is None:
        return None
    negative, number = read
    if number > _TWO_63 - (not negative):
        return None
    if negative:
        number = -number
    return (number + (1 << 31)) % _TWO_32 - (1 << 31)
