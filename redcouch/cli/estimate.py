"""Whether Redis has room for what is imported: measured before, and watched meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from redis.exceptions import ResponseError

from redcouch.cli.progress import Stop
from redcouch.cli.storage import Storage
from redcouch.errors import ServerError
from redcouch.memcached_client.address import Address
from redcouch.memcached_client.item_reading import Copy
from redcouch.memcached_client.key_listing import ListedKey
from redcouch.memcached_client.node import BATCH, BlockingNode, by_weight
from redcouch.memcached_client.rings import Ring

SAMPLE = 2 * BATCH
"""Items of each memcached that are measured, in the order of its hash table."""

_PER_KEY = 48
"""
Bytes that Redis' tables and its allocator take for a key, and MEMORY USAGE does not count: as
measured with 30,000 items, within a tenth.
"""

_PER_EXPIRY = 40
"""The same for a time to live."""

_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    @ivar items: that the memcacheds have and the storage lacks.
    @ivar needed: bytes that they are going to take in Redis.
    @ivar free: bytes that Redis has room for, by its maxmemory; C{None} without one.
    """

    items: int
    needed: int
    free: int | None

    @property
    def too_much(self) -> bool:
        return self.free is not None and self.needed > self.free

    @property
    def text(self) -> str:
        left = "none" if self.free is None else f"{max(0, self.free) / 2**20:.1f} MiB are left"
        return (
            f"about {self.items} items, which take {self.needed / 2**20:.1f} MiB in Redis "
            f"(measured on some); maxmemory: {left}"
        )

    @property
    def json(self) -> dict[str, Any]:
        return {"items": self.items, "needed": self.needed, "free": self.free}


def estimate(
    storage: Storage,
    nodes: Sequence[Address],
    ring: Ring,
    if_absent: bool,
    stop: Stop,
) -> Estimate | None:
    """
    Measure some items of each memcached that answers. C{None} where Redis does not tell.

    @raise ServerError: the storage fails.
    """
    items = needed = 0.0
    try:
        free = _free(storage)
        for place, address in enumerate(nodes):
            sizes: list[int] = []
            try:
                with BlockingNode(address) as node:
                    held = node.item_count()
                    entries = _some_keys(node, stop)
                    wanted = [one for one in entries if ring.owner(one.key) == place]
                    for copies in _copies(storage, node, wanted, if_absent):
                        sizes += _weigh(storage, copies)
            except ServerError:
                continue  # of which the import says more
            if sizes:
                items += held * len(sizes) / len(entries)
                needed += held * sum(sizes) / len(entries)
    except ResponseError:  # the user may not ask
        return None
    return Estimate(round(items), round(needed), free)


def _some_keys(node: BlockingNode, stop: Stop) -> list[ListedKey]:
    lines = count(1)
    with node.list_keys(lambda: stop.requested or next(lines) >= SAMPLE) as keys:
        return list(keys)


def _copies(
    storage: Storage, node: BlockingNode, entries: Sequence[ListedKey], if_absent: bool
) -> Iterator[list[tuple[bytes, Copy]]]:
    """The items that would be stored, so many at a time as memory should hold."""
    for begin in range(0, len(entries), BATCH):
        several = [one for one in entries[begin : begin + BATCH] if storage.may_hold(one.key)]
        if if_absent:
            there = storage.exist([one.key for one in several])
            several = [one for one, known in zip(several, there, strict=True) if not known]
        for found in by_weight(node.fetch(several)):
            yield [(one.key, copy) for one, copy in found if isinstance(copy, Copy)]


def _weigh(storage: Storage, copies: Sequence[tuple[bytes, Copy]]) -> list[int]:
    usages = storage.weigh([replace(copy, ttl=60) for _, copy in copies])
    keys = len(storage.layout.keys_of_item(b""))  # for one item
    return [
        usage + keys * (len(key) + _PER_KEY + (0 if copy.ttl is None else _PER_EXPIRY))
        for usage, (key, copy) in zip(usages, copies, strict=True)
    ]


def _free(storage: Storage) -> int | None:
    """Of a cluster: how much it can take until the first of its masters is full."""
    masters = zip(storage.info("memory"), storage.shares(), strict=True)
    left = [
        (int(one["maxmemory"]) - int(one["used_memory"])) / share
        for one, share in masters
        if int(one.get("maxmemory", 0)) and share
    ]
    return int(min(left)) if left else None


class Evictions:
    """
    Looks once a second whether Redis throws away keys for lack of memory.

    @ivar count: how many it has thrown away since this was made.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._looked = time.monotonic()
        self._before = self._evicted()
        self.count = 0

    def check(self, now: bool = False) -> None:
        """
        Look, if it is time to, or C{now}.

        @raise ServerError: it does.
        """
        if not now and time.monotonic() < self._looked + _EVERY:
            return
        self._looked = time.monotonic()
        self.count = max(0, self._evicted() - self._before)  # which counts anew after a start
        if self.count:
            raise ServerError(
                f"{self._storage.location.shown}: Redis has evicted {self.count} keys meanwhile: "
                "it has too little memory (maxmemory) for all of it"
            )

    def _evicted(self) -> int:
        try:
            return sum(int(one.get("evicted_keys", 0)) for one in self._storage.info("stats"))
        except ResponseError:  # the user may not ask
            return 0
