"""The files for service managers: they are sound, and their options exist."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from redcouch.options import Options
from tests.support import servers
from tests.support.requirements import installed, needs

pytestmark = pytest.mark.once

UNITS = Path(__file__).parent.parent / "contrib" / "systemd"


def read(name: str) -> ConfigParser:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((UNITS / name).read_text())
    return unit


def test_command() -> None:
    """The service is started with options that there are, and gets the socket of the other unit."""
    service = read("redcouch.service")["Service"]
    words = shlex.split(service["ExecStart"])
    assert words[:5] == ["/usr/bin/env", "twistd", "--nodaemon", "--pidfile=", "redcouch"]
    options = Options()
    options.parseOptions(words[5:])
    name = read("redcouch.socket")["Socket"]["FileDescriptorName"]
    assert options["ports"] == [f"systemd:domain=INET:name={name}"]
    assert service["Type"] == "notify"
    assert float(service["TimeoutStopSec"]) > options["drain-timeout"] + 2


@needs("systemd-analyze")
def test_verify(tmp_path: Path) -> None:
    """systemd itself finds nothing to complain of."""
    names = ("redcouch.service", "redcouch.socket")
    for name in names:
        shutil.copy(UNITS / name, tmp_path)
    verified = subprocess.run(
        [installed("systemd-analyze"), "verify", "--man=no", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_virtual_environment(tmp_path: Path) -> None:
    """With the line that the unit shows, the command of a virtual environment is found."""
    text = (UNITS / "redcouch.service").read_text()
    (line,) = (line for line in text.splitlines() if "Environment=PATH=" in line)
    path = line.partition("PATH=")[2].replace("/opt/redcouch/bin", str(Path(sys.executable).parent))
    words = shlex.split(read("redcouch.service")["Service"]["ExecStart"])
    done = subprocess.run(
        [*words[:5], "--help"],
        env={"PATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "--memory-limit" in done.stdout


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_socket_passed(tmp_path: Path, workers: str) -> None:
    """Without a service manager the start ends with one line that says so."""
    server = servers.RedCouch(tmp_path, "redis://127.0.0.1:1", ["--workers", workers], ready=False)
    for endpoint in ("systemd:domain=INET:index=0", "systemd:domain=INET:name=redcouch"):
        status, said = server.run("--port", endpoint)
        assert status == 1
        (line,) = (line for line in said.splitlines() if "redcouch: --port" in line)
        assert "the service manager has passed no such socket" in line


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sockets_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    """Those of one socket unit: clients of all but the last would wait for ever for an answer."""
    monkeypatch.setenv("LISTEN_FDNAMES", "redcouch:redcouch")
    server = servers.RedCouch(tmp_path, "redis://127.0.0.1:1", ["--workers", workers], ready=False)
    status, said = server.run("--port", "systemd:domain=INET:name=redcouch")
    assert status == 1
    assert "the service manager has passed 2 sockets of this name" in said
