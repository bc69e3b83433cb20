"""
Giving the old side what it has missed.

A key that is denied may be out of date there. One process of all, the one that leads, takes such
keys, writes to the owner what the storage has, or removes it where the storage has nothing that can
be read, and lets the key go if the item still is the one that was read; otherwise its turn comes
again. A key of which the owner cannot be told goes, too: it would stand there for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from redcouch.backends.fill_leases import AllowFill, ListDenied, NoteLack
from redcouch.backends.origin.fetch import Execute
from redcouch.commands import Get, Inspect
from redcouch.expiry import lasting
from redcouch.limits import is_key
from redcouch.memcached_client import protocol as wire
from redcouch.memcached_client.pool import OriginPool, portions
from redcouch.memcached_client.time_budget import TimeBudget
from redcouch.results import Failed, Listed, Outcome, is_no_item

AT_A_TIME = 200
"""Keys that are looked at together."""

_CANNOT = b"SERVER_ERROR"
"""It has no room for such an item: it lacks it for good, once what it had is removed."""

_DONE = frozenset((b"HD", b"NF", _CANNOT))

_Done: TypeAlias = tuple[AllowFill, bool]
"""A key that is to go, and whether its owner lacks the item."""


@dataclass
class Repairer:
    """
    Repairs a few keys at a time.

    @ivar _ask: performs commands on the storage.
    @ivar _is_ready: whether the node of a place can be told.
    @ivar _now: gives the UNIX time in seconds.
    """

    _ask: Execute
    _old: OriginPool
    _is_ready: Callable[[int], bool]
    _now: Callable[[], float]

    async def repair(self, time_budget: TimeBudget) -> int:
        """
        Some of the keys. How many are right now.

        @raise redcouch.errors.BackendError: the storage cannot be reached.
        """
        (denied,) = await self._ask([ListDenied(AT_A_TIME)])
        if isinstance(denied, Failed):
            return 0
        right = await self._allow(
            await self._pass_over([key for key in denied if wire.name(key) is None])
        )
        for portion in await self._portions([key for key in denied if self._is_tellable(key)]):
            right += await self._allow(await self._tell(portion, time_budget))
        return right

    async def _portions(self, keys: Sequence[bytes]) -> Iterator[list[bytes]]:
        """The same keys, so many together as one owner can be told of in time."""
        listed = await self._ask([*map(Inspect, keys)]) if keys else []
        sizes = {
            key: item.size if isinstance(item, Listed) else 0
            for key, item in zip(keys, listed, strict=True)
        }
        return (portion for _, portion in portions(self._old.places(sizes)))

    async def _allow(self, done: Sequence[_Done]) -> int:
        """Let these go, and note what their owners lack. How many have gone."""
        if not done:
            return 0
        if any(lacks for _, lacks in done):
            (noted,) = await self._ask([NoteLack()])
            if isinstance(noted, Failed):
                return 0
        return sum(result is Outcome.OK for result in await self._ask([one for one, _ in done]))

    def _is_tellable(self, key: bytes) -> bool:
        return wire.name(key) is not None and self._is_ready(self._old.owner(key))

    async def _pass_over(self, keys: Sequence[bytes]) -> list[_Done]:
        """Those of which the owner cannot be told: it lacks the item, if it can have such a key."""
        listed = await self._ask([*map(Inspect, keys)]) if keys else []
        return [
            (AllowFill(key, _token(item)), isinstance(item, Listed) and is_key(key))
            for key, item in zip(keys, listed, strict=True)
            if not isinstance(item, Failed) or is_no_item(item)
        ]

    async def _tell(self, keys: Sequence[bytes], time_budget: TimeBudget) -> list[_Done]:
        """Those of which the owner has been told."""
        found = await self._ask([Get(keys, cas=True), *map(Inspect, keys)])
        if isinstance(found[0], Failed):
            return []
        requests: dict[bytes, tuple[bytes, int | None]] = {}
        for key, item, listed in zip(keys, found[0], found[1:], strict=True):
            request = self._request(wire.name(key) or b"", item, listed)
            if request is not None:
                requests[key] = request
        told = [(key, request) for key, (request, _) in requests.items()]
        replies = dict(zip(requests, await self._old.tell(told, time_budget), strict=True))
        done = {key: reply.code for key, reply in replies.items() if reply and reply.code in _DONE}
        refused = [key for key, code in done.items() if code == _CANNOT]
        _, untold = await self._old.delete(refused, time_budget)
        return [
            (AllowFill(key, requests[key][1]), code == _CANNOT)
            for key, code in done.items()
            if key not in untold
        ]

    def _request(self, named: bytes, item: Any, listed: Any) -> tuple[bytes, int | None] | None:
        """What the owner is told, and the item's token; C{None} where that is not clear now."""
        if (item is None and listed is None) or is_no_item(item):
            return wire.delete(named), _token(listed)
        if not (isinstance(item, tuple) and isinstance(listed, Listed)):
            return None
        value, flags, token = item
        if token != listed.cas:
            return None
        if listed.stale or listed.ttl == 0:  # an exptime of 0 would be for ever
            return wire.delete(named), token
        exptime = lasting(listed.ttl or 0, self._now())
        return wire.store(named, value, flags, exptime), token


def _token(listed: Any) -> int | None:
    return listed.cas if isinstance(listed, Listed) else None
