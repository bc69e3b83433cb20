"""
How long things take: some of the requests, and the round trips to the storage.

One L{Meter} is made where somebody looks at it, and costs nothing elsewhere. A
clock read twice for each request would be seen in the CPU time, so one batch of
requests in seven is measured, at changing distances: clients that take turns
are measured all alike.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

BOUNDS = (
    0.0001,
    0.0002,
    0.0003,
    0.0005,
    0.00075,
    0.001,
    0.0015,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
)
"""Upper bounds of the buckets, in seconds. One more is for what takes longer."""

_DISTANCES = (5, 8, 6, 9, 7)
"""Batches from one that is measured to the next, in turn."""

Perform = Callable[[Sequence[Any], Callable[[Any], None]], None]
"""What L{IDirectBackend.perform<redcouch.interfaces.IDirectBackend.perform>} is."""


@dataclass(slots=True)
class Distribution:
    """
    How often things took how long.

    @ivar counts: for each of L{BOUNDS}, how many took no longer than that but
        longer than the one before; and how many took longer than all.
    @ivar seconds: summed up.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        """Note one. (A clock that is set back makes it none at all.)"""
        seconds = max(0.0, seconds)
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def add(self, more: Distribution) -> None:
        """Note all of another."""
        self.counts = [one + other for one, other in zip(self.counts, more.counts, strict=True)]
        self.seconds += more.seconds

    def since(self, before: Distribution) -> Distribution:
        """
        What was noted after this, an earlier state of the same, was taken. All
        of it where that is no earlier state, as after a reset.
        """
        counts = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        if min(counts) < 0:
            return self
        return Distribution(counts, self.seconds - before.seconds)

    def quantile(self, share: float) -> float | None:
        """
        The seconds within which this share was done, as near as the buckets
        tell; C{None} if nothing was noted.
        """
        wanted = share * sum(self.counts)
        if not wanted:
            return None
        below = 0
        for index, count in enumerate(self.counts[:-1]):
            if below + count >= wanted:
                lower = BOUNDS[index - 1] if index else 0.0
                return lower + (BOUNDS[index] - lower) * (wanted - below) / count
            below += count
        return BOUNDS[-1]

    def reset(self) -> None:
        """Begin anew."""
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0


class Meter:
    """
    @ivar requests: from when a batch of requests is given to the storage until
        its replies are written.
    @ivar round_trips: from when the storage is asked until it answers.
    @ivar reconnections: how often the storage was connected to again.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """@param clock: gives seconds."""
        self.requests = Distribution()
        self.round_trips = Distribution()
        self.reconnections = 0
        self._clock = clock

    def around(self, perform: Perform) -> Perform:
        """The same, with some of its batches measured."""
        clock = self._clock
        observe = self.requests.observe
        distances = cycle(_DISTANCES)
        left = 1

        def measured(commands: Sequence[Any], answer: Callable[[Any], None]) -> None:
            nonlocal left
            left -= 1
            if left:
                perform(commands, answer)
                return
            left = next(distances)
            begin = clock()

            def answer_and_note(results: Any) -> None:
                answer(results)
                observe(clock() - begin)

            perform(commands, answer_and_note)

        return measured

    def reset(self) -> None:
        """Begin anew, as C{stats reset} does."""
        self.requests.reset()
        self.round_trips.reset()
        self.reconnections = 0
