"""
What concerns all items of a Redis, or Redis itself: flushing, listing, statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redcouch.backends.redis.exchange import Exchange
from redcouch.backends.redis.flushing import Flushing
from redcouch.backends.redis.layout import Layout
from redcouch.backends.redis.replies import check, unexpected
from redcouch.backends.redis.script_codec import read_listed
from redcouch.backends.redis.server_info import read_facts, read_info, read_natives
from redcouch.backends.redis.usage_store import SYSTEM_KEYS
from redcouch.commands import Dump
from redcouch.errors import BackendError
from redcouch.limits import MAX_KEY
from redcouch.results import ErrorKind, Listed, ListedPage

_SCAN_STEP = b"500"


class RedisAdmin(Flushing):
    """See the module. What Redis refuses is raised as a L{BackendError}."""

    _asks: Exchange

    async def _unlink_all(self, left: bytes = b"") -> None:
        cursor = b""
        while True:
            cursor, items = await scan(self._asks, self._layout, cursor)
            if items:
                keys = [key for item in items for key in self._layout.keys_of_item(item)]
                await self._asks.ask(b"UNLINK", *keys)
            if not cursor:
                return

    # -- listing -----------------------------------------------------------------------------

    async def dump(self, command: Dump) -> ListedPage:
        """Some of the items, as they are listed."""
        further, names = await scan(self._asks, self._layout, command.cursor)
        keys = [name[len(self._layout.prefix) :] for name in names]
        replies = await self._asks.run([*map(self._codec.pack_inspection, keys)])
        return ListedPage(read_page(keys, replies), further, self._now())

    # -- statistics --------------------------------------------------------------------------

    async def statistics(self) -> Mapping[str, int]:
        """As of Redis's own INFO: of the whole server, but for the number of keys."""
        own = (*self._codec.system_keys, *SYSTEM_KEYS)
        return read_statistics(await self._asks.ask_all(statistics_commands(own)))

    async def probe_writes(self) -> None:
        """Raises L{BackendError} where Redis refuses reads or writes."""
        (reply,) = await self._asks.run([self._codec.pack_probe(PROBE_KEY)])
        check(reply)

    async def describe(self) -> Mapping[str, str | int]:
        """What L{IDescribedBackend<redcouch.interfaces.IDescribedBackend>} names."""
        facts = read_facts(read_info(await self._asks.ask(b"INFO")))
        (listed,) = await self._asks.ask_all([CLIENT_LIST])
        return facts | read_natives(listed)


PROBE_KEY = b"write_probe".ljust(MAX_KEY + 1, b"-")
"""Longer than any client's key."""

CLIENT_LIST = (b"CLIENT", b"LIST")


async def scan(exchange: Exchange, layout: Layout, bound: bytes) -> tuple[bytes, list[bytes]]:
    """
    Some keys of one Redis that are items, and the cursor to go on with, C{b""} at the end.

    The cursor stands behind what tells the connection. To a Redis that was started again, or is
    the master now, it means nothing, and keys would be left out: then this raises L{BackendError}.
    """
    begun, _, cursor = bound.rpartition(b".")
    where = (b"MATCH", layout.pattern, b"COUNT", _SCAN_STEP, *layout.scan_options)
    cursor, names = read_scanned(layout, await exchange.ask(b"SCAN", cursor or b"0", *where))
    now = b"%d" % exchange.link.times_connected
    if begun not in (b"", now):
        raise BackendError(ErrorKind.UNAVAILABLE, "storage connection lost")
    return cursor and b"%b.%b" % (now, cursor), names


def read_scanned(layout: Layout, reply: Any) -> tuple[bytes, list[bytes]]:
    """
    Those keys of a reply to SCAN that are items, and the cursor to go on with, C{b""} at the
    end. Raises L{BackendError}.
    """
    match reply:
        case [bytes() as cursor, list() as keys]:
            return (b"" if cursor == b"0" else cursor), [*filter(layout.is_item, keys)]
    raise unexpected(reply)


def read_page(keys: Sequence[bytes], replies: Sequence[Any]) -> list[Listed]:
    """
    Inspected items, by their keys without prefix. A key of another type, or one that is no
    item, has no place in the list.
    """
    listed = [
        read_listed(key, fields)
        for key, fields in zip(keys, replies, strict=True)
        if isinstance(fields, list)
    ]
    return [item for item in listed if isinstance(item, Listed)]


def statistics_commands(own: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """
    The commands that ask one Redis for statistics.

    @param own: keys of this Redis that are no items and may be there. They are counted in the
        same go as all: one that came in between would be taken off without having been counted.
    """
    there = [(b"EXISTS", key) for key in own]
    return [(b"INFO",), (b"DBSIZE",), *there]


def read_statistics(replies: Sequence[Any]) -> dict[str, int]:
    """Their replies, under memcached's names."""
    info, size, *own = replies
    facts = read_info(info)
    found = {
        name: int(facts[there])
        for name, there in (
            ("bytes", "used_memory"),
            ("limit_maxbytes", "maxmemory"),
            ("evictions", "evicted_keys"),
            ("reclaimed", "expired_keys"),
        )
        if facts.get(there, "").isdigit()
    }
    if isinstance(size, int):
        there = sum(reply for reply in own if isinstance(reply, int))
        found["curr_items"] = max(0, size - there)
    if not found.get("limit_maxbytes") and facts.get("total_system_memory", "").isdigit():
        found["limit_maxbytes"] = int(facts["total_system_memory"])  # no limit but this
    return found
