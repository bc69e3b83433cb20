"""
A worker, in a process of its own that L{redcouch.workers.fork_server} has forked.

It learns from the parent what to do, so that no password stands in its command
line; serves clients as a service of one process does; sends its log to the
parent; and ends when it is told to, or when the parent is gone.

Signals to stop or to reload are for the parent, though a terminal or a service
manager may send them to all processes of a service. A worker takes no notice:
it is born with them held back, and ignores them from when its reactor runs.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from redcouch import __version__
from redcouch.build import Bridge, Role, make_bridge, shared_ports
from redcouch.errors import BackendError
from redcouch.handover.descriptors import POSSIBLE, speak
from redcouch.process.clock import keep_steady
from redcouch.process.log import described
from redcouch.process.reload import Reload
from redcouch.process.tuning import leave_threads
from redcouch.results import ErrorKind
from redcouch.server.connection import ConnectionFactory
from redcouch.service import RedCouchService
from redcouch.telemetry.service_status import OwnStatus
from redcouch.telemetry.snapshot import Clients, StatsSnapshot
from redcouch.workers.acceptor import InheritedSocket, accepting_service
from redcouch.workers.channel import (
    COUNTS,
    FIRST_SOCKET,
    UNHEARD,
    Channel,
    Respond,
    Unanswered,
    read_users,
)
from redcouch.workers.client_counts import ClientCounts

T = TypeVar("T")

PATIENCE = 3.0
"""Seconds to wait for an answer of the parent, which may be waiting for other workers."""


def ignore_signals() -> None:
    """Leave these to the parent. Called when the reactor has set the handlers it wants."""
    for number in UNHEARD:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, UNHEARD)


class ServiceStats:
    """The books of the whole service, which the parent keeps."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def _ask(self, name: str, argument: Any = None) -> Any:
        try:
            return await self._channel.ask(name, argument, seconds=PATIENCE)
        except Unanswered:
            raise BackendError(
                ErrorKind.UNAVAILABLE, "the process that knows does not answer"
            ) from None

    async def snapshot(self) -> StatsSnapshot:
        answer = await self._ask("figures")
        return StatsSnapshot.read(answer)

    async def clients(self) -> Clients:
        return [(number, address) for number, address in await self._ask("clients")]

    async def reset(self) -> None:
        await self._ask("reset")

    async def detail(self, on: bool) -> None:
        await self._ask("detail", on)

    async def count_up(self, told: dict[str, dict[str, int]]) -> Any:
        """See L{BackendContext<redcouch.interfaces.BackendContext>}."""
        return await self._ask("count_up", told)


@implementer(ILogObserver)
class TellingObserver:
    """
    Sends the log to the parent. While that does not take it, events are
    dropped and counted.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._write_paused = False
        self._dropped = 0

    def __call__(self, event: LogEvent) -> None:
        if self._write_paused:
            self._dropped += 1
            return
        level, namespace, text, fields = described(event)
        if text:
            self._tell(level, namespace, text, fields)

    def _tell(self, level: str, namespace: str, text: str, fields: dict[str, Any]) -> None:
        self._channel.tell("log", [level, namespace, text, fields])

    # -- IPushProducer, of what is written to the parent --------------------------------------

    def pauseProducing(self) -> None:
        self._write_paused = True

    def resumeProducing(self) -> None:
        self._write_paused = False
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self._tell("warn", __name__, f"{dropped} lines of this worker's log are lost", {})

    def stopProducing(self) -> None:
        self._write_paused = True


class Worker:
    """
    @ivar status: the exit status.
    """

    _log = Logger()

    def __init__(self, number: int, reactor: Any) -> None:
        self.status = 0
        self._number = number
        self._reactor = reactor
        self._bridge: Bridge | None = None
        self._service: RedCouchService | None = None
        self._workers = 1
        self._reload = Reload()
        self._ending = False
        self._done = False
        responds: dict[str, Respond] = {
            "serve": self._serve,
            "accept": self._accept,
            "figures": self._snapshot,
            "clients": self._clients,
            "reset": lambda _: self._serving.stats_source.reset(),
            "detail": lambda on: self._serving.stats_source.detail(on),
            "glance": lambda _: asdict(self._serving.status_source.worker_status()),
            "statistics": lambda _: self._ask_storage(OwnStatus.statistics),
            "facts": lambda _: self._ask_storage(OwnStatus.facts),
            "traffic": lambda _: self._ask_storage(OwnStatus.traffic),
            "reload": self._reload_files,
            "end": self.end,
        }
        self.channel = Channel(responds, self._on_lost, reactor)
        self.observer = TellingObserver(self.channel)

    def _serve(self, what: dict[str, Any]) -> None:
        """Begin to serve, as the parent describes it."""
        try:
            bridge = self._make_bridge(what)
            service = RedCouchService(bridge, what["options"], self._reactor)
            service.is_whole = False
            service.privilegedStartService()
            service.hold(what.get("held", ()))  # of a parent from before that was said: nothing
        except (Exception, SystemExit) as refusal:  # it would accept clients and never answer them
            if not isinstance(refusal, SystemExit):
                self._log.failure("Cannot serve")
            print(getattr(refusal, "code", refusal), file=sys.stderr, flush=True)
            self.status = 1
            self._finish()
            return
        self._bridge, self._service = bridge, service
        service.startService()
        self.channel.tell("ready")
        if POSSIBLE:
            service.able().addCallback(partial(self.channel.tell, "able"))

    def _accept(self, _: object) -> None:
        if self._service is not None:
            self._service.accept()

    def _make_bridge(self, what: dict[str, Any]) -> Bridge:
        if what["version"] != __version__:
            raise SystemExit(
                f"redcouch: this is RedCouch {__version__}, and the process that started it "
                f"{what['version']}: let a new one take over (--take-over)"
            )
        options, place = what["options"], what["place"]
        self._workers = options["workers"]
        client_counts = ClientCounts(COUNTS, self._workers + 1, options["max-connections"])
        client_counts.set(place, 0)
        shared = shared_ports(options)
        descriptors = iter(range(FIRST_SOCKET, FIRST_SOCKET + len(options["ports"])))

        def listen(endpoint: str, factory: ConnectionFactory) -> Any:
            last_look = endpoint in shared
            inherited_socket = InheritedSocket(
                next(descriptors), client_counts, place, self._reactor, last_look
            )
            return accepting_service(endpoint, factory, inherited_socket, self._reload)

        def count_all(clients: int) -> int:
            client_counts.set(place, clients)
            return client_counts.total()

        service_stats = ServiceStats(self.channel)
        role = Role(
            fail=partial(self.channel.tell, "fail"),
            listen=listen,
            reload=Reload(),  # of what the parent reads
            count_all=count_all,
            stats_source=service_stats,
            count_up=service_stats.count_up,
            limit_memory=self._limit_memory,
            users=None if what["users"] is None else read_users(what["users"]),
            certificates=what["certificates"],
        )
        return make_bridge(options, self._reactor, role)

    @property
    def _serving(self) -> Bridge:
        if self._bridge is None:
            raise Unanswered("not serving yet")
        return self._bridge

    async def _snapshot(self, _: object) -> dict[str, Any]:
        return asdict(await self._serving.stats_source.snapshot())

    async def _clients(self, _: object) -> Clients:
        """With numbers that no client of another worker has."""
        return [
            (str((int(number) - 1) * self._workers + self._number), address)
            for number, address in await self._serving.stats_source.clients()
        ]

    async def _ask_storage(self, question: Callable[[OwnStatus], Awaitable[T]]) -> T:
        try:
            return await question(self._serving.status_source)
        except BackendError as error:
            raise Unanswered(str(error)) from None

    def _limit_memory(self, size: int) -> Deferred[bool]:
        """Ask the parent, which has started the storage, if anybody has."""
        limited = self.channel.ask("limit_memory", size, seconds=PATIENCE)

        def unanswered(failure: Failure) -> bool:
            failure.trap(Unanswered)
            return False

        return limited.addErrback(unanswered)

    def _reload_files(self, files: dict[str, Any]) -> None:
        """Use what the parent has read; read again what each reads by itself."""
        bridge = self._bridge
        if bridge is None:
            return
        if bridge.authenticator is not None:
            bridge.authenticator.users = read_users(files["users"])
        if bridge.tls is not None:
            bridge.tls.take(files["certificates"])
        self._reload.read()  # of which the parent tells

    # -- the end -----------------------------------------------------------------------------

    def end(self, adopters: Sequence[str] = ()) -> None:
        """Let the clients finish, and go on where others adopt them; then end."""
        if self._ending:
            return
        self._ending = True
        if self._service is None:
            self._finish()
            return
        self._service.adopters = adopters
        stopped = self._service.stopService()
        stopped.addCallback(lambda _: Deferred.fromCoroutine(self._snapshot(None)))
        stopped.addCallback(partial(self.channel.tell, "last"))
        stopped.addErrback(lambda failure: self._log.failure("Could not stop in order", failure))
        stopped.addCallback(lambda _: self._finish())

    def _finish(self) -> None:
        """Say to the parent what is still to be said, and stop."""
        self._ending = self._done = True
        transport: Any = self.channel.transport
        if self.channel.connected:
            transport.unregisterProducer()
            transport.loseConnection()
        else:
            self._reactor.stop()

    def _on_lost(self) -> None:
        """All is said, or the parent is gone."""
        if self._done:
            self._reactor.stop()
        else:
            self.end()


def serve(number: int, channel: socket.socket, reactor_module: str) -> int:
    """
    Serve until the end; gives the exit status.

    @param channel: where the parent speaks.
    """
    install: Callable[[], object] = import_module(reactor_module).install
    install()
    from twisted.internet import reactor

    keep_steady(reactor)
    leave_threads(reactor)
    worker = Worker(number, reactor)
    globalLogBeginner.beginLoggingTo([worker.observer], redirectStandardIO=False)
    speak(channel, worker.channel, reactor)
    transport: Any = worker.channel.transport
    transport.registerProducer(worker.observer, True)
    reactor.callWhenRunning(ignore_signals)
    reactor.run()
    return worker.status
