"""Something between RedCouch and a real Redis that harms what Redis answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support import servers
from tests.support.wire import Address

_RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER of 0 seconds: closing is a reset."""


class Proxy:
    """
    Passes on all that it hears.

    @ivar dripping: pass replies on in single bytes.
    @ivar cuts: how many replies have been cut.
    """

    def __init__(self, behind: Address) -> None:
        self._behind = behind
        self._listening = socket.create_server((servers.LOOPBACK, 0))
        self._armed = threading.Semaphore(0)
        self._open: list[socket.socket] = []
        self.dripping = False
        self.cuts = 0

    @property
    def url(self) -> str:
        """A storage URL."""
        return f"redis://{servers.LOOPBACK}:{self._listening.getsockname()[1]}"

    def cut(self) -> None:
        """Of the next reply pass half on, and end its connection with a reset."""
        self._armed.release()

    def start(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """End, with all connections."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:  # it is over
                return
            storage = socket.create_connection(self._behind)  # type: ignore[arg-type]
            for one in (client, storage):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [client, storage]
            for work in (self._pass_requests, self._pass_replies):
                threading.Thread(target=work, args=(client, storage), daemon=True).start()

    def _pass_requests(self, client: socket.socket, storage: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                storage.sendall(data)
        with suppress(OSError):
            storage.shutdown(socket.SHUT_RDWR)

    def _pass_replies(self, client: socket.socket, storage: socket.socket) -> None:
        with client, storage, suppress(OSError):
            while data := storage.recv(65536):
                if len(data) > 1 and self._armed.acquire(blocking=False):
                    client.sendall(data[: len(data) // 2])
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    client.shutdown(socket.SHUT_RD)  # or who reads from it keeps it open
                    self.cuts += 1
                    return
                self._pass(client, data)

    def _pass(self, client: socket.socket, data: bytes) -> None:
        size = 1 if self.dripping else len(data)
        for place in range(0, len(data), size):
            client.sendall(data[place : place + size])


@contextmanager
def in_front_of(behind: Address) -> Iterator[Proxy]:
    """A proxy, until the end of the block."""
    proxy = Proxy(behind)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
