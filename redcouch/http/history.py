"""
The last hour, for the charts: a point every few seconds, each with what
happened since the one before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from redcouch.telemetry.counters import Counters
from redcouch.telemetry.snapshot import StatsSnapshot

STEP = 3.0
"""Seconds from one point to the next."""

SPAN = 3600.0
"""Seconds that are kept."""

ACTIVE = (
    "cmd_get",
    "cmd_set",
    "cmd_touch",
    "cmd_flush",
    "delete_hits",
    "delete_misses",
    "incr_hits",
    "incr_misses",
    "decr_hits",
    "decr_misses",
    "store_too_large",
)
"""The counters that together say how much clients ask for."""


@dataclass(frozen=True, slots=True)
class Point:
    """
    What happened up to C{time} (UNIX seconds), from the point before on.

    @ivar operations: a second; each key of a get is one.
    @ivar hits: of gets, a second.
    @ivar misses: the same.
    @ivar errors: failures of the storage, a second.
    @ivar median: milliseconds in which half of the requests were answered.
    @ivar slow: those in which 99 of 100 were.
    @ivar storage: milliseconds in which half of the round trips to the storage were done.
    @ivar connections: clients, at the end.
    """

    time: float
    operations: float
    hits: float
    misses: float
    errors: float
    median: float | None
    slow: float | None
    storage: float | None
    connections: int


def asked(counters: Counters) -> int:
    """How much clients have asked for."""
    return sum(getattr(counters, name) for name in ACTIVE)


class History:
    """
    @ivar last_traffic: when a client was last seen to ask for something, in
        UNIX seconds; C{None} if none was.
    @ivar natives: how many connections to the storage were not the service's,
        when that last told; C{None} if it never did.
    """

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=int(SPAN / STEP))
        self._before: tuple[float, StatsSnapshot] | None = None
        self.last_traffic: float | None = None
        self.natives: int | None = None

    def note(self, now: float, snapshot: StatsSnapshot) -> None:
        """Add a point, with what happened since the last time. Now is UNIX seconds."""
        before = self._before
        self._before = (now, snapshot)
        if before is None:
            if asked(snapshot.counters):
                self.last_traffic = now
            return
        then, earlier = before
        if now <= then:  # the clock was set back: begin again from here
            self._points.clear()
            return
        point = _point(now, now - then, earlier, snapshot)
        if point.operations:
            self.last_traffic = now
        self._points.append(point)

    def since(self, time: float) -> list[dict[str, Any]]:
        """The points after this time, oldest first."""
        return [asdict(point) for point in self._points if point.time > time]

    @property
    def last(self) -> Point | None:
        """The latest point."""
        return self._points[-1] if self._points else None


def _point(now: float, seconds: float, earlier: StatsSnapshot, snapshot: StatsSnapshot) -> Point:
    then, counters = earlier.counters, snapshot.counters

    def rate(grown: int) -> float:
        return round(max(0, grown) / seconds, 2)  # a reset sets them back

    requests = snapshot.requests.since(earlier.requests)
    return Point(
        time=round(now, 3),
        operations=rate(asked(counters) - asked(then)),
        hits=rate(counters.get_hits - then.get_hits),
        misses=rate(counters.get_misses - then.get_misses),
        errors=rate(counters.storage_errors - then.storage_errors),
        median=_milliseconds(requests.quantile(0.5)),
        slow=_milliseconds(requests.quantile(0.99)),
        storage=_milliseconds(snapshot.round_trips.since(earlier.round_trips).quantile(0.5)),
        connections=counters.curr_connections,
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
