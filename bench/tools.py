"""Where the programs are, and which Debian package brings one that is missing."""

import os
import shutil
import sys
from pathlib import Path

PACKAGES = {
    "memcached": "memcached",
    "nutcracker": "nutcracker",
    "memcaslap": "libmemcached-tools",
    "redis-server": "redis-server",
    "taskset": "util-linux",
}


def _search_path() -> str:
    """The PATH, with /usr/sbin (nutcracker) and without the virtual environment.

    Test dependencies put a redis-server of their own into the environment: the benchmark must not
    depend on whether it is activated.
    """
    environment = str(Path(sys.executable).parent)
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([f for f in folders if f != environment] + ["/usr/sbin"])


def find(tool: str) -> str | None:
    """The full path of a program, or None."""
    return shutil.which(tool, path=_search_path())


def require(tool: str) -> str:
    """The full path of a program. Raises FileNotFoundError naming the package to install."""
    if path := find(tool):
        return path
    raise FileNotFoundError(f"{tool} is missing (Debian package {PACKAGES[tool]})")


def missing() -> list[str]:
    """The programs that are not installed."""
    return [tool for tool in PACKAGES if find(tool) is None]


def report() -> str:
    """One line per program, and the command that installs what is missing."""
    lines = [f"{tool}: {find(tool) or 'missing'}" for tool in PACKAGES]
    if absent := missing():
        packages = sorted({PACKAGES[tool] for tool in absent})
        lines.append("install with: apt-get install " + " ".join(packages))
    return "\n".join(lines)
