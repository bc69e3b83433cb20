"""What is made of the measurements."""

from __future__ import annotations

import json

import pytest

from bench import memcaslap
from bench.loads import Outcome
from bench.names import CACHED, MEMCACHED, REDCOUCH, TWEMPROXY
from bench.report import as_json, as_markdown
from bench.results import Measurement, ProcessUse, Report
from bench.scenarios import select

pytestmark = pytest.mark.once


def use(name: str, cpu: float) -> ProcessUse:
    return ProcessUse(name, cpu, 0.5, 10 << 20)


def run(scenario: str, peer: str, rate: float, behind: float = 0.0, *problems: str) -> Measurement:
    """One run of so many requests a second, and what each cost the server's backend."""
    return Measurement(
        scenario=scenario,
        peer=peer,
        round=1,
        outcome=Outcome(rate, rate, 100.0, 200.0),
        server=use(peer, 10.0),
        backend=use("behind", behind) if behind else None,
        generator_cores=0.5,
        foreign_cores=0.0,
        problems=problems,
        hit_share=0.9 if peer == CACHED else None,
    )


def goals(*measurements: Measurement) -> list[list[str]]:
    """The cells of the table of goals."""
    names = list(dict.fromkeys(measurement.scenario for measurement in measurements))
    report = Report({}, {}, select(names), list(measurements))
    text = as_markdown(report).partition("## Goals\n")[2].partition("##")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def test_goals_of_throughput() -> None:
    """Each ratio stands beside its goal, and those that are not reached are marked."""
    assert goals(
        run("mget-20", MEMCACHED, 1000.0),
        run("mget-20", TWEMPROXY, 800.0, 5.0),
        run("mget-20", REDCOUCH, 400.0, 20.0),
        run("mget-20", CACHED, 1200.0, 2.0),
    ) == [
        [
            "multi-get of 20 keys, 100 B",
            "0.50 (goal 0.8, **missed**)",
            "0.40 (goal 0.45, **missed**)",
            "1.00 (goal 1.6)",
            "1.50 (goal 1.5)",
            "1.20 (goal 1.0)",
            "0.10",
            "90.0%",
        ]
    ]


def test_goal_of_redis_cpu() -> None:
    """What Redis takes for a get with the cache is a part of what it takes without."""
    (row,) = goals(run("zipf-90", REDCOUCH, 10.0, 10.0), run("zipf-90", CACHED, 10.0, 2.5))
    assert row[6] == "0.25 (goal 0.2, **missed**)"


def test_wrong_answers_reach_no_goal() -> None:
    """However fast they were; and they are listed."""
    measured = (
        run("even", TWEMPROXY, 100.0),
        run("even", REDCOUCH, 200.0, 1.0, "get_misses: 3"),
    )
    (row,) = goals(*measured)
    assert row[1] == "2.00 (goal 0.95, **missed**)"
    text = as_markdown(Report({}, {}, select(["even"]), list(measured)))
    assert "- even, redcouch, round 1: get_misses: 3" in text
    assert "| even | redcouch (!) |" in text


def test_peers_that_were_not_measured() -> None:
    """The cells that compare with one of them are empty; where all are, there is no row."""
    (row,) = goals(run("even", REDCOUCH, 200.0), run("even", MEMCACHED, 400.0))
    assert row[1:] == ["", "0.50", "", "", "", "", ""]
    assert goals(run("even", REDCOUCH, 200.0)) == []


def test_json() -> None:
    """All that was measured, and what was drawn from it."""
    report = Report({}, {}, select(["zipf-90"]))
    report.measurements = [run("zipf-90", REDCOUCH, 5.0, 8.0), run("zipf-90", CACHED, 10.0, 2.0)]
    said = json.loads(as_json(report))
    assert [measured["hit_share"] for measured in said["measurements"]] == [None, 0.9]
    (compared,) = said["comparisons"]
    assert compared["throughput"]["median"] == 2.0
    assert compared["backend_cpu"]["median"] == 0.25


MEMCASLAP = """\
get proportion: get_prop=0.90
<12 SERVER_ERROR out of memory
Get Statistics (6 events)
   Min:      6764
   Log2 Dist:
      12:        0        3      1
      16:        2

Set Statistics (2 events)
   Log2 Dist:
      12:        2

Total Statistics (8 events)
   Log2 Dist:
      12:        2        3      1
      16:        2

cmd_get: 6
get_misses: 1
verify_misses: 0

Run time: 2.0s Ops: 8 TPS: 4 Net_rate: 5.8M/s
"""


def test_memcaslap() -> None:
    """Its statistics are understood, with what went wrong and it does not say by its exit."""
    said = memcaslap.parse(MEMCASLAP)
    assert (said.gets.events, said.sets.events, said.seconds) == (6, 2, 2.0)
    assert said.total.buckets == {12: 2, 13: 3, 14: 1, 16: 2}
    assert said.total.percentile(0.5) == 2**12 + 2**12 * 2 / 3
    assert said.problems == ["get_misses: 1", "server said 'SERVER_ERROR out of memory' 1 times"]
    with pytest.raises(memcaslap.UnreadableError, match="gave no statistics: 'Usage'"):
        memcaslap.parse("Usage\n")
