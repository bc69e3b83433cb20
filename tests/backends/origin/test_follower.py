"""Who follows the stage, where what the storage says of it cannot be understood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from redcouch.backends.fill_leases import FillState
from redcouch.backends.origin.stages import LEASE, LOOK_EVERY, StageFollower
from redcouch.cli.warm_storage import _ANNOUNCED
from redcouch.commands import Command
from redcouch.errors import BackendError
from redcouch.results import Outcome, Result


class FollowerTests(SynchronousTestCase):
    """A follower over a storage that answers as the test says."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.fault_of_asking: Exception | None = None
        self.fault_of_hearing: Exception | None = None
        self.answers: list[Any] = []
        self.state = FillState()
        self.follower = StageFollower(self.ask, dict, dict, self.on_look, self.clock)

    def ask(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        if self.fault_of_asking is not None:
            raise self.fault_of_asking
        return succeed([self.state])

    def on_look(self, state: FillState) -> None:
        if self.fault_of_hearing is not None:
            raise self.fault_of_hearing

    def begin(self) -> None:
        """As a client does."""
        self.follower.wait(lambda: self.answers.append(Outcome.OK), self.answers.append)

    def go_wrong(self) -> None:
        """It is said once, clients are told an error, and it is tried again all the time."""
        self.begin()
        self.follower.start()
        self.clock.pump([LOOK_EVERY] * 20)
        self.begin()
        self.assertEqual(len(self.answers), 2)
        for answer in self.answers:
            assert isinstance(answer, Failure)
            assert isinstance(answer.value, BackendError)
            self.assertEqual(str(answer.value), self.follower.refusal)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.fault_of_asking = self.fault_of_hearing = None
        self.clock.advance(LOOK_EVERY)
        self.begin()
        self.assertEqual((self.answers[2:], self.follower.refusal), ([Outcome.OK], ""))

    def test_answer_without_sense(self) -> None:
        """Reading it raises what nobody expects."""
        self.fault_of_asking = TypeError("'dict' object is not a list")
        self.go_wrong()

    def test_fault_of_whoever_hears(self) -> None:
        """Whoever is told of the answer raises it."""
        self.fault_of_hearing = TypeError("'dict' object is not a list")
        self.go_wrong()

    def test_nobody_sees_it(self) -> None:
        """Where it is not noted that it is there, a change of the stage does not wait for it."""
        for noted, seconds in ((True, LEASE), (False, _ANNOUNCED)):
            self.state = FillState(noted=noted)
            follower = StageFollower(lambda _: self.ask(_), dict, dict, self.on_look, self.clock)
            follower.start()
            self.assertTrue(follower.is_open)
            with mock.patch.object(self, "ask", lambda _: Deferred()):
                self.clock.pump([LOOK_EVERY, LOOK_EVERY / 2])
                self.assertTrue(follower.is_open)
                self.clock.advance(seconds - 1.5 * LOOK_EVERY)
            self.assertFalse(follower.is_open, noted)
