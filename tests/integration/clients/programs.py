"""Running the programs of others, for so long and no longer."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.polling import PATIENCE
from tests.support.requirements import GOPATH

HERE = Path(__file__).parent

GO = {"GO111MODULE": "off", "GOPATH": GOPATH, "GOFLAGS": "", "CGO_ENABLED": "0"}
"""The environment in which Go builds against Debian's libraries."""


def run(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    given: bytes = b"",
) -> str:
    """What a program prints, either way. It is ended, and the test fails, if it takes too long."""
    done = subprocess.run(
        command,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        timeout=PATIENCE,
        check=False,
    )
    printed = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{command[0]} ended with status {done.returncode}:\n{printed}"
    return printed


def seen(command: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a program of this folder has seen: its last line. A library may warn before."""
    printed = run(command, environment)
    try:
        found: dict[str, Any] = json.loads(printed.strip().rpartition("\n")[2])
    except ValueError:
        raise AssertionError(f"{command} printed:\n{printed}") from None
    return found
