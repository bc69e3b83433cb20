"""What the system says of a process: its CPU time, memory and open files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

# Places in /proc/PID/stat behind the name, as proc(5) counts them less three.
_USER, _SYSTEM, _STARTED, _RESIDENT = 11, 12, 19, 21


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """
    @ivar cpu: seconds of CPU time so far.
    @ivar memory: bytes resident.
    @ivar files: open descriptors.
    @ivar age: seconds since it was started.
    """

    cpu: float
    memory: int
    files: int
    age: float


def usage(pid: int, proc: Path = Path("/proc")) -> ProcessUsage | None:
    """What a process uses; C{None} where the system does not say (it is gone, or no Linux)."""
    try:
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        up = float((proc / "uptime").read_text().split()[0])
        files = len(os.listdir(proc / str(pid) / "fd"))
    except OSError:
        return None
    return ProcessUsage(
        cpu=(int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS,
        memory=int(fields[_RESIDENT]) * _PAGE,
        files=files,
        age=max(0.0, up - int(fields[_STARTED]) / _TICKS),
    )
