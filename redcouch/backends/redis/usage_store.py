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
from typing import Any, Protocol

from twisted.logger import Logger

from redcouch.backends.redis.layout import SYSTEM_PREFIX
from redcouch.backends.redis.replies import check, failed_by
from redcouch.results import ErrorKind
from redcouch.telemetry.usage import KINDS, MOST, Usage, UsageSample

ROOT = SYSTEM_PREFIX + b"traffic"

_LONGEST_NUMBER = 11
"""Digits of a UNIX time for the next thousand years."""


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


class Asks(Protocol):
    """Asks Redis; on a cluster, the node that has the key."""

    async def ask(self, *command: bytes) -> Any:
        """One command's reply. Raises C{BackendError} where there is none, or an error."""

    async def ask_all(self, commands: Sequence[tuple[bytes, ...]]) -> Sequence[Any]:
        """The replies to several commands, each about one key, errors of Redis among them."""


class UsageStore:
    """The inventory beside the items. What fails raises a C{BackendError}."""

    _log = Logger()

    def __init__(self, exchange: Asks) -> None:
        self._exchange = exchange
        self._told: set[bytes] = set()

    async def keep(self, seen: Sequence[UsageSample], now: int) -> None:
        """Add what was seen. Of a kind that has become too large, what was seen last stays."""
        replies = [*map(check, await self._exchange.ask_all(commands_noting(seen, now)))]
        for kind, size in zip(KINDS, replies[-len(KINDS) :], strict=True):
            if size > MOST:
                fields = _fields(await self._exchange.ask(b"HGETALL", key_of(kind)))
                names = oldest(fields, MOST * 4 // 5)
                keys = (key_of(kind), seconds_key_of(kind))
                await self._exchange.ask_all([(b"HDEL", key, *names) for key in keys])

    async def read(self) -> Usage:
        """All that has been kept. What makes no sense there is told once, and passed over."""
        replies = await self._exchange.ask_all([(b"HGETALL", key) for key in SYSTEM_KEYS])
        for key, reply in zip(SYSTEM_KEYS, replies, strict=True):
            if failed_by(reply).trouble is ErrorKind.WRONG_TYPE:
                self._tell(key)
            else:
                check(reply)
        hashes = [*map(_fields, replies)]
        root, *kinds = (dict(zip(said[::2], said[1::2], strict=True)) for said in hashes)
        for key, hash_ in zip(SYSTEM_KEYS, (root, *kinds), strict=True):
            if not all(map(is_number, hash_.values())):
                self._tell(key)
        last = dict(zip(KINDS, kinds[: len(KINDS)], strict=True))
        return read_inventory(root, last, dict(zip(KINDS, kinds[len(KINDS) :], strict=True)))

    def _tell(self, key: bytes) -> None:
        if key not in self._told:
            self._told.add(key)
            self._log.warn(
                "What stands at {key} in Redis makes no sense as part of the inventory of traffic. "
                "It is passed over; delete it to begin anew",
                key=key.decode(),
            )


def commands_noting(seen: Sequence[UsageSample], now: int) -> list[tuple[bytes, ...]]:
    """The commands that note what was seen, each about one key; the last ask for sizes."""
    commands: list[tuple[bytes, ...]] = [
        (b"HSETNX", ROOT, b"since", b"%d" % now),
        (b"HSET", ROOT, b"looked", b"%d" % now),
    ]
    for one in seen:
        commands.append((b"HSET", key_of(one.kind), one.name, b"%d" % one.last))
        commands.append((b"HINCRBY", seconds_key_of(one.kind), one.name, b"%d" % one.seconds))
    return commands + [(b"HLEN", key_of(kind)) for kind in KINDS]


def oldest(fields: Sequence[bytes], keep: int) -> list[bytes]:
    """Of a kind's hash, as HGETALL gives it: all names but those seen last."""
    seen = zip(map(_number, fields[1::2]), fields[::2], strict=True)
    names = sorted(seen, key=lambda one: one[0] or 0)
    return [name for _, name in names[: max(0, len(names) - keep)]]


def _fields(reply: Any) -> list[bytes]:
    """Names and values of a hash, one after the other; RESP3 has them as pairs."""
    if isinstance(reply, dict):
        return [word for pair in reply.items() for word in pair]
    return reply if isinstance(reply, list) else []


def is_number(field: bytes) -> bool:
    """Whether a field is a UNIX time, or a number of seconds."""
    return field.isdigit() and len(field) <= _LONGEST_NUMBER


def _number(field: bytes | None) -> int | None:
    return int(field) if field is not None and is_number(field) else None


def read_inventory(
    root: Mapping[bytes, bytes],
    last: Mapping[str, Mapping[bytes, bytes]],
    seconds: Mapping[str, Mapping[bytes, bytes]],
) -> Usage:
    """
    The hashes of Redis as an inventory. Without sense in C{since} nobody has
    looked; a name without sense was seen when somebody looked last.
    """
    since = _number(root.get(b"since"))
    looked = since if (found := _number(root.get(b"looked"))) is None else found
    if since is None:
        looked = None
    seen = [
        UsageSample(
            kind,
            name,
            (looked or 0) if (at := _number(when)) is None else at,
            _number(seconds.get(kind, {}).get(name)) or 0,
        )
        for kind, names in last.items()
        for name, when in names.items()
    ]
    seen.sort(key=lambda one: one.last, reverse=True)
    return Usage(since, looked, seen)
