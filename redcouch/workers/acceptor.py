"""
Take clients from a listening socket that other processes take from as well.

The kernel tells every worker of a new client, and the first to come gets it:
left at that, one of them soon has most of the clients and the others idle. So
a worker that has more clients than another leaves a new one to that other for
a moment, and takes it only if it is still waiting then.

Endpoints stay in charge of what they know: an endpoint string is read as ever,
but with L{InheritedSocket} in the place of the reactor, and where it asks for a port to
listen on it is given an L{Acceptor} of the socket that the parent has opened.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from redcouch.process.reload import Reload
from redcouch.server.listeners import (
    BACKLOG,
    EXHAUSTED,
    REST,
    DescriptorShortage,
    ListeningReactor,
    ListeningService,
    accept_sparing,
    heard,
    is_managed,
    make_renewable,
)
from redcouch.workers.client_counts import ClientCounts

#: Endpoints that listen in a way that can be shared out.
SHAREABLE = ("tcp", "tcp4", "tcp6", "unix", "ssl", "haproxy", "systemd")

MOMENT = 0.002
"""Seconds for which a client is left to another worker."""

WHILE = 0.02
"""Seconds for which a client waits before it is told that there is no room."""

_AT_ONCE = 4
"""Clients to take after a moment, if they are still there."""


@implementer(IReadDescriptor, IListeningPort)
class Acceptor:
    """One listening socket, on behalf of the worker of a number."""

    _log = Logger()

    def __init__(
        self,
        listening: socket.socket,
        factory: IProtocolFactory,
        client_counts: ClientCounts,
        number: int,
        reactor: Any,
        last_look: bool = False,
    ) -> None:
        """
        @param last_look: whoever waits is still accepted before the socket
            closes, since nobody else would be.
        """
        self._socket = listening
        self._factory = factory
        self._crowd = client_counts
        self._number = number
        self._reactor = reactor
        self._waiting: Any = None
        self._shortage = DescriptorShortage(reactor)
        self._last_look = last_look
        self._stopped = False
        self._held = False

    # -- IListeningPort ----------------------------------------------------------------------

    def startListening(self) -> None:
        self._factory.doStart()
        self._reactor.addReader(self)

    def stopListening(self) -> Deferred[None] | None:
        if self._stopped:
            return None
        self._stopped = True
        self._shortage.stop()
        self._reactor.removeReader(self)
        if self._waiting is not None:
            self._waiting.cancel()
        if self._last_look and not self._held:
            self._take_all()
        self._socket.close()
        self._factory.doStop()
        return heard(self._reactor) if self._last_look else None

    def getHost(self) -> Any:
        raise NotImplementedError("the parent listens")

    def stopReading(self) -> None:
        """Leave whoever comes to others, until told to L{startReading}."""
        self._held = True
        self._reactor.removeReader(self)

    def startReading(self) -> None:
        """Accept clients."""
        self._held = False
        self._reactor.addReader(self)

    # -- IReadDescriptor ---------------------------------------------------------------------

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "accepting"

    def doRead(self) -> None:
        if self._crowd.is_ahead(self._number):
            self._pause(MOMENT)
        elif self._crowd.is_full():
            self._pause(WHILE)  # some of the others' may be gone, which they have yet to notice
        else:
            self._take()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is done with us, since it stops."""
        self.stopListening()

    # -- taking ------------------------------------------------------------------------------

    def _pause(self, seconds: float) -> None:
        self._reactor.removeReader(self)
        if not self._stopped:
            self._waiting = self._reactor.callLater(seconds, self._resume)

    def _resume(self) -> None:
        self._waiting = None
        self._reactor.addReader(self)
        for _ in range(_AT_ONCE):
            if self._waiting is not None or self._stopped or not self._take():
                break

    def _take(self) -> bool:
        """Take one client; whether there was one."""
        try:
            client, _ = accept_sparing(self._socket)
        except (BlockingIOError, InterruptedError):
            self._shortage.ends()  # nobody is there, but somebody could be taken
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            self._cannot_take(error)
            return False
        self._shortage.ends()
        with client:
            self._welcome(client)
        return True

    def _take_all(self) -> None:
        """Take everybody who waits, and whom there is room for."""
        for _ in range(BACKLOG):
            if not self._take():
                break

    def _welcome(self, client: socket.socket) -> None:
        try:
            self._reactor.adoptStreamConnection(client.fileno(), client.family, self._factory)
        except OSError:  # gone again already
            return
        except Exception:
            self._log.failure("Could not welcome a client")

    def _cannot_take(self, error: OSError) -> None:
        if error.errno in EXHAUSTED:
            self._shortage.begins(error)
            self._pause(REST)
        else:  # the parent has stopped listening, which it can do for all
            self._reactor.removeReader(self)


class InheritedSocket(ListeningReactor):
    """A socket that other processes accept from as well."""

    def __init__(
        self,
        descriptor: int,
        client_counts: ClientCounts,
        number: int,
        reactor: Any,
        last_look: bool = False,
    ) -> None:
        """
        @param descriptor: the listening socket.
        @param last_look: see L{Acceptor}.
        """
        super().__init__(reactor)
        self._descriptor = descriptor
        self._crowd = client_counts
        self._number = number
        self._last_look = last_look

    def accept(self, factory: IProtocolFactory, backlog: int = BACKLOG) -> Acceptor:
        """See L{ListeningReactor}; the backlog is the parent's matter."""
        listening = socket.socket(fileno=self._descriptor)
        listening.set_inheritable(False)
        listening.setblocking(False)
        acceptor = Acceptor(
            listening, factory, self._crowd, self._number, self._reactor, self._last_look
        )
        acceptor.startListening()
        return acceptor


def accepting_service(
    description: str, factory: IProtocolFactory, inherited_socket: InheritedSocket, reload: Reload
) -> ListeningService:
    """
    As L{twisted.application.strports.service}, for a socket that is open already.

    @param reload: is given what can be read again.
    """
    endpoint: Any = inherited_socket
    if not is_managed(description):
        endpoint = serverFromString(inherited_socket, description)
    make_renewable(endpoint, description, reload)
    return ListeningService(description, endpoint, factory)
