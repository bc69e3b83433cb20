"""What a process pays for that serves clients and shows no pages."""

from __future__ import annotations

import subprocess
import sys


def test_no_web_server() -> None:
    """It imports none: that is 4 MiB, and a tenth of its start."""
    source = (
        "import sys, redcouch.workers.worker, redcouch.service; "
        "print([name for name in ('twisted.web.server', 'prometheus_client', 'click', 'redis') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
