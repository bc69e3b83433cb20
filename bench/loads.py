"""The programs that make load: the command of each, and what its output means."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench import memcaslap
from bench.peers import Peer
from bench.processes import LOOPBACK
from bench.scenarios import Scenario, Tool
from bench.tools import require


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a load generator says it did.

    `latency_exact` is false when the percentiles were estimated from a histogram. `problems` is
    empty when every answer was right.
    """

    requests_per_second: float = 0.0
    keys_per_second: float = 0.0
    p50_us: float | None = None
    p99_us: float | None = None
    latency_exact: bool = False
    problems: tuple[str, ...] = ()


class Load(Protocol):
    """A load generator, ready to run."""

    command: list[str]

    def outcome(self, output: str) -> Outcome:
        """Read what it printed."""

    def steady(self, output: str, ended: float) -> tuple[float, float]:
        """From when to when the load was steady, given when the generator exited."""


class Memcaslap:
    """memcaslap, with its configuration in a file."""

    def __init__(self, scenario: Scenario, port: int, seconds: int, folder: Path) -> None:
        config = folder / "memcaslap.conf"
        config.write_text(memcaslap.config(scenario))
        address = f"{LOOPBACK}:{port}"
        self._scenario = scenario
        self._seconds = seconds
        self.command = [
            require("memcaslap"),
            *memcaslap.arguments(scenario, address, seconds, config),
        ]

    def outcome(self, output: str) -> Outcome:
        """Read its statistics."""
        try:
            said = memcaslap.parse(output)
        except memcaslap.UnreadableError as error:
            return Outcome(problems=(str(error),))
        requests = said.gets.events + said.sets.events
        keys = said.gets.events * self._scenario.keys_per_get + said.sets.events
        return Outcome(
            requests / said.seconds,
            keys / said.seconds,
            said.total.percentile(0.50),
            said.total.percentile(0.99),
            latency_exact=False,
            problems=tuple(said.problems),
        )

    def steady(self, output: str, ended: float) -> tuple[float, float]:
        """The last part of the timed section: what is stored beforehand comes before it."""
        end = ended - memcaslap.IDLE_END_SECONDS - 0.1
        return end - 0.8 * self._seconds, end


class Client:
    """The generator in client.py."""

    def __init__(self, scenario: Scenario, port: int, seconds: int) -> None:
        self.command = _program("bench.client", LOOPBACK, str(port))
        self.command += [f"--connections={scenario.connections}", f"--depth={scenario.depth}"]
        self.command += [f"--value-size={scenario.value_size}", f"--seconds={seconds}"]
        self.command += [f"--set-share={scenario.set_share}"]
        self.command += [f"--shared-keys={scenario.shared_keys}"]

    def outcome(self, output: str) -> Outcome:
        """Read its JSON."""
        try:
            said = json.loads(output)
        except ValueError:
            return Outcome(problems=(f"the client failed: {output.strip()[-200:]}",))
        rate = said.get("requests", 0) / max(said.get("seconds", 0.0), 1e-9)
        return Outcome(
            rate,
            rate,
            said.get("p50_us"),
            said.get("p99_us"),
            latency_exact=True,
            problems=tuple(said["problems"]),
        )

    def steady(self, output: str, ended: float) -> tuple[float, float]:
        """All of it but the first moments."""
        try:
            said = json.loads(output)
        except ValueError:
            return ended - 0.1, ended
        length = said["ended"] - said["begun"]
        return said["begun"] + 0.1 * length, said["begun"] + 0.95 * length


HEAVY = ("--first=1000", "--depth=8", "--keys-per-get=100", "--set-share=0", "--seconds=86400")
"""What a client does who asks for much, for as long as it is let; with keys of its own."""


@dataclass(frozen=True, slots=True)
class Companion:
    """A program that is busy beside the load until it is told to end."""

    command: list[str]

    def per_second(self, output: str) -> tuple[float, tuple[str, ...]]:
        """How many requests it made a second, and what went wrong."""
        try:
            said = json.loads(output)
        except ValueError:
            return 0.0, (f"what runs beside the load failed: {output.strip()[-200:]}",)
        rate = said.get("requests", 0) / max(said.get("seconds", 0.0), 1e-9)
        return rate, tuple(said["problems"])


def make_companion(scenario: Scenario, peer: Peer) -> Companion | None:
    """What the scenario wants beside its load, if anything."""
    if scenario.beside_heavy:
        return Companion(_program("bench.client", LOOPBACK, str(peer.port), *HEAVY))
    if scenario.writes_per_second and peer.storage:
        command = _program("bench.writer", *peer.storage)
        command += [f"--per-second={scenario.writes_per_second}"]
        command += [f"--keys={scenario.shared_keys}", f"--value-size={scenario.value_size}"]
        return Companion(command)
    return None


def _program(module: str, *arguments: str) -> list[str]:
    """A module of this package as a program, wherever it runs."""
    path = f"PYTHONPATH={Path(__file__).parents[1]}"
    return ["env", path, sys.executable, "-m", module, *arguments]


def make_load(scenario: Scenario, port: int, seconds: int, folder: Path) -> Load:
    """The generator that the scenario asks for, aimed at a port."""
    if scenario.tool is Tool.CLIENT:
        return Client(scenario, port, seconds)
    return Memcaslap(scenario, port, seconds, folder)
