"""
The parent of the workers: opens the ports, keeps the workers there, keeps the
books of all of them, and stops them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from dataclasses import asdict
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from redcouch import __version__
from redcouch.errors import StartError
from redcouch.interfaces import IBoundedBackend, IStorageBackend
from redcouch.reload import Reload
from redcouch.server.listeners import server_endpoint, with_port
from redcouch.server.passwords import Authenticator
from redcouch.server.tls import ServerTLS
from redcouch.systemd import Tell, nobody
from redcouch.telemetry.counters import Counters
from redcouch.telemetry.snapshot import Clients, Figures, OwnLedger
from redcouch.urls import redact
from redcouch.workers.acceptor import SHAREABLE
from redcouch.workers.aggregate import AllWatch
from redcouch.workers.channel import Respond, Unanswered, write_users
from redcouch.workers.client_counts import Crowd, make_memory
from redcouch.workers.process import WorkerProcess

FIRST_DELAY = 0.1
LAST_DELAY = 10.0
"""Seconds before a worker that has ended is started again; doubled each time."""

HEALTHY = 60.0
"""Seconds after which a worker counts as having started well."""

PATIENCE = 1.0
"""Seconds that a worker has to answer; what it said last counts where it does not."""

GRACE = 2.0
"""Seconds beyond the drain timeout after which a worker is killed."""


class RedCouch(Factory):
    """Takes no clients; gives the listening sockets a name in the log."""

    noisy = False


class Post:
    """
    The place of one worker, whichever process has it.

    @ivar last: what the worker's books said when it was last asked.
    @ivar restarts: how often a worker that had ended was followed by another.
    """

    def __init__(self, number: int, employ: Callable[[Post], None], reactor: Any) -> None:
        """
        @param number: from 1.
        @param employ: starts a worker and puts it here.
        """
        self.number = number
        self.worker: WorkerProcess | None = None
        self.last = _nothing()
        self.restarts = 0
        self._employ = employ
        self._reactor = reactor
        self._delay = FIRST_DELAY
        self._next: Any = None

    def fill(self) -> None:
        """Start a worker."""
        self._next = None
        self._employ(self)

    def refill(self) -> float:
        """Start another worker in a while; gives the seconds until then."""
        self.restarts += 1
        delay = self._delay
        self._next = self._reactor.callLater(delay, self.fill)
        self._delay = min(delay * 2, LAST_DELAY)
        return delay

    def vacate(self) -> WorkerProcess:
        """The worker is no more; gives it."""
        worker, self.worker = self.worker, None
        assert worker is not None
        if self._reactor.seconds() - worker.started >= HEALTHY:
            self._delay = FIRST_DELAY
        return worker

    def close(self) -> None:
        """Start no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    async def ask(self, name: str) -> Any:
        """
        What the worker answers. Raises L{Unanswered}.
        """
        if self.worker is None:
            raise Unanswered("there is no worker now")
        return await self.worker.channel.ask(name, seconds=PATIENCE)

    def tell(self, name: str, argument: Any = None) -> None:
        """Say something to the worker, if there is one."""
        if self.worker is not None:
            self.worker.channel.tell(name, argument)


class AllLedger:
    """
    The books of all workers together. What a worker had counted when it was
    last asked stays in them after its end, so that no count ever goes back.
    """

    def __init__(self, posts: list[Post], own: OwnLedger) -> None:
        """@param own: the parent's."""
        self._posts = posts
        self._own = own
        self._former = _nothing()
        #: Whether workers count by prefix. One that starts later has to be told.
        self.detailed = False

    async def figures(self) -> Figures:
        await _together([self._update(post) for post in self._posts])
        total = await self._own.figures()
        for figures in (self._former, *(post.last for post in self._posts)):
            total.add(figures)
        return total

    async def _update(self, post: Post) -> None:
        said = await post.ask("figures")
        post.last = Figures.read(said)

    async def clients(self) -> Clients:
        found: Clients = []

        async def ask(post: Post) -> None:
            found.extend((number, address) for number, address in await post.ask("clients"))

        await _together([ask(post) for post in self._posts])
        return sorted(found, key=lambda client: int(client[0]))

    async def reset(self) -> None:
        self._former.reset()
        for post in self._posts:
            post.last.reset()
        await _together([post.ask("reset") for post in self._posts])

    async def detail(self, on: bool) -> None:
        self.detailed = on
        for post in self._posts:
            post.tell("detail", on)

    def close(self, post: Post) -> None:
        """The worker in that place is no more."""
        post.last.counters.curr_connections = 0
        self._former.add(post.last)
        post.last = _nothing()


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
        listen: Callable[[str], Any] | None = None,
        workers_url: str | None = None,
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
        @param workers_url: the storage URL of the workers, if it is not that in the options.
        """
        super().__init__()
        self._listen = listen or partial(listening_port, reactor=reactor, reload=reload)
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
        self._posts = [Post(number, self._employ, reactor) for number in range(1, workers + 1)]
        self.ledger = AllLedger(self._posts, OwnLedger(Counters(), list, reactor))
        self.watch = AllWatch(self._posts, self.ledger)
        self._drain_timeout: float = options["drain-timeout"]
        self._one_was_ready = False
        self._stopping = False
        self._vacant: Deferred[None] | None = None
        self._worker_options = dict(options)
        if workers_url is not None:
            self._worker_options["storage"] = workers_url

    # -- start -------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        for endpoint in self._endpoints:
            try:
                port = self._listen(endpoint)
                self._ports.append(port)
                self._places.append(with_port(endpoint, port))
            except CannotListenError as error:
                raise StartError(f"redcouch: {error}") from None
            except (ValueError, TypeError, OSError) as error:
                raise StartError(f"redcouch: --port {endpoint}: {error}") from None

    def startService(self) -> None:
        super().startService()
        self._log.info(
            "RedCouch {version} listens on {endpoints} and keeps items in {storage}; "
            "{workers} workers serve",
            version=__version__,
            endpoints=", ".join(self._places),
            storage=redact(self._options["storage"]),
            workers=len(self._posts),
        )
        self._memory = make_memory(len(self._posts))
        self._crowd = Crowd(self._memory, len(self._posts))
        self._reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        started = Deferred.fromCoroutine(self._start_in_order())
        started.addErrback(lambda failure: self._log.failure("Could not start", failure))

    async def _start_in_order(self) -> None:
        if self._storage is not None:
            await self._storage.start()
            await deferLater(self._reactor, 0)  # if it could not start, we are stopping by then
        for post in self._posts:
            if not self._stopping:
                post.fill()

    def _pass_on(self) -> None:
        """Tell all workers what has been read again."""
        files = self._files()
        for post in self._posts:
            post.tell("reload", files)

    def _files(self) -> dict[str, Any]:
        """What stands in files that only this process reads."""
        return {
            "users": None if self.authenticator is None else write_users(self.authenticator.users),
            "certificates": None if self._tls is None else self._tls.contents,
        }

    # -- workers -----------------------------------------------------------------------------

    def _employ(self, post: Post) -> None:
        ledger = self.ledger
        responds: dict[str, Respond] = {
            "figures": lambda _: Deferred.fromCoroutine(_as_message(ledger.figures())),
            "clients": lambda _: Deferred.fromCoroutine(ledger.clients()),
            "reset": lambda _: Deferred.fromCoroutine(ledger.reset()),
            "detail": lambda on: Deferred.fromCoroutine(ledger.detail(on)),
            "limit_memory": self._limit_memory,
            "ready": lambda _: self._on_ready(),
            "fail": self._fail,
        }
        worker = WorkerProcess(post.number, responds, self._reactor)
        try:
            worker.spawn(self._reactor, [port.fileno() for port in self._ports], self._memory)
        except OSError as error:
            self._on_no_start(post, error)
            return
        post.worker = worker
        worker.ended.addCallback(lambda how: self._on_end(post, how))
        worker.channel.tell("serve", {"options": self._worker_options, **self._files()})
        if ledger.detailed:
            worker.channel.tell("detail", True)

    def _limit_memory(self, size: int) -> Deferred[bool]:
        if IBoundedBackend.providedBy(self._storage):
            limited: Deferred[bool] = self._storage.limit_memory(size)
            return limited
        return succeed(False)

    def _on_no_start(self, post: Post, error: OSError) -> None:
        if not self._one_was_ready:
            self._give_up(f"cannot start a worker: {error}")
            return
        delay = post.refill()
        self._log.error(
            "Cannot start worker {number}: {error}. Trying again in {delay:g} s",
            number=post.number,
            error=error,
            delay=delay,
        )

    def _give_up(self, reason: str) -> None:
        """No worker has ever served, and none will."""
        if not self._stopping:
            self._stopping = True
            self._fail(reason)

    def _on_ready(self) -> None:
        if not (self._one_was_ready or self._stopping):
            self.tell("READY=1\nSTATUS=Serving")
        self._one_was_ready = True

    def _on_end(self, post: Post, how: str) -> None:
        worker = post.vacate()
        lost = self._crowd.leave(post.number - 1)
        self.ledger.close(post)
        if self._stopping:
            self._look_whether_vacant()
            return
        if not (self._one_was_ready or worker.signalled):
            words = worker.last_words.removeprefix("redcouch: ") or "it did not say why"
            self._give_up(f"worker {post.number} {how} before it served: {words}")
            return
        delay = post.refill()
        self._log.error(
            "Worker {number} (process {pid}) {how}; {lost} clients are lost. "
            "Starting another in {delay:g} s",
            number=post.number,
            pid=worker.pid,
            how=how,
            lost=lost,
            delay=delay,
        )

    # -- stop --------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        self.tell("STOPPING=1\nSTATUS=Letting clients finish")
        await super().stopService()
        for port in self._ports:
            await port.stopListening()
        await self._stop_workers()
        if self._storage is not None:
            await self._storage.stop()

    async def _stop_workers(self) -> None:
        vacant = self._vacant = Deferred()
        for post in self._posts:
            post.close()
            post.tell("end")
        last_resort = self._reactor.callLater(self._drain_timeout + GRACE, self._kill)
        self._look_whether_vacant()
        await vacant
        if last_resort.active():
            last_resort.cancel()

    def _look_whether_vacant(self) -> None:
        vacant = self._vacant
        if vacant is None or vacant.called:
            return
        if all(post.worker is None for post in self._posts):
            vacant.callback(None)

    def _kill(self) -> None:
        for post in self._posts:
            if post.worker is not None:
                self._log.warn("Worker {number} does not end: killing it", number=post.number)
                post.worker.kill()


def listening_port(
    endpoint: str, reactor: Any, reload: Reload, shared_ports: Collection[str] = ()
) -> Any:
    """
    Open a port from which nothing is accepted here.

    @param reload: is given what can be read again.
    @param shared_ports: endpoint strings that other processes may have as well.
    """
    kind = endpoint.partition(":")[0]
    if kind not in SHAREABLE:
        raise ValueError(
            f"works with one worker only; with more, use {', '.join(SHAREABLE)}, or a number"
        )
    outcome: list[Any] = []
    opened = server_endpoint(endpoint, reactor, endpoint in shared_ports, reload).listen(RedCouch())
    opened.addBoth(outcome.append)
    (port,) = outcome
    if not IListeningPort.providedBy(port):
        port.raiseException()
    port.stopReading()
    return port


def _nothing() -> Figures:
    return Figures(0, 0.0, 0.0, 0.0, Counters())


async def _as_message(figures: Coroutine[Any, Any, Figures]) -> dict[str, Any]:
    return asdict(await figures)


async def _together(questions: list[Coroutine[Any, Any, None]]) -> None:
    """Put them all at once, and wait until each is answered or past answering."""
    asked = [Deferred.fromCoroutine(question) for question in questions]
    for one in asked:
        one.addErrback(lambda failure: failure.trap(Unanswered))
    await DeferredList(asked, fireOnOneErrback=True)
