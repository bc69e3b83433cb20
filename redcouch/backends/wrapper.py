"""
A layer around a storage.

The storage that sessions ask is a list of layers, put together in L{redcouch.build}
from the inside to the outside. Each is a L{BackendWrapper} that overrides what it
changes, and knows nothing of what is around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

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
        self._inner = cast("BackendWrapper", inner)
        self._perform_inner = performer(inner)
        has = [each for each in CAPABILITIES if each.providedBy(inner)]
        directlyProvides(self, *(each for each in has if each not in self.hidden))

    # -- IStorageBackend ---------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        return self._inner.start()

    def stop(self) -> Deferred[None]:
        return self._inner.stop()

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        answered: Deferred[list[Result]] = Deferred()
        self.perform(commands, answered.callback)
        return answered

    def health(self) -> Health:
        return self._inner.health()

    def statistics(self) -> Deferred[Mapping[str, int]]:
        return self._inner.statistics()

    def limit_memory(self, size: int) -> Deferred[bool]:
        """See L{IBoundedBackend<redcouch.interfaces.IBoundedBackend>}."""
        return self._inner.limit_memory(size)

    # -- the capabilities ----------------------------------------------------------------------

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend}."""
        self._perform_inner(commands, answer)

    def describe(self) -> Deferred[Mapping[str, Any]]:
        """See L{IDescribedBackend<redcouch.interfaces.IDescribedBackend>}."""
        return self._inner.describe()

    def probe_writes(self) -> Deferred[None]:
        """See L{IWriteProbingBackend<redcouch.interfaces.IWriteProbingBackend>}."""
        return self._inner.probe_writes()

    def keep_traffic(self, seen: Sequence[UsageSample], now: float) -> Deferred[None]:
        """See L{ITrafficBackend<redcouch.interfaces.ITrafficBackend>}."""
        return self._inner.keep_traffic(seen, now)

    def traffic(self) -> Deferred[Usage]:
        """See L{ITrafficBackend<redcouch.interfaces.ITrafficBackend>}."""
        return self._inner.traffic()

    def list_version(self, nodes: bytes, now: int) -> Deferred[int]:
        """See L{IDiscoveryBackend<redcouch.interfaces.IDiscoveryBackend>}."""
        return self._inner.list_version(nodes, now)

    @property
    def shared_url(self) -> str | None:
        """See L{ILocalBackend<redcouch.interfaces.ILocalBackend>}."""
        return self._inner.shared_url
