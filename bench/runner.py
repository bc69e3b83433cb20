"""Runs the scenarios: all peers of one, in turns, and what each of them used meanwhile."""

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Protocol, TypeVar

from bench import usage
from bench.interrupts import Interrupts
from bench.loads import Companion, Load, make_companion, make_load
from bench.peers import STARTERS, Peer, Placement, Plan
from bench.processes import Processes, Running, StartError
from bench.results import Measurement, ProcessUse, Report
from bench.scenarios import Scenario, Tool

SAMPLE_SECONDS = 0.1
CACHE_SECONDS = 0.5
GRACE_SECONDS = 60.0
FEW_CORES = 0.01

START_SECONDS = 1.5
RUN_SECONDS = 2.0
FILL_SECONDS = 3.0
"""About what a peer takes to start, a run beside its load, and a run more with shared keys."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the person at the keyboard chose, and the peers that cannot run here.

    Without `named` each scenario has its own peers.
    """

    named: tuple[str, ...] | None
    unable: frozenset[str]
    rounds: int
    seconds: int
    placement: Placement
    redcouch_options: tuple[str, ...] = ()

    def peers(self, scenario: Scenario) -> list[str]:
        """Those that a scenario is measured with."""
        return [n for n in scenario.peers_among(self.named) if n not in self.unable]

    def runs(self, scenarios: list[Scenario]) -> int:
        """How many there are."""
        return sum(len(self.peers(scenario)) for scenario in scenarios) * self.rounds

    def duration(self, scenarios: list[Scenario]) -> float:
        """About how many seconds all will take."""
        total = 0.0
        for scenario in scenarios:
            run = self.seconds + RUN_SECONDS + (FILL_SECONDS if scenario.shared_keys else 0.0)
            total += len(self.peers(scenario)) * (START_SECONDS + self.rounds * run)
        return total

    def within(self, minutes: int, scenarios: list[Scenario]) -> "Settings":
        """The same with runs as long as the time allows. Raises ValueError where it allows none."""
        none = replace(self, seconds=0).duration(scenarios)
        seconds = int((60 * minutes - none) / self.runs(scenarios))
        if seconds < 1:
            least = ceil((none + self.runs(scenarios)) / 60)
            raise ValueError(
                f"that takes {least} minutes at least: name fewer scenarios, peers or rounds"
            )
        return replace(self, seconds=seconds)


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """Keys answered from the cache and keys that were not, until a moment."""

    at: float
    hits: int
    misses: int


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen while a load generator ran."""

    samples: list[usage.Sample]
    cache: list[CacheCounts]
    ended: float
    connections: int
    exit_code: int | None


def run(
    report: Report, settings: Settings, interrupts: Interrupts, say: Callable[[str], None]
) -> None:
    """Run all scenarios of the report into it. What was measured stays in it on an interrupt."""
    for scenario in report.scenarios:
        say(f"{scenario.name}: {scenario.title}")
        with (
            tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder,
            Processes(Path(folder), interrupts) as processes,
        ):
            _run_scenario(report, scenario, settings, processes, say)


def _run_scenario(
    report: Report,
    scenario: Scenario,
    settings: Settings,
    processes: Processes,
    say: Callable[[str], None],
) -> None:
    peers = _start_peers(report, scenario, settings, processes, say)
    for number in range(settings.rounds):
        for peer in _rotated(peers, number):
            measurement = _measure(peer, scenario, number + 1, settings, processes)
            report.measurements.append(measurement)
            say("  " + _line(measurement))


def _start_peers(
    report: Report,
    scenario: Scenario,
    settings: Settings,
    processes: Processes,
    say: Callable[[str], None],
) -> list[Peer]:
    """Those peers that can take this load; why the others cannot goes into the report."""
    plan = Plan(
        processes,
        settings.placement,
        scenario.encoding,
        scenario.cache,
        settings.redcouch_options,
    )
    peers = []
    for name in settings.peers(scenario):
        try:
            peer = STARTERS[name](plan)
        except StartError as error:
            report.failed.append(f"{scenario.name}, {name}: {error}")
            say(f"  PROBLEM: {report.failed[-1]}")
            continue
        if scenario.binary and not peer.speaks_binary():
            report.skipped.append(f"{scenario.name}, {name}: the binary dialect is not answered")
            say(f"  skipped {report.skipped[-1]}")
            continue
        if scenario.writes_per_second and not peer.storage:
            report.skipped.append(f"{scenario.name}, {name}: nothing can store past it")
            say(f"  skipped {report.skipped[-1]}")
            continue
        peers.append(peer)
    return peers


def _rotated(peers: list[Peer], number: int) -> list[Peer]:
    """Each round begins with another peer, so that no place in the order is always the same's."""
    shift = number % max(1, len(peers))
    return peers[shift:] + peers[:shift]


def _measure(
    peer: Peer, scenario: Scenario, number: int, settings: Settings, processes: Processes
) -> Measurement:
    load = make_load(scenario, peer.port, settings.seconds, processes.folder)
    companion = make_companion(scenario, peer)
    started: list[Running] = []
    for name, program in (("companion", companion), ("load", load)):
        if program:
            started.append(processes.start(name, program.command, settings.placement.others))
    watched = _watch(started, peer, scenario.connections, settings.seconds)
    processes.stop(*started)
    measurement = _evaluate(peer, scenario, number, load, companion, started, watched)
    with suppress(OSError):
        # A server that died is reported by the runs themselves.
        peer.flush()
    return measurement


def _watch(started: list[Running], peer: Peer, wanted: int, seconds: int) -> Watched:
    """Sample until the last that was started exits, or for so long that it never will.

    Connections are counted near the end, again until as many are open as wanted.
    """
    pids = [running.pid for running in (*started, *peer.processes())]
    generator = started[-1]
    begun = time.monotonic()
    connections = 0
    samples = [usage.sample(pids)]
    cache: list[CacheCounts] = []
    while generator.popen.poll() is None and samples[-1].at < begun + seconds + GRACE_SECONDS:
        time.sleep(SAMPLE_SECONDS)
        samples.append(usage.sample(pids))
        if connections < wanted and samples[-1].at >= begun + 0.8 * seconds:
            connections = max(connections, usage.connections_to(peer.port))
        if not cache or samples[-1].at > cache[-1].at + CACHE_SECONDS:
            _count(peer, cache)
    _count(peer, cache)  # as it is at the end
    return Watched(samples, cache, time.monotonic(), connections, generator.popen.poll())


def _count(peer: Peer, cache: list[CacheCounts]) -> None:
    with suppress(OSError, KeyError):  # so too
        if counts := peer.cache_counts():
            cache.append(CacheCounts(time.monotonic(), *counts))


def _evaluate(
    peer: Peer,
    scenario: Scenario,
    number: int,
    load: Load,
    companion: Companion | None,
    started: list[Running],
    watched: Watched,
) -> Measurement:
    generator = started[-1]
    output = generator.output()
    outcome = load.outcome(output)
    beside, troubles = companion.per_second(started[0].output()) if companion else (None, ())
    begin, end = load.steady(output, watched.ended)
    first, last = _nearest(watched.samples, begin), _nearest(watched.samples, end)
    elapsed = max(last.at - first.at, SAMPLE_SECONDS)

    def cores(pid: int) -> float:
        return max(0.0, last.by_pid[pid] - first.by_pid[pid]) / elapsed

    def use(running: Running) -> ProcessUse:
        # What a heavy client takes cannot be told from what the load takes.
        counted = 0.0 if scenario.beside_heavy else outcome.requests_per_second
        per_request = 1e6 * cores(running.pid) / counted if counted else 0.0
        memory = usage.resident_bytes(running.pid)
        return ProcessUse(running.name, per_request, cores(running.pid), memory)

    def together(several: list[ProcessUse]) -> ProcessUse | None:
        if not several:
            return None
        return ProcessUse(
            ", ".join(one.name for one in several),
            sum(one.cpu_us_per_request for one in several),
            sum(one.cores for one in several),
            sum(one.resident_bytes for one in several),
        )

    ours = sum(cores(pid) for pid in last.by_pid)
    return Measurement(
        scenario=scenario.name,
        peer=peer.name,
        round=number,
        outcome=outcome,
        server=use(peer.server),
        backend=together([use(running) for running in peer.backends]),
        generator_cores=cores(generator.pid),
        foreign_cores=max(0.0, (last.machine - first.machine) / elapsed - ours),
        problems=(
            *outcome.problems,
            *troubles,
            *_trouble_seen(peer, scenario, watched, cores(generator.pid)),
        ),
        hit_share=_hit_share(watched.cache, begin, end),
        companion_per_second=beside,
    )


def _hit_share(cache: list[CacheCounts], begin: float, end: float) -> float | None:
    if not cache:
        return None
    first, last = _nearest(cache, begin), _nearest(cache, end)
    hits, misses = last.hits - first.hits, last.misses - first.misses
    return hits / (hits + misses) if hits + misses else None


def _trouble_seen(
    peer: Peer, scenario: Scenario, watched: Watched, generator_cores: float
) -> list[str]:
    """What the generator does not say by itself."""
    problems = []
    if watched.exit_code is None:
        problems.append("the load generator did not end and was stopped")
    elif watched.exit_code:
        problems.append(f"the load generator ended with {watched.exit_code}")
    if scenario.tool is Tool.MEMCASLAP:  # the other one says so itself
        if generator_cores < FEW_CORES:
            problems.append("the load stopped before its time")
        if watched.connections < scenario.connections:  # who asks for stats may be among them
            opened = f"{watched.connections} of {scenario.connections}"
            problems.append(f"{opened} connections were open")
    problems += [
        f"{running.name} ended with {running.popen.returncode}: {running.log_end()}"
        for running in peer.processes()
        if running.popen.poll() is not None
    ]
    return problems


class _Dated(Protocol):
    @property
    def at(self) -> float: ...


Sampled = TypeVar("Sampled", bound=_Dated)


def _nearest(samples: list[Sampled], at: float) -> Sampled:
    return min(samples, key=lambda sample: abs(sample.at - at))


def _line(measurement: Measurement) -> str:
    outcome = measurement.outcome
    text = f"round {measurement.round} {measurement.peer:21}"
    text += f" {outcome.requests_per_second:10,.0f} requests/s"
    text += f" {measurement.server.cpu_us_per_request:9.1f} us CPU/request"
    if measurement.hit_share is not None:
        text += f" {measurement.hit_share:7.1%} hits"
    if measurement.companion_per_second is not None:
        text += f", {measurement.companion_per_second:,.0f}/s beside it"
    if measurement.problems:
        text += "  PROBLEM: " + "; ".join(measurement.problems)
    return text
