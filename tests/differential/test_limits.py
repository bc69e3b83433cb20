"""What has to be measured or waited for, on a real memcached and on RedCouch."""

from __future__ import annotations

import re
from functools import partial

import pytest

from tests.differential.binary import DECRQ, DELETE, DELETEQ, INCR, SET, _count, frame
from tests.support.comparison import Listener, Subject, Transcript, assert_alike
from tests.support.polling import eventually
from tests.support.wire import Wire, ask, slices

pytestmark = pytest.mark.everywhere


@pytest.mark.parametrize("group", [b"", b"settings", b"items", b"slabs", b"sizes", b"conns"])
def test_statistics(group: bytes, theirs: Subject, ours: Subject) -> None:
    """A monitor finds numbers and words where memcached has them, and none that it cannot read."""
    known, told = _statistics(theirs, group), _statistics(ours, group)
    for name in (known.keys() & told.keys()) - {b"version", b"inter"}:
        assert _kind(known[name]) == _kind(told[name]), name


def _statistics(server: Subject, group: bytes) -> dict[bytes, bytes]:
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


_COUNTED = [
    (b"get a a no\r\ngets no\r\n",),
    (b"gat 0 a a no\r\ntouch a 0\r\ntouch no 0\r\ntouch a x\r\n",),
    (b"set a 0 0 1\r\nx\r\nadd a 0 0 1\r\nx\r\nreplace no 0 0 1\r\nx\r\nappend a 0 0 1\r\nx\r\n",),
    (b"cas a 0 0 1 1\r\nx\r\ncas no 0 0 1 1\r\nx\r\nms a 1 C1\r\nx\r\nms a 1 C1 MA\r\nx\r\n",),
    (b"incr a 1\r\ndecr a 1\r\nincr no 1\r\nma no\r\nma no MD N0 J7\r\nma no T9\r\nma a C1\r\n",),
    (b"md a C1\r\nmd a\r\nmd no\r\nmd no q\r\ndelete no\r\ndelete a 5\r\n",),
    (b"md a I T30\r\nmg a v\r\nmg a T30\r\nmg a R90\r\nmg no\r\nmg no N30\r\nmg no N30 T30\r\n",),
    (b"flush_all\r\nflush_all 3000\r\n",),
    (frame(DELETE, b"a", cas=1), frame(DELETEQ, b"a", cas=1), frame(DELETE, b"no", cas=1)),
    (
        frame(INCR, b"no", extras=_count(1, 5)),
        frame(DECRQ, b"no", extras=_count(1, 5)),
        frame(INCR, b"a", extras=_count(1, 5), cas=1),
        frame(INCR, b"no2", extras=_count(1, 5, 0xFFFFFFFF)),
    ),
]


@pytest.mark.parametrize("steps", _COUNTED, ids=range(len(_COUNTED)))
def test_counts(steps: tuple[bytes, ...], theirs: Subject, ours: Subject) -> None:
    """What a client asks moves the same counts by as much."""
    binary = steps[0].startswith(b"\x80")
    first = frame(SET, b"a", b"5", bytes(8)) if binary else b"set a 0 0 1\r\n5\r\n"
    said = Transcript((first, *steps), binary, clock=True)  # so that it is asked each time
    assert _moved(ours, said) == _moved(theirs, said)


_COUNTS = re.compile(
    rb"cmd_(get|set|touch|flush)|(get|delete|incr|decr|touch|cas)_(hits|misses|badval)|total_items"
)


def _moved(server: Subject, transcript: Transcript) -> dict[bytes, int]:
    before = _statistics(server, b"")
    server.replies(transcript)
    after = _statistics(server, b"")
    return {
        name: int(after[name]) - int(before[name]) for name in filter(_COUNTS.fullmatch, before)
    }


@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize("length", [1, 100, 250])
def test_largest_item(length: int, flags: int, theirs: Subject, ours: Subject) -> None:
    """The same value is the largest that is taken; one byte more removes what was there."""
    key = b"k" * length

    def transcript(size: int) -> Transcript:
        old = b"set %b 0 0 3\r\nold\r\n" % key
        new = b"set %b %d 0 %d\r\n%b\r\n" % (key, flags, size, b"v" * size)
        return Transcript.of(old + new + b"get %b\r\n" % key)

    fits, too_large = 1024 * 1024 - 1000, 1024 * 1024
    while too_large - fits > 1:
        size = (fits + too_large) // 2
        if b"SERVER_ERROR" in theirs.replies(transcript(size)):
            too_large = size
        else:
            fits = size
    both = [transcript(fits), transcript(too_large)]
    assert_alike(theirs, ours, both)
    assert_alike(theirs, ours, both, slices)


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
def test_long_line(sent: bytes, theirs: Subject, ours: Subject) -> None:
    """A line that is too long ends the connection, unless it lists keys."""
    assert_alike(theirs, ours, [Transcript.of(sent)])


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
def test_time_passes(line: bytes, theirs: Subject, ours: Subject) -> None:
    """What is to end in a moment does end, without being asked again."""
    with Wire(theirs.address) as one, Wire(ours.address) as other:
        for wire in (one, other):
            wire.say([Listener().fill(line)], b"\r\n")
        for wire in (one, other):
            eventually(partial(_is_gone, wire))


def _is_gone(wire: Wire) -> bool:
    return wire.say([b"get a\r\n"], b"END\r\n").reply == b"END\r\n"
