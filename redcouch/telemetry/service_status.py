"""
How a service is at this moment: which processes serve, whether they reach the
storage, and what that says of itself.

What has been counted is in the books (L{redcouch.telemetry.snapshot}); this is what an
operator sees beside them. Whoever shows it asks a L{StatusSource} and need not know
how many processes there are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from redcouch.interfaces import IDescribedBackend, IStorageBackend, ITrafficBackend
from redcouch.telemetry.snapshot import StatsSource
from redcouch.telemetry.usage import KINDS, Usage, UsageSample, read_application
from redcouch.telemetry.write_probe import WriteProbe

Facts = Mapping[str, Any]
"""What L{IDescribedBackend.describe} tells."""

StorageStatistics = Mapping[str, int]
"""What L{IStorageBackend.statistics} tells."""


Traffic = Mapping[str, Any]
"""
The inventory of memcached traffic, fit for JSON: C{since}, C{looked}, C{gap} and C{recorded}
as L{Usage} has them, and by kind the names seen last, each with C{name} (text), C{last} and
C{seconds}, an application also with C{address}, C{user} and C{prefix}; C{known} has how many
there are of each kind. Empty where none is kept.
"""

_MOST = 200
"""Names of each kind that are told."""


@dataclass(slots=True)
class WorkerStatus:
    """
    One process that serves.

    @ivar ready: whether it reaches the storage; C{reason} says why not.
    @ivar connections: its clients.
    @ivar in_flight: those of them that wait for an answer.
    """

    pid: int
    ready: bool
    reason: str
    connections: int
    in_flight: int


@dataclass(slots=True)
class SlotStatus:
    """
    The place of one worker: what it says of itself, C{None} while there is
    none or it does not answer; and how often another had to be started there.
    """

    number: int
    worker_status: WorkerStatus | None
    restarts: int = 0


class StatusSource(Protocol):
    """Where to look."""

    @property
    def stats_source(self) -> StatsSource:
        """The books of the whole service."""

    async def places(self) -> list[SlotStatus]:
        """Every process that serves, or should."""

    async def statistics(self) -> StorageStatistics:
        """The storage's. Raises L{redcouch.errors.BackendError}."""

    async def facts(self) -> Facts:
        """What the storage says of itself. Raises the same."""

    async def traffic(self) -> Traffic:
        """Who speaks memcached. Raises the same."""


@dataclass
class OwnStatus:
    """
    This process alone.

    @ivar _clients: gives how many there are, and how many of them wait.
    @ivar write_probe: looks whether the storage takes writes.
    """

    _backend: IStorageBackend
    stats_source: StatsSource
    _clients: Callable[[], tuple[int, int]]
    write_probe: WriteProbe

    def worker_status(self) -> WorkerStatus:
        """How it is just now."""
        health = self._backend.health()
        trouble = health.reason or self.write_probe.refusal
        ready = health.ready and not trouble
        return WorkerStatus(os.getpid(), ready, trouble, *self._clients())

    async def places(self) -> list[SlotStatus]:
        return [SlotStatus(1, self.worker_status())]

    async def statistics(self) -> StorageStatistics:
        said: Any = await self._backend.statistics()
        return dict(said)

    async def facts(self) -> Facts:
        if not IDescribedBackend.providedBy(self._backend):
            return {}
        said: Any = await self._backend.describe()
        return dict(said)

    async def traffic(self) -> Traffic:
        if not ITrafficBackend.providedBy(self._backend):
            return {}
        return _as_json(await self._backend.traffic())


def _as_json(inventory: Usage) -> Traffic:
    kinds = {kind: [_entry(one) for one in islice(inventory.of(kind), _MOST)] for kind in KINDS}
    known = Counter(one.kind for one in inventory.seen)
    watched = {name: getattr(inventory, name) for name in ("since", "looked", "gap", "recorded")}
    return {**watched, "known": known, **kinds}


def _entry(one: UsageSample) -> dict[str, Any]:
    seen: dict[str, Any] = {"name": _text(one.name), "last": one.last, "seconds": one.seconds}
    if one.kind == "application":
        parts = map(_text, read_application(one.name))
        seen.update(zip(("address", "user", "prefix"), parts, strict=True))
    return seen


def _text(name: bytes) -> str:
    """A name as text in which everything can be seen."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
