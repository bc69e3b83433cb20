"""
What is said to a real memcached and to RedCouch, to compare their answers.

Each transcript is a list of steps, each on a connection of its own; or all of
them on one, cut into small pieces. C{{cas:KEY}} in a step stands for the CAS
token that the server gives for that key just then.
"""

from __future__ import annotations

import struct

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


_NUMBERS = (
    b"0",
    b"1",
    b"-1",
    b"+1",
    b"007",
    b"x",
    b"1x",
    b"1\t",
    b"\t1",
    b"1\tx",
    b"--1",
    b"+-1",
    b"",
    b"2147483647",
    b"2147483648",
    b"-2147483648",
    b"-2147483649",
    b"4294967295",
    b"4294967296",
    b"4294967297",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-18446744073709551615",
    b"-18446744073709551616",
    b"0x10",
    b"1.5",
    b"1e3",
    b"00000000000005",
    b"000000000000000000000000000000000000000000000005",
    b"99999999999999999999999999",
)

TEXT: dict[str, Steps] = {
    "nothing but ends": _lines(b"", b" ", b"   "),
    "bare line ends": (b"set a 0 0 1\nx\r\nget a\nversion\n",),
    "no such verb": _lines(b"foo", b"GET a", b"gett a", b"set", b"s", b"gx", b"misbehave", b"mx a"),
    "get without key": _lines(b"get", b"get ", b"gets", b"gat", b"gats", b"gat 0", b"gats 0"),
    "get of nothing": _lines(b"get nope", b"gets nope", b"get a b c", b"gat 0 nope", b"bget nope"),
    "get": (_set(b"a", b"x", 5), *_lines(b"get a", b"get a a a", b"get nope a nope", b"bget a")),
    "gets": (_set(b"a", b"x"), _set(b"b", b"y", 7), *_lines(b"gets a b", b"gets a", b"gets b c")),
    "blanks": (_set(b"a", b"x"), *_lines(b"get  a   b ", b" get a", b"   gets  a")),
    "a NUL ends the line": (_set(b"a", b"x"), b"get a\0b\r\n", b"get\0a\r\n", b"\0get a\r\n"),
    "a tab is part of a key": (b"set a\tb 0 0 1\r\nx\r\n", b"get a\tb\r\n", b"get\ta\r\n"),
    "a CR before the end": (b"get a\r\r\n", b"version\r\r\n"),
    "longest key": (_set(K250, b"x"), b"get " + K250 + b"\r\n", b"delete " + K250 + b"\r\n"),
    "too long a key": (
        b"get " + K251 + b"\r\n",
        b"set " + K251 + b" 0 0 1\r\n",
        *_lines(
            b"incr " + K251 + b" 1",
            b"touch " + K251 + b" 0",
            b"delete " + K251,
            b"gat 0 " + K251,
            b"get a " + K251,
            b"cas " + K251 + b" 0 0 1 1",
        ),
    ),
    "many keys": (
        _set(b"k3", b"x"),
        b"get " + b" ".join(b"k%d" % i for i in range(3000)) + b"\r\n",
    ),
    "a line over 2048": (b"x" * 2049 + b"\r\n", b"incr " + b"1" * 5000 + b" 1\r\n"),
    "set": (_set(b"a", b"x"), b"get a\r\n", _set(b"a", b"yy", 9), b"get a\r\n"),
    "empty value": (_set(b"a", b""), b"get a\r\n", b"append a 0 0 0\r\n\r\n", b"get a\r\n"),
    "every byte": (_set(b"a", bytes(range(256))), b"get a\r\n"),
    "line ends in a value": (_set(b"a", b"\r\nget b\r\n\r\n"), b"get a\r\n"),
    "token counts": _lines(
        b"set a 0 0",
        b"set a 0 0 1 noreply x",
        b"add a 0 0",
        b"replace a",
        b"cas a 0 0 1",
        b"cas a 0 0 1 2 noreply x",
        b"incr a",
        b"incr a 1 noreply x",
        b"decr",
        b"touch a",
        b"touch a 0 noreply x",
        b"delete",
        b"delete a 0 noreply x",
        b"flush_all 1 2 3",
        b"verbosity",
        b"verbosity 1 2 3",
        b"cache_memlimit",
        b"append a",
        b"append a 0 0 1 x y",
    ),
    "too short a block": (b"set a 0 0 3\r\nab\r\nxxx\r\n", b"get a\r\n"),
    "too long a block": (_set(b"a", b"old"), b"set a 0 0 3\r\nabcd\r\n", b"get a\r\n"),
    "far too long a block": (b"set a 0 0 3\r\nabcdefg\r\n", b"get a\r\n"),
    "a bare LF behind a block": (b"set a 0 0 3\r\nabc\nx\r\n", b"get a\r\n"),
    "negative length": _lines(b"set a 0 0 -1", b"set a 0 0 -2147483648"),
    "endless length": _lines(b"set a 0 0 2147483646", b"set a 0 0 2147483647"),
    "largest value": (_set(b"big", b"v" * _largest(b"big", 0)), b"get big\r\n"),
    "largest value with flags": (_set(b"big", b"v" * _largest(b"big", 1), 1), b"get big\r\n"),
    "largest value, longest key": (_set(K250, b"v" * _largest(K250, 0)), b"get " + K250 + b"\r\n"),
    "too large": (
        _set(b"big", b"old"),
        _set(b"big", b"v" * (_largest(b"big", 0) + 1)),
        b"get big\r\n",
        _set(b"big", b"old"),
        _set(b"big", b"v" * (_largest(b"big", 1) + 1), 1),
        b"get big\r\n",
    ),
    "too large, in other ways": (
        _set(b"big", b"old"),
        *(
            b"%b big 0 0 %d\r\n" % (verb, 2 * MIB) + b"v" * 2 * MIB + b"\r\n"
            for verb in (b"add", b"replace", b"append", b"prepend")
        ),
        b"cas big 0 0 %d 1\r\n" % (2 * MIB) + b"v" * 2 * MIB + b"\r\n",
        b"set big 0 0 %d noreply\r\n" % (2 * MIB) + b"v" * 2 * MIB + b"\r\n",
        b"get big\r\n",
    ),
    "append grows too large": (
        _set(b"big", b"v" * (_largest(b"big", 0) - 10)),
        b"append big 0 0 10\r\n0123456789\r\n",
        b"append big 0 0 1\r\nx\r\n",
        b"prepend big 0 0 1\r\nx\r\n",
    ),
    "add": (b"add a 0 0 1\r\nx\r\n", b"add a 0 0 1\r\ny\r\n", b"get a\r\n"),
    "replace": (
        b"replace a 0 0 1\r\nx\r\n",
        _set(b"a", b"1"),
        b"replace a 3 0 1\r\ny\r\n",
        b"get a\r\n",
    ),
    "append and prepend": (
        b"append a 0 0 1\r\nx\r\n",
        b"prepend a 0 0 1\r\nx\r\n",
        _set(b"a", b"m", 7, 100),
        b"append a 9 5 1\r\nz\r\n",
        b"prepend a 9 5 1\r\na\r\n",
        b"get a\r\n",
    ),
    "cas": (
        b"cas a 0 0 1 1\r\nx\r\n",
        _set(b"a", b"x"),
        b"gets a\r\n",
        b"cas a 3 0 1 {cas:a}\r\ny\r\n",
        b"gets a\r\n",
        b"cas a 0 0 1 1\r\nz\r\n",
        b"cas a 0 0 1 0\r\nz\r\n",
        b"get a\r\n",
        b"cas a 0 0 1 x\r\n",
        b"cas a 0 0 1 -1\r\n",
        b"cas a 0 0 1 18446744073709551616\r\n",
    ),
    "a token is new for each change": (
        _set(b"a", b"1"),
        b"gets a\r\n",
        b"append a 0 0 1\r\n2\r\n",
        b"gets a\r\n",
        b"incr a 1\r\n",
        b"gets a\r\n",
        b"touch a 0\r\n",
        b"gets a\r\n",
        b"gat 0 a\r\n",
        b"gets a\r\n",
        _set(b"a", b"1"),
        b"gets a\r\n",
    ),
    "incr and decr": (
        _set(b"n", b"10", 5),
        *_lines(
            b"incr n 5",
            b"decr n 7",
            b"get n",
            b"decr n 100",
            b"get n",
            b"incr n 0",
            b"incr nope 1",
            b"decr nope 1",
            b"incr n 18446744073709551615",
            b"incr n 1",
            b"get n",
        ),
    ),
    "incr makes a number longer": (
        _set(b"n", b"99", 3),
        *_lines(b"incr n 1", b"get n", b"decr n 1", b"get n"),
    ),
    "incr over the top": (
        _set(b"n", b"18446744073709551615"),
        *_lines(b"incr n 2", b"get n", b"decr n 5", b"get n"),
        _set(b"n", b"18446744073709551614"),
        *_lines(b"incr n 1", b"incr n 1", b"get n"),
        _set(b"n", b"9007199254740993"),
        *_lines(b"incr n 1", b"decr n 2", b"get n"),
    ),
    "flags and expiry survive": (
        _set(b"n", b"1", 9, 100),
        *_lines(b"incr n 1", b"get n"),
        b"append n 0 0 1\r\n0\r\n",
        b"get n\r\n",
        b"mg n t f\r\n",
    ),
    "noreply": (
        b"set a 0 0 1 noreply\r\nx\r\nget a\r\n",
        b"add a 0 0 1 noreply\r\ny\r\nget a\r\n",
        b"append a 0 0 1 noreply\r\ny\r\nget a\r\n",
        b"incr a 1 noreply\r\nget a\r\n",
        b"cas a 0 0 1 1 noreply\r\ny\r\nget a\r\n",
        b"touch a 0 noreply\r\nget a\r\n",
        b"delete a noreply\r\nget a\r\n",
        b"delete a 0 noreply\r\n",
        b"flush_all noreply\r\n",
        b"flush_all 0 noreply\r\n",
        b"verbosity 1 noreply\r\n",
        b"delete nope noreply\r\n",
        b"set a 0 0 1 nore\r\nx\r\nget a\r\n",
    ),
    "noreply hides errors": (
        b"set a x 0 3 noreply\r\n",
        b"set a 0 0 noreply\r\n",
        b"incr a noreply\r\n",
        b"incr a x noreply\r\n",
        b"touch a x noreply\r\n",
        b"touch a noreply\r\n",
        b"set a 0 0 3 noreply\r\nabcd\r\n",
        b"verbosity noreply\r\n",
        b"verbosity x noreply\r\n",
        b"flush_all x noreply\r\n",
        b"delete a 5 noreply\r\n",
        b"set " + K251 + b" 0 0 1 noreply\r\n",
        b"cas a 0 0 1 x noreply\r\n",
    ),
    "delete": (
        _set(b"a", b"x"),
        *_lines(b"delete a", b"delete a", b"delete a 0", b"delete a 5", b"delete a 0 x"),
        _set(b"a", b"x"),
        *_lines(b"delete a 0", b"get a", b"delete noreply", b"delete a x noreply"),
    ),
    "touch": (
        _set(b"a", b"x"),
        *_lines(b"touch a 100", b"mg a t", b"touch a 0", b"mg a t", b"touch nope 0", b"touch a x"),
        *_lines(b"touch a -1", b"get a", b"touch a 0"),
    ),
    "gat": (
        _set(b"a", b"x", 3),
        *_lines(
            b"gat 100 a b", b"mg a t", b"gats 0 a", b"mg a t", b"gat x a", b"gat -1 a", b"get a"
        ),
    ),
    "exptime": (
        *(
            _set(b"e%d" % i, b"x", 0, e)
            for i, e in enumerate((0, -1, 1, 100, 2592000, 2592001, 2678400))
        ),
        b"get e0 e1 e3 e4 e5 e6\r\n",
        b"mg e3 t\r\n",
        b"mg e4 t\r\n",
        _set(b"e7", b"x", 0, 4102444800 - (1 << 32)),
        b"get e7\r\n",
        _set(b"e8", b"x", 0, 2147483647),
        b"get e8\r\n",
    ),
    "set in the past removes": (
        _set(b"a", b"x"),
        _set(b"a", b"y", 0, -1),
        b"get a\r\n",
        b"add a 0 0 1\r\nz\r\n",
    ),
    "add in the past": (b"add a 0 2678400 0\r\n\r\n", b"get a\r\n", b"add a 0 2678400 0\r\n\r\n"),
    "flush_all": (
        _set(b"a", b"x"),
        *_lines(b"flush_all", b"get a", b"flush_all 0", b"flush_all -1", b"flush_all x"),
        _set(b"a", b"x"),
        *_lines(b"flush_all 1000", b"get a", b"flush_all 1 2", b"flush_all"),
    ),
    "quit": (_set(b"a", b"x"), b"get a\r\nquit\r\nget a\r\n"),
    "quit with words": (b"quit foo\r\n",),
    "a web browser": (b"GET / HTTP/1.1\r\n",),
    "another web browser": (b"POST /x HTTP/1.0\r\n",),
    "no web browser": _lines(b"get / HTTP/1.1", b"set / HTTP/1.1", b"mx HTTP/1.1", b"P"),
    "an endless line": (b"x" * 70000,),
    "version": _lines(b"version\r\nget a", b"version foo\r\nget a", b"version noreply\r\nget a"),
    "verbosity": _lines(
        b"verbosity 1", b"verbosity 0", b"verbosity x", b"verbosity 1 2", b"verbosity -1"
    ),
    "refused administration": _lines(
        b"shutdown",
        b"shutdown graceful",
        b"cache_memlimit x",
        b"cache_memlimit 1",
        b"lru",
        b"lru foo",
        b"slabs",
        b"slabs foo",
        b"slabs automove 0",
        b"slabs automove x y z",
        b"lru_crawler",
        b"lru_crawler foo",
        b"lru_crawler metadump nope",
        b"config get cluster",
        b"debugtime 1",
        b"cache_memlimit 2000000000",
    ),
    "stats errors": _lines(
        b"stats foo",
        b"stats cachedump",
        b"stats cachedump 1",
        b"stats cachedump x y",
        b"stats cachedump 64 0",
        b"stats cachedump 5 0",
        b"stats detail",
        b"stats detail foo",
        b"stats detail off",
        b"stats detail dump",
        b"stats reset",
        b"stats sizes",
    ),
    "many commands in one write": (
        b"".join(
            _set(b"p%d" % i, b"%d" % i) + b"get p%d\r\nincr p%d 1\r\nfoo\r\n" % (i, i)
            for i in range(200)
        ),
    ),
    **{
        f"{what} {number.decode()!r}": (_set(b"a", b"5"), line % number, b"get a\r\n")
        for number in _NUMBERS
        for what, line in (
            ("flags", b"set a %b 0 1 noreply\r\n1\r\n"),
            ("exptime", b"touch a %b\r\n"),
            ("gat exptime", b"gat %b a\r\n"),
            ("delta", b"incr a %b\r\n"),
            ("decr delta", b"decr a %b\r\n"),
            ("cas", b"cas a 0 0 1 %b\r\n1\r\n"),
            ("flush", b"flush_all %b\r\n"),
            ("verbosity", b"verbosity %b\r\n"),
        )
    },
    **{
        f"length {number.decode()!r}": (b"set a 0 0 %b\r\n" % number + b"\r\n",)
        for number in (b"0", b"00", b"+0", b"-0", b"x", b"\t0", b"0\t", b"-1", b"4294967296", b"")
    },
    **{
        f"incr of {value!r}": (
            _set(b"a", value, 3),
            *_lines(b"incr a 1", b"get a", b"decr a 7", b"get a"),
        )
        for value in (
            b"",
            b"5",
            b"5 ",
            b" 5",
            b"  5  ",
            b"\t5",
            b"5\t",
            b"+5",
            b"-5",
            b"-0",
            b"007",
            b"5x",
            b"5 x",
            b"5\0x",
            b"\0",
            b"5\nx",
            b"abc",
            b"18446744073709551615",
            b"18446744073709551616",
            b"9223372036854775808",
            b"-18446744073709551615",
            b"-9223372036854775808",
            b"1.5",
            b"0x10",
            b"00000000000000000000000000000000000005",
            b"99999999999999999999",
            b"5" + b" " * 40,
        )
    },
}

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
