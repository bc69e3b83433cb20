"""
A conversation with a real memcached and with RedCouch over Redis: the same
bytes get the same bytes back, but for L{EXEMPTIONS} and L{NORMALISATIONS}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import sleep

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration import comparison
from tests.integration.comparison import Cut, Listener, replies
from tests.integration.transcripts import EXEMPTIONS, GROUPS, Exemption
from tests.support import servers
from tests.support.requirements import fixture_needs
from tests.support.servers import Memcached, RedCouch, RedisServer, Server
from tests.support.wire import Wire, ask, bytewise, slices, whole

_LONG = 1500
"""Bytes from which on a transcript is not cut into single ones."""

_SHOWN = 5
"""Differences that a failure shows."""


def differences(
    first: Server, second: Server, transcripts: Iterable[bytes], cut: Cut = whole
) -> list[tuple[bytes, bytes, bytes]]:
    """The transcripts that two servers answer differently, with both answers."""
    different = []
    with Wire(first.address) as one, Wire(second.address) as other:
        for sent in transcripts:
            for wire in (one, other):
                wire.say([b"flush_all\r\n"], b"\r\n")
            said, answered = (replies(server.address, sent, cut) for server in (first, second))
            if said != answered:
                different.append((sent, said, answered))
    return different


def _assert_none(different: list[tuple[bytes, bytes, bytes]]) -> None:
    shown = [
        f"sent      {sent!r}\nmemcached {one!r}\nRedCouch  {other!r}"
        for sent, one, other in different[:_SHOWN]
    ]
    assert not different, f"{len(different)} differ, for example\n" + "\n\n".join(shown)


# -- by hand -----------------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
def test_whole(group: str, memcached: Memcached, redcouch: RedCouch) -> None:
    """A client that sends all it has to say at once sees no difference."""
    _assert_none(differences(memcached, redcouch, GROUPS[group]))


@pytest.mark.parametrize("group", GROUPS)
def test_byte_by_byte(group: str, memcached: Memcached, redcouch: RedCouch) -> None:
    """However the network cuts what a client says, it sees no difference."""
    short = [sent for sent in GROUPS[group] if len(sent) < _LONG]
    long = [sent for sent in GROUPS[group] if len(sent) >= _LONG]
    _assert_none(differences(memcached, redcouch, short, bytewise))
    _assert_none(differences(memcached, redcouch, long, slices))


@pytest.fixture(scope="module")
@fixture_needs("memcached")
def another_memcached() -> Iterator[Memcached]:
    """A memcached that may be left with other settings."""
    with servers.memcached() as server:
        yield server


@pytest.mark.parametrize("exemption", EXEMPTIONS, ids=lambda exemption: exemption.sent[-40:])
def test_exemption(exemption: Exemption, another_memcached: Memcached, redcouch: RedCouch) -> None:
    """Where a client does see a difference, it is this one and no other."""
    ask(another_memcached.address, b"flush_all\r\n", b"\r\n")
    assert replies(another_memcached.address, exemption.sent) == exemption.memcached
    assert replies(redcouch.address, exemption.sent) == exemption.redcouch


@pytest.mark.parametrize("group", [b"", b"settings", b"items", b"slabs", b"sizes", b"conns"])
def test_statistics(group: bytes, memcached: Memcached, redcouch: RedCouch) -> None:
    """A monitor finds numbers and words where memcached has them, and none that it cannot read."""
    theirs, ours = (_statistics(server, group) for server in (memcached, redcouch))
    for name in (theirs.keys() & ours.keys()) - {b"version", b"inter"}:
        assert _kind(theirs[name]) == _kind(ours[name]), name


def _statistics(server: Server, group: bytes) -> dict[bytes, bytes]:
    """Names and values. Each line has to have one of each."""
    ask(server.address, b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
    *lines, end = ask(server.address, b"stats %b\r\n" % group, b"END\r\n").splitlines()
    assert end == b"END"
    assert all(line.startswith(b"STAT ") for line in lines)
    return dict(line.split(b" ", 2)[1:] for line in lines)


def _kind(value: bytes) -> str:
    if value.isdigit():
        return "whole number"
    return "number" if value.replace(b".", b"").isdigit() else "word"


@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize("length", [1, 100, 250])
def test_largest_item(length: int, flags: int, memcached: Memcached, redcouch: RedCouch) -> None:
    """The same value is the largest that is taken; one byte more removes what was there."""
    key = b"k" * length

    def transcript(size: int) -> bytes:
        old = b"set %b 0 0 3\r\nold\r\n" % key
        new = b"set %b %d 0 %d\r\n%b\r\n" % (key, flags, size, b"v" * size)
        return old + new + b"get %b\r\n" % key

    fits, too_large = 1024 * 1024 - 1000, 1024 * 1024
    while too_large - fits > 1:
        size = (fits + too_large) // 2
        if b"SERVER_ERROR" in replies(memcached.address, transcript(size)):
            too_large = size
        else:
            fits = size
    both = [transcript(fits), transcript(too_large)]
    _assert_none(differences(memcached, redcouch, both))
    _assert_none(differences(memcached, redcouch, both, slices))


@pytest.mark.parametrize(
    "sent",
    [
        b"x" * 2046 + b"\r\n",
        b"x" * 2049 + b"\r\n",
        b"x" * 16382 + b"\r\n",
        b"x" * 16384 + b"\r\n",
        b"x" * 70_000,
        b"incr " + b"1" * 5000 + b" 1\r\n",
        b"get " + b"x " * 20_000 + b"\r\n",
        b"gets " + b"x " * 20_000 + b"\r\n",
        b"bget " + b"x " * 20_000 + b"\r\n",
        b"get\t" + b"x " * 20_000 + b"\r\n",
        b" " * 100 + b"get " + b"x " * 20_000 + b"\r\n",
        b" " * 101 + b"get " + b"x " * 20_000 + b"\r\n",
    ],
    ids=range(12),
)
def test_long_line(sent: bytes, memcached: Memcached, redcouch: RedCouch) -> None:
    """A line that is too long ends the connection, unless it lists keys."""
    _assert_none(differences(memcached, redcouch, [sent]))


@pytest.mark.parametrize(
    "line",
    [
        b"set a 0 1 1\r\nx\r\n",
        b"set a 0 {now+1} 1\r\nx\r\n",
        b"set a 0 0 1\r\nx\r\ntouch a 1\r\n",
        b"set a 0 0 1\r\nx\r\ngat 1 a\r\n",
        b"set a 0 0 1\r\nx\r\nflush_all 2\r\n",
    ],
)
def test_time_passes(line: bytes, memcached: Memcached, redcouch: RedCouch) -> None:
    """What is to end in a moment does end, without being asked again."""
    for server in (memcached, redcouch):
        with Wire(server.address) as wire:
            wire.say([Listener().fill(line)], b"\r\n")
            while wire.say([b"get a\r\n"], b"END\r\n").reply != b"END\r\n":
                sleep(0.01)


# -- generated ---------------------------------------------------------------------------------

_KEY = st.sampled_from([b"a", b"b", b"c"])
_FLAGS = st.sampled_from([b"0", b"1", b"4294967295", b"-1", b"x"])
_EXPTIME = st.sampled_from(
    [b"0", b"0", b"100", b"2592000", b"{now+100}", b"2147483647", b"-1", b"2592001", b"x"]
)
_NOREPLY = st.sampled_from([b"", b"", b" noreply"])
# Numbers get no shorter here: memcached pads those, unless it still holds the old item.
_VALUE = st.sampled_from([b"", b"0", b"5", b"99", b"4294967295", b"x", b"\r\n", b"get a\r\n"])
_DELTA = st.sampled_from([b"0", b"1", b"7", b"4294967296", b"x", b"-1"])
_TOKEN = st.sampled_from([b"{cas:a}", b"{cas:b}", b"{cas:a+1}", b"0", b"x"])


@st.composite
def _store(draw: st.DrawFn) -> bytes:
    verb = draw(
        st.sampled_from([b"set", b"set", b"add", b"replace", b"append", b"prepend", b"cas"])
    )
    value = draw(_VALUE)
    length = max(0, len(value) + draw(st.sampled_from([0, 0, 0, 0, -2, -1, 1, 2])))
    words = [verb, draw(_KEY), draw(_FLAGS), draw(_EXPTIME), b"%d" % length]
    if verb == b"cas":
        words.append(draw(_TOKEN))
    more = b"\r\n\r\n" if length > len(value) else b""  # for a block that goes on
    return b" ".join(words) + draw(_NOREPLY) + b"\r\n" + value + b"\r\n" + more


def _line(*words: st.SearchStrategy[bytes] | bytes) -> st.SearchStrategy[bytes]:
    parts = [st.just(word) if isinstance(word, bytes) else word for word in words]
    return st.tuples(*parts).map(lambda drawn: b" ".join(drawn).replace(b"  ", b" ") + b"\r\n")


_COMMAND = st.one_of(
    _store(),
    _store(),
    _line(b"get", _KEY),
    _line(b"gets", _KEY, _KEY, _KEY),
    _line(b"gat", _EXPTIME, _KEY, _KEY),
    _line(b"gats", _EXPTIME, _KEY),
    _line(b"incr", _KEY, _DELTA, _NOREPLY),
    _line(b"decr", _KEY, b"0", _NOREPLY),
    _line(b"touch", _KEY, _EXPTIME, _NOREPLY),
    _line(b"delete", _KEY, _NOREPLY),
    _line(b"delete", _KEY, st.sampled_from([b"0", b"5"]), _NOREPLY),
    st.just(b"flush_all\r\n"),
    st.just(b"flush_all noreply\r\n"),
)


@settings(max_examples=200, deadline=None)
@given(commands=st.lists(_COMMAND, min_size=1, max_size=30), cut=st.sampled_from([whole, bytewise]))
def test_generated(
    commands: list[bytes], cut: Cut, running_memcached: Memcached, running_redcouch: RedCouch
) -> None:
    """Whatever is said in whatever order, a client sees no difference."""
    sent = b"".join(commands) + b"gets a b c\r\n"
    _assert_none(differences(running_memcached, running_redcouch, [sent], cut))


# -- the comparison itself ---------------------------------------------------------------------


def test_another_server_is_noticed(memcached: Memcached) -> None:
    """A memcached that refuses to flush does not pass for the same."""
    with servers.memcached("-F") as other:
        assert differences(memcached, other, GROUPS["flushing"])


def test_another_limit_is_noticed(memcached: Memcached) -> None:
    """Nor does one that takes larger items."""
    with servers.memcached("-I", "2m") as other:
        size = 1024 * 1024
        sent = b"set a 0 0 %d\r\n%b\r\n" % (size, b"v" * size)
        assert differences(memcached, other, [sent])


def test_the_same_server_passes(memcached: Memcached) -> None:
    """Two memcacheds that have given out different tokens are the same."""
    with servers.memcached() as other:
        ask(other.address, b"set a 0 0 1 noreply\r\nx\r\n" * 99 + b"version\r\n", b"\r\n")
        for group in ("tokens", "storing", "flushing"):
            assert not differences(memcached, other, GROUPS[group])


def test_tokens_are_compared() -> None:
    """Tokens may be any numbers, but equal ones stay equal and others do not become so."""
    hear = b"VALUE a 0 1 %d\r\nx\r\nVALUE b 0 1 %d\r\ny\r\n"
    one, other, different = (Listener().hear(hear % pair) for pair in ((5, 5), (9, 9), (5, 6)))
    assert one == other
    assert one != different


def test_values_are_left_alone() -> None:
    """A value that looks like a reply is compared as the bytes that it is."""
    value = b"VERSION 1\r\nSTAT a 1\r\nVALUE a 0 0 5\r\n"
    reply = b"VALUE a 0 %d\r\n%b\r\nEND\r\n" % (len(value), value)
    assert Listener().hear(reply) == reply


def test_placeholders() -> None:
    """A transcript uses the token that it was given, and waits for it."""
    transcript = b"gets a\r\ncas a 0 0 1 {cas:a+1}\r\nx\r\n{then}get a\r\n"
    assert list(comparison.steps(transcript)) == [
        b"gets a\r\n",
        b"cas a 0 0 1 {cas:a+1}\r\nx\r\n",
        b"get a\r\n",
    ]
    listener = Listener()
    listener.hear(b"VALUE a 0 1 41\r\nx\r\n")
    assert listener.fill(b"{cas:a} {cas:a+1} {cas:b}") == b"41 42 0"


# -- items as plain strings --------------------------------------------------------------------


@pytest.fixture(scope="module")
def strings(any_redis: RedisServer) -> Iterator[RedCouch]:
    """A RedCouch whose items are plain strings, in a database of its own."""
    with servers.redcouch(f"{any_redis.url}/7?layout=string&flush=all") as server:
        yield server


@pytest.mark.parametrize("group", GROUPS)
def test_plain_strings(group: str, memcached: Memcached, strings: RedCouch) -> None:
    """A client sees no difference where items are plain strings."""
    _assert_none(differences(memcached, strings, GROUPS[group]))
