"""
How the inventory of memcached traffic stands in Redis.

One hash for each kind of name, C{redcouch:sys:traffic:<kind>}, has for each
name when it was last seen (UNIX time in seconds), and one at
C{redcouch:sys:traffic:<kind>:seconds} in how many seconds it was seen. The hash
C{redcouch:sys:traffic} has for each process that watches since when, and until when
(milliseconds). All times are by the clock of Redis, which processes and commands share.

Redis may evict any key, or an operator delete it. So the hash of a kind tells in a field of its
own since when it is there: from silence before that nobody concludes anything. Another one tells
when one was seen last of those names that are not kept, as there were too many.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from twisted.logger import Logger

from redcouch.backends.redis.layout import SYSTEM_PREFIX
from redcouch.backends.redis.replies import check, is_wrong_type, read_hash, unexpected
from redcouch.backends.redis.scripts import NOTE, WATCH
from redcouch.telemetry.usage import KINDS, LAPSE, LEFT_OUT, MOST, SEPARATOR, Usage, UsageSample

ROOT = SYSTEM_PREFIX + b"traffic"

RECORDED = b"\nsince"
"""The field with when a kind's hash was made; no name of a client or a user, nor a prefix."""

_OWN = (RECORDED, LEFT_OUT)

_NOTED = (*KINDS, SEPARATOR)

_LONGEST_NUMBER = 11
"""Digits of a UNIX time for the next thousand years."""

_STRETCH = re.compile(rb"([0-9]{1,14}) ([0-9]{1,14})")

_EARLIER = (b"since", b"looked")
"""Fields that an earlier RedCouch may have left, which say nothing of gaps."""


def key_of(kind: str) -> bytes:
    """The Redis key with when each name of a kind was last seen."""
    return b"%b:%b" % (ROOT, kind.encode())


def seconds_key_of(kind: str) -> bytes:
    """The Redis key with in how many seconds each was seen."""
    return key_of(kind) + b":seconds"


SYSTEM_KEYS = (
    ROOT,
    *(key_of(kind) for kind in _NOTED),
    *(seconds_key_of(kind) for kind in _NOTED),
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
        self._process = secrets.token_hex(8).encode()
        self._began: float | None = None

    async def keep(self, seen: Sequence[UsageSample], now: float) -> None:
        """
        Add what was seen, and that this process watches. Of a kind that has become too
        large, what was seen last stays, and when the last of the others was.

        @param now: the time by the clock that C{seen} was noted by.
        """
        self._began = now if self._began is None else self._began
        before = now - self._began  # in which Redis may have been away
        known = (LAPSE, before if 0 <= before <= LAPSE else 0)
        arguments = [b"%d" % int(seconds * 1000) for seconds in known]
        clock = await self._exchange.ask(b"EVAL", WATCH, b"1", ROOT, self._process, *arguments)
        if not (isinstance(clock, bytes) and clock.isdigit()):
            raise unexpected(clock)
        commands = commands_noting(seen, int(clock) / 1000, int(clock) / 1000 - now)
        replies = [*map(check, await self._exchange.ask_all(commands))]
        sizes = dict(zip((ROOT, *map(key_of, _NOTED)), replies[-len(_NOTED) - 1 :], strict=True))
        for key, size in sizes.items():
            if size > MOST + len(_OWN):
                fields = read_hash(await self._exchange.ask(b"HGETALL", key))
                names = oldest(fields, MOST * 4 // 5)
                if not names:  # another process has just done so
                    continue
                keys = (key,) if key == ROOT else (key, key + b":seconds")
                if key != ROOT:
                    last = _last(fields[names[-1]])
                    await self._exchange.ask(b"EVAL", NOTE, b"1", key, LEFT_OUT, b"%d" % last)
                await self._exchange.ask_all([(b"HDEL", key, *names) for key in keys])

    async def read(self) -> Usage:
        """All that has been kept. What makes no sense there is told once, and passed over."""
        replies = await self._exchange.ask_all([(b"HGETALL", key) for key in SYSTEM_KEYS])
        usage = read_replies(replies, check)
        for key in usage.senseless:
            if key not in self._told:
                self._told.add(key)
                self._log.warn("{text}", text=tell_senseless(key))
        return usage


def tell_senseless(key: bytes) -> str:
    """What is wrong with this key, and what to do."""
    return (
        f"What stands at {key.decode()} in Redis makes no sense as part of the inventory of "
        "traffic, and is passed over: delete it to begin anew"
    )


def read_replies(replies: Sequence[Any], check: Callable[[Any], Any]) -> Usage:
    """
    What is said of C{SYSTEM_KEYS} by HGETALL, as an inventory.

    @param check: raises an error that has nothing to do with the type of a key.
    """
    hashes = {}
    senseless = []
    for key, reply in zip(SYSTEM_KEYS, replies, strict=True):
        wrong = is_wrong_type(reply)
        hashes[key] = found = {} if wrong else read_hash(check(reply))
        is_sensible = is_number if key != ROOT else _STRETCH.fullmatch
        told = [said for name, said in found.items() if key != ROOT or name not in _EARLIER]
        if wrong or not all(map(is_sensible, told)):
            senseless.append(key)
    return replace(read_inventory(hashes), senseless=senseless)


def commands_noting(
    seen: Sequence[UsageSample], now: float, ahead: float
) -> list[tuple[bytes, ...]]:
    """
    The commands that note what was seen, each about one key; the last ask for sizes.

    @param now: by the clock of Redis, which is C{ahead} of the one that C{seen} was noted by.
    """
    begun = b"%d" % math.ceil(now)
    commands = [(b"HSETNX", key_of(kind), RECORDED, begun) for kind in _NOTED]
    notes: dict[str, list[bytes]] = {}
    for one in seen:
        last = b"%d" % max(0, round(one.last + ahead))
        notes.setdefault(one.kind, []).extend((one.name, last))
        commands.append((b"HINCRBY", seconds_key_of(one.kind), one.name, b"%d" % one.seconds))
    return [
        *commands,
        *((b"EVAL", NOTE, b"1", key_of(kind), *words) for kind, words in notes.items()),
        *((b"HLEN", key) for key in (ROOT, *map(key_of, _NOTED))),
    ]


def oldest(fields: Mapping[bytes, bytes], keep: int) -> list[bytes]:
    """Of a hash: all names but those seen last."""
    seen = {name: _last(said) for name, said in fields.items() if name not in _OWN}
    return sorted(seen, key=seen.__getitem__)[: max(0, len(seen) - keep)]


def _last(said: bytes) -> int:
    """When that was: of a number itself, of a stretch of time its end; long ago, of neither."""
    stretch = _STRETCH.fullmatch(said)
    return int(stretch[2]) if stretch else _number(said) or 0


def is_number(field: bytes) -> bool:
    """Whether a field is a UNIX time, or a number of seconds."""
    return field.isdigit() and len(field) <= _LONGEST_NUMBER


def _number(field: bytes | None) -> int | None:
    return int(field) if field is not None and is_number(field) else None


def read_inventory(hashes: Mapping[bytes, Mapping[bytes, bytes]]) -> Usage:
    """
    The hashes of Redis, by their keys, as an inventory. Where none makes sense of who has
    watched, nobody has; a name without sense was seen when somebody looked last.
    """
    stretches = map(_STRETCH.fullmatch, hashes.get(ROOT, {}).values())
    since, looked, gap = unbroken(
        (int(one[1]) / 1000, int(one[2]) / 1000) for one in stretches if one is not None
    )
    own: dict[bytes, dict[str, int]] = {name: {} for name in _OWN}
    seen = []
    for kind in _NOTED:
        seconds = hashes.get(seconds_key_of(kind), {})
        for name, when in hashes.get(key_of(kind), {}).items():
            at = _number(when)
            if name not in own:
                last = int(looked or 0) if at is None else at
                seen.append(UsageSample(kind, name, last, _number(seconds.get(name)) or 0))
            elif at is not None:
                own[name][kind] = at
    seen.sort(key=lambda one: one.last, reverse=True)
    return Usage(since, looked, gap, own[RECORDED], seen, own[LEFT_OUT])


def unbroken(
    stretches: Iterable[tuple[float, float]],
) -> tuple[float | None, float | None, tuple[float, float] | None]:
    """
    From when on, and until when, somebody has watched at every moment, as far back as
    that goes from the last look; and when nobody had before. Stretches are of one process each.
    """
    since = looked = None
    for begun, ended in sorted(stretches, key=lambda one: one[1], reverse=True):
        if since is None:
            since, looked = begun, ended
        elif ended < since:
            return since, looked, (ended, since)
        else:
            since = min(since, begun)
    return since, looked, None
