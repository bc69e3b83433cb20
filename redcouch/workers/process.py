"""
The processes that the parent starts, as it sees them: workers, and the fork
server that they are forked from. What they say, and how they ended.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

import redcouch
from redcouch.handover.descriptors import speak
from redcouch.workers.channel import (
    CONTROL,
    COUNTS,
    FIRST_SOCKET,
    REPORT,
    REQUEST,
    RUNNING,
    UNHEARD,
    Channel,
    Respond,
)

_LONGEST_LINE = 16 * 1024


class Output(Protocol):
    """
    What a process prints.

    @ivar last_words: the last line of it.
    @ivar closed: fires when nothing more can come.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        """@param log: is given each line."""
        self.last_words = ""
        self.closed: Deferred[None] = Deferred()
        self._log = log
        self._partial = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, rest = (self._partial + data).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines.append(rest)
            rest = b""
        self._partial = rest
        for line in lines:
            self._printed(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._printed(self._partial)
        self.closed.callback(None)

    def _printed(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self.last_words = text
            self._log(text)


class WorkerProcess:
    """
    @ivar channel: the conversation with it.
    @ivar output: what it prints.
    @ivar pid: its process id, once it is forked.
    @ivar signalled: whether a signal has ended it, as far as anybody knows.
    @ivar ended_well: whether it has ended by itself, with status 0.
    @ivar last_words: the last line that it printed.
    @ivar ended: fires with how it ended, in a few words, when it has.
    """

    def __init__(self, number: int, responds: Mapping[str, Respond], reactor: Any) -> None:
        """
        @param number: which of the workers it is, from 1.
        @param responds: what to do when it says something; see L{Channel}.
        """
        self.number = number
        self.pid = 0
        self.last_words = ""
        self.signalled = False
        self.ended_well = False
        self.started = reactor.seconds()
        self.ended: Deferred[str] = Deferred()
        self._status: Deferred[int | None] = Deferred()
        silent: Deferred[None] = Deferred()
        responds = {"log": self._log_event, **responds}
        self.channel = Channel(responds, lambda: silent.callback(None), reactor)
        self.output = Output(lambda text: self._log_event(["info", __name__, text]))
        signs: list[Deferred[Any]] = [self._status, silent, self.output.closed]
        DeferredList(signs).addCallback(lambda outcomes: self._on_end(outcomes[0][1]))

    def settle(self, status: int | None, last_words: str = "") -> None:
        """
        Take note of its end.

        @param status: its wait status; C{None} where nobody can know.
        @param last_words: of whoever should have forked it.
        """
        if not self._status.called:
            self.last_words = last_words
            self._status.callback(status)

    def kill(self) -> None:
        """End it now."""
        if self._status.called:
            return
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.settle(signal.SIGKILL)  # whether or not the fork server is able to say so
        for conversation in (self.channel, self.output):
            transport: Any = conversation.transport
            transport.abortConnection()

    def _on_end(self, status: int | None) -> None:
        self.last_words = self.output.last_words or self.last_words
        self.signalled = status is None or os.WIFSIGNALED(status)
        self.ended_well = status == 0
        self.ended.callback(_describe(status))

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


class Reports(Protocol):
    """What the fork server says of the workers."""

    def __init__(self, on_report: Callable[[int, int, int], None]) -> None:
        """@param on_report: is given what each L{REPORT} says."""
        self.closed: Deferred[None] = Deferred()
        self._on_report = on_report
        self._partial = b""

    def dataReceived(self, data: bytes) -> None:
        data = self._partial + data
        whole = len(data) - len(data) % REPORT.size
        self._partial = data[whole:]
        for report in REPORT.iter_unpack(data[:whole]):
            self._on_report(*report)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)


class ForkServer(ProcessProtocol):
    """The process that workers are forked from."""

    transport: IProcessTransport
    _log = Logger()

    def __init__(self, sockets: Sequence[int], client_counts: int, reactor: Any) -> None:
        """
        Start it.

        @param sockets: descriptors of the listening sockets.
        @param client_counts: the descriptor of the common memory.
        @raise OSError: the system cannot.
        """
        self._reactor = reactor
        self._retired = False
        self._code = _installed_code()
        self._workers: dict[int, WorkerProcess] = {}
        self._requests = 0
        self._status: Deferred[int] = Deferred()
        self._reports = Reports(self._on_report)
        self._output = Output(lambda text: self._log.info("[fork server] {text}", text=text))
        # Safe path (-P): the working directory is none to import from.
        command = [sys.executable, "-P", "-m", "redcouch.workers.fork_server"]
        command += [type(reactor).__module__]
        environment = _environment()
        with _pairs() as (ours, theirs), _signals_held():
            control, output = (one.fileno() for one in theirs)
            descriptors = {CONTROL: control, 1: output, 2: output, COUNTS: client_counts}
            descriptors.update(enumerate(sockets, FIRST_SOCKET))
            reactor.spawnProcess(self, command[0], command, environment, childFDs=descriptors)
        self._control, output_end = ours
        speak(self._control.dup(), self._reports, reactor)
        speak(output_end, self._output, reactor)
        signs: list[Deferred[Any]] = [self._status, self._reports.closed, self._output.closed]
        DeferredList(signs).addCallback(lambda outcomes: self._on_end(outcomes[0][1]))

    def is_usable(self) -> bool:
        """
        Whether workers can be forked from it. Where another release has been installed
        since it started they cannot: it has half of the one, and would import half of the
        other.
        """
        if self._code != _installed_code():
            self.retire()
        return not self._retired

    def fork(self, worker: WorkerProcess) -> None:
        """
        Have a worker forked. Whatever comes of it, that worker says how it ended.

        @raise OSError: the system cannot.
        """
        self._requests += 1
        request = REQUEST.pack(self._requests, worker.number)
        with _pairs() as (ours, theirs):
            socket.send_fds(self._control, [request], [one.fileno() for one in theirs])
        self._workers[self._requests] = worker
        speak(ours[0], worker.channel, self._reactor)
        speak(ours[1], worker.output, self._reactor)

    def retire(self) -> None:
        """Have it end once its workers have."""
        if not self._retired:
            self._retired = True
            with suppress(OSError):  # it is gone
                self._control.shutdown(socket.SHUT_WR)

    def connectionMade(self) -> None:
        self.pid: int = self.transport.pid  # which the transport forgets at the end

    def processEnded(self, reason: Failure) -> None:
        ended = reason.value
        assert isinstance(ended, ProcessDone | ProcessTerminated)
        self._status.callback(ended.status or 0)

    def _on_report(self, request: int, pid: int, status: int) -> None:
        if status == RUNNING:
            self._workers[request].pid = pid
        else:
            self._workers.pop(request).settle(status)

    def _on_end(self, status: int) -> None:
        self._control.close()
        if not self._retired:
            self._retired = True
            self._log.error(
                "The fork server (process {pid}) {how}: the next worker starts another",
                pid=self.pid,
                how=_describe(status),
            )
        for worker in self._workers.values():
            worker.settle(None if worker.pid else status, self._output.last_words)


@contextmanager
def _pairs() -> Iterator[tuple[list[socket.socket], list[socket.socket]]]:
    """
    The ends of two connections to another process: ours, which stay open unless
    something goes wrong, and its own.
    """
    with ExitStack() as kept, ExitStack() as given:
        pairs = [socket.socketpair() for _ in range(2)]
        ours = [kept.enter_context(one) for one, _ in pairs]
        theirs = [given.enter_context(other) for _, other in pairs]
        yield ours, theirs
        kept.pop_all()


def _installed_code() -> tuple[int, ...] | None:
    """Tells one installation from another; the same as long as nothing is installed."""
    try:
        found = os.stat(redcouch.__file__)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextmanager
def _signals_held() -> Iterator[None]:
    """A process that is started meanwhile has them held too, until it lets go of them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, UNHEARD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[str, str]:
    """Ours, so that workers import from where we have."""
    path = os.pathsep.join(os.path.abspath(place) for place in sys.path if place)
    return {**os.environ, "PYTHONPATH": path}


def _describe(status: int | None) -> str:
    """How a process has ended, by its wait status."""
    if status is None:
        return "ended, and who knew how has ended before"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
