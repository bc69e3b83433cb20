"""The conversation of parent and worker."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from redcouch.workers.channel import (
    MOST,
    Channel,
    Respond,
    Unanswered,
    read_users,
    write_users,
)


class ChannelTests(SynchronousTestCase):
    """Two ends that hear each other when the test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.heard: list[Any] = []
        self.lost = 0
        later: Deferred[int] = Deferred()
        self.later = later
        responds: dict[str, Respond] = {
            "note": self.heard.append,
            "double": lambda number: number * 2,
            "later": lambda _: later,
            "coroutine": self._coroutine,
            "fail": lambda _: 1 // 0,
        }
        self.here = Channel({}, self._on_lost, self.clock)
        self.there = Channel(responds, self._on_lost, self.clock)
        for end in (self.here, self.there):
            end.makeConnection(StringTransport())

    async def _coroutine(self, argument: Any) -> Any:
        return [argument]

    def _on_lost(self) -> None:
        self.lost += 1

    def carry(self) -> None:
        """Give each end what the other has said."""
        for source, target in ((self.here, self.there), (self.there, self.here)):
            pipe: Any = source.transport
            data = pipe.value()
            pipe.clear()
            for place in range(len(data)):
                target.dataReceived(data[place : place + 1])

    def test_tell(self) -> None:
        """What is told arrives in order."""
        for number in range(3):
            self.here.tell("note", {"number": number, "text": "ü\n"})
        self.carry()
        self.assertEqual(self.heard, [{"number": number, "text": "ü\n"} for number in range(3)])

    def test_ask(self) -> None:
        """Answers find those who asked, in whichever order they come."""
        slow = self.here.ask("later", seconds=5)
        fast = self.here.ask("double", 21, seconds=5)
        coroutine = self.here.ask("coroutine", 1, seconds=5)
        self.carry()
        self.assertEqual(self.successResultOf(fast), 42)
        self.assertEqual(self.successResultOf(coroutine), [1])
        self.assertNoResult(slow)
        self.later.callback(7)
        self.carry()
        self.assertEqual(self.successResultOf(slow), 7)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_late(self) -> None:
        """An answer that takes too long is none, and does no harm when it comes."""
        slow = self.here.ask("later", seconds=1)
        self.carry()
        self.clock.advance(1)
        self.assertEqual(str(self.failureResultOf(slow, Unanswered).value), "too late")
        self.later.callback(7)
        self.carry()

    def test_fault(self) -> None:
        """A fault is logged where it is, and whoever asked is told."""
        asked = self.here.ask("fail", seconds=1)
        self.here.tell("fail")
        self.carry()
        self.failureResultOf(asked, Unanswered)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_unanswered_is_passed_on(self) -> None:
        """Who cannot answer says so, and that is no fault."""
        asked = self.here.ask("later", seconds=1)
        self.carry()
        self.later.errback(Failure(Unanswered("not now")))
        self.carry()
        self.assertEqual(str(self.failureResultOf(asked, Unanswered).value), "not now")

    def test_end(self) -> None:
        """With the other end gone nobody waits any more."""
        asked = self.here.ask("later", seconds=1)
        self.here.connectionLost(Failure(ConnectionError()))
        self.failureResultOf(asked, Unanswered)
        self.assertEqual(self.lost, 1)

    def test_too_long(self) -> None:
        """What the other end would not take is not sent."""
        with self.assertRaises(Unanswered):
            self.here.tell("note", "x" * MOST)

    def test_garbage(self) -> None:
        """A length that none of ours has ends the conversation."""
        self.here.dataReceived(b"\xff\xff\xff\xff")
        pipe: Any = self.here.transport
        self.assertTrue(pipe.disconnecting)


def test_users() -> None:
    """Any bytes can be a password."""
    users = {b"me": bytes(range(1, 256)), "ü".encode(): b"x"}
    assert read_users(write_users(users)) == users
