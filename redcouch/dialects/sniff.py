"""The first byte tells the dialect: 0x80 begins a binary frame, anything else is text."""

from __future__ import annotations

from redcouch.dialects.request import Dialect
from redcouch.dialects.text import TextDialect
from redcouch.limits import Limits

BINARY_MAGIC = 0x80


def dialect_for(data: bytes, limits: Limits) -> Dialect:
    """The dialect of a client that began with these bytes (at least one)."""
    return TextDialect(limits)
