"""The C{redcouch} command: as a process, as a user runs it, or in this one, which is quicker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from redcouch.cli.main import main
from tests.support.polling import PATIENCE

REDCOUCH = Path(sys.executable).parent / "redcouch"


# Until click 8.2 the runner has to be told to keep the two apart.
_APART: dict[str, Any] = {"mix_stderr": False}
_RUNNER = CliRunner(**_APART if "mix_stderr" in signature(CliRunner).parameters else {})


class Ended(NamedTuple):
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it said, as one value of JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """What it said, a value of JSON on each line."""
        return [json.loads(line) for line in self.out.splitlines()]


def start(
    *arguments: object,
    terminal: int | None = None,
    at_hangup: signal.Handlers = signal.SIG_DFL,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """
    Begin a command, with pipes for what it says. C{terminal}: where it is typed to. C{at_hangup}:
    what happens at SIGHUP, which is not as with us, who may run under C{nohup}.
    """
    environment = {name: value for name, value in os.environ.items() if name != "REDCOUCH_STORAGE"}
    before = signal.signal(signal.SIGHUP, at_hangup)
    try:
        return subprocess.Popen(
            [REDCOUCH, *map(str, arguments)],
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment | options.pop("env", {}),
            **options,
        )
    finally:
        signal.signal(signal.SIGHUP, before)


def finish(process: subprocess.Popen[bytes]) -> Ended:
    """Wait for its end."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    assert b"Traceback" not in err, err.decode()
    return Ended(process.returncode, out.decode(), err.decode())


def run(*arguments: object, env: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end, in this process: as good where no signal and no terminal matter."""
    environment = {"REDCOUCH_STORAGE": None, **(env or {})}
    done = _RUNNER.invoke(main, [*map(str, arguments)], prog_name="redcouch", env=environment)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ended(done.exit_code, done.stdout_bytes.decode(), done.stderr_bytes.decode())
