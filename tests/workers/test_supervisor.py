"""The parent of the workers, with processes that only seem to be."""

from __future__ import annotations

import json
import signal
import struct
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from redcouch.process.reload import Reload
from redcouch.telemetry.counters import Counters
from redcouch.workers import supervisor as parent
from redcouch.workers.process import WorkerProcess
from redcouch.workers.supervisor import GRACE, Supervisor

DRAIN = 10.0


class Process:
    """A worker's process, and what the parent says to it."""

    def __init__(self, worker: WorkerProcess, pid: int) -> None:
        self.worker = worker
        worker.pid = pid
        self.said: list[Any] = []
        self.printed, self.spoken = worker.output.dataReceived, worker.channel.dataReceived
        self._data = b""
        self.transport = mock.Mock(write=self._write)
        worker.channel.makeConnection(self.transport)
        worker.output.makeConnection(mock.Mock())

    def _write(self, data: bytes) -> None:
        self._data += data
        while len(self._data) >= 4:
            (length,) = struct.unpack("!I", self._data[:4])
            if len(self._data) < 4 + length:
                return
            self.said.append(json.loads(self._data[4 : 4 + length]))
            self._data = self._data[4 + length :]

    def names(self) -> list[str]:
        """What was said to it, without what."""
        return [name for _, _, name, _ in self.said]

    def say(self, *message: Any) -> None:
        """Speak as the worker."""
        string = json.dumps(message).encode()
        self.spoken(struct.pack("!I", len(string)) + string)

    def answer(self, name: str, answer: Any) -> None:
        """Answer the latest question of that name."""
        number = [number for kind, number, asked, _ in self.said if asked == name][-1]
        self.say(2, number, "", answer)

    def end(self, status: int = 0, number: int = 0) -> None:
        """End with a status, or by a signal."""
        self.worker.settle(status << 8 | number)
        self.hang_up()

    def hang_up(self) -> None:
        """Have nothing open any more."""
        self.worker.channel.connectionLost()
        self.worker.output.connectionLost()


class Machine(Clock):
    """A reactor, and the fork server beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.fork_servers = 0
        self.retired = True
        self.trouble: OSError | None = None
        self.killed: list[int] = []

    def callWhenRunning(self, call: Any) -> None:
        call()

    def make_fork_server(self, sockets: Any, client_counts: int, reactor: Any) -> Machine:
        self.fork_servers += 1
        self.retired = False
        return self

    def is_usable(self) -> bool:
        return not self.retired

    def retire(self) -> None:
        self.retired = True

    def fork(self, worker: WorkerProcess) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.processes.append(Process(worker, 100 + len(self.processes)))

    def kill(self, pid: int, number: int) -> None:
        assert number == signal.SIGKILL
        self.killed.append(pid)


class SupervisorTests(SynchronousTestCase):
    """Two workers, from their start to their end."""

    def setUp(self) -> None:
        self.machine = Machine()
        for target, stub in (
            (f"{parent.__name__}.ForkServer", self.machine.make_fork_server),
            ("os.kill", self.machine.kill),
        ):
            patch = mock.patch(target, stub)
            patch.start()
            self.addCleanup(patch.stop)
        self.failed: list[str] = []
        self.reload = Reload()
        self.log: list[str] = []
        observer: Any = self._observe
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_format"):
            self.log.append(event["log_format"].format(**event))

    def start(
        self, storage: Any = None, authenticator: Any = None, workers_url: str | None = None
    ) -> Supervisor:
        options = {"workers": 2, "drain-timeout": DRAIN, "storage": "redis://:secret@host/0"}
        service = Supervisor(
            options,
            [],
            storage,
            authenticator,
            None,
            self.reload,
            self.machine,
            self.failed.append,
            lambda endpoint: None,
            workers_url or "redis://:secret@host/0",
        )
        service.privilegedStartService()
        service.startService()
        return service

    def start_well(self) -> Supervisor:
        service = self.start()
        for process in self.machine.processes:
            process.say(0, 0, "ready", None)
        return service

    def test_start(self) -> None:
        """Each worker is told all on its channel."""
        self.start()
        self.assertEqual(len(self.machine.processes), 2)
        self.assertEqual(self.machine.fork_servers, 1)
        (serve,) = self.machine.processes[0].said
        self.assertEqual(serve[2], "serve")
        self.assertEqual(serve[3]["options"]["storage"], "redis://:secret@host/0")
        self.assertNotIn("secret", "".join(self.log))

    def test_restart(self) -> None:
        """A worker that dies is started again, later each time, until one lives for a while."""
        self.start_well()
        for number, delay in enumerate((0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0)):
            self.machine.processes[-1].end(0, 9)
            self.assertIn(
                f"was ended by SIGKILL; 0 clients are lost. Starting another in {delay:g}",
                self.log[-1],
            )
            self.machine.advance(delay * 0.99)
            self.assertEqual(len(self.machine.processes), 2 + number)
            self.machine.advance(delay * 0.02)
            self.assertEqual(len(self.machine.processes), 3 + number)
        self.machine.advance(60)
        self.machine.processes[-1].end(3)
        self.assertIn("ended with status 3", self.log[-1])
        self.machine.advance(0.1)
        self.assertEqual(len(self.machine.processes), 12)
        self.assertEqual(self.failed, [])

    def test_no_start(self) -> None:
        """Where the first one cannot start, none will: the service ends, once, with its reason."""
        self.start()
        first, second = self.machine.processes
        first.printed(b"redcouch: no such ")
        first.printed(b"thing")
        first.end(1)
        second.end(1)
        self.assertEqual(
            self.failed, ["worker 1 ended with status 1 before it served: no such thing"]
        )
        self.machine.advance(100)
        self.assertEqual(len(self.machine.processes), 2)

    def test_killed_before_it_served(self) -> None:
        """That says nothing about the next one."""
        self.start()
        self.machine.processes[0].end(0, 9)
        self.machine.advance(0.1)
        self.assertEqual((len(self.machine.processes), self.failed), (3, []))

    def test_no_process(self) -> None:
        """The system may refuse at the start, and may refuse later."""
        self.machine.trouble = OSError(13, "Permission denied")
        self.start()
        self.assertEqual(self.failed, ["cannot start a worker: [Errno 13] Permission denied"])

    def test_no_process_later(self) -> None:
        self.start_well()
        self.machine.trouble = OSError(11, "Resource temporarily unavailable")
        self.machine.processes[0].end(0, 11)
        self.machine.advance(0.1)
        self.assertIn("Cannot start worker 1", self.log[-1])
        self.machine.trouble = None
        self.machine.advance(0.2)
        self.assertEqual(len(self.machine.processes), 3)

    def test_log(self) -> None:
        """A worker's events and what it prints stand in the log, in whole lines."""
        self.start()
        process = self.machine.processes[1]
        process.say(0, 0, "log", ["warn", "somewhere", "in {braces}\nand lines"])
        self.assertEqual(self.log[-1], "[worker 2] in {braces}\nand lines")
        process.printed(b"half a ")
        self.assertEqual(self.log[-1], "[worker 2] in {braces}\nand lines")
        process.printed(b"line\n\nanother\n")
        self.assertEqual(self.log[-2:], ["[worker 2] half a line", "[worker 2] another"])
        process.printed(b"x" * 20_000)
        self.assertEqual(len(self.log[-1]), 20_011)

    def snapshot(self, **counters: int) -> dict[str, Any]:
        counted = {name: counters.get(name, 0) for name in Counters.__slots__}
        return {"pid": 1, "uptime": 1.0, "user": 0.5, "system": 0.25, "counters": counted}

    def test_books(self) -> None:
        """Sums of all; of one that is silent or gone, what it said before."""
        service = self.start_well()
        one, two = self.machine.processes
        asked = Deferred.fromCoroutine(service.stats_source.snapshot())
        one.answer("figures", self.snapshot(cmd_get=1, curr_connections=3))
        two.answer("figures", self.snapshot(cmd_get=10, curr_connections=4))
        snapshot = self.successResultOf(asked)
        self.assertEqual((snapshot.counters.cmd_get, snapshot.counters.curr_connections), (11, 7))
        self.assertGreater(snapshot.user, 1.0)
        one.end(0, 9)
        asked = Deferred.fromCoroutine(service.stats_source.snapshot())
        self.machine.advance(parent.PATIENCE)
        snapshot = self.successResultOf(asked)
        self.assertEqual((snapshot.counters.cmd_get, snapshot.counters.curr_connections), (11, 4))
        self.assertGreater(snapshot.user, 1.0)

    def test_reset(self) -> None:
        """Past and present workers count from zero."""
        service = self.start_well()
        one, two = self.machine.processes
        asked = Deferred.fromCoroutine(service.stats_source.snapshot())
        for process in (one, two):
            process.answer("figures", self.snapshot(cmd_get=1, curr_connections=1))
        one.end(0, 9)
        reset = Deferred.fromCoroutine(service.stats_source.reset())
        two.answer("reset", None)
        self.successResultOf(reset)
        asked = Deferred.fromCoroutine(service.stats_source.snapshot())
        two.answer("figures", self.snapshot(curr_connections=1))
        counters = self.successResultOf(asked).counters
        self.assertEqual((counters.cmd_get, counters.curr_connections), (0, 1))

    def test_levels(self) -> None:
        """What a worker had in its own memory ends with it; what it has counted stays."""
        service = self.start_well()
        one, two = self.machine.processes
        asked = Deferred.fromCoroutine(service.stats_source.snapshot())
        for process in (one, two):
            process.answer("figures", {**self.snapshot(), "storage": {"hits": 2, "cache_bytes": 8}})
        self.assertEqual(self.successResultOf(asked).storage, {"hits": 4, "cache_bytes": 16})
        one.end(0, 9)
        asked = Deferred.fromCoroutine(service.stats_source.snapshot())
        two.answer("figures", {**self.snapshot(), "storage": {"hits": 3, "cache_bytes": 5}})
        self.assertEqual(self.successResultOf(asked).storage, {"hits": 5, "cache_bytes": 5})

    def test_clients(self) -> None:
        """All, by their numbers."""
        service = self.start_well()
        asked = Deferred.fromCoroutine(service.stats_source.clients())
        self.machine.processes[1].answer("clients", [["10", "tcp:c"], ["2", "tcp:b"]])
        self.machine.processes[0].answer("clients", [["1", "tcp:a"]])
        self.assertEqual(
            self.successResultOf(asked), [("1", "tcp:a"), ("2", "tcp:b"), ("10", "tcp:c")]
        )

    def test_worker_asks(self) -> None:
        """A worker learns of all from the parent, which asks it as well."""
        self.start_well()
        one, two = self.machine.processes
        one.say(1, 7, "clients", None)
        one.answer("clients", [["1", "tcp:a"]])
        two.answer("clients", [["2", "tcp:b"]])
        self.assertEqual(one.said[-1], [2, 7, "", [["1", "tcp:a"], ["2", "tcp:b"]]])
        one.say(1, 8, "figures", None)
        for process in (one, two):
            process.answer("figures", self.snapshot(cmd_get=2))
        self.assertEqual(one.said[-1][3]["counters"]["cmd_get"], 4)

    def test_worker_fails(self) -> None:
        """A storage that can never serve ends the service, whichever worker learns of it."""
        self.start_well()
        self.machine.processes[1].say(0, 0, "fail", "no storage")
        self.assertEqual(self.failed, ["no storage"])

    def test_garbage(self) -> None:
        """A worker that nobody understands is left alone, which ends it."""
        self.start_well()
        process = self.machine.processes[0]
        process.spoken(b"\xff\xff\xff\xff")
        self.assertTrue(process.transport.loseConnection.called)

    def test_renew(self) -> None:
        """Workers that follow others are forked from a process with what is installed now."""
        service = self.start_well()
        service.renew()
        self.assertEqual((self.machine.fork_servers, len(self.machine.processes)), (2, 3))

    def test_renewed_fails(self) -> None:
        """One that can never serve, as after a bad upgrade, ends alone; the one before goes on."""
        service = self.start_well()
        service.renew()
        one, _, fresh = self.machine.processes
        fresh.say(0, 0, "fail", "no storage")
        self.assertEqual((fresh.names()[-1], fresh.said[-1][3]), ("end", []))
        self.assertEqual((self.failed, one.names()[-1]), ([], "serve"))

    def held(self) -> list[Any]:
        """What each worker was told to leave to others."""
        return [process.said[0][3]["held"] for process in self.machine.processes]

    def test_hold(self) -> None:
        """Workers are told what is held until it is no more, those too that take others' places."""
        service = self.start_well()
        service.hold({"tcp:1"})
        self.machine.processes[0].end(0, 9)
        self.machine.advance(0.1)
        service.accept()
        self.assertEqual(
            [process.names()[-1] for process in self.machine.processes[1:]], ["accept"] * 2
        )
        self.machine.processes[2].end(0, 9)
        self.machine.advance(0.2)
        self.assertEqual(self.held(), [[], [], ["tcp:1"], []])

    def test_renewed_is_held(self) -> None:
        """A worker that takes the place of another accepts nobody before it can serve."""
        service = self.start_well()
        service._endpoints = ["tcp:1"]
        service.renew()
        self.assertEqual(self.held(), [[], [], ["tcp:1"]])

    def test_stop(self) -> None:
        """All are told, and waited for; then the storage stops."""
        storage = mock.Mock()
        storage.start.return_value = succeed(None)
        storage.stop.return_value = succeed(None)
        service = self.start(storage, workers_url="redis+unix:///socket")
        self.machine.advance(0)
        one, two = self.machine.processes
        self.assertEqual(one.said[0][3]["options"]["storage"], "redis+unix:///socket")
        one.say(0, 0, "ready", None)
        stopped = service.stopService()
        self.assertEqual((one.names()[-1], two.names()[-1]), ("end", "end"))
        one.end()
        self.assertNoResult(stopped)
        storage.stop.assert_not_called()
        two.end(0, 9)
        self.successResultOf(stopped)
        storage.stop.assert_called_once_with()
        self.assertEqual(self.machine.getDelayedCalls(), [])
        self.assertEqual(self.failed, [])
        self.assertTrue(self.machine.retired)

    def test_stop_by_force(self) -> None:
        """One that does not end in time is killed; one that waits to be started is not."""
        service = self.start_well()
        one, two = self.machine.processes
        one.end(0, 9)
        stopped = service.stopService()
        self.machine.advance(DRAIN + GRACE - 0.1)
        self.assertEqual(self.machine.killed, [])
        self.machine.advance(0.1)
        self.assertEqual(self.machine.killed, [two.worker.pid])
        two.hang_up()  # and nobody says how it has ended
        self.successResultOf(stopped)
        self.assertEqual(len(self.machine.processes), 2)

    def test_storage_that_cannot_start(self) -> None:
        """Clients would wait for workers that never come: the service ends, and says why."""
        storage = mock.Mock()
        storage.start.side_effect = ZeroDivisionError("no disk")
        storage.stop.side_effect = ZeroDivisionError
        service = self.start(storage)
        self.assertEqual(self.failed, ["the storage could not start: no disk"])
        self.successResultOf(service.stopService())
        self.assertEqual(self.machine.processes, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_stop_before_storage_runs(self) -> None:
        """No worker is started for a service that ends."""
        storage = mock.Mock()
        started: Deferred[None] = Deferred()
        storage.start.return_value = started
        storage.stop.return_value = succeed(None)
        service = self.start(storage)
        self.successResultOf(service.stopService())
        started.callback(None)
        self.machine.advance(0)
        self.assertEqual(self.machine.processes, [])

    def test_reload(self) -> None:
        """The users that the parent has read are those of all, and of workers to come."""
        authenticator = mock.Mock(users={b"me": b"\xffirst"})
        self.start(authenticator=authenticator)
        one, two = self.machine.processes
        one.say(0, 0, "ready", None)
        self.assertEqual(one.said[0][3]["users"], {"me": "\xffirst"})
        authenticator.users = {b"me": b"second"}
        self.reload()
        for process in (one, two):
            files = {"users": {"me": "second"}, "certificates": None}
            self.assertEqual(process.said[-1][2:], ["reload", files])
        one.end(0, 9)
        self.reload()
        self.machine.advance(1)
        self.assertEqual(self.machine.processes[-1].said[0][3]["users"], {"me": "second"})
