"""A Redis that cannot be used is named for what it is, once, and with what to do."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from redcouch.backends.redis.server_info import why_unfit
from redcouch.backends.redis.url import read_location
from redcouch.commands import Store, StoreMode
from redcouch.errors import BackendError, ConfigurationError
from tests.backends.redis.case import RedisCase
from tests.backends.redis.fake import FakeRedisFactory
from tests.cli.running import run
from tests.support.polling import eventually_in_reactor
from tests.support.servers import free_port

reactor: Any = _reactor


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


class OldRedis(FakeRedisFactory):
    """One of an older version, as far as anybody asks it before it is used."""

    def __init__(self, version: bytes) -> None:
        super().__init__()
        self.version = version
        self.answer = self._answer

    def _answer(self, command: list[bytes]) -> bytes:
        name = command[0].upper()
        if name == b"HELLO":
            if self.version < b"6":
                return b"-ERR unknown command `HELLO`, with args beginning with: `2`, \r\n"
            facts = [b"server", b"redis", b"version", self.version, b"role", b"master"]
            return b"*6\r\n" + b"".join(map(bulk, facts))
        if name == b"INFO":
            return bulk(b"# Server\r\nredis_version:%b\r\n" % self.version)
        if name == b"EVALSHA":
            return b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
        return b"+PONG\r\n" if name == b"PING" else b"-ERR this is only a test\r\n"


class RefusedTests(RedisCase):
    """What is seen of it in the log, by clients, and in health."""

    async def refused(self, url: str, *words: str) -> str:
        """Check that this storage is refused for this reason, in one line, which is given."""
        for storage in list(self._started):
            await self.stop(storage)
        lines = self.logged()
        await self.connect(url)
        await eventually_in_reactor(lambda: not self.storage.health().ready and self.told(lines))
        for _ in range(3):
            with self.assertRaisesRegex(BackendError, "storage not reachable"):
                await self.do(Store(StoreMode.SET, b"k", b"v"))
        (line,) = self.told(lines)
        for word in words:
            self.assertIn(word, line)
            self.assertIn(words[0], self.storage.health().reason)
        return line

    def told(self, lines: list[str]) -> list[str]:
        """The line about it, of all that were logged."""
        return [line.partition("[(")[0] for line in lines if "Cannot reach Redis" in line]

    async def listen(self, fake: FakeRedisFactory) -> str:
        """The URL of something that listens from now on."""
        listening = reactor.listenTCP(0, fake, interface="127.0.0.1")
        self.addCleanup(self.gone, fake)
        self.addCleanup(listening.stopListening)
        return f"redis://127.0.0.1:{listening.getHost().port}"

    async def gone(self, fake: FakeRedisFactory) -> None:
        """Wait for the far ends of its connections."""
        await eventually_in_reactor(lambda: not fake.connections)

    async def test_too_old(self) -> None:
        """A Redis before 6.2 is refused, by the service and by the command; a newer one is not."""
        fake = OldRedis(b"5.0.14")
        url = await self.listen(fake)
        for version in (b"5.0.14", b"4.0.9", b"6.0.16", b"6.1.240"):
            fake.version = version
            reason = f"it is Redis {version.decode()}; RedCouch needs 6.2 or later"
            line = await self.refused(url, reason, "upgraded")
            self.assertNotIn("start it", line)
            ended = await asked(run, "ls", "-s", url)
            self.assertEqual((ended.status, ended.out), (3, ""))
            self.assertEqual(ended.err, f"redcouch: {url}: {reason}\n")
        fake.version = b"6.2.0"
        await eventually_in_reactor(lambda: self.storage.health().ready)

    def test_versions(self) -> None:
        """Versions as they are written, and what is none."""
        for version in ("6.2.0", "6.10.1", "7.0.15", "255.255.255", "10.0", "unknown", ""):
            self.assertIsNone(why_unfit({"version": version}, False))
        self.assertIsNone(why_unfit({}, False))
        for version in ("2.8.24", "5.0.0-rc1", "6.0.20", "6.1.1"):
            self.assertIsNotNone(why_unfit({"version": version}, False))

    async def test_without_hello(self) -> None:
        """A recent Redis whose HELLO is renamed is asked in another way."""
        server = self.start_redis("--rename-command", "HELLO", "")
        await self.connect(server.url)
        await self.set(b"v")

    async def test_without_scripts(self) -> None:
        """
        EVALSHA, SCRIPT, MULTI or EXEC renamed away, or forbidden to the user: said at the
        connection. A large set would be done and told as failed, or all that follows it fail.
        """
        for name in ("EVALSHA", "SCRIPT", "MULTI", "EXEC"):
            server = self.start_redis("--rename-command", name, "")
            line = await self.refused(server.url, "unknown command", name)
            self.assertNotIn("start it", line)
        server = self.start_redis()
        url = f"redis://couch:secret@127.0.0.1:{server.port}"
        for name in ("EVALSHA", "MULTI", "EXEC"):
            self.native(server).execute_command(
                "ACL", "SETUSER", "couch", "on", ">secret", "~*", "+@all", f"-{name}"
            )
            line = await self.refused(url, name, "NOPERM", "docs/storage.md")
            self.assertNotIn("start it", line)

    async def test_closed_with_a_word(self) -> None:
        """What Redis says before it closes, as to one client too many, is told."""
        server = self.start_redis("--maxclients", "2")
        for client in [self.native(server) for _ in range(2)]:
            client.ping()
        words = "ERR max number of clients reached"
        for url in (server.url, f"redis://:secret@127.0.0.1:{server.port}?cache=1m"):
            self.assertNotIn("start it", await self.refused(url, words))

    async def test_advice(self) -> None:
        """What is wrong with the way in does not end in advice to start Redis."""
        server = self.start_redis("--requirepass", "right")
        address = f"127.0.0.1:{server.port}"
        for url, words in (
            (f"redis://{address}", ("NOAUTH", "redis://:password@host")),
            (f"redis://:wrong@{address}", ("WRONGPASS", "right user and password")),
            (f"redis://who:wrong@{address}", ("WRONGPASS", "right user and password")),
            (f"redis://:right@{address}/99", ("out of range", "a database that it has")),
        ):
            self.assertNotIn("start it", await self.refused(url, *words))
        line = await self.refused(f"redis://127.0.0.1:{free_port()}", "refused")
        self.assertIn("start it", line)

    async def test_tls_to_a_plain_redis(self) -> None:
        """C{rediss://} to a Redis without TLS says so, whether it answers or not."""
        server = self.start_redis()
        for _ in range(4):  # of a hello that is random, it may have a line, or none
            url = f"rediss://127.0.0.1:{server.port}?timeout=0.5"
            line = await self.refused(url, "write redis in place of rediss")
            self.assertNotIn("start it", line)

    def test_one_slash(self) -> None:
        """An URL with too few slashes is explained, and shows no password."""
        for url in ("redis:/host", "redis:host:6379", "redis:/1", "rediss:/host/1"):
            with self.assertRaisesRegex(ConfigurationError, "rediss?:// and what follows it"):
                read_location(url)


async def asked(call: Any, *arguments: Any) -> Any:
    """What a call gives that blocks."""
    answer: Deferred[Any] = deferToThread(call, *arguments)
    return await answer
