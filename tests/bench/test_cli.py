"""``python -m bench``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import redcouch
from bench import cli, peers, tools
from bench.interrupts import Interrupts
from bench.names import USUAL
from bench.peers import Placement
from bench.processes import LOOPBACK, Processes, ask
from bench.runner import Settings
from bench.scenarios import Encoding, select
from tests.support import requirements
from tests.support.requirements import needs

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]


def error(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What is said of options that cannot be."""
    assert cli.main(list(options)) == cli.UNUSABLE
    return capsys.readouterr().err.strip()


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Each scenario has a line."""
    assert cli.main(["--list"]) == cli.OK
    lines = capsys.readouterr().out.splitlines()
    assert "mget-20          multi-get of 20 keys, 100 B" in lines
    assert lines[-1].endswith(", ".join(USUAL))


@pytest.mark.parametrize(
    "options",
    [
        ["--rounds", "0"],
        ["--seconds", "-1"],
        ["--minutes", "x"],
        ["--minutes", "2", "--seconds", "2"],
        ["--pin", "all"],
    ],
)
def test_bad_values(options: list[str]) -> None:
    """A value that means nothing is refused, not put right."""
    with pytest.raises(SystemExit) as raised:
        cli.main(options)
    assert raised.value.code == cli.UNUSABLE


def test_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Which name it was."""
    assert error(capsys, "--peers", "redcouch,nix") == "no peer is called nix"
    assert error(capsys, "--only", "nix") == "no scenario is called 'nix'"


def test_a_peer_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says which program it lacks, and which package has it."""
    monkeypatch.setattr(peers, "find", lambda tool: None if tool == "nutcracker" else tool)
    said = error(capsys, "--peers", "twemproxy", "--only", "sequential")
    lacking = "twemproxy: nutcracker is not installed (Debian package nutcracker)"
    assert said == f"no peer can run: {lacking}"
    options = cli._parser().parse_args(["--peers", "memcached,twemproxy", "--only", "sequential"])
    report, settings = cli._prepare(options)
    assert report.skipped == [lacking]
    assert [settings.peers(scenario) for scenario in report.scenarios] == [["memcached"]]


def test_load_generator_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """memcaslap is wanted only where it makes the load."""
    monkeypatch.setattr(peers, "find", lambda tool: tool)
    monkeypatch.setattr(tools, "find", lambda tool: None)
    said = error(capsys, "--only", "getset-50", "--peers", "memcached")
    assert said == "memcaslap is missing (Debian package libmemcached-tools)"
    cli._prepare(cli._parser().parse_args(["--only", "zipf-90", "--peers", "memcached"]))


def test_minutes() -> None:
    """Runs are as long as lets all end in time; too little time is refused."""
    settings = Settings(None, frozenset(), rounds=3, seconds=5, placement=Placement())
    scenarios = select(["mget-*", "zipf-90"])
    for minutes in (4, 10, 30):
        fitting = settings.within(minutes, scenarios)
        assert fitting.duration(scenarios) <= 60 * minutes
        longer = Settings(None, frozenset(), 3, fitting.seconds + 1, Placement())
        assert longer.duration(scenarios) > 60 * minutes
    with pytest.raises(ValueError, match=r"that takes [2-4] minutes at least"):
        settings.within(1, scenarios)


@needs("memcached", "redis 7.0")
def test_a_run(tmp_path: Path) -> None:
    """Servers are started and driven, and the reference report stored; each answer is right."""
    requirements.starting("a benchmark")
    command = [sys.executable, "-m", "bench", "--only", "sequential", "--only", "invalidate-100"]
    command += ["--peers", "memcached,redcouch-cache", "--rounds", "1", "--seconds", "1"]
    command += ["--redcouch-option=--idle-timeout=60", "--reference", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == cli.OK, done.stderr
    assert "4 runs, about " in done.stderr
    stored = tmp_path / f"{redcouch.__version__}.json"
    assert done.stdout == stored.with_suffix(".md").read_text() + "\n"
    measured = json.loads(stored.read_text())["measurements"]
    assert all(one["outcome"]["requests_per_second"] > 0 for one in measured)
    (cached,) = [
        one
        for one in measured
        if (one["scenario"], one["peer"]) == ("invalidate-100", "redcouch-cache")
    ]
    assert 0 < cached["hit_share"] <= 1
    assert cached["companion_per_second"] > 0


@needs("memcached", "redis 7.0")
@pytest.mark.parametrize(("stage", "number"), [("origin-first", 1), ("redis-first", 2)])
def test_warm_stages(stage: str, number: int, tmp_path: Path) -> None:
    """An emptied peer is empty on both sides, and in its stage still."""
    requirements.starting("a benchmark")
    with Processes(tmp_path, Interrupts()) as started:
        plan = peers.Plan(started, Placement(), Encoding.HEX, "64m")
        peer = peers.STARTERS[f"redcouch-{stage}"](plan)
        address = (LOOPBACK, peer.port)
        ask(address, b"set key 0 0 1\r\nx\r\n", b"\r\n")
        peer.flush()
        assert ask(address, b"get key\r\n", b"END\r\n") == b"END\r\n"
        said = ask(address, b"stats\r\n", b"END\r\n").decode()
    assert f"STAT warm_stage {number}\r\n" in said
    assert "STAT curr_items 0\r\n" in said
