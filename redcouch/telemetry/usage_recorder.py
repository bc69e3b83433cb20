"""
Who speaks memcached, noted while the service runs.

It looks at the connections twice a second, and has what it saw written down at once, so that a
process that is killed takes no more with it than what it heard in its last moments.

Nothing is added to the path of a request but one flag for its connection: which
key and command a client is at is read from what it has asked for last. So a
client that has spoken is never missed; of its key prefixes and commands, those of one
request are seen at a time, which finds what is in use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from redcouch.commands import verb
from redcouch.errors import BackendError
from redcouch.telemetry.usage import SEPARATOR, UsageSample, UsageSamples, name_application

_LOOK = 0.5
"""Seconds; with the round trip, far less than the one that is promised."""

_LONGEST_PREFIX = 64

_MOST_KEYS = 100
"""Of one command, keys of which the prefix is noted."""


class UsageRecorder:
    """
    Keeps the inventory of one process's clients, in a storage that keeps traffic. A
    connection has C{spoke} (set when it is heard from), C{host}, C{dialect_name} and a
    C{session}, which has C{user} and C{take_command}.
    """

    _log = Logger()

    def __init__(self, backend: Any, separator: bytes, now: Any, reactor: Any) -> None:
        """@param separator: where the prefix of a key ends."""
        self._backend = backend
        self._separator = separator
        self._now = now
        self._notes = UsageSamples()
        self._refused = False
        self._connections: Iterable[Any] = ()
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor
        self._turns = DeferredLock()

    def start(self, connections: Iterable[Any]) -> None:
        """Begin to look at these; the collection may change meanwhile."""
        self._connections = connections
        self._loop.start(_LOOK)

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

    def _look(self) -> Deferred[None]:
        """What is heard while this is written down waits for the next look."""
        for connection in self._connections:
            if connection.spoke:
                connection.spoke = False
                self._note(connection)
        return self._write()

    def _note(self, connection: Any) -> None:
        now = int(self._now())
        add = self._notes.add
        add("client", connection.host.encode(), now)
        add("dialect", connection.dialect_name.encode(), now)
        session = connection.session
        user = None if session.user is None else session.user[:_LONGEST_PREFIX]
        if user is not None:
            add("user", user, now)
        command = session.take_command()
        if command is not None:
            add("command", verb(type(command)).encode(), now)
            for prefix in {*map(self._prefix, command.keys[:_MOST_KEYS])}:
                add("prefix", prefix, now)
                add("application", name_application(connection.host, user, prefix), now)
                add(SEPARATOR, self._separator, now)

    def _prefix(self, key: bytes) -> bytes:
        before, separator, _ = key.partition(self._separator)
        return (before + separator if separator else b"")[:_LONGEST_PREFIX]

    def _write(self) -> Deferred[None]:
        written: Deferred[None] = self._turns.run(
            lambda: Deferred.fromCoroutine(self._write_down(self._notes.take()))
        )
        return written

    async def _write_down(self, notes: list[UsageSample]) -> None:
        """Even if there is nothing to note but that somebody watches."""
        try:
            await self._backend.keep_traffic(notes, self._now())
        except BackendError as error:
            self._notes.put_back(notes)
            if not self._refused and self._backend.health().ready:
                self._refused = True
                self._log.error(
                    "Cannot write down who speaks memcached: {reason}", reason=str(error)
                )
