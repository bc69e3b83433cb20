"""
C{twistd redcouch}: the service as a whole, started and stopped in the right
order.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from redcouch import __version__
from redcouch.build import (
    Bridge,
    Role,
    make_bridge,
    make_supervisor,
    shared_ports,
)
from redcouch.errors import ConfigurationError, StartError
from redcouch.handover.clients import Adopter, Giver
from redcouch.handover.succession import Inherited, Restart, Succession
from redcouch.limits import HTTP_CONNECTIONS
from redcouch.options import FLAGS, Options, endpoints_of
from redcouch.process.clock import LAST_WORDS, cancel, for_at_most, keep_steady
from redcouch.process.log import OwnLog
from redcouch.process.reload import Reload
from redcouch.process.systemd import Tell, nobody, notifier
from redcouch.process.tuning import leave_threads, raise_fd_limit, tune_process
from redcouch.server.listeners import SPARE, is_local, listening_service, opening
from redcouch.telemetry.client_names import ClientNames
from redcouch.telemetry.service_status import StatusSource
from redcouch.urls import redact
from redcouch.workers.supervisor import Supervisor

__all__ = ["Options", "RedCouchService", "makeService"]

_OTHER_DESCRIPTORS = 64 + SPARE
_OF_A_PORT = 2

_LOOK = 0.05
"""Seconds between two looks whether the storage is there, for who takes over."""

_LATE = 100
"""Looks after which it is late, and says so."""


class RedCouchService(MultiService):
    """
    Starts the storage, then listens; stops listening, lets clients finish, and
    then stops the storage.
    """

    _log = Logger()

    def __init__(self, bridge: Bridge, options: Mapping[str, Any], reactor: Any) -> None:
        """@param bridge: what serves clients in this process."""
        super().__init__()
        self._backend = bridge.backend
        self._factory = bridge.factory
        self._endpoints = endpoints_of(options)
        #: Ports from which nobody is accepted for now.
        self._held: list[Any] = []
        self._adopter = Adopter(bridge.factory, reactor)
        #: See L{Successor<redcouch.handover.succession.Successor>}.
        self.adopters: Sequence[str] = ()
        #: See L{Successor<redcouch.handover.succession.Successor>}.
        self.renewed: Callable[[], None] = lambda: None
        self._storage: str = options["storage"]
        self._drain_timeout: float = options["drain-timeout"]
        self._reactor = reactor
        self._listen = bridge.listen
        self._fail = bridge.fail
        #: The storage has begun to work, which it may say of itself before it cannot.
        self._is_started = False
        #: Whether this is the whole service, and not a worker in it.
        self.is_whole = True
        self._write_probe = None if options["http"] is None else bridge.status_source.write_probe
        self._usage_recorder = bridge.usage_recorder
        #: Tells the service manager how things stand.
        self.tell: Tell = nobody

    def privilegedStartService(self) -> None:
        for endpoint in self._endpoints:
            with opening("port", endpoint):
                listening = self._listen(endpoint, self._factory)
                listening.setServiceParent(self)
                listening.privilegedStartService()

    def startService(self) -> None:
        super().startService()
        self._reactor.callWhenRunning(tune_process)
        self._reactor.callWhenRunning(lambda: self.tell("READY=1\nSTATUS=Serving"))
        if self.is_whole:
            pairs = zip(self, self._endpoints, strict=True)
            self._log.info(
                "RedCouch {version} listens on {endpoints} and keeps items in {storage}; "
                "{workers} worker serves",
                version=__version__,
                endpoints=", ".join(getattr(one, "place", given) for one, given in pairs),
                storage=redact(self._storage),
                workers=1,
            )
        if self._usage_recorder is not None:
            self._usage_recorder.start(self._factory.connections)
        if self._write_probe is not None:
            self._write_probe.start()
        maybeDeferred(self._backend.start).addCallbacks(self._started, self._cannot_start)

    def _started(self, _: object) -> None:
        self._is_started = True

    def _cannot_start(self, failure: Failure) -> None:
        self._log.failure("The storage could not start", failure)
        if self.running:
            self._fail(f"the storage could not start: {failure.getErrorMessage()}")

    # -- following, and being followed: L{Successor<redcouch.handover.succession.Successor>} -----

    def listening(self) -> list[tuple[str, Any]]:
        services: Any = self.services
        return [(given, one.port) for given, one in zip(self._endpoints, services, strict=True)]

    def hold(self, endpoints: Collection[str]) -> None:
        self._held = [port for place, port in self.listening() if place in endpoints]
        for port in self._held:
            port.stopReading()

    def accept(self) -> None:
        while self._held:
            self._held.pop().startReading()

    def able(self) -> Deferred[Sequence[str]]:
        return Deferred.fromCoroutine(self._be_able())

    async def _be_able(self) -> Sequence[str]:
        looks = 0
        while not ((health := self._backend.health()).serves and self._is_started):
            looks += 1
            if looks == _LATE and self._held:
                self._log.warn(
                    "Cannot take over yet: {reason}. The process before goes on",
                    reason=health.reason or "the storage has not started",
                )
            await deferLater(self._reactor, _LOOK)
        self.accept()
        return [self._adopter.start()]

    # -- stop --------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if not self.adopters:
            self.tell("STOPPING=1\nSTATUS=Letting clients finish")
        self._adopter.stop()
        self._held.clear()
        giver = Giver(self.adopters, self._reactor)
        await super().stopService()
        drained = self._factory.drain(giver or None)
        waiting = len(self._factory.connections)
        if waiting:
            self._log.info("Waiting for {waiting} clients to finish", waiting=waiting)
        timer = self._reactor.callLater(self._drain_timeout, self._factory.abort)
        await drained
        cancel(timer)
        if giver:
            giver.stop()
            self._log.info("{given} clients go on in the next process", given=giver.given)
        if self._usage_recorder is not None:
            await for_at_most(LAST_WORDS, self._usage_recorder.stop(), self._reactor)
        if self._write_probe is not None:
            self._write_probe.stop()
        stopped = maybeDeferred(self._backend.stop)
        await stopped.addErrback(partial(self._log.failure, "The storage could not stop"))


class _BackgroundStart(MultiService):
    """
    A service that starts in the background, where its standard error is gone:
    tells whoever has started it all of why it cannot. (twistd passes on 100
    bytes.)
    """

    def __init__(self, service: MultiService) -> None:
        super().__init__()
        service.setServiceParent(self)
        self._terminal = os.dup(2)

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except StartError as error:
            os.write(self._terminal, f"{error}\n".encode())
            raise

    def startService(self) -> None:
        super().startService()
        os.close(self._terminal)


def makeService(options: Options) -> MultiService:
    """Build the service that these options describe, and all that it needs."""
    service = _make_service(options)
    if options.parent is None:  # it becomes a part of an application, which has a log already
        return service
    if not options.parent.get("nodaemon"):
        service = _BackgroundStart(service)
    logged = OwnLog(options.parent, options["log-format"])
    service.setServiceParent(logged)
    return logged


def _make_service(options: Options) -> MultiService:
    from twisted.internet import reactor

    keep_steady(reactor)
    pages = 0 if options["http"] is None else HTTP_CONNECTIONS
    _make_room(options["max-connections"], pages + _OF_A_PORT * len(endpoints_of(options)))
    reactor.callWhenRunning(_warn_if_open, options)
    restart = Restart(os.environ, reactor)
    tell = notifier(os.environ)
    reload = Reload()
    reload.on_hangup(reactor)
    reactor.callWhenRunning(_heed_one_signal, restart.give_up)
    reactor.addSystemEventTrigger("before", "shutdown", _ignore_further_signals)
    inherited: Inherited = {}
    served: Supervisor | RedCouchService
    bridge: Supervisor | Bridge
    if options["workers"] > 1:
        served = bridge = make_supervisor(options, reactor, _fail(reactor), reload, inherited)
        renew = served.renew
    else:
        shared = shared_ports(options)
        listen = partial(listening_service, reload=reload, shared_ports=shared, inherited=inherited)
        bridge = make_bridge(options, reactor, Role(_fail(reactor), listen, reload))
        served = RedCouchService(bridge, options, reactor)
        renew = restart
    served.tell = tell
    waker: Any = reactor
    signal.signal(signal.SIGUSR2, lambda number, frame: waker.callFromThread(renew))
    whole: Any = served
    if options["http"] is not None:
        whole = _shown(served, bridge, options, reload, inherited, reactor)
    succession = Succession(whole, served, endpoints_of(options), inherited, options, reactor)
    if options.parent is not None:  # else it is a part of something that takes no --take-over
        leave_threads(reactor)
        restart.possible = succession.can_be_followed
    return succession


def _shown(
    service: MultiService,
    shown: Supervisor | Bridge,
    options: Mapping[str, Any],
    reload: Reload,
    inherited: Inherited,
    reactor: Any,
) -> MultiService:
    """The service, with the pages that show it."""
    # A web server is much to import: only who serves pages pays for it.
    from redcouch.http.service import ServiceWithPages

    users = shown.authenticator if options["http-auth"] else None
    names = _client_names(options["client-names"], reload)
    flags = {name: bool(options[name]) for name in FLAGS}
    told = dict(options) | flags
    listen = partial(listening_service, reload=reload, inherited=inherited)
    source: StatusSource = shown.status_source
    return ServiceWithPages(
        service, source, told, options["http"], users, names, listen, reactor, time.time
    )


def _client_names(path: str | None, reload: Reload) -> ClientNames:
    try:
        names = ClientNames(None if path is None else Path(path).absolute())
    except ConfigurationError as error:
        raise SystemExit(f"redcouch: --client-names: {error}") from None
    if path is not None:
        reload.add("The names of clients", names.reload)
    return names


def _warn_if_open(options: Mapping[str, Any]) -> None:
    """Say so where others than this machine's users may do what they like."""
    if options["auth-file"] is not None or options["tls-client-ca"] is not None:
        return
    endpoints = [endpoint for endpoint in endpoints_of(options) if not is_local(endpoint)]
    if endpoints:
        Logger().warn(
            "Whoever reaches {endpoints} may read and change all items: --auth-file asks for a "
            "password, --tls-client-ca for a certificate",
            endpoints=", ".join(endpoints),
        )


def _heed_one_signal(ending: Callable[[], None]) -> None:
    """
    Of SIGTERM and SIGINT, which may come together, the first alone ends the service.

    @param ending: called by that one.
    """
    handlers: dict[int, Any] = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)
    }

    def heed(number: int, frame: FrameType | None) -> None:
        _ignore_further_signals()
        ending()
        handlers[number](number, frame)

    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, heed)


def _ignore_further_signals() -> None:
    """The service ends already. (SIG_IGN would be complained of where one is pending.)"""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: None)


def _make_room(clients: int, others: int) -> None:
    """
    For so many clients' sockets, and those of the pages and ports, and say so where the system
    does not give it: a Redis that is lost could not be connected to any more.
    """
    wanted = clients + others + _OTHER_DESCRIPTORS
    allowed = raise_fd_limit(wanted)
    if allowed < wanted:
        Logger().warn(
            "The system allows {allowed} open files (ulimit -n), too few for {clients} clients "
            "(--max-connections)",
            allowed=allowed,
            clients=clients,
        )


def _fail(reactor: Any) -> Callable[[str], None]:
    """End the whole service, with one line that says why and a status that is not 0."""

    def fail(reason: str) -> None:
        Logger().critical("RedCouch cannot go on: {reason}", reason=reason)
        print(f"redcouch: {reason}", file=sys.stderr)
        # Not at once, for twistd has yet to remove its PID file.
        reactor.addSystemEventTrigger("after", "shutdown", atexit.register, os._exit, 1)
        if reactor.running:
            with suppress(ReactorNotRunning):  # it is stopping already
                reactor.stop()
        else:
            reactor.callWhenRunning(reactor.stop)

    return fail
