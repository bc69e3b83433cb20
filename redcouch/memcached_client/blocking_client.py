"""A connection to a memcached, which waits for what it asks for."""

from __future__ import annotations

import socket
from types import TracebackType

from redcouch.cli.errors import ServerError
from redcouch.memcached_client.address import Address
from redcouch.memcached_client.protocol import authenticate

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0

_READ = 256 * 1024
_LONGEST_LINE = 64 * 1024


class Connection:
    """
    Lines and blocks of bytes. Use it in a C{with} statement.

    @raise ServerError: from everything here, if memcached cannot be reached,
        closes, or is silent for L{ANSWER_SECONDS}.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
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
        except OSError as error:
            raise self.trouble(error.strerror or str(error)) from None
        self._socket.settimeout(ANSWER_SECONDS)
        self._reader = self._socket.makefile("rb", _READ)
        if address.password is not None:
            self._authenticate(address.username or "", address.password)

    def _authenticate(self, username: str, password: str) -> None:
        self.send(authenticate(username, password))
        said = self.read_line()
        if said != b"STORED":
            self.close()
            raise self.trouble(f"refused the password: {said[:80].decode(errors='replace')}")

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it. What may be unread meanwhile has to be small, or both sides wait."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self.trouble(error.strerror or "no answer") from None

    def read_line(self) -> bytes:
        """The next line, without its end."""
        try:
            line: bytes = self._reader.readline(_LONGEST_LINE)
        except OSError as error:
            raise self.trouble(error.strerror or "no answer") from None
        if not line.endswith(b"\n"):
            raise self.trouble("closed the connection" if not line else "broke off in a line")
        return line[:-2] if line.endswith(b"\r\n") else line[:-1]

    def read_exactly(self, count: int) -> bytes:
        """The next so many bytes."""
        try:
            data: bytes = self._reader.read(count)
        except OSError as error:
            raise self.trouble(error.strerror or "no answer") from None
        if len(data) < count:
            raise self.trouble("closed the connection")
        return data

    def ask(self, line: bytes) -> bytes:
        """Send a line; gives the line that answers it."""
        self.send(line + b"\r\n")
        return self.read_line()

    def trouble(self, what: str) -> ServerError:
        """The error to raise for what it did."""
        return ServerError(f"{self.address.shown}: {what}")
