"""All workers, seen from their parent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from redcouch.errors import BackendError
from redcouch.results import Trouble
from redcouch.telemetry.service_status import Facts, Glance, Place, Statistics, Traffic
from redcouch.telemetry.snapshot import Ledger
from redcouch.workers.channel import Unanswered


class AllWatch:
    """See L{redcouch.telemetry.service_status.Watch}."""

    def __init__(self, posts: Sequence[Any], ledger: Ledger) -> None:
        """@param posts: the L{Post<redcouch.workers.supervisor.Post>} of each worker."""
        self.ledger = ledger
        self._posts = posts

    async def places(self) -> list[Place]:
        looks = [Deferred.fromCoroutine(_look(post)) for post in self._posts]
        return [place for _, place in await DeferredList(looks, fireOnOneErrback=True)]

    async def statistics(self) -> Statistics:
        said: dict[str, int] = await self._ask_one("statistics")
        return said

    async def facts(self) -> Facts:
        said: dict[str, str | int] = await self._ask_one("facts")
        return said

    async def traffic(self) -> Traffic:
        said: dict[str, Any] = await self._ask_one("traffic")
        return said

    async def _ask_one(self, name: str) -> Any:
        """What the first worker that can say it says."""
        for post in self._posts:
            try:
                return await post.ask(name)
            except Unanswered:
                continue
        raise BackendError(Trouble.UNAVAILABLE, "no worker can ask the storage")


async def _look(post: Any) -> Place:
    try:
        glance = Glance(**await post.ask("glance"))
    except Unanswered:
        return Place(post.number, None, post.restarts)
    return Place(post.number, glance, post.restarts)
