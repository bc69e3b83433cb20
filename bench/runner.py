"""Runs the scenarios: all peers of one, in turns, and what each of them used meanwhile."""

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench import usage
from bench.interrupts import Interrupts
from bench.loads import Load, make_load
from bench.peers import STARTERS, Peer, Placement, Plan
from bench.processes import Processes, Running, StartError
from bench.results import Measurement, ProcessUse, Report
from bench.scenarios import Scenario

SAMPLE_SECONDS = 0.1
GRACE_SECONDS = 30.0
FEW_CORES = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """What the person at the keyboard chose."""

    peers: tuple[str, ...]
    rounds: int
    seconds: int
    placement: Placement
    redcouch_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen while a load generator ran."""

    samples: list[usage.Sample]
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
    plan = Plan(processes, settings.placement, scenario.encoding, settings.redcouch_options)
    peers = []
    for name in settings.peers:
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
    generator = processes.start("load", load.command, settings.placement.others)
    watched = _watch(generator, peer, settings.seconds)
    processes.stop(generator)
    output = generator.log.read_text(errors="replace")
    measurement = _evaluate(peer, scenario, number, load, generator, watched, output)
    with suppress(OSError):
        # A server that died is reported by the runs themselves.
        peer.flush()
    return measurement


def _watch(generator: Running, peer: Peer, seconds: int) -> Watched:
    """Sample until the generator exits, or for so long that it never will."""
    pids = [generator.pid, *(running.pid for running in peer.processes())]
    started = time.monotonic()
    connections = 0
    samples = [usage.sample(pids)]
    while generator.popen.poll() is None and samples[-1].at < started + seconds + GRACE_SECONDS:
        time.sleep(SAMPLE_SECONDS)
        samples.append(usage.sample(pids))
        if samples[-2].at < started + 0.8 * seconds <= samples[-1].at:
            connections = usage.connections_to(peer.port)
    return Watched(samples, time.monotonic(), connections, generator.popen.poll())


def _evaluate(
    peer: Peer,
    scenario: Scenario,
    number: int,
    load: Load,
    generator: Running,
    watched: Watched,
    output: str,
) -> Measurement:
    outcome = load.outcome(output)
    begin, end = load.steady(output, watched.ended)
    first = _nearest(watched.samples, begin)
    last = _nearest(watched.samples, end)
    elapsed = max(last.at - first.at, SAMPLE_SECONDS)

    def cores(pid: int) -> float:
        return max(0.0, last.by_pid[pid] - first.by_pid[pid]) / elapsed

    def use(running: Running) -> ProcessUse:
        per_request = 1e6 * cores(running.pid) / max(outcome.requests_per_second, 1e-9)
        memory = usage.resident_bytes(running.pid)
        rate = per_request if outcome.requests_per_second else 0.0
        return ProcessUse(running.name, rate, cores(running.pid), memory)

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
            *_trouble_seen(peer, scenario, watched, cores(generator.pid)),
        ),
    )


def _trouble_seen(
    peer: Peer, scenario: Scenario, watched: Watched, generator_cores: float
) -> list[str]:
    """What the generator does not say by itself."""
    problems = []
    if watched.exit_code is None:
        problems.append("the load generator did not end and was stopped")
    elif watched.exit_code:
        problems.append(f"the load generator ended with {watched.exit_code}")
    if generator_cores < FEW_CORES:
        problems.append("the load stopped before its time")
    if watched.connections != scenario.connections:
        problems.append(f"{watched.connections} of {scenario.connections} connections were open")
    problems += [
        f"{running.name} ended with {running.popen.returncode}: {running.log_end()}"
        for running in peer.processes()
        if running.popen.poll() is not None
    ]
    return problems


def _nearest(samples: list[usage.Sample], at: float) -> usage.Sample:
    return min(samples, key=lambda sample: abs(sample.at - at))


def _line(measurement: Measurement) -> str:
    outcome = measurement.outcome
    text = f"round {measurement.round} {measurement.peer:10}"
    text += f" {outcome.requests_per_second:10,.0f} requests/s"
    text += f" {measurement.server.cpu_us_per_request:9.1f} us CPU/request"
    if measurement.problems:
        text += "  PROBLEM: " + "; ".join(measurement.problems)
    return text
