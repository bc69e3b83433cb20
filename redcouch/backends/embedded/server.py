"""
The private redis-server as the service sees it: started, answering, started
again should it end by itself, and stopped.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectingCancelledError,
    ProcessDone,
    ProcessExitedAlready,
    ProcessTerminated,
)
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from redcouch.backends.embedded import guard
from redcouch.backends.embedded.directory import ServerDirectory
from redcouch.backends.embedded.ping import PING, Command, ask, is_loading, is_there
from redcouch.errors import ConfigurationError
from redcouch.process.clock import cancel

FIRST_POLL = 0.02
LAST_POLL = 0.25
"""Seconds before a redis-server that starts is asked again; growing."""

FIRST_DELAY = 0.25
LAST_DELAY = 30.0
"""Seconds before a redis-server that has ended is started again; doubled each time."""

LAST_RESORT = guard.STOPPING + 3
"""Seconds after which a guard that should have ended is killed."""

TAIL = 10
"""Lines of output that are shown of a redis-server that did not start."""

#: A line of Redis' log: process id and role, date, mark, text. The mark # is a warning's.
LOG_LINE = re.compile(r"\d+:[A-Z] \d\d \w+ \d{4} [\d:.]+ ([.*#-]) (.*)")

NO_WARNINGS = (
    "Missing implement of connection type tls",
    "IP address for this node updated to",
    "Cluster state changed: ok",
)
"""How lines begin that Redis marks as warnings, and says at each start of a cluster."""


class ServerEndedError(Exception):
    """The redis-server ended before it answered. The text is one line for the operator."""


class Guard(ProcessProtocol):
    """
    A L{guard<redcouch.backends.embedded.guard>} process, and what it and its
    redis-server say.

    @ivar answered: whether redis-server has answered yet.
    @ivar tail: the last lines that were said.
    """

    transport: IProcessTransport
    log = Logger()

    def __init__(self, starting: Callable[[], None], ended: Callable[[str], None]) -> None:
        """
        @param starting: called when redis-server is being started.
        @param ended: called when all has ended, with the reason in a few words.
        """
        self.answered = False
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._starting = starting
        self._ended = ended
        self._partial = {1: b"", 2: b""}
        self._closing = False

    def close(self) -> None:
        """Have redis-server stopped, and end."""
        self._closing = True
        self.transport.closeStdin()

    def kill(self) -> None:
        """End at once; redis-server does then too."""
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            return

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, self._partial[childFD] = (self._partial[childFD] + data).split(b"\n")
        for line in lines:
            if line == guard.STARTING:
                self._starting()
            else:
                self._said(line)

    def _said(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if not text:
            return
        mark, text = read_log_line(text)
        self.tail.append(text)
        warns = mark == "#" and not text.startswith(NO_WARNINGS)
        if warns and self.answered and not self._closing:
            self.log.warn("redis-server says: {line}", line=text)

    def processEnded(self, reason: Failure) -> None:
        for rest in self._partial.values():
            self._said(rest)
        ended = reason.value
        assert isinstance(ended, ProcessTerminated | ProcessDone)
        self._ended(describe_exit(ended.exitCode))


def read_log_line(line: str) -> tuple[str, str]:
    """The mark and the text of a line of Redis' log; no mark for any other line."""
    found = LOG_LINE.fullmatch(line)
    return (found[1], found[2]) if found else ("", line)


def describe_exit(status: int | None) -> str:
    """An exit status, as the guard gives it, in words."""
    if status is None:
        return "its guard was killed"
    try:
        return f"killed by {signal.Signals(status - 128).name}"
    except ValueError:
        return f"exit status {status}"


class PrivateServer:
    """
    Runs one redis-server between L{start} and L{stop}.

    @ivar _guard: the process that runs now; C{None} between two.
    @ivar _restarting: the delayed call that is going to start the next one.
    @ivar _told: how redis-server has ended by itself since it last answered, and its last words.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        place: ServerDirectory,
        command: list[str],
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        """@param on_restart: called when it answers again after it had ended by itself."""
        self._on_restart = on_restart
        self._reactor = reactor
        self._place = place
        self._command = command
        self._guard: Guard | None = None
        self._polling: Deferred[None] | None = None
        self._restarting: Any = None
        self._delay = FIRST_DELAY
        self._told: set[tuple[str, str]] = set()
        self._stopping = False
        self._started: Deferred[None] = Deferred()
        self._stopped: Deferred[None] = Deferred()

    def start(self) -> Deferred[None]:
        """
        Fires when redis-server answers.

        Fails with L{ConfigurationError} or L{ServerEndedError}, also where C{stop}
        came before.
        """
        try:
            self._place.prepare()
        except ConfigurationError:
            self._started.errback()
        else:
            self._launch()
        return self._started

    def stop(self) -> Deferred[None]:
        """Fires when nothing is left running."""
        self._stopping = True
        cancel(self._restarting)
        if self._guard is None:
            self._stopped.callback(None)
        else:
            last_resort = self._reactor.callLater(LAST_RESORT, self._guard.kill)
            self._stopped.addCallback(lambda _: cancel(last_resort))
            self._guard.close()
        return self._stopped

    async def limit_memory(self, size: int, *login: Command) -> bool:
        """
        Bound the memory of redis-server, also of one that has to be started again.

        @param login: what it is told before, to be let in.
        """
        chosen = {"maxmemory-policy": "allkeys-lru", "maxmemory": str(size)}
        for name, value in chosen.items():
            change = (b"CONFIG", b"SET", name.encode(), value.encode())
            if await ask(self._reactor, self._place.socket, *login, change) != b"OK":
                return False
        for name, value in chosen.items():
            self._command = [*self._command, f"--{name}", value]  # the last one counts
        return True

    def _launch(self) -> None:
        self._restarting = None
        self._guard = Guard(self._server_starting, self._guard_ended)
        # Isolated (-I) and without site packages (-S): it needs neither, and starts sooner.
        arguments = [sys.executable, "-I", "-S", os.path.abspath(guard.__file__)]
        arguments += [self._place.temporary, self._place.lock, *self._command]
        try:
            self._reactor.spawnProcess(self._guard, arguments[0], arguments, env=None)
        except OSError as why:
            self._guard_ended(f"cannot run {arguments[0]}: {why.strerror}")

    def _server_starting(self) -> None:
        self._polling = Deferred.fromCoroutine(self._poll())
        self._polling.addErrback(lambda why: why.trap(CancelledError, ConnectingCancelledError))
        self._polling.addErrback(lambda why: self.log.failure("While redis-server started", why))

    async def _poll(self) -> None:
        """Ask until there is an answer; cancelled when there is going to be none."""
        delay = FIRST_POLL
        loading = False
        while not is_there(answer := await ask(self._reactor, self._place.socket, PING)):
            if is_loading(answer) and not loading:
                loading = True
                self.log.info(
                    "redis-server is loading the items from {directory}",
                    directory=self._place.directory,
                )
            await deferLater(self._reactor, delay)
            delay = min(delay * 1.5, LAST_POLL)
        self._server_answers()

    def _server_answers(self) -> None:
        assert self._guard is not None
        self._guard.answered = True
        self._delay = FIRST_DELAY
        if self._told:
            self._told.clear()
            self.log.info("redis-server answers again")
            self._on_restart()
        else:
            self._started.callback(None)

    def _guard_ended(self, how: str) -> None:
        ended, self._guard = self._guard, None
        assert ended is not None
        if self._polling is not None:
            self._polling.cancel()
        self._place.sweep()
        stopping = self._stopping  # What hears of the end may well stop this in turn.
        if not self._started.called:
            self._not_started(list(ended.tail), how)
        elif not stopping:
            self._start_again(ended.tail[-1] if ended.tail else "", how)
        if stopping:
            self._stopped.callback(None)

    def _not_started(self, tail: list[str], how: str) -> None:
        if not self._stopping:
            for line in tail[:-1]:
                self.log.error("redis-server says: {line}", line=line)
        last = tail[-1] if tail else how
        self._started.errback(ServerEndedError(f"embedded: redis-server did not start: {last}"))

    def _start_again(self, last: str, how: str) -> None:
        if (how, last) not in self._told:
            self._told.add((how, last))
            self.log.error(
                "redis-server ended by itself ({how}; its last words: {last}); starting it again",
                how=how,
                last=last,
            )
        self._restarting = self._reactor.callLater(self._delay, self._launch)
        self._delay = min(self._delay * 2, LAST_DELAY)
