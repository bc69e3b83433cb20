"""Facts about the machine and the programs, for whoever reads the numbers later."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from bench.tools import find

_VERSION_COMMANDS = {
    "memcached": ["-V"],
    "nutcracker": ["-V"],
    "memcaslap": ["-V"],
    "redis-server": ["--version"],
}
_DISTRIBUTIONS = ("redcouch", "twisted", "txredisapi", "hiredis")
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def facts() -> dict[str, str]:
    """Name and value of each fact."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{_memory_gib():.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average before": f"{os.getloadavg()[0]:.2f}",
        "commit": _commit(),
        "Python": platform.python_version(),
        **{name: _distribution_version(name) for name in _DISTRIBUTIONS},
        **{tool: _tool_version(tool, words) for tool, words in _VERSION_COMMANDS.items()},
    }


def _cpu_model() -> str:
    match = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return match[1] if match else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _distribution_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _tool_version(tool: str, words: list[str]) -> str:
    path = find(tool)
    if path is None:
        return "not installed"
    said = subprocess.run([path, *words], capture_output=True, text=True, check=False)
    match = _VERSION.search(said.stdout + said.stderr)
    return match[0] if match else "unknown"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    folder = Path(__file__).parent
    try:
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return said.stdout.strip() or "unknown"
