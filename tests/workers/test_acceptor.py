"""Taking clients from a listening socket that others take from as well."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from typing import Any
from unittest import mock

from twisted.application.internet import StreamServerEndpointService
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from redcouch.process.reload import Reload
from redcouch.server.listeners import REST
from redcouch.workers.acceptor import MOMENT, Acceptor, InheritedSocket, accepting_service
from redcouch.workers.client_counts import ClientCounts, make_memory


class ReactorOfOne(Clock):
    """Knows whether the acceptor wants to read, and what it has taken."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[object] = set()
        self.taken: list[tuple[socket.AddressFamily, Any]] = []
        self.trouble: Exception | None = None

    def addReader(self, reader: object) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: object) -> None:
        self.readers.discard(reader)

    def adoptStreamConnection(
        self, descriptor: int, family: socket.AddressFamily, factory: Any
    ) -> None:
        if self.trouble is not None:
            raise self.trouble
        os.fstat(descriptor)
        self.taken.append((family, factory))


class AcceptorTests(SynchronousTestCase):
    """The first of two workers."""

    def setUp(self) -> None:
        self.reactor = ReactorOfOne()
        memory = make_memory(2)
        self.addCleanup(os.close, memory)
        self.client_counts = ClientCounts(memory, 2)
        self.client_counts.set(0, 0)
        self.client_counts.set(1, 0)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        self.addCleanup(self.listening.close)
        self.factory = Factory()
        self.factory.noisy = False
        self.acceptor = Acceptor(self.listening, self.factory, self.client_counts, 0, self.reactor)
        self.acceptor.startListening()

    def come(self) -> None:
        """A client connects."""
        client = socket.create_connection(self.listening.getsockname())
        self.addCleanup(client.close)

    def test_interfaces(self) -> None:
        verifyObject(IReadDescriptor, self.acceptor)
        verifyObject(IListeningPort, self.acceptor)

    def test_takes(self) -> None:
        """One client at a time, so that the others get some."""
        self.come()
        self.come()
        self.acceptor.doRead()
        self.assertEqual(self.reactor.taken, [(socket.AF_INET, self.factory)])
        self.acceptor.doRead()
        self.assertEqual(len(self.reactor.taken), 2)

    def test_somebody_was_faster(self) -> None:
        """Nothing comes of a client that another worker has taken."""
        self.acceptor.doRead()
        self.assertEqual(self.reactor.taken, [])
        self.assertEqual(self.reactor.readers, {self.acceptor})

    def test_leaves_it_to_another(self) -> None:
        """A worker that is ahead waits, and takes what is still there after that."""
        self.client_counts.set(0, 5)
        for _ in range(3):
            self.come()
        self.acceptor.doRead()
        self.assertEqual((self.reactor.taken, self.reactor.readers), ([], set()))
        self.reactor.advance(MOMENT)
        self.assertEqual(len(self.reactor.taken), 3)
        self.assertEqual(self.reactor.readers, {self.acceptor})

    def test_no_descriptors_left(self) -> None:
        """Where the system has no room it rests, instead of asking without end."""
        with mock.patch.object(
            socket.socket, "accept", side_effect=OSError(errno.EMFILE, "Too many open files")
        ):
            self.acceptor.doRead()
        self.assertEqual(self.reactor.readers, set())
        self.come()
        self.reactor.advance(REST)
        self.assertEqual(len(self.reactor.taken), 1)
        self.assertEqual(self.reactor.readers, {self.acceptor})

    def test_parent_has_stopped_listening(self) -> None:
        """The parent shuts the socket down for all."""
        self.listening.shutdown(socket.SHUT_RDWR)
        self.acceptor.doRead()
        self.assertEqual(self.reactor.readers, set())
        self.acceptor.stopListening()

    def test_gone_again(self) -> None:
        """A client that leaves at once harms nobody; nor does a fault of ours."""
        self.come()
        self.reactor.trouble = OSError(errno.ENOTCONN, "not connected")
        self.acceptor.doRead()
        self.come()
        self.reactor.trouble = ZeroDivisionError()
        self.acceptor.doRead()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.reactor.readers, {self.acceptor})

    def test_held(self) -> None:
        """It takes nobody until it is told to, not even at its end."""
        for last_look in (False, True):
            self.acceptor._last_look = last_look
            self.acceptor.stopReading()
            self.assertEqual(self.reactor.readers, set())
            self.acceptor.startReading()
            self.assertEqual(self.reactor.readers, {self.acceptor})
        self.acceptor.stopReading()
        self.come()
        self.acceptor.stopListening()
        self.assertEqual(self.reactor.taken, [])

    def test_stop(self) -> None:
        """It stops in any state, more than once."""
        self.client_counts.set(0, 5)
        self.acceptor.doRead()
        self.acceptor.stopListening()
        self.acceptor.connectionLost(Failure(ConnectionError()))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.listening.fileno(), -1)
        with self.assertRaises(NotImplementedError):
            self.acceptor.getHost()


class EndpointTests(SynchronousTestCase):
    """Endpoint strings, where the socket is there already."""

    def setUp(self) -> None:
        self.reactor = ReactorOfOne()
        memory = make_memory(1)
        self.addCleanup(os.close, memory)
        self.client_counts = ClientCounts(memory, 1)
        self.factory = Factory()
        self.factory.noisy = False

    def accepting(self, description: str, family: socket.AddressFamily = socket.AF_INET) -> Any:
        """The factory for which clients are accepted."""
        listening = socket.socket(family)
        place = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, place)
        listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else f"{place}/socket")
        listening.listen()
        inherited_socket = InheritedSocket(listening.detach(), self.client_counts, 0, self.reactor)
        service: StreamServerEndpointService = accepting_service(
            description, self.factory, inherited_socket, Reload()
        )
        service.privilegedStartService()
        service.startService()
        (acceptor,) = self.reactor.readers
        assert isinstance(acceptor, Acceptor)
        self.assertFalse(os.get_inheritable(acceptor.fileno()))
        self.successResultOf(service.stopService())
        self.assertEqual(self.reactor.readers, set())
        return acceptor._factory

    def test_plain(self) -> None:
        """Where no bytes are changed, the factory is the service's own."""
        self.assertIs(self.accepting("tcp:1:interface=127.0.0.1"), self.factory)
        self.assertIs(self.accepting("unix:/nowhere/socket", socket.AF_UNIX), self.factory)
        self.assertIs(self.accepting("systemd:domain=INET:index=0"), self.factory)

    def test_wrapped(self) -> None:
        """What an endpoint adds is added."""
        wrapped = self.accepting("haproxy:tcp:1")
        self.assertIs(wrapped.wrappedFactory, self.factory)

    def test_tls(self) -> None:
        """As the reactor does it."""
        inherited_socket = InheritedSocket(
            socket.create_server(("127.0.0.1", 0)).detach(), self.client_counts, 0, self.reactor
        )
        acceptor = inherited_socket.listenSSL(1, self.factory, CertificateOptions())
        self.addCleanup(acceptor.stopListening)
        wrapped = acceptor._factory
        assert isinstance(wrapped, TLSMemoryBIOFactory)
        self.assertIs(wrapped.wrappedFactory, self.factory)
