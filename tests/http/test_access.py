"""Names under which a page may be asked for, and passwords."""

from __future__ import annotations

import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from redcouch.http.access import (
    AccessControl,
    HttpAnswer,
    HttpFactory,
    allows,
    is_ours,
    own_names,
)
from redcouch.server.passwords import FAILURE_DELAY, Authenticator
from redcouch.telemetry.counters import Counters


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST.",
        "127.0.0.1:8080",
        "10.1.2.3",
        "[::1]:8080",
        "[fe80::1]",
        "seen.example",
        "Seen.Example:80",
        socket.gethostname(),
    ],
)
def test_ours(host: str) -> None:
    """Addresses, this machine's name, and the names that the operator gave."""
    assert is_ours(host, own_names(["Seen.example"]))


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "seen.example@x"],
)
def test_not_ours(host: str) -> None:
    """Any other name may have been given our address by somebody else."""
    assert not is_ours(host, own_names(["seen.example"]))
    assert is_ours(host, own_names(["*"]))


class DoorkeeperTests(SynchronousTestCase):
    """Who may come in."""

    def setUp(self) -> None:
        self.clock = Clock()
        folder = self.enterContext(TemporaryDirectory(prefix="redcouch-tests-"))
        self.path = Path(folder) / "users"
        self.path.write_text("ann:secret\n")
        self.counters = Counters()
        self.authenticator = Authenticator(self.path, self.counters, self.clock)

    def ask(self, user: bytes, password: bytes) -> Deferred[Any]:
        return Deferred.fromCoroutine(allows(self.authenticator, user, password, "http:10.0.0.9"))

    def test_nobody_to_ask(self) -> None:
        """Without a file of users everybody may come in."""
        allowed = Deferred.fromCoroutine(allows(None, b"", b"", ""))
        self.assertTrue(self.successResultOf(allowed))

    def test_right(self) -> None:
        """The right password is checked once and then remembered."""
        for _ in range(3):
            self.assertTrue(self.successResultOf(self.ask(b"ann", b"secret")))
        self.assertEqual(self.counters.auth_cmds, 1)

    def test_nothing_given(self) -> None:
        """Who gives nothing is asked, at once."""
        self.assertFalse(self.successResultOf(self.ask(b"", b"")))
        self.assertEqual(self.counters.auth_cmds, 0)

    def test_wrong(self) -> None:
        """A wrong password is answered late, each time."""
        for _ in range(2):
            asked = self.ask(b"ann", b"wrong")
            self.assertNoResult(asked)
            self.clock.advance(FAILURE_DELAY)
            self.assertFalse(self.successResultOf(asked))
        self.assertEqual(self.counters.auth_errors, 2)
        self.flushLoggedErrors()

    def test_many_at_a_time(self) -> None:
        """However many guess at a time, who knows the password is let in."""
        for number in range(1000):
            self.assertNoResult(self.ask(b"ann", b"%d" % number))
        self.assertTrue(self.successResultOf(self.ask(b"ann", b"secret")))

    def test_users_are_read_again(self) -> None:
        """A password that was taken away is not remembered."""
        self.successResultOf(self.ask(b"ann", b"secret"))
        self.path.write_text("ann:other\n")
        self.authenticator.reload()
        self.assertNoResult(self.ask(b"ann", b"secret"))
        self.assertTrue(self.successResultOf(self.ask(b"ann", b"other")))


class WholeURLTests(TestCase):
    """A request may name the whole URL that it is for (RFC 9112, section 3.2.2)."""

    async def ask(self, target: bytes, host: bytes = b"localhost") -> bytes:
        """The status and the content of the answer."""

        async def page(request: Any) -> HttpAnswer:
            return HttpAnswer(200, b"%a" % request.args)

        gate = AccessControl({b"/": page, b"/page": page}, frozenset({"localhost"}), None)
        address = IPv4Address("TCP", "127.0.0.1", 40_000)
        channel: Any = HttpFactory(gate).buildProtocol(address)
        channel.wrappedProtocol.callLater = Clock().callLater
        transport: Any = StringTransport()
        channel.makeConnection(transport)
        self.addCleanup(channel.connectionLost, connectionDone)
        channel.dataReceived(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
        while b"\r\n\r\n" not in transport.value():
            await deferLater(reactor, 0)
        head, _, content = transport.value().partition(b"\r\n\r\n")
        status = head.split()[1]
        told: bytes = status + b" " + content
        return told

    async def test_path(self) -> None:
        """It is the rest of it."""
        for target in (
            b"http://localhost/page",
            b"HTTP://LOCALHOST:8080/page",
            b"https://[::1]/page",
        ):
            self.assertEqual(await self.ask(target), b"200 {}")
        self.assertEqual(await self.ask(b"http://localhost"), b"200 {}")
        for target in (b"http://localhost/page?since=7", b"http://localhost?since=7"):
            self.assertEqual(await self.ask(target), b"200 {b'since': [b'7']}")
        for target in (b"http://localhost//page", b"http://localhost/http://localhost/page"):
            self.assertEqual((await self.ask(target))[:4], b"404 ")

    async def test_host(self) -> None:
        """Its host counts, and not the header."""
        self.assertEqual((await self.ask(b"http://evil.example/page"))[:4], b"421 ")
        self.assertEqual((await self.ask(b"http://localhost@evil.example/page"))[:4], b"421 ")
        self.assertEqual((await self.ask(b"http:///page"))[:4], b"421 ")
        self.assertEqual(await self.ask(b"http://localhost/page", b"evil.example"), b"200 {}")


class ManyRequestsTests(TestCase):
    """A client that sends many requests at once, and takes its answers when it likes."""

    def setUp(self) -> None:
        async def page(request: Any) -> HttpAnswer:
            return HttpAnswer(200, b"a page\n")

        gate = AccessControl({b"/": page}, frozenset(), None)
        address = IPv4Address("TCP", "127.0.0.1", 40_000)
        channel: Any = HttpFactory(gate).buildProtocol(address)
        self.clock = Clock()
        channel.wrappedProtocol.callLater = self.clock.callLater
        self.transport: Any = StringTransport()
        channel.makeConnection(self.transport)
        self.addCleanup(channel.connectionLost, connectionDone)
        channel.dataReceived(b"GET / HTTP/1.1\r\n\r\n" * 50)

    @property
    def answers(self) -> int:
        return int(self.transport.value().count(b"a page\n"))

    async def test_taken(self) -> None:
        """Others have their turn in between, and all are answered."""
        self.assertEqual(self.answers, 0)
        while self.answers < 50:
            await deferLater(reactor, 0)

    async def test_not_taken(self) -> None:
        """
        Nothing is made for whoever takes nothing; who takes nothing for a minute is closed, and the
        log says nothing of that.
        """
        self.transport.producer.pauseProducing()
        for _ in range(5):
            await deferLater(reactor, 0)
        self.assertEqual(self.answers, 0)
        with capturedLogs() as said:
            self.clock.advance(60)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(said, [])
