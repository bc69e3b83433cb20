"""
The pages as a service that is there as long as the one it shows: before its
first client, and until its last has gone, to say that it drains.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from redcouch.errors import BackendError
from redcouch.http.access import AccessControl, HttpFactory, own_names
from redcouch.http.collect import StatusCollector
from redcouch.http.history import STEP, History
from redcouch.http.routes import Pages
from redcouch.server.listeners import ListeningService, is_local, opening
from redcouch.server.passwords import Authenticator
from redcouch.telemetry.client_names import ClientNames
from redcouch.telemetry.service_status import StatusSource


class ServiceWithPages(MultiService):
    """A service, and the pages that show it."""

    _log = Logger()

    def __init__(
        self,
        shown: Any,
        status_source: StatusSource,
        options: Mapping[str, Any],
        endpoint: str,
        authenticator: Authenticator | None,
        names: ClientNames,
        listen: Callable[[str, HttpFactory], ListeningService],
        reactor: Any,
        now: Callable[[], float],
    ) -> None:
        """
        @param endpoint: where to listen.
        @param authenticator: who may see it; C{None} is everybody.
        @param names: what clients are called.
        @param listen: makes what listens where an endpoint string says.
        """
        super().__init__()
        self._shown = shown
        self._endpoint = endpoint
        self._place = endpoint
        self._listen = listen
        self._is_open = authenticator is None
        self._now = now
        self._history = History()
        self._collector = StatusCollector(status_source)
        self._pages = Pages(self._collector, self._history, options, names, now)
        names_of_ours = own_names(options["http-hosts"])
        gate = AccessControl(self._pages.by_path(), names_of_ours, authenticator)
        self._door = HttpFactory(gate)
        self._pulse = LoopingCall(self._note)
        self._pulse.clock = reactor
        self._site = MultiService()

    def privilegedStartService(self) -> None:
        with opening("http", self._endpoint):
            listening = self._listen(self._endpoint, self._door)
            listening.setServiceParent(self._site)
            self._site.privilegedStartService()
        self._place = listening.place
        self._port = listening.port
        self._shown.privilegedStartService()

    def startService(self) -> None:
        super().startService()
        self._shown.startService()
        self._site.startService()
        self._log.info("The status page is on {endpoint}", endpoint=self._place)
        if self._is_open and not is_local(self._place):
            self._log.warn(
                "Whoever reaches {endpoint} sees the status page: --http-auth asks for a password",
                endpoint=self._place,
            )
        self._pulse.start(STEP, now=True)

    def listening(self) -> list[tuple[str, Any]]:
        """See L{Successor<redcouch.handover.succession.Successor>}; with the page's own."""
        return [*self._shown.listening(), (self._endpoint, self._port)]

    def hold(self, endpoints: Collection[str]) -> None:
        """See L{Successor<redcouch.handover.succession.Successor>}."""
        if self._endpoint in endpoints:
            self._port.stopReading()
        self._shown.hold(endpoints)

    def accept(self) -> None:
        """See L{Successor<redcouch.handover.succession.Successor>}."""
        self._port.startReading()
        self._shown.accept()

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await super().stopService()
        self._pages.draining = True
        try:
            await self._shown.stopService()
        finally:
            if self._pulse.running:
                self._pulse.stop()
            await self._site.stopService()

    def _note(self) -> Deferred[None]:
        noted = Deferred.fromCoroutine(self._note_figures())
        return noted.addErrback(lambda failure: self._log.failure("Could not look", failure))

    async def _note_figures(self) -> None:
        try:
            snapshot = await self._collector.snapshot()
        except BackendError:
            return
        self._history.note(self._now(), snapshot)
