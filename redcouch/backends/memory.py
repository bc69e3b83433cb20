"""
Items in a dict: the plain statement of what each command means.

C{memory:} serves trials and tests. It is the oracle that other backends are
compared with, so each rule stands here once, as legibly as it can be said.
Items end with the process, and nothing is ever evicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed

from redcouch.backends.percommand import PerCommandBackend
from redcouch.commands import Arithmetic, Delete, Store, StoreMode
from redcouch.errors import ConfigurationError
from redcouch.expiry import deadline
from redcouch.interfaces import IStorageBackend, Surroundings
from redcouch.limits import FLAGS_OVERHEAD
from redcouch.numbers import unsigned_64
from redcouch.results import Item, Number, Outcome, Result, Stored

_TWO_64 = 1 << 64


def make_backend(url: str, surroundings: Surroundings) -> IStorageBackend:
    """C{memory:}, which takes no parameters."""
    if url.lower() not in ("memory:", "memory://"):
        raise ConfigurationError(f"{url!r}: memory: takes nothing behind the colon")
    backend: IStorageBackend = MemoryBackend(surroundings)
    return backend


@dataclass(slots=True)
class _Entry:
    value: bytes
    flags: int
    cas: int
    deadline: float | None


class MemoryBackend(PerCommandBackend):
    """See the module."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._now = surroundings.now
        self._limits = surroundings.limits
        self._entries: dict[bytes, _Entry] = {}
        self._last_cas = 0
        self._flush_at: float | None = None

    def statistics(self) -> Deferred[Mapping[str, int]]:
        live = [entry for key in list(self._entries) if (entry := self._find(key))]
        return succeed({"curr_items": len(live), "bytes": sum(len(entry.value) for entry in live)})

    def _find(self, key: bytes) -> _Entry | None:
        """The entry of a key, if it lives."""
        now = self._now()
        if self._flush_at is not None and now >= self._flush_at:
            self._entries.clear()
            self._flush_at = None
        entry = self._entries.get(key)
        if entry is not None and entry.deadline is not None and now >= entry.deadline:
            del self._entries[key]
            return None
        return entry

    def _next_cas(self) -> int:
        self._last_cas += 1
        return self._last_cas

    def get(self, key: bytes) -> Item | None:
        entry = self._find(key)
        return None if entry is None else Item(entry.value, entry.flags, entry.cas)

    def store(self, command: Store) -> Result:
        old = self._find(command.key)
        match command.mode:
            case StoreMode.APPEND | StoreMode.PREPEND:
                return self._concatenate(command, old)
            case StoreMode.ADD:
                if old is not None:
                    return Outcome.NOT_STORED
            case StoreMode.SET | StoreMode.REPLACE if command.compare is not None:
                if old is None:
                    return Outcome.NOT_FOUND
                if old.cas != command.compare:
                    return Outcome.EXISTS
            case StoreMode.REPLACE:
                if old is None:
                    return Outcome.NOT_STORED
        until = deadline(command.exptime, self._now())
        entry = _Entry(command.value, command.flags, self._next_cas(), until)
        self._entries[command.key] = entry
        return Stored(entry.cas)

    def _concatenate(self, command: Store, old: _Entry | None) -> Result:
        """Flags and expiry stay as they are. What grows too large is not stored."""
        if old is None:
            return Outcome.NOT_STORED
        if command.compare is not None and old.cas != command.compare:
            return Outcome.EXISTS
        room = self._limits.value_room(command.key) - (FLAGS_OVERHEAD if old.flags else 0)
        if len(old.value) + len(command.value) > room:
            return Outcome.NOT_STORED
        if command.mode is StoreMode.APPEND:
            old.value += command.value
        else:
            old.value = command.value + old.value
        old.cas = self._next_cas()
        return Stored(old.cas)

    def arithmetic(self, command: Arithmetic) -> Result:
        """
        The number is what C's strtoull finds at the front of the value. The
        result takes the value's place, blanks filling up the length it had.
        """
        entry = self._find(command.key)
        if entry is None:
            return self._begin_counting(command)
        if command.compare is not None and entry.cas != command.compare:
            return Outcome.EXISTS
        number = unsigned_64(entry.value.partition(b"\0")[0])
        if number is None:
            return Outcome.NON_NUMERIC
        if command.decrement:
            number = max(0, number - command.delta)
        else:
            number = (number + command.delta) % _TWO_64
        entry.value = (b"%d" % number).ljust(len(entry.value))
        entry.cas = self._next_cas()
        return Number(number, entry.cas)

    def _begin_counting(self, command: Arithmetic) -> Result:
        if command.initial is None:
            return Outcome.NOT_FOUND
        until = deadline(command.exptime, self._now())
        entry = _Entry(b"%d" % command.initial, 0, self._next_cas(), until)
        self._entries[command.key] = entry
        return Number(command.initial, entry.cas)

    def delete(self, command: Delete) -> Outcome:
        entry = self._find(command.key)
        if entry is None:
            return Outcome.NOT_FOUND
        if command.compare is not None and entry.cas != command.compare:
            return Outcome.EXISTS
        del self._entries[command.key]
        return Outcome.DELETED

    def touch(self, key: bytes, exptime: int) -> Outcome:
        """The CAS token stays: the value has not changed."""
        entry = self._find(key)
        if entry is None:
            return Outcome.NOT_FOUND
        entry.deadline = deadline(exptime, self._now())
        return Outcome.TOUCHED

    def flush(self, exptime: int) -> Outcome:
        self._flush_at = deadline(exptime, self._now()) if exptime else None
        if self._flush_at is None:
            self._entries.clear()
        return Outcome.OK
