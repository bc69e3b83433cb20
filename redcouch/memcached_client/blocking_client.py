"""A connection to a memcached that waits for the replies to what it asks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

from redcouch.errors import ServerError
from redcouch.memcached_client.address import Address
from redcouch.memcached_client.protocol import (
    WHO,
    GarbageError,
    PendingRequest,
    Read,
    Reply,
    RequestQueue,
    authenticate,
    read_line,
    read_meta,
)

T = TypeVar("T")

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0

LARGEST = 1024 * 1024 * 1024
"""Bytes of the largest item that a memcached can be told to take (-I)."""

_READ = 256 * 1024


class BlockingClient:
    """
    Requests and their replies. Use it in a C{with} statement.

    @ivar connected: how often it has.
    @raise ServerError: from everything here, if memcached cannot be reached,
        closes, is silent for L{ANSWER_SECONDS}, or answers garbage.
    """

    def __init__(
        self, address: Address, again: Callable[[BlockingClient], None] | None = None
    ) -> None:
        """
        @param again: where memcached has closed the connection since the last reply, as it does
            with idle_timeout, there is another, once this has looked at it.
        """
        self.address = address
        self._queue: RequestQueue[PendingRequest] = RequestQueue(LARGEST)
        self.connected = 0
        self._again: Callable[[BlockingClient], None] | None = None
        self._connect()
        self._again = again

    def _connect(self) -> None:
        address = self.address
        try:
            if address.socket is not None:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(CONNECT_SECONDS)
                self._socket.connect(address.socket)
            else:
                self._socket = socket.create_connection(
                    (address.host, address.port), CONNECT_SECONDS
                )
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            raise self.fault(error.strerror or str(error)) from None
        self._socket.settimeout(ANSWER_SECONDS)
        self.connected += 1
        if address.password is not None:
            self._authenticate(address.username or "", address.password)

    def _authenticate(self, username: str, password: str) -> None:
        (reply,) = self.ask(WHO, 1, read_line)
        if reply.line in (b"EN", b"ERROR"):
            return
        if reply.code == b"CLIENT_ERROR":
            (reply,) = self.ask(authenticate(username, password), 1, read_line)
        if reply.code != b"STORED":
            self.close()
            raise self.fault(f"refused the password: {show(reply)}")

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """From where it asks; 0 where that is a socket in the file system."""
        return 0 if self.address.socket is not None else int(self._socket.getsockname()[1])

    def close(self) -> None:
        self._socket.close()

    def ask(self, data: bytes, expected: int, read: Read = read_meta) -> Iterator[Reply]:
        """
        The replies to a request, each as it arrives. All of them have to be taken. What is
        sent has to be small, or both sides wait.
        """
        return self._replies(PendingRequest(data, expected, read))

    def ask_lines(self, line: bytes) -> Iterator[Reply]:
        """The same where the answer is lines, up to one that says that it is the last."""
        return self._replies(PendingRequest(line + b"\r\n", None, read_line))

    def _replies(self, request: PendingRequest) -> Iterator[Reply]:
        again = self._again
        if again is not None and not self._queue.pending and self._is_closed():
            self.close()
            self._again = None
            self._connect()
            again(self)
            self._again = again
        self._queue.add(request)
        self._attempt(lambda: self._socket.sendall(request.data))
        while True:
            while request.replies:
                yield request.replies.popleft()
            if request.complete:
                return
            data = self._attempt(lambda: self._socket.recv(_READ))
            if not data:
                raise self.fault("closed the connection")
            try:
                for _ in self._queue.receive(data):
                    pass
            except GarbageError as error:
                raise self.fault(str(error)) from None

    def _is_closed(self) -> bool:
        """Whether the other end has closed it."""
        self._socket.setblocking(False)
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self._socket.settimeout(ANSWER_SECONDS)

    def _attempt(self, what: Callable[[], T]) -> T:
        try:
            return what()
        except OSError as error:
            raise self.fault(error.strerror or "no answer") from None

    def fault(self, what: str) -> ServerError:
        """The error to raise for what it did."""
        return ServerError(f"{self.address.shown}: {what}")


def show(reply: Reply) -> str:
    """What a memcached has said, for people."""
    return reply.line[:80].decode(errors="replace")
