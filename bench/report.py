"""The report as Markdown and as JSON."""

import json
from collections.abc import Callable
from dataclasses import asdict
from enum import Enum
from statistics import median
from typing import Any

from bench.peers import CACHED, MEMCACHED, REDCOUCH, TWEMPROXY
from bench.results import Comparison, Measurement, Report, Spread
from bench.scenarios import Goal, Scenario

QUIET_CORES = 0.15
SATURATED_CORES = 0.95
_PAIRS = (
    (REDCOUCH, TWEMPROXY),
    (REDCOUCH, MEMCACHED),
    (CACHED, REDCOUCH),
    (CACHED, TWEMPROXY),
    (CACHED, MEMCACHED),
    (TWEMPROXY, MEMCACHED),
)

_NOTES = """\
Medians over the rounds. CPU is of the server and, after the plus sign, of what is behind it
(twemproxy's memcached, RedCouch's Redis); memory likewise. A latency after ~ is an estimate from a
histogram by powers of two; where several requests are in flight it is that of all of them together.
`load` and `other` are the cores used by the load generator and by processes outside the run.
(!) marks a run with wrong or missing answers, listed below.
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
    if ratios := _ratio_rows(report):
        head = ["scenario", "ratio", "throughput", "server CPU", "CPU with backend", "goals"]
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
    head += ["CPU us/request", "memory MiB", "load", "other"]
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
        _with_backend(runs, "{:.1f}", lambda use: use.cpu_us_per_request),
        _with_backend(runs, "{:.0f}", lambda use: use.resident_bytes / 2**20),
        f"{generator:.2f}" + (" (full)" if generator >= SATURATED_CORES else ""),
        f"{foreign:.2f}" + (" (busy)" if foreign >= QUIET_CORES else ""),
    ]


def _latency(runs: list[Measurement], figure: Callable[[Measurement], float | None]) -> str:
    known = [value for run in runs if (value := figure(run)) is not None]
    if not known:
        return ""
    return ("" if runs[0].outcome.latency_exact else "~") + f"{median(known):,.0f}"


def _with_backend(runs: list[Measurement], form: str, figure: Callable[[Any], float]) -> str:
    text = form.format(median(figure(run.server) for run in runs))
    behind = [figure(run.backend) for run in runs if run.backend]
    return text + (" + " + form.format(median(behind)) if behind else "")


def _ratio_rows(report: Report) -> list[list[str]]:
    rows = []
    for scenario in report.scenarios:
        for peer, base in _PAIRS:
            compared = report.compare(scenario.name, peer, base)
            if compared.throughput is None:
                continue
            spreads = (compared.throughput, compared.server_cpu, compared.total_cpu)
            flawed = _flawed(report, scenario, peer) or _flawed(report, scenario, base)
            label = f"{peer} / {base}" + (" (!)" if flawed else "")
            goals = _goals(scenario.goal, compared, flawed) if peer == REDCOUCH else ""
            rows.append([scenario.name, label, *map(_spread, spreads), goals])
    return rows


def _flawed(report: Report, scenario: Scenario, peer: str) -> bool:
    return any(run.problems for run in report.of(scenario.name, peer))


def _spread(spread: Spread | None) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f} - {spread.high:.2f})" if spread else ""


def _goals(goal: Goal, compared: Comparison, flawed: bool) -> str:
    """Each goal set for this pair, and whether the median reaches it; wrong answers reach none."""
    to_twemproxy = compared.base == TWEMPROXY
    least = goal.to_twemproxy if to_twemproxy else goal.to_memcached
    most = goal.cpu_to_twemproxy if to_twemproxy else None
    words = []
    if least is not None and (speed := compared.throughput):
        words.append(f">= {least} {_verdict(speed.median >= least and not flawed)}")
    if most is not None and (cpu := compared.server_cpu):
        words.append(f"CPU <= {most} {_verdict(cpu.median <= most and not flawed)}")
    return ", ".join(words)


def _verdict(reached: bool) -> str:
    return "met" if reached else "MISSED"
