"""Frames of the binary protocol."""

from __future__ import annotations

import struct

OPAQUE = 0xDEADBEEF

HEADER = struct.Struct(">BBHBBHIIQ")


def frame(
    opcode: int,
    key: bytes = b"",
    extras: bytes = b"",
    value: bytes = b"",
    *,
    cas: int = 0,
    opaque: int = OPAQUE,
    magic: int = 0x80,
    status: int = 0,
    length: int | None = None,
) -> bytes:
    """A request; with another magic, whatever that begins."""
    body = extras + key + value
    size = len(body) if length is None else length
    sizes = (len(key), len(extras), 0, status, size)
    return HEADER.pack(magic, opcode, *sizes, opaque, cas) + body


def reply(
    opcode: int, status: int = 0, value: bytes = b"", key: bytes = b"", extras: bytes = b""
) -> bytes:
    """The reply to such a request."""
    return frame(opcode, key, extras, value, magic=0x81, status=status)
