"""
How the inventory of memcached traffic stands in Redis.

One hash for each kind of name, C{redcouch:sys:traffic:<kind>}, has for each
name when it was last seen (UNIX time in seconds), and one at
C{redcouch:sys:traffic:<kind>:seconds} in how many seconds it was seen. The hash
C{redcouch:sys:traffic} has C{since}, when the first look was taken, and
C{looked}, when the last was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redcouch.backends.redis.exchange import Exchange
from redcouch.backends.redis.layout import SYSTEM_PREFIX
from redcouch.backends.redis.replies import check
from redcouch.backends.redis.resp import pack_command
from redcouch.errors import BackendError
from redcouch.results import Trouble
from redcouch.telemetry.usage import KINDS, MOST, Inventory, Seen

ROOT = SYSTEM_PREFIX + b"traffic"


def key_of(kind: str) -> bytes:
    """The Redis key with when each name of a kind was last seen."""
    return b"%b:%b" % (ROOT, kind.encode())


def seconds_key_of(kind: str) -> bytes:
    """The Redis key with in how many seconds each was seen."""
    return key_of(kind) + b":seconds"


SYSTEM_KEYS = (
    ROOT,
    *(key_of(kind) for kind in KINDS),
    *(seconds_key_of(kind) for kind in KINDS),
)
"""Every key of the inventory."""


class UsageStore:
    """The inventory in one Redis. Each of these raises L{BackendError}."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def keep(self, seen: Sequence[Seen], now: int) -> None:
        """Add what was seen. Of a kind that has become too large, what was seen last stays."""
        replies = [*map(check, await self._exchange.send(*pack_seen(seen, now)))]
        for kind, size in zip(KINDS, replies[-len(KINDS) :], strict=True):
            if size > MOST:
                fields = await self._exchange.ask(b"HGETALL", key_of(kind))
                await self._exchange.send(*pack_forget(kind, oldest(fields, MOST * 4 // 5)))

    async def read(self) -> Inventory:
        """All that has been kept."""
        replies = [*map(check, await self._exchange.send(*pack_questions()))]
        try:
            return read_answers(replies)
        except (TypeError, ValueError):
            raise BackendError(Trouble.UNREADABLE, "the inventory is damaged") from None


def pack_seen(seen: Sequence[Seen], now: int) -> tuple[bytes, int]:
    """The commands that note what was seen, and how many there are; the last are sizes."""
    commands: list[tuple[bytes, ...]] = [
        (b"HSETNX", ROOT, b"since", b"%d" % now),
        (b"HSET", ROOT, b"looked", b"%d" % now),
    ]
    for one in seen:
        commands.append((b"HSET", key_of(one.kind), one.name, b"%d" % one.last))
        commands.append((b"HINCRBY", seconds_key_of(one.kind), one.name, b"%d" % one.seconds))
    commands += [(b"HLEN", key_of(kind)) for kind in KINDS]
    return b"".join(map(pack_command, commands)), len(commands)


def pack_questions() -> tuple[bytes, int]:
    """The commands that ask for the whole inventory, and how many there are."""
    return b"".join(pack_command((b"HGETALL", key)) for key in SYSTEM_KEYS), len(SYSTEM_KEYS)


def read_answers(replies: Sequence[Sequence[bytes]]) -> Inventory:
    """Their replies, as an inventory. Raises ValueError where they are damaged."""
    root, *kinds = (dict(zip(said[::2], said[1::2], strict=True)) for said in replies)
    last = dict(zip(KINDS, kinds[: len(KINDS)], strict=True))
    seconds = dict(zip(KINDS, kinds[len(KINDS) :], strict=True))
    return read_inventory(root, last, seconds)


def pack_forget(kind: str, names: Sequence[bytes]) -> tuple[bytes, int]:
    """The commands that forget names of a kind."""
    keys = (key_of(kind), seconds_key_of(kind))
    return b"".join(pack_command((b"HDEL", key, *names)) for key in keys), len(keys)


def oldest(fields: Sequence[bytes], keep: int) -> list[bytes]:
    """Of a kind's hash, as HGETALL gives it: all names but those seen last."""
    names = sorted(zip(fields[1::2], fields[::2], strict=True), key=lambda one: int(one[0]))
    return [name for _, name in names[: max(0, len(names) - keep)]]


def read_inventory(
    root: Mapping[bytes, bytes],
    last: Mapping[str, Mapping[bytes, bytes]],
    seconds: Mapping[str, Mapping[bytes, bytes]],
) -> Inventory:
    """
    The hashes of Redis as an inventory. Raises ValueError where they are damaged.
    """
    seen = [
        Seen(kind, name, int(when), int(seconds.get(kind, {}).get(name, b"0")))
        for kind, names in last.items()
        for name, when in names.items()
    ]
    seen.sort(key=lambda one: one.last, reverse=True)
    since, looked = root.get(b"since"), root.get(b"looked")
    return Inventory(
        None if since is None else int(since), None if looked is None else int(looked), seen
    )
