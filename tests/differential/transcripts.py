"""Every transcript, by what it is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from redcouch.commands import Noop
from redcouch.dialects.detect import dialect_name, dialect_of
from redcouch.dialects.request import Request
from redcouch.limits import Limits
from tests.differential.binary import BINARY
from tests.differential.classic import CLASSIC
from tests.differential.meta import META, NEWER
from tests.support.comparison import Listener, Transcript

__all__ = ["ALL", "CLASSIC", "NEWER", "STEPWISE", "distinct"]

STEPWISE = {
    f"{dialect}: {name}": transcripts
    for dialect, groups in (("meta", META), ("binary", BINARY))
    for name, transcripts in groups.items()
}
ALL = CLASSIC | STEPWISE


def distinct(transcripts: Iterable[Transcript]) -> list[Transcript]:
    """
    Of those that ask a storage for the same, and have the same said of its results, the first:
    that others are read as it is makes no difference to what is behind the dialects.
    """
    return list({_asked(one): one for one in reversed([*transcripts])}.values())


def _asked(transcript: Transcript) -> tuple[tuple[tuple[object, ...], ...], ...]:
    """The commands of each step, and how their results are said."""
    listener = Listener()
    dialect = dialect_of(dialect_name(transcript.steps[0][:1]), Limits())

    def requests(step: bytes) -> Iterator[Request]:
        yield from dialect.receive(listener.fill(step))
        while dialect.pending and not dialect.broken:
            yield from dialect.receive(b"")

    return tuple(tuple(map(_essence, requests(step))) for step in transcript.steps)


def _essence(request: Request) -> tuple[object, ...]:
    if isinstance(request.command, Noop):
        return (Noop,)
    say = request.encode
    return repr(request.command), (say.func if isinstance(say, partial) else say).__qualname__
