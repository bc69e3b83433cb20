"""
What a storage over one Redis and one over a cluster have in common: all but how a
batch gets there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from redcouch.backends.redis.discovery_store import list_version
from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.backends.redis.usage_store import Asks, UsageStore
from redcouch.commands import Command, Dump, Flush
from redcouch.errors import BackendError
from redcouch.interfaces import (
    Answer,
    Health,
    IDescribedBackend,
    IDirectBackend,
    IDiscoveryBackend,
    IFillableBackend,
    ITrafficBackend,
    IWriteProbingBackend,
)
from redcouch.results import Failed, ListedPage, Outcome, Result
from redcouch.telemetry.usage import Usage, UsageSample


class Connects(Protocol):
    """
    Keeps the connection to a Redis, or those to all nodes of a cluster.

    @ivar when_up: called each time one is ready.
    """

    when_up: Callable[[], None]

    def start(self) -> None:
        """Connect, and go on connecting."""

    def stop(self) -> Deferred[None]:
        """Disconnect for good."""

    def health(self) -> Health:
        """Whether commands reach Redis now."""


class Administers(Protocol):
    """Does what concerns all items, or Redis itself."""

    async def flush(self, command: Flush) -> Outcome | Failed:
        """Remove all items."""

    async def dump(self, command: Dump) -> ListedPage:
        """List some items."""

    async def statistics(self) -> Mapping[str, int]:
        """See L{IStorageBackend<redcouch.interfaces.IStorageBackend>}."""

    async def describe(self) -> Mapping[str, Any]:
        """See L{IDescribedBackend<redcouch.interfaces.IDescribedBackend>}."""

    async def probe_writes(self) -> None:
        """See L{IWriteProbingBackend<redcouch.interfaces.IWriteProbingBackend>}."""

    def look_for_flush(self) -> None:
        """Do what is noted of a delayed flush."""

    def stop(self) -> None:
        """Wait for no flush any more."""


@implementer(
    IDescribedBackend,
    IDirectBackend,
    IDiscoveryBackend,
    IFillableBackend,
    ITrafficBackend,
    IWriteProbingBackend,
)
class BaseBackend:
    """
    See the module.

    A subclass performs what the codec packs in L{perform}, and leaves other batches
    to L{_perform_in_parts}.
    """

    def __init__(
        self,
        connection: Connects,
        codec: ScriptCodec,
        exchange: Asks,
        admin: Administers,
    ) -> None:
        """@param connection: the backend's own: it starts and stops it."""
        self._codec = codec
        self._packers = codec.packers
        self._exchange = exchange
        self._admin = admin
        self._connection = connection
        self._usage = UsageStore(exchange)

    def start(self) -> Deferred[None]:
        """See L{IStorageBackend<redcouch.interfaces.IStorageBackend>}."""
        self._connection.when_up = self._admin.look_for_flush
        self._connection.start()
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """See L{IStorageBackend<redcouch.interfaces.IStorageBackend>}."""
        self._admin.stop()
        return self._connection.stop()

    def health(self) -> Health:
        """See L{IStorageBackend<redcouch.interfaces.IStorageBackend>}."""
        return self._connection.health()

    def statistics(self) -> Deferred[Mapping[str, int]]:
        """See L{IStorageBackend<redcouch.interfaces.IStorageBackend>}."""
        return Deferred.fromCoroutine(self._admin.statistics())

    def describe(self) -> Deferred[Mapping[str, Any]]:
        """See L{IDescribedBackend<redcouch.interfaces.IDescribedBackend>}."""
        return Deferred.fromCoroutine(self._admin.describe())

    def probe_writes(self) -> Deferred[None]:
        """See L{IWriteProbingBackend<redcouch.interfaces.IWriteProbingBackend>}."""
        return Deferred.fromCoroutine(self._admin.probe_writes())

    def keep_traffic(self, seen: Sequence[UsageSample], now: float) -> Deferred[None]:
        """See L{ITrafficBackend<redcouch.interfaces.ITrafficBackend>}."""
        return Deferred.fromCoroutine(self._usage.keep(seen, now))

    def traffic(self) -> Deferred[Usage]:
        """See L{ITrafficBackend<redcouch.interfaces.ITrafficBackend>}."""
        return Deferred.fromCoroutine(self._usage.read())

    def list_version(self, nodes: bytes, now: int) -> Deferred[int]:
        """See L{IDiscoveryBackend<redcouch.interfaces.IDiscoveryBackend>}."""
        told = list_version(self._exchange, self._codec.advertised_key, nodes, now)
        return Deferred.fromCoroutine(told)

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        """See L{IStorageBackend<redcouch.interfaces.IStorageBackend>}."""
        answer: Deferred[list[Result]] = Deferred()
        self.perform(commands, answer.callback)
        return answer

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend<redcouch.interfaces.IDirectBackend>}."""
        raise NotImplementedError

    def _perform_in_parts(self, commands: Sequence[Command], answer: Answer) -> None:
        """A batch with a flush or a dump in it: what comes before, that, what comes after."""
        Deferred.fromCoroutine(self._each_part(commands)).addBoth(answer)

    async def _each_part(self, commands: Sequence[Command]) -> list[Result]:
        results: list[Result] = []
        for packed, part in groupby(commands, lambda command: command.__class__ in self._packers):
            if packed:
                results += await self._ordinary([*part])
            else:
                results += [await self._alone(command) for command in part]
        return results

    async def _ordinary(self, commands: list[Command]) -> list[Result]:
        try:
            return await self.execute(commands)
        except BackendError as error:
            return [error.failed] * len(commands)

    async def _alone(self, command: Command) -> Result:
        try:
            match command:
                case Flush():
                    return await self._admin.flush(command)
                case Dump():
                    return await self._admin.dump(command)
        except BackendError as error:
            return error.failed
        raise TypeError(f"no such command: {command!r}")
