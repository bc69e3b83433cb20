"""What every dialect gives: a command, and how to say its result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from redcouch.commands import Command, Noop
from redcouch.dialects.buffer import ReceiveBuffer
from redcouch.limits import Limits
from redcouch.results import Result

MUCH = 2048
"""Bytes from which more than one request is too much to be understood before others are heard."""

DISCOVERY_KEY = b"AmazonElastiCache:cluster"
"""What clients get in place of C{config get cluster} from a memcached before 1.4.14."""


@dataclass(slots=True)
class Request:
    """
    @ivar command: what to do, in no dialect.
    @ivar encode: the result, as bytes for the client; C{b""} where the client
        asked for silence.
    @ivar next_page: for an answer that comes in parts: the request for the next
        part, or C{None} after the last. Such a request is performed alone.
    """

    command: Command
    encode: Callable[[Result], bytes]
    next_page: Callable[[Result], Request | None] | None = None


class Dialect(ABC):
    """One client's side of a conversation, in one protocol."""

    __slots__ = ("_buffer", "_limits", "_swallow", "broken", "pending")

    #: Nothing more can be understood until the last request, an
    #: L{Authenticate<redcouch.commands.Authenticate>}, is answered: then
    #: C{authenticated} is to be called.
    waiting = False

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = ReceiveBuffer()
        self._swallow = 0
        #: The stream can no longer be understood. Once what was asked before is
        #: answered, the connection has to end; nothing is C{pending}, and C{receive}
        #: is not called again.
        self.broken = False
        #: There may be more requests in what has been received. C{receive(b"")}
        #: gives the next ones, when the client has its turn.
        self.pending = False

    @abstractmethod
    def receive(self, data: bytes) -> list[Request]:
        """
        The requests that these bytes complete, in order, as many as one turn
        allows. What is more than a few requests waits for a turn as a whole.
        Raises nothing.
        """

    @abstractmethod
    def feed(self, data: bytes) -> None:
        """Keep these bytes until the client has its turn."""

    @abstractmethod
    def suspend(self) -> tuple[bytes, int]:
        """
        What has been received and not understood, and how many of the client's next bytes
        are to be thrown away. To be asked while nothing is C{pending} or C{waiting}. A new
        dialect of this kind that is given both, by C{skip} and C{receive}, goes on as this.
        """

    def skip(self, count: int) -> None:
        """Throw away so many of the client's next bytes."""
        self._swallow = count

    def authenticated(self, proven: bool) -> tuple[Dialect, bytes]:
        """Go on: with this dialect, and these bytes received before. Here, nobody is asked."""
        return self, b""


_NOOP = Noop()


def silent(_: object) -> bytes:
    """How the result is said to a client that wants no reply."""
    return b""


def answered(reply: bytes) -> Request:
    """A request whose reply is known, waiting for its turn."""
    return Request(_NOOP, lambda _: reply)
