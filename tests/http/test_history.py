"""The last hour: rates from one point to the next."""

from __future__ import annotations

from redcouch.http.history import SPAN, STEP, History
from redcouch.telemetry.counters import Counters
from redcouch.telemetry.latency import Distribution
from redcouch.telemetry.snapshot import StatsSnapshot


def snapshot(**counted: int) -> StatsSnapshot:
    """Figures with these counters."""
    return StatsSnapshot(1, 0.0, 0.0, 0.0, Counters(**counted))


def test_rates() -> None:
    """A point has what happened since the one before, a second."""
    history = History()
    history.note(100.0, snapshot(cmd_get=50, get_hits=50))
    assert history.last is None
    later = snapshot(
        cmd_get=110, get_hits=90, get_misses=20, cmd_set=4, storage_errors=2, curr_connections=7
    )
    later.requests.observe(0.004)
    history.note(102.0, later)
    point = history.last
    assert point is not None
    assert (point.operations, point.hits, point.misses, point.errors) == (32, 20, 10, 1)
    assert point.connections == 7
    assert (point.median, point.storage) == (4.0, None)


def test_a_reset() -> None:
    """After C{stats reset} nothing is negative, and times begin anew."""
    history = History()
    before = snapshot(cmd_get=50)
    before.requests.observe(0.004)
    history.note(100.0, before)
    history.note(103.0, snapshot(cmd_get=3))
    assert history.last is not None
    assert history.last.operations == 0
    assert history.last.median is None


def test_a_clock_that_is_set_back() -> None:
    """It begins again from there."""
    history = History()
    history.note(97.0, snapshot())
    history.note(100.0, snapshot())
    history.note(50.0, snapshot(cmd_get=10))
    assert history.last is None
    history.note(60.0, snapshot(cmd_get=20))
    assert history.last is not None
    assert history.last.operations == 1


def test_bounded() -> None:
    """An hour is kept, and no more."""
    history = History()
    for number in range(2 * int(SPAN / STEP)):
        history.note(number * STEP, snapshot(cmd_get=number))
    points = history.since(0)
    assert len(points) == SPAN / STEP
    assert [point["time"] for point in points] == sorted(point["time"] for point in points)
    assert history.since(points[-3]["time"]) == points[-2:]


def test_last_traffic() -> None:
    """When somebody asked for something; watching is none."""
    history = History()
    history.note(100.0, snapshot(total_connections=1, bytes_read=10))
    history.note(103.0, snapshot(total_connections=2, bytes_read=20))
    assert history.last_traffic is None
    history.note(106.0, snapshot(incr_misses=1))
    history.note(109.0, snapshot(incr_misses=1))
    assert history.last_traffic == 106.0
    late = History()
    late.note(100.0, snapshot(cmd_get=1))
    assert late.last_traffic == 100.0


def test_distributions_are_not_shared() -> None:
    """Each figure has its own."""
    one, other = snapshot(), snapshot()
    one.requests.observe(1.0)
    assert other.requests == Distribution()
