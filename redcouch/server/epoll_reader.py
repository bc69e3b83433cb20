"""
Read from many sockets in one event of the reactor.

Twisted calls each readable transport through a logging context, at about two
microseconds for each, which is as long as a small request takes to read. On
Linux an epoll descriptor can itself be watched: so all clients' sockets are
put into one of our own, the reactor watches that, and one event of the reactor
reads from every client that has something to say. What comes of an end or a
failure is as Twisted has it. Where there is no epoll, and for transports
that encrypt, the reactor reads as ever.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from redcouch.server.direct_writer import socket_transport
from redcouch.server.hangups import end_now

MOST = 65536
"""Bytes to read at a time, as Twisted does."""

_AT_A_TIME = 64
"""
Clients to read from before the storage and the replies have their turn. With
hundreds at once, what belongs to them no longer fits the processor's cache.
"""

_MUCH = 256
"""Bytes from which what a client says may take a while to understand."""

_SECONDS = 0.004
"""Seconds in which clients who say much are read from, before all else has its turn."""

_Watched = tuple[tcp.Connection, Callable[[int], bytes], Callable[[bytes], None]]
"""A transport, how to receive from it and whom to give that to."""

_Events = list[tuple[int, int]]
"""As epoll gives them: descriptors, and what there is to be done with each."""


class Reading:
    """Whether one transport is read from. This one leaves it to Twisted."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def pause(self) -> None:
        """Read no more for now."""
        self._transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        self._transport.resumeProducing()

    def stop(self) -> None:
        """Read no more for good."""

    def read(self) -> None:
        """Read what is there now, if anything is."""
        transport: Any = socket_transport(self._transport)
        why = transport.doRead() if transport.connected else None
        if why is CONNECTION_DONE:
            transport.stopReading()
            transport.readConnectionLost(Failure(why))
        elif why is not None:
            end_now(transport)


class _EpollReading(Reading):
    """The same for a socket that a L{EpollReader} watches."""

    def __init__(self, transport: tcp.Connection, epoll_reader: EpollReader) -> None:
        super().__init__(transport)
        self._gatherer = epoll_reader
        self._descriptor = transport.fileno()
        self._reads = False
        transport.stopReading()
        self.resume()

    def pause(self) -> None:
        if self._reads:
            self._reads = False
            self._gatherer.forget(self._descriptor)

    def resume(self) -> None:
        transport = self._transport
        if not self._reads and transport.connected and not transport.disconnecting:
            self._reads = True
            self._gatherer.watch(self._descriptor, transport)

    stop = pause

    def read(self) -> None:
        self._gatherer.read([(self._descriptor, select.EPOLLIN)])


@implementer(IReadDescriptor)
class EpollReader:
    """Watches sockets on behalf of a reactor. One is made for a service."""

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll: Any = None
        self._watched: dict[int, _Watched] = {}
        #: Those who have something to say, and for whom there was no time yet.
        self._ready: _Events = []

    def reading(self, transport: Any) -> Reading:
        """Take over the reading of a transport that has just connected, where that helps."""
        if not hasattr(select, "epoll") or not is_plain(transport):
            return Reading(transport)
        return _EpollReading(transport, self)

    def watch(self, descriptor: int, transport: tcp.Connection) -> None:
        """Read from a transport whenever there is something."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._reactor.addReader(self)
        self._watched[descriptor] = (
            transport,
            transport.socket.recv,
            transport.protocol.dataReceived,
        )
        self._epoll.register(descriptor, select.EPOLLIN)

    def forget(self, descriptor: int) -> None:
        """Watch that one no more. It may be closed already: epoll forgot it then."""
        if self._watched.pop(descriptor, None) is not None:
            try:
                self._epoll.unregister(descriptor)
            except OSError:
                return

    def stop(self) -> None:
        """Let go of the epoll descriptor. Nothing is watched any more."""
        if self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None
            self._watched.clear()

    # -- IReadDescriptor ---------------------------------------------------------------------

    def fileno(self) -> int:
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        return "clients"

    def doRead(self) -> None:
        self._ready = self.read(self._ready or self._epoll.poll(0, _AT_A_TIME))

    def read(self, events: _Events) -> _Events:
        """Read from some of the watched; gives those for whom there was no time."""
        until = 0.0
        ready = iter(events)
        for descriptor, _ in ready:
            try:
                transport, receive, data_received = self._watched[descriptor]
            except KeyError:  # closed by what another one sent, a moment ago
                continue
            try:
                data = receive(MOST)
                if data:
                    data_received(data)
                else:
                    self._end(descriptor, transport, CONNECTION_DONE)
            except BlockingIOError:
                continue
            except OSError:
                self._end(descriptor, transport, CONNECTION_LOST)
            except Exception as error:
                self._log.failure("Could not understand a client")
                self._end(descriptor, transport, error)
            else:
                if len(data) > _MUCH:
                    now = self._reactor.seconds()
                    until = until or now + _SECONDS
                    if now >= until:
                        break
        return list(ready)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is done with us, since it stops."""
        self.stop()

    def _end(self, descriptor: int, transport: tcp.Connection, why: Exception) -> None:
        """What a reactor does when a transport has nothing more to read."""
        self.forget(descriptor)
        if why is CONNECTION_DONE and IHalfCloseableDescriptor.providedBy(transport):
            transport.readConnectionLost(Failure(why))
        else:
            self._reactor.removeWriter(transport)
            transport.connectionLost(Failure(why))


def is_plain(transport: Any) -> bool:
    """Whether it is a socket's, and nothing encrypts."""
    return isinstance(transport, tcp.Connection) and not transport.TLS
