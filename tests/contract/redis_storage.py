"""The contract's storage over a real Redis, and how time passes there."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.task import Clock

from redcouch.backends.cached import make_cached
from redcouch.backends.redis import make_codec
from redcouch.backends.redis.backend import RedisBackend
from redcouch.backends.redis.cluster import make_cluster
from redcouch.backends.redis.connection import RedisConnection
from redcouch.backends.redis.layout import FLUSH_AT
from redcouch.backends.redis.url import read_location
from redcouch.interfaces import BackendContext, IStorageBackend
from tests.contract import contract
from tests.support.polling import PATIENCE, eventually_in_reactor
from tests.support.requirements import OnRedis
from tests.support.servers import shared_redis


def age(client: Any, milliseconds: int) -> None:
    """Take so much from what every key in Redis has left to live."""
    for key in client.scan_iter():
        left = client.pttl(key)
        if left >= 0:
            client.pexpire(key, left - milliseconds)


class RedisStorage:
    """
    A Redis backend whose delayed flushes go by a clock that the tests move.
    Items expire by Redis' own clock, and are aged instead. A Redis that a busy machine
    keeps waiting is waited for.
    """

    def __init__(self, url: str, client: Any) -> None:
        """@param client: a native client of the Redis, or the cluster."""
        self.client = client
        self.clock = Clock()
        self._start = time.time()
        location = replace(read_location(url), timeout=PATIENCE)
        self.prefix = location.layout.prefix
        self._flush_key = FLUSH_AT + self.prefix
        context = BackendContext(self.clock, contract.LIMITS, self.now, print)
        codec = make_codec(location.layout, context)
        self.storage: IStorageBackend
        if location.cache:
            self.storage = make_cached(location, codec, context, reactor)
        elif location.cluster:
            self.storage = make_cluster(location, codec, context, reactor)
        else:
            link = RedisConnection(location, reactor, codec.scripts)
            self.storage = RedisBackend(link, codec, context)

    def now(self) -> float:
        return self._start + self.clock.seconds()

    async def elapse(self, seconds: float) -> None:
        """Let time pass, and a flush that it brings be done."""
        age(self.client, int(seconds * 1000))
        noted = self.client.get(self._flush_key)
        self.clock.advance(seconds)
        if noted is not None and float(noted.split()[0]) <= self.now():
            await eventually_in_reactor(lambda: not self.client.exists(self._flush_key))


class RedisContract(OnRedis, contract.StorageContract):
    """
    The contract on a Redis of one version, in one encoding, or as the URL's
    parameters say.
    """

    encoding: ClassVar[str]
    parameters: ClassVar[str] = ""
    client: Any
    prefix: ClassVar[bytes] = b"rc:"

    def build(self) -> IStorageBackend:
        server = shared_redis(self.version)
        self.client = server.client()
        self.addCleanup(self.client.close)
        self.client.flushall()
        parameters = self.parameters or f"encoding={self.encoding}"
        self.over = RedisStorage(f"{server.url}?{parameters}", self.client)
        return self.over.storage

    def now(self) -> float:
        return self.over.now()

    def absolute(self, seconds: int) -> int:
        return int(time.time()) + seconds

    async def elapse(self, seconds: float) -> None:
        await self.over.elapse(seconds)

    async def left(self, key: bytes) -> float | None:
        milliseconds = self.client.pttl(self.prefix + key)
        self.assertNotEqual(milliseconds, -2)
        return None if milliseconds == -1 else milliseconds / 1000
