"""What was measured, and the ratios drawn from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from bench.loads import Outcome
from bench.scenarios import Figure, Scenario


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What one process used: CPU for each request, cores while it ran, memory at the end."""

    name: str
    cpu_us_per_request: float
    cores: float
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of one load against one peer.

    `foreign_cores` is CPU used meanwhile by processes that do not belong to the run: more than a
    little means that the machine was not quiet. `hit_share` is the part of the keys asked for that
    RedCouch's cache answered, where it has one. `companion_per_second` are the requests of what ran
    beside the load, where something did.
    """

    scenario: str
    peer: str
    round: int
    outcome: Outcome
    server: ProcessUse
    backend: ProcessUse | None
    generator_cores: float
    foreign_cores: float
    problems: tuple[str, ...]
    hit_share: float | None = None
    companion_per_second: float | None = None

    @property
    def backend_cpu_us(self) -> float:
        """CPU for each request of what is behind the server."""
        return self.backend.cpu_us_per_request if self.backend else 0.0

    @property
    def total_cpu_us(self) -> float:
        """CPU for each request of the server and what is behind it."""
        return self.server.cpu_us_per_request + self.backend_cpu_us


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of a few numbers."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: list[float]) -> "Spread | None":
        """None when there are no numbers."""
        return cls(median(numbers), min(numbers), max(numbers)) if numbers else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One peer against another in one scenario, run by run of the same round."""

    scenario: str
    peer: str
    base: str
    throughput: Spread | None
    server_cpu: Spread | None
    backend_cpu: Spread | None
    total_cpu: Spread | None

    def spread(self, figure: Figure) -> Spread | None:
        """That of one figure."""
        return {
            Figure.THROUGHPUT: self.throughput,
            Figure.SERVER_CPU: self.server_cpu,
            Figure.BACKEND_CPU: self.backend_cpu,
        }[figure]


@dataclass(slots=True)
class Report:
    """All of it. `skipped` could not be measured here; `failed` should have been."""

    machine: dict[str, str]
    settings: dict[str, str]
    scenarios: list[Scenario] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Everything that went wrong, one line each."""
        return self.failed + [
            f"{run.scenario}, {run.peer}, round {run.round}: {problem}"
            for run in self.measurements
            for problem in run.problems
        ]

    def of(self, scenario: str, peer: str) -> list[Measurement]:
        """The rounds of one peer in one scenario."""
        return [m for m in self.measurements if (m.scenario, m.peer) == (scenario, peer)]

    def flawed(self, scenario: str, *peers: str) -> bool:
        """Whether a round of one of them had a problem."""
        return any(run.problems for peer in peers for run in self.of(scenario, peer))

    def compare(self, scenario: str, peer: str, base: str) -> Comparison:
        """One peer against another. Runs with problems count too: the report marks them."""
        bases = {m.round: m for m in self.of(scenario, base)}
        pairs = [(m, bases[m.round]) for m in self.of(scenario, peer) if m.round in bases]
        return Comparison(
            scenario,
            peer,
            base,
            _ratios(pairs, lambda m: m.outcome.requests_per_second),
            _ratios(pairs, lambda m: m.server.cpu_us_per_request),
            _ratios(pairs, lambda m: m.backend_cpu_us),
            _ratios(pairs, lambda m: m.total_cpu_us),
        )


def _ratios(
    pairs: list[tuple[Measurement, Measurement]], figure: Callable[[Measurement], float]
) -> Spread | None:
    """A run that did nothing has no figure, neither a bad nor a splendid one."""
    return Spread.of(
        [figure(one) / figure(other) for one, other in pairs if figure(one) and figure(other)]
    )
