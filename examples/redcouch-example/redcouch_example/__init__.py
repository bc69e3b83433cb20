"""
Items in SQLite: a whole storage backend for RedCouch, in one file.

SQLite is asked in the reactor's own thread, which is fine for a file on a fast
disk and few clients. A backend whose storage is far away returns Deferreds or
coroutines from the same methods.
"""

from __future__ import annotations

import sqlite3

from twisted.internet.defer import Deferred, succeed

from redcouch.backends.percommand import PerCommandBackend
from redcouch.commands import Arithmetic, Delete, Store, StoreMode
from redcouch.errors import ConfigurationError
from redcouch.expiry import deadline, flush_deadline
from redcouch.interfaces import IStorageBackend, Surroundings
from redcouch.limits import FLAGS_OVERHEAD
from redcouch.numbers import unsigned_64
from redcouch.results import Item, Number, Outcome, Result, Stored, Touched

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, flags INTEGER NOT NULL, cas INTEGER NOT NULL,
    ends REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, number REAL NOT NULL);
INSERT OR IGNORE INTO facts VALUES ('last_cas', 0);
"""

_Row = tuple[bytes, int, int, float | None]
"""Value, flags, CAS token, and when it ends."""


def make_backend(url: str, surroundings: Surroundings) -> IStorageBackend:
    """The backend for an C{example:} URL."""
    path = url.partition(":")[2] or ":memory:"
    try:
        database = sqlite3.connect(path, isolation_level=None)
        database.executescript(_SCHEMA)
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path}: {error}") from None
    backend: IStorageBackend = SqliteBackend(database, surroundings)
    return backend


class SqliteBackend(PerCommandBackend):
    """One method for each command, called in the order of a client's requests."""

    def __init__(self, database: sqlite3.Connection, surroundings: Surroundings) -> None:
        self._database = database
        self._now = surroundings.now
        self._limits = surroundings.limits

    def stop(self) -> Deferred[None]:
        self._database.close()
        return succeed(None)

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
        if old is not None and compare and old[2] != command.compare:
            return Outcome.EXISTS
        ends = deadline(command.exptime, self._now())
        return Stored(self._put(command.key, command.value, command.flags, ends, command.new_cas))

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
            text = b"%d" % command.initial
            cas = self._put(command.key, text, 0, ends, command.new_cas)
            return Number(command.initial, cas, created=True)
        value, flags, cas, ends = old
        if command.compare is not None and cas != command.compare:
            return Outcome.EXISTS
        number = unsigned_64(value.partition(b"\0")[0])
        if number is None:
            return Outcome.NON_NUMERIC
        if command.decrement:
            number = max(0, number - command.delta)
        else:
            number = (number + command.delta) % 2**64
        text = (b"%d" % number).ljust(len(value))
        if command.touch is not None:
            ends = deadline(command.touch, self._now())
        return Number(number, self._put(command.key, text, flags, ends, command.new_cas))

    def flush(self, exptime: int) -> Result:
        when = flush_deadline(exptime, self._now())
        self._database.execute("DELETE FROM facts WHERE name = 'flush_at'")
        if when is None:
            self._database.execute("DELETE FROM items")
        else:
            self._database.execute("INSERT INTO facts VALUES ('flush_at', ?)", (when,))
        return Outcome.OK

    def _find(self, key: bytes) -> _Row | None:
        """An item's row, if it is there and has not ended."""
        now = self._now()
        due = self._database.execute(
            "DELETE FROM facts WHERE name = 'flush_at' AND number <= ?", (now,)
        )
        if due.rowcount:
            self._database.execute("DELETE FROM items")
        row: _Row | None = self._database.execute(
            "SELECT value, flags, cas, ends FROM items"
            " WHERE key = ? AND (ends IS NULL OR ends > ?)",
            (key, now),
        ).fetchone()
        return row

    def _put(
        self, key: bytes, value: bytes, flags: int, ends: float | None, cas: int | None
    ) -> int:
        """Write an item; gives the CAS token that it carries, a new one unless told which."""
        if cas is None:
            self._database.execute("UPDATE facts SET number = number + 1 WHERE name = 'last_cas'")
            row = self._database.execute("SELECT number FROM facts WHERE name = 'last_cas'")
            cas = int(row.fetchone()[0])
        self._database.execute(
            "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?)", (key, value, flags, cas, ends)
        )
        return cas

    def _concatenate(self, command: Store, old: _Row | None) -> Result:
        """Flags and expiry stay. What grows too large is not stored."""
        if old is None:
            if command.vivify is None:
                return Outcome.NOT_STORED
            ends = deadline(command.vivify, self._now())
            cas = self._put(command.key, command.value, 0, ends, command.new_cas)
            return Stored(cas, len(command.value))
        value, flags, cas, ends = old
        if command.compare is not None and cas != command.compare:
            return Outcome.EXISTS
        first, second = value, command.value
        if command.mode is StoreMode.PREPEND:
            first, second = second, first
        room = self._limits.value_room(command.key) - (FLAGS_OVERHEAD if flags else 0)
        if len(first) + len(second) > room:
            return Outcome.NOT_STORED
        cas = self._put(command.key, first + second, flags, ends, command.new_cas)
        return Stored(cas, len(first) + len(second))
