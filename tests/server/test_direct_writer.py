"""Bytes that are sent at once: all of them, in their order, whatever the socket takes."""

from __future__ import annotations

import random
import socket
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor, tcp
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from redcouch.server.direct_writer import direct_writer

real: Any = reactor

MANY = 4096
"""Bytes that a test reads at a time."""


class Watching:
    """The part of a reactor that a transport sees."""

    def __init__(self) -> None:
        self.writers: set[Any] = set()
        self.readers: set[Any] = set()
        self.addWriter = self.writers.add
        self.addReader = self.readers.add
        self.removeWriter = self.writers.discard
        self.removeReader = self.readers.discard


class Pair:
    """A transport on one end of a socket that holds little, and a test on the other."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        for end in (ours, self.theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            end.setblocking(False)
        self.reactor = Watching()
        self.transport: Any = tcp.Connection(ours, Protocol(), cast(Any, self.reactor))
        self.transport.connected = 1
        self.write = direct_writer(self.transport)
        self.read = b""

    def receive(self) -> int:
        """Read once; gives how much there was."""
        try:
            data = self.theirs.recv(MANY)
        except BlockingIOError:
            return 0
        self.read += data
        return len(data)

    def turn(self) -> Any:
        """What the reactor does if the socket can be written to, and if it is asked to."""
        return self.transport.doWrite() if self.transport in self.reactor.writers else None

    def receive_all(self) -> None:
        """Read until nothing more comes."""
        while self.receive() or self.reactor.writers:
            self.turn()

    def close(self) -> None:
        """Close both ends."""
        self.theirs.close()
        self.transport.socket.close()


chunks = st.integers(1, 40_000)
steps = st.one_of(
    st.tuples(st.just("write"), chunks),
    st.tuples(st.just("receive")),
    st.tuples(st.just("turn")),
)


@given(st.lists(steps, max_size=40))
@settings(deadline=None)
def test_any_order(steps: list[tuple[Any, ...]]) -> None:
    """However a client reads, what it reads is what was said, from the front, without a gap."""
    pair = Pair()
    source = random.Random(1)
    said = b""
    try:
        for name, *arguments in steps:
            if name == "write":
                data = source.randbytes(arguments[0])
                said += data
                pair.write(data)
            else:
                getattr(pair, name)()
            assert said.startswith(pair.read)
        pair.receive_all()
        assert pair.read == said
    finally:
        pair.close()


class PairTests(SynchronousTestCase):
    """One socket, step by step."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.addCleanup(self.pair.close)

    def test_at_once(self) -> None:
        """A small reply is with the client before the reactor turns."""
        self.pair.write(b"END\r\n")
        self.assertEqual(self.pair.theirs.recv(MANY), b"END\r\n")
        self.assertEqual(self.pair.reactor.writers, set())

    def test_partial(self) -> None:
        """What the socket does not take waits, and what comes after it waits behind it."""
        large = random.Random(2).randbytes(300_000)
        self.pair.write(large)
        self.assertIn(self.pair.transport, self.pair.reactor.writers)
        self.pair.receive()
        self.pair.write(b"second")  # there is room in the socket now, but it is not its turn
        self.pair.receive_all()
        self.assertEqual(self.pair.read, large + b"second")
        self.assertEqual(self.pair.reactor.writers, set())
        self.pair.write(b"third")
        self.assertEqual(self.pair.theirs.recv(MANY), b"third")

    def test_full_socket(self) -> None:
        """A socket that takes nothing at all is no fault."""
        try:
            while True:
                self.pair.transport.socket.send(bytes(MANY))
        except BlockingIOError:
            pass
        self.pair.write(b"later")
        self.pair.receive_all()
        self.assertTrue(self.pair.read.endswith(b"\0later"))

    def test_client_gone(self) -> None:
        """A client that has gone is noticed where the reactor notices such things."""
        self.pair.theirs.close()
        self.pair.write(b"anybody?")
        self.assertEqual(self.pair.turn(), CONNECTION_LOST)

    def test_closing(self) -> None:
        """What is said while the connection is being closed is still in its place."""
        large = bytes(300_000)
        self.pair.write(large)
        self.pair.transport.loseConnection()
        self.pair.write(b"bye")
        while self.pair.receive():
            self.pair.turn()
        self.assertEqual(self.pair.read, large + b"bye")

    def test_closed(self) -> None:
        """What is said after the end goes nowhere, and harms nobody."""
        transport = self.pair.transport
        with socket.socket() as other:
            transport.connectionLost(Failure(ConnectionLost()))
            transport.socket = other  # for the cleanup
            self.pair.write(b"too late")
            self.assertEqual(self.pair.theirs.recv(MANY), b"")

    def test_pauses_its_producer(self) -> None:
        """A client that does not read makes whoever writes stop, and go on when it does."""
        events: list[str] = []

        class Producer:
            def pauseProducing(self) -> None:
                events.append("pause")

            def resumeProducing(self) -> None:
                events.append("resume")

            def stopProducing(self) -> None:
                events.append("stop")

        self.pair.transport.registerProducer(Producer(), True)
        self.pair.write(bytes(300_000))
        self.assertEqual(events, ["pause"])
        self.pair.receive_all()
        self.assertEqual(events, ["pause", "resume"])

    def test_other_transports(self) -> None:
        """A transport that encrypts, or is no socket, is written to as ever."""
        transport = StringTransport()
        self.assertEqual(direct_writer(transport), transport.write)
        self.pair.transport.TLS = True
        self.assertEqual(direct_writer(self.pair.transport), self.pair.transport.write)


class Sender(Protocol):
    """Says all it has as soon as somebody is there, and closes."""

    pieces: tuple[bytes, ...] = ()

    def connectionMade(self) -> None:
        transport = cast(Any, self.transport)
        write = direct_writer(transport)
        for piece in self.pieces:
            write(piece)
        transport.loseConnection()


class Receiver(Protocol):
    """Reads everything, pausing again and again."""

    def __init__(self, done: Deferred[bytes]) -> None:
        self.done = done
        self.received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        transport = cast(Any, self.transport)
        transport.pauseProducing()
        real.callLater(0, transport.resumeProducing)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(bytes(self.received))


class Receiving(ClientFactory):
    """Makes one receiver."""

    noisy = False

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return Receiver(self.done)


class LoopbackTests(TestCase):
    """Over a real connection."""

    async def receive(self, pieces: tuple[bytes, ...]) -> bytes:
        sending = Factory.forProtocol(type("This", (Sender,), {"pieces": pieces}))
        port = real.listenTCP(0, sending, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        sending.noisy = False
        client = Receiving()
        real.connectTCP("127.0.0.1", port.getHost().port, client)
        return await client.done

    async def test_large_replies(self) -> None:
        """Ten megabytes arrive as they were sent, whole or in pieces of any size."""
        source = random.Random(3)
        large = source.randbytes(10_000_000)
        ends = sorted(source.sample(range(len(large)), 500))
        pieces = tuple(
            large[start:end] for start, end in zip([0, *ends], [*ends, len(large)], strict=True)
        )
        self.assertTrue(await self.receive((large,)) == large)
        self.assertTrue(await self.receive(pieces) == large)
