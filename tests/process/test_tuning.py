"""What the process asks of the system."""

from __future__ import annotations

import subprocess
import sys

from redcouch.server.listeners import SPARE


def _run(source: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_descriptors_are_raised() -> None:
    """A service may have as many clients as it was told, where the system lets it."""
    source = (
        "import resource as r; from redcouch.process.tuning import raise_fd_limit as a;"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 400));"
        "print(a(50), a(300), r.getrlimit(r.RLIMIT_NOFILE), a(1000))"
    )
    assert _run(source) == "100 300 (300, 400) 400"


def test_descriptors_of_a_service() -> None:
    """Enough for as many clients and readers of pages as are let in, for ports and for Redis."""
    source = (
        "import resource as r; from redcouch.service import Options, makeService;"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 1000)); options = Options();"
        "options.parseOptions(['--storage=memory:', '--max-connections=200', '--http=0']"
        " + [f'--port=tcp:{port}' for port in range(11211, 11236)]);"
        "makeService(options); print(r.getrlimit(r.RLIMIT_NOFILE)[0] - 200 - 256)"
    )
    assert int(_run(source)) >= 64 + SPARE + 2 * 25


def test_settled() -> None:
    """What is there at the start is not looked at by the collector again."""
    source = (
        "import gc; from redcouch.process.tuning import tune_process; tune_process(); "
        "print(gc.get_freeze_count())"
    )
    assert int(_run(source)) > 1000
