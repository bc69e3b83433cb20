"""
Bringing items over from the old side, so that none comes back that was changed
or deleted meanwhile.

An item is looked for, leased here, read there, and filled in here. Whoever
changes an item revokes leases on it in the same step, and whoever deletes one
has deleted it on the old side before: so what is read after the lease is still
true if the lease still holds when it is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from redcouch.backends.fill_leases import Fill, TakeLease
from redcouch.commands import Command, Get
from redcouch.errors import BackendError
from redcouch.memcached_client.pool import OriginItem, OriginPool, Places, portions
from redcouch.memcached_client.time_budget import TimeBudget
from redcouch.results import Failed, Item, Outcome, Result, Stored, says_away

Execute = Callable[[Sequence[Command]], Awaitable[list[Result]]]


def check_each(results: list[Result]) -> list[Result]:
    """The same, where the storage has answered each command."""
    for result in results:
        if says_away(result):
            raise BackendError(result.kind, result.message)
    return results


@dataclass
class Fetcher:
    """
    Fetches from an old side into a storage.

    @ivar _execute: performs commands on the storage.
    @ivar _count: is told how many items were fetched.
    @ivar _on_end: called where the storage says that nothing may be filled in any more.
    """

    _execute: Execute
    _old: OriginPool
    _count: Callable[[int], None]
    _on_end: Callable[[], None]

    async def fetch(self, keys: Iterable[bytes], time_budget: TimeBudget) -> dict[bytes, Item]:
        """
        The items of those keys that the old side has, and the storage then too;
        where patience ends before, none, or some of them.

        @raise redcouch.errors.BackendError: the storage cannot be reached.
        """
        places = await self._old.find(dict.fromkeys(keys), time_budget) if self._old.up else {}
        return await self._fetch(places, time_budget)

    async def pull_found(
        self, sizes: Mapping[bytes, int], time_budget: TimeBudget
    ) -> dict[bytes, Item]:
        """The same for keys that the old side is known to have, with the sizes of their values."""
        return await self._fetch(self._old.places(sizes), time_budget)

    async def _fetch(self, places: Places, time_budget: TimeBudget) -> dict[bytes, Item]:
        leases = await self._lease(list(places))
        items: dict[bytes, Item] = {}
        for node, portion in portions({key: places[key] for key in leases}):
            items |= await self._fill(leases, await self._old.read(node, portion, time_budget))
        self._count(len(items))
        return items

    async def _lease(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        leases: dict[bytes, bytes] = {}
        if not keys:
            return leases
        taken = check_each(await self._execute([*map(TakeLease, keys)]))
        for key, lease in zip(keys, taken, strict=True):
            if isinstance(lease, bytes):
                leases[key] = lease
            elif lease is Outcome.NOT_STORED:
                self._on_end()
        return leases

    async def _fill(
        self, leases: Mapping[bytes, bytes], there: Mapping[bytes, OriginItem]
    ) -> dict[bytes, Item]:
        items: dict[bytes, Item] = {}
        if not there:
            return items
        fills = [
            Fill(key, old.value, old.flags, old.exptime, leases[key]) for key, old in there.items()
        ]
        refused = []
        for fill, result in zip(fills, check_each(await self._execute(fills)), strict=True):
            if isinstance(result, Stored):
                items[fill.key] = Item(fill.value, fill.flags, result.cas)
            elif isinstance(result, Failed):  # as for lack of memory: it is true all the same
                items[fill.key] = Item(fill.value, fill.flags, 0)
            else:
                refused.append(fill.key)
        return items | await self._look_again(refused)

    async def _look_again(self, keys: Sequence[bytes]) -> dict[bytes, Item]:
        """Somebody was faster: with the item, or with a change."""
        if not keys:
            return {}
        (found,) = await self._execute([Get(keys, cas=True)])
        if isinstance(found, Failed):
            return {}
        pairs = zip(keys, found, strict=True)
        return {key: Item(*item) for key, item in pairs if isinstance(item, tuple)}
