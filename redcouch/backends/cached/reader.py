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
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

from twisted.python.failure import Failure

from redcouch.backends.cached.connection import PING, TrackedLink
from redcouch.backends.cached.table import Table
from redcouch.backends.redis.connection import Replies, Waiting
from redcouch.backends.redis.replies import Reader
from redcouch.backends.redis.resp import pack_for_each
from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.commands import Get
from redcouch.errors import BackendError
from redcouch.process.clock import uptime
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


class CachedReader:
    """See the module."""

    def __init__(
        self,
        codec: ScriptCodec,
        counts: MutableMapping[str, int],
        now: Callable[[], float] = uptime,
        of_nodes: bool = False,
    ) -> None:
        """
        @param now: gives seconds, on a clock that is never set.
        @param of_nodes: links lead to nodes of a cluster. Such a one may answer PING, and yet no
            longer have the keys: it is checked by a question about one of them.
        """
        self._pack_lives = [pack_for_each(b"PTTL", prefix) for prefix in codec.layout.prefixes]
        self._pack_kept = codec.pack_kept
        self._counts = counts
        self._now = now
        self._of_nodes = of_nodes

    def read(self, link: TrackedLink, keys: Sequence[bytes], with_tokens: bool, done: Done) -> None:
        """Read items of this Redis, at least one; C{done} may be called before this returns."""
        table = link.table
        if table is None:
            done(None)
            return
        blocks = table.find(keys)
        tokens = table.find_tokens(keys) if with_tokens else None
        if not all(blocks) or (tokens is not None and None in tokens):
            self._ask(link, (keys, done, blocks, tokens))
            return
        check = link.last_of_turn
        if not isinstance(check, _Check):
            check = _Check(self, link, table)
            link.send_last(self._pack_lives[0](keys[:1]) if self._of_nodes else PING, check)
        check.readings.append((keys, done, blocks, tokens))

    def on_checked(self, check: _Check, replies: Sequence[Any]) -> None:
        """Give what a turn has found whole; to none twice, should one fail."""
        table = check.table
        held = table is check.link.table and not isinstance(replies[0], Exception)
        table.pass_time(self._now())
        hits = 0
        while check.readings:
            keys, done, blocks, tokens = check.readings.popleft()
            if held and table.holds(keys, check.begun):
                hits += len(keys)
                done(Lines(keys, blocks, 0, tokens))
            else:
                self._ask_all(check.link, keys, done, tokens is not None)
        self._counts["cache_hits"] += hits

    def _ask_all(
        self, link: TrackedLink, keys: Sequence[bytes], done: Done, with_tokens: bool
    ) -> None:
        """Let Redis answer for all keys, whatever was found in memory."""
        nothing = [None] * len(keys)
        self._ask(link, (keys, done, nothing, nothing if with_tokens else None))

    def _ask(self, link: TrackedLink, reading: _Reading) -> None:
        """Ask Redis for what was not found, and how long it has to live."""
        keys, done, blocks, tokens = reading
        table = link.table
        if table is None:
            done(None)
            return
        found = blocks if tokens is None else tokens
        asked = [key for key, one in zip(keys, found, strict=True) if one is None]
        self._counts["cache_misses"] += len(asked)
        payload, count, read = self._pack_kept(asked)
        lives = [pack(asked) for pack in self._pack_lives]
        fill = _Fill(self, link, table, reading, asked, read, count, len(lives), self._now())
        link.submit(b"".join((payload, *lives)), fill)

    def on_filled(self, fill: _Fill, replies: Sequence[Any]) -> None:
        """Keep what was read, and give it."""
        keys, done, blocks, tokens = fill.reading
        items = fill.read(Get(fill.keys), replies[: fill.count])
        if fill.table is not fill.link.table:
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
                self._ask_all(fill.link, keys, done, tokens is not None)
                return
            self._counts["cache_hits"] += len(others)
            given = _merge(found, blocks, given)
        if tokens is not None:
            all_tokens = _merge(tokens, tokens, [0 if item is None else item[2] for item in items])
            if min(all_tokens) < 0:  # an item that has no token yet
                done(None)
                return
            tokens = all_tokens
        done(Lines(keys, given, given.count(b""), tokens))


def _merge(found: Sequence[Any], kept: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """Of what was found, what is kept; in the place of each C{None}, what has been given."""
    asked = iter(given)
    pairs = zip(found, kept, strict=True)
    return [next(asked) if one is None else its for one, its in pairs]


class _UnderWay(Waiting):
    """
    A question about what a table holds.

    @ivar begun: what L{Table.begin} gave.
    """

    __slots__ = ("_open", "begun", "link", "reader", "table")

    def __init__(
        self, expected: int, reader: CachedReader, link: TrackedLink, table: Table
    ) -> None:
        super().__init__(expected)
        self.reader = reader
        self.link = link
        self.table = table
        self.begun = table.begin()
        self._open = True

    def done(self, replies: Replies) -> None:
        """Be given the replies, or the reason why there are none."""
        try:
            if isinstance(replies, BackendError):
                self.fail(Failure(replies))
            else:
                self.take(replies)
        finally:
            if self._open:
                self._open = False
                self.table.end()

    def take(self, replies: Sequence[Any]) -> None:
        """Be given the replies."""
        raise NotImplementedError

    def fail(self, why: Failure) -> None:
        """There are none."""
        raise NotImplementedError


class _Check(_UnderWay):
    """All who wait for the reply to one check."""

    __slots__ = ("readings",)

    def __init__(self, reader: CachedReader, link: TrackedLink, table: Table) -> None:
        super().__init__(1, reader, link, table)
        self.readings: deque[_Reading] = deque()

    def take(self, replies: Sequence[Any]) -> None:
        self.reader.on_checked(self, replies)

    def fail(self, why: Failure) -> None:
        while self.readings:
            self.readings.popleft()[1](why)


class _Fill(_UnderWay):
    """A read that is under way."""

    __slots__ = ("_began_at", "count", "keys", "read", "reading")

    def __init__(
        self,
        reader: CachedReader,
        link: TrackedLink,
        table: Table,
        reading: _Reading,
        keys: Sequence[bytes],
        read: Reader,
        count: int,
        parts: int,
        now: float,
    ) -> None:
        """
        @param keys: those that Redis is asked for.
        @param count: replies that C{read} takes.
        @param parts: keys that an item has in Redis. So many times there are replies behind
            them, with what each item has left to live.
        """
        super().__init__(count + parts * len(keys), reader, link, table)
        self.reading = reading
        self.keys = keys
        self.read = read
        self.count = count
        self._began_at = now

    def take(self, replies: Sequence[Any]) -> None:
        self.reader.on_filled(self, replies)

    def fail(self, why: Failure) -> None:
        self.reading[1](why)

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
