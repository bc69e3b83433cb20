"""
The parent of the workers: opens the ports, keeps the workers there, keeps the
books of all of them, and stops them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from redcouch import __version__
from redcouch.errors import ConfigurationError
from redcouch.handover.descriptors import POSSIBLE
from redcouch.handover.succession import Inherited
from redcouch.interfaces import IBoundedBackend, IStorageBackend
from redcouch.process.clock import cancel
from redcouch.process.reload import Reload
from redcouch.process.systemd import Tell, nobody
from redcouch.server.listeners import opening, server_endpoint, with_port
from redcouch.server.passwords import Authenticator
from redcouch.server.tls import ServerTLS
from redcouch.telemetry.counters import CountedUp, Counters
from redcouch.telemetry.snapshot import Clients, OwnStats, StatsSnapshot
from redcouch.urls import redact
from redcouch.workers.acceptor import SHAREABLE
from redcouch.workers.aggregate import AllStatus
from redcouch.workers.channel import Respond, Unanswered, write_users
from redcouch.workers.client_counts import ClientCounts, make_memory
from redcouch.workers.process import ForkServer, WorkerProcess

FIRST_DELAY = 0.1
LAST_DELAY = 10.0
"""Seconds before a worker that has ended is started again; doubled each time."""

HEALTHY = 60.0
"""Seconds after which a worker counts as having started well."""

PATIENCE = 1.0
"""Seconds that a worker has to answer; what it said last counts where it does not."""

_LOOK = 0.05
"""Seconds between two looks whether a worker serves, or has ended."""

GRACE = 2.0
"""Seconds beyond the drain timeout after which a worker is killed."""


class RedCouch(Factory):
    """Takes no clients; gives the listening sockets a name in the log."""

    noisy = False


class WorkerSlot:
    """
    The place of one worker, whichever process has it.

    @ivar last: what the worker's books said when it was last asked.
    @ivar restarts: how often a worker that had ended was followed by another.
    """

    def __init__(self, number: int, spawn: Callable[[WorkerSlot], None], reactor: Any) -> None:
        """
        @param number: from 1.
        @param spawn: starts a worker and puts it here.
        """
        self.number = number
        self.worker: WorkerProcess | None = None
        #: Its place in the common memory, from 0.
        self.place = number - 1
        #: Where it adopts clients, once it serves.
        self.adopters: Sequence[str] = ()
        self.last = _nothing()
        self.restarts = 0
        self._employ = spawn
        self._reactor = reactor
        self._delay = FIRST_DELAY
        self._next: Any = None

    def fill(self) -> None:
        """Start a worker."""
        self._employ(self)

    def refill(self) -> float:
        """Start another worker in a while; gives the seconds until then."""
        self.restarts += 1
        delay = self._delay
        self._next = self._reactor.callLater(delay, self.fill)
        self._delay = min(delay * 2, LAST_DELAY)
        return delay

    def clear(self) -> WorkerProcess:
        """The worker is no more; gives it."""
        worker, self.worker = self.worker, None
        self.adopters = ()
        assert worker is not None
        if self._reactor.seconds() - worker.started >= HEALTHY:
            self._delay = FIRST_DELAY
        return worker

    def close(self) -> None:
        """Start no more."""
        cancel(self._next)

    async def ask(self, name: str, argument: Any = None) -> Any:
        """
        What the worker answers. Raises L{Unanswered}.
        """
        if self.worker is None:
            raise Unanswered("there is no worker now")
        return await self.worker.channel.ask(name, argument, seconds=PATIENCE)

    def tell(self, name: str, argument: Any = None) -> None:
        """Say something to the worker, if there is one."""
        if self.worker is not None:
            self.worker.channel.tell(name, argument)


class AllStats:
    """
    The books of all workers together. What a worker had counted when it was
    last asked stays in them after its end, so that no count ever goes back.
    """

    def __init__(self, slots: list[WorkerSlot], beside: list[WorkerSlot], own: OwnStats) -> None:
        """
        @param beside: those of workers that come or go.
        @param own: the parent's.
        """
        self._slots = slots
        self._beside = beside
        self._own = own
        self._former = _nothing()
        #: Whether workers count by prefix. One that starts later has to be told.
        self.detailed = False

    async def snapshot(self) -> StatsSnapshot:
        await _together([self._update(slot) for slot in self._all])
        total = await self._own.snapshot()
        for snapshot in (self._former, *(slot.last for slot in self._all)):
            total.add(snapshot)
        return total

    @property
    def _all(self) -> list[WorkerSlot]:
        return [*self._slots, *self._beside]

    async def _update(self, slot: WorkerSlot) -> None:
        said = await slot.ask("figures")
        slot.last = StatsSnapshot.read(said)

    async def clients(self) -> Clients:
        found: Clients = []

        async def ask(slot: WorkerSlot) -> None:
            found.extend((number, address) for number, address in await slot.ask("clients"))

        await _together([ask(slot) for slot in self._all])
        return sorted(found, key=lambda client: int(client[0]))

    async def reset(self) -> None:
        self._former.reset()
        await self._own.reset()
        for slot in self._all:
            slot.last.reset()
        await _together([slot.ask("reset") for slot in self._all])

    async def detail(self, on: bool) -> None:
        self.detailed = on
        await _together([slot.ask("detail", on) for slot in self._all])

    def close(self, slot: WorkerSlot) -> None:
        """The worker in that place is no more."""
        slot.last.retire()
        self._former.add(slot.last)
        slot.last = _nothing()


class Supervisor(MultiService):
    """The service, where workers do what it has to do."""

    _log = Logger()

    def __init__(
        self,
        options: dict[str, Any],
        endpoints: list[str],
        storage: Any,
        authenticator: Authenticator | None,
        tls: ServerTLS | None,
        reload: Reload,
        reactor: Any,
        fail: Callable[[str], None],
        listen: Callable[[str], Any],
        workers_url: str,
    ) -> None:
        """
        @param options: those of C{twistd redcouch}, for the workers.
        @param storage: the backend that runs here for all workers, an
            L{ILocalBackend<redcouch.interfaces.ILocalBackend>}; or C{None},
            where each has its own.
        @param authenticator: reads the file of users for all workers.
        @param tls: reads the files of certificates for all workers.
        @param reload: reads all again; the workers are told here.
        @param fail: ends the whole service.
        @param listen: opens the port of an endpoint string.
        @param workers_url: the storage URL of the workers.
        """
        super().__init__()
        self._listen = listen
        #: Tells the service manager how things stand.
        self.tell: Tell = nobody
        self._options = options
        self._endpoints = endpoints
        self._storage: IStorageBackend | None = storage
        self.authenticator = authenticator
        self._tls = tls
        reload.then = self._pass_on
        self._reactor = reactor
        self._fail = fail
        self._ports: list[Any] = []
        self._places: list[str] = []
        workers = options["workers"]
        self._slots = [
            WorkerSlot(number, self._employ, reactor) for number in range(1, workers + 1)
        ]
        #: Those of workers that take the place of another, and then of those whom they follow.
        self._beside: list[WorkerSlot] = []
        self._spare_place = workers
        self._renewing = False
        #: Endpoints on which the process before accepts clients.
        self._held: Collection[str] = ()
        #: See L{Successor<redcouch.handover.succession.Successor>}.
        self.adopters: Sequence[str] = ()
        #: See L{Successor<redcouch.handover.succession.Successor>}.
        self.renewed: Callable[[], None] = lambda: None
        #: Of passwords at the pages; those of clients are the workers'.
        counters = Counters() if authenticator is None else authenticator.counters
        self.stats_source = AllStats(self._slots, self._beside, OwnStats(counters, list, reactor))
        #: What the workers have heard from the parts of the storage.
        self._counted_up = CountedUp()
        self.status_source = AllStatus(self._slots, self.stats_source)
        self._drain_timeout: float = options["drain-timeout"]
        self._one_was_ready = False
        self._stopping = False
        self._vacant: Deferred[None] | None = None
        self._fork_server: ForkServer | None = None
        self._worker_options = {**options, "storage": workers_url}

    # -- start -------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        for endpoint in self._endpoints:
            with opening("port", endpoint):
                port = self._listen(endpoint)
            self._ports.append(port)
            self._places.append(with_port(endpoint, port))

    def startService(self) -> None:
        super().startService()
        self._log.info(
            "RedCouch {version} listens on {endpoints} and keeps items in {storage}; "
            "{workers} workers serve",
            version=__version__,
            endpoints=", ".join(self._places),
            storage=redact(self._options["storage"]),
            workers=len(self._slots),
        )
        self._memory = make_memory(len(self._slots) + 1)
        self._crowd = ClientCounts(self._memory, len(self._slots) + 1)
        self._reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        Deferred.fromCoroutine(self._start_in_order()).addErrback(self._cannot_start)

    def _cannot_start(self, failure: Failure) -> None:
        self._log.failure("The storage could not start", failure)
        self._give_up(f"the storage could not start: {failure.getErrorMessage()}")

    async def _start_in_order(self) -> None:
        if self._storage is not None:
            await maybeDeferred(self._storage.start)
            for _ in range(2):  # turns, after which we are stopping if it could not start
                await deferLater(self._reactor, 0)
        for slot in self._slots:
            if not self._stopping:
                slot.fill()

    def _pass_on(self) -> None:
        """Tell all workers what has been read again."""
        files = self._files()
        for slot in (*self._slots, *self._beside):
            slot.tell("reload", files)

    def _files(self) -> dict[str, Any]:
        """What stands in files that only this process reads."""
        return {
            "users": None if self.authenticator is None else write_users(self.authenticator.users),
            "certificates": None if self._tls is None else self._tls.contents,
        }

    # -- workers -----------------------------------------------------------------------------

    def _employ(self, slot: WorkerSlot) -> None:
        stats_source = self.stats_source
        responds: dict[str, Respond] = {
            "figures": lambda _: _as_message(stats_source.snapshot()),
            "clients": lambda _: stats_source.clients(),
            "reset": lambda _: stats_source.reset(),
            "detail": stats_source.detail,
            "count_up": self._counted_up.take,
            "limit_memory": self._limit_memory,
            "ready": lambda _: self._on_ready(),
            "able": partial(setattr, slot, "adopters"),
            "last": lambda said: setattr(slot, "last", StatsSnapshot.read(said)),
            "fail": partial(self._on_fail, slot),
        }
        worker = WorkerProcess(slot.number, responds, self._reactor)
        try:
            self._current_fork_server().fork(worker)
        except OSError as error:
            self._on_no_start(slot, error)
            return
        slot.worker = worker
        worker.ended.addCallback(lambda how: self._on_end(slot, how))
        held = self._endpoints if slot in self._beside else list(self._held)
        what = {"version": __version__, "place": slot.place, "options": self._worker_options}
        worker.channel.tell("serve", {**what, **self._files(), "held": held})
        if stats_source.detailed:
            worker.channel.tell("detail", True)

    def _current_fork_server(self) -> ForkServer:
        if self._fork_server is None or not self._fork_server.is_usable():
            sockets = [port.fileno() for port in self._ports]
            self._fork_server = ForkServer(sockets, self._memory, self._reactor)
        return self._fork_server

    def _limit_memory(self, size: int) -> Deferred[bool]:
        if IBoundedBackend.providedBy(self._storage):
            return self._storage.limit_memory(size)
        return succeed(False)

    # -- L{Successor<redcouch.handover.succession.Successor>}, and the same for each worker -------

    def listening(self) -> list[tuple[str, Any]]:
        return list(zip(self._endpoints, self._ports, strict=True))

    def hold(self, endpoints: Collection[str]) -> None:
        self._held = endpoints

    def accept(self) -> None:
        self._held = ()
        for slot in self._slots:
            slot.tell("accept")

    def able(self) -> Deferred[Sequence[str]]:
        return Deferred.fromCoroutine(self._be_able())

    async def _be_able(self) -> Sequence[str]:
        while not all(slot.adopters for slot in self._slots):
            await deferLater(self._reactor, _LOOK)
        return [name for slot in self._slots for name in slot.adopters]

    def renew(self) -> None:
        """Let another process follow each worker, one after the other."""
        if self._renewing or self._stopping:
            return
        if not POSSIBLE:
            self._log.error("SIGUSR2: this system cannot pass clients to another process")
            return
        self._renewing = True
        self._retire_fork_server()  # a new one has what is installed now
        renewed = Deferred.fromCoroutine(self._renew_all())
        renewed.addErrback(lambda failure: self._log.failure("Could not renew a worker", failure))

    def _retire_fork_server(self) -> None:
        if self._fork_server is not None:
            self._fork_server.retire()

    async def _renew_all(self) -> None:
        try:
            for number in range(len(self._slots)):
                if not await self._renew(number):
                    return
            self._log.info("All workers are new")
        finally:
            self._renewing = False
            if not self._stopping:
                self.renewed()

    async def _renew(self, number: int) -> bool:
        """Whether another worker has the place of the one in that slot."""
        slot = self._slots[number]
        fresh = WorkerSlot(slot.number, self._employ, self._reactor)
        fresh.place = self._spare_place
        self._beside.append(fresh)
        fresh.fill()
        while fresh.worker is not None and not fresh.adopters:
            await deferLater(self._reactor, _LOOK)
        if self._stopping or fresh.worker is None:
            if fresh in self._beside:
                self._beside.remove(fresh)
            return False
        slot.close()
        fresh.restarts = slot.restarts
        self._spare_place = slot.place
        self._beside[:] = [slot]
        self._slots[number] = fresh
        slot.tell("end", fresh.adopters)
        last_resort = self._reactor.callLater(self._drain_timeout + GRACE, self._kill_in, slot)
        while slot.worker is not None:
            await deferLater(self._reactor, _LOOK)
        cancel(last_resort)
        self._beside.remove(slot)
        return not self._stopping

    def _on_no_start(self, slot: WorkerSlot, error: OSError) -> None:
        if not self._one_was_ready:
            self._give_up(f"cannot start a worker: {error}")
            return
        if slot in self._beside:
            self._on_fail(slot, str(error))
            return
        delay = slot.refill()
        self._log.error(
            "Cannot start worker {number}: {error}. Trying again in {delay:g} s",
            number=slot.number,
            error=error,
            delay=delay,
        )

    def _give_up(self, reason: str) -> None:
        """No worker has ever served, and none will."""
        if not self._stopping:
            self._stopping = True
            self._fail(reason)

    def _on_fail(self, slot: WorkerSlot, reason: str) -> None:
        """A worker can never serve; if it was to follow another, that one goes on."""
        if slot not in self._beside:
            self._fail(reason)
            return
        self._log.error("Cannot renew worker {number}: {error}", number=slot.number, error=reason)
        slot.tell("end", [])

    def _on_ready(self) -> None:
        if not (self._one_was_ready or self._stopping):
            self.tell("READY=1\nSTATUS=Serving")
        self._one_was_ready = True

    def _on_end(self, slot: WorkerSlot, how: str) -> None:
        worker = slot.clear()
        lost = self._crowd.leave(slot.place)
        self.stats_source.close(slot)
        if self._stopping:
            self._look_whether_vacant()
            return
        if slot in self._beside:
            self._on_end_beside(slot, worker, how)
            return
        if not (self._one_was_ready or worker.signalled):
            words = worker.last_words.removeprefix("redcouch: ") or "it did not say why"
            self._give_up(f"worker {slot.number} {how} before it served: {words}")
            return
        delay = slot.refill()
        self._log.error(
            "Worker {number} (process {pid}) {how}; {lost} clients are lost. "
            "Starting another in {delay:g} s",
            number=slot.number,
            pid=worker.pid,
            how=how,
            lost=lost,
            delay=delay,
        )

    def _on_end_beside(self, slot: WorkerSlot, worker: WorkerProcess, how: str) -> None:
        """A worker that is followed is done; or one that was to follow another is no more."""
        if not worker.ended_well:
            words = worker.last_words.removeprefix("redcouch: ") or "it did not say why"
            self._log.error(
                "Worker {number} (process {pid}) {how} while it was renewed: {words}",
                number=slot.number,
                pid=worker.pid,
                how=how,
                words=words,
            )

    # -- stop --------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        if not self.adopters:
            self.tell("STOPPING=1\nSTATUS=Letting clients finish")
        await super().stopService()
        # One that cannot be closed, as a unix socket whose path is gone, keeps nothing from ending.
        closed = [maybeDeferred(port.stopListening) for port in self._ports]
        await DeferredList(closed, consumeErrors=True)
        await self._stop_workers()
        self._retire_fork_server()
        if self._storage is not None:
            stopped = maybeDeferred(self._storage.stop)
            await stopped.addErrback(partial(self._log.failure, "The storage could not stop"))

    async def _stop_workers(self) -> None:
        vacant = self._vacant = Deferred()
        for slot in (*self._slots, *self._beside):
            slot.close()
            first = slot.number % max(1, len(self.adopters))
            slot.tell("end", [*self.adopters[first:], *self.adopters[:first]])
        last_resort = self._reactor.callLater(self._drain_timeout + GRACE, self._kill)
        self._look_whether_vacant()
        await vacant
        cancel(last_resort)

    def _look_whether_vacant(self) -> None:
        vacant = self._vacant
        if vacant is None or vacant.called:
            return
        if all(slot.worker is None for slot in (*self._slots, *self._beside)):
            vacant.callback(None)

    def _kill(self) -> None:
        for slot in (*self._slots, *self._beside):
            self._kill_in(slot)

    def _kill_in(self, slot: WorkerSlot) -> None:
        if slot.worker is not None:
            self._log.warn("Worker {number} does not end: killing it", number=slot.number)
            slot.worker.kill()


def listening_port(
    endpoint: str,
    reactor: Any,
    reload: Reload,
    shared_ports: Collection[str] = (),
    inherited: Inherited | None = None,
) -> Any:
    """
    Open a port from which nothing is accepted here.

    @param reload: is given what can be read again.
    @param shared_ports: endpoint strings that other processes may have as well.
    @param inherited: sockets that listen already.
    """
    kind = endpoint.partition(":")[0]
    if kind not in SHAREABLE:
        raise ConfigurationError(
            f"works with one worker only; with more, use {', '.join(SHAREABLE)}, or a number"
        )
    outcome: list[Any] = []
    shared = endpoint in shared_ports
    opened = server_endpoint(endpoint, reactor, shared, reload, inherited).listen(RedCouch())
    opened.addBoth(outcome.append)
    (port,) = outcome
    if not IListeningPort.providedBy(port):
        port.raiseException()
    port.stopReading()
    return port


def _nothing() -> StatsSnapshot:
    return StatsSnapshot(0, 0.0, 0.0, 0.0, Counters())


async def _as_message(snapshot: Coroutine[Any, Any, StatsSnapshot]) -> dict[str, Any]:
    return asdict(await snapshot)


async def _together(questions: list[Coroutine[Any, Any, None]]) -> None:
    """Put them all at once, and wait until each is answered or past answering."""
    asked = [Deferred.fromCoroutine(question) for question in questions]
    for one in asked:
        one.addErrback(lambda failure: failure.trap(Unanswered))
    await DeferredList(asked, fireOnOneErrback=True)
