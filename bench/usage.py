"""What processes use, as Linux tells it in /proc."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ESTABLISHED = "01"


@dataclass(frozen=True, slots=True)
class Sample:
    """CPU seconds used so far: by each process with its children, and by the whole machine."""

    at: float
    by_pid: dict[int, float]
    machine: float


def sample(pids: list[int]) -> Sample:
    """The state of things now."""
    return Sample(time.monotonic(), {pid: cpu_seconds(pid) for pid in pids}, _machine_seconds())


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its living descendants; 0 once it is gone."""
    return sum(_own_cpu_seconds(member) for member in _family(pid))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its living descendants."""
    return sum(_own_resident_bytes(member) for member in _family(pid))


def connections_to(port: int) -> int:
    """How many established connections a local port has."""
    wanted = f":{port:04X}"
    return sum(
        fields[1].endswith(wanted) and fields[3] == _ESTABLISHED
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
    )


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _own_cpu_seconds(pid: int) -> float:
    try:
        # The name, which may hold spaces, ends at the last parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    user, system = int(fields[11]), int(fields[12])
    return (user + system) * _TICK


def _own_resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def _machine_seconds() -> float:
    """User, nice, system, irq and softirq time of all cores."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return sum(int(fields[i]) for i in (1, 2, 3, 6, 7)) * _TICK
