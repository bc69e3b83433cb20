"""
Reading the items of one Redis: from memory where that is what it would answer.

Keys are looked up. If all are in memory, they wait for the check of this turn; if some are
not, Redis is asked for those, and that reply is as good as a check for the others. Either
way, what was found is given if Redis has told of no change of it since then and until it
answered something that was asked for after that: so Redis held it all the time between. If
it has, Redis is asked for all of them, so the items never come from different moments in
another order than Redis would have read them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from twisted.python.failure import Failure

from redcouch.backends.cached.connection import PING, TrackedLink
from redcouch.backends.cached.table import Table
from redcouch.backends.redis.connection import Replies, Waiting
from redcouch.backends.redis.replies import Reader
from redcouch.backends.redis.resp import pack_command, pack_pttl
from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.commands import Get
from redcouch.errors import BackendError
from redcouch.value_lines import Lines

Done: TypeAlias = Callable[[Lines | Failure | None], None]
"""
Is given the items; why there are none; or C{None} where the storage has to be asked for them
in another way: they have more to say than an item and its token, or Redis has refused.
"""

_Reading: TypeAlias = tuple[Sequence[bytes], Done, Sequence[Any], Sequence[Any] | None]
"""
Keys, who is given them, and what was found: the lines of each, and its token if tokens are asked
for; C{None} for what is not there.
"""

_PTTL = b"PTTL"


class CachedReader:
    """See the module."""

    def __init__(
        self, link: TrackedLink, codec: ScriptCodec, now: Callable[[], float], is_node: bool = False
    ) -> None:
        """
        @param now: gives seconds, on a clock that is never set.
        @param is_node: the Redis is a node of a cluster. Such a one may answer PING, and yet no
            longer have the keys: it is checked by a question about one of them.
        """
        self._link = link
        self._prefixes = codec.layout.prefixes
        self._pack_lives = [pack_pttl(prefix) for prefix in self._prefixes]
        self._pack_kept = codec.pack_kept
        self._counts = link.room.counts
        self._now = now
        self._is_node = is_node

    def read(self, keys: Sequence[bytes], with_tokens: bool, done: Done) -> None:
        """Read items, at least one; C{done} may be called before this returns."""
        table = self._link.table
        if table is None:
            done(None)
            return
        blocks = table.find(keys)
        tokens = table.find_tokens(keys) if with_tokens else None
        if not all(blocks) or (tokens is not None and None in tokens):
            self._ask((keys, done, blocks, tokens))
            return
        check = self._link.last_of_turn
        if not isinstance(check, _Check):
            check = _Check(self, table)
            self._link.send_last(self._pack_check(keys[0]), check)
        check.readings.append((keys, done, blocks, tokens))

    def _pack_check(self, key: bytes) -> bytes:
        return pack_command((_PTTL, self._prefixes[0] + key)) if self._is_node else PING

    def on_checked(self, check: _Check, replies: Sequence[Any]) -> None:
        """Give what a turn has found whole; to none twice, should one fail."""
        table = check.table
        held = table is self._link.table and not isinstance(replies[0], Exception)
        table.pass_time(self._now())
        hits = 0
        while check.readings:
            keys, done, blocks, tokens = check.readings.popleft()
            if held and table.holds(keys, check.begun):
                hits += len(keys)
                done(Lines(keys, blocks, 0, tokens))
            else:
                self._ask_all(keys, done, tokens is not None)
        self._counts["cache_hits"] += hits

    def _ask_all(self, keys: Sequence[bytes], done: Done, with_tokens: bool) -> None:
        """Let Redis answer for all keys, whatever was found in memory."""
        nothing = [None] * len(keys)
        self._ask((keys, done, nothing, nothing if with_tokens else None))

    def _ask(self, reading: _Reading) -> None:
        """Ask Redis for what was not found, and how long it has to live."""
        keys, done, blocks, tokens = reading
        table = self._link.table
        if table is None:
            done(None)
            return
        found = blocks if tokens is None else tokens
        asked = [key for key, one in zip(keys, found, strict=True) if one is None]
        self._counts["cache_misses"] += len(asked)
        payload, count, read = self._pack_kept(asked)
        lives = [pack(asked) for pack in self._pack_lives]
        fill = _Fill(self, reading, asked, read, count, len(lives), table, self._now())
        self._link.submit(b"".join((payload, *lives)), fill)

    def on_filled(self, fill: _Fill, replies: Sequence[Any]) -> None:
        """Keep what was read, and give it."""
        keys, done, blocks, tokens = fill.reading
        items = fill.read(Get(fill.keys), replies[: fill.count])
        if fill.table is not self._link.table:
            done(None)
            return
        given: list[Any] = fill.keep(items, replies[fill.count :])
        if None in given:
            done(None)
            return
        if len(given) < len(keys):
            found = blocks if tokens is None else tokens
            others = [key for key, one in zip(keys, found, strict=True) if one is not None]
            fill.table.pass_time(self._now())
            if not fill.table.holds(others, fill.begun):
                self._ask_all(keys, done, tokens is not None)
                return
            self._counts["cache_hits"] += len(others)
            given = _merge(found, blocks, given)
        if tokens is not None:
            asked = iter([0 if item is None else item[2] for item in items])
            tokens = [next(asked) if one is None else one for one in tokens]
            if min(tokens) < 0:  # an item that has no token yet
                done(None)
                return
        done(Lines(keys, given, given.count(b""), tokens))


def _merge(found: Sequence[Any], blocks: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """The lines of all, where those that were not found have been given."""
    asked = iter(given)
    pairs = zip(found, blocks, strict=True)
    return [next(asked) if one is None else lines for one, lines in pairs]


class _Check(Waiting):
    """All who wait for the reply to one check."""

    __slots__ = ("_reader", "begun", "readings", "table")

    def __init__(self, reader: CachedReader, table: Table) -> None:
        super().__init__(1)
        self._reader = reader
        self.table = table
        self.begun = table.begin()
        self.readings: deque[_Reading] = deque()

    def done(self, replies: Replies) -> None:
        """Be given the reply, or the reason why there is none."""
        if isinstance(replies, BackendError):
            while self.readings:
                self.readings.popleft()[1](Failure(replies))
        else:
            self._reader.on_checked(self, replies)
        self.table.end()


class _Fill(Waiting):
    """A read that is under way."""

    __slots__ = (
        "_began_at",
        "_open",
        "_reader",
        "begun",
        "count",
        "keys",
        "read",
        "reading",
        "table",
    )

    def __init__(
        self,
        reader: CachedReader,
        reading: _Reading,
        keys: Sequence[bytes],
        read: Reader,
        count: int,
        parts: int,
        table: Table,
        now: float,
    ) -> None:
        """
        @param keys: those that Redis is asked for.
        @param count: replies that C{read} takes.
        @param parts: keys that an item has in Redis. So many times there are replies behind
            them, with what each item has left to live.
        """
        super().__init__(count + parts * len(keys))
        self._reader = reader
        self.reading = reading
        self.keys = keys
        self.read = read
        self.count = count
        self.table = table
        self.begun = table.begin()
        self._began_at = now
        self._open = True

    def done(self, replies: Replies) -> None:
        """Be given the replies, or the reason why there are none."""
        try:
            if isinstance(replies, BackendError):
                self.reading[1](Failure(replies))
            else:
                self._reader.on_filled(self, replies)
        finally:
            if self._open:
                self._open = False
                self.table.end()

    def keep(self, found: Sequence[Any], lives: Sequence[Any]) -> list[bytes | None]:
        """Put the items that were read into the table; see L{Table.store}."""
        keys = self.keys
        if len(lives) > len(keys):
            lives = [*map(_least, lives[: len(keys)], lives[len(keys) :])]
        return self.table.store(keys, found, lives, self.begun, self._began_at)


def _least(value: object, side: object) -> object:
    """How long all of an item lives, from what PTTL says of its value and of what is beside it."""
    if not (isinstance(value, int) and isinstance(side, int)):
        return None
    return side if value >= -1 and side >= 0 and (value < 0 or side < value) else value
