"""The first byte tells the dialect: 0x80 begins a binary frame, anything else is text."""

from __future__ import annotations

from redcouch.dialects.auth import BinaryAuth, TextAuth
from redcouch.dialects.binary import MAGIC_REQUEST, BinaryDialect
from redcouch.dialects.request import Dialect
from redcouch.dialects.text import TextDialect
from redcouch.limits import Limits

NAMES = ("text", "binary")
"""The dialects' names. Meta commands are in text."""


def dialect_name(data: bytes) -> str:
    """The name of the dialect of a client that began with these bytes (at least one)."""
    return "binary" if data[0] == MAGIC_REQUEST else "text"


def dialect_of(name: str, limits: Limits, guarded: bool = False) -> Dialect:
    """
    The dialect of this name, at its beginning.

    @param guarded: the client has to prove who it is first.
    """
    if name == "binary":
        return BinaryAuth(limits) if guarded else BinaryDialect(limits)
    return TextAuth(limits) if guarded else TextDialect(limits)
