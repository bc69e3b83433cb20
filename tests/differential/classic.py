"""
What is said to a real memcached and to RedCouch on one connection.

The rules meet here: what follows an error in the same write, what noreply leaves
behind, where lines, blocks and lists of keys end, and tokens of the same
conversation. Every transcript leaves the server at the start of a line.
"""

from __future__ import annotations

from tests.support.comparison import Transcript

LONG, TOO_LONG = b"k" * 250, b"k" * 251

VERBS = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")

NUMBERS = (
    *(b"", b"-", b"+", b"x", b"5x", b"x5", b"5-", b"5.0", b"5e1", b"0x5", b"5,", b"++5", b"+-5"),
    *(b"0", b"-0", b"+0", b"00", b"+5", b"05", b"-5", b"\t5", b"5\t", b"5\tx", b"\v\f5\r", b"\t"),
    *(b"%d" % (sign * (2**bits) + more) for bits in (31, 32, 63, 64) for sign in (1, -1)
      for more in (-1, 0, 1)),
    *(b"%d" % (2**bits + 5) for bits in (32, 33, 63, 64)),
    *(b"1" * 19, b"9" * 20, b"1" * 21, b"0" * 40 + b"5", b"\xb2", b"\xd9\xa5"),
)  # fmt: skip
"""Tokens where a number belongs."""

ENDLESS = (b"1" * 19,)
"""Those of them that are a length of far more bytes than anybody sends."""

VALUES = (
    *(b"", b"0", b"-0", b"+0", b"-1", b"+1", b"- 1", b"1 2", b"1-", b"1 -", b"1x", b"x1"),
    *(b"1\0", b"1\0x", b"\x001", b"1\t", b"\n1", b"1\n", b"1\r\n2", b"1\v", b"0x10", b"1.5"),
    *(b"%d" % (2**bits + more) for bits in (31, 32, 53, 63, 64) for more in (-2, -1, 0, 1)),
    *(b"-%d" % number for number in range(2**63 - 1, 2**63 + 2)),
    *(b"0" * 30 + b"7", b"7" + b" " * 30, b" " * 30 + b"7", b"9" * 20, b"1" * 60),
)  # fmt: skip
"""
What C{incr} and C{decr} may find. Of blanks only, memcached reads on behind them, in what other
items have left there.
"""


def _with(verb: bytes) -> bytes:
    """The words behind a store command's length."""
    return b" {cas:a}" if verb == b"cas" else b""


def _set(key: bytes, value: bytes, rest: bytes = b"0 0") -> bytes:
    return b"set %b %b %d\r\n%b\r\n" % (key, rest, len(value), value)


_THEN = b"{then}"
_A = _set(b"a", b"1")
_SEE = b"gets a\r\n"
_NOREPLY = (b"noreply", b"NOREPLY", b"noreply2", b"noreply noreply", b"noreply 0", b"x noreply")


def _retrieving() -> list[bytes]:
    few = b"".join(_set(b"k%d" % number, b"v%d" % number) for number in range(0, 200, 7))
    lists = [
        few + b"%b %b%b\r\n" % (verb, b" ".join(b"k%d" % n for n in range(count)), blanks) + _SEE
        for verb in (b"get", b"gets", b"gat 0", b"gats 0")
        for count in (20, 21, 22, 23, 24, 44, 45, 46, 47, 127, 128, 129, 200)
        for blanks in (b"", b" ", b"   ")
    ]
    return [
        *lists,
        few + _THEN + b"get %b %b\r\n" % (b" ".join([b"k0"] * 130), TOO_LONG),
        few + b"get %b %b k7\r\n" % (b" ".join([b"k0"] * 130), LONG),
        few + b"gats 100 " + b" ".join([b"k7"] * 50) + b"\r\nget k7\r\n",
        _A + b"bget a\r\nbgets a\r\nbget\r\nget\ta\r\nGet a\r\n",
        _A + b"gat 0\r\ngat\r\ngat 0 \r\ngats 0\r\ngat a\r\ngat 0 0 a\r\ngat 0a a\r\ngat - a\r\n",
        _A + b"   \tget a\r\n \r\n  get   a   \r\n\0\r\nget a\0 b\r\nget \0a\r\nget\0\r\n\r\r\n",
        _A + b"get a\nget a\r\r\nget a\r \r\nget \r\nget \n\n\r\n\n",
        _set(b"a\r", b"1") + b"get a\r\r\nget a\r b\nget a\r\n",
        _set(b"\xff\xfe\x01\x7f", b"1")
        + b"get \xff\xfe\x01\x7f \x80\r\n\x80\r\n\x81x\r\nget a\r\n",
        _set(LONG, b"1") + b"get %b\r\n{then}get %b\r\n" % (LONG, TOO_LONG) + _SEE,
        _set(b"a", bytes(range(256)) * 3, b"7 0") + _SEE,
        _set(b"a", b"END\r\nSTORED\r\nVALUE a 0 1\r\n", b"7 0") + _SEE + b"get a a\r\n",
    ]


def _storing() -> list[bytes]:
    heads = [
        b"%b a %b%b\r\n" % (verb, words, cas)
        for verb in VERBS
        for cas in ([b" 0", b" {cas:a}", b" {cas:a+1}"] if verb == b"cas" else [b""])
        for words in (b"0 0 1", b"4294967295 0 1", b"7 100 1", b"7 -1 1", b"0 2592001 1")
    ]
    semantics = [
        before + _SEE + head + b"2\r\n" + _SEE + head + b"3\r\n" + _SEE
        for head in heads
        for before in (b"", _set(b"a", b"1", b"5 0"), _set(b"a", b"1", b"5 2000000000"))
    ]
    words = (b"a", b"0", b"0", b"1", b"1", b"x", b"x")
    counts = [
        _A + _SEE + b"%b %b\r\nz\r\n" % (verb, b" ".join(words[:count])) + _SEE
        for verb in VERBS
        for count in range(8)
        if not (verb in (b"append", b"prepend") and count == 2)  # see DIFFERENCES
    ]  # fmt: skip
    blocks = [
        _A + b"set a 0 0 %d%b\r\n%b" % (length, noreply, block) + _SEE + b"\r\n" * 3 + _SEE
        for length in (0, 1, 2, 3, 4)
        for block in (
            b"\r\n",
            b"\n",
            b"x\r\n",
            b"x\n",
            b"xyz\r\n",
            b"xyz\n",
            b"\r\n\r\n",
            b"x\r\r\n",
        )
        for noreply in (b"", b" noreply")
    ]
    return semantics + counts + blocks + [
        _A + b"%b %b 0 0 1%b%b\r\nx\r\n" % (verb, key, b" 1" * (verb == b"cas"), noreply) + _SEE
        for verb in VERBS
        for key in (LONG, TOO_LONG, b"k" * 1000)
        for noreply in (b"", b" noreply")
    ]  # fmt: skip


def _reading_numbers() -> list[bytes]:
    lengths = [number for number in NUMBERS if number not in ENDLESS]
    transcripts = [_A + b"set a %b 0 1\r\nx\r\n" % n + _SEE for n in NUMBERS]
    transcripts += [_A + b"set a 0 %b 1\r\nx\r\n" % n + _SEE for n in NUMBERS]
    transcripts += [_A + b"set a 0 0 %b\r\nx\r\n" % n + _SEE + b"\r\n" * 40 for n in lengths]
    transcripts += [_A + b"cas a 0 0 1 %b\r\nx\r\n" % n + _SEE for n in NUMBERS]
    for line in (
        *(b"incr a %b", b"decr a %b", b"touch a %b", b"gat %b a", b"verbosity %b"),
        *(b"delete a %b", b"cache_memlimit x%b", b"stats cachedump %b x", b"stats cachedump x %b"),
    ):
        transcripts += [_A + line % n + b"\r\n" + _SEE for n in NUMBERS]
    return transcripts


def _counting() -> list[bytes]:
    # An item is read once, at the end: memcached may still hold one that has been read, and
    # then does not pad a number that gets shorter.
    transcripts = [
        _set(b"a", value, b"7 1000") + calculation + _SEE
        for value in VALUES
        for delta in (b"0", b"1", b"18446744073709551615", b"9223372036854775808", b"4294967296")
        for calculation in (
            b"incr a %b\r\n" % delta,
            b"decr a %b\r\n" % delta,
            b"incr a %b\r\ndecr a %b\r\nincr a 1\r\n" % (delta, delta),
        )
    ]
    words = (b"", b" a", b" a 1", b" a 1 x", b" a 1 x y", b" nope 1", b" %b 1" % TOO_LONG, b" a a")
    return transcripts + [
        _A + b"%b%b\r\n" % (verb, rest) + _SEE for verb in (b"incr", b"decr") for rest in words
    ]


def _silencing() -> list[bytes]:
    lines = (
        *(b"delete a", b"delete nope", b"delete a 0", b"delete a 5", b"delete", b"touch a 0"),
        *(b"touch nope 0", b"touch a x", b"touch a", b"touch", b"incr a 1", b"incr nope 1"),
        *(b"incr a x", b"incr a", b"incr", b"decr a 1", b"flush_all", b"flush_all 0"),
        *(b"flush_all -1", b"flush_all x", b"flush_all 1000", b"verbosity 1", b"verbosity x"),
        *(b"verbosity", b"version", b"get a", b"gat 0 a", b"stats foo", b"shutdown", b"foo"),
        *(b"delete " + TOO_LONG, b"touch %b 0" % TOO_LONG, b"incr %b 1" % TOO_LONG),
    )
    transcripts = [
        _A + line + b" " + noreply + b"\r\n" + b"foo\r\n" + _SEE + b"delete nope\r\n"
        for line in lines
        for noreply in _NOREPLY
    ]
    return transcripts + [
        _A + _SEE + b"%b %b%b %b\r\n2\r\nfoo\r\n" % (verb, head, _with(verb), noreply) + _SEE
        for verb in VERBS
        for head in (
            b"a 0 0 1",
            b"a 0 0 2",
            b"a x 0 1",
            b"a 0 x 1",
            b"a 0 0 x",
            b"a 0 0 -1",
            b"a 0 0",
        )
        for noreply in _NOREPLY
    ]


def _ending() -> list[bytes]:
    """C{quit}, web browsers, and where tokens are looked at beyond the twenty-fourth."""
    words = b"w " * 21
    return [
        _A + b"get a\r\nquit\r\nget a\r\n",
        _A + b"get a\r\n{then}GET / HTTP/1.1\r\nget a\r\n",
        _A + b"quit noreply\r\n",
        _A + b"quit\n",
        _A + b"QUIT\r\n",
        *(
            line + b"\r\n"
            for line in (
                *(b"GET / HTTP/1.1", b"POST / HTTP/", b"foo HTTP/1.0", b"misc HTTP/1.0"),
                *(b"x HTTP/1.0", b"mx HTTP/1.0", b"m HTTP/1.0", b"HTTP/1.1 200", b"HTTP/1.1"),
                *(b"GET HTTP/1.1 ", b"GET HTTP/1.1 x", b"GET http/1.1", b"GET xHTTP/1.1"),
                *(b"gx HTTP/1", b"sx HTTP/1", b"ax HTTP/1", b"cx HTTP/1", b"ix HTTP/1"),
                *(b"dx HTTP/1", b"tx HTTP/1", b"rx HTTP/1", b"bx HTTP/1", b"vx HTTP/1"),
                b"GET " + words + b"HTTP/1.1",
            )
        ),
        *(b"%b %bw w w\r\n" % (verb, words) for verb in (*VERBS, b"version", b"touch", b"delete")),
        *(
            b"%b %bw w w\r\n" % (verb, words)
            for verb in (b"stats foo", b"verbosity", b"incr", b"x")
        ),
        *(b"%b %bw w noreply\r\nfoo\r\n" % (v, words) for v in (b"flush_all", b"shutdown", b"gat")),
    ]


def _flushing() -> list[bytes]:
    return [
        _A + b"flush_all" + rest + b"\r\n" + _SEE + _A + _SEE + b"flush_all\r\n" + _SEE
        for rest in (
            *(b"", b" ", b" 0", b" -1", b" -2147483648", b" 4294967295", b" 1000", b" 2592000"),
            *(b" {now+1000}", b" 2147483647", b" noreply", b" 0 noreply", b" 1000 noreply"),
            *(b" noreply 0", b" x", b" 1000 x", b" 0 x noreply", b" 1000 2000", b" +1000"),
        )
    ]


def _expiring() -> list[bytes]:
    return [
        before + line % exptime + _SEE + b"add a 3 0 1\r\nn\r\n" + _SEE
        for before in (b"", _A, _set(b"a", b"1", b"0 2000000000"))
        for exptime in (
            *(b"0", b"-1", b"-2147483648", b"100", b"2592000", b"2592001", b"1000000000"),
            *(b"{now-100}", b"{now+100}", b"{now+10000000}", b"2147483647", b"2147483648"),
        )
        for line in (
            b"set a 0 %b 1\r\nx\r\n",
            b"add a 0 %b 1\r\nx\r\n",
            b"touch a %b\r\n",
            b"gat %b a\r\n",
            b"append a 0 %b 1\r\nx\r\n",
            _SEE + b"cas a 0 %b 1 {cas:a}\r\nx\r\n",
        )
    ]


def _tokens() -> list[bytes]:
    """What gives an item a new token, and what leaves it."""
    changes = (
        *(_A, b"add a 0 0 1\r\n1\r\n", b"replace a 0 0 1\r\n1\r\n", b"append a 0 0 0\r\n\r\n"),
        *(b"prepend a 0 0 1\r\n0\r\n", b"incr a 1\r\n", b"incr a 0\r\n", b"decr a 0\r\n"),
        *(b"touch a 100\r\n", b"gat 100 a\r\n", b"gats 0 a\r\n", b"get a\r\n", b"delete a\r\n"),
        *(b"delete a\r\n" + _A, b"flush_all\r\n" + _A, b"incr a x\r\n", b"set a x 0 1\r\nx\r\n"),
        *(b"cas a 0 0 1 {cas:a}\r\nx\r\n", b"cas a 0 0 1 {cas:a+1}\r\nx\r\n"),
        *(b"cas a 0 0 2 {cas:a}\r\nx\r\nxx\r\n", b"cas a 0 -1 1 {cas:a}\r\nx\r\n"),
        *(b"cas b 0 0 1 {cas:a}\r\nx\r\n", b"cas a 0 0 1 {cas:b}\r\nx\r\n", b"touch a -1\r\n"),
    )
    return [
        _A + _set(b"b", b"2") + b"gets a b\r\n" + first + b"gets a b\r\n"
        # A number that gets shorter is filled up, unless its old item is still to be sent.
        + (_THEN if first.startswith(b"prepend") else b"") + second
        + b"gets a b\r\ncas a 7 0 1 {cas:a}\r\n9\r\ngets a b\r\n"
        for first in changes
        for second in changes
    ]  # fmt: skip


def _administering() -> list[bytes]:
    """What of the administration commands can be the same."""
    lines = (
        *(b"shutdown", b"shutdown graceful", b"shutdown x y", b"stats foo", b"stats reset"),
        *(b"stats", b"stats settings", b"stats detail", b"stats detail foo", b"stats detail off"),
        *(b"stats detail dump", b"stats cachedump", b"stats cachedump 1", b"stats cachedump x 0"),
        *(b"stats cachedump 64 0", b"stats cachedump 63 0", b"stats reset x", b"stats noreply"),
        *(
            b"cache_memlimit",
            b"cache_memlimit x",
            b"cache_memlimit 7",
            b"cache_memlimit 2000000000",
        ),
        *(b"cache_memlimit 1 2 3", b"cache_memlimit 7 noreply", b"cache_memlimit noreply"),
        *(
            b"lru",
            b"lru x",
            b"lru tune",
            b"lru tune 1",
            b"lru mode",
            b"lru temp_ttl",
            b"lru noreply",
        ),
        *(b"slabs", b"slabs x", b"slabs reassign", b"slabs reassign 1", b"slabs automove"),
        *(b"slabs automove x", b"slabs automove 5", b"slabs automove ratio", b"slabs automove 0"),
        *(b"lru_crawler", b"lru_crawler x", b"lru_crawler sleep", b"lru_crawler crawl"),
        *(b"lru_crawler metadump", b"lru_crawler x y z", b"watch x noreply"),
        *(b"config get cluster", b"misbehave", b"debugtime 1", b"debugtime", b"auth a b"),
        *(b"verbosity 0", b"verbosity 0 0", b"verbosity 0 0 0", b"version x y z", b"versions"),
    )
    return [line + b"\r\n" + _A + _SEE for line in lines]


def _pipelining() -> list[bytes]:
    many = b"".join(
        _set(b"k%d" % (number % 7), b"%d" % number)
        + b"incr k%d 5\r\nget k%d k%d\r\nfoo\r\n" % (number % 5, number % 7, number % 11)
        + b"append k%d 0 0 1 noreply\r\nx\r\ndelete k%d 5\r\n" % (number % 3, number % 2)
        for number in range(500)
    )
    return [many, _set(b"a", b"x" * 100_000) + b"get a\r\n" * 50 + _SEE]


_GROUPS = {
    "retrieving": _retrieving(),
    "storing": _storing(),
    "reading numbers": _reading_numbers(),
    "counting": _counting(),
    "silencing": _silencing(),
    "ending": _ending(),
    "flushing": _flushing(),
    "expiring": _expiring(),
    "tokens": _tokens(),
    "administering": _administering(),
    "pipelining": _pipelining(),
}

CLASSIC = {name: [Transcript.of(text) for text in texts] for name, texts in _GROUPS.items()}
"""Every transcript, by what it is about."""
