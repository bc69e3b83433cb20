"""
What has been counted and who is connected, for one process or for all that serve
together.

Whoever reports asks a L{StatsSource} and need not know how many processes there
are.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from redcouch.telemetry.counters import Counters
from redcouch.telemetry.latency import Distribution, Meter
from redcouch.telemetry.prefixes import PrefixCounts

_LEVELS = frozenset({"cache_bytes"})
"""What the storage's backend says of now, and does not count: a reset leaves it."""


def reset_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """What the storage's backend has counted, from zero."""
    return {name: count if name in _LEVELS else 0 for name, count in counts.items()}


Clients = list[tuple[str, str]]
"""The number and the address of each client."""


@dataclass(slots=True)
class StatsSnapshot:
    """
    What there is to say about a process, or several that are one service.

    @ivar pid: of the process that the operator started.
    @ivar uptime: its seconds since then.
    @ivar user: seconds of CPU time in user mode, of all processes.
    @ivar system: the same in system mode.
    @ivar counters: summed up.
    @ivar spoken: what of them was counted in each dialect, by its name.
    @ivar requests: how long requests took, where that is measured.
    @ivar round_trips: how long the storage took.
    @ivar reconnections: how often the storage was connected to again.
    @ivar storage: what the storage's backend has counted itself, by name.
    @ivar prefixes: gets, hits, sets and deletions by prefix, for C{stats detail}.
    """

    pid: int
    uptime: float
    user: float
    system: float
    counters: Counters
    spoken: dict[str, Counters] = field(default_factory=dict)
    requests: Distribution = field(default_factory=Distribution)
    round_trips: Distribution = field(default_factory=Distribution)
    reconnections: int = 0
    storage: dict[str, int] = field(default_factory=dict)
    prefixes: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, message: dict[str, Any]) -> StatsSnapshot:
        """Figures that came from another process, as C{asdict} makes them."""
        snapshot = cls(**message)
        snapshot.counters = Counters(**message["counters"])
        spoken = message.get("spoken", {})
        snapshot.spoken = {name: Counters(**counters) for name, counters in spoken.items()}
        snapshot.requests = Distribution(**message.get("requests", {}))
        snapshot.round_trips = Distribution(**message.get("round_trips", {}))
        return snapshot

    @property
    def filled(self) -> bool:
        """Whether the storage is filled from another cache."""
        return "warm_hits" in self.storage

    @property
    def warm(self) -> float | None:
        """
        Of the items that were read, the share that the storage had itself;
        C{None} where it is not filled from another cache, or nothing was read.
        """
        hits, pulled = (self.storage.get(name, 0) for name in ("warm_hits", "warm_pulled"))
        return hits / (hits + pulled) if hits + pulled else None

    def add(self, more: StatsSnapshot) -> None:
        """Add those of another process of the same service."""
        self.user += more.user
        self.system += more.system
        self.counters.add(more.counters)
        for name, counters in more.spoken.items():
            self.spoken.setdefault(name, Counters()).add(counters)
        self.requests.add(more.requests)
        self.round_trips.add(more.round_trips)
        self.reconnections += more.reconnections
        for name, count in more.storage.items():
            self.storage[name] = self.storage.get(name, 0) + count
        for prefix, counts in more.prefixes.items():
            before = self.prefixes.get(prefix, [0] * len(counts))
            self.prefixes[prefix] = [sum(pair) for pair in zip(before, counts, strict=True)]

    def reset(self) -> None:
        """Everything that is counted to zero."""
        self.reconnections = 0
        self.storage = reset_counts(self.storage)
        self.prefixes.clear()
        for counters in (self.counters, *self.spoken.values()):
            counters.reset()
        self.requests.reset()
        self.round_trips.reset()

    def retire(self) -> None:
        """The process is no more: what it has counted stays, what was so then is over."""
        self.counters.curr_connections = 0
        self.storage |= dict.fromkeys(_LEVELS & self.storage.keys(), 0)


class StatsSource(Protocol):
    """Where to look up L{StatsSnapshot} and clients."""

    async def snapshot(self) -> StatsSnapshot:
        """What has been counted. Raises L{redcouch.errors.BackendError} where nobody can say."""

    async def clients(self) -> Clients:
        """Who is connected, in no order. Raises the same."""

    async def reset(self) -> None:
        """Count from zero."""

    async def detail(self, on: bool) -> None:
        """Begin or cease to count by prefix."""


class OwnStats:
    """The books of this process alone."""

    def __init__(
        self,
        counters: Counters,
        clients: Callable[[], Iterable[tuple[str, str]]],
        clock: Any,
        spoken: Mapping[str, Counters] | None = None,
        meter: Meter | None = None,
        counts: dict[str, int] | None = None,
        prefixes: PrefixCounts | None = None,
    ) -> None:
        """
        @param counters: what is not counted in C{spoken}.
        @param clients: gives a number and the address of each client.
        @param clock: the reactor.
        @param spoken: counters for each dialect, by its name.
        """
        self._counts = {} if counts is None else counts
        self._prefixes = prefixes or PrefixCounts(b":")
        self._spoken = spoken or {}
        self._meter = meter
        self._counters = counters
        self._clients = clients
        self._clock = clock
        self._started = clock.seconds()

    async def snapshot(self) -> StatsSnapshot:
        uptime = self._clock.seconds() - self._started
        used = resource.getrusage(resource.RUSAGE_SELF)
        snapshot = StatsSnapshot(
            os.getpid(), uptime, used.ru_utime, used.ru_stime, replace(self._counters)
        )
        for name, counters in self._spoken.items():
            snapshot.spoken[name] = replace(counters)
            snapshot.counters.add(counters)
        if self._meter is not None:
            snapshot.requests.add(self._meter.requests)
            snapshot.round_trips.add(self._meter.round_trips)
            snapshot.reconnections = self._meter.reconnections
        snapshot.storage = dict(self._counts)
        snapshot.prefixes = self._prefixes.shown()
        return snapshot

    async def clients(self) -> Clients:
        return list(self._clients())

    async def reset(self) -> None:
        for counters in (self._counters, *self._spoken.values()):
            counters.reset()
        self._counts.update(reset_counts(self._counts))
        self._prefixes.reset()
        if self._meter is not None:
            self._meter.reset()

    async def detail(self, on: bool) -> None:
        self._prefixes.switch(on)
