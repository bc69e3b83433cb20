"""
Frames of the binary protocol that are sent to a real memcached and to RedCouch.
"""

from __future__ import annotations

import struct

from tests.support import frames
from tests.support.comparison import Transcript

MIB = 1024 * 1024


def _largest(key: bytes, flags: int) -> int:
    """The longest value that memcached takes with its default item size."""
    return MIB - 59 - len(key) - (4 if flags else 0)


def frame(
    opcode: int, key: bytes = b"", value: bytes = b"", extras: bytes = b"", **rest: int
) -> bytes:
    """A request: what most have stands before what few have."""
    return frames.frame(opcode, key, extras, value, **rest)


def _store(flags: int = 0, exptime: int = 0) -> bytes:
    return struct.pack(">II", flags, exptime)


def _count(delta: int, initial: int = 0, exptime: int = 0) -> bytes:
    return struct.pack(">QQI", delta, initial, exptime)


def _expire(exptime: int) -> bytes:
    return struct.pack(">I", exptime)


GET, SET, ADD, REPLACE, DELETE, INCR, DECR, QUIT, FLUSH = range(9)
GETQ, NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND, STAT = range(9, 17)
SETQ, ADDQ, REPLACEQ, DELETEQ, INCRQ, DECRQ, QUITQ, FLUSHQ, APPENDQ, PREPENDQ = range(17, 27)
TOUCH, GAT, GATQ, GATK, GATKQ = 0x1C, 0x1D, 0x1E, 0x23, 0x24

_BINARY: dict[str, tuple[bytes, ...]] = {
    "noop": (frame(NOOP), frame(NOOP, opaque=0xFFFFFFFF)),
    "get": (
        frame(GET, b"a"),
        frame(GETK, b"a"),
        frame(GETQ, b"a"),
        frame(GETKQ, b"a"),
        frame(SET, b"a", b"xyz", _store(7)),
        frame(GET, b"a"),
        frame(GETK, b"a"),
        frame(GETQ, b"a"),
        frame(GETKQ, b"a"),
    ),
    "store": (
        frame(SET, b"a", b"x", _store(1)),
        frame(ADD, b"a", b"y", _store()),
        frame(ADD, b"b", b"y", _store()),
        frame(REPLACE, b"c", b"z", _store()),
        frame(REPLACE, b"a", b"z", _store(2)),
        frame(GET, b"a"),
        frame(SET, b"e", b"", _store()),
        frame(GET, b"e"),
        frame(SET, b"k" * 250, b"x", _store()),
        frame(SET, b"a b\0c", b"x", _store()),
        frame(GETK, b"a b\0c"),
    ),
    "store with a token": (
        frame(SET, b"a", b"x", _store(), cas=5),
        frame(SET, b"a", b"x", _store()),
        frame(SET, b"a", b"y", _store(), cas=1),
        frame(ADD, b"a", b"y", _store(), cas=1),
        frame(ADD, b"n", b"y", _store(), cas=1),
        frame(REPLACE, b"a", b"y", _store(), cas=1),
        frame(REPLACE, b"n", b"y", _store(), cas=1),
        frame(GET, b"a"),
        frame(APPEND, b"a", b"y", cas=1),
        frame(DELETE, b"a", cas=1),
        frame(INCR, b"a", extras=_count(1), cas=1),
        frame(SET, b"e", b"", _store()),
        frame(INCR, b"e", extras=_count(1), cas=1),
        frame(DECR, b"e", extras=_count(1), cas=1),
    ),
    "quiet stores": (
        frame(SETQ, b"a", b"x", _store()),
        frame(ADDQ, b"a", b"y", _store()),
        frame(ADDQ, b"b", b"y", _store()),
        frame(REPLACEQ, b"c", b"z", _store()),
        frame(REPLACEQ, b"a", b"z", _store()),
        frame(APPENDQ, b"a", b"1"),
        frame(APPENDQ, b"n", b"1"),
        frame(PREPENDQ, b"a", b"0"),
        frame(PREPENDQ, b"n", b"0"),
        frame(GET, b"a"),
        frame(DELETEQ, b"a"),
        frame(DELETEQ, b"a"),
        frame(INCRQ, b"n", extras=_count(1, 5)),
        frame(INCRQ, b"n", extras=_count(1)),
        frame(DECRQ, b"m", extras=_count(1, 5, 0xFFFFFFFF)),
        frame(DECRQ, b"n", extras=_count(1)),
        frame(GET, b"n"),
        frame(FLUSHQ),
        frame(GET, b"n"),
    ),
    "append and prepend": (
        frame(APPEND, b"a", b"x"),
        frame(PREPEND, b"a", b"x"),
        frame(SET, b"a", b"m", _store(9)),
        frame(APPEND, b"a", b"z"),
        frame(PREPEND, b"a", b"a"),
        frame(GET, b"a"),
        frame(APPEND, b"a", b""),
    ),
    "delete": (
        frame(DELETE, b"a"),
        frame(SET, b"a", b"x", _store()),
        frame(DELETE, b"a"),
        frame(DELETE, b"a"),
    ),
    "count": (
        frame(INCR, b"n", extras=_count(1, 0, 0xFFFFFFFF)),
        frame(INCR, b"n", extras=_count(5, 7)),
        frame(INCR, b"n", extras=_count(5, 7)),
        frame(DECR, b"n", extras=_count(100, 7)),
        frame(GET, b"n"),
        frame(INCR, b"n", extras=_count(2**64 - 1)),
        frame(INCR, b"n", extras=_count(2)),
        frame(DECR, b"m", extras=_count(2, 2**64 - 1)),
        frame(GET, b"m"),
        frame(SET, b"s", b"x", _store()),
        frame(INCR, b"s", extras=_count(1)),
        frame(DECR, b"s", extras=_count(1)),
        frame(SET, b"w", b"10", _store(5)),
        frame(DECR, b"w", extras=_count(5)),
        frame(GET, b"w"),
    ),
    "touch": (
        frame(TOUCH, b"a", extras=_expire(10)),
        frame(GAT, b"a", extras=_expire(10)),
        frame(GATQ, b"a", extras=_expire(10)),
        frame(GATK, b"a", extras=_expire(10)),
        frame(GATKQ, b"a", extras=_expire(10)),
        frame(SET, b"a", b"x", _store(9)),
        frame(TOUCH, b"a", extras=_expire(10)),
        frame(GAT, b"a", extras=_expire(10)),
        frame(GATQ, b"a", extras=_expire(10)),
        frame(GATK, b"a", extras=_expire(10)),
        frame(GATKQ, b"a", extras=_expire(0)),
        frame(GET, b"a"),
    ),
    "flush": (
        frame(SET, b"a", b"x", _store()),
        frame(FLUSH),
        frame(GET, b"a"),
        frame(SET, b"a", b"x", _store()),
        frame(FLUSH, extras=_expire(0)),
        frame(GET, b"a"),
        frame(SET, b"a", b"x", _store()),
        frame(FLUSH, extras=_expire(1000)),
        frame(GET, b"a"),
        frame(FLUSH),
    ),
    "expiry": (
        frame(SET, b"a", b"x", _store(0, 100)),
        frame(SET, b"b", b"x", _store(0, 2678400)),
        frame(GET, b"a"),
        frame(GET, b"b"),
        frame(SET, b"c", b"x", _store(0, 0xFFFFFFFF)),
        frame(GET, b"c"),
    ),
    "too large": (
        frame(SET, b"big", b"old", _store()),
        frame(SET, b"big", b"v" * (2 * MIB), _store()),
        frame(GET, b"big"),
        frame(SET, b"big", b"old", _store()),
        frame(ADD, b"big", b"v" * (2 * MIB), _store()),
        frame(APPEND, b"big", b"v" * (2 * MIB)),
        frame(SETQ, b"n", b"v" * (2 * MIB), _store()),
        frame(GET, b"big"),
        frame(SET, b"big", b"v" * _largest(b"big", 0), _store()),
        frame(SET, b"big", b"v" * (_largest(b"big", 0) + 1), _store()),
    ),
    "unknown opcodes": tuple(
        frame(opcode) for opcode in (0x25, 0x40, 0x89, 0xB5, 0xFE, 0xFF, 0x1F)
    ),
    "SASL without users": (
        frame(0x20),
        frame(0x21, b"PLAIN", b"\0u\0p"),
        frame(0x22, b"PLAIN", b"\0u\0p"),
    ),
    **{
        f"wrong lengths for SASL, {place}": (wrong,)
        for place, wrong in enumerate(
            (
                frame(0x20, b"a"),
                frame(0x20, b"", b"a"),
                frame(0x20, b"", b"", b"a"),
                frame(0x21),
                frame(0x21, b"PLAIN", b"\0u\0p", b"a"),
                frame(0x22),
                frame(0x22, b"PLAIN", b"", b"a"),
            )
        )
    },
    "unknown statistics": (frame(STAT, b"foo"), frame(STAT, b"reset")),
    "quit": (frame(QUIT),),
    "quiet quit": (frame(QUITQ),),
    "bad magic later": (frame(NOOP) + b"get a\r\n" + b" " * 40,),
    "key longer than the body": (
        b"\x80\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x02" + b"\0" * 12 + b"abcde",
    ),
    "extras longer than the body": (
        b"\x80\x01\x00\x01\x08\x00\x00\x00\x00\x00\x00\x04" + b"\0" * 12 + b"123456789",
    ),
    "too long a key": (frame(GET, b"k" * 251),),
    **{
        f"wrong lengths for 0x{opcode:02x}, {what}": (frame(opcode, key, value, extras),)
        for opcode in (
            GET,
            SET,
            ADD,
            DELETE,
            INCR,
            APPEND,
            TOUCH,
            GAT,
            NOOP,
            VERSION,
            FLUSH,
            QUIT,
            GETKQ,
            SETQ,
            DELETEQ,
        )
        for what, key, value, extras in (
            ("no key", b"", b"", b""),
            ("a key", b"a", b"", b""),
            ("extras", b"a", b"", b"12"),
        )
        if not (opcode in (GET, GETKQ, DELETE, DELETEQ, APPEND) and what == "a key")
        if not (opcode in (NOOP, VERSION, QUIT, FLUSH) and what == "no key")
    },
    "many in one write": (
        b"".join(
            frame(SETQ, b"p%d" % i, b"x%d" % i, _store(), opaque=i)
            + frame(GETKQ, b"p%d" % i, opaque=i)
            + frame(GETQ, b"nope", opaque=i)
            for i in range(200)
        ),
    ),
}

BINARY = {name: [Transcript(steps, binary=True)] for name, steps in _BINARY.items()}
"""Every transcript, by what it is about."""
