"""A text client's bytes, as a dialect understands them and answers them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from redcouch.commands import Command, Get, GetAndTouch, Noop, Version
from redcouch.dialects.request import Dialect, Request
from redcouch.results import Result

VERSION = b"RedCouch 1.2.3"


def plain(command: Command) -> Command:
    """The same command, its keys in a list whatever they came in."""
    if isinstance(command, Get | GetAndTouch):
        return dataclasses.replace(command, keys=list(command.keys))
    return command


def receive(dialect: Dialect, pieces: Iterable[bytes]) -> list[Request]:
    """All that a client asks with these pieces; like a server, it stops where the stream breaks."""
    requests: list[Request] = []
    for piece in pieces:
        requests += dialect.receive(piece)
        while dialect.pending:
            assert not dialect.broken
            requests += dialect.receive(b"")
        if dialect.broken:
            break
    return requests


def asked(requests: Sequence[Request]) -> list[Command]:
    """What a storage has to do for these requests."""
    return [plain(request.command) for request in requests if not request.command.local]


def said(requests: Sequence[Request], results: Sequence[Result] = ()) -> bytes:
    """The reply to them, where the storage answers with these results."""
    remaining = iter(results)
    replies = [request.encode(_result(request.command, remaining)) for request in requests]
    assert next(remaining, None) is None, "more results than commands"
    return b"".join(replies)


def _result(command: Command, remaining: Any) -> Result:
    match command:
        case Version():
            return VERSION
        case Noop():
            return None
    return None if command.local else next(remaining)


def bytewise(data: bytes) -> list[bytes]:
    """Each byte by itself."""
    return [data[place : place + 1] for place in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut at these places, some of which may be the same or beyond the end."""
    ends = sorted({place for place in places if 0 < place < len(data)})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
