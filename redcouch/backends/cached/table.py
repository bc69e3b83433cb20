"""
The items in memory, and what Redis has said of them: no connection, and no time of its own.

A table belongs to one connection. What was told over another says nothing about it, so
it begins empty and ends with its connection.

To look an item up takes one step and leaves no trace, so that a hundred of them cost
little. What an item would have to say besides is looked for where it is rare: when the next
one ends, which keys have changed lately, and, once there is little room, which were used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, MutableMapping, Sequence
from heapq import heapify, heappop, heappush

from redcouch.value_lines import tell_item

OVERHEAD = 512
"""Bytes that an item takes in memory beside its keys and its lines, rounded up."""

END = 256
"""Bytes more where it expires."""

SHARE = 16
"""An item may take this part of what its table may."""

_CROWDED = 0.75
"""From this part of the room on it is noted what is used."""

_CHANCES = 64
"""Items in use that are spared at most before one goes."""

_MOST_CHANGED = 4096
"""Changes remembered for reads that are under way."""

_MOST_ENDS = 1024
"""Ends looked at together. Where there are more, Redis is asked for everything."""


class Room:
    """
    The memory of a process for items, of which every table has an equal part.

    @ivar size: bytes that all items may take.
    """

    def __init__(self, size: int, counts: MutableMapping[str, int]) -> None:
        """@param counts: where C{cache_bytes} and C{cache_invalidations} are counted."""
        self.size = size
        self.counts = counts
        self._tables: list[Table] = []

    @property
    def part(self) -> int:
        """Bytes that the items of one table may take."""
        return self.size // max(1, len(self._tables))

    def enter(self, table: Table) -> None:
        """There is one table more: the others make room for it."""
        self._tables.append(table)
        for other in self._tables:
            other.make_room()

    def leave(self, table: Table) -> None:
        """There is one table less."""
        self._tables.remove(table)


class Table:
    """
    Items by their clients' keys, as the lines of L{redcouch.value_lines}, as far as there is room.
    Of items that go for want of room, those that were not used since they came, or were
    spared, go first.

    @ivar used: keys that were used; whoever tells Redis takes them out. C{None} where nobody does.
    """

    def __init__(self, room: Room) -> None:
        """@param room: where it takes its part, until it is closed."""
        self._room = room
        self._counts = room.counts
        self._lines: OrderedDict[bytes, bytes] = OrderedDict()
        self._look_up = self._lines.get
        #: The CAS tokens of those that have one.
        self._tokens: dict[bytes, int] = {}
        self._size = 0
        self.used: set[bytes] | None = None
        #: Keys used while there is little room.
        self._spared: set[bytes] | None = None
        #: When items end, on the clock of this process; C{_next} has the same in order, and more.
        self._ends: dict[bytes, float] = {}
        self._next: list[tuple[float, bytes]] = []
        # Changes are numbered. What was found, or is being read, is as it was if none has
        # been told of its key since.
        self._last = 0
        self._changed: dict[bytes, int] = {}
        self._all_changed = 0
        self._under_way = 0
        room.enter(self)

    def close(self) -> None:
        """Nothing is known any more; that is no news of a change."""
        self._empty()
        self._room.leave(self)

    # -- reading -----------------------------------------------------------------------------

    def begin(self) -> int:
        """
        Something is looked up, or read from Redis; gives what L{holds} and L{store} want to
        know. L{end} has to follow.
        """
        self._under_way += 1
        return self._last

    def end(self) -> None:
        """That is over."""
        self._under_way -= 1
        if not self._under_way:
            self._changed.clear()

    def find(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The lines of each item that is here. They are true where L{holds} says so later."""
        return list(map(self._look_up, keys))

    def find_tokens(self, keys: Sequence[bytes]) -> list[int | None]:
        """The CAS token of each item that is here and has one; they are as true as the lines."""
        return list(map(self._tokens.get, keys))

    def pass_time(self, now: float) -> None:
        """What ends by then has changed."""
        following = self._next
        if not following or following[0][0] > now:
            return
        ended: list[bytes] = []
        for _ in range(_MOST_ENDS):
            end, key = heappop(following)
            if self._ends.get(key) == end:
                ended.append(key)
            if not following or following[0][0] > now:
                self._drop(ended)
                return
        self._drop(ended)
        self._all_changed = self._last  # what more has ended is not looked for now

    def holds(self, keys: Sequence[bytes], begun: int) -> bool:
        """Whether what was found of these keys since L{begin} gave C{begun} is still so."""
        if self._last != begun and self._has_changed(keys, begun):
            return False
        if self._spared is not None:
            self._spared.update(keys)
        if self.used is not None:
            self.used.update(keys)
        return True

    def _has_changed(self, keys: Sequence[bytes], begun: int) -> bool:
        if self._all_changed > begun:
            return True
        changed = self._changed
        if changed.keys().isdisjoint(keys):
            return False
        return any(changed.get(key, 0) > begun for key in keys)

    # -- filling -----------------------------------------------------------------------------

    def store(
        self,
        keys: Sequence[bytes],
        found: Iterable[object],
        lives: Iterable[object],
        begun: int,
        began_at: float,
    ) -> list[bytes | None]:
        """
        Keep what was read of these keys, where it is an item and its life is known; its token, too,
        unless that is below 0. Gives the lines of each item that was read, and C{b""} for a
        miss; C{None} for anything else.

        @param lives: milliseconds that each had to live then; -1 for no end.
        @param begun: what L{begin} gave.
        @param began_at: the time then: an item ends no later here than in Redis.
        """
        all_changed, changed = self._all_changed > begun, self._changed
        most = self._room.part // SHARE
        given: list[bytes | None] = []
        for key, item, left in zip(keys, found, lives, strict=True):
            if not isinstance(item, tuple):
                given.append(b"" if item is None else None)
                continue
            lines = tell_item(key, item[0], item[1])
            given.append(lines)
            if not isinstance(left, int) or left < -1 or left == 0 or all_changed:
                continue
            size = _size(key, lines, left > 0)
            if size > most or (changed and changed.get(key, 0) > begun):
                continue
            self._forget(key)
            self._lines[key] = lines
            self._resize(size)
            if item[2] >= 0:
                self._tokens[key] = item[2]
            if left > 0:
                self._ends[key] = end = began_at + left / 1000
                heappush(self._next, (end, key))
        self.make_room()
        return given

    def _forget(self, key: bytes) -> None:
        lines = self._lines.pop(key, None)
        if lines is not None:
            self._resize(-_size(key, lines, self._ends.pop(key, None) is not None))
            self._tokens.pop(key, None)

    def make_room(self) -> None:
        """Let go of what is too much."""
        room = self._room.part
        if self._spared is None and self._size > _CROWDED * room:
            self._spared = set()
        spared = self._spared
        chances = _CHANCES
        while self._size > room:
            key = next(iter(self._lines))
            if spared and chances and key in spared:
                spared.remove(key)
                self._lines.move_to_end(key)
                chances -= 1
            else:
                self._forget(key)
                chances = _CHANCES
        if spared is not None and len(spared) > 2 * len(self._lines) + _MOST_ENDS:
            spared.intersection_update(self._lines)
        if len(self._next) > 1.5 * len(self._ends) + _MOST_ENDS:
            self._next.clear()
            self._next.extend((end, key) for key, end in self._ends.items())
            heapify(self._next)

    # -- what Redis says ---------------------------------------------------------------------

    def invalidate(self, keys: Sequence[bytes]) -> None:
        """These items have changed, or may have."""
        before = len(self._lines)
        self._drop(keys)
        self._counts["cache_invalidations"] += before - len(self._lines)

    def _drop(self, keys: Sequence[bytes]) -> None:
        self._last += 1
        if self._under_way:
            self._changed.update(dict.fromkeys(keys, self._last))
            if len(self._changed) > _MOST_CHANGED:
                self._changed.clear()
                self._all_changed = self._last
        for key in keys:
            self._forget(key)

    def clear(self) -> None:
        """All items have changed, or may have."""
        self._counts["cache_invalidations"] += len(self._lines)
        self._empty()

    def _empty(self) -> None:
        self._last += 1
        self._all_changed = self._last
        self._lines.clear()
        self._ends.clear()
        self._tokens.clear()
        self._next.clear()
        self._resize(-self._size)

    def _resize(self, more: int) -> None:
        self._size += more
        self._counts["cache_bytes"] += more


def _size(key: bytes, lines: bytes, ends: bool) -> int:
    """
    Bytes that an item takes. Its key stands in its lines as well, and whoever has used it, or read
    it before, has brought a key of its own.
    """
    return OVERHEAD + 3 * len(key) + len(lines) + END * ends
