"""Processes that end with the run, whichever way it ends."""

import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.interrupts import Interrupts
from bench.tools import require

LOOPBACK = "127.0.0.1"
START_SECONDS = 15.0
STOP_SECONDS = 5.0
ANSWER_SECONDS = 2.0


class StartError(Exception):
    """A process did not come up; the message has the last line of its log."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process that was started here, and the file its output goes to."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def output(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace")

    def log_end(self) -> str:
        """The last line of its output."""
        lines = self.output().strip().splitlines()
        return lines[-1] if lines else "(no output)"


class Processes:
    """Starts processes and stops those it started, by their pid, when the block is left."""

    def __init__(self, folder: Path, interrupts: Interrupts) -> None:
        self.folder = folder
        self._interrupts = interrupts
        self._running: list[Running] = []

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop(*reversed(self._running))

    def start(self, name: str, command: list[str], cpu: int | None = None) -> Running:
        """Start a command, on one CPU core if a number is given.

        It gets a session of its own, so that a Ctrl-C at the terminal reaches this program alone,
        which then stops it.
        """
        pinned = [] if cpu is None else [require("taskset"), "-c", str(cpu)]
        log = self.folder / f"{name}.log"
        with self._interrupts.held(), log.open("wb") as output:
            popen = subprocess.Popen(
                pinned + command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            running = Running(name, popen, log)
            self._running.append(running)
        return running

    def stop(self, *several: Running) -> None:
        """Terminate processes together, and kill those that have not ended some seconds later."""
        with self._interrupts.held():
            for running in several:
                running.popen.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            for running in several:
                _wait_or_kill(running.popen, deadline)
                self._running.remove(running)


def _wait_or_kill(popen: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        popen.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def ask(
    address: tuple[str, int] | str, request: bytes, until: bytes, seconds: float = ANSWER_SECONDS
) -> bytes:
    """Send a request and return what comes back, up to and with `until` or the end of the stream.

    The address is a host and port, or the path of a unix socket. Raises OSError.
    """
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    answer = b""
    with socket.socket(family) as connection:
        connection.settimeout(seconds)
        connection.connect(address)
        connection.sendall(request)
        while until not in answer and (data := connection.recv(4096)):
            answer += data
    return answer


def wait_for_answer(
    running: Running, address: tuple[str, int] | str, request: bytes, expected: bytes
) -> None:
    """Ask until the expected answer comes. Raises StartError when it does not come in time."""
    deadline = time.monotonic() + START_SECONDS
    answer = b""
    while time.monotonic() < deadline and running.popen.poll() is None:
        try:
            answer = ask(address, request, expected)
        except OSError as error:
            answer = str(error).encode()
        if expected in answer:
            return
        time.sleep(0.05)
    raise StartError(f"{running.name} did not start: {answer!r}; {running.log_end()}")
