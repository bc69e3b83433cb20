"""Whether the storage takes reads and writes, found out before a client has to."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from redcouch.errors import BackendError
from redcouch.interfaces import IStorageBackend, IWriteProbingBackend

_EVERY = 1.0


class WriteProbe:
    """
    Tries a read and a write that leaves nothing, once a second.

    @ivar refusal: why the storage refuses reads or writes, in a line; empty while it takes them, or
        cannot be reached.
    """

    def __init__(self, backend: IStorageBackend, reactor: Any) -> None:
        self.refusal = ""
        self._backend: Any = backend
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._look()))
        self._loop.clock = reactor

    def start(self) -> None:
        """Begin to look, if the storage can be tried."""
        if IWriteProbingBackend.providedBy(self._backend):
            self._loop.start(_EVERY)

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    async def _look(self) -> None:
        if not self._backend.health().ready:
            self.refusal = ""  # why it cannot be reached says more
            return
        try:
            await self._backend.probe_writes()
            self.refusal = ""
        except BackendError as error:
            away = not self._backend.health().ready
            self.refusal = "" if away else f"the storage refuses reads or writes: {error}"
