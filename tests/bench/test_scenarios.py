"""What is measured, and with whom."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from bench.items import by_last_use, draw
from bench.names import CACHED, CLUSTER, REDCOUCH, USUAL
from bench.peers import STARTERS
from bench.report import GOAL_COLUMNS
from bench.scenarios import QUICK, SCENARIOS, WITH_GOALS, Figure, Goal, select
from redcouch.backends.cached.table import OVERHEAD
from redcouch.urls import read_size
from redcouch.value_lines import tell_item

pytestmark = pytest.mark.once


def test_names() -> None:
    """Each is there once, and all that is named is there."""
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    assert {*QUICK, *WITH_GOALS} <= set(names)
    assert {peer for scenario in SCENARIOS for peer in scenario.peers} == set(STARTERS)


def test_every_goal_has_its_column() -> None:
    """No goal is set that the report does not show, nor for a peer that is not measured."""
    for scenario in SCENARIOS:
        for goal in scenario.goals:
            assert (goal.peer, goal.base, goal.figure) in GOAL_COLUMNS.values()
            assert {goal.peer, goal.base} <= set(scenario.peers)


def test_goals() -> None:
    """Throughput is to be as much at least, CPU as little at most."""
    least = Goal(CACHED, REDCOUCH, Figure.THROUGHPUT, 0.5)
    most = Goal(CACHED, REDCOUCH, Figure.BACKEND_CPU, 0.5)
    assert [least.met(ratio) for ratio in (0.4, 0.5, 0.6)] == [False, True, True]
    assert [most.met(ratio) for ratio in (0.4, 0.5, 0.6)] == [True, True, False]


def test_patterns() -> None:
    """In the order of the table, whatever the order of the patterns."""
    chosen = [scenario.name for scenario in select(["zipf-9?", "mget-20"])]
    assert chosen == ["mget-20", "zipf-90", "zipf-99"]
    with pytest.raises(ValueError, match=r"no scenario is called 'nothing-\*'"):
        select(["mget-20", "nothing-*"])


def test_peers() -> None:
    """What is there for certain peers is not measured where these are not among those named."""
    (usual,) = select(["mget-20"])
    (cluster,) = select(["cluster-mget-20"])
    assert usual.peers_among(None) == USUAL
    assert usual.peers_among((CLUSTER,)) == (CLUSTER,)
    assert CLUSTER in cluster.peers_among(None)
    assert cluster.peers_among((REDCOUCH,)) == ()
    assert cluster.peers_among((REDCOUCH, CLUSTER)) == (REDCOUCH, CLUSTER)


@pytest.mark.parametrize(("name", "share"), [("zipf-50", 0.5), ("zipf-90", 0.9), ("zipf-99", 0.99)])
def test_hit_rates(name: str, share: float) -> None:
    """A cache with this bound, in which the least recently used goes, has about these hits."""
    (scenario,) = select([name])
    room = read_size(scenario.cache)
    assert room is not None
    keys = scenario.shared_keys
    lines = tell_item(bytes(32), bytes(scenario.value_size), 0)
    fits = room // (OVERHEAD + 32 + len(lines))
    kept = OrderedDict.fromkeys(by_last_use(keys, seed=0)[-fits:])
    hits, count = 0, 200_000
    for key in draw(keys, count, seed=0):
        hits += key in kept
        kept[key] = None
        kept.move_to_end(key)
        if len(kept) > fits:
            kept.popitem(last=False)
    assert hits / count == pytest.approx(share, abs=0.05)
