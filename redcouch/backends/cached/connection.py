"""
A connection to Redis over which Redis tells what has changed.

It speaks RESP3, in which what is told (a push) can be told from replies. Where Redis
does not do this, or its user may not ask for it, the connection is one like any other:
there is no table, and Redis answers everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis

from redcouch.backends.cached.table import Room, Table
from redcouch.backends.redis.connection import (
    RedisConnection,
    RedisConnectionProtocol,
    RedisError,
    Replies,
    Waiting,
)
from redcouch.backends.redis.layout import SYSTEM_PREFIX
from redcouch.backends.redis.resp import pack_command, pack_for_each
from redcouch.backends.redis.server_info import read_facts, read_info
from redcouch.backends.redis.url import RedisLocation
from redcouch.errors import BackendError

PING = b"*1\r\n$4\r\nPING\r\n"

COUNTS = ("cache_hits", "cache_misses", "cache_invalidations", "cache_bytes")
"""What is counted, by the names in C{stats}."""

_PROBE = SYSTEM_PREFIX + b"cache"
"""A key that is not there, to see whether commands are allowed."""

_PREPARATION: tuple[tuple[Any, ...], ...] = (
    ("HELLO", "3"),
    ("CLIENT", "TRACKING", "ON"),
    ("PTTL", _PROBE),
    ("TOUCH", _PROBE),
    ("PING",),
)

_ALLOWED = ("MOVED ", "ASK ", "CLUSTERDOWN ", "MISCONF ")
"""How an error begins with a command that is allowed: another node has the key, or that passes."""

_POLICY = (b"INFO", b"memory")
_POLICY_STAYS = 10.0
"""Asks Redis whether it evicts; seconds until it is asked again."""

_MINDS_NO_USE = ("noeviction", "allkeys-random", "volatile-random", "volatile-ttl")
"""Of C{maxmemory-policy}: those for which it does not matter what has been used."""

_MENTIONED = 256
"""Items of whose use Redis is told in one turn of the reactor. It is told of each once a second."""


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
        *replies, policy = await self._ask(*_PREPARATION, _POLICY)
        for command, said in zip(_PREPARATION, replies, strict=True):
            if isinstance(said, RedisError) and not str(said).startswith(_ALLOWED):
                self.link.tell_untracked(command[0], said)
                return
        self.table = Table(self.link.room)
        self.link.learn_policy(self.table, policy)


class TrackedLink(RedisConnection):
    """
    A L{RedisConnection} that knows what the connection in use knows.

    @ivar last_of_turn: who is to be sent behind everything else of this turn of the reactor.
    """

    protocol = TrackedProtocol

    def __init__(
        self,
        location: RedisLocation,
        reactor: Any,
        scripts: Sequence[Any],
        room: Room,
    ) -> None:
        """@param room: where its tables are."""
        super().__init__(location, reactor, scripts)
        self.room = room
        self.last_of_turn: Waiting | None = None
        self._last_payload = b""
        self._pack_touches = [
            pack_for_each(b"TOUCH", prefix) for prefix in location.layout.prefixes
        ]
        self._untracked = ""
        self._unmentioned: list[bytes] = []
        self._policy_asked_at = 0.0

    @property
    def table(self) -> Table | None:
        """What the connection in use knows; C{None} without one, or where it is not told."""
        protocol: Any = self._protocol
        table: Table | None = protocol and protocol.table
        return table

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

    def send_last(self, payload: bytes, waiting: Waiting) -> None:
        """L{submit} behind everything else that this turn of the reactor brings."""
        self.last_of_turn = waiting
        self._last_payload = payload
        if not self._turn:
            self.begin_turn()

    def _end_turn(self) -> None:
        if self._unmentioned:
            self._mention()
        waiting, self.last_of_turn = self.last_of_turn, None
        if waiting is not None:
            self.submit(self._last_payload, waiting)
        super()._end_turn()

    # -- what is in use ----------------------------------------------------------------------

    def _check_time(self) -> None:
        super()._check_time()
        table, now = self.table, self.reactor.seconds()
        if table is None:
            return
        if table.used and not self._unmentioned:
            self._unmentioned, table.used = list(table.used), set()
        if now - self._policy_asked_at >= _POLICY_STAYS:
            self.send(pack_command(_POLICY), 1, self._on_policy)

    def _on_policy(self, replies: Replies) -> None:
        if self.table is not None and not isinstance(replies, BackendError):
            self.learn_policy(self.table, replies[0])

    def learn_policy(self, table: Table, info: Any) -> None:
        """Note what is used if Redis evicts what it takes for idle, or does not say."""
        self._policy_asked_at = self.reactor.seconds()
        facts = read_facts(read_info(info))
        if facts.get("memory_limit") == 0 or facts.get("policy") in _MINDS_NO_USE:
            table.used = None
        elif table.used is None:
            table.used = set()

    def _mention(self) -> None:
        """Tell Redis of some of the items that were used, and that it does not know to be so."""
        keys, self._unmentioned = self._unmentioned[:_MENTIONED], self._unmentioned[_MENTIONED:]
        touches = [pack(keys) for pack in self._pack_touches]
        self.send(b"".join(touches), len(touches) * len(keys), lambda _: None)

    def on_lost(self, protocol: RedisConnectionProtocol, reason: Any) -> None:
        """See L{RedisConnection}. What was known over the connection is forgotten with it."""
        if isinstance(protocol, TrackedProtocol) and protocol.table is not None:
            protocol.table.close()
            protocol.table = None
            self._unmentioned = []
        super().on_lost(protocol, reason)
