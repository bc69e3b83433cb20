"""
Giving the old side what it has missed.

A key that is denied may be out of date there. One process of all, the one that leads, takes such
keys, writes to the owner what the storage has, or removes it where the storage has nothing,
and lets the key go if the item still is the one that was read; otherwise its turn comes again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redcouch.backends.fill_leases import AllowFill, ListDenied, NoteLack
from redcouch.backends.origin.fetch import Execute
from redcouch.commands import Get, Inspect
from redcouch.expiry import lasting
from redcouch.memcached_client import protocol as wire
from redcouch.memcached_client.pool import OriginPool
from redcouch.memcached_client.protocol import Reply
from redcouch.memcached_client.time_budget import TimeBudget
from redcouch.results import Failed, Listed, Outcome

AT_A_TIME = 200
"""Keys that are looked at together."""

_DONE = frozenset((b"HD", b"NF"))

_CANNOT = b"SERVER_ERROR"
"""It has no room for such an item, and has removed what it had: it lacks the item for good."""


class Repairer:
    """Repairs a few keys at a time."""

    def __init__(
        self,
        ask: Execute,
        old: OriginPool,
        is_ready: Callable[[int], bool],
        now: Callable[[], float],
    ) -> None:
        """
        @param ask: performs commands on the storage.
        @param is_ready: whether the node of a place can be told.
        @param now: gives the UNIX time in seconds.
        """
        self._ask = ask
        self._old = old
        self._is_ready = is_ready
        self._now = now

    async def repair(self, time_budget: TimeBudget) -> int:
        """
        Some of the keys. How many are right now.

        @raise redcouch.errors.BackendError: the storage cannot be reached.
        """
        (denied,) = await self._ask([ListDenied(AT_A_TIME)])
        if isinstance(denied, Failed):
            return 0
        keys = [key for key in denied if self._is_tellable(key)]
        if not keys:
            return 0
        found = await self._ask([Get(keys, cas=True), *map(Inspect, keys)])
        if isinstance(found[0], Failed):
            return 0
        items = zip(keys, found[0], found[1:], strict=True)
        requests: dict[bytes, tuple[bytes, int | None]] = {}
        for key, item, listed in items:
            request = self._request(key, item, listed)
            if request is not None:
                requests[key] = request
        told = [(key, request) for key, (request, _) in requests.items()]
        replies = await self._old.tell(told, time_budget)
        done = [
            AllowFill(key, token)
            for (key, (_, token)), reply in zip(requests.items(), replies, strict=True)
            if _is_done(reply)
        ]
        if not done:
            return 0
        if any(reply is not None and reply.code == _CANNOT for reply in replies):
            (noted,) = await self._ask([NoteLack()])
            if isinstance(noted, Failed):
                return 0
        return sum(result is Outcome.OK for result in await self._ask(done))

    def _is_tellable(self, key: bytes) -> bool:
        return wire.name(key) is not None and self._is_ready(self._old.owner(key))

    def _request(self, key: bytes, item: Any, listed: Any) -> tuple[bytes, int | None] | None:
        """What the owner is told, and the item's token; C{None} where that is not clear now."""
        named = wire.name(key)
        if item is None and listed is None:
            return wire.delete(named or b""), None
        if not (isinstance(item, tuple) and isinstance(listed, Listed)):
            return None
        value, flags, token = item
        if token != listed.cas:
            return None
        if listed.stale:
            return wire.delete(named or b""), token
        exptime = lasting(listed.ttl or 0, self._now())
        return wire.store(named or b"", value, flags, exptime), token


def _is_done(reply: Reply | None) -> bool:
    return reply is not None and (reply.code in _DONE or reply.code == _CANNOT)
