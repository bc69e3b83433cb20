"""
The items in memory, and what Redis has said of them: no connection, and no time of its own.

A table belongs to one connection. What was told over another says nothing about it, so
it begins empty and ends with its connection.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, MutableMapping, Sequence

Found = tuple[bytes, int, int]

OVERHEAD = 512
"""Bytes that an item takes in memory beside its key and its value, rounded up."""

SHARE = 16
"""An item may take this part of the whole."""

STAYS_WARM = 1.0
"""
Seconds after which Redis is told once that an item is in use, if it is: for a
Redis that evicts, what is answered from here would be cold.
"""

_MOST_TOLD = 4096
"""Changes remembered for reads that are under way."""


class Entry:
    """
    One item. Two are equal only if they are the same, whatever they hold.

    @ivar until: when the item ends, on the clock of this process.
    @ivar due: when it ends or Redis has to be told that it is in use, whichever is first.
    """

    __slots__ = ("due", "found", "size", "until")

    def __init__(self, found: Found, until: float, due: float, size: int) -> None:
        self.found = found
        self.until = until
        self.due = due
        self.size = size


class Table:
    """
    Items by their clients' keys, up to so many bytes; the one that was used least
    recently goes first, by the second.

    @ivar cold: keys that are in use and of which Redis has not heard for a while; whoever
        tells it empties the list.
    """

    def __init__(self, room: int, counts: MutableMapping[str, int]) -> None:
        """
        @param room: bytes that all items may take.
        @param counts: where C{cache_bytes} and C{cache_invalidations} are counted.
        """
        self._room = room
        self._most = room // SHARE
        self._counts = counts
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._get = self._entries.get
        self._size = 0
        self.cold: list[bytes] = []
        # Changes are numbered. A read that is under way may be stored if none has been
        # told of its key since it began.
        self._last = 0
        self._told: dict[bytes, int] = {}
        self._all_told = 0
        self._reading = 0
        self._note_size()

    # -- reading -----------------------------------------------------------------------------

    def find(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """What is here, for L{confirm} to look at again."""
        return list(map(self._get, keys))

    def confirm(
        self, keys: Sequence[bytes], entries: Sequence[Entry | None], now: float
    ) -> list[Found] | None:
        """
        The items that L{find} has found, if each has been here since then and has not
        ended. C{None} otherwise.
        """
        if list(map(self._get, keys)) != entries:
            return None
        found = [entry.found for entry in entries if entry is not None and entry.due > now]
        if len(found) < len(entries):
            return self._confirm_due(keys, now)
        return found

    def _confirm_due(self, keys: Sequence[bytes], now: float) -> list[Found] | None:
        found = []
        for key in keys:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry.until <= now:
                self._drop(key)
                return None
            if entry.due <= now:
                entry.due = min(entry.until, now + STAYS_WARM)
                self._entries.move_to_end(key)
                self.cold.append(key)
            found.append(entry.found)
        return found

    # -- filling -----------------------------------------------------------------------------

    def begin(self) -> int:
        """A read goes to Redis; gives what L{store} wants to know. L{end} has to follow."""
        self._reading += 1
        return self._last

    def end(self) -> None:
        """A read is over."""
        self._reading -= 1
        if not self._reading:
            self._told.clear()

    def store(
        self,
        keys: Sequence[bytes],
        found: Iterable[object],
        lives: Iterable[object],
        begun: int,
        began_at: float,
    ) -> None:
        """
        Keep what was read of these keys, where it is an item and its life is known.

        @param lives: milliseconds that each had to live then; -1 for no end.
        @param begun: what L{begin} gave.
        @param began_at: the time then: an item ends no later here than in Redis.
        """
        if self._all_told > begun:
            return
        entries, told, most = self._entries, self._told, self._most
        warm = began_at + STAYS_WARM
        for key, item, left in zip(keys, found, lives, strict=True):
            if not (isinstance(item, tuple) and isinstance(left, int)) or left < -1 or left == 0:
                continue
            size = OVERHEAD + len(key) + len(item[0])
            if size > most or (told and told.get(key, 0) > begun):
                continue
            old = entries.pop(key, None)
            if old is not None:
                self._size -= old.size
            until = math.inf if left < 0 else began_at + left / 1000
            entries[key] = Entry(item, until, min(until, warm), size)
            self._size += size
        while self._size > self._room:
            _, entry = entries.popitem(last=False)
            self._size -= entry.size
        self._note_size()

    # -- what Redis says ---------------------------------------------------------------------

    def invalidate(self, keys: Sequence[bytes]) -> None:
        """These items have changed, or may have."""
        self._last += 1
        for key in keys:
            if self._reading:
                self._told[key] = self._last
            if key in self._entries:
                self._drop(key)
                self._counts["cache_invalidations"] += 1
        if len(self._told) > _MOST_TOLD:
            self._told.clear()
            self._all_told = self._last

    def clear(self) -> None:
        """All items have changed, or may have."""
        self._last += 1
        self._all_told = self._last
        self._counts["cache_invalidations"] += len(self._entries)
        self._entries.clear()
        self._size = 0
        self._note_size()

    def _drop(self, key: bytes) -> None:
        self._size -= self._entries.pop(key).size
        self._note_size()

    def _note_size(self) -> None:
        self._counts["cache_bytes"] = self._size
