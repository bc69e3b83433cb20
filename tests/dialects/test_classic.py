"""
Every classic verb and every error: what a client sends, what a storage is
asked, what it answers, what the client gets.

The replies are those of memcached 1.6.18, byte for byte, except where a bridge
has nothing to say about a cache that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Dump,
    Flush,
    Get,
    GetAndTouch,
    LimitMemory,
    Quit,
    ResetStatistics,
    Statistics,
    Store,
    StoreMode,
    Touch,
    Version,
)
from redcouch.dialects.text import TextDialect
from redcouch.limits import Limits
from redcouch.results import (
    ErrorKind,
    Failed,
    Item,
    Number,
    Outcome,
    Result,
    Stored,
    Touched,
)
from tests.dialects.reading import VERSION, asked, bytewise, receive, said

LIMITS = Limits(max_item_size=200, keys_per_get=3)
ROOM = LIMITS.value_room(b"k")

AWAY = Failed(ErrorKind.UNAVAILABLE, "storage not available")
FULL = Failed(ErrorKind.OUT_OF_MEMORY, "Redis says OOM")
ODD = Failed(ErrorKind.WRONG_TYPE, "key in Redis is not an item")
SEVERAL_LINES = Failed(ErrorKind.UNAVAILABLE, "no answer:\r\nEND\n")

LONG = b"k" * 250
LONGER = b"k" * 251

ERROR = b"ERROR\r\n"
BAD_LINE = b"CLIENT_ERROR bad command line format\r\n"
BAD_CHUNK = b"CLIENT_ERROR bad data chunk\r\n"
BAD_EXPTIME = b"CLIENT_ERROR invalid exptime argument\r\n"
BAD_DELTA = b"CLIENT_ERROR invalid numeric delta argument\r\n"
BAD_DELETE = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"
NON_NUMERIC = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
NOT_AVAILABLE = b"SERVER_ERROR storage not available\r\n"
NO_MEMORY = b"SERVER_ERROR out of memory storing object\r\n"

SET, ADD, REPLACE = StoreMode.SET, StoreMode.ADD, StoreMode.REPLACE
APPEND, PREPEND = StoreMode.APPEND, StoreMode.PREPEND


@dataclass
class Case:
    """One exchange. C{limits} where it is about one of them."""

    sent: bytes
    commands: list[Command]
    results: list[Result]
    reply: bytes
    limits: Limits = field(default_factory=lambda: LIMITS)


def known(sent: bytes, reply: bytes) -> Case:
    """An exchange that no storage hears of."""
    return Case(sent, [], [], reply)


def one(sent: bytes, command: Command, result: Result, reply: bytes) -> Case:
    """An exchange with one command in it."""
    return Case(sent, [command], [result], reply)


X = Item(b"x", 0, 7)
EVERY_BYTE = bytes(range(256))

READING = [
    known(b"get\r\n", ERROR),
    known(b"get \r\n", ERROR),
    known(b"gets\r\n", ERROR),
    known(b"bget\r\n", ERROR),
    one(b"get a\r\n", Get([b"a"]), [None], b"END\r\n"),
    one(b"get a\r\n", Get([b"a"]), [X], b"VALUE a 0 1\r\nx\r\nEND\r\n"),
    one(b"bget a\r\n", Get([b"a"]), [X], b"VALUE a 0 1\r\nx\r\nEND\r\n"),
    one(b"get a\n", Get([b"a"]), [X], b"VALUE a 0 1\r\nx\r\nEND\r\n"),
    one(b" get a\r\n", Get([b"a"]), [None], b"END\r\n"),
    one(b"get a \r\n", Get([b"a"]), [None], b"END\r\n"),
    one(b"get a\0 b\r\n", Get([b"a"]), [None], b"END\r\n"),
    one(b"get a\r\r\n", Get([b"a\r"]), [None], b"END\r\n"),
    one(b"get \xc3\xa9\x01\r\n", Get([b"\xc3\xa9\x01"]), [None], b"END\r\n"),
    one(
        b"get a\r\n",
        Get([b"a"]),
        [Item(EVERY_BYTE, 2**32 - 1, 7)],
        b"VALUE a 4294967295 256\r\n%b\r\nEND\r\n" % EVERY_BYTE,
    ),
    one(b"get a\r\n", Get([b"a"]), [Item(b"", 0, 7)], b"VALUE a 0 0\r\n\r\nEND\r\n"),
    one(b"get a\r\n", Get([b"a"]), AWAY, NOT_AVAILABLE),
    one(b"get a\r\n", Get([b"a"]), [ODD], b"SERVER_ERROR key in Redis is not an item\r\n"),
    one(b"get a\r\n", Get([b"a"]), SEVERAL_LINES, b"SERVER_ERROR no answer: END\r\n"),
    one(b"get %b\r\n" % LONG, Get([LONG]), [None], b"END\r\n"),
    known(b"get %b\r\n" % LONGER, BAD_LINE),
    known(b"get a %b\r\n" % LONGER, BAD_LINE),
    known(b"gets %b\r\n" % LONGER, BAD_LINE),
    one(b"get  a   b \r\n", Get([b"a", b"b"]), [None, None], b"END\r\n"),
    one(
        b"get a b a\r\n",
        Get([b"a", b"b", b"a"]),
        [X, None, X],
        b"VALUE a 0 1\r\nx\r\nVALUE a 0 1\r\nx\r\nEND\r\n",
    ),
    one(
        b"get a b c\r\n",
        Get([b"a", b"b", b"c"]),
        [X, ODD, X],
        b"VALUE a 0 1\r\nx\r\nVALUE c 0 1\r\nx\r\nSERVER_ERROR key in Redis is not an item\r\n",
    ),
    one(b"get a b\r\n", Get([b"a", b"b"]), AWAY, NOT_AVAILABLE),
    Case(
        b"get a b c d\r\n",
        [Get([b"a", b"b", b"c"]), Get([b"d"])],
        [[None, X, None], [X]],
        b"VALUE b 0 1\r\nx\r\nVALUE d 0 1\r\nx\r\nEND\r\n",
    ),
    Case(
        b"get a b c d e f\r\n",
        [Get([b"a", b"b", b"c"]), Get([b"d", b"e", b"f"])],
        [[X, None, None], AWAY],
        b"VALUE a 0 1\r\nx\r\nSERVER_ERROR storage not available\r\n",
    ),
    Case(
        b"get a b c d\r\n",
        [Get([b"a", b"b", b"c"]), Get([b"d"])],
        [AWAY, [X]],
        b"VALUE d 0 1\r\nx\r\nSERVER_ERROR storage not available\r\n",
    ),
    one(b"gets a\r\n", Get([b"a"], cas=True), [X], b"VALUE a 0 1 7\r\nx\r\nEND\r\n"),
    one(
        b"gets a b\r\n",
        Get([b"a", b"b"], cas=True),
        [X, Item(b"yy", 5, 2**64 - 1)],
        b"VALUE a 0 1 7\r\nx\r\nVALUE b 5 2 18446744073709551615\r\nyy\r\nEND\r\n",
    ),
    Case(
        b"gets a b c d\r\n",
        [Get([b"a", b"b", b"c"], cas=True), Get([b"d"], cas=True)],
        [[None, None, None], [X]],
        b"VALUE d 0 1 7\r\nx\r\nEND\r\n",
    ),
    known(b"gat\r\n", ERROR),
    known(b"gats\r\n", ERROR),
    known(b"gat 0\r\n", b"END\r\n"),
    known(b"gat x a\r\n", BAD_EXPTIME),
    known(b"gat x\r\n", BAD_EXPTIME),
    known(b"gat 0 %b\r\n" % LONGER, BAD_LINE),
    one(b"gat 100 a\r\n", GetAndTouch([b"a"], 100), [X], b"VALUE a 0 1\r\nx\r\nEND\r\n"),
    one(
        b"gat -1 a b\r\n", GetAndTouch([b"a", b"b"], -1), [None, X], b"VALUE b 0 1\r\nx\r\nEND\r\n"
    ),
    one(
        b"gats 0 a\r\n",
        GetAndTouch([b"a"], 0, cas=True),
        [X],
        b"VALUE a 0 1 7\r\nx\r\nEND\r\n",
    ),
    Case(
        b"gat 9 a b c d\r\n",
        [GetAndTouch([b"a", b"b", b"c"], 9), GetAndTouch([b"d"], 9)],
        [[None, None, None], [None]],
        b"END\r\n",
    ),
]

STORING = [
    one(b"set a 0 0 3\r\nabc\r\n", Store(SET, b"a", b"abc"), Stored(1), b"STORED\r\n"),
    one(b"set a 0 0 3\nabc\r\n", Store(SET, b"a", b"abc"), Stored(1), b"STORED\r\n"),
    one(b"set a 0 0 0\r\n\r\n", Store(SET, b"a", b""), Stored(1), b"STORED\r\n"),
    one(b"set a 0 0 4\r\n\r\n\r\n\r\n", Store(SET, b"a", b"\r\n\r\n"), Stored(1), b"STORED\r\n"),
    one(
        b"set a 4294967295 -1 1\r\nx\r\n",
        Store(SET, b"a", b"x", 2**32 - 1, -1),
        Stored(1),
        b"STORED\r\n",
    ),
    one(b"set a 4294967296 0 1\r\nx\r\n", Store(SET, b"a", b"x"), Stored(1), b"STORED\r\n"),
    one(
        b"set a 0 2678400 1\r\nx\r\n",
        Store(SET, b"a", b"x", exptime=2678400),
        Stored(1),
        b"STORED\r\n",
    ),
    one(b"set a 0 0 1 noreply\r\nx\r\n", Store(SET, b"a", b"x"), Stored(1), b""),
    one(b"set a 0 0 1 noreply\r\nx\r\n", Store(SET, b"a", b"x"), AWAY, b""),
    one(b"set a 0 0 1 nore\r\nx\r\n", Store(SET, b"a", b"x"), Stored(1), b"STORED\r\n"),
    one(b"set a 0 0 1\r\nx\r\n", Store(SET, b"a", b"x"), AWAY, NOT_AVAILABLE),
    one(b"set a 0 0 1\r\nx\r\n", Store(SET, b"a", b"x"), FULL, NO_MEMORY),
    Case(
        b"set %b 0 0 1\r\nx\r\n" % LONG,
        [Store(SET, LONG, b"x")],
        [Stored(1)],
        b"STORED\r\n",
        Limits(),
    ),
    known(b"set a\r\n", ERROR),
    known(b"set a 0 0\r\n", ERROR),
    known(b"set a 0 0 1 2 3\r\n", ERROR),
    known(b"set a 0 0 -1\r\n", BAD_LINE),
    known(b"set a 0 0 2147483646\r\n", BAD_LINE),
    known(b"set a 0 0 x\r\n", BAD_LINE),
    known(b"set a x 0 3\r\nabc\r\n", BAD_LINE + ERROR),
    known(b"set a -1 0 1\r\nx\r\n", BAD_LINE + ERROR),
    known(b"set a 0 x 1\r\nx\r\n", BAD_LINE + ERROR),
    known(b"set a 0 x 1 noreply\r\nx\r\n", ERROR),
    known(b"set %b 0 0 1\r\nx\r\n" % LONGER, BAD_LINE + ERROR),
    known(b"set a 0 0 3\r\nabcd\r\n", BAD_CHUNK + ERROR),
    known(b"set a 0 0 3 noreply\r\nabcd\r\n", ERROR),
    known(b"set a 0 0 3\r\nab\r\nget b\r\n", BAD_CHUNK + ERROR),
    one(
        b"set k 0 0 %d\r\n%b\r\n" % (ROOM, b"x" * ROOM),
        Store(SET, b"k", b"x" * ROOM),
        Stored(1),
        b"STORED\r\n",
    ),
    one(
        b"set k 0 0 %d\r\n%b\r\n" % (ROOM + 1, b"x" * (ROOM + 1)),
        Discard(b"k"),
        Outcome.DELETED,
        TOO_LARGE,
    ),
    one(
        b"set k 1 0 %d\r\n%b\r\n" % (ROOM, b"x" * ROOM),
        Discard(b"k"),
        Outcome.NOT_FOUND,
        TOO_LARGE,
    ),
    one(
        b"set k 0 0 %d noreply\r\n%b\r\n" % (ROOM + 1, b"\n" * (ROOM + 1)),
        Discard(b"k"),
        Outcome.DELETED,
        b"",
    ),
    known(b"add k 0 0 %d\r\n%b\r\n" % (ROOM + 1, b"x" * (ROOM + 1)), TOO_LARGE),
    known(b"replace k 0 0 %d\r\n%b\r\n" % (ROOM + 1, b"x" * (ROOM + 1)), TOO_LARGE),
    known(b"append k 0 0 %d noreply\r\n%b\r\n" % (ROOM + 1, b"x" * (ROOM + 1)), b""),
    known(b"cas k 0 0 %d 5\r\n%b\r\n" % (ROOM + 1, b"x" * (ROOM + 1)), TOO_LARGE),
    one(b"add a 0 0 1\r\ny\r\n", Store(ADD, b"a", b"y"), Stored(1), b"STORED\r\n"),
    one(b"add a 0 0 1\r\ny\r\n", Store(ADD, b"a", b"y"), Outcome.NOT_STORED, b"NOT_STORED\r\n"),
    one(b"add a 0 0 1 noreply\r\ny\r\n", Store(ADD, b"a", b"y"), Outcome.NOT_STORED, b""),
    one(
        b"replace a 3 4 1\r\ny\r\n",
        Store(REPLACE, b"a", b"y", 3, 4),
        Outcome.NOT_STORED,
        b"NOT_STORED\r\n",
    ),
    one(b"append a 0 0 1\r\ny\r\n", Store(APPEND, b"a", b"y"), Stored(1, 9), b"STORED\r\n"),
    one(
        b"prepend a 5 6 1\r\ny\r\n",
        Store(PREPEND, b"a", b"y", 5, 6),
        Outcome.NOT_STORED,
        b"NOT_STORED\r\n",
    ),
    one(b"append a 1\r\ny\r\n", Store(APPEND, b"a", b"y"), Stored(1), b"STORED\r\n"),
    one(b"prepend a 2\r\nyz\r\n", Store(PREPEND, b"a", b"yz"), Stored(1), b"STORED\r\n"),
    known(b"append a\r\n", ERROR),
    known(b"append a 0 1\r\n", ERROR),
    one(
        b"cas a 1 2 1 7\r\ny\r\n",
        Store(SET, b"a", b"y", 1, 2, 7),
        Stored(8),
        b"STORED\r\n",
    ),
    one(
        b"cas a 0 0 1 18446744073709551615\r\ny\r\n",
        Store(SET, b"a", b"y", compare=2**64 - 1),
        Outcome.EXISTS,
        b"EXISTS\r\n",
    ),
    one(
        b"cas a 0 0 1 0\r\ny\r\n",
        Store(SET, b"a", b"y", compare=0),
        Outcome.NOT_FOUND,
        b"NOT_FOUND\r\n",
    ),
    one(
        b"cas a 0 0 1 7 noreply\r\ny\r\n",
        Store(SET, b"a", b"y", compare=7),
        Outcome.EXISTS,
        b"",
    ),
    known(b"cas a 0 0 1\r\ny\r\n", ERROR + ERROR),
    known(b"cas a 0 0 1 x\r\ny\r\n", BAD_LINE + ERROR),
    known(b"cas a 0 0 1 x noreply\r\ny\r\n", ERROR),
    known(b"cas a 0 0 1 7 noreply x\r\n", ERROR),
]

COUNTING = [
    one(b"incr n 5\r\n", Arithmetic(b"n", 5), Number(15, 1), b"15\r\n"),
    one(b"decr n 7\r\n", Arithmetic(b"n", 7, True), Number(0, 1), b"0\r\n"),
    one(
        b"incr n 18446744073709551615\r\n",
        Arithmetic(b"n", 2**64 - 1),
        Number(2**64 - 1, 1),
        b"18446744073709551615\r\n",
    ),
    one(b"incr n 1\r\n", Arithmetic(b"n", 1), Outcome.NOT_FOUND, b"NOT_FOUND\r\n"),
    one(b"incr n 1\r\n", Arithmetic(b"n", 1), Outcome.NON_NUMERIC, NON_NUMERIC),
    one(b"decr n 1\r\n", Arithmetic(b"n", 1, True), AWAY, NOT_AVAILABLE),
    one(b"incr n 1\r\n", Arithmetic(b"n", 1), FULL, NO_MEMORY),
    one(b"incr n 1 noreply\r\n", Arithmetic(b"n", 1), Outcome.NON_NUMERIC, b""),
    one(b"decr n 1 x\r\n", Arithmetic(b"n", 1, True), Number(3, 1), b"3\r\n"),
    known(b"incr n\r\n", ERROR),
    known(b"incr n 1 2 3\r\n", ERROR),
    known(b"incr n abc\r\n", BAD_DELTA),
    known(b"decr n -1\r\n", BAD_DELTA),
    known(b"incr n 18446744073709551616\r\n", BAD_DELTA),
    known(b"incr n abc noreply\r\n", b""),
    known(b"incr %b 1\r\n" % LONGER, BAD_LINE),
]

REMOVING = [
    one(b"delete a\r\n", Delete(b"a"), Outcome.DELETED, b"DELETED\r\n"),
    one(b"delete a\r\n", Delete(b"a"), Outcome.NOT_FOUND, b"NOT_FOUND\r\n"),
    one(b"delete a\r\n", Delete(b"a"), AWAY, NOT_AVAILABLE),
    one(b"delete a 0\r\n", Delete(b"a"), Outcome.DELETED, b"DELETED\r\n"),
    one(b"delete a noreply\r\n", Delete(b"a"), Outcome.DELETED, b""),
    one(b"delete a 0 noreply\r\n", Delete(b"a"), Outcome.DELETED, b""),
    known(b"delete\r\n", ERROR),
    known(b"delete a 0 noreply x\r\n", ERROR),
    known(b"delete a 5\r\n", BAD_DELETE),
    known(b"delete a 0 0\r\n", BAD_DELETE),
    known(b"delete a 5 noreply\r\n", b""),
    known(b"delete %b\r\n" % LONGER, BAD_LINE),
    known(b"delete %b noreply\r\n" % LONGER, b""),
    one(b"touch a 100\r\n", Touch(b"a", 100), Touched(0, 1), b"TOUCHED\r\n"),
    one(b"touch a -1\r\n", Touch(b"a", -1), Outcome.NOT_FOUND, b"NOT_FOUND\r\n"),
    one(b"touch a 0\r\n", Touch(b"a", 0), AWAY, NOT_AVAILABLE),
    one(b"touch a 0 noreply\r\n", Touch(b"a", 0), Touched(0, 1), b""),
    known(b"touch a\r\n", ERROR),
    known(b"touch a 1 2 3\r\n", ERROR),
    known(b"touch a x\r\n", BAD_EXPTIME),
    known(b"touch %b 0\r\n" % LONGER, BAD_LINE),
    one(b"flush_all\r\n", Flush(), Outcome.OK, b"OK\r\n"),
    one(b"flush_all 0\r\n", Flush(), Outcome.OK, b"OK\r\n"),
    one(b"flush_all 10\r\n", Flush(10), Outcome.OK, b"OK\r\n"),
    one(b"flush_all -1\r\n", Flush(0), Outcome.OK, b"OK\r\n"),
    one(b"flush_all\r\n", Flush(), AWAY, NOT_AVAILABLE),
    one(b"flush_all noreply\r\n", Flush(), Outcome.OK, b""),
    one(b"flush_all 10 noreply\r\n", Flush(10), Outcome.OK, b""),
    known(b"flush_all x\r\n", BAD_EXPTIME),
    known(b"flush_all x noreply\r\n", b""),
    known(b"flush_all 1 2 3\r\n", ERROR),
    Case(b"flush_all\r\n", [], [], b"CLIENT_ERROR flush_all not allowed\r\n", Limits(flush=False)),
    Case(b"flush_all 0 noreply\r\n", [], [], b"", Limits(flush=False)),
]

ADMINISTRATION = [
    known(b"version\r\n", b"VERSION %b\r\n" % VERSION),
    known(b"version\n", b"VERSION %b\r\n" % VERSION),
    known(b"version foo\r\n", b"VERSION %b\r\n" % VERSION),
    known(b"verbosity\r\n", ERROR),
    known(b"verbosity 1\r\n", b"OK\r\n"),
    known(b"verbosity 1 2\r\n", b"OK\r\n"),
    known(b"verbosity 1 2 3\r\n", ERROR),
    known(b"verbosity x\r\n", BAD_LINE),
    known(b"verbosity 1 noreply\r\n", b""),
    known(b"shutdown\r\n", b"ERROR: shutdown not enabled\r\n"),
    known(b"cache_memlimit\r\n", ERROR),
    known(b"cache_memlimit x\r\n", ERROR),
    known(b"cache_memlimit 1 2 3\r\n", ERROR),
    known(
        b"cache_memlimit 7\r\n",
        b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
    ),
    known(
        b"cache_memlimit 1000000001\r\n",
        b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
    ),
    known(b"slabs\r\n", ERROR),
    known(b"slabs reassign 1 2\r\n", b"CLIENT_ERROR slab reassignment disabled\r\n"),
    known(b"slabs reassign 1\r\n", ERROR),
    known(b"slabs automove 0\r\n", b"OK\r\n"),
    known(b"slabs automove 1\r\n", ERROR),
    known(b"lru\r\n", ERROR),
    known(b"lru tune 10 25 0.1 2.0\r\n", ERROR),
    known(b"lru mode flat noreply\r\n", b""),
    known(b"lru_crawler\r\n", ERROR),
    known(b"lru_crawler enable\r\n", b"ERROR failed to start lru crawler thread\r\n"),
    known(b"lru_crawler disable\r\n", b"OK\r\n"),
    known(b"lru_crawler crawl 1\r\n", b"CLIENT_ERROR lru crawler disabled\r\n"),
    known(b"lru_crawler sleep 1\r\n", ERROR),
    known(b"lru_crawler metadump\r\n", ERROR),
    known(b"watch fetchers\r\n", b"CLIENT_ERROR watch commands not allowed\r\n"),
    known(b"watch\r\n", b"CLIENT_ERROR watch commands not allowed\r\n"),
    known(b"config get cluster\r\n", ERROR),
    known(b"stats detail\r\n", b"CLIENT_ERROR usage: stats detail on|off|dump\r\n"),
    known(b"stats cachedump\r\n", b"CLIENT_ERROR bad command line\r\n"),
    known(b"foo\r\n", ERROR),
    known(b"\r\n", ERROR),
    known(b"\n", ERROR),
    known(b" \r\n", ERROR),
    known(b"\0get a\r\n", ERROR),
    known(b"GET a\r\n", ERROR),
    known(b"misbehave\r\n", ERROR),
    known(b"debugtime 1\r\n", ERROR),
]

CASES = READING + STORING + COUNTING + REMOVING + ADMINISTRATION


def name_of(case: Case) -> str:
    """A short name for one case among others."""
    return repr(case.sent[:40])[2:-1]


cases = pytest.mark.parametrize("case", CASES, ids=name_of)


@cases
def test_whole(case: Case) -> None:
    """A client that sends a request in one packet gets its answer."""
    requests = receive(TextDialect(case.limits), [case.sent])
    assert asked(requests) == case.commands
    assert said(requests, case.results) == case.reply


@cases
def test_byte_by_byte(case: Case) -> None:
    """The same, however slowly it comes."""
    requests = receive(TextDialect(case.limits), bytewise(case.sent))
    assert asked(requests) == case.commands
    assert said(requests, case.results) == case.reply


@cases
def test_with_more_behind_it(case: Case) -> None:
    """What follows in the same packet is understood on its own."""
    dialect = TextDialect(case.limits)
    requests = receive(dialect, [case.sent + b"version\r\nget trai", b"ling\r\n"])
    assert asked(requests) == [*case.commands, Get([b"trailing"])]
    reply = b"%bVERSION %b\r\nEND\r\n" % (case.reply, VERSION)
    assert said(requests, [*case.results, [None]]) == reply


@cases
def test_not_answered_early(case: Case) -> None:
    """Nothing is asked of the storage before the last byte of the request is here."""
    dialect = TextDialect(case.limits)
    before = receive(dialect, [case.sent[:-1]])
    if len(case.sent) > ROOM:  # refused by its first line, whatever follows
        return
    after = dialect.receive(case.sent[-1:])
    assert after
    assert asked([*before, *after]) == case.commands


def test_stats() -> None:
    """C{stats} lists a group, or says ERROR where there is none."""
    (request,) = TextDialect(LIMITS).receive(b"stats\r\n")
    assert request.command == Statistics(b"")
    pairs = [(b"pid", b"1"), (b"version", b"RedCouch 1")]
    assert request.encode(pairs) == b"STAT pid 1\r\nSTAT version RedCouch 1\r\nEND\r\n"
    assert request.encode([]) == b"END\r\n"
    assert request.encode(AWAY) == NOT_AVAILABLE

    (request,) = TextDialect(LIMITS).receive(b"stats foo bar\r\n")
    assert request.command == Statistics(b"foo")
    assert request.encode(None) == ERROR


def test_stats_reset() -> None:
    """C{stats reset} says RESET."""
    (request,) = TextDialect(LIMITS).receive(b"stats reset\r\n")
    assert request.command == ResetStatistics()
    assert request.encode(None) == b"RESET\r\n"


@pytest.mark.parametrize("line", [b"quit\r\n", b"quit foo\r\n", b"quit\n"])
def test_quit(line: bytes) -> None:
    """C{quit} is not answered."""
    (request,) = TextDialect(LIMITS).receive(line)
    assert request.command == Quit()
    assert request.encode(None) == b""


@pytest.mark.parametrize(
    ("result", "reply"),
    [
        (True, b"OK\r\n"),
        (False, b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n"),
        (AWAY, b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n"),
    ],
)
def test_cache_memlimit(result: Result, reply: bytes) -> None:
    """C{cache_memlimit} says whether that is the limit now."""
    loud, quiet = receive(
        TextDialect(LIMITS), [b"cache_memlimit 64\r\ncache_memlimit 64 noreply\r\n"]
    )
    assert loud.command == quiet.command == LimitMemory(64)
    assert loud.encode(result) == reply
    assert quiet.encode(result) == b""


@pytest.mark.parametrize(
    ("word", "result", "reply"),
    [
        (b"on", [], b"OK\r\n"),
        (b"off", [], b"OK\r\n"),
        (b"off x", [], b"OK\r\n"),
        (b"dump", [(b"detailed", b"END\r\n")], b"END\r\n"),
        (b"dump", AWAY, NOT_AVAILABLE),
    ],
)
def test_stats_detail(word: bytes, result: Result, reply: bytes) -> None:
    """C{stats detail} is said in the lines that memcached has for it."""
    (request,) = TextDialect(LIMITS).receive(b"stats detail %b\r\n" % word)
    assert request.command == Statistics(b"detail " + word.split()[0])
    assert request.encode(result) == reply


def test_version() -> None:
    """C{version} says the string that the operator has chosen."""
    (request,) = TextDialect(LIMITS).receive(b"version\r\n")
    assert request.command == Version()
    assert request.encode(b"1.6.18") == b"VERSION 1.6.18\r\n"


@pytest.mark.parametrize(
    "line",
    [b"stats cachedump 1 0\r\n", b"lru_crawler metadump all\r\n", b"lru_crawler mgdump hash\r\n"],
)
def test_lists(line: bytes) -> None:
    """The lists of items are asked for page by page."""
    (request,) = TextDialect(LIMITS).receive(line)
    assert request.command == Dump(b"")
    assert request.next_page is not None


def test_a_long_list_of_keys_is_one_answer() -> None:
    """A line of a thousand keys is read in pieces, and answered as one."""
    keys = [b"key%d" % number for number in range(1000)]
    requests = receive(TextDialect(Limits()), [b"gets %b\r\n" % b" ".join(keys)])
    gets = [command for command in asked(requests) if isinstance(command, Get)]
    assert [key for get in gets for key in get.keys] == keys
    assert max(len(get.keys) for get in gets) == 128
    results = [[Item(key, 0, 5) for key in get.keys] for get in gets]
    lines = [b"VALUE %b 0 %d 5\r\n%b\r\n" % (key, len(key), key) for key in keys]
    assert said(requests, results) == b"".join(lines) + b"END\r\n"
