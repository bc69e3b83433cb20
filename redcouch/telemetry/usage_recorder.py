"""
Looks at the connections once a second, and has what it saw written down.

Nothing is added to the path of a request but one flag for its connection: which
key and command a client is at is read from what it has asked for last. So a
client that has spoken is never missed; of its key prefixes and commands, one
is seen a second, which finds those that are in use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from redcouch.commands import verb
from redcouch.errors import BackendError
from redcouch.interfaces import IStorageBackend, ITrafficBackend
from redcouch.telemetry.usage import UsageSamples

_LOOK = 1.0
_WRITE_EVERY = 5
_LONGEST_PREFIX = 64


class UsageRecorder:
    """
    Keeps the inventory of one process's clients. A connection has C{spoke} (set
    when it is heard from), C{host}, C{user}, C{dialect_name} and
    C{last_command}.
    """

    _log = Logger()

    def __init__(self, backend: IStorageBackend, separator: bytes, now: Any, reactor: Any) -> None:
        """@param separator: where the prefix of a key ends."""
        self._backend: Any = backend if ITrafficBackend.providedBy(backend) else None
        self._separator = separator
        self._now = now
        self._notes = UsageSamples()
        self._looks = 0
        self._refused = False
        self._connections: Iterable[Any] = ()
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor

    def start(self, connections: Iterable[Any]) -> None:
        """Begin to look at these; the collection may change meanwhile."""
        if self._backend is not None:
            self._connections = connections
            self._loop.start(_LOOK, now=False)

    def stop(self) -> Deferred[None]:
        """Look no more; fires when everything is written down."""
        if not self._loop.running:
            return succeed(None)
        self._loop.stop()
        return self._write()

    def leaves(self, connection: Any) -> None:
        """A client is gone, perhaps before anybody has looked."""
        if self._loop.running and connection.spoke:
            self._note(connection)

    def _look(self) -> None:
        for connection in self._connections:
            if connection.spoke:
                connection.spoke = False
                self._note(connection)
        self._looks += 1
        if self._looks % _WRITE_EVERY == 0:
            self._write()

    def _note(self, connection: Any) -> None:
        now = int(self._now())
        add = self._notes.add
        add("client", connection.host.encode(), now)
        add("dialect", connection.dialect_name.encode(), now)
        if connection.user is not None:
            add("user", connection.user[:_LONGEST_PREFIX], now)
        command = connection.last_command
        if command is not None:
            add("command", verb(type(command)).encode(), now)
            if command.keys:
                add("prefix", self._prefix(command.keys[0]), now)

    def _prefix(self, key: bytes) -> bytes:
        before, separator, _ = key.partition(self._separator)
        return (before + separator if separator else b"")[:_LONGEST_PREFIX]

    def _write(self) -> Deferred[None]:
        written: Deferred[None] = self._backend.keep_traffic(self._notes.take(), int(self._now()))
        written.addErrback(self._not_written)
        return written

    def _not_written(self, failure: Any) -> None:
        failure.trap(BackendError)
        if not self._refused and self._backend.health().ready:
            self._refused = True
            self._log.error(
                "Cannot write down who speaks memcached: {reason}",
                reason=failure.getErrorMessage(),
            )
