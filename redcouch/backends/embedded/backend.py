"""
The backend for C{embedded:}, a private redis-server and the Redis backend on its socket,
and for C{embedded+cluster:}, which is the same with three masters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from redcouch.backends.embedded.binary import find_server
from redcouch.backends.embedded.cluster import MASTERS, PrivateCluster, cluster_places
from redcouch.backends.embedded.directory import ServerDirectory, choose_directory
from redcouch.backends.embedded.server import PrivateServer, ServerEndedError
from redcouch.backends.embedded.url import EmbeddedOptions, parse
from redcouch.backends.wrapper import BackendWrapper
from redcouch.errors import BackendError, ConfigurationError
from redcouch.interfaces import (
    BackendContext,
    Health,
    IBoundedBackend,
    ILocalBackend,
    IStorageBackend,
)
from redcouch.results import ErrorKind
from redcouch.telemetry.usage import Usage, UsageSample
from redcouch.urls import redact

MakeBackend: TypeAlias = Callable[[str, BackendContext], IStorageBackend]


_NOT_YET = "the embedded Redis does not answer yet"


@implementer(ILocalBackend, IBoundedBackend)
class EmbeddedBackend(BackendWrapper):
    """
    The Redis backend, whose Redis this starts and stops.

    What clients ask before it answers waits in the Redis backend, as it does there
    during the first attempt to connect.
    """

    log = Logger()

    def __init__(
        self,
        inner: IStorageBackend,
        shared_url: str,
        server: PrivateServer | PrivateCluster,
        place: ServerDirectory,
        fail_service: Callable[[str], None],
    ) -> None:
        super().__init__(inner)
        self._url = shared_url
        self._server = server
        self._place = place
        self._fail_service = fail_service
        self._up = False
        self._stopping = False

    @classmethod
    def from_url(
        cls, url: str, context: BackendContext, make_inner: MakeBackend
    ) -> EmbeddedBackend:
        """
        @param make_inner: makes the Redis backend for a C{redis+unix:} or C{redis+cluster:} URL.
        @raise ConfigurationError: something in the URL is wrong.
        """
        options = parse(url)
        if options.cluster:
            places = cluster_places(options.directory)
        else:
            places = [choose_directory(options.directory)]
        for place in places:
            place.check()
        program = find_server(options.server, max(place.oldest for place in places))

        def command(place: ServerDirectory) -> list[str]:
            return [program, *settings(options, place)]

        first = places[0]
        server: PrivateServer | PrivateCluster
        if options.cluster:
            server = PrivateCluster(context.reactor, places, command, context.fail)
            url = options.cluster_url(server.address)
        else:
            server = PrivateServer(context.reactor, first, command(first))
            url = options.redis_url(first.socket)
        return cls(make_inner(url, context), url, server, first, context.fail)

    @property
    def shared_url(self) -> str | None:
        """The inner backend's URL."""
        return self._url

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        try:
            await self._server.start()
        except (ConfigurationError, ServerEndedError) as why:
            await super().stop()  # and so nobody waits for it any more
            if not self._stopping:
                self._fail_service(str(why))
            return
        self._say_where()
        self._up = True
        await super().start()

    def _say_where(self) -> None:
        if isinstance(self._server, PrivateCluster):
            where = redact(self._url)
        else:
            where = self._place.socket
        self.log.info("Items are kept by a private Redis at {where}", where=where)
        if self._place.volatile:
            self.log.info(
                "They are in memory only and gone when this service ends; "
                "embedded:///some/dir keeps them"
            )

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        try:
            if self._up:
                await super().stop()
        finally:
            await self._server.stop()

    # Redis may take long to read its file. What does not come from a client does not wait.

    def health(self) -> Health:
        return super().health() if self._up else Health(False, _NOT_YET)

    def statistics(self) -> Deferred[Mapping[str, int]]:
        return super().statistics() if self._up else succeed({})

    def describe(self) -> Deferred[Mapping[str, Any]]:
        return super().describe() if self._up else succeed({})

    def limit_memory(self, size: int) -> Deferred[bool]:
        """See L{IBoundedBackend}."""
        return Deferred.fromCoroutine(self._server.limit_memory(size))

    def probe_writes(self) -> Deferred[None]:
        return super().probe_writes() if self._up else fail(_not_yet())

    def keep_traffic(self, seen: Sequence[UsageSample], now: float) -> Deferred[None]:
        return super().keep_traffic(seen, now) if self._up else fail(_not_yet())

    def traffic(self) -> Deferred[Usage]:
        return super().traffic() if self._up else fail(_not_yet())

    def list_version(self, nodes: bytes, now: int) -> Deferred[int]:
        return super().list_version(nodes, now) if self._up else fail(_not_yet())


def _not_yet() -> BackendError:
    return BackendError(ErrorKind.UNAVAILABLE, _NOT_YET)


def settings(options: EmbeddedOptions, place: ServerDirectory) -> list[str]:
    """The redis-server's command line; all of it is understood since Redis 6.2."""
    chosen = {
        "port": "0",
        "unixsocket": place.socket,
        "unixsocketperm": "700",
        "protected-mode": "yes",
        "dir": place.directory,
        "save": "",
        "appendonly": "no" if place.volatile else "yes",
        "daemonize": "no",
        "loglevel": "notice",
        "logfile": "",
        # As docs/operations.md advises: items of usual size in one piece of memory.
        "hash-max-ziplist-value": "1024",
    }
    if options.maxmemory is not None:
        chosen["maxmemory"] = str(options.maxmemory // (MASTERS if options.cluster else 1))
        chosen["maxmemory-policy"] = "allkeys-lru"
    return [word for name, value in chosen.items() for word in (f"--{name}", value)]
