"""What the tests of the Redis backend share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

import redis
from twisted.internet import reactor
from twisted.logger import ILogObserver, LogEvent, eventAsText, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from redcouch.backends.registry import make_backend
from redcouch.commands import Command, Get, Store, StoreMode
from redcouch.interfaces import BackendContext, IStorageBackend
from redcouch.limits import Limits
from redcouch.results import ErrorKind, Failed, Item, Result, Stored
from redcouch.telemetry.latency import Meter
from tests.support.polling import PATIENCE, eventually_in_reactor
from tests.support.requirements import OnRedis
from tests.support.results import named
from tests.support.servers import RedisServer, Sentinel, patient, redis_server, shared_redis

T = TypeVar("T")


class RedisCase(TestCase):
    """Tests that use storages over Redis."""

    timeout = PATIENCE
    storage: IStorageBackend
    counts: dict[str, int]

    def __init__(self, methodName: str = "runTest") -> None:
        super().__init__(methodName)
        self._started: list[IStorageBackend] = []

    def start_redis(self, *options: str, version: str = "") -> RedisServer:
        """A Redis of the test's own."""
        server: RedisServer = self.enterContext(redis_server(*options, version=version))
        return server

    def folder(self) -> Path:
        """A directory that ends with the test."""
        return Path(self.enterContext(TemporaryDirectory(prefix="redcouch-tests-")))

    def native(self, server: RedisServer, **options: object) -> redis.Redis:
        """A native client of it."""
        client = server.client(**options)
        self.addCleanup(client.close)
        return client

    def logged(self) -> list[str]:
        """A list that every log line from now on is added to, traceback and all."""
        lines: list[str] = []

        @implementer(ILogObserver)
        def note(event: LogEvent) -> None:
            lines.append(eventAsText(event) + repr(sorted(event.items(), key=str)))

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        return lines

    async def connect(
        self, url: str, reactor: Any = reactor, meter: Meter | None = None
    ) -> IStorageBackend:
        """A storage that has been started, and that ends with the test."""
        context = BackendContext(reactor, Limits(), time.time, self.fail, meter)
        self.counts = context.counts
        storage = self.storage = make_backend(patient(url), context)
        await storage.start()
        self._started.append(storage)
        self.addCleanup(self.stop, storage)
        return storage

    async def stop(self, storage: IStorageBackend) -> None:
        """Stop a storage, unless that has been done."""
        if storage in self._started:
            self._started.remove(storage)
            await storage.stop()

    async def replaced_for_good(
        self, replica: redis.Redis, port: int, watching: Sequence[Sentinel]
    ) -> None:
        """
        Wait until a replica has taken the place of its master, and nobody takes it for dead.

        @param port: by which the sentinels name it.
        """
        await eventually_in_reactor(lambda: replica.info("replication")["role"] == "master")
        for sentinel in watching:
            sentinel.take_for_dead_after(60_000)
        await eventually_in_reactor(lambda: all(one.names(port) for one in watching))
        await eventually_in_reactor(lambda: self.storage.health().ready)

    async def all(self, *commands: Command) -> list[Result]:
        """A batch's results."""
        results = named(await self.storage.execute(commands))
        self.assertEqual(len(results), len(commands))
        return results

    async def do(self, command: Command) -> Result:
        """One command's result."""
        return (await self.all(command))[0]

    async def set(self, value: bytes, key: bytes = b"k", flags: int = 0, exptime: int = 0) -> int:
        """Store an item; gives its token."""
        stored = await self.do(Store(StoreMode.SET, key, value, flags, exptime))
        self.assertIsInstance(stored, Stored)
        token: int = stored.cas
        return token

    async def get(self, key: bytes = b"k", cas: bool = True) -> Item | Failed | None:
        """An item, or why there is none."""
        found: Item | Failed | None = (await self.do(Get([key], cas)))[0]
        return found

    async def item(self, key: bytes = b"k") -> Item:
        """An item that is there."""
        found = await self.get(key)
        assert isinstance(found, Item), found
        return found

    async def value(self, key: bytes = b"k") -> bytes | None:
        """An item's value; C{None} where there is no item."""
        found = await self.get(key)
        assert not isinstance(found, Failed), found
        return None if found is None else found.value

    def assert_failed(self, result: Result, trouble: ErrorKind) -> None:
        """Check that a command has failed for this reason."""
        self.assertIsInstance(result, Failed)
        self.assertIs(result.kind, trouble)


class SharedRedisCase(OnRedis, RedisCase):
    """Tests on a Redis that other tests use as well."""

    connects: ClassVar[bool] = True
    client: redis.Redis
    url: str

    async def setUp(self) -> None:  # type: ignore[override]
        server = shared_redis(self.version)
        self.url = server.url
        self.client = server.client()
        self.addCleanup(self.client.close)
        self.client.flushall()
        if self.connects:
            storage = await self.connect(self.url)
            # Until then it tells Redis of its scripts, beside whatever the test does.
            await eventually_in_reactor(lambda: storage.health().ready)
