"""All workers, seen from their parent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from redcouch.errors import BackendError
from redcouch.results import ErrorKind
from redcouch.telemetry.service_status import (
    Facts,
    SlotStatus,
    StorageStatistics,
    Traffic,
    WorkerStatus,
)
from redcouch.telemetry.snapshot import StatsSource
from redcouch.workers.channel import Unanswered


class AllStatus:
    """See L{redcouch.telemetry.service_status.StatusSource}."""

    def __init__(self, slots: Sequence[Any], stats_source: StatsSource) -> None:
        """@param slots: each worker's L{WorkerSlot<redcouch.workers.supervisor.WorkerSlot>}."""
        self.stats_source = stats_source
        self._slots = slots

    async def places(self) -> list[SlotStatus]:
        looks = [Deferred.fromCoroutine(_look(slot)) for slot in self._slots]
        return [place for _, place in await DeferredList(looks, fireOnOneErrback=True)]

    async def statistics(self) -> StorageStatistics:
        return await self._ask_one("statistics")

    async def facts(self) -> Facts:
        return await self._ask_one("facts")

    async def traffic(self) -> Traffic:
        return await self._ask_one("traffic")

    async def _ask_one(self, name: str) -> dict[str, Any]:
        """What the first worker that can say it says."""
        for slot in self._slots:
            with suppress(Unanswered):
                said: dict[str, Any] = await slot.ask(name)
                return said
        raise BackendError(ErrorKind.UNAVAILABLE, "no worker can ask the storage")


async def _look(slot: Any) -> SlotStatus:
    try:
        worker_status = WorkerStatus(**await slot.ask("glance"))
    except Unanswered:
        return SlotStatus(slot.number, None, slot.restarts)
    return SlotStatus(slot.number, worker_status, slot.restarts)
