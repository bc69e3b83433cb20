"""
What is said in meta and binary to a real memcached and to RedCouch, to compare
their answers. (The classic text commands: L{tests.integration.transcripts}.)

Each transcript is a list of steps, each on a connection of its own; or all of
them on one, cut into small pieces. C{{cas:KEY}} in a step stands for the CAS
token that the server gives for that key just then.
"""

from __future__ import annotations

import struct

from tests.differential import corners

K250, K251 = b"k" * 250, b"k" * 251
MIB = 1024 * 1024

Steps = tuple[bytes, ...]


def _lines(*lines: bytes) -> Steps:
    return tuple(line + b"\r\n" for line in lines)


def _largest(key: bytes, flags: int) -> int:
    """The longest value that memcached takes with its default item size."""
    return MIB - 59 - len(key) - (4 if flags else 0)


def _set(key: bytes, value: bytes, flags: int = 0, exptime: int = 0) -> bytes:
    return b"set %b %d %d %d\r\n%b\r\n" % (key, flags, exptime, len(value), value)


META: dict[str, Steps] = {
    "noop": _lines(b"mn", b"mn foo"),
    "too few words": _lines(b"mg", b"ms", b"md", b"ma", b"me", b"ms a", b"ms a x", b"ms a -1"),
    "misses": _lines(
        b"mg nope",
        b"mg nope v",
        b"mg nope v k Oabc",
        b"mg nope q k",
        b"md nope",
        b"md nope q",
        b"md nope k O1",
        b"ma nope",
        b"ma nope v k O1",
        b"ma nope q",
        b"me nope",
    ),
    "mg": (
        _set(b"a", b"xyz", 7),
        *_lines(
            b"mg a",
            b"mg a v",
            b"mg a k",
            b"mg a s v t f c k",
            b"mg a k c f t s v Oabc",
            b"mg a q v",
            b"mg a q",
            b"mg a u v",
            b"mg a s",
            b"mg a f s",
            b"mg a t",
            b"mg a Ox k q",
        ),
    ),
    "mg errors": (
        _set(b"a", b"x"),
        *_lines(
            b"mg a v v",
            b"mg a !",
            b"mg a Tx",
            b"mg a T",
            b"mg a Nx",
            b"mg a Rx",
            b"mg a O" + b"x" * 31,
            b"mg a O" + b"x" * 32,
            b"mg " + K251,
            b"mg a Fx",
            b"mg a Cx",
            b"mg a MXX",
            b"mg a M",
            b"mg a Jx",
            b"mg a Dx",
            b"mg a a",
            b"mg !!! b v",
            b"mg a v k s t f c h l q u b N T R O M C J D F I",
        ),
    ),
    "too many flags": _lines(
        *(
            b"%b a 1 %b" % (verb, b" ".join(b"%c" % c for c in b"abcdefghijklmnopqrst"))
            for verb in (b"mg", b"md", b"ma")
        ),
    ),
    "touching": (
        _set(b"a", b"x"),
        *_lines(b"mg a T30 t", b"mg a t T60", b"mg a t", b"mg a T0 t", b"mg a T-1", b"mg a"),
    ),
    "vivify": _lines(
        b"mg n N30 s v t f k",
        b"mg n N30 s v t",
        b"mg n v t",
        b"mg m N0 t",
        b"mg m t",
        b"mg l t N30 t",
        b"mg i N30 q k",
    ),
    "recache": (
        _set(b"r", b"x", 0, 10),
        *_lines(b"mg r R30 v t", b"mg r R30 v t", b"mg r v"),
        _set(b"s", b"x", 0, 100),
        *_lines(b"mg s R30 v", b"mg s R0 v", b"mg s R-1 v"),
        _set(b"t", b"x"),
        *_lines(b"mg t R30 v"),
        _set(b"u", b"x", 0, 100),
        *_lines(b"mg u T10 R30 t", b"mg u t"),
    ),
    "stale": (
        _set(b"a", b"x", 3),
        *_lines(b"md a I T30", b"mg a v f s t", b"mg a v", b"mg a k", b"get a"),
        _set(b"a", b"y"),
        *_lines(b"mg a v", b"md a I q", b"mg a", b"mg a", b"md a I", b"mg a v", b"md a"),
    ),
    "stale through compare": (
        _set(b"a", b"x", 0, 100),
        b"md a I T30\r\n",
        b"mg a v c\r\n",
        b"ms a 1 C1 I c\r\ny\r\n",
        b"mg a v t c\r\n",
        b"mg a v\r\n",
        b"ms a 1 C{cas:a} c\r\nz\r\n",
        b"mg a v c t\r\n",
        b"ms a 1 C99999999999999999 I\r\nw\r\n",
        b"mg a v\r\n",
        b"ms a 1 C0 I\r\nw\r\n",
    ),
    "ms": (
        b"ms a 1\r\nx\r\n",
        b"mg a v f t\r\n",
        b"ms a 2 F5 T100\r\nxy\r\n",
        b"mg a v f t s\r\n",
        b"ms a 1 c k Oq F5\r\ny\r\n",
        b"mg a c\r\n",
        b"ms a 1 q\r\ny\r\n",
        b"ms a 0\r\n\r\n",
        b"mg a v\r\n",
    ),
    "ms modes": (
        b"ms a 1 ME\r\nx\r\n",
        b"ms a 1 ME\r\ny\r\n",
        b"ms a 1 MR\r\nz\r\n",
        b"ms b 1 MR\r\nz\r\n",
        b"ms a 1 MA\r\n1\r\n",
        b"ms a 1 MP\r\n0\r\n",
        b"ms b 1 MA\r\n1\r\n",
        b"ms b 1 MP\r\n1\r\n",
        b"mg a v\r\n",
        b"ms a 1 MS\r\nq\r\n",
        b"mg a v\r\n",
        b"ms a 1 MX\r\ny\r\n",
        b"ms a 1 MEE\r\ny\r\n",
        b"ms a 1 M\r\ny\r\n",
        b"ms a 1 ME q k\r\ny\r\n",
        b"ms b 1 MR q O1\r\ny\r\n",
        b"ms a 1 ME c\r\ny\r\n",
    ),
    "ms compare": (
        b"ms a 1 C5\r\nx\r\n",
        b"ms a 1\r\nx\r\n",
        b"ms a 1 C1 c k\r\ny\r\n",
        b"ms a 1 C{cas:a}\r\nz\r\n",
        b"mg a v\r\n",
        b"ms a 1 MR C{cas:a}\r\nw\r\n",
        b"ms a 1 MR C1\r\nv\r\n",
        b"ms a 1 MA C{cas:a}\r\n2\r\n",
        b"ms a 1 MA C1\r\n3\r\n",
        b"ms a 1 MP C0\r\n4\r\n",
        b"mg a v\r\n",
        b"ms a 1 C0\r\n5\r\n",
        b"ms n 1 ME C5\r\n5\r\n",
        b"ms a 1 ME C{cas:a}\r\n5\r\n",
        b"ms z 1 C0\r\n5\r\n",
    ),
    "ms errors swallow the block": (
        b"ms a 3 !\r\nabc\r\n",
        b"ms a 3 v v\r\nabc\r\n",
        b"ms a 3 Tx\r\nabc\r\n",
        b"ms a 3 Fx\r\nabc\r\n",
        b"ms a 3 O" + b"x" * 32 + b"\r\nabc\r\n",
        b"ms a 3 MX\r\nabc\r\n",
        b"mg a\r\n",
    ),
    "ms bad blocks": (
        b"ms a 3\r\nabcd\r\n",
        b"ms a 3 q\r\nabcd\r\n",
        b"ms a 3\r\nab\r\nx\r\n",
        b"mg a\r\n",
    ),
    "ms too large": (
        _set(b"a", b"old"),
        b"ms a %d\r\n" % (2 * MIB) + b"v" * 2 * MIB + b"\r\n",
        b"mg a v\r\n",
        _set(b"a", b"old"),
        b"ms a %d ME q\r\n" % (2 * MIB) + b"v" * 2 * MIB + b"\r\n",
        b"mg a v\r\n",
    ),
    "md": (
        _set(b"a", b"x"),
        b"md a C1\r\n",
        b"md a C1 q k\r\n",
        b"md a C{cas:a} k\r\n",
        b"mg a\r\n",
        _set(b"a", b"x"),
        *_lines(b"md a q", b"mg a", b"md a !", b"md a v v", b"md a Tx", b"md " + K251),
        _set(b"a", b"x"),
        *_lines(b"md a T30", b"mg a"),
        _set(b"a", b"x"),
        *_lines(b"md a C0", b"md a I C1"),
    ),
    "ma": (
        *_lines(
            b"ma n N0 J13 v",
            b"ma n v",
            b"ma n D5 v t c",
            b"ma n MD D100 v",
            b"ma n MX",
            b"ma n MI v",
            b"ma n M+ v",
            b"ma n M- v",
            b"ma n q",
            b"ma n v k O1",
            b"ma n DX",
            b"ma n JX",
            b"ma n T30 t",
            b"ma n t T60",
            b"ma n t",
            b"ma n C1",
            b"ma n C1 q",
            b"ma n C0 v",
            b"ma m N30 t v",
            b"ma m t",
            b"ma o N30 q",
            b"ma p J5",
            b"ma q N30 J7 D3 v",
            b"ma q N30 J7 D3 v",
            b"ma n v v",
            b"ma n D18446744073709551615 v",
            b"ma n D18446744073709551616",
        ),
        b"ma n C{cas:n} v\r\n",
        _set(b"s", b"x"),
        *_lines(b"ma s", b"ma s q", b"ma s v k"),
        _set(b"w", b"10", 7),
        *_lines(b"ma w MD D5 v", b"get w", b"mg w s v"),
    ),
    "base64 keys": (
        b"ms Zm9v 1 b\r\nx\r\n",
        b"get foo\r\n",
        b"mg Zm9v b v\r\n",
        b"mg Zm9v b k v\r\n",
        b"ma Zm9v b\r\n",
        b"md Zm9v b\r\n",
        b"mg Zm9v b\r\n",
        b"mg Zm9v b k\r\n",
        b"mg Zm9 b\r\n",
        b"mg == b\r\n",
        b"ms AAEC 1 b k\r\nx\r\n",
        b"mg AAEC b k v\r\n",
        b"md AAEC b k\r\n",
        b"ma Z!g= b\r\n",
        b"ms Zm9 1 b\r\nx\r\n",
    ),
    "many in one write": (
        b"".join(b"ms p%d 1 q\r\nx\r\nmg p%d v k\r\nmg nope q v\r\n" % (i, i) for i in range(200))
        + b"mn\r\n",
    ),
}


def frame(
    opcode: int,
    key: bytes = b"",
    value: bytes = b"",
    extras: bytes = b"",
    cas: int = 0,
    opaque: int = 0x01020304,
    magic: int = 0x80,
) -> bytes:
    """A request of the binary protocol."""
    length = len(extras) + len(key) + len(value)
    header = struct.pack(
        ">BBHBBHIIQ", magic, opcode, len(key), len(extras), 0, 0, length, opaque, cas
    )
    return header + extras + key + value


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

BINARY: dict[str, Steps] = {
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


META |= corners.META
