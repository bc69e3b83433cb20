"""Asking a Redis whether it answers, without a client for it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from redcouch.process.quiet_factory import QuietFactory

PONG = b"+PONG"

LOADING = b"-LOADING"
"""How the answer of a Redis begins that is still reading its file."""

LOCKED = b"-NOAUTH Authentication required."
"""The answer of a Redis that lets nobody in without a password."""

LONGEST_WAIT = 5.0
"""Seconds for an answer; one that takes longer counts as none."""


async def ping(reactor: Any, socket: str, line: bytes = b"PING", count: int = 1) -> bytes:
    """
    The line that a Redis answers to PING, or to another line, or the last of C{count} lines;
    empty where there is no answer.
    """
    try:
        factory = QuietFactory(lambda: Ping(reactor, line, count))
        asking = await UNIXClientEndpoint(reactor, socket).connect(factory)
    except ConnectError:
        return b""
    assert isinstance(asking, Ping)
    return await asking.answer


class Ping(Protocol):
    """
    One question over a connection of its own.

    @ivar answer: fires with the last of C{count} lines, once the connection is closed.
    """

    transport: ITCPTransport

    def __init__(self, reactor: Any, line: bytes, count: int) -> None:
        self._line = line
        self._count = count
        self.answer: Deferred[bytes] = Deferred(lambda _: self.transport.abortConnection())
        self._reactor = reactor
        self._received = b""

    def connectionMade(self) -> None:
        self._giving_up = self._reactor.callLater(LONGEST_WAIT, self.transport.abortConnection)
        self.transport.write(self._line + b"\r\n")

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if self._received.count(b"\r\n") >= self._count:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._giving_up.active():
            self._giving_up.cancel()
        if not self.answer.called:
            lines = self._received.split(b"\r\n")
            self.answer.callback(lines[self._count - 1] if len(lines) > self._count else b"")
