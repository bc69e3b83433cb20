"""Where lines and data blocks end, however they come, and when a client has gone astray."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Dump,
    Flush,
    Get,
    GetAndTouch,
    Inspect,
    Invalidate,
    MetaGet,
    Noop,
    Quit,
    Statistics,
    Store,
    StoreMode,
    Touch,
    Version,
)
from redcouch.dialects.request import Request
from redcouch.dialects.text import TextDialect
from redcouch.limits import Limits
from redcouch.results import Item, ListedPage, MetaItem, Number, Outcome, Result, Stored, Touched
from tests.dialects.reading import VERSION, asked, bytewise, cut, plain, receive, said

LIMITS = Limits(max_item_size=300, keys_per_get=3)

# -- any bytes in any split ---------------------------------------------------------------------

WORDS = (
    b"get gets gat gats set add replace append prepend cas incr decr delete touch flush_all "
    b"version quit verbosity stats reset items cachedump detail mg ms md ma mn me noreply a b "
    b"0 1 2 3 5 -1 99 4294967296 18446744073709551616 lru slabs lru_crawler metadump all "
    b"GET / HTTP/1.1 v k q S3 T30 N0 MA MD O12 shutdown watch cache_memlimit"
)
words = st.sampled_from([*WORDS.split(), b"k" * 250, b"k" * 251, b"\xff", b"\0", b""])
lines = st.builds(
    lambda tokens, end: b" ".join(tokens) + end,
    st.lists(words, max_size=8),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""]),
)
plausible = st.lists(lines | st.sampled_from([b"abc\r\n", b"x\r\n", b"\r\n"]), max_size=12).map(
    b"".join
)
anything = st.one_of(
    plausible, st.binary(max_size=60), st.builds(bytes.__add__, plausible, plausible)
)
places = st.lists(st.integers(0, 400), max_size=12)

_RESULTS: dict[type[Command], Result] = {
    Store: Stored(1),
    Arithmetic: Number(5, 2),
    Delete: Outcome.DELETED,
    Discard: Outcome.NOT_FOUND,
    Invalidate: Outcome.OK,
    MetaGet: MetaItem(b"abc", 3, 0, 7),
    Inspect: None,
    Touch: Touched(0, 1),
    Flush: Outcome.OK,
    Dump: ListedPage([], b"", 0.0),
    Version: VERSION,
    Statistics: [(b"pid", b"1")],
}


def result_of(command: Command) -> Result:
    """What some storage might answer."""
    if isinstance(command, Get | GetAndTouch):
        return [Item(key, len(key), 9) for key in command.keys]
    return _RESULTS.get(command.__class__)


def understood(requests: list[Request]) -> list[tuple[Command, bytes]]:
    """Commands and their replies: all that can be told of requests from outside."""
    return [
        (plain(request.command), request.encode(result_of(request.command))) for request in requests
    ]


@given(anything, places)
@example(b"get a\r\nset a 0 0 3\r\nabc\r\n", [1, 6, 7, 9])
@example(b"get " + b"key " * 100 + b"\r\n", [3, 5])
def test_split_changes_nothing(data: bytes, places: list[int]) -> None:
    """Whatever a client sends, and however the network cuts it: the same requests, no exception."""
    whole, pieces, bytes_ = (TextDialect(LIMITS) for _ in range(3))
    expected = understood(receive(whole, [data]))
    assert understood(receive(pieces, cut(data, places))) == expected
    assert understood(receive(bytes_, bytewise(data))) == expected
    assert whole.broken == pieces.broken == bytes_.broken


@given(st.lists(st.binary(max_size=3000), max_size=6))
def test_nothing_raises(pieces: list[bytes]) -> None:
    """Not even what is far too long makes a dialect raise."""
    for request in receive(TextDialect(LIMITS), pieces):
        assert isinstance(request.encode(result_of(request.command)), bytes)


# -- a valid pipeline ---------------------------------------------------------------------------

key_bytes = st.integers(33, 126) | st.integers(128, 255)
keys = st.lists(key_bytes, min_size=1, max_size=12).map(bytes)
key_lists = st.lists(keys, min_size=1, max_size=3)
values = st.binary(max_size=60) | st.sampled_from([b"\r\n", b"get a\r\n", b"END\r\n"])
flags = st.integers(0, 2**32 - 1)
exptimes = st.integers(-(2**31), 2**31 - 1)
numbers = st.integers(0, 2**64 - 1)
quiet = st.sampled_from([b"", b" noreply"])

Pair = tuple[bytes, Command]


def get(keys: list[bytes], cas: bool) -> Pair:
    return b"%b %b\r\n" % (b"gets" if cas else b"get", b" ".join(keys)), Get(keys, cas)


def gat(keys: list[bytes], exptime: int, cas: bool) -> Pair:
    verb = b"gats" if cas else b"gat"
    line = b"%b %d %b\r\n" % (verb, exptime, b" ".join(keys))
    return line, GetAndTouch(keys, exptime, cas)


def store(mode: StoreMode, key: bytes, value: bytes, flags: int, exptime: int, end: bytes) -> Pair:
    head = b"%b %b %d %d %d%b\r\n"
    line = head % (mode.value.encode(), key, flags, exptime, len(value), end)
    return b"%b%b\r\n" % (line, value), Store(mode, key, value, flags, exptime)


def cas(key: bytes, value: bytes, flags: int, exptime: int, token: int, end: bytes) -> Pair:
    line = b"cas %b %d %d %d %d%b\r\n" % (key, flags, exptime, len(value), token, end)
    return b"%b%b\r\n" % (line, value), Store(StoreMode.SET, key, value, flags, exptime, token)


def count(key: bytes, delta: int, decrement: bool, end: bytes) -> Pair:
    line = b"%b %b %d%b\r\n" % (b"decr" if decrement else b"incr", key, delta, end)
    return line, Arithmetic(key, delta, decrement)


def delete(key: bytes, end: bytes) -> Pair:
    return b"delete %b%b\r\n" % (key, end), Delete(key)


def touch(key: bytes, exptime: int, end: bytes) -> Pair:
    return b"touch %b %d%b\r\n" % (key, exptime, end), Touch(key, exptime)


def flush(exptime: int, end: bytes) -> Pair:
    return b"flush_all %d%b\r\n" % (exptime, end), Flush(max(exptime, 0))


exchanges = st.one_of(
    st.builds(get, key_lists, st.booleans()),
    st.builds(gat, key_lists, exptimes, st.booleans()),
    st.builds(store, st.sampled_from(StoreMode), keys, values, flags, exptimes, quiet),
    st.builds(cas, keys, values, flags, exptimes, numbers, quiet),
    st.builds(count, keys, numbers, st.booleans(), quiet),
    st.builds(delete, keys.filter(lambda key: key != b"noreply"), quiet),
    st.builds(touch, keys, exptimes, quiet),
    st.builds(flush, exptimes, quiet),
    st.sampled_from(
        [
            (b"version\r\n", Version()),
            (b"version\n", Version(typed=True)),
            (b"stats\r\n", Statistics(b"")),
            (b"stats items\r\n", Statistics(b"items")),
            (b"verbosity 1\r\n", Noop()),
            (b"mn\r\n", Noop()),
            (b"quit\r\n", Quit()),
        ]
    ),
)


@given(st.lists(exchanges, max_size=15), st.lists(st.integers(0, 1500), max_size=15))
def test_valid_pipeline(exchanges: list[Pair], places: list[int]) -> None:
    """What a client asks in one go is what it gets, all of it, in its order."""
    data = b"".join(sent for sent, _ in exchanges)
    dialect = TextDialect(LIMITS)
    requests = receive(dialect, cut(data, places))
    assert [plain(request.command) for request in requests] == [asked for _, asked in exchanges]
    assert not dialect.broken


# -- lines that are too long ---------------------------------------------------------------------


def heard(*pieces: bytes, limits: Limits = LIMITS) -> tuple[list[Command], bytes, bool]:
    """What is asked, what is said (of items that are not there), and whether it is over."""
    dialect = TextDialect(limits)
    requests = receive(dialect, pieces)
    misses = [[None] * len(keys_of(command)) for command in asked(requests)]
    return asked(requests), said(requests, misses), dialect.broken


def keys_of(command: Command) -> Sequence[bytes]:
    """The keys that a command reads."""
    assert isinstance(command, Get | GetAndTouch)
    return command.keys


def test_line_of_the_longest_length() -> None:
    """2,048 bytes without a line end are no reason to hang up; one more is."""
    assert heard(b"x" * 2048) == ([], b"", False)
    assert heard(b"x" * 2048, b"\r\n") == ([], b"ERROR\r\n", False)
    assert heard(b"x" * 2049) == ([], b"", True)
    assert heard(*bytewise(b"x" * 2100)) == ([], b"", True)


def test_long_line_that_is_whole() -> None:
    """A longer line with its end in sight is just no command, until memcached's buffer is full."""
    assert heard(b"x" * 16383 + b"\n") == ([], b"ERROR\r\n", False)
    assert heard(b"x" * 16384 + b"\n") == ([], b"", True)
    assert heard(b"x" * 70000) == ([], b"", True)


def test_before_a_line_that_is_too_long() -> None:
    """What was asked before it is still answered; what comes after it is not read."""
    commands, said, broken = heard(b"get a\r\n" + b"x" * 3000, b"\r\nget b\r\n")
    assert (commands, said, broken) == ([Get([b"a"])], b"END\r\n", True)


def test_nothing_after_the_end() -> None:
    """The rest of a packet in which the stream broke is not understood any more."""
    dialect = TextDialect(LIMITS)
    requests = dialect.receive(b"get a\r\nGEX / HTTP/1.0\r\nget b\r\n")
    assert asked(requests) == [Get([b"a"])]
    assert dialect.broken


@pytest.mark.parametrize("verb", [b"get", b"gets", b"gat 0", b"gats 0", b" " * 100 + b"get"])
@pytest.mark.parametrize("first", [1, 4, 50, 2048, 2049, 2500])
def test_long_list_of_keys(verb: bytes, first: int) -> None:
    """Lines that list keys may be long, wherever the network cuts them."""
    keys = [b"key%d" % number for number in range(1000)]
    line = verb + b" " + b" ".join(keys)
    for pieces in (
        [line + b"\r\n"],
        [line, b"\r\n"],
        [line[:first], line[first:], b"\r\n"],
        [line[:first], line[first : first + 60], line[first + 60 :] + b"\r\n"],
        [line[:first], *bytewise(line[first:]), b"\r", b"\n"],
    ):
        commands, said, broken = heard(*pieces)
        assert [key for command in commands for key in keys_of(command)] == keys
        assert (said, broken) == (b"END\r\n", False)


@pytest.mark.parametrize("first", range(2040, 2060))
def test_line_that_ends_where_patience_does(first: int) -> None:
    """A list of keys is complete when its line end comes, right after 2 KiB or not."""
    line = b"get " + b"k" * 200 + b" k" * 1000
    commands, _, broken = heard(b"get ", line[4:first], b"\r\n", b"version\r\n")
    assert len(commands) > 0
    assert not broken


def test_too_many_blanks() -> None:
    """memcached looks past a hundred blanks for a get, and no further."""
    keys = b"get " + b"k " * 2000
    assert not heard(b" " * 100 + keys)[2]
    assert heard(b" " * 101 + keys)[2]
    assert heard(b" " * 3000)[2]


def test_list_of_keys_without_end() -> None:
    """Even a list of keys has its limit, so that no client can fill the memory."""
    limits = Limits(max_get_line=5000)
    line = b"get " + b"k " * 2498
    assert len(line) == 5000
    assert not heard(line, limits=limits)[2]
    assert heard(line, b"\r\n", limits=limits) == heard(line + b"\r\n", limits=limits)
    assert not heard(line + b"\n", limits=limits)[2]
    assert heard(line + b"k", limits=limits)[2]
    limits = Limits(max_get_line=20000)
    assert heard(b"get " + b"k " * 9999 + b"\r\n", limits=limits)[2]


# -- blocks that are not taken ---------------------------------------------------------------------


def test_large_block_is_not_kept() -> None:
    """A value that is too large is refused at once, and thrown away as it comes."""
    dialect = TextDialect(LIMITS)
    (refused,) = dialect.receive(b"set a 0 0 1000000\r\n")
    assert refused.command == Discard(b"a")
    assert refused.encode(Outcome.DELETED) == b"SERVER_ERROR object too large for cache\r\n"
    for _ in range(1000):
        assert dialect.receive(b"\n" * 1000) == []
        assert dialect._buffer.size == 0
    assert dialect.receive(b"\r") == []
    (request,) = dialect.receive(b"\nget a\r\n")
    assert plain(request.command) == Get([b"a"])


def test_refused_line_of_a_meta_set() -> None:
    """The block behind a meta set that is refused is thrown away too, and no more than that."""
    data = b"ms a 3 !\r\nget\r\nget b\r\n"
    requests = receive(TextDialect(LIMITS), [data])
    assert said(requests, [[None]]) == b"CLIENT_ERROR invalid flag\r\nEND\r\n"


# -- web browsers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "closes"),
    [
        (b"POST / HTTP/1.1\r\n", True),
        (b"HEAD / HTTP/1.0\r\n", True),
        (b"mget / HTTP/1.0\r\n", True),
        (b"GET / HTTP/1.1\r\n", True),
        (b"mx / HTTP/1.0\r\n", False),
        (b"delet / HTTP/1.0\r\n", False),
        (b"X HTTP/1.1\r\n", False),
        (b"POST / HTTP\r\n", False),
        (b"get HTTP/1.1\r\n", False),
    ],
)
def test_web_browser(line: bytes, closes: bool) -> None:
    """memcached hangs up on something that speaks HTTP, and so do we."""
    dialect = TextDialect(LIMITS)
    requests = dialect.receive(line)
    assert dialect.broken is closes
    assert bool(requests) is not closes


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r\n", b"x" * LIMITS.max_long_line + b"\r\n"])
def test_broken_in_front_of_much(line: bytes) -> None:
    """A stream that is broken is over: nothing in it waits for a turn."""
    dialect = TextDialect(LIMITS)
    assert dialect.receive(line + b"Cookie: a\r\n" * 500) == []
    assert dialect.broken
    assert not dialect.pending


def test_nobody_is_asked_who_he_is() -> None:
    """Without an authentication file there is nothing to wait for."""
    dialect = TextDialect(LIMITS)
    assert dialect.waiting is False
    assert dialect.authenticated(True) == (dialect, b"")
