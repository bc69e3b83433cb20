"""The report as Markdown and as JSON."""

import json
from collections.abc import Callable
from dataclasses import asdict
from enum import Enum
from statistics import median
from typing import Any

from bench.names import (
    CACHED,
    CLUSTER,
    MEMCACHED,
    ORIGIN_FIRST,
    REDCOUCH,
    REDIS_FIRST,
    TWEMPROXY,
    TWEMPROXY_3,
)
from bench.results import Measurement, ProcessUse, Report, Spread
from bench.scenarios import Figure, Scenario

QUIET_CORES = 0.15
SATURATED_CORES = 0.95
_PAIRS = (
    (REDCOUCH, TWEMPROXY),
    (REDCOUCH, MEMCACHED),
    (CACHED, REDCOUCH),
    (CACHED, TWEMPROXY),
    (CACHED, MEMCACHED),
    (TWEMPROXY, MEMCACHED),
    (CLUSTER, REDCOUCH),
    (CLUSTER, TWEMPROXY_3),
    (ORIGIN_FIRST, REDCOUCH),
    (ORIGIN_FIRST, TWEMPROXY),
    (REDIS_FIRST, REDCOUCH),
    (REDIS_FIRST, TWEMPROXY),
)

GOAL_COLUMNS = {
    "of twemproxy": (REDCOUCH, TWEMPROXY, Figure.THROUGHPUT),
    "of memcached": (REDCOUCH, MEMCACHED, Figure.THROUGHPUT),
    "CPU of twemproxy's": (REDCOUCH, TWEMPROXY, Figure.SERVER_CPU),
    "cache: of twemproxy": (CACHED, TWEMPROXY, Figure.THROUGHPUT),
    "cache: of memcached": (CACHED, MEMCACHED, Figure.THROUGHPUT),
    "cache: Redis's CPU of that without": (CACHED, REDCOUCH, Figure.BACKEND_CPU),
}
"""What each column of the goals compares."""

_NOTES = """\
Medians over the rounds. CPU is of the server and, after the plus sign, of what is behind it
(twemproxy's memcached, RedCouch's Redis); memory likewise. A latency after ~ is an estimate from a
histogram by powers of two; where several requests are in flight it is that of all of them together.
`hits` is the part of the keys asked for that RedCouch's cache answered. `beside` is what runs
beside the load, in requests/s: a native client that stores, or a client that asks for much; the CPU
for the latter cannot be told from that for the load, so none is given. `load` and `other` are the
cores used by the load generator and by processes outside the run.
(!) marks a run with wrong or missing answers, listed below.
"""

_GOAL_NOTES = """\
Throughput and CPU per request as parts of another peer's: the median of the same rounds. A goal for
CPU is the most it may be. `cache:` is RedCouch with a cache, and `hits` what that one answered.
"""


def as_json(report: Report) -> str:
    """Everything, with the comparisons."""
    document = asdict(report)
    document["comparisons"] = [
        asdict(report.compare(scenario.name, peer, base))
        for scenario in report.scenarios
        for peer, base in _PAIRS
        if report.of(scenario.name, peer) and report.of(scenario.name, base)
    ]
    return json.dumps(document, indent=1, default=_enum_value) + "\n"


def _enum_value(thing: object) -> Any:
    if isinstance(thing, Enum):
        return thing.value
    raise TypeError(f"{thing!r} has no JSON form")


def as_markdown(report: Report) -> str:
    """Tables for people."""
    parts = [
        "# Benchmark",
        _table(["fact", ""], [[k, v] for k, v in {**report.machine, **report.settings}.items()]),
        "## Results",
        _NOTES.strip(),
        _results_table(report),
    ]
    if goals := _goal_rows(report):
        parts += ["## Goals", _GOAL_NOTES.strip(), _table(["work", *GOAL_COLUMNS, "hits"], goals)]
    if ratios := _ratio_rows(report):
        head = ["scenario", "ratio", "throughput", "server CPU", "backend CPU", "CPU with backend"]
        parts += [
            "## Ratios",
            "Median (lowest - highest) of the same rounds.",
            _table(head, ratios),
        ]
    for title, lines in (("Problems", report.problems), ("Not measured", report.skipped)):
        if lines:
            parts += [f"## {title}", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _results_table(report: Report) -> str:
    head = ["scenario", "peer", "requests/s", "keys/s", "p50 us", "p99 us"]
    head += ["CPU us/request", "hits", "beside", "memory MiB", "load", "other"]
    rows = []
    for scenario in report.scenarios:
        peers = dict.fromkeys(m.peer for m in report.measurements if m.scenario == scenario.name)
        rows += [_row(scenario, peer, report.of(scenario.name, peer)) for peer in sorted(peers)]
    return _table(head, rows)


def _row(scenario: Scenario, peer: str, runs: list[Measurement]) -> list[str]:
    def middle(figure: Callable[[Measurement], float]) -> float:
        return median(figure(run) for run in runs)

    multi = scenario.keys_per_get > 1
    generator = middle(lambda m: m.generator_cores)
    foreign = middle(lambda m: m.foreign_cores)
    return [
        scenario.name,
        peer + (" (!)" if any(run.problems for run in runs) else ""),
        f"{middle(lambda m: m.outcome.requests_per_second):,.0f}",
        f"{middle(lambda m: m.outcome.keys_per_second):,.0f}" if multi else "",
        _latency(runs, lambda m: m.outcome.p50_us),
        _latency(runs, lambda m: m.outcome.p99_us),
        "" if scenario.beside_heavy else _with_backend(runs, "{:.1f}", _cpu_us),
        _hits(runs),
        _known(runs, "{:,.0f}", lambda m: m.companion_per_second),
        _with_backend(runs, "{:.0f}", lambda use: use.resident_bytes / 2**20),
        f"{generator:.2f}" + (" (full)" if generator >= SATURATED_CORES else ""),
        f"{foreign:.2f}" + (" (busy)" if foreign >= QUIET_CORES else ""),
    ]


def _cpu_us(use: ProcessUse) -> float:
    return use.cpu_us_per_request


def _hits(runs: list[Measurement]) -> str:
    return _known(runs, "{:.1%}", lambda m: m.hit_share)


def _latency(runs: list[Measurement], figure: Callable[[Measurement], float | None]) -> str:
    return _known(runs, "{:,.0f}" if runs[0].outcome.latency_exact else "~{:,.0f}", figure)


def _known(
    runs: list[Measurement], form: str, figure: Callable[[Measurement], float | None]
) -> str:
    """The median of those runs that have the figure; nothing where none has."""
    known = [value for run in runs if (value := figure(run)) is not None]
    return form.format(median(known)) if known else ""


def _with_backend(runs: list[Measurement], form: str, figure: Callable[[ProcessUse], float]) -> str:
    text = form.format(median(figure(run.server) for run in runs))
    behind = [figure(run.backend) for run in runs if run.backend]
    return text + (" + " + form.format(median(behind)) if behind else "")


def _goal_rows(report: Report) -> list[list[str]]:
    """A row for each scenario with goals that was measured: the goal beside what is reached."""
    rows = []
    for scenario in report.scenarios:
        cells = [_goal_cell(report, scenario, *column) for column in GOAL_COLUMNS.values()]
        if scenario.goals and any(cells):
            rows.append([scenario.title, *cells, _hits(report.of(scenario.name, CACHED))])
    return rows


def _goal_cell(report: Report, scenario: Scenario, peer: str, base: str, figure: Figure) -> str:
    """The ratio, and whether it reaches the goal if there is one; wrong answers reach none."""
    spread = report.compare(scenario.name, peer, base).spread(figure)
    if spread is None:
        return ""
    cell = f"{spread.median:.2f}"
    for goal in scenario.goals:
        if (goal.peer, goal.base, goal.figure) == (peer, base, figure):
            met = goal.met(spread.median) and not report.flawed(scenario.name, peer, base)
            cell += f" (goal {goal.ratio}{'' if met else ', **missed**'})"
    return cell


def _ratio_rows(report: Report) -> list[list[str]]:
    rows = []
    for scenario in report.scenarios:
        for peer, base in _PAIRS:
            compared = report.compare(scenario.name, peer, base)
            if compared.throughput is None:
                continue
            spreads = (
                compared.throughput,
                compared.server_cpu,
                compared.backend_cpu,
                compared.total_cpu,
            )
            flawed = report.flawed(scenario.name, peer, base)
            label = f"{peer} / {base}" + (" (!)" if flawed else "")
            rows.append([scenario.name, label, *map(_spread, spreads)])
    return rows


def _spread(spread: Spread | None) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f} - {spread.high:.2f})" if spread else ""
