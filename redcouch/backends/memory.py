"""
Items in a dict: the plain statement of what each command means.

C{memory:} serves trials and tests. It is the oracle that other backends are
compared with, so each rule stands here once, as legibly as it can be said.
Items end with the process, and nothing is ever evicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from redcouch.backends.fill_leases import FILL_METHODS, Fill, FillLeases
from redcouch.backends.per_command import PerCommandBackend
from redcouch.commands import (
    Arithmetic,
    Delete,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
)
from redcouch.errors import ConfigurationError
from redcouch.expiry import deadline, flush_deadline, seconds_left
from redcouch.interfaces import BackendContext, IFillableBackend, ILocalBackend, IStorageBackend
from redcouch.limits import FLAGS_OVERHEAD
from redcouch.numbers import unsigned_64
from redcouch.results import (
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

_TWO_64 = 1 << 64


def make_backend(url: str, context: BackendContext) -> IStorageBackend:
    """C{memory:}, which takes no parameters."""
    if url.lower() not in ("memory:", "memory://"):
        raise ConfigurationError(f"{url!r}: memory: takes nothing behind the colon")
    return MemoryBackend(context)


@dataclass(slots=True)
class _Entry:
    value: bytes
    flags: int
    cas: int
    deadline: float | None
    accessed: float = 0.0
    fetched: bool = False
    stale: bool = False
    sent: bool = False


@implementer(IFillableBackend, ILocalBackend)
class MemoryBackend(PerCommandBackend):
    """See the module."""

    shared_url = None
    methods: ClassVar = {**PerCommandBackend.methods, **FILL_METHODS}

    def __init__(self, context: BackendContext) -> None:
        self._now = context.now
        self._limits = context.limits
        self._entries: dict[bytes, _Entry] = {}
        self._last_cas = 0
        self._flush_at: float | None = None
        self.leases = FillLeases(context.now)

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

    def _next_cas(self, chosen: int | None = None) -> int:
        if chosen is not None:
            return chosen
        self._last_cas += 1
        return self._last_cas

    def _put(
        self, key: bytes, value: bytes, flags: int, exptime: int, cas: int | None = None
    ) -> _Entry:
        now = self._now()
        until = deadline(exptime, now)
        entry = _Entry(value, flags, self._next_cas(cas), until, accessed=now)
        self._entries[key] = entry
        return entry

    def get(self, key: bytes) -> Item | None:
        entry = self._find(key)
        if entry is None:
            return None
        entry.accessed = self._now()
        return Item(entry.value, entry.flags, entry.cas)

    def store(self, command: Store) -> Result:
        old = self._find(command.key)
        older = False
        match command.mode:
            case StoreMode.APPEND | StoreMode.PREPEND:
                return self._concatenate(command, old)
            case StoreMode.ADD:
                if old is not None:
                    return Outcome.NOT_STORED
            case StoreMode.SET | StoreMode.REPLACE if command.compare is not None:
                if old is None:
                    return Outcome.NOT_FOUND
                older = command.invalidate and 0 < command.compare < old.cas
                if (old.cas != command.compare or not old.cas) and not older:
                    return Outcome.EXISTS
            case StoreMode.REPLACE:
                if old is None:
                    return Outcome.NOT_STORED
        entry = self._put(
            command.key, command.value, command.flags, command.exptime, command.new_cas
        )
        if older:
            assert old is not None
            entry.deadline, entry.stale, entry.sent = old.deadline, True, old.sent
        return Stored(entry.cas)

    def _concatenate(self, command: Store, old: _Entry | None) -> Result:
        """Flags and expiry stay as they are. What grows too large is not stored."""
        if old is None:
            if command.vivify is None:
                return Outcome.NOT_STORED
            new = (command.value, command.flags, command.vivify, command.new_cas)
            entry = self._put(command.key, *new)
            return Stored(entry.cas, len(entry.value))
        if command.compare is not None and old.cas != command.compare:
            return Outcome.EXISTS
        room = self._limits.value_room(command.key) - (FLAGS_OVERHEAD if old.flags else 0)
        if len(old.value) + len(command.value) > room:
            return Outcome.NOT_STORED
        if command.mode is StoreMode.APPEND:
            old.value += command.value
        else:
            old.value = command.value + old.value
        old.cas = self._next_cas(command.new_cas)
        old.fetched = old.stale = old.sent = False
        return Stored(old.cas, len(old.value))

    def arithmetic(self, command: Arithmetic) -> Result:
        """
        The number is what C's strtoull finds at the front of the value. The
        result takes the value's place, blanks filling up the length it had.
        """
        entry = self._find(command.key)
        created = entry is None
        if entry is None:
            if command.initial is None:
                return Outcome.NOT_FOUND
            number = command.initial
            ttl = None
            entry = self._put(command.key, b"%d" % number, 0, command.exptime, command.new_cas)
        else:
            if entry.value and command.compare is not None and entry.cas != command.compare:
                return Outcome.EXISTS
            before = unsigned_64(entry.value.partition(b"\0")[0])
            if before is None:
                return Outcome.NON_NUMERIC
            if command.decrement:
                number = max(0, before - command.delta)
            else:
                number = (before + command.delta) % _TWO_64
            self._set_number(entry, number, command.new_cas)
            ttl = self._ttl(entry)
            if command.touch is not None:
                entry.deadline = deadline(command.touch, self._now())
        return Number(number, entry.cas, ttl if command.ttl else None, created)

    def _set_number(self, entry: _Entry, number: int, new_cas: int | None) -> None:
        value = (b"%d" % number).ljust(len(entry.value))
        if len(value) > len(entry.value):  # memcached has to make a new item of it
            entry.fetched = entry.stale = entry.sent = False
        entry.value = value
        entry.cas = self._next_cas(new_cas)

    def _ttl(self, entry: _Entry) -> int | None:
        """Seconds to live, rounded up; C{None} for ever."""
        return None if entry.deadline is None else max(0, ceil(entry.deadline - self._now()))

    def meta_get(self, command: MetaGet) -> MetaItem | None:
        now = self._now()
        entry = self._find(command.key)
        created = entry is None
        if entry is None:
            if command.vivify is None:
                return None
            entry = self._put(command.key, b"", 0, 0, command.new_cas)
        ttl = self._ttl(entry)
        if created:
            assert command.vivify is not None
            entry.deadline = deadline(command.vivify, now)
        elif command.touch is not None:
            entry.deadline = deadline(command.touch, now)
        won = created or (entry.stale and not entry.sent)
        if not won and not entry.sent and command.recache is not None:
            left = self._ttl(entry) if command.touch_first else ttl
            renewal = seconds_left(command.recache, now)
            won = left is not None and renewal is not None and left < renewal
        item = MetaItem(
            entry.value if command.value else b"",
            len(entry.value),
            entry.flags,
            entry.cas,
            ttl,
            int(now - entry.accessed),
            entry.fetched,
            entry.stale,
            entry.sent,
            won,
            created,
        )
        entry.sent = entry.sent or won
        if not command.no_update:
            entry.fetched = entry.fetched or not command.plain
            entry.accessed = now
        return item

    def invalidate(self, command: Invalidate) -> Outcome:
        entry = self._find(command.key)
        if entry is None:
            return Outcome.NOT_FOUND
        if command.compare is not None and entry.cas != command.compare:
            return Outcome.EXISTS
        entry.cas = self._next_cas(command.new_cas)
        if command.drop_value:
            entry.value, entry.flags = b"", command.flags
            entry.fetched = entry.stale = entry.sent = False
        if command.stale:
            entry.stale, entry.sent = True, False
        if command.exptime is not None:
            entry.deadline = deadline(command.exptime, self._now())
        return Outcome.OK

    def dump(self, cursor: bytes) -> ListedPage:
        """All of them at once: they are in memory already."""
        listed = map(self.inspect, list(self._entries))
        return ListedPage([item for item in listed if item is not None], b"", self._now())

    def inspect(self, key: bytes) -> Listed | None:
        entry = self._find(key)
        if entry is None:
            return None
        return Listed(
            key,
            self._ttl(entry),
            int(self._now() - entry.accessed),
            entry.cas,
            entry.fetched,
            len(entry.value),
            entry.flags,
            entry.stale,
        )

    def delete(self, command: Delete) -> Outcome:
        entry = self._find(command.key)
        if entry is None:
            return Outcome.NOT_FOUND
        if command.compare is not None and entry.cas != command.compare:
            return Outcome.EXISTS
        del self._entries[command.key]
        return Outcome.DELETED

    def touch(self, key: bytes, exptime: int) -> Result:
        """The CAS token stays: the value has not changed."""
        entry = self._find(key)
        if entry is None:
            return Outcome.NOT_FOUND
        entry.deadline = deadline(exptime, self._now())
        return Touched(entry.flags, entry.cas)

    def flush(self, exptime: int) -> Outcome:
        self._find(b"")  # carries out one that is due
        self._flush_at = flush_deadline(exptime, self._now())
        if self._flush_at is None:
            self._entries.clear()
        return Outcome.OK

    def fill(self, command: Fill) -> Result:
        if not self.leases.use(command.key, command.lease) or self._find(command.key) is not None:
            return Outcome.NOT_STORED
        entry = self._put(command.key, command.value, command.flags, command.exptime)
        return Stored(entry.cas)
