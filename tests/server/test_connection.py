"""Connections: what comes in, what goes out, and what each may hold."""

from __future__ import annotations

import socket
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor, ssl
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from redcouch.backends.memory import MemoryBackend
from redcouch.commands import Delete, Get
from redcouch.interfaces import BackendContext, IStorageBackend
from redcouch.limits import Limits
from redcouch.server import connection as connection_module
from redcouch.server.admission import Charge
from redcouch.server.alarm import QUIET
from redcouch.server.connection import Connection, ConnectionFactory, Refusal
from tests.backends.redis.certificates import Authority
from tests.support.polling import eventually_in_reactor
from tests.support.storages import Prompt, Slow
from tests.support.transports import Transport, shared_of

real: Any = reactor

REFUSED = b"ERROR Too many open connections\r\n"


class Stuck(Transport):
    """One whose client does not take the last bytes, so that it cannot be closed in peace."""

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.aborted = True
        super().loseConnection()
        self.connected = False
        self.protocol.connectionLost(Failure(ConnectionDone()))


def memory(limits: Limits | None = None) -> MemoryBackend:
    """A storage that works."""
    return MemoryBackend(BackendContext(Clock(), limits or Limits(), lambda: 0.0, print))


class Service:
    """A factory and all that it needs, with connections in memory."""

    def __init__(
        self,
        backend: IStorageBackend | None = None,
        limits: Limits | None = None,
        most: int = 100,
        idle: float = 0,
        **how: Any,
    ) -> None:
        self.clock = Clock()
        self.shared = shared_of(backend or memory(), limits, **how)
        self.counters = self.shared.counters
        self.factory = ConnectionFactory(self.shared, self.clock, most, idle)

    def connect(
        self, peer: Any = None, transport: Transport | None = None
    ) -> tuple[Any, Transport]:
        """A client that has just connected: its connection and its transport."""
        if transport is None:
            transport = Transport(peerAddress=peer or IPv4Address("TCP", "10.0.0.9", 4321))
        connection: Any = self.factory.buildProtocol(transport.getPeer())
        transport.protocol = connection
        connection.makeConnection(transport)
        return connection, transport


class ConnectionTests(SynchronousTestCase):
    """One client on a transport in memory."""

    def test_interfaces(self) -> None:
        """A connection is what its transport takes it for."""
        connection, _ = Service().connect()
        verifyObject(IHalfCloseableProtocol, connection)
        verifyObject(IPushProducer, connection)

    def test_conversation(self) -> None:
        """Requests are answered, in as many pieces as they come."""
        connection, transport = Service().connect()
        for piece in (b"s", b"et a 0 0 1\r\nx", b"\r\nget a\r\nget", b" b\r\n"):
            connection.dataReceived(piece)
        self.assertEqual(transport.value(), b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\nEND\r\n")

    def test_binary(self) -> None:
        """The same port speaks the binary protocol."""
        connection, transport = Service().connect()
        connection.dataReceived(b"\x80")
        connection.dataReceived(b"\x0a" + bytes(22))
        self.assertEqual(transport.value(), b"\x81\x0a" + bytes(22))

    def test_counted(self) -> None:
        """Bytes and clients are counted."""
        service = Service()
        connection, transport = service.connect()
        connection.dataReceived(b"version\r\n")
        counters = service.counters
        self.assertEqual((counters.bytes_read, counters.bytes_written), (9, 15))
        self.assertEqual((counters.curr_connections, counters.total_connections), (1, 1))
        transport.loseConnection()
        self.assertEqual((counters.curr_connections, counters.total_connections), (0, 1))

    def test_quit(self) -> None:
        """After C{quit} the connection closes, and what follows is not heard."""
        service = Service()
        connection, transport = service.connect()
        connection.dataReceived(b"version\r\nquit\r\nversion\r\n")
        self.assertEqual(transport.value(), b"VERSION 1.2.3\r\n")
        self.assertFalse(transport.connected)
        connection.dataReceived(b"version\r\n")
        self.assertEqual(service.counters.bytes_read, 24)

    def test_broken_stream(self) -> None:
        """A client that has gone astray is let go, after what it asked for before."""
        backend = Slow()
        service = Service(backend)
        connection, transport = service.connect()
        connection.dataReceived(b"get a\r\n" + b"x" * 3000)
        self.assertTrue(transport.connected)
        backend.next().succeed()
        service.clock.advance(0)
        self.assertEqual(transport.value(), b"VALUE a 0 1\r\na\r\nEND\r\n")
        self.assertFalse(transport.connected)

    def test_web_browser(self) -> None:
        """It is closed, too, if it says more at once than is understood in a turn."""
        connection, transport = Service().connect()
        connection.dataReceived(b"GET / HTTP/1.1\r\n" + b"Cookie: a\r\n" * 500)
        self.assertFalse(transport.connected)

    def test_fault(self) -> None:
        """A fault of ours closes the connection; nobody waits for room in it then."""
        backend = Slow()
        connection, transport = Service(backend, Limits(batch=1, backlog=1)).connect()
        connection.dataReceived(b"get a\r\n" * 5)
        self.assertEqual(transport.producerState, "paused")
        backend.next().fail(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(transport.value(), b"SERVER_ERROR internal error\r\n")
        self.assertFalse(transport.connected)

    def test_gone_in_the_middle(self) -> None:
        """What a client asked for before its connection broke is still done."""
        backend = Slow()
        service = Service(backend)
        connection, transport = service.connect()
        connection.dataReceived(b"get a\r\n")
        connection.dataReceived(b"delete b\r\nset c 0 0 5\r\nab")
        transport.loseConnection()
        backend.answer_all()
        self.assertEqual(backend.seen, [[Get((b"a",))], [Delete(b"b")]])
        self.assertEqual((transport.value(), service.factory.connections), (b"", set()))

    def test_addresses(self) -> None:
        """C{stats conns} names clients as memcached does, the inventory as people do."""
        service = Service()
        mapped = IPv6Address("TCP", "::ffff:10.0.0.9", 4321)  # IPv4, to a port for both
        for peer, host, address in (
            (IPv4Address("TCP", "10.0.0.9", 4321), "10.0.0.9", "tcp:10.0.0.9:4321"),
            (mapped, "10.0.0.9", "tcp:[::ffff:10.0.0.9]:4321"),
            (IPv6Address("TCP", "::1", 4321), "::1", "tcp:[::1]:4321"),
            (IPv6Address("TCP", "::ffff:0:1:2", 4321), "::ffff:0:1:2", "tcp:[::ffff:0:1:2]:4321"),
            (UNIXAddress(None), "unix", "unix"),
        ):
            connection, transport = service.connect(peer)
            self.assertEqual((connection.host, connection.address), (host, address))
            self.assertEqual(service.factory.describe(), [(str(connection.number), address)])
            transport.loseConnection()
        self.assertEqual(service.counters.total_connections, 5)


class ReadingTests(SynchronousTestCase):
    """When a client is not read from."""

    def setUp(self) -> None:
        self.backend = Slow()
        self.service = Service(self.backend, Limits(batch=2, backlog=3))
        self.connection, self.transport = self.service.connect()

    def test_crowd(self) -> None:
        """While more of it waits than may, and no longer."""
        self.connection.dataReceived(b"get a\r\n" * 5)
        self.assertEqual(self.transport.producerState, "producing")
        self.connection.dataReceived(b"get a\r\n")
        self.assertEqual(self.transport.producerState, "paused")
        self.backend.next().succeed()
        self.assertEqual(self.transport.producerState, "producing")
        self.backend.answer_all()
        self.assertEqual(self.transport.value(), b"VALUE a 0 1\r\na\r\nEND\r\n" * 6)

    def test_crowd_of_statistics(self) -> None:
        """A client that pipelines C{stats} and C{version} is read from again, too."""
        report: Deferred[Any] = Deferred()
        service = Service(limits=Limits(backlog=3), report=lambda group: report)
        connection, transport = service.connect()
        connection.dataReceived(b"stats\r\n" + b"version\r\n" * 9)
        self.assertEqual(transport.producerState, "paused")
        report.callback([])
        self.assertEqual(transport.producerState, "producing")

    def test_choked(self) -> None:
        """While it does not take its replies: and then nothing more is performed for it."""
        self.connection.dataReceived(b"get a\r\n")
        self.connection.pauseProducing()
        self.assertEqual(self.transport.producerState, "paused")
        self.backend.answer_all()
        self.connection.dataReceived(b"get b\r\n")
        self.assertEqual(len(self.backend.seen), 1)
        self.connection.resumeProducing()
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(len(self.backend.seen), 2)

    def test_choked_and_crowded(self) -> None:
        """Both have to end before it is read from again."""
        self.connection.dataReceived(b"get a\r\n" * 6)
        self.connection.pauseProducing()
        self.connection.resumeProducing()
        self.assertEqual(self.transport.producerState, "paused")
        self.connection.pauseProducing()
        self.backend.answer_all()
        self.assertEqual(self.transport.producerState, "paused")
        self.connection.resumeProducing()
        self.assertEqual(self.transport.producerState, "producing")

    def test_closing_a_choked_one(self) -> None:
        """A transport that gives up on its producer says nothing that matters."""
        self.connection.pauseProducing()
        self.connection.stopProducing()
        self.transport.loseConnection()
        self.assertEqual(self.service.factory.connections, set())


class HalfCloseTests(SynchronousTestCase):
    """C{printf ... | nc -N} closes its side before it reads."""

    def setUp(self) -> None:
        self.backend = Slow()
        self.service = Service(self.backend, Limits(batch=2, backlog=3))
        self.connection, self.transport = self.service.connect()

    def test_answers_come(self) -> None:
        """All answers come before the connection closes."""
        self.connection.dataReceived(b"get a\r\n" * 5)
        self.connection.readConnectionLost()
        self.assertTrue(self.transport.connected)
        self.backend.answer_all()
        self.assertEqual(self.transport.value(), b"VALUE a 0 1\r\na\r\nEND\r\n" * 5)
        self.assertFalse(self.transport.connected)

    def test_nothing_asked(self) -> None:
        """A client that opens and closes is gone."""
        self.connection.readConnectionLost()
        self.assertFalse(self.transport.connected)

    def test_half_a_request(self) -> None:
        """Half a request is none."""
        self.connection.dataReceived(b"set a 0 0 10\r\nabc")
        self.connection.readConnectionLost()
        self.assertFalse(self.transport.connected)
        self.assertEqual(self.backend.seen, [])

    def test_not_read_again(self) -> None:
        """There is nothing to read any more, whatever else makes room."""
        self.connection.dataReceived(b"get a\r\n" * 6)
        self.connection.readConnectionLost()
        self.connection.pauseProducing()
        self.connection.resumeProducing()
        self.backend.next().succeed()
        self.assertEqual(self.transport.producerState, "paused")

    def test_other_side(self) -> None:
        """Our own side closes only with the whole connection."""
        self.connection.writeConnectionLost()
        self.assertTrue(self.transport.connected)


class AuthenticationTests(SynchronousTestCase):
    """Where clients have to say who they are."""

    def setUp(self) -> None:
        self.proofs: list[Deferred[bool]] = []
        self.service = Service(authenticate=self.check)
        self.connection, self.transport = self.service.connect()

    def check(self, user: bytes, password: bytes, client: str) -> Deferred[bool]:
        self.assertEqual(client, "tcp:10.0.0.9:4321")
        self.proofs.append(Deferred())
        return self.proofs[-1]

    def test_let_in(self) -> None:
        """What a client sends behind its password is understood when that is known to be right."""
        self.connection.dataReceived(b"set x 0 0 3\r\na b\r\nset k 0 0 1\r\nv\r\nget k")
        self.assertEqual(self.transport.producerState, "paused")
        self.assertEqual(self.transport.value(), b"")
        self.proofs.pop().callback(True)
        self.assertEqual(self.transport.producerState, "producing")
        self.connection.dataReceived(b"\r\n")
        self.assertEqual(self.transport.value(), b"STORED\r\nSTORED\r\nVALUE k 0 1\r\nv\r\nEND\r\n")

    def test_refused(self) -> None:
        """A wrong password is said to be wrong, and another one is heard."""
        self.connection.dataReceived(b"set x 0 0 3\r\na b\r\nset x 0 0 3\r\na c\r\nget k\r\n")
        self.proofs.pop().callback(False)
        self.assertEqual(self.transport.value(), b"CLIENT_ERROR authentication failure\r\n")
        self.assertEqual(self.transport.producerState, "paused")
        self.proofs.pop().callback(True)
        self.assertTrue(self.transport.value().endswith(b"failure\r\nSTORED\r\nEND\r\n"))
        self.assertEqual(self.transport.producerState, "producing")

    def test_half_closed_meanwhile(self) -> None:
        """A client that has closed its side gets what it asked for behind its password."""
        self.connection.dataReceived(b"set x 0 0 3\r\na b\r\nget k\r\n")
        self.connection.readConnectionLost()
        self.assertTrue(self.transport.connected)
        self.proofs.pop().callback(True)
        self.assertEqual(self.transport.value(), b"STORED\r\nEND\r\n")
        self.assertFalse(self.transport.connected)

    def test_nothing_more_is_read(self) -> None:
        """However much it has sent, no more of it is taken than was there when it was heard."""
        self.connection.dataReceived(b"set x 0 0 3\r\na b\r\n" * 1000)
        for _ in range(10):
            self.service.clock.advance(0)
            self.assertEqual(self.transport.producerState, "paused")
        self.assertEqual(len(self.proofs), 1)
        self.proofs.pop().callback(True)
        self.service.clock.pump([0] * 100)
        self.assertEqual(self.transport.producerState, "producing")

    def test_gone_meanwhile(self) -> None:
        """For one that has gone altogether, the answer comes too late."""
        self.connection.dataReceived(b"set x 0 0 3\r\na b\r\nget k\r\n")
        self.transport.loseConnection()
        self.proofs.pop().callback(True)
        self.assertEqual((self.transport.value(), self.service.counters.cmd_get), (b"", 0))


class FactoryTests(SynchronousTestCase):
    """All clients together."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def logged(self) -> list[str]:
        """The first words of what the log has about clients."""
        return [
            str(event["log_format"]).split()[0]
            for event in self.events
            if event.get("log_namespace") == "redcouch.server.connection.ConnectionFactory"
        ]

    def test_too_many(self) -> None:
        """One client too many is told so, counted, and in the log once."""
        service = Service(most=10)
        transports = [service.connect()[1] for _ in range(10)]
        for _ in range(3):
            refused, transport = service.connect()
            self.assertIsInstance(refused, Refusal)
            self.assertEqual(transport.value(), REFUSED)
            self.assertFalse(transport.connected)
        self.assertEqual(service.counters.rejected_connections, 3)
        self.assertEqual(service.counters.curr_connections, 10)
        self.assertEqual(self.logged(), ["All"])

        transports.pop().loseConnection()  # one that goes and one that comes: still about full
        transports.append(service.connect()[1])
        service.connect()
        self.assertEqual(self.logged(), ["All"])

        for _ in range(2):
            transports.pop().loseConnection()
        service.clock.advance(QUIET)
        self.assertEqual(self.logged(), ["All", "Accepting"])
        self.assertIsInstance(service.connect()[0], Connection)
        service.connect()
        service.connect()
        self.assertEqual(self.logged(), ["All", "Accepting", "All"])

    def test_refused_and_stuck(self) -> None:
        """Who does not let itself be refused is cut off, and nothing is kept for many of them."""
        service = Service(most=1)
        service.connect()
        stuck = [service.connect(transport=Stuck())[1] for _ in range(40)]
        self.assertEqual([one.aborted for one in stuck], [False] * 32 + [True] * 8)
        self.assertEqual([one.value() for one in stuck], [REFUSED] * 32 + [b""] * 8)
        service.clock.advance(2)
        self.assertTrue(all(one.aborted for one in stuck))
        self.assertEqual(service.factory._refusals, set())

    def test_takes_nothing(self) -> None:
        """One that takes none of its replies for the idle timeout is cut off, and counted."""
        service = Service(idle=2)
        connection, transport = service.connect()
        connection.pauseProducing()
        service.clock.pump([0.5] * 3)
        self.assertTrue(transport.connected)
        service.clock.pump([0.5] * 6)
        self.assertTrue(transport.aborted)
        self.assertEqual(service.counters.idle_kicks, 1)
        self.assertEqual(service.clock.getDelayedCalls(), [])

    def test_takes_a_little(self) -> None:
        """One that takes some of them, however little, stays; and so does one that took them."""
        service = Service(idle=2)
        (slow, transport), (well, other) = service.connect(), service.connect()
        left = iter(range(1000, 0, -1))
        self.patch(connection_module, "untaken", lambda transport: next(left))
        for one in (slow, well):
            one.pauseProducing()
        well.resumeProducing()
        for _ in range(40):
            service.clock.advance(0.5)
            well.dataReceived(b"version\r\n")
        self.assertTrue(transport.connected)
        self.assertTrue(other.connected)

    def test_takes_nothing_for_ever(self) -> None:
        """Without an idle timeout, as long as nobody waits for the memory."""
        service = Service()
        connection, transport = service.connect()
        connection.pauseProducing()
        service.clock.pump([1] * 600)
        self.assertTrue(transport.connected)
        admission = service.shared.admission
        admission.pause(1 << 30)
        waiting: Any = object()
        self.assertFalse(admission.admits(Charge(waiting, 2, 10, small=False)))
        service.clock.pump([1] * 2)
        self.assertTrue(transport.aborted)

    def test_idle(self) -> None:
        """A silent client is closed after the time that the operator gave, and counted."""
        service = Service(idle=10)
        silent, quiet = service.connect(), service.connect()
        for _ in range(9):
            service.clock.advance(1)
            quiet[0].dataReceived(b"version\r\n")
        self.assertTrue(silent[1].connected)
        service.clock.pump([1] * 3)
        self.assertFalse(silent[1].connected)
        self.assertTrue(quiet[1].connected)
        self.assertEqual(service.counters.idle_kicks, 1)
        service.clock.pump([1] * 12)
        self.assertFalse(quiet[1].connected)
        self.assertEqual(service.counters.idle_kicks, 2)
        self.assertEqual(service.clock.getDelayedCalls(), [])

    def test_idle_for_ever(self) -> None:
        """By default nobody is closed, and no time is spent on looking."""
        service = Service()
        service.connect()
        self.assertEqual(service.clock.getDelayedCalls(), [])

    def test_waiting_is_not_idle(self) -> None:
        """A client that waits for a slow storage is not closed."""
        backend = Slow()
        service = Service(backend, idle=2)
        connection, transport = service.connect()
        connection.dataReceived(b"get a\r\n")
        service.clock.pump([0.5] * 20)
        self.assertTrue(transport.connected)
        backend.next().succeed()
        service.clock.pump([0.5] * 6)
        self.assertFalse(transport.connected)

    def test_idle_and_stuck(self) -> None:
        """One that does not even take its last bytes is cut off, and counted once."""
        service = Service(idle=2)
        _, transport = service.connect(transport=Stuck())
        service.clock.pump([0.5] * 6)
        self.assertTrue(transport.disconnecting)
        self.assertFalse(transport.aborted)
        self.assertEqual(service.counters.idle_kicks, 1)
        service.clock.pump([0.5] * 4)
        self.assertTrue(transport.aborted)
        self.assertEqual(service.counters.idle_kicks, 1)
        self.assertEqual(service.factory.connections, set())

    def test_drain(self) -> None:
        """A service that ends answers what was asked, and hears nothing more."""
        backend = Slow()
        service = Service(backend)
        idle, busy = service.connect(), service.connect()
        busy[0].dataReceived(b"get a\r\n")
        drained = service.factory.drain()
        self.assertFalse(idle[1].connected)
        busy[0].dataReceived(b"get b\r\n")
        self.assertNoResult(drained)
        backend.answer_all()
        self.successResultOf(drained)
        self.assertEqual(busy[1].value(), b"VALUE a 0 1\r\na\r\nEND\r\n")

    def test_drain_nobody(self) -> None:
        """Without clients there is nothing to wait for."""
        self.successResultOf(Service().factory.drain())

    def test_abort(self) -> None:
        """A client that takes too long is cut off."""
        service = Service(Slow())
        connection, transport = service.connect(transport=Stuck())
        connection.dataReceived(b"get a\r\n")
        drained = service.factory.drain()
        service.factory.abort()
        self.successResultOf(drained)
        self.assertTrue(transport.aborted)


# -- real connections --------------------------------------------------------------------------


class Caller(Protocol):
    """A client that says something and keeps what it hears."""

    transport: Any

    def __init__(self, sends: Sequence[bytes], half_close: bool, reads: bool) -> None:
        self._sends = sends
        self._half_close = half_close
        self._reads = reads
        self.heard = bytearray()
        self.connected_: Deferred[None] = Deferred()
        self.lost: Deferred[bytes] = Deferred()
        self._awaited: tuple[int, Deferred[bytes]] | None = None

    def connectionMade(self) -> None:
        if not self._reads:
            self.transport.pauseProducing()
        for data in self._sends:
            self.transport.write(data)
        if self._half_close:
            self.transport.loseWriteConnection()
        self.connected_.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self._look()

    def until(self, size: int) -> Deferred[bytes]:
        """All that has been heard, once it is that much."""
        enough: Deferred[bytes] = Deferred()
        self._awaited = (size, enough)
        self._look()
        return enough

    def _look(self) -> None:
        if self._awaited is not None and len(self.heard) >= self._awaited[0]:
            enough, self._awaited = self._awaited[1], None
            enough.callback(bytes(self.heard))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(bytes(self.heard))


class Calling(ClientFactory):
    """Makes one caller."""

    noisy = False

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def buildProtocol(self, addr: Any) -> Any:
        return self._caller


LARGE = bytes(range(256)) * 400


class LoopbackTests(TestCase):
    """Real clients, on loopback connections."""

    def serve(self, backend: IStorageBackend | None = None, **how: Any) -> ConnectionFactory:
        """Listen on some port; what is left of clients is closed after the test."""
        self.shared = shared_of(backend or memory(), how.pop("limits", None))
        self.factory = ConnectionFactory(self.shared, real, 100, 0)
        tls = how.pop("tls", None)
        if tls is None:
            self.port = real.listenTCP(0, self.factory, interface="127.0.0.1")
        else:
            self.port = real.listenSSL(0, self.factory, tls, interface="127.0.0.1")
        self.addCleanup(self.stop)
        return self.factory

    async def stop(self) -> None:
        await self.port.stopListening()
        drained = self.factory.drain()
        self.factory.abort()
        await drained
        self.factory.epoll_reader.stop()
        await eventually_in_reactor(lambda: not self.callers_left())

    def callers_left(self) -> list[Caller]:
        return [caller for caller in self.callers if not caller.lost.called]

    def setUp(self) -> None:
        self.callers: list[Caller] = []

    async def call(
        self, *sends: bytes, half_close: bool = False, reads: bool = True, tls: bool = False
    ) -> Caller:
        caller = Caller(sends, half_close, reads)
        self.callers.append(caller)
        address = ("127.0.0.1", self.port.getHost().port)
        if tls:
            real.connectSSL(*address, Calling(caller), ssl.ClientContextFactory())
        else:
            real.connectTCP(*address, Calling(caller))
        await caller.connected_
        return caller

    async def only_connection(self) -> Connection:
        """The server's side of the only client."""
        await eventually_in_reactor(lambda: self.factory.connections)
        (connection,) = self.factory.connections
        return connection

    async def test_keepalive(self) -> None:
        """The system finds out about a client whose machine has vanished, as with memcached."""
        self.serve()
        await self.call(b"")
        connection = await self.only_connection()
        self.assertTrue(connection.transport.getTcpKeepAlive())

    async def test_half_close(self) -> None:
        """C{printf ... | nc -N} prints all the answers, however many they are."""
        self.serve(Prompt())
        for count in (1, 5000):
            asked = b"".join(b"get %d\r\n" % number for number in range(count))
            caller = await self.call(asked, half_close=True)
            expected = [
                b"VALUE %d 0 %d\r\n%d\r\nEND\r\n" % (number, len(str(number)), number)
                for number in range(count)
            ]
            self.assertEqual(await caller.lost, b"".join(expected))

    async def test_half_close_behind_a_slow_storage(self) -> None:
        """Even where the storage takes its time."""
        backend = Slow()
        self.serve(backend)
        caller = await self.call(b"get a\r\nversion\r\n", half_close=True)
        await eventually_in_reactor(lambda: backend.waiting)
        connection = await self.only_connection()
        await eventually_in_reactor(lambda: connection._half_closed)
        backend.answer_all()
        heard = await caller.lost
        self.assertEqual(heard, b"VALUE a 0 1\r\na\r\nEND\r\nVERSION 1.2.3\r\n")

    def held(self, connection: Connection) -> int:
        """Bytes that wait to be sent to a client, in this process."""
        transport = connection.transport
        held: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return held

    async def test_slow_reader(self) -> None:
        """
        A client that asks for much and reads nothing is not read from, and what
        it costs is bounded; when it reads, it gets everything.
        """
        limits = Limits(batch=4, backlog=8)
        self.serve(limits=limits)
        first = await self.call(b"set a 0 0 %d\r\n%b\r\n" % (len(LARGE), LARGE))
        await first.until(8)
        first.transport.loseConnection()
        await eventually_in_reactor(lambda: not self.factory.connections)

        count = 2000
        reply = b"VALUE a 0 %d\r\n%b\r\nEND\r\n" % (len(LARGE), LARGE)
        counters = self.shared.counters
        sent = counters.bytes_read
        caller = await self.call(*[b"get a\r\n" * 10] * (count // 10), reads=False)
        connection = await self.only_connection()
        await eventually_in_reactor(lambda: connection.write_paused)
        counted = counters.cmd_get
        for _ in range(20):
            await deferLater(real, 0)
        self.assertEqual(counters.cmd_get, counted)
        self.assertLess(counted, count // 2)
        self.assertLess(self.held(connection), (limits.batch + 1) * len(reply))
        self.assertLessEqual(counters.bytes_read - sent, 7 * count)

        caller.transport.resumeProducing()
        heard = await caller.until(count * len(reply))
        self.assertTrue(heard == reply * count)
        self.assertEqual(counters.cmd_get, count)

    async def test_ends_in_the_middle(self) -> None:
        """What was asked before the service ends is answered whole, whatever is asked after it."""
        backend = memory(Limits(max_item_size=1 << 25))
        self.serve(backend, limits=Limits(max_item_size=1 << 25))
        value = bytes(8 * 1024 * 1024)
        first = await self.call(b"set a 0 0 %d\r\n%b\r\n" % (len(value), value))
        await first.until(8)
        caller = await self.call(b"get a\r\n", reads=False)
        await eventually_in_reactor(lambda: self.shared.counters.cmd_get)
        drained = self.factory.drain()
        caller.transport.write(b"get b\r\n")
        await deferLater(real, 0.05)
        caller.transport.resumeProducing()
        heard = await caller.lost
        self.assertTrue(heard == b"VALUE a 0 %d\r\n%b\r\nEND\r\n" % (len(value), value))
        await drained

    async def test_flood_of_one_that_does_not_read(self) -> None:
        """Nor can it fill the memory with requests: they stay in its own system."""
        self.serve(limits=Limits(batch=4, backlog=8))
        first = await self.call(b"set a 0 0 %d\r\n%b\r\n" % (len(LARGE), LARGE))
        await first.until(8)
        flood = b"get a\r\n" * 1_000_000
        caller = await self.call(flood, reads=False)
        await eventually_in_reactor(lambda: self.shared.counters.cmd_get)
        choked = [one for one in self.factory.connections if one.write_paused]
        while not choked:
            await deferLater(real, 0.001)
            choked = [one for one in self.factory.connections if one.write_paused]
        read = self.shared.counters.bytes_read
        for _ in range(50):
            await deferLater(real, 0)
        self.assertEqual(self.shared.counters.bytes_read, read)
        self.assertLess(read, len(flood) // 2)
        caller.transport.abortConnection()

    async def test_slow_storage(self) -> None:
        """A client that asks faster than the storage answers is not read from, either."""
        backend = Slow()
        self.serve(backend, limits=Limits(batch=10, backlog=20))
        caller = await self.call()
        asked = 0
        connection = await self.only_connection()
        while not connection.session.backlog_full:
            caller.transport.write(b"get a\r\n")
            asked += 1
            await deferLater(real, 0)
        read = self.shared.counters.bytes_read
        for _ in range(10):
            caller.transport.write(b"get a\r\n" * 10)
            await deferLater(real, 0)
        self.assertEqual(self.shared.counters.bytes_read, read)
        asked += 100
        reply = b"VALUE a 0 1\r\na\r\nEND\r\n" * asked
        while len(caller.heard) < len(reply):
            backend.answer_all()
            await deferLater(real, 0)
        self.assertEqual(bytes(caller.heard), reply)

    async def test_reset_in_the_middle(self) -> None:
        """A connection that breaks harms no other, and leaves nothing behind."""
        backend = Slow()
        self.serve(backend)
        other = await self.call()
        for sent in (b"get a\r\nget b\r\nset c 0 0 100\r\nabc", b"get a\r\nge"):
            with socket.create_connection(("127.0.0.1", self.port.getHost().port)) as client:
                linger = struct.pack("ii", 1, 0)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                client.sendall(sent)
                await eventually_in_reactor(lambda: backend.waiting)
            await eventually_in_reactor(lambda: len(self.factory.connections) == 1)
            backend.answer_all()
        other.transport.write(b"version\r\n")
        self.assertEqual(await other.until(15), b"VERSION 1.2.3\r\n")

    async def test_reset_while_being_answered(self) -> None:
        """The same while a large reply is under way."""
        self.serve(limits=Limits(batch=4))
        client = await self.call(b"set a 0 0 %d\r\n%b\r\n" % (len(LARGE), LARGE))
        await client.until(8)
        victim = await self.call(b"get a\r\n" * 500, reads=False)
        await eventually_in_reactor(
            lambda: any(one.write_paused for one in self.factory.connections)
        )
        victim.transport.abortConnection()
        await eventually_in_reactor(lambda: len(self.factory.connections) == 1)
        client.transport.write(b"version\r\n")
        self.assertTrue((await client.until(23)).endswith(b"VERSION 1.2.3\r\n"))

    async def test_many_at_once(self) -> None:
        """Clients that all speak in the same moment are all answered."""
        self.serve(Prompt())
        callers = [await self.call() for _ in range(30)]
        for number, caller in enumerate(callers):
            caller.transport.write(b"get %d\r\nquit\r\n" % number)
        for number, caller in enumerate(callers):
            value = b"%d" % number
            expected = b"VALUE %b 0 %d\r\n%b\r\nEND\r\n" % (value, len(value), value)
            self.assertEqual(await caller.lost, expected)

    async def test_tls(self) -> None:
        """Over TLS it is the same, for a client that reads slowly, too."""
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Authority(Path(folder), "authority").issue("redcouch")
            tls = ssl.DefaultOpenSSLContextFactory(str(key), str(certificate))
        self.serve(tls=tls, limits=Limits(batch=4, backlog=8))
        caller = await self.call(
            b"set a 0 0 %d\r\n%b\r\n" % (len(LARGE), LARGE), b"get a\r\n" * 200, tls=True
        )
        reply = b"VALUE a 0 %d\r\n%b\r\nEND\r\n" % (len(LARGE), LARGE)
        await caller.until(100)
        caller.transport.pauseProducing()
        connection = await self.only_connection()
        await eventually_in_reactor(lambda: connection.write_paused)
        caller.transport.resumeProducing()
        heard = await caller.until(8 + 200 * len(reply))
        self.assertTrue(heard == b"STORED\r\n" + reply * 200)
        caller.transport.write(b"quit\r\n")
        await caller.lost
