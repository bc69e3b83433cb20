"""A memcached that closes what is idle is not away; one that does not come back is."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from redcouch.memcached_client.address import Address, read_address
from redcouch.memcached_client.twisted_client import GRACE, AwayError, OriginNode
from tests.backends.redis.case import RedisCase
from tests.support import servers
from tests.support.polling import PATIENCE, eventually_in_reactor
from tests.support.requirements import needs

reactor: Any = _reactor


class Idle(Protocol):
    """Answers each line as an empty memcached does, but for "slow"."""

    factory: Any
    transport: Any

    def connectionMade(self) -> None:
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        for line in data.splitlines():
            if line != b"slow":
                self.transport.write(self.factory.answers.get(line, b"EN\r\n"))


class NodeTests(RedisCase):
    """A node over loopback."""

    async def begin(self, address: Address) -> OriginNode:
        """A node that has connected."""
        self.lines = self.logged()
        node = OriginNode(address, PATIENCE, 1024, reactor)
        self.addCleanup(node.stop)
        self.ups = 0
        node.on_up = self.up
        await node.start()
        self.assertTrue(node.up)
        return node

    def up(self) -> None:
        self.ups += 1

    def told(self, word: str) -> list[str]:
        return [line for line in self.lines if word in line]

    @needs("memcached")
    async def test_idle_timeout(self) -> None:
        """A real memcached with C{idle_timeout}: every question is answered, nothing is told."""
        server = self.enterContext(servers.memcached("-o", "idle_timeout=1"))
        node = await self.begin(read_address(server.url))
        for _ in range(3):
            client = node._client
            await eventually_in_reactor(lambda client=client: node._client is not client)  # type: ignore[misc]
            self.assertTrue(node.up)
            (reply,) = await node.ask(b"mg none v\r\n", 1)
            self.assertEqual(reply.code, b"EN")
        self.assertEqual((self.told("is away"), len(self.told("answers")), self.ups), ([], 1, 1))

    async def listen(self) -> Any:
        factory: Any = Factory.forProtocol(Idle)
        factory.noisy = False
        factory.connections = []
        factory.answers = {b"mn": b"MN\r\n"}
        factory.listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(self.close, factory)
        return factory

    async def close(self, factory: Any) -> None:
        if factory.listening.connected:
            await factory.listening.stopListening()
        for one in factory.connections:
            one.transport.abortConnection()

    async def settled(self, node: OriginNode) -> None:
        """Wait until a connection that is closed is one that was in use."""
        await eventually_in_reactor(lambda: reactor.seconds() - node._since > 0.6)

    async def test_keepalive(self) -> None:
        """A memcached that vanished is noticed without being asked."""
        fake = await self.listen()
        node = await self.begin(
            read_address(f"memcached://127.0.0.1:{fake.listening.getHost().port}")
        )
        assert node._client is not None
        handle = node._client.transport.getHandle()
        self.assertTrue(handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    async def test_what_is_answered_late(self) -> None:
        """
        Nobody waits for the answer any more, but until it comes, or the memcached has answered for
        a while over another connection, what was asked may be done at any moment.
        """
        fake = await self.listen()
        node = await self.begin(
            read_address(f"memcached://127.0.0.1:{fake.listening.getHost().port}")
        )
        begin = reactor.seconds()

        def is_through() -> bool:
            return node.is_through(begin, reactor.seconds())

        def ask() -> None:
            answer = node.ask(b"slow\r\n", 1)
            answer.addErrback(lambda failure: failure.trap(CancelledError))
            answer.cancel()
            self.assertFalse(is_through())

        self.assertTrue(is_through())
        ask()
        fake.connections[-1].transport.write(b"EN\r\n")
        await eventually_in_reactor(is_through)
        ask()
        answers, fake.answers = fake.answers, {}  # it stands still, with the question before it
        fake.connections[-1].transport.loseConnection()
        await eventually_in_reactor(lambda: reactor.seconds() - (node._given_up or begin) > GRACE)
        self.assertFalse(is_through())
        self.assertTrue(node.is_through(reactor.seconds(), reactor.seconds()))
        fake.answers = answers
        await eventually_in_reactor(is_through)
        self.assertGreaterEqual(reactor.seconds() - node._since, GRACE)

    async def test_stats_of_another_charset(self) -> None:
        """What it says of itself need be no UTF-8."""
        fake = await self.listen()
        told = (b"version 1.6\xff", b"\xff 1", b"pid 5", b"time 30", b"uptime 10")
        fake.answers[b"stats"] = b"".join(b"STAT %b\r\n" % one for one in told) + b"END\r\n"
        node = await self.begin(
            read_address(f"memcached://127.0.0.1:{fake.listening.getHost().port}")
        )
        self.assertEqual(node.process, "5.20")

    async def test_does_not_come_back(self) -> None:
        """Who asks while it is connected to again is told when that fails, and it is away then."""
        fake = await self.listen()
        node = await self.begin(
            read_address(f"memcached://127.0.0.1:{fake.listening.getHost().port}")
        )
        await self.settled(node)
        await fake.listening.stopListening()
        fake.connections[0].transport.loseConnection()
        await eventually_in_reactor(lambda: node._client is None)
        self.assertTrue(node.up)
        with self.assertRaisesRegex(AwayError, "cannot be reached"):
            await node.ask(b"mg none v\r\n", 1)
        self.assertFalse(node.up)
        self.assertEqual(len(self.told("is away")), 1)

    async def test_closes_again_and_again(self) -> None:
        """One that closes each connection at once is away, and is not connected to without end."""
        fake = await self.listen()
        node = await self.begin(
            read_address(f"memcached://127.0.0.1:{fake.listening.getHost().port}")
        )

        def is_away() -> bool:
            fake.connections[-1].transport.loseConnection()
            return not node.up

        await eventually_in_reactor(is_away)
        self.assertEqual(len(self.told("is away")), 1)
        await deferLater(reactor, 0)
        self.assertLess(len(fake.connections), 3)
