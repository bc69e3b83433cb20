"""
Raw conversations with a server: bytes out, bytes back, and when that is all.

Nothing here waits for silence. A conversation ends with a request whose reply
cannot be mistaken for another (an L{Ending}), or with the server closing.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from tests.support.polling import PATIENCE

Address = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""


class SilenceError(AssertionError):
    """The server neither answered nor closed. The text says what it had said until then."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is sent behind everything else, and the reply that shows it has been reached."""

    request: bytes
    reply: bytes


TEXT_ENDING = Ending(
    b"set the-end 0 0 3\r\nend\r\nget the-end\r\n",
    b"STORED\r\nVALUE the-end 0 3\r\nend\r\nEND\r\n",
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a server said (without the ending's reply), and whether it has closed."""

    reply: bytes
    closed: bool


def whole(data: bytes) -> Iterator[bytes]:
    """All in one piece."""
    yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    """Each byte by itself."""
    for place in range(len(data)):
        yield data[place : place + 1]


def slices(data: bytes, size: int = 1021) -> Iterator[bytes]:
    """Pieces that end where no line or block does."""
    for place in range(0, len(data), size):
        yield data[place : place + size]


class Wire:
    """A connection to a server. Use it in a C{with} statement."""

    def __init__(self, address: Address) -> None:
        if isinstance(address, str):
            self._socket = socket.socket(socket.AF_UNIX)
        else:
            self._socket = socket.socket(socket.AF_INET)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket.settimeout(PATIENCE)
            self._socket.connect(address)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close our side of it."""
        self._socket.close()

    def converse(self, pieces: Iterable[bytes], ending: Ending = TEXT_ENDING) -> Heard:
        """Send the pieces one by one and the ending; read until it is answered or all is over."""
        heard = self.say((*pieces, ending.request), ending.reply)
        if heard.closed:
            return heard
        return Heard(heard.reply.removesuffix(ending.reply), False)

    def say(self, pieces: Iterable[bytes], until: bytes) -> Heard:
        """
        Send the pieces one by one, and read until all are sent and the last
        that was said is C{until}, or until the server closes.

        @raise SilenceError: neither happened.
        """
        reply = bytearray()
        pending = iter(pieces)
        unsent: bytes | None = next(pending, None)
        while unsent is not None or not reply.endswith(until):
            sending = [self._socket] if unsent is not None else []
            readable, writable, _ = select.select([self._socket], sending, [], PATIENCE)
            if not (readable or writable):
                raise SilenceError(f"nothing more after {bytes(reply)!r}, expected {until!r}")
            if readable:
                data = self._receive()
                if not data:
                    return Heard(bytes(reply), True)
                reply += data
            elif unsent is not None:
                unsent = self._send(unsent) or next(pending, None)
        return Heard(bytes(reply), False)

    def exchange(self, request: bytes, ending: Callable[[bytes], bool]) -> bytes | None:
        """
        Send a small request, and read until C{ending} says that the reply is
        whole. C{None} where the server closes instead, or before.
        """
        try:
            self._socket.sendall(request)
        except ConnectionError:
            return None
        reply = b""
        while not reply or not ending(reply):
            data = self._receive()
            if not data:
                return None
            reply += data
        return reply

    def read_to_the_end(self) -> bytes:
        """All that comes until the server closes, with our own side closed."""
        with suppress(OSError):  # it has closed; what it said before is still there to be read
            self._socket.shutdown(socket.SHUT_WR)
        return b"".join(iter(self._receive, b""))

    def _send(self, data: bytes) -> bytes:
        """Send some of it; gives the rest."""
        try:
            return data[self._socket.send(data[:65536], socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return data
        except (BrokenPipeError, ConnectionResetError):
            return b""  # it has closed; what it said before is still there to be read

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(262144)
        except ConnectionResetError:
            return b""


def ask(address: Address, request: bytes, until: bytes) -> bytes:
    """The reply to one request, up to and with C{until}, on a connection of its own."""
    with Wire(address) as wire:
        return wire.say([request], until).reply
