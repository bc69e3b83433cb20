"""Running the programs of others: found, or missed by the name of their package; and bounded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import WITHOUT_DEBIAN

HERE = Path(__file__).parent
_SECONDS = 60


def _missing(what: str, remedy: str) -> None:
    """Fail, or skip where the environment says that Debian's packages are not there."""
    text = f"a test needs {what}: {remedy}"
    if os.environ.get(WITHOUT_DEBIAN) == "1":
        pytest.skip(text)
    pytest.fail(f"{text}, or set {WITHOUT_DEBIAN}=1 to skip such tests", pytrace=False)


def find(program: str, package: str) -> str:
    """The path of a program, or of any file, of a package of Debian's."""
    path = shutil.which(program, path="/usr/bin:/usr/sbin")
    if path is None and Path(program).exists():
        path = program
    if path is None:
        _missing(program, f"install Debian's package {package}")
    assert path is not None
    return path


def find_module(name: str, remedy: str) -> Any:
    """A Python module that has to be built against something of Debian's."""
    try:
        return import_module(name)
    except ImportError:
        _missing(f"the Python module {name}", remedy)


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
        timeout=_SECONDS,
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
