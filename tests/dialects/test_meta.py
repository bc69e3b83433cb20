"""
Every meta command, flag and error: what a client sends, what a storage is
asked, what it answers, what the client gets.

The replies are those of memcached 1.6.18, byte for byte, except where the
current protocol text says more than that one knows.
"""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Inspect,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
)
from redcouch.dialects.text import TextDialect
from redcouch.limits import Limits
from redcouch.results import (
    ErrorKind,
    Failed,
    Listed,
    MetaItem,
    Number,
    Outcome,
    Result,
    Stored,
)
from tests.fuzz.feeding import feed, in_any_pieces, split

LIMITS = Limits(max_item_size=200)
ROOM = LIMITS.value_room(b"k")

ERROR = b"ERROR\r\n"
BAD_LINE = b"CLIENT_ERROR bad command line format\r\n"
BAD_CHUNK = b"CLIENT_ERROR bad data chunk\r\n"
BAD_TOKEN = b"CLIENT_ERROR bad token in command line format\r\n"
BAD_KEY = b"CLIENT_ERROR error decoding key\r\n"
BAD_FLAGS = b"CLIENT_ERROR invalid or duplicate flag\r\n"
BAD_MODE_LENGTH = b"CLIENT_ERROR incorrect length for M token\r\n"
DUPLICATE = b"CLIENT_ERROR duplicate flag\r\n"
INVALID = b"CLIENT_ERROR invalid flag\r\n"
TOO_LONG = b"CLIENT_ERROR opaque token too long\r\n"
TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
NON_NUMERIC = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
TOO_MANY = b"CLIENT_ERROR options flags too long\r\n"
MG_TOO_MANY = b"CLIENT_ERROR options flags are too long\r\n"

AWAY = Failed(ErrorKind.UNAVAILABLE, "storage not available")
FULL = Failed(ErrorKind.OUT_OF_MEMORY, "Redis says OOM")
SAID_AWAY = b"SERVER_ERROR storage not available\r\n"
SAID_FULL = b"SERVER_ERROR out of memory storing object\r\n"

K250, K251 = b"k" * 250, b"k" * 251
O32, O33 = b"O" + b"o" * 31, b"O" + b"o" * 32
B64 = b64encode(b"a b\r\n")

ITEM = MetaItem(b"ab", 2, 7, 5, 30, 4)


def make(limits: Limits = LIMITS) -> TextDialect:
    return TextDialect(limits)


def replies(data: bytes) -> list[bytes]:
    """What a client gets that asks nothing of the storage."""
    heard, broken = in_any_pieces(make, data, b"version\r")
    assert not broken
    assert all(command.local for command, _ in heard)
    return [said[0] for _, said in heard]


def answer(data: bytes, command: Command, result: Result) -> bytes:
    """What a client gets for these bytes, which have to ask for this command."""
    dialect = make()
    (request,) = dialect.receive(data)
    assert request.command == command
    heard, broken = in_any_pieces(make, data, b"mn\r")
    assert not broken
    assert [asked for asked, _ in heard] == [command]
    return request.encode(result)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"mg", ERROR),
        (b"md", ERROR),
        (b"ma", ERROR),
        (b"ms", ERROR),
        (b"mx a", ERROR),
        (b"MG a", ERROR),
        (b"mg " + K251, BAD_LINE),
        (b"md " + K251, BAD_LINE),
        (b"ma " + K251, BAD_LINE),
        (b"me " + K251, BAD_LINE),
        (b"me", BAD_LINE),
        (b"me !!! b", BAD_LINE),
        (b"mg a v v", DUPLICATE),
        (b"mg a O1 O2", DUPLICATE),
        (b"mg a \x7f", DUPLICATE),
        (b"mg a \xff", DUPLICATE),
        (b"mg a !", INVALID),
        (b"mg a S1", INVALID),
        (b"mg a T30 v !", INVALID),
        (b"mg a Tx", BAD_TOKEN),
        (b"mg a T", BAD_TOKEN),
        (b"mg a N", BAD_TOKEN),
        (b"mg a Rx", BAD_TOKEN),
        (b"mg a Cx", BAD_TOKEN),
        (b"mg a E", BAD_TOKEN),
        (b"mg a Fx", BAD_LINE),
        (b"mg a Tx Fx", BAD_TOKEN),
        (b"mg a Fx Tx", BAD_TOKEN),
        (b"mg a J", b"CLIENT_ERROR invalid numeric initial value\r\n"),
        (b"mg a Dx", b"CLIENT_ERROR invalid numeric delta value\r\n"),
        (b"mg a Dx Tx", BAD_TOKEN),
        (b"mg a M", BAD_MODE_LENGTH),
        (b"mg a MSS", BAD_MODE_LENGTH),
        (b"mg a " + O33, TOO_LONG),
        (b"mg a Tx " + O33, BAD_TOKEN),
        (b"mg !!! b v", BAD_KEY),
        (b"mg YQ b", BAD_KEY),
        (b"mg a Tx b", BAD_KEY),
        (b"mg a b Tx", BAD_TOKEN),
        (b"mg a" + b" x" * 18, MG_TOO_MANY),
        (b"md a Cx", BAD_FLAGS),
        (b"md a v v", BAD_FLAGS),
        (b"md a !", BAD_FLAGS),
        (b"md !!! b", BAD_FLAGS),
        (b"md a " + O33, TOO_LONG),
        (b"md a Cx " + O33, BAD_FLAGS),
        (b"md a" + b" x" * 18, TOO_MANY),
        (b"ma a DX", BAD_FLAGS),
        (b"ma a J-1 v", BAD_FLAGS),
        (b"ma a MII", BAD_FLAGS),
        (b"ma a MX", b"CLIENT_ERROR invalid mode for ma M token\r\n"),
        (b"ma a Mi", b"CLIENT_ERROR invalid mode for ma M token\r\n"),
        (b"ma a Md", b"CLIENT_ERROR invalid mode for ma M token\r\n"),
        (b"ma a MX " + O33, b"CLIENT_ERROR invalid mode for ma M token\r\n"),
        (b"ma a " + O33, TOO_LONG),
        (b"ma a" + b" x" * 18, TOO_MANY),
        (b"ms a", BAD_LINE),
        (b"ms a x", BAD_LINE),
        (b"ms a S1", BAD_LINE),
        (b"ms a -1", BAD_LINE),
        (b"ms a 2147483646", BAD_LINE),
        (b"ms %b 1" % K251, BAD_LINE),
        (b"ms a 1" + b" x" * 17, TOO_MANY),
        (b"mn", b"MN\r\n"),
        (b"mn foo", b"MN\r\n"),
        (b"mn Oping", b"MN Oping\r\n"),
        (b"mn k Oping", b"MN Oping\r\n"),
        (b"mn " + O33, b"MN %b\r\n" % O32),
    ],
)
def test_a_wrong_line_gets_memcacheds_words(line: bytes, reply: bytes) -> None:
    """A client that gets a line wrong reads the words that memcached has for it, and goes on."""
    assert replies(line + b"\r\nmn\r\n") == [reply, b"MN\r\n"]


@pytest.mark.parametrize(
    ("head", "reply"),
    [
        (b"ms a 3 !", INVALID),
        (b"ms a 3 v v", DUPLICATE),
        (b"ms a 3 Tx", BAD_TOKEN),
        (b"ms a 3 Fx", BAD_LINE),
        (b"ms a 3 MX", b"CLIENT_ERROR invalid mode for ms M token\r\n"),
        (b"ms a 3 MEE", BAD_MODE_LENGTH),
        (b"ms a 3 MX " + O33, b"CLIENT_ERROR invalid mode for ms M token\r\n"),
        (b"ms a 3 " + O33, TOO_LONG),
        (b"ms !!! 3 b", BAD_KEY),
    ],
)
def test_a_refused_set_takes_its_value_with_it(head: bytes, reply: bytes) -> None:
    """The value behind a refused ms is never read as a command."""
    assert replies(head + b"\r\nmn \r\nmn\r\n") == [reply, b"MN\r\n"]


def test_a_value_with_another_length_is_a_bad_chunk() -> None:
    """A client that says 3 and sends 4 bytes hears of it, and the rest is the next line."""
    assert replies(b"ms a 3\r\nabcd\r\nmn\r\n") == [BAD_CHUNK, ERROR, b"MN\r\n"]


def test_a_value_that_is_too_large_takes_the_old_item_with_it() -> None:
    """No stale value lives on behind a refused one; the refused one is skipped."""
    value = b"v" * (ROOM + 1)
    head = b"ms k %d T30" % len(value)
    assert answer(head + b"\r\n" + value + b"\r\n", Discard(b"k"), Outcome.OK) == TOO_LARGE
    fits = b"v" * ROOM
    command = Store(StoreMode.SET, b"k", fits)
    assert answer(b"ms k %d\r\n%b\r\n" % (ROOM, fits), command, Stored(5)) == b"HD\r\n"
    flagged = b"ms k %d F1\r\n%b\r\n" % (ROOM, fits)
    assert answer(flagged, Discard(b"k"), AWAY) == TOO_LARGE


def asks_get(**asked: object) -> MetaGet:
    defaults = {"value": False}
    return MetaGet(b"a", **(defaults | asked))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "command", "result", "reply"),
    [
        (b"", asks_get(), ITEM, b"HD\r\n"),
        (b"", asks_get(), None, b"EN\r\n"),
        (b"", asks_get(), AWAY, SAID_AWAY),
        (b"", asks_get(), FULL, SAID_FULL),
        (b" q", asks_get(), None, b""),
        (b" q", asks_get(), ITEM, b"HD\r\n"),
        (b" q", asks_get(), AWAY, SAID_AWAY),
        (b" k O1 v", asks_get(value=True), None, b"EN ka O1\r\n"),
        (b" v", asks_get(value=True), ITEM, b"VA 2\r\nab\r\n"),
        (b" q v", asks_get(value=True), ITEM, b"VA 2\r\nab\r\n"),
        (
            b" s v t f c k",
            asks_get(value=True, cas=True, metadata=True),
            ITEM,
            b"VA 2 s2 t30 f7 c5 ka\r\nab\r\n",
        ),
        (
            b" k c f t s v " + O32,
            asks_get(value=True, cas=True, metadata=True),
            ITEM,
            b"VA 2 ka c5 f7 t30 s2 %b\r\nab\r\n" % O32,
        ),
        (b" h l t", asks_get(metadata=True), ITEM, b"HD h0 l4 t30\r\n"),
        (
            b" h l t",
            asks_get(metadata=True),
            MetaItem(b"", 2, 0, 5, None, 9, True),
            b"HD h1 l9 t-1\r\n",
        ),
        (b" u P L x I", asks_get(no_update=True), ITEM, b"HD\r\n"),
        (
            b" t T60 v",
            asks_get(value=True, metadata=True, touch=60, touch_first=True),
            MetaItem(b"ab", 2, 0, 5, 30),
            b"VA 2 t30\r\nab\r\n",
        ),
        (
            b" T60 t",
            asks_get(metadata=True, touch=60, touch_first=True),
            MetaItem(b"", 2, 0, 5, 30),
            b"HD t60\r\n",
        ),
        (
            b" N30 t v",
            asks_get(value=True, metadata=True, vivify=30),
            MetaItem(b"", 0, 0, 5, won=True, created=True),
            b"VA 0 t30 W\r\n\r\n",
        ),
        (
            b" t N30",
            asks_get(metadata=True, vivify=30),
            MetaItem(b"", 0, 0, 5, won=True, created=True),
            b"HD t-1 W\r\n",
        ),
        (b" T-1 t", asks_get(metadata=True, touch=-1, touch_first=True), ITEM, b"HD t0\r\n"),
        (b" t T-1", asks_get(metadata=True, touch=-1, touch_first=True), ITEM, b"HD t30\r\n"),
        (
            b" T2592001 t",  # long past
            asks_get(metadata=True, touch=2592001, touch_first=True),
            ITEM,
            b"HD t0\r\n",
        ),
        (
            b" N-1 t",
            asks_get(metadata=True, vivify=-1),
            MetaItem(b"", 0, 0, 5, won=True, created=True),
            b"HD t0 W\r\n",
        ),
        (
            b" N30 t T60",
            asks_get(metadata=True, vivify=60, touch=60, touch_first=True),
            MetaItem(b"", 0, 0, 5, won=True, created=True),
            b"HD t30 W\r\n",
        ),
        (
            b" N60 t T0",
            asks_get(metadata=True, vivify=0, touch=0, touch_first=True),
            ITEM,  # which was there, so that N does nothing
            b"HD t30\r\n",
        ),
        (b" N30", asks_get(vivify=30), MetaItem(b"", 0, 0, 5, sent=True), b"HD Z\r\n"),
        (b" N30 T60", asks_get(vivify=60, touch=60, touch_first=True), ITEM, b"HD\r\n"),
        (b" T60 N30", asks_get(vivify=30, touch=60, touch_first=True), ITEM, b"HD\r\n"),
        (b" R30", asks_get(recache=30), MetaItem(b"", 2, 0, 5, won=True), b"HD W\r\n"),
        (b" R30 T9", asks_get(recache=30, touch=9), ITEM, b"HD\r\n"),
        (b" T9 R30", asks_get(recache=30, touch=9, touch_first=True), ITEM, b"HD\r\n"),
        (b" c", asks_get(cas=True), MetaItem(b"", 2, 0, 5, stale=True, won=True), b"HD c5 X W\r\n"),
        (
            b" c",
            asks_get(cas=True),
            MetaItem(b"", 2, 0, 5, stale=True, sent=True),
            b"HD c5 Z X\r\n",
        ),
        (b" E77 N0", asks_get(vivify=0, new_cas=77), ITEM, b"HD\r\n"),
        (b" C5 F1 J1 D1 MS", asks_get(), ITEM, b"HD\r\n"),
        (b"  v  k ", asks_get(value=True), ITEM, b"VA 2 ka\r\nab\r\n"),
    ],
)
def test_mg(flags: bytes, command: MetaGet, result: Result, reply: bytes) -> None:
    """A client reads an item, its standing and its markers, in the order it asked for them."""
    assert answer(b"mg a%b\r\n" % flags, command, result) == reply


@pytest.mark.parametrize(
    ("line", "key", "reply"),
    [
        (b"mg %b b" % B64, b"a b\r\n", b"HD\r\n"),
        (b"mg %b k b" % B64, b"a b\r\n", b"HD k%b b\r\n" % B64),
        (b"mg %b b k O1" % B64, b"a b\r\n", b"HD k%b b O1\r\n" % B64),
        (b"mg YQ== k b", b"a", b"HD kYQ== b\r\n"),
    ],
)
def test_keys_in_base64(line: bytes, key: bytes, reply: bytes) -> None:
    """A key of any bytes is sent in base64, and comes back so, with the flag that says so."""
    assert answer(line + b"\r\n", MetaGet(key, value=False), ITEM) == reply


def asks_set(mode: StoreMode = StoreMode.SET, **asked: object) -> Store:
    return Store(mode, b"a", b"xy", **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "command", "result", "reply"),
    [
        (b"", asks_set(), Stored(5), b"HD\r\n"),
        (b"", asks_set(), AWAY, SAID_AWAY),
        (b"", asks_set(), FULL, SAID_FULL),
        (b" q", asks_set(), Stored(5), b""),
        (b" q", asks_set(), AWAY, SAID_AWAY),
        (b" q ME", asks_set(StoreMode.ADD), Outcome.NOT_STORED, b"NS\r\n"),
        (b" q C9", asks_set(compare=9), Outcome.EXISTS, b"EX\r\n"),
        (b" q C9", asks_set(compare=9), Outcome.NOT_FOUND, b"NF\r\n"),
        (b" c k Oq F5", asks_set(flags=5), Stored(5), b"HD c5 ka Oq\r\n"),
        (b" c k C9", asks_set(compare=9), Outcome.EXISTS, b"EX c0 ka\r\n"),
        (b" s", asks_set(), Stored(5), b"HD s2\r\n"),
        (b" s C9", asks_set(compare=9), Outcome.EXISTS, b"EX s2\r\n"),
        (b" s MA", asks_set(StoreMode.APPEND), Stored(5, 9), b"HD s9\r\n"),
        (b" T30", asks_set(exptime=30), Stored(5), b"HD\r\n"),
        (b" T-1", asks_set(exptime=-1), Stored(5), b"HD\r\n"),
        (b" F4294967295", asks_set(flags=4294967295), Stored(5), b"HD\r\n"),
        (b" MS", asks_set(), Stored(5), b"HD\r\n"),
        (b" ME", asks_set(StoreMode.ADD), Stored(5), b"HD\r\n"),
        (b" ME C5", asks_set(StoreMode.ADD), Stored(5), b"HD\r\n"),
        (b" MR", asks_set(StoreMode.REPLACE), Outcome.NOT_STORED, b"NS\r\n"),
        (b" MR C5", asks_set(StoreMode.REPLACE, compare=5), Stored(6), b"HD\r\n"),
        (b" MA", asks_set(StoreMode.APPEND), Outcome.NOT_STORED, b"NS\r\n"),
        (b" MP", asks_set(StoreMode.PREPEND), Stored(5, 4), b"HD\r\n"),
        (b" ME E0", asks_set(StoreMode.ADD), Stored(5), b"HD\r\n"),
        (b" MP C0", asks_set(StoreMode.PREPEND), Stored(5, 4), b"HD\r\n"),
        (b" MA C0", asks_set(StoreMode.APPEND), Stored(5, 4), b"HD\r\n"),
        (b" MA C5", asks_set(StoreMode.APPEND, compare=5), Outcome.EXISTS, b"EX\r\n"),
        (b" MA N30 F5", asks_set(StoreMode.APPEND, flags=5, vivify=30), Stored(5, 2), b"HD\r\n"),
        (b" N30", asks_set(), Stored(5), b"HD\r\n"),
        (b" C0", asks_set(compare=0), Outcome.EXISTS, b"EX\r\n"),
        (b" I C4", asks_set(compare=4, invalidate=True), Stored(6), b"HD\r\n"),
        (b" E77 c", asks_set(new_cas=77), Stored(77), b"HD c77\r\n"),
    ],
)
def test_ms(flags: bytes, command: Store, result: Result, reply: bytes) -> None:
    """A client stores an item in each mode, with each condition."""
    assert answer(b"ms a 2%b\r\nxy\r\n" % flags, command, result) == reply


def test_ms_with_any_value() -> None:
    """A value may hold line ends and anything that looks like a command; an empty one is one."""
    assert answer(
        b"ms a 6\r\nmn\r\nmn\r\n", Store(StoreMode.SET, b"a", b"mn\r\nmn"), Stored(5)
    ) == (b"HD\r\n")
    assert answer(b"ms a 0\r\n\r\n", Store(StoreMode.SET, b"a", b""), Stored(5)) == b"HD\r\n"
    key = Store(StoreMode.SET, b"a b\r\n", b"x")
    assert answer(b"ms %b 1 b k\r\nx\r\n" % B64, key, Stored(5)) == b"HD k%b b\r\n" % B64


DELETE = Delete(b"a")


@pytest.mark.parametrize(
    ("flags", "command", "result", "reply"),
    [
        (b"", DELETE, Outcome.DELETED, b"HD\r\n"),
        (b"", DELETE, Outcome.NOT_FOUND, b"NF\r\n"),
        (b"", DELETE, AWAY, SAID_AWAY),
        (b" q", DELETE, Outcome.DELETED, b""),
        (b" q", DELETE, Outcome.NOT_FOUND, b"NF\r\n"),
        (b" q", DELETE, AWAY, SAID_AWAY),
        (b" k O1", DELETE, Outcome.DELETED, b"HD ka O1\r\n"),
        (b" O1 k q C5", Delete(b"a", 5), Outcome.EXISTS, b"EX O1 ka\r\n"),
        (b" T30", DELETE, Outcome.DELETED, b"HD\r\n"),
        (b" I", Invalidate(b"a", True), Outcome.OK, b"HD\r\n"),
        (b" I q", Invalidate(b"a", True), Outcome.OK, b""),
        (b" I", Invalidate(b"a", True), Outcome.NOT_FOUND, b"NF\r\n"),
        (b" I T30 C5", Invalidate(b"a", True, False, 30, 5), Outcome.EXISTS, b"EX\r\n"),
        (b" I E77", Invalidate(b"a", True, new_cas=77), Outcome.OK, b"HD\r\n"),
        (b" x", Invalidate(b"a", False, True, 0), Outcome.OK, b"HD\r\n"),
        (b" x T30 F7", Invalidate(b"a", False, True, 30, flags=7), Outcome.OK, b"HD\r\n"),
        (b" x I T30", Invalidate(b"a", True, True, 30), Outcome.OK, b"HD\r\n"),
    ],
)
def test_md(flags: bytes, command: Command, result: Result, reply: bytes) -> None:
    """A client deletes an item, marks it stale, or empties it."""
    assert answer(b"md a%b\r\n" % flags, command, result) == reply


def counts(**asked: object) -> Arithmetic:
    defaults = {"delta": 1}
    return Arithmetic(b"a", **(defaults | asked))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "command", "result", "reply"),
    [
        (b"", counts(), Number(14, 5), b"HD\r\n"),
        (b"", counts(), Outcome.NOT_FOUND, b"NF\r\n"),
        (b"", counts(), Outcome.NON_NUMERIC, NON_NUMERIC),
        (b"", counts(), AWAY, SAID_AWAY),
        (b" v", counts(), Number(14, 5), b"VA 2\r\n14\r\n"),
        (b" v D0", counts(delta=0), Number(2**64 - 1, 5), b"VA 20\r\n18446744073709551615\r\n"),
        (b" MD D100 v", counts(delta=100, decrement=True), Number(0, 5), b"VA 1\r\n0\r\n"),
        (b" M-", counts(decrement=True), Number(0, 5), b"HD\r\n"),
        (b" M+", counts(), Number(1, 5), b"HD\r\n"),
        (b" MI", counts(), Number(1, 5), b"HD\r\n"),
        (b" q", counts(), Number(14, 5), b""),
        (b" q v N0", counts(initial=0), Number(14, 5), b""),
        (b" q N0", counts(initial=0), Number(0, 5, created=True), b"HD\r\n"),
        (b" q", counts(), Outcome.NOT_FOUND, b"NF\r\n"),
        (b" q k", counts(), Outcome.NON_NUMERIC, NON_NUMERIC),
        (b" k O1 C5", counts(compare=5), Outcome.EXISTS, b"EX ka O1\r\n"),
        (b" C0", counts(), Number(1, 5), b"HD\r\n"),
        (
            b" N30 J13 v",
            counts(initial=13, exptime=30),
            Number(13, 5, created=True),
            b"VA 2\r\n13\r\n",
        ),
        (b" J13", counts(), Outcome.NOT_FOUND, b"NF\r\n"),
        (b" E77 c", counts(new_cas=77), Number(1, 77), b"HD c77\r\n"),
        (b" t T60", counts(touch=60, ttl=True), Number(1, 5, 30), b"HD t30\r\n"),
        (b" T60 t c", counts(touch=60, ttl=True), Number(1, 5, 30), b"HD t60 c5\r\n"),
        (b" t", counts(ttl=True), Number(1, 5), b"HD t-1\r\n"),
        (b" T-1 t", counts(touch=-1, ttl=True), Number(1, 5, 30), b"HD t0\r\n"),
        (
            b" T3600 t N60",
            counts(initial=0, exptime=60, touch=3600, ttl=True),
            Number(0, 5, None, True),
            b"HD t3600\r\n",
        ),
        (
            b" N30 t",
            counts(initial=0, exptime=30, ttl=True),
            Number(0, 5, None, True),
            b"HD t30\r\n",
        ),
        (
            b" N30 t",
            counts(initial=0, exptime=30, ttl=True),
            Number(1, 5, 9),
            b"HD t9\r\n",
        ),
        (
            b" N30 T60",
            counts(initial=0, exptime=60, touch=60),
            Number(0, 5, created=True),
            b"HD\r\n",
        ),
    ],
)
def test_ma(flags: bytes, command: Arithmetic, result: Result, reply: bytes) -> None:
    """A client counts up and down, and makes the counter with N where there is none."""
    assert answer(b"ma a%b\r\n" % flags, command, result) == reply


def test_me() -> None:
    """Someone who debugs sees what a bridge knows of an item, without reading it."""
    listed = Listed(b"a", None, 1, 9, True, 1, 0)
    shown = b"ME a exp=-1 la=1 cas=9 fetch=yes cls=1 size=61\r\n"
    assert answer(b"me a\r\n", Inspect(b"a"), listed) == shown
    assert answer(b"me a v\r\n", Inspect(b"a"), None) == b"EN\r\n"
    assert answer(b"me a\r\n", Inspect(b"a"), AWAY) == SAID_AWAY
    listed = Listed(b"a b\r\n", 30, 0, 9, False, 1, 7)
    shown = b"ME %b exp=30 la=0 cas=9 fetch=no cls=1 size=69\r\n" % B64
    assert answer(b"me %b b\r\n" % B64, Inspect(b"a b\r\n"), listed) == shown


def test_the_longest_key_and_the_most_flags() -> None:
    """250 bytes of key, 32 of opaque and every flag that mg gives back go through."""
    line = b"mg %b v k c t f s h l q u x I P L %b T9 N8\r\n" % (K250, O32)
    heard, _ = in_any_pieces(make, line)
    ((command, _),) = heard
    assert isinstance(command, MetaGet)
    assert command.key == K250
    assert command.touch == 9


# -- anything at all ---------------------------------------------------------------------------

_KEYS = st.sampled_from([b"a", b"YQ==", K250, K251, b"!!!", b"\xff", b"="])
_NUMBERS = st.sampled_from(
    [b"", b"0", b"1", b"-1", b"30", b"x", b"4294967296", b"9" * 19, b"9" * 21]
)
_FLAGS = st.one_of(
    st.sampled_from([bytes([code]) for code in range(33, 128)]),
    st.builds(
        bytes.__add__, st.sampled_from([b"T", b"N", b"R", b"C", b"E", b"F", b"J", b"D"]), _NUMBERS
    ),
    st.builds(bytes.__add__, st.just(b"M"), st.sampled_from([b"", b"S", b"A", b"I", b"-", b"XX"])),
    st.builds(bytes.__add__, st.just(b"O"), st.binary(max_size=40)),
)
_LINES = st.builds(
    lambda verb, key, flags, end: b" ".join((verb, key, *flags)) + end,
    st.sampled_from([b"mg", b"ms", b"md", b"ma", b"mn", b"me"]),
    _KEYS,
    st.lists(_FLAGS, max_size=6),
    st.sampled_from([b"\r\n", b"\n", b""]),
)
_SETS = st.builds(
    lambda key, length, flags, value: (
        b"ms %b %b %b\r\n%b\r\n" % (key, length, b" ".join(flags), value)
    ),
    _KEYS,
    _NUMBERS,
    st.lists(_FLAGS, max_size=4),
    st.binary(max_size=40),
)


@given(
    st.lists(st.one_of(_LINES, _SETS, st.binary(max_size=30)), max_size=8),
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_however_it_arrives(parts: list[bytes], places: list[int]) -> None:
    """Whatever bytes a client sends, in whatever pieces: the same requests, and never a fault."""
    data = b"".join(parts)
    assert feed(make, split(data, places)) == feed(make, [data])
