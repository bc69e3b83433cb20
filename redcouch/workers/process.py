"""
One worker as its parent sees it: the process, what it says, and how it ended.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from redcouch.workers.channel import CROWD, FIRST_SOCKET, SPEAK, UNHEARD, Channel, Respond

_LONGEST_LINE = 16 * 1024


class WorkerProcess(ProcessProtocol):
    """
    @ivar channel: the conversation with it.
    @ivar pid: its process id, once it is started.
    @ivar signalled: whether a signal has ended it.
    @ivar ended_well: whether it has ended by itself, with status 0.
    @ivar last_words: the last line that it printed.
    @ivar ended: fires with how it ended, in a few words, when it has.
    """

    transport: IProcessTransport

    def __init__(self, number: int, responds: Mapping[str, Respond], reactor: Any) -> None:
        """
        @param number: which of the workers it is, from 1.
        @param responds: what to do when it says something; see L{Channel}.
        """
        self.number = number
        self.last_words = ""
        self.signalled = False
        self.ended_well = False
        self.started = reactor.seconds()
        self.ended: Deferred[str] = Deferred()
        self.channel = Channel({"log": self._log_event, **responds}, _nothing, reactor)
        self._partial = {1: b"", 2: b""}

    def spawn(self, reactor: Any, sockets: Sequence[int], client_counts: int) -> None:
        """
        Start it.

        @param sockets: descriptors of the listening sockets.
        @param client_counts: the descriptor of the common memory.
        @raise OSError: the system cannot.
        """
        descriptors: dict[int, str | int] = {
            0: "w",
            1: "r",
            2: "r",
            SPEAK: "r",
            CROWD: client_counts,
        }
        descriptors.update(enumerate(sockets, FIRST_SOCKET))
        # Safe path (-P): the working directory is none to import from.
        command = [sys.executable, "-P", "-m", "redcouch.workers.worker", str(self.number)]
        command += [type(reactor).__module__]
        with _signals_held():
            reactor.spawnProcess(
                self, command[0], command, env=_environment(), childFDs=descriptors
            )

    def kill(self) -> None:
        """End it now."""
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            return

    # -- ProcessProtocol ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        self.pid: int = self.transport.pid  # which the transport forgets at the end
        self.channel.makeConnection(_Pipe(self.transport))

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == SPEAK:
            self.channel.dataReceived(data)
            return
        *lines, rest = (self._partial[childFD] + data).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines.append(rest)
            rest = b""
        self._partial[childFD] = rest
        for line in lines:
            self._printed(line)

    def processEnded(self, reason: Failure) -> None:
        for rest in self._partial.values():
            self._printed(rest)
        self.channel.connectionLost(reason)
        ended = reason.value
        assert isinstance(ended, ProcessDone | ProcessTerminated)
        self.signalled = ended.signal is not None
        self.ended_well = isinstance(ended, ProcessDone)
        self.ended.callback(_describe(ended))

    # -- what it says ------------------------------------------------------------------------

    def _printed(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self.last_words = text
            self._log_event(["info", __name__, text])

    def _log_event(self, event: Any) -> None:
        """What it would have logged becomes an event of our log, in one piece."""
        level, namespace, text, *fields = event
        Logger(namespace, source=self).emit(
            LogLevel.levelWithName(level),
            "[worker {worker}] {text}",
            worker=self.number,
            text=text,
            fields=fields[0] if fields else {},
        )


def _nothing() -> None:
    """It is only C{processEnded} that matters."""


class _Pipe:
    """What the channel writes to."""

    def __init__(self, process: IProcessTransport) -> None:
        self._process = process

    def write(self, data: bytes) -> None:
        # After its end nobody listens. (Twisted has no descriptor any more then.)
        if 0 in self._process.pipes:  # type: ignore[attr-defined]
            self._process.writeToChild(0, data)

    def loseConnection(self) -> None:
        """It said something that nobody can understand."""
        self._process.signalProcess("KILL")


@contextmanager
def _signals_held() -> Iterator[None]:
    """A process that is started meanwhile has them held too, until it lets go of them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, UNHEARD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[str, str]:
    """Ours, so that the worker imports from where we have."""
    path = os.pathsep.join(os.path.abspath(place) for place in sys.path if place)
    return {**os.environ, "PYTHONPATH": path}


def _describe(ended: ProcessDone | ProcessTerminated) -> str:
    if ended.signal is None:
        return f"ended with status {ended.exitCode or 0}"
    try:
        return f"was ended by {signal.Signals(ended.signal).name}"
    except ValueError:
        return f"was ended by signal {ended.signal}"
