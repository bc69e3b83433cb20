"""
The layer that answers C{get}s from memory where that is what Redis would answer.

A batch in which all commands only read values is looked up. If all its keys are in
memory, it waits for the PONG of this turn; if some are not, Redis is asked for those,
and that reply is as good as a PONG for the others. Either way each item is looked up
twice: when the C{get} has arrived, and when Redis has answered something that was asked
for after that. If it is the same then, Redis held it all the time between. If not, Redis
is asked for all of the batch, so its items never come from different moments in another
order than Redis would have read them.

A batch that changes something goes past this. What it changes is told over the same
connection, before any reply that is asked for later; so the client's next C{get}, and
everybody's, comes after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from twisted.python.failure import Failure

from redcouch.backends.cached.connection import TrackedLink
from redcouch.backends.cached.table import Entry, Found, Table
from redcouch.backends.redis.connection import Replies, Waiting
from redcouch.backends.redis.replies import Reader
from redcouch.backends.redis.resp import pack_command, pack_pttl
from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.backends.wrapper import BackendWrapper
from redcouch.commands import Command, Get
from redcouch.errors import BackendError
from redcouch.interfaces import Answer, IStorageBackend
from redcouch.results import Result


def uptime() -> float:
    """
    Seconds on a clock that is never set. On Linux it goes on while the machine is
    suspended, as the lives of items do in a Redis elsewhere.
    """
    return time.clock_gettime(_CLOCK)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(slots=True)
class _Reading:
    """A batch that reads: what is asked, who is answered, and what was found when it arrived."""

    commands: Sequence[Command]
    answer: Answer
    keys: Sequence[bytes]
    table: Table
    entries: Sequence[Entry | None]


class CachedBackend(BackendWrapper):
    """See the module. C{link} is the inner backend's, over which all its commands go."""

    def __init__(
        self,
        inner: IStorageBackend,
        link: TrackedLink,
        codec: ScriptCodec,
        now: Callable[[], float] = uptime,
    ) -> None:
        super().__init__(inner)
        self._link = link
        self._prefixes = codec.layout.prefixes
        self._pack_lives = [pack_pttl(prefix) for prefix in self._prefixes]
        self._pack_get = codec.packers[Get]
        self._counts = link.counts
        self._now = now

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend<redcouch.interfaces.IDirectBackend>}."""
        table = self._link.table
        keys = None if table is None else _keys(commands)
        if table is None or keys is None:
            self._perform_inner(commands, answer)
            return
        entries = table.find(keys)
        reading = _Reading(commands, answer, keys, table, entries)
        if all(entries):
            self._link.ping_last(partial(self._on_pong, reading))
        else:
            self._ask(reading)

    def _on_pong(self, reading: _Reading, replies: Replies) -> None:
        """Answer a batch that was found whole."""
        if isinstance(replies, BackendError):
            reading.answer(Failure(replies))
            return
        found = None
        if replies[0] == b"PONG":
            found = self._confirm(reading.table, reading.keys, reading.entries)
        if found is None:
            self._ask_all(reading)
        else:
            reading.answer(_split(reading.commands, found))

    def _confirm(
        self, table: Table, keys: Sequence[bytes], entries: Sequence[Entry | None]
    ) -> list[Found] | None:
        """What was found in memory, if all of it is still there."""
        if table is not self._link.table:
            return None
        found = table.confirm(keys, entries, self._now())
        if table.cold:
            self._keep_warm(table)
        if found is not None:
            self._counts["cache_hits"] += len(found)
        return found

    def _keep_warm(self, table: Table) -> None:
        """Tell Redis that items are in use."""
        names = [prefix + key for key in table.cold for prefix in self._prefixes]
        table.cold.clear()
        self._link.send(pack_command((b"TOUCH", *names)), 1, lambda _: None)

    # -- asking Redis ------------------------------------------------------------------------

    def _ask_all(self, reading: _Reading) -> None:
        """Let Redis answer a batch, whatever was found in memory."""
        reading.entries = [None] * len(reading.keys)
        self._ask(reading)

    def _ask(self, reading: _Reading) -> None:
        """Ask Redis for what was not found, and how long it has to live."""
        table = self._link.table
        if table is None:
            self._perform_inner(reading.commands, reading.answer)
            return
        places = zip(reading.keys, reading.entries, strict=True)
        get = Get([key for key, entry in places if entry is None])
        self._counts["cache_misses"] += len(get.keys)
        payload, count, read = self._pack_get(get)
        lives = [pack(get.keys) for pack in self._pack_lives]
        fill = _Fill(self, reading, get, read, count, len(lives), table, self._now())
        self._link.submit(b"".join((payload, *lives)), fill)

    def on_filled(self, fill: _Fill, replies: Sequence[Any]) -> None:
        """Keep what was read, and answer."""
        reading, keys = fill.reading, fill.get.keys
        found = fill.read(fill.get, replies[: fill.count])
        if found.__class__ is not list:  # more has to be asked than one round trip
            self._perform_inner(reading.commands, reading.answer)
            return
        if fill.table is self._link.table:
            fill.keep(found, replies[fill.count :])
        if len(keys) < len(reading.keys):
            places = zip(reading.keys, reading.entries, strict=True)
            others = [(key, entry) for key, entry in places if entry is not None]
            kept = self._confirm(reading.table, *map(list, zip(*others, strict=True)))
            if kept is None:
                self._ask_all(reading)
                return
            asked, rest = iter(found), iter(kept)
            found = [next(asked if entry is None else rest) for entry in reading.entries]
        reading.answer(_split(reading.commands, found))


class _Fill(Waiting):
    """A read that is under way."""

    __slots__ = ("_backend", "_began_at", "_begun", "count", "get", "read", "reading", "table")

    def __init__(
        self,
        backend: CachedBackend,
        reading: _Reading,
        get: Get,
        read: Reader,
        count: int,
        parts: int,
        table: Table,
        now: float,
    ) -> None:
        """
        @param count: replies that C{read} takes for C{get}.
        @param parts: keys that an item has in Redis. So many times there are replies behind
            them, with what each item has left to live.
        """
        super().__init__(count + parts * len(get.keys))
        self._backend = backend
        self.reading = reading
        self.get = get
        self.read = read
        self.count = count
        self.table = table
        self._begun: int | None = table.begin()
        self._began_at = now

    def done(self, replies: Replies) -> None:
        """Be given the replies, or the reason why there are none."""
        try:
            if isinstance(replies, BackendError):
                self.reading.answer(Failure(replies))
            else:
                self._backend.on_filled(self, replies)
        finally:
            if self._begun is not None:
                self._begun = None
                self.table.end()

    def keep(self, found: Sequence[Any], lives: Sequence[Any]) -> None:
        """Put the items that were read into the table."""
        assert self._begun is not None
        keys = self.get.keys
        if len(lives) > len(keys):
            lives = [*map(_least, lives[: len(keys)], lives[len(keys) :])]
        self.table.store(keys, found, lives, self._begun, self._began_at)


def _least(value: object, side: object) -> object:
    """How long all of an item lives, from what PTTL says of its value and of what is beside it."""
    if not (isinstance(value, int) and isinstance(side, int)):
        return None
    return side if value >= -1 and side >= 0 and (value < 0 or side < value) else value


def _keys(commands: Sequence[Command]) -> Sequence[bytes] | None:
    """The keys of a batch that only reads values; C{None} for any other."""
    keys: list[bytes] = []
    for command in commands:
        if command.__class__ is not Get or command.cas:
            return None
        if len(commands) == 1:
            return command.keys
        keys += command.keys
    return keys


def _split(commands: Sequence[Command], found: list[Any]) -> list[Result]:
    """The results of commands that read, from all of their items."""
    if len(commands) == 1:
        return [found]
    items = iter(found)
    return [list(islice(items, len(command.keys))) for command in commands]
