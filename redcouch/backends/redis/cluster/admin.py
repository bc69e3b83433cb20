"""What concerns all items of a cluster, or its nodes: flushing, listing, statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from itertools import count
from typing import Any

from twisted.internet.defer import maybeDeferred

from redcouch.backends.redis.admin import (
    CLIENT_LIST,
    PROBE_KEY,
    read_page,
    read_statistics,
    scan,
    statistics_commands,
)
from redcouch.backends.redis.cluster.asking import SlotExchange, ask_masters, call_on
from redcouch.backends.redis.cluster.router import Router
from redcouch.backends.redis.cluster.slots import SLOTS, slot_of
from redcouch.backends.redis.cluster.topology import Address
from redcouch.backends.redis.connection import RedisConnection
from redcouch.backends.redis.exchange import Exchange
from redcouch.backends.redis.flushing import Flushing
from redcouch.backends.redis.layout import LEASE
from redcouch.backends.redis.replies import check, is_wrong_type
from redcouch.backends.redis.resp import pack_command
from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.backends.redis.server_info import read_facts, read_info, read_lag, read_natives
from redcouch.backends.redis.url import show
from redcouch.backends.redis.usage_store import SYSTEM_KEYS
from redcouch.commands import Dump
from redcouch.errors import BackendError
from redcouch.interfaces import BackendContext
from redcouch.results import ErrorKind, ListedPage

_SUMMED = (
    *("replicas", "memory", "memory_limit", "memory_peak", "evicted", "expired"),
    *("clients", "natives", "operations"),
)
"""What is said of a cluster as the sum over its masters."""

_OF_EACH = ("role", "version", "replicas", "memory", "memory_limit", "operations", "uptime")
"""What is said of each master."""


_COUNTED = {"evictions", "reclaimed"}
"""What of a master's statistics is counted up, and not as it is now."""


class ClusterAdmin(Flushing):
    """See the module. What a node refuses is raised as a L{BackendError}."""

    def __init__(
        self,
        router: Router,
        exchange: SlotExchange,
        codec: ScriptCodec,
        context: BackendContext,
    ) -> None:
        super().__init__(exchange, codec, context)
        self._router = router
        self._count_up = context.count_up

    def _masters(self) -> list[tuple[Address, RedisConnection]]:
        """All masters; raises L{BackendError} where none is known."""
        masters = self._router.masters
        if not masters:
            raise BackendError(ErrorKind.UNAVAILABLE, "storage not reachable")
        return masters

    async def _unlink_all(self, left: bytes = b"") -> None:
        """What is left are slots, as the bits of a number in hex."""
        bits = int(left, 16) if left else (1 << SLOTS) - 1
        slots = {slot for slot in range(SLOTS) if bits >> slot & 1}
        try:
            await self._for_all(slots, b"UNLINK")
        finally:
            self._left = b"%x" % sum(1 << slot for slot in slots)

    async def drop_all_leases(self) -> None:
        """Make every lease on an item that is being filled in void."""
        await self._for_all({*range(SLOTS)}, b"HDEL", LEASE)

    async def _for_all(self, left: set[int], name: bytes, *arguments: bytes) -> None:
        """
        Do something to each item and each lease, on every master: twice, since a slot may be on
        its way, whose keys go one way only; and again to those of slots that have moved meanwhile.
        A key of another type than that is about stays as it is.

        @param left: the slots. Those that are done are taken out, whichever master fails.
        """
        seen_once = set[int]()
        while left:
            table = [*self._router.table]
            failed: dict[RedisConnection | None, BackendError] = {}
            for _, link in self._masters():
                self._router.ask_topology(link)  # it answers that before what is asked behind it
                try:
                    await self._for_all_on(link, left, name, *arguments)
                except BackendError as error:
                    failed[link] = error
            good = [slot for slot in left if table[slot] not in failed]
            same = {slot for slot in good if table[slot] is self._router.table[slot]}
            left -= same & seen_once
            seen_once = same
            if not good:
                raise next(iter(failed.values()))

    async def _for_all_on(
        self, link: RedisConnection, slots: Set[int], name: bytes, *arguments: bytes
    ) -> None:
        cursor = b""
        while True:
            cursor, items = await scan(Exchange(link), self._layout, cursor)
            calls = [
                (slot, pack_command((name, item, *arguments)))
                for item in items
                if (slot := slot_of(item)) in slots
            ]
            for reply in await call_on(self._router, link, calls):
                if not is_wrong_type(reply):
                    check(reply)
            if not cursor:
                return

    async def dump(self, command: Dump) -> ListedPage:
        """
        Some of the items, as they are listed: of one master after the other. The cursor names those
        that are left. Where one of them is none any more, its items are elsewhere.
        """
        masters = {show(address).encode(): link for address, link in self._masters()}
        places, _, bound = command.cursor.partition(b"/")
        left = places.split() or [*masters]
        if not masters.keys() >= {*left}:
            raise BackendError(ErrorKind.UNAVAILABLE, "storage connection lost")
        link = masters[left[0]]
        bound, names = await scan(Exchange(link), self._layout, bound)
        if not bound:
            del left[0]
        further = b"%b/%b" % (b" ".join(left), bound) if left else b""
        keys = [name[len(self._layout.prefix) :] for name in names]
        calls = [
            (slot_of(name), self._codec.pack_inspection(key))
            for name, key in zip(names, keys, strict=True)
        ]
        replies = await call_on(self._router, link, calls)
        return ListedPage(read_page(keys, replies), further, self._now())

    async def statistics(self) -> Mapping[str, int]:
        """
        The sums over all masters that can be asked, and how many there are. What is counted up
        does not go back with one that is away.
        """
        own = (*self._codec.system_keys, *SYSTEM_KEYS)
        table = self._router.table
        answers = await ask_masters(
            self._router,
            lambda link: statistics_commands(
                [key for key in own if table[slot_of(key)] is link],
            ),
        )
        sums: Counter[str] = Counter()
        told: dict[str, dict[str, int]] = {}
        for address, replies in answers.items():
            if not isinstance(replies, BackendError):
                found = read_statistics(replies)
                sums.update(found)
                counts = {name: found[name] for name in _COUNTED & found.keys()}
                at = read_info(replies[0]).get("server_time_usec", "0")
                told[show(address)] = {"at": int(at), **counts}
        if not sums:
            raise BackendError(ErrorKind.UNAVAILABLE, "storage not reachable")
        silent = sum(isinstance(one, BackendError) for one in answers.values())
        return {
            **sums,
            **await maybeDeferred(self._count_up, told),
            "cluster_masters": len(answers),
            "cluster_masters_down": silent,
            "cluster_slots_unserved": self._router.count_slots()[None],
        }

    async def probe_writes(self) -> None:
        """Raises L{BackendError} where one of the masters refuses reads or writes."""
        table = self._router.table
        keys = (b"%b:%d" % (PROBE_KEY, number) for number in count())
        slots = ((slot_of(self._layout.prefix + key), key) for key in keys)
        for _, link in self._masters():
            if any(served is link for served in table):
                slot, key = next(one for one in slots if table[one[0]] is link)
                (reply,) = await call_on(self._router, link, [(slot, self._codec.pack_probe(key))])
                check(reply)

    async def describe(self) -> Mapping[str, Any]:
        """
        What L{IDescribedBackend<redcouch.interfaces.IDescribedBackend>} names: sums over
        all masters that can be asked, what one of them says of the rest, and each by itself.
        """
        slots = self._router.count_slots()
        nodes = []
        all_facts = []
        for address, replies in (
            await ask_masters(self._router, lambda _: [(b"INFO",), CLIENT_LIST])
        ).items():
            node: dict[str, Any] = {"address": show(address), "slots": slots[address]}
            if isinstance(replies, BackendError):
                node["trouble"] = str(replies)
            else:
                info = read_info(check(replies[0]))
                facts = read_facts(info) | read_natives(replies[1])
                all_facts.append(facts)
                node |= {name: facts[name] for name in _OF_EACH if name in facts}
                node["lag"] = read_lag(info)
            nodes.append(node)
        if not all_facts:
            raise BackendError(ErrorKind.UNAVAILABLE, "storage not reachable")
        sums: dict[str, Any] = {"kind": f"{all_facts[0]['kind']} Cluster", "nodes": nodes}
        for name in _SUMMED:
            numbers = [one[name] for one in all_facts if name in one]
            if numbers:
                sums[name] = sum(number for number in numbers if isinstance(number, int))
        return all_facts[0] | sums
