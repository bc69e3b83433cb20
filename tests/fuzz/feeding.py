"""
Feeding a dialect: whole, in any pieces, with more behind it.

A dialect's requests are the same however the bytes arrive, and a request can
say every result that its command may have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from redcouch.commands import (
    Arithmetic,
    Authenticate,
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
    ResetStatistics,
    Statistics,
    Store,
    Touch,
    Version,
)
from redcouch.dialects.request import Dialect, Request
from redcouch.results import (
    ErrorKind,
    Failed,
    Item,
    Listed,
    ListedPage,
    MetaItem,
    Number,
    Outcome,
    Result,
    Stored,
    Touched,
)

Make = Callable[[], Dialect]

LISTED = Listed(b"k y", 30, 5, 9, True, 3, 7)

FAILURES: list[Result] = [
    Failed(ErrorKind.OUT_OF_MEMORY, "out of memory"),
    Failed(ErrorKind.UNAVAILABLE, "storage not available"),
    Failed(ErrorKind.WRONG_TYPE, "another type"),
]

#: Every kind of result that a command may have.
RESULTS: dict[type[Command], list[Result]] = {
    Store: [Stored(5), Stored(5, 12), Outcome.NOT_STORED, Outcome.EXISTS, Outcome.NOT_FOUND],
    Arithmetic: [
        Number(7, 5),
        Number(7, 5, ttl=10),
        Number(7, 5, created=True),
        Outcome.NOT_FOUND,
        Outcome.EXISTS,
        Outcome.NON_NUMERIC,
    ],
    Delete: [Outcome.DELETED, Outcome.NOT_FOUND, Outcome.EXISTS],
    Invalidate: [Outcome.OK, Outcome.NOT_FOUND, Outcome.EXISTS],
    MetaGet: [
        None,
        MetaItem(b"ab", 2, 7, 5),
        MetaItem(b"ab", 2, 7, 5, 10, 4, True, True, True, False),
        MetaItem(b"", 2, 0, 5, None, 0, False, True, False, True, True),
    ],
    Touch: [Touched(7, 5), Outcome.NOT_FOUND],
    Flush: [Outcome.OK],
    Inspect: [None, LISTED, Listed(b"k", None, 0, 0, False, 0, 0)],
    Dump: [ListedPage([], b"", 100.0), ListedPage([LISTED], b"12", 100.0)],
    Statistics: [None, [], [(b"pid", b"1"), (b"time", b"2")]],
    ResetStatistics: [None],
    Version: [b"1.6.18"],
    Noop: [None],
    Quit: [None],
    Authenticate: [True, False],
    Discard: [Outcome.OK],
}

#: Those that never fail.
_SURE = (ResetStatistics, Version, Noop, Quit, Authenticate)


def results_of(command: Command) -> list[Result]:
    """Every kind of result that a command may have."""
    if isinstance(command, Get | GetAndTouch):
        count = len(command.keys)
        item = Item(b"ab", 7, 5)
        return [[None] * count, [item] * count, [FAILURES[0]] * count, *FAILURES]
    results = RESULTS[type(command)]
    if isinstance(command, _SURE):
        return results
    if getattr(command, "compare", None) is None:
        results = [result for result in results if result is not Outcome.EXISTS]
    return results + FAILURES


def sayings(request: Request) -> list[bytes]:
    """What a request says to each kind of result; it must have something to say to each."""
    said = [request.encode(result) for result in results_of(request.command)]
    assert all(isinstance(reply, bytes) for reply in said)
    return said


Heard = list[tuple[Command, list[bytes]]]
"""Commands, and what is said to each kind of result."""


def feed(make: Make, pieces: Iterable[bytes], proven: bool = True) -> tuple[Heard, bool]:
    """
    What a dialect makes of these pieces, and whether it gave up on the stream.
    Whoever asks to be let in is told C{proven}.
    """
    dialect = make()
    heard: Heard = []
    for piece in pieces:
        rest = piece
        while True:
            requests = dialect.receive(rest)
            heard += [(request.command, sayings(request)) for request in requests]
            if dialect.broken:
                return heard, True
            if dialect.pending:
                rest = b""
                continue
            if not dialect.waiting:
                break
            assert isinstance(requests[-1].command, Authenticate)
            dialect, rest = dialect.authenticated(proven)
    return heard, False


def split(data: bytes, at: Iterable[int]) -> list[bytes]:
    """The pieces between these places."""
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(places) if start < end]


def in_any_pieces(
    make: Make, data: bytes, trailing: bytes = b"", proven: bool = True
) -> tuple[Heard, bool]:
    """
    What a dialect makes of these bytes, which must be the same whole, byte by
    byte, and with the beginning of more behind them.
    """
    whole = feed(make, [data], proven)
    single = [data[place : place + 1] for place in range(len(data))]
    assert feed(make, single, proven) == whole
    assert feed(make, [data + trailing], proven) == whole
    return whole
