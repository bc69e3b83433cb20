"""
Everything there is to see of a service at one moment, gathered once for
whoever shows it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from redcouch.errors import BackendError
from redcouch.http.processes import ProcessUsage, usage
from redcouch.telemetry.service_status import (
    Facts,
    SlotStatus,
    StatusSource,
    StorageStatistics,
    Traffic,
)
from redcouch.telemetry.snapshot import StatsSnapshot


@dataclass(slots=True)
class View:
    """
    @ivar places: every process that serves, with what it uses.
    @ivar statistics: the storage's; empty where it cannot be asked.
    """

    snapshot: StatsSnapshot
    places: list[tuple[SlotStatus, ProcessUsage | None]]
    statistics: StorageStatistics
    facts: Facts = field(default_factory=dict)
    traffic: Traffic = field(default_factory=dict)

    @property
    def trouble(self) -> str:
        """Why clients cannot be served as they should; nothing, if they can."""
        glances = [
            place.worker_status for place, _ in self.places if place.worker_status is not None
        ]
        if not glances:
            return "no worker serves"
        return next(
            (worker_status.reason for worker_status in glances if not worker_status.ready), ""
        )


class StatusCollector:
    """Looks at a service."""

    def __init__(self, status_source: StatusSource) -> None:
        self._status_source = status_source

    async def trouble(self) -> str:
        """As L{View.trouble}, for less work."""
        return View(_NONE, await self._places(), {}).trouble

    async def snapshot(self) -> StatsSnapshot:
        """What has been counted."""
        return await self._status_source.stats_source.snapshot()

    async def view(self) -> View:
        """Everything that is counted. All is asked at once: a worker may take its time."""
        snapshot = Deferred.fromCoroutine(self.snapshot())
        places = Deferred.fromCoroutine(self._places())
        statistics = Deferred.fromCoroutine(_known(self._status_source.statistics))
        traffic = Deferred.fromCoroutine(_known(self._status_source.traffic))
        return View(
            await snapshot, await places, await statistics or {}, traffic=await traffic or {}
        )

    async def full_view(self) -> View:
        """The same, and what more there is to tell."""
        facts = Deferred.fromCoroutine(_known(self._status_source.facts))
        view = await self.view()
        view.facts = await facts or {}
        return view

    async def clients(self) -> list[dict[str, str]]:
        """Who is connected."""
        found = await _known(self._status_source.stats_source.clients) or []
        return [{"number": number, "address": address} for number, address in found]

    async def _places(self) -> list[tuple[SlotStatus, ProcessUsage | None]]:
        return [
            (place, None if place.worker_status is None else usage(place.worker_status.pid))
            for place in await self._status_source.places()
        ]


_NONE: Any = None


async def _known(source: Callable[[], Awaitable[Any]]) -> Any:
    """What a source gives; C{None} where it cannot be asked just now."""
    try:
        return await source()
    except BackendError:
        return None
