"""
Which clients the system knows to be gone, though nobody has read that yet.

A client that closes leaves an end in its socket, which is read when its turn
comes. Until then it counts as a client. Asked here is the system, about all
sockets in one call, when there is no place left for somebody who is there.
"""

from __future__ import annotations

import select
from typing import Any

from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure

from redcouch.server.direct_writer import socket_transport

_SAYS_NO_MORE = getattr(select, "POLLRDHUP", 0)


class Hangups:
    """Sockets, and whose they are."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._owners: dict[int, Any] = {}
        self._descriptors: dict[Any, int] = {}

    def watch(self, transport: Any, owner: Any) -> None:
        """Look at the socket of a transport, if it has one. (It costs no system call.)"""
        has_socket = socket_transport(transport)
        if has_socket is not None:
            descriptor = has_socket.fileno()
            self._owners[descriptor] = owner
            self._descriptors[owner] = descriptor
            self._poll.register(descriptor, _SAYS_NO_MORE)

    def forget(self, owner: Any) -> None:
        """Look at it no more; it may be closed already."""
        descriptor = self._descriptors.pop(owner, None)
        if descriptor is not None and self._owners.get(descriptor) is owner:
            del self._owners[descriptor]
            self._poll.unregister(descriptor)

    def find(self) -> list[Any]:
        """Whose sockets are closed on the other side."""
        return [self._owners[descriptor] for descriptor, _ in self._poll.poll(0)]


def end_now(transport: Any) -> None:
    """Let a connection be over, and not only when its reactor comes to it."""
    ending: Any = socket_transport(transport)
    if ending is not None and ending.connected:
        ending.stopReading()
        ending.stopWriting()
        ending.connectionLost(Failure(CONNECTION_DONE))
