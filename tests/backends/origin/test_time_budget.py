"""However slow the old side is, nobody waits longer for it than they have said."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from redcouch.backends import fill_leases
from redcouch.backends.fill_leases import MOST_DENIED
from redcouch.backends.origin.url import DEFAULT_TIMEOUT
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Flush,
    Get,
    GetAndTouch,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from redcouch.memcached_client import twisted_client as node
from redcouch.memcached_client.time_budget import TimeBudget
from redcouch.memcached_client.twisted_client import AwayError, MemcachedClientProtocol
from redcouch.results import Failed, Outcome, Result, Stored
from tests.backends.origin.world import World

K = b"k"


def store(mode: StoreMode) -> Store:
    return Store(mode, K, b"2")


class SlowWorld(World):
    """Here each answer of the old side takes nearly as long as may be."""

    def __init__(self, slowness: float) -> None:
        super().__init__(1)
        self.shelf.items[K] = b"1"
        self._slowness = slowness

    def seconds_for(self, command: Command) -> tuple[float, list[Result]]:
        """How long a command takes, in seconds, and what comes of it."""
        results: list[list[Result]] = []
        began = self.clock.seconds()
        self.workers[0].execute([command]).addCallback(results.append)
        waited = 0.0
        while not results:
            queues = {name[0]: queue for name, queue in self._queues.items() if queue}
            if "storage" in queues:
                self._carry_out(queues["storage"])
            elif "old" in queues and waited >= self._slowness:
                self._carry_out(queues["old"])
                waited = 0.0
            else:
                assert waited < 10, "nobody answers"
                self.clock.advance(0.01)
                waited += 0.01
        return self.clock.seconds() - began, results[0]


EVERY = [
    Get([K]),
    Get([K, b"x"]),
    MetaGet(K),
    GetAndTouch([K], 5),
    Touch(K, 5),
    Delete(K),
    Delete(K, compare=5),
    Arithmetic(K, 1),
    Flush(),
    *map(store, StoreMode),
]


@pytest.mark.parametrize("slowness", [0.04, 0.09, 1e9])
@pytest.mark.parametrize("command", EVERY, ids=repr)
def test_every_command(command: Command, slowness: float) -> None:
    """Several questions take no longer than one may, and nothing fails for it."""
    took, results = SlowWorld(slowness).seconds_for(command)
    assert took < DEFAULT_TIMEOUT + 0.03
    assert not isinstance(results[0], Failed)


def test_what_was_too_slow() -> None:
    """A deletion that was not answered in time holds, and is told again."""
    world = SlowWorld(1e9)
    world.seconds_for(Delete(K))
    assert world.items.count_denied() == 1
    world.finish()
    world.shelf.items[K] = b"1"  # as if that had been lost, or overtaken
    assert world.ask(0, Get([K])) == [[None]]
    world.clock.advance(node.GRACE)
    world.repair()
    assert world.shelf.items == {}
    assert world.items.count_denied() == 0


def test_begins_without() -> None:
    """Nobody waits longer than that for the old side to be there, either."""
    world = World(1)
    worker: Any = world.workers[0]
    worker._waiting = []  # as before it has answered for the first time
    answers = [worker.execute([command]) for command in (Get([K]), Delete(K))]
    world.finish()
    assert not any(answer.called for answer in answers)
    world.clock.advance(DEFAULT_TIMEOUT)
    world.finish()
    assert [answer.result for answer in answers] == [[[None]], [Outcome.NOT_FOUND]]


class Inbox(FileDescriptor):
    """Where an answer comes in."""

    def __init__(self, answer: Deferred[bytes]) -> None:
        super().__init__(reactor)
        self._answer = answer
        self._mine, self.theirs = socket.socketpair()
        self.startReading()

    def fileno(self) -> int:
        return self._mine.fileno()

    def doRead(self) -> None:
        self.stopReading()
        self._answer.callback(self._mine.recv(100))

    def close(self) -> None:
        self._mine.close()
        self.theirs.close()


class BusyTests(TestCase):
    async def test_busy(self) -> None:
        """What has come while this process was busy has come in time."""
        answer: Deferred[bytes] = Deferred()
        inbox = Inbox(answer)
        self.addCleanup(inbox.close)
        limited = TimeBudget(0.01, reactor).limit(answer)
        inbox.theirs.send(b"in time")
        time.sleep(0.05)
        assert await limited == b"in time"


def test_untold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """While both sides are away, what is to be told does not grow for ever."""
    monkeypatch.setattr(fill_leases, "MOST_DENIED", 3)
    world = World(1)
    world.nodes[0].up = False
    for number in range(5):
        assert world.ask(0, Store(StoreMode.SET, b"%d" % number, b"")) != []
    worker: Any = world.workers[0]
    assert worker._ended
    assert world.items.count_denied() is None
    assert MOST_DENIED == 100_000
    assert isinstance(world.ask(0, store(StoreMode.SET))[0], Stored)


class Wire(StringTransport):
    def setTcpNoDelay(self, enabled: bool) -> None:
        """As of a socket."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """As of a socket."""


def test_pending_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been asked of one that does not answer does not grow for ever."""
    monkeypatch.setattr(node, "_MOST_PENDING", 100)
    talk = MemcachedClientProtocol(20, 1000, Clock())
    talk.makeConnection(Wire())
    failures: list[Any] = []
    answered = talk.ask(b"x" * 200, 1)  # by itself, it may be as large as it is
    talk.dataReceived(b"HD\r\n")
    assert answered.called
    for _ in range(2):
        talk.ask(b"x" * 60, 1).addErrback(failures.append)
    assert [failure.type for failure in failures] == [AwayError, AwayError]


def test_large_values_take_longer() -> None:
    """One that is being sent a large value is not away: it would be so again at each attempt."""
    clock = Clock()
    talk = MemcachedClientProtocol(1, 1000, clock)
    talk.makeConnection(Wire())
    failures: list[Any] = []
    talk.ask(b"x" * (4 * node.PORTION), 1).addErrback(failures.append)
    clock.pump([1] * 4)
    assert not failures
    clock.advance(1)
    assert failures
