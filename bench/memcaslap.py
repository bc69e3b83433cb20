"""How memcaslap (libmemcached-tools) is asked, and what its output means.

Found by trying, since its manual is silent or wrong about it:

- `-w` takes whole multiples of 1k only: a plain number is refused, a fraction crashes it.
- Latencies are printed only with `-S`; with a period longer than the run, only at the end.
- Its histogram has one bucket per power of two: bucket i ends at 2^i microseconds.
- "Ops" and "TPS" count keys, not requests, and include the items it stores before a 100 % get run
  although the clock runs later. The event counts of the histograms have neither flaw.
- Overwriting (`-o`) and verifying (`-v`) do not mix: it then holds right values for wrong ones.
- A timed run ends with a second of sleep.
- It exits with 0 whatever happens. A server error for a get counts as a miss, for a set as a set;
  the server's words go to the output, after `<` and a socket's number. A lost connection is silent.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from bench.scenarios import Scenario

IDLE_END_SECONDS = 1.0
KEY_SIZE = 32
VERIFIED_SHARE = 0.01

_CONFIG = """\
key
{key} {key} 1
value
{value} {value} 1
cmd
0 {set:.3f}
1 {get:.3f}
"""

_SECTION = re.compile(r"^(Get|Set|Total) Statistics \((\d+) events\)")
_BUCKETS = re.compile(r"^\s+(\d+):\s+(\d[\d ]*)$")
_COUNT = re.compile(r"^(get_misses|verify_misses|verify_failed): (\d+)")
_END = re.compile(r"^Run time: [\d.]+s Ops: (\d+) TPS: (\d+)")
_SERVER_SAID = re.compile(r"^<\d+ (.*)")


class UnreadableError(Exception):
    """The output has no final statistics."""


@dataclass(slots=True)
class Histogram:
    """Response times by power of two: bucket i has those of 2^(i-1) to 2^i microseconds."""

    events: int = 0
    buckets: dict[int, int] = field(default_factory=dict)

    def percentile(self, share: float) -> float | None:
        """An estimate, in microseconds, that spreads each bucket evenly over its width."""
        left = share * sum(self.buckets.values())
        if not left:
            return None
        for index, count in sorted(self.buckets.items()):
            if count >= left:
                low, high = (0.0 if index == 0 else 2.0 ** (index - 1)), 2.0**index
                return low + (high - low) * left / count
            left -= count
        return 2.0 ** max(self.buckets)


@dataclass(slots=True)
class Statistics:
    """What memcaslap said at its end."""

    seconds: float = 0.0
    gets: Histogram = field(default_factory=Histogram)
    sets: Histogram = field(default_factory=Histogram)
    total: Histogram = field(default_factory=Histogram)
    problems: list[str] = field(default_factory=list)


def config(scenario: Scenario) -> str:
    """The text of a configuration file: sizes, and the mix of commands."""
    return _CONFIG.format(
        key=KEY_SIZE,
        value=scenario.value_size,
        set=scenario.set_share,
        get=1.0 - scenario.set_share,
    )


def arguments(scenario: Scenario, address: str, seconds: int, config_file: Path) -> list[str]:
    """The command line, without the program's name."""
    words = ["-s", address, "-T", "1", "-c", str(scenario.connections), "-t", f"{seconds}s"]
    words += ["-F", str(config_file), "-w", "1k", "-S", f"{10 * seconds}s"]
    if scenario.keys_per_get > 1:
        words += ["-d", str(scenario.keys_per_get)]
    if scenario.overwrite:
        words += ["-o", str(scenario.overwrite)]
    else:
        words += ["-v", str(VERIFIED_SHARE)]
    if scenario.binary:
        words += ["-B"]
    return words


def parse(output: str) -> Statistics:
    """Read the final statistics. Raises UnreadableError when there are none."""
    statistics = Statistics()
    sections = {"Get": statistics.gets, "Set": statistics.sets, "Total": statistics.total}
    section = statistics.total
    server_said: dict[str, int] = {}
    for line in output.splitlines():
        if match := _SECTION.match(line):
            section = sections[match[1]]
            section.events = int(match[2])
        elif match := _BUCKETS.match(line):
            _add_buckets(section, int(match[1]), match[2])
        elif match := _SERVER_SAID.match(line):
            server_said[match[1]] = server_said.get(match[1], 0) + 1
        elif (match := _COUNT.match(line)) and int(match[2]):
            statistics.problems.append(f"{match[1]}: {match[2]}")
        elif match := _END.match(line):
            statistics.seconds = int(match[1]) / max(1, int(match[2]))
    statistics.problems += [f"server said {said!r} {n} times" for said, n in server_said.items()]
    if not statistics.seconds:
        raise UnreadableError(f"memcaslap gave no statistics: {output.strip()[-200:]!r}")
    return statistics


def _add_buckets(histogram: Histogram, first: int, counts: str) -> None:
    for offset, count in enumerate(counts.split()):
        histogram.buckets[first + offset] = int(count)
