"""
Where RedCouch leans on what its libraries do not promise: one list, the same as
in docs/architecture.md, with a test for each that fails when a new version
changes it.
"""

from __future__ import annotations

import fcntl
import inspect
import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import txredisapi
from OpenSSL import SSL
from redis.cluster import ClusterPipeline, PipelineCommand
from twisted.application.internet import StreamServerEndpointService
from twisted.internet import defer, tcp, unix
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, Logger, capturedLogs, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel
from zope.interface import directlyProvides

from redcouch.backends.redis.connection import RedisConnectionFactory, RedisConnectionProtocol
from redcouch.process.log import _SharedFile
from redcouch.server.direct_writer import direct_writer, unsent
from redcouch.server.listeners import leave_open

PLACES = {
    "txredisapi.ClientService": "backends/redis/connection.py",
    "connectionQueue.pending": "backends/redis/connection.py",
    "slots": "backends/redis/connection.py",
    "_tempDataBuffer": "server/direct_writer.py",
    "_tempDataLen": "server/direct_writer.py",
    "SEND_LIMIT": "server/direct_writer.py",
    "bufferSize": "backends/redis/connection.py",
    "_shouldShutdown": "server/connection.py",
    "_tlsConnection": "server/tls.py",
    "_handshakeDone": "server/tls.py",
    "_bindPath": "server/listeners.py",
    "_logConnectionLostMsg": "server/listeners.py",
    "_fromListeningDescriptor": "server/listeners.py",
    "_raiseSynchronously": "server/listeners.py",
    "_waitingForPort": "server/listeners.py",
    "_openFile": "process/log.py",
    "_log": "http/access.py",
    "send_cluster_commands": "cli/storage.py",
}
"""What is leant on, and the file that does."""

ROOT = Path(__file__).parent.parent


class Trying:
    """An endpoint whose attempts to connect go on until a test ends them."""

    def __init__(self) -> None:
        self.attempts: list[defer.Deferred[Any]] = []

    def connect(self, factory: Any) -> defer.Deferred[Any]:
        """See L{IStreamClientEndpoint}."""
        self.attempts.append(defer.Deferred())
        return self.attempts[-1]


class Connected(Protocol):
    """A connection of txredisapi's that is ready."""

    connected = True

    def whenDisconnected(self) -> defer.Deferred[Any]:
        """Never."""
        return defer.Deferred()


class TxredisapiTests(SynchronousTestCase):
    """Its connection factory."""

    def setUp(self) -> None:
        link: Any = SimpleNamespace(was_good=False, protocol=RedisConnectionProtocol)
        self.factory = RedisConnectionFactory(link)
        self.events: list[LogEvent] = []
        note: Any = self.events.append
        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)

    def start(self) -> Any:
        """Begin to connect; gives what does. C{self.refuse} fails its first attempt."""
        endpoint = Trying()
        self.factory.startConnecting(endpoint)
        self.addCleanup(self.factory.stopTrying)
        self.refuse = lambda: endpoint.attempts[0].errback(ConnectionRefusedError())
        (slot,) = self.factory.slots
        return slot.service

    def test_client_service(self) -> None:
        """
        C{txredisapi.ClientService} is the class whose objects keep the
        connection; it is replaced by one that does not log each attempt.
        """
        service = self.start()
        self.assertIsInstance(service, txredisapi.ClientService)
        self.assertEqual(txredisapi.ClientService.__module__, "redcouch.backends.redis.connection")
        self.refuse()
        self.assertEqual(self.events, [])

    def test_slots(self) -> None:
        """Each of C{factory.slots} has the C{service} that tells of the first failure."""
        attempt = self.start().whenConnected(failAfterFailures=1)
        self.assertNoResult(attempt)
        self.refuse()
        self.failureResultOf(attempt, ConnectionRefusedError)

    def test_connection_queue(self) -> None:
        """
        txredisapi puts each connection that is ready into
        C{connectionQueue.pending}, and C{RedisConnectionFactory} takes it out.
        """
        connection: Any = Connected()
        plain = txredisapi.RedisFactory(None, None, 1, isLazy=True)
        plain.addConnection(connection)
        self.assertEqual([*plain.connectionQueue.pending], [connection])
        self.factory.addConnection(connection)
        self.assertEqual([*self.factory.connectionQueue.pending], [])
        self.assertEqual(self.factory.pool, [connection])


class TransportTests(SynchronousTestCase):
    """Twisted's TCP transports."""

    def setUp(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.addCleanup(self.theirs.close)
        ours.setblocking(False)
        self.transport: Any = tcp.Connection(ours, Protocol(), Reactorless())  # type: ignore[arg-type]
        self.transport.connected = True
        self.addCleanup(ours.close)

    def test_what_waits(self) -> None:
        """
        What C{write} is given waits in C{_tempDataBuffer}, as many bytes as
        C{_tempDataLen}, then in C{dataBuffer} from C{offset}; nothing is sent
        past it.
        """
        write = direct_writer(self.transport)
        self.assertEqual(self.transport.SEND_LIMIT, tcp.Connection.SEND_LIMIT * 8)
        self.transport.write(b"first ")
        self.assertEqual((self.transport._tempDataBuffer, unsent(self.transport)), ([b"first "], 6))
        write(b"second")
        self.assertRaises(BlockingIOError, self.theirs.recv, 100)
        self.assertEqual(unsent(self.transport), 12)
        self.transport.doWrite()
        self.assertEqual(self.theirs.recv(100), b"first second")
        self.assertEqual((self.transport._tempDataBuffer, unsent(self.transport)), ([], 0))
        write(b"third")
        self.assertEqual(self.theirs.recv(100), b"third")

    def test_limit(self) -> None:
        """C{SEND_LIMIT} is how much goes to the socket in one turn."""
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.transport.SEND_LIMIT = 1000
        self.transport.write(bytes(5000))
        self.transport.doWrite()
        self.assertEqual(len(self.theirs.recv(10_000)), 1000)

    def test_buffer_size(self) -> None:
        """C{bufferSize} is how much is received at a time."""
        received: list[bytes] = []
        self.transport.protocol.dataReceived = received.append
        self.theirs.send(bytes(5000))
        self.transport.bufferSize = 1000
        self.transport.doRead()
        self.assertEqual([len(data) for data in received], [1000])

    def test_left_open(self) -> None:
        """With C{_shouldShutdown} false, a socket that another process has as well stays open."""
        with self.transport.socket.dup() as elsewhere:
            self.transport._shouldShutdown = False
            self.transport.connectionLost(Failure(CONNECTION_DONE))
            elsewhere.send(b"still here")
            self.assertEqual(self.theirs.recv(100), b"still here")


def test_tls_connection() -> None:
    """A connection over TLS has the one that was made for it, and knows when it has begun."""
    made = []

    def connection(protocol: Any) -> SSL.Connection:
        made.append(SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD), None))
        return made[0]

    creator: Any = SimpleNamespace(serverConnectionForTLS=connection)
    directlyProvides(creator, IOpenSSLServerConnectionCreator)
    factory: Any = TLSMemoryBIOFactory(creator, False, Factory.forProtocol(Protocol))
    protocol: Any = factory.buildProtocol(None)
    protocol.makeConnection(StringTransport())
    assert protocol._tlsConnection is made[0]
    assert not protocol._handshakeDone
    assert not protocol.disconnecting


class Reactorless:
    """A reactor that is told what to watch, and watches nothing."""

    def addReader(self, reader: Any) -> None:
        """See L{IReactorFDSet}."""

    addWriter = removeReader = removeWriter = addReader


class LogTests(SynchronousTestCase):
    """Twisted's file for a log."""

    def test_every_file_is_opened_to_append(self) -> None:
        """C{_openFile} makes C{_file}, at the start and when the log is rotated."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        log = _SharedFile("log", folder.name)
        self.addCleanup(log.close)
        for rotates in (lambda: None, log.rotate):
            rotates()
            flags = fcntl.fcntl(log._file, fcntl.F_GETFL)
            self.assertTrue(flags & os.O_APPEND)


class HTTPChannelTests(SynchronousTestCase):
    """Twisted's connection to a client of HTTP."""

    def test_what_it_says(self) -> None:
        """C{_log} has all that it says of a silent client."""
        heard: list[LogEvent] = []
        clock = Clock()
        channel: Any = HTTPChannel()
        observer: Any = heard.append
        channel._log = Logger(observer=observer)
        channel.callLater = clock.callLater
        channel.makeConnection(StringTransport())
        with capturedLogs() as others:
            channel.timeoutConnection()
            clock.advance(channel.abortTimeout)
        self.assertEqual(len(heard), 2)
        self.assertEqual(others, [])


class ClusterPipelineTests(SynchronousTestCase):
    """redis-py's pipeline to a cluster."""

    def test_once(self) -> None:
        """C{send_cluster_commands} can be told to raise nothing, and to ask once."""
        send = inspect.signature(ClusterPipeline.send_cluster_commands)
        given = send.bind(None, [PipelineCommand(("GET", "k"), {}, 0)], False, False)
        flags = {"raise_on_error": False, "allow_redirections": False}
        self.assertEqual({name: given.arguments[name] for name in flags}, flags)


class ListeningTests(SynchronousTestCase):
    """Twisted's service that listens, and its unix port."""

    def test_adopted_unix_port(self) -> None:
        """
        C{_fromListeningDescriptor} makes a port whose mode can be chosen, and C{_bindPath}, in
        older versions C{port}, is what it removes at the end; C{_logConnectionLostMsg} tells of it.
        """
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = str(Path(folder.name) / "socket")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            port = unix.Port._fromListeningDescriptor(Reactorless(), listening.fileno(), Factory())
        port.mode = 0o600
        port.startListening()
        self.assertEqual(Path(path).stat().st_mode & 0o777, 0o600)
        leave_open(port)
        with capturedLogs() as lines:
            port.connectionLost(None)
        self.assertTrue(Path(path).exists())
        self.assertEqual([line["path"] for line in lines if "path" in line], [path])

    def test_raises(self) -> None:
        """C{_raiseSynchronously} makes a port that is taken end the start."""

        class Taken:
            def listen(self, factory: Any) -> defer.Deferred[Any]:
                return defer.fail(CannotListenError("", 1, OSError()))

        service = StreamServerEndpointService(Taken(), Factory())
        service._raiseSynchronously = True
        self.assertRaises(CannotListenError, service.privilegedStartService)

    def test_port(self) -> None:
        """C{_waitingForPort} has the port, once it listens."""
        port = object()

        class Free:
            def listen(self, factory: Any) -> defer.Deferred[Any]:
                return defer.succeed(port)

        service = StreamServerEndpointService(Free(), Factory())
        service.privilegedStartService()
        waiting: Any = service._waitingForPort
        self.assertIs(waiting.result, port)


def test_the_list() -> None:
    """Each is where this list says, and named in the architecture."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    for name, file in PLACES.items():
        assert name.removeprefix("txredisapi.") in (ROOT / "redcouch" / file).read_text(), name
        assert f"`{name}`" in page, name
        assert f"`{file}`" in page, file
