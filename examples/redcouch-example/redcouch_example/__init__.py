"""
Items in SQLite: a whole storage backend for RedCouch, in one file.

SQLite is asked in the reactor's own thread, which is fine for a file on a fast
disk and few clients. A backend whose storage is far away returns Deferreds or
coroutines from the same methods.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from math import ceil
from urllib.parse import unquote

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from redcouch.backends.per_command import PerCommandBackend
from redcouch.commands import Arithmetic, Command, Delete, Store, StoreMode
from redcouch.errors import BackendError, ConfigurationError
from redcouch.expiry import deadline, flush_deadline
from redcouch.interfaces import BackendContext, ILocalBackend, IStorageBackend
from redcouch.limits import FLAGS_OVERHEAD
from redcouch.numbers import unsigned_64
from redcouch.results import ErrorKind, Item, Number, Outcome, Result, Stored, Touched

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, flags INTEGER NOT NULL,
    cas TEXT NOT NULL, -- decimal: SQLite's own numbers end at 2**63
    ends REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_end ON items (ends) WHERE ends IS NOT NULL;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, number NUMERIC NOT NULL);
INSERT OR IGNORE INTO facts VALUES ('last_cas', 0);
"""

_Row = tuple[bytes, int, int, float | None]
"""Value, flags, CAS token, and when it ends."""


def make_backend(url: str, context: BackendContext) -> IStorageBackend:
    """The backend for an C{example:} URL: a path behind the colon, or nothing."""
    path = unquote(url.partition(":")[2]).removeprefix("//")
    try:
        database = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=1.0)
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path}: {error}") from None
    try:
        database.executescript(_SCHEMA)
    except sqlite3.Error as error:
        database.close()
        raise ConfigurationError(f"{path}: {error}") from None
    backend: IStorageBackend = SqliteBackend(database, context, url if path else None)
    return backend


def _unusable(error: sqlite3.Error) -> BackendError:
    return BackendError(ErrorKind.UNAVAILABLE, f"SQLite cannot be used: {error}")


@implementer(ILocalBackend)
class SqliteBackend(PerCommandBackend):
    """
    One method for each command, called in the order of a client's requests.

    @ivar shared_url: C{None} for items in memory: other processes have no way to those.
    """

    def __init__(
        self, database: sqlite3.Connection, context: BackendContext, shared_url: str | None
    ) -> None:
        self.shared_url = shared_url
        self._database = database
        self._now = context.now
        self._limits = context.limits

    def stop(self) -> Deferred[None]:
        self._database.close()
        return succeed(None)

    def statistics(self) -> Deferred[Mapping[str, int]]:
        query = "SELECT count(*), coalesce(sum(length(value)), 0) FROM items"
        try:
            items, size = self._database.execute(query).fetchone()
        except sqlite3.Error as error:
            return fail(_unusable(error))
        return succeed({"curr_items": items, "bytes": size})

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        """A batch is one transaction, for speed and for other processes on the same file."""
        return Deferred.fromCoroutine(self._execute_together(commands))

    async def _execute_together(self, commands: Sequence[Command]) -> list[Result]:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:
                self._forget_what_has_ended()
                return await super().execute(commands)
        except sqlite3.Error as error:
            raise _unusable(error) from error

    # -- one method per command --------------------------------------------------------------

    def get(self, key: bytes) -> Item | None:
        row = self._find(key)
        return None if row is None else Item(row[0], row[1], row[2])

    def store(self, command: Store) -> Result:
        old = self._find(command.key)
        if command.mode in (StoreMode.APPEND, StoreMode.PREPEND):
            return self._concatenate(command, old)
        compare = command.compare is not None and command.mode is not StoreMode.ADD
        if old is None and (compare or command.mode is StoreMode.REPLACE):
            return Outcome.NOT_FOUND if compare else Outcome.NOT_STORED
        if old is not None and command.mode is StoreMode.ADD:
            return Outcome.NOT_STORED
        if old is not None and compare and (old[2] != command.compare or not old[2]):
            return Outcome.EXISTS
        ends = deadline(command.exptime, self._now())
        return Stored(self._put(command.key, command.value, command.flags, ends, command.new_cas))

    def _concatenate(self, command: Store, old: _Row | None) -> Result:
        """Flags and expiry stay. What grows too large is not stored."""
        if old is None:
            if command.vivify is None:
                return Outcome.NOT_STORED
            ends = deadline(command.vivify, self._now())
            cas = self._put(command.key, command.value, command.flags, ends, command.new_cas)
            return Stored(cas, len(command.value))
        value, flags, cas, ends = old
        if command.compare is not None and cas != command.compare:
            return Outcome.EXISTS
        room = self._limits.value_room(command.key) - (FLAGS_OVERHEAD if flags else 0)
        if len(value) + len(command.value) > room:
            return Outcome.NOT_STORED
        pieces = [value, command.value]
        if command.mode is StoreMode.PREPEND:
            pieces.reverse()
        cas = self._put(command.key, b"".join(pieces), flags, ends, command.new_cas)
        return Stored(cas, len(value) + len(command.value))

    def delete(self, command: Delete) -> Result:
        old = self._find(command.key)
        if old is None:
            return Outcome.NOT_FOUND
        if command.compare is not None and old[2] != command.compare:
            return Outcome.EXISTS
        self._database.execute("DELETE FROM items WHERE key = ?", (command.key,))
        return Outcome.DELETED

    def touch(self, key: bytes, exptime: int) -> Result:
        old = self._find(key)
        if old is None:
            return Outcome.NOT_FOUND
        ends = deadline(exptime, self._now())
        self._database.execute("UPDATE items SET ends = ? WHERE key = ?", (ends, key))
        return Touched(old[1], old[2])

    def arithmetic(self, command: Arithmetic) -> Result:
        old = self._find(command.key)
        if old is None:
            if command.initial is None:
                return Outcome.NOT_FOUND
            ends = deadline(command.exptime, self._now())
            cas = self._put(command.key, b"%d" % command.initial, 0, ends, command.new_cas)
            return Number(command.initial, cas, created=True)
        value, flags, cas, ends = old
        if value and command.compare is not None and cas != command.compare:
            return Outcome.EXISTS
        number = unsigned_64(value.partition(b"\0")[0])
        if number is None:
            return Outcome.NON_NUMERIC
        if command.decrement:
            number = max(0, number - command.delta)
        else:
            number = (number + command.delta) % 2**64
        old_left = self._left(ends)
        if command.touch is not None:
            ends = deadline(command.touch, self._now())
        text = (b"%d" % number).ljust(len(value))  # blanks keep the length, as memcached does
        cas = self._put(command.key, text, flags, ends, command.new_cas)
        return Number(number, cas, old_left)

    def flush(self, exptime: int) -> Result:
        """A later one is kept in the database: it happens even if this process ends before."""
        when = flush_deadline(exptime, self._now())
        self._database.execute("DELETE FROM facts WHERE name = 'flush_at'")
        if when is None:
            self._database.execute("DELETE FROM items")
        else:
            self._database.execute("INSERT INTO facts VALUES ('flush_at', ?)", (when,))
        return Outcome.OK

    # -- rows --------------------------------------------------------------------------------

    def _forget_what_has_ended(self) -> None:
        now = self._now()
        due = self._database.execute(
            "DELETE FROM facts WHERE name = 'flush_at' AND number <= ?", (now,)
        )
        if due.rowcount:
            self._database.execute("DELETE FROM items")
        self._database.execute("DELETE FROM items WHERE ends <= ?", (now,))

    def _find(self, key: bytes) -> _Row | None:
        """An item's row, if it is there and has not ended."""
        row = self._database.execute(
            "SELECT value, flags, cas, ends FROM items"
            " WHERE key = ? AND (ends IS NULL OR ends > ?)",
            (key, self._now()),
        ).fetchone()
        return None if row is None else (row[0], row[1], int(row[2]), row[3])

    def _put(
        self, key: bytes, value: bytes, flags: int, ends: float | None, cas: int | None
    ) -> int:
        """Write an item; gives the CAS token that it carries, a new one unless told which."""
        if cas is None:
            (cas,) = self._database.execute(
                "UPDATE facts SET number = number + 1 WHERE name = 'last_cas' RETURNING number"
            ).fetchone()
        self._database.execute(
            "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?)",
            (key, value, flags, str(cas), ends),
        )
        return cas

    def _left(self, ends: float | None) -> int | None:
        """Seconds to live, rounded up; C{None} for ever."""
        return None if ends is None else max(0, ceil(ends - self._now()))
