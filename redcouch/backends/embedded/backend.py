"""The backend for C{embedded:}: a private redis-server, and the Redis backend on its socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from redcouch.backends.embedded.binary import find_server
from redcouch.backends.embedded.directory import Place, choose_place
from redcouch.backends.embedded.server import PrivateServer, ServerEndedError
from redcouch.backends.embedded.url import Options, parse
from redcouch.commands import Command
from redcouch.errors import BackendError, ConfigurationError
from redcouch.interfaces import (
    Health,
    IDescribedBackend,
    IFillableBackend,
    ILocalBackend,
    IStorageBackend,
    ITrafficBackend,
    Surroundings,
)
from redcouch.results import Result, Trouble
from redcouch.telemetry.usage import Inventory, Seen

MakeBackend: TypeAlias = Callable[[str, Surroundings], IStorageBackend]


@implementer(IDescribedBackend, IFillableBackend, ILocalBackend, ITrafficBackend)
class EmbeddedBackend:
    """
    Keeps batches waiting until the private redis-server answers, and is from
    then on what the inner backend is.

    @ivar shared_url: the inner backend's URL.
    """

    log = Logger()

    def __init__(
        self,
        inner: IStorageBackend,
        shared_url: str,
        server: PrivateServer,
        place: Place,
        fail_service: Callable[[str], None],
    ) -> None:
        self._inner = inner
        self.shared_url = shared_url
        self._server = server
        self._place = place
        self._fail_service = fail_service
        self._waiting: list[Deferred[None]] = []
        self._inner_started = False
        self._up = False
        self._stopping = False
        self._gone: BackendError | None = None

    @classmethod
    def from_url(
        cls, url: str, surroundings: Surroundings, make_inner: MakeBackend
    ) -> EmbeddedBackend:
        """
        @param make_inner: makes the Redis backend for a C{redis+unix:} URL.
        @raise ConfigurationError: something in the URL is wrong.
        """
        options = parse(url)
        place = choose_place(options.directory)
        place.check()
        command = [find_server(options.server), *settings(options, place)]
        url = options.redis_url(place.socket)
        server = PrivateServer(surroundings.reactor, place, command)
        return cls(make_inner(url, surroundings), url, server, place, surroundings.fail)

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        try:
            await self._server.start()
        except (ConfigurationError, ServerEndedError) as why:
            self._give_up()
            if not self._stopping:
                self._fail_service(str(why))
            return
        self._say_where()
        self._inner_started = True
        await self._inner.start()
        self._up = True
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def _say_where(self) -> None:
        self.log.info("Items are kept by a private Redis at {socket}", socket=self._place.socket)
        if self._place.volatile:
            self.log.info(
                "They are in memory only and gone when this service ends; "
                "embedded:///some/dir keeps them"
            )

    def _give_up(self) -> None:
        self._gone = BackendError(Trouble.UNAVAILABLE, "the embedded Redis does not run")
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.errback(self._gone)

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        try:
            if self._inner_started:
                await self._inner.stop()
        finally:
            await self._server.stop()

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        if self._up:
            return self._inner.execute(commands)
        if self._gone is not None:
            return fail(self._gone)
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        return waiter.addCallback(lambda _: self._inner.execute(commands))

    def health(self) -> Health:
        if self._up:
            return self._inner.health()
        return Health(False, "the embedded Redis does not answer yet")

    def statistics(self) -> Deferred[Mapping[str, int]]:
        return self._inner.statistics() if self._up else succeed({})

    def keep_traffic(self, seen: Sequence[Seen], now: int) -> Deferred[None]:
        if self._up and ITrafficBackend.providedBy(self._inner):
            return self._inner.keep_traffic(seen, now)
        return fail(BackendError(Trouble.UNAVAILABLE, "the embedded Redis does not answer yet"))

    def traffic(self) -> Deferred[Inventory]:
        if self._up and ITrafficBackend.providedBy(self._inner):
            return self._inner.traffic()
        return fail(BackendError(Trouble.UNAVAILABLE, "the embedded Redis does not answer yet"))

    def describe(self) -> Deferred[Mapping[str, str | int]]:
        if self._up and IDescribedBackend.providedBy(self._inner):
            return self._inner.describe()
        return succeed({})


def settings(options: Options, place: Place) -> list[str]:
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
        chosen["maxmemory"] = str(options.maxmemory)
        chosen["maxmemory-policy"] = "allkeys-lru"
    return [word for name, value in chosen.items() for word in (f"--{name}", value)]
