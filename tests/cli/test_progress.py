"""What long work has in common: its pace, its end, its bar."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

from redcouch.cli import Interrupt, _terminate
from redcouch.cli.progress import Stop, progress
from redcouch.cli.rate_limit import Pace
from tests.cli.filling import fill_many
from tests.cli.running import REDCOUCH
from tests.support.polling import PATIENCE
from tests.support.servers import Memcached, RedisServer

pytestmark = pytest.mark.everywhere


class Clock:
    """A time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def test_pace() -> None:
    """100 a second are 1000 in ten, whatever the batches are; the first does not wait."""
    clock, stop = Clock(), Stop()
    pace = Pace(100, stop, clock, clock.sleep)
    assert pace.batch(500) == 10
    pace.spend(10)
    assert clock.now == 1000
    for _ in range(99):
        pace.spend(10)
    assert clock.now == pytest.approx(1000 + 9.9)


def test_pace_makes_up_for_nothing() -> None:
    """After a pause there is no rush."""
    clock, stop = Clock(), Stop()
    pace = Pace(10, stop, clock, clock.sleep)
    pace.spend(1)
    clock.now += 60
    for _ in range(11):
        pace.spend(1)
    assert clock.now == pytest.approx(1061)


def test_a_slow_pace_takes_one_at_a_time() -> None:
    assert Pace(0.5, Stop()).batch(100) == 1
    assert Pace(None, Stop()).batch(100) == 100


def test_stop() -> None:
    """The first signal is noted, a second ends at once; the handlers are put back."""
    before = signal.getsignal(signal.SIGINT)
    with Stop() as stop:
        assert (stop.requested, stop.status) == (False, 0)
        signal.raise_signal(signal.SIGINT)
        assert (stop.requested, stop.status) == (True, 130)
        clock = Clock()
        pace = Pace(0.001, stop, clock, clock.sleep)
        pace.spend(1)
        pace.spend(1)
        assert clock.now == 1000  # nobody waits who is to end
        with pytest.raises(Interrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_stop_with_the_terminal() -> None:
    """One that goes away is told of twice: the work ends in order all the same."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it may be ignored, under nohup
    try:
        with Stop() as stop:
            for _ in range(2):
                signal.raise_signal(signal.SIGHUP)
            assert stop.status == 129
    finally:
        signal.signal(signal.SIGHUP, before)


def test_interrupted_with_the_terminal() -> None:
    """What is put back when a command is interrupted is put back all the same."""
    before = signal.signal(signal.SIGHUP, _terminate)
    try:
        with pytest.raises(Interrupt):
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_bar_is_for_terminals(memcached: Memcached, old: str, any_redis: RedisServer) -> None:
    """It is drawn on standard error, if that is one; what is printed stays apart."""
    fill_many(memcached.address, b"k", 500)
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [REDCOUCH, "import", old, "--to", any_redis.url, "--json"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
        )
        out, _ = process.communicate(timeout=120)
        drawn = os.read(ours, 65536)
    finally:
        os.close(theirs)
        os.close(ours)
    assert out.startswith(b'{"listed": 500')
    assert out.count(b"\n") == 1
    assert b"500" in drawn


def test_what_the_bar_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a socket may have brackets in it, as markup has."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with os.fdopen(ours, "rb", buffering=0) as terminal, os.fdopen(theirs, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        with progress("memcached:///tmp/[/red]/socket"):
            pass
        drawn = b""
        while b"memcached:///tmp/[/red]/socket" not in drawn:  # it comes in pieces
            drawn += terminal.read(65536)


@pytest.mark.parametrize("hung_up", [False, True])
def test_a_terminal_that_is_closed(
    memcached: Memcached, old: str, any_redis: RedisServer, hung_up: bool
) -> None:
    """The work goes on without its bar, or ends in order; what has been done is told."""
    fill_many(memcached.address, b"k", 500)
    ours, theirs = pty.openpty()
    rate = "10" if hung_up else "500"
    words = ("import", old, "--to", any_redis.url, "--overwrite", "--rate", rate)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # we may run under nohup
    try:
        process = subprocess.Popen(
            [REDCOUCH, *words],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
        )
    finally:
        signal.signal(signal.SIGHUP, before)
        os.close(theirs)
    assert os.read(ours, 65536)  # it is drawn
    os.close(ours)
    if hung_up:
        process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == (129 if hung_up else 0)
    assert out.startswith(b"interrupted: 500 keys" if hung_up else b"500 keys")


def test_a_reader_that_goes_away(memcached: Memcached, any_redis: RedisServer, old: str) -> None:
    """C{redcouch ls | head} ends without a word."""
    fill_many(memcached.address, b"k", 3000)
    assert subprocess.run([REDCOUCH, "import", old, "--to", any_redis.url]).returncode == 0
    piped = subprocess.run(
        ["sh", "-c", f"{REDCOUCH} ls -s {any_redis.url} | {sys.executable} -c 'input()'"],
        capture_output=True,
        timeout=120,
    )
    assert piped.stderr == b""
