"""
A layer around a storage.

The storage that sessions ask is a list of layers, put together in L{redcouch.build}
from the inside to the outside. Each is a L{BackendWrapper} that overrides what it
changes, and knows nothing of what is around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from zope.interface import directlyProvides, implementer
from zope.interface.interface import InterfaceClass

from redcouch.commands import Command
from redcouch.interfaces import (
    CAPABILITIES,
    Answer,
    Health,
    IDirectBackend,
    IStorageBackend,
    performer,
)
from redcouch.results import Result
from redcouch.telemetry.usage import Usage, UsageSample


@implementer(IDirectBackend)
class BackendWrapper:
    """
    Forwards everything to an inner backend, and provides what that provides.

    A layer that changes how commands are performed overrides L{perform} alone:
    C{execute} asks it. So a layer always is an L{IDirectBackend}, which is as fast as
    what it wraps.

    @cvar hidden: capabilities of the inner backend that the layer does not have.
    """

    hidden: ClassVar[frozenset[InterfaceClass]] = frozenset()

    def __init__(self, inner: IStorageBackend) -> None:
        # Which of its methods may be called depends on what it provides, as for this.
        self._inner: Any = inner
        self._perform_inner = performer(inner)
        has = [each for each in CAPABILITIES if each.providedBy(inner)]
        directlyProvides(self, *(each for each in has if each not in self.hidden))

    # -- IStorageBackend ---------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        """See L{IStorageBackend}."""
        started: Deferred[None] = self._inner.start()
        return started

    def stop(self) -> Deferred[None]:
        """See L{IStorageBackend}."""
        stopped: Deferred[None] = self._inner.stop()
        return stopped

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        """See L{IStorageBackend}."""
        answered: Deferred[list[Result]] = Deferred()
        self.perform(commands, answered.callback)
        return answered

    def health(self) -> Health:
        """See L{IStorageBackend}."""
        health: Health = self._inner.health()
        return health

    def statistics(self) -> Deferred[Mapping[str, int]]:
        """See L{IStorageBackend}."""
        statistics: Deferred[Mapping[str, int]] = self._inner.statistics()
        return statistics

    def limit_memory(self, size: int) -> Deferred[bool]:
        """See L{IBoundedBackend<redcouch.interfaces.IBoundedBackend>}."""
        limited: Deferred[bool] = self._inner.limit_memory(size)
        return limited

    # -- the capabilities ----------------------------------------------------------------------

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend}."""
        self._perform_inner(commands, answer)

    def describe(self) -> Deferred[Mapping[str, Any]]:
        """See L{IDescribedBackend<redcouch.interfaces.IDescribedBackend>}."""
        described: Deferred[Mapping[str, Any]] = self._inner.describe()
        return described

    def probe_writes(self) -> Deferred[None]:
        """See L{IWriteProbingBackend<redcouch.interfaces.IWriteProbingBackend>}."""
        probed: Deferred[None] = self._inner.probe_writes()
        return probed

    def keep_traffic(self, seen: Sequence[UsageSample], now: float) -> Deferred[None]:
        """See L{ITrafficBackend<redcouch.interfaces.ITrafficBackend>}."""
        kept: Deferred[None] = self._inner.keep_traffic(seen, now)
        return kept

    def traffic(self) -> Deferred[Usage]:
        """See L{ITrafficBackend<redcouch.interfaces.ITrafficBackend>}."""
        inventory: Deferred[Usage] = self._inner.traffic()
        return inventory

    def list_version(self, nodes: bytes, now: int) -> Deferred[int]:
        """See L{IDiscoveryBackend<redcouch.interfaces.IDiscoveryBackend>}."""
        version: Deferred[int] = self._inner.list_version(nodes, now)
        return version

    @property
    def shared_url(self) -> str | None:
        """See L{ILocalBackend<redcouch.interfaces.ILocalBackend>}."""
        url: str | None = self._inner.shared_url
        return url
