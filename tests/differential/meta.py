"""
What is said in meta commands to a real memcached and to RedCouch.

Each rule by itself, in steps that each wait for the answer to the one before.
"""

from __future__ import annotations

from tests.differential import corners
from tests.support.comparison import Transcript

K250, K251 = b"k" * 250, b"k" * 251
MIB = 1024 * 1024

Steps = tuple[bytes, ...]


def _lines(*lines: bytes) -> Steps:
    return tuple(line + b"\r\n" for line in lines)


def _set(key: bytes, value: bytes, flags: int = 0, exptime: int = 0) -> bytes:
    return b"set %b %d %d %d\r\n%b\r\n" % (key, flags, exptime, len(value), value)


_META: dict[str, Steps] = {
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
        b"gets a\r\n",
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
        *(b"ms a 1 M%c\r\ny\r\n" % mode for mode in b"Xearps"),
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
        b"gets a\r\n",
        b"ms a 1 C{cas:a}\r\nz\r\n",
        b"mg a v\r\n",
        b"gets a\r\n",
        b"ms a 1 MR C{cas:a}\r\nw\r\n",
        b"ms a 1 MR C1\r\nv\r\n",
        b"gets a\r\n",
        b"ms a 1 MA C{cas:a}\r\n2\r\n",
        b"ms a 1 MA C1\r\n3\r\n",
        b"ms a 1 MP C0\r\n4\r\n",
        b"mg a v\r\n",
        b"ms a 1 C0\r\n5\r\n",
        b"ms n 1 ME C5\r\n5\r\n",
        b"gets a\r\n",
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
        b"gets a\r\n",
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
            b"ma n Mi",
            b"ma n Md",
            b"ma nope Mi",
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
        b"gets n\r\n",
        b"ma n C{cas:n} v\r\n",
        _set(b"s", b"x"),
        *_lines(b"ma s", b"ma s q", b"ma s v k", b"ma s C1"),
        _set(b"e", b""),
        *_lines(b"ma e", b"ma e C1", b"ma e MD C1"),
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

_NEWER: dict[str, Steps] = {
    "vivify on append": (
        *(b"ms a 1 MA N0\r\nx\r\n", b"mg a v t f\r\n", b"ms a 1 MA N0 F7 T50\r\ny\r\n"),
        *(b"mg a v t f s\r\n", b"ms b 1 MP N90 F5\r\nx\r\n", b"mg b v t f\r\n"),
        *(b"ms b 1 MP N90 F6 c k O1 q\r\nw\r\n", b"mg b v t f\r\n", b"ms c 1 MS N5\r\nx\r\n"),
        *(b"mg c t\r\n", b"ms d 1 ME N5\r\nx\r\n", b"mg d t\r\n", b"ms e 1 MR N5\r\nx\r\n"),
        *(b"ms f 1 MA Nx\r\nx\r\n", b"ms f 1 MA N-1\r\nx\r\n", b"mg f v\r\n", b"ms i 1 N\r\nx\r\n"),
        *(b"ms g 1 MA N30 C5\r\nx\r\n", b"mg g v\r\n", b"ms h 1 MA N30 T90 F3 I\r\nx\r\n"),
        *(b"mg h v t f\r\n", b"ms h 1 MP N0 C1\r\nx\r\n", b"mg h v t f\r\n"),
    ),
    "given tokens": (
        *(b"ms a 1 E7 c\r\nx\r\n", b"mg a c v\r\n", b"ms a 1 C7 E9 c\r\ny\r\n", b"mg a c v\r\n"),
        *(b"ms a 1 C7 E11\r\nz\r\n", b"mg a c\r\n", b"ms a 1 C8 E20 I c\r\nz\r\n", b"mg a c v\r\n"),
        *(b"ma n N0 J5 E100 c v\r\n", b"ma n E200 c v\r\n", b"ma n C200 E300 c v\r\n"),
        *(b"md a I E5000\r\n", b"mg a c\r\n", b"md a E3\r\n", b"mg z N30 E77 c\r\n", b"mg z c\r\n"),
        *(b"ms a 1 Ex\r\nx\r\n", b"ms a 1 E\r\nx\r\n", b"ms a 1 E-1\r\nx\r\n", b"mg a Ex\r\n"),
        *(b"ms a 1 E0 c\r\nx\r\n", b"mg a c\r\n", b"ma n E0 c\r\n", b"mg y N30 E0 c\r\n"),
        *(b"md a I E0\r\n", b"mg a c\r\n", b"cas a 0 0 1 0\r\ny\r\n", b"ms a 1 C0\r\ny\r\n"),
        *(b"ms a 1 C0 I E9 c\r\ny\r\n", b"ms a 1 MR C0\r\ny\r\n", b"mg a v\r\n", b"md a x E0\r\n"),
        *(b"mg a c\r\n", b"md a x E9\r\n"),
        *(
            b"mg a c\r\n",
            b"ms a 1 MA E0 c\r\nx\r\n",
            b"ms a 1 MA E50 c\r\nx\r\n",
            b"mg a c\r\n",
            b"mg q E5 c\r\n",
        ),
        *(b"ms a 1 E%d c\r\nx\r\n" % number for number in (2**63, 2**64 - 1, 2**64)),
        b"mg a c\r\n",
    ),
    "sizes of what was sent": (
        *(b"ms a 1 s\r\nx\r\n", b"ms a 2 ME s\r\nxx\r\n", b"ms a 2 MA s\r\nyy\r\n"),
        *(b"ms a 2 MP s q\r\nyy\r\n", b"ms YQ== 2 b s k\r\nyy\r\n", b"ms n 1 MR s\r\nx\r\n"),
        *(b"ms n 3 MA s O7 k\r\nxyz\r\n", b"ms n 3 C1 s\r\nxyz\r\n", b"ms a 1 C1 s k\r\nx\r\n"),
        *(b"ms v 0 s\r\n\r\n", b"ms n 2 MA N0 s\r\nxy\r\n", b"ms n 1 MA s\r\nx\r\n"),
    ),
    "values removed": (
        _set(b"a", b"x", 7, 100),
        *_lines(b"md a x", b"mg a v f s t", b"md a x q k O1"),
        _set(b"a", b"x", 7, 100),
        *_lines(b"md a x I T30", b"mg a v f t", b"mg a v", b"md nope x", b"md nope x I q"),
        _set(b"a", b"x", 7),
        *_lines(b"md a x C1", b"gets a", b"md a x C{cas:a}", b"mg a v f", b"md a x x"),
        *_lines(b"md a x T50", b"mg a t", b"md a x", b"mg a t", b"md a I C1", b"get a"),
        b"append a 0 0 1\r\nz\r\n",
        *_lines(b"mg a v f", b"md a T50 x I q k", b"mg a t v"),
        *_lines(
            b"md a x F5", b"mg a v f t", b"md a I T30", b"mg a", b"mg a", b"md a x", b"mg a v f t"
        ),
        *_lines(
            b"mg a h", b"md a x F4294967295", b"mg a h f", b"md a x F4294967296", b"md a x T-1"
        ),
        *_lines(b"mg a", b"md nope x F7 T5", b"mg nope v"),
    ),
    "in other places": _lines(
        *(b"mg a N30 k b", b"mg a E", b"ma a E", b"md a E", b"mg a S5", b"md a s", b"md a t f"),
        *(b"md a c", b"ma a x", b"mg a x", b"mg a I", b"ms a S5", b"ms a S5 k", b"mn a b"),
        *(b"mg a Pfoo", b"mg a Lbar", b"ms a 1 Pfoo\r\nx", b"md a Pz Ly", b"ma a N0 Pz Ly v"),
    ),
}

_META |= corners.META

_CLOCK = {
    *("touching", "vivify", "recache", "stale", "stale through compare", "ms", "ma"),
    *corners.CLOCK,
}
"""Those whose answers have what is left of a time to live."""

_NEWER_CLOCK = ("vivify on append", "values removed")

META = {name: [Transcript(steps, clock=name in _CLOCK)] for name, steps in _META.items()}
"""Every transcript, by what it is about."""

NEWER = {
    f"newer: {name}": [Transcript(steps, clock=name in _NEWER_CLOCK)]
    for name, steps in _NEWER.items()
}
"""The same, of what memcached 1.6.38 knows and 1.6.18 does not."""
