"""
A connection to Redis over which Redis tells what has changed.

It speaks RESP3, in which what is told (a push) can be told from replies. Where Redis
does not do this, or its user may not ask for it, the connection is one like any other:
there is no table, and Redis answers everything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import hiredis

from redcouch.backends.cached.table import Table
from redcouch.backends.redis.connection import (
    RedisConnection,
    RedisConnectionProtocol,
    RedisError,
    Replies,
    Waiting,
)
from redcouch.backends.redis.layout import SYSTEM_PREFIX
from redcouch.backends.redis.url import RedisLocation

PING = b"*1\r\n$4\r\nPING\r\n"

COUNTS = ("cache_hits", "cache_misses", "cache_invalidations", "cache_bytes")
"""What is counted, by the names in C{stats}."""

_PROBE = SYSTEM_PREFIX + b"cache"
"""A key that is not there, to see whether commands are allowed."""

_PREPARATION = (
    ("HELLO", "3"),
    ("CLIENT", "TRACKING", "ON"),
    ("PTTL", _PROBE),
    ("TOUCH", _PROBE),
    ("PING",),
)


class _Pong(Waiting):
    """All who wait for the reply to one PING."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        super().__init__(1)
        self.calls: deque[Callable[[Replies], None]] = deque()

    def done(self, replies: Replies) -> None:
        """Tell each of them, and none twice, should one fail."""
        while self.calls:
            self.calls.popleft()(replies)


class TrackedProtocol(RedisConnectionProtocol):
    """
    @ivar table: what is known over this connection; C{None} until it is prepared, and where
        Redis does not tell what changes.
    """

    link: TrackedLink
    table: Table | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._gets = self._next_reply

    def _next_reply(self) -> Any:
        """The next reply. What is told before it is heard first."""
        while (reply := self._reader.gets()).__class__ is hiredis.PushNotification:
            self._hear(reply)
        return reply

    def _hear(self, push: Sequence[Any]) -> None:
        if self.table is None or push[0] != b"invalidate":
            return
        names = push[1]
        if names is None:  # everything, as by FLUSHALL
            self.table.clear()
        else:
            self.table.invalidate([*map(self.link.location.layout.key_of, names)])

    async def _prepare(self) -> None:
        await super()._prepare()
        for command in _PREPARATION:
            said = await self._ask_anyway(*command)
            if isinstance(said, RedisError):
                self.link.tell_untracked(command[0], said)
                return
        self.table = Table(self.link.location.cache, self.link.counts)


class TrackedLink(RedisConnection):
    """
    A L{RedisConnection} that knows what the connection in use knows.

    @ivar counts: what is counted, by the names in C{stats}.
    """

    protocol = TrackedProtocol

    def __init__(
        self,
        location: RedisLocation,
        reactor: Any,
        scripts: Sequence[Any],
        counts: MutableMapping[str, int],
    ) -> None:
        super().__init__(location, reactor, scripts)
        self.counts = counts
        counts.update(dict.fromkeys(COUNTS, 0))
        self._pong: _Pong | None = None
        self._untracked = ""

    @property
    def table(self) -> Table | None:
        """What the connection in use knows; C{None} without one, or where it is not told."""
        protocol = self._protocol
        return protocol.table if isinstance(protocol, TrackedProtocol) else None

    def tell_untracked(self, command: str, error: Exception) -> None:
        """Tell the operator, once for each reason, that there is no cache."""
        reason = str(error)
        if reason != self._untracked:
            self._untracked = reason
            self._log.warn(
                "Redis at {location} cannot be cached: it answers {reason} to {command}. It serves "
                "every request itself",
                location=self.location.shown,
                reason=reason,
                command=command,
            )

    def ping_last(self, call: Callable[[Replies], None]) -> None:
        """
        Send one PING behind everything that this turn of the reactor brings; C{call} is given
        its reply, or the reason why there is none.
        """
        if self._pong is None:
            self._pong = _Pong()
            if not self._turn:
                self._turn = self.reactor.seconds()
                self.reactor.callLater(0, self._end_turn)
        self._pong.calls.append(call)

    def _end_turn(self) -> None:
        pong, self._pong = self._pong, None
        if pong is not None:
            self.submit(PING, pong)
        super()._end_turn()

    def on_lost(self, protocol: RedisConnectionProtocol, reason: Any) -> None:
        """See L{RedisConnection}. What was known over the connection is forgotten with it."""
        if isinstance(protocol, TrackedProtocol) and protocol.table is not None:
            protocol.table.clear()
            protocol.table = None
        super().on_lost(protocol, reason)
