"""What a storage tells of itself goes wrong without harm to anything else."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Mapping
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from redcouch.backends.self_report import ANSWERING, STOPPING, SelfReport
from redcouch.errors import BackendError
from redcouch.interfaces import CAPABILITIES, Health, IStorageBackend
from redcouch.results import ErrorKind

QUESTIONS: Mapping[str, tuple[Any, ...]] = {
    "statistics": (),
    "describe": (),
    "probe_writes": (),
    "keep_traffic": ((), 0.0),
    "traffic": (),
}


class SelfReportTests(SynchronousTestCase):
    """A storage that answers as the tests say."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.storage: Any = mock.Mock()
        directlyProvides(self.storage, IStorageBackend, *CAPABILITIES)
        self.report: Any = SelfReport(self.storage, self.clock)

    def failed(self, name: str, answer: Any) -> BackendError:
        """How a question fails that the storage answers so."""
        question = getattr(self.storage, name)
        question.side_effect, question.return_value = answer, answer
        failure = self.failureResultOf(getattr(self.report, name)(*QUESTIONS[name]), BackendError)
        assert isinstance(failure.value, BackendError)
        return failure.value

    def test_faults(self) -> None:
        """However it fails: as if it could not be asked, and in the log until it can again."""
        for name in QUESTIONS:
            with self.subTest(name):
                for answer in (ZeroDivisionError, lambda *_: fail(ZeroDivisionError())):
                    error = self.failed(name, answer)
                    self.assertEqual(str(error), f"a fault of the storage in {name}()")
                    self.assertIs(error.failed.kind, ErrorKind.UNAVAILABLE)
                self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
                getattr(self.storage, name).side_effect = lambda *_: succeed({})
                self.successResultOf(getattr(self.report, name)(*QUESTIONS[name]))
                self.failed(name, ZeroDivisionError)
                self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_it_cannot_be_asked(self) -> None:
        """What the storage itself says of that reaches who asks, and not the log."""
        refusal = BackendError(ErrorKind.REFUSED, "not to you")
        for name in QUESTIONS:
            self.assertIs(self.failed(name, refusal), refusal)

    def test_statistics(self) -> None:
        """They are words and whole numbers, as clients read them; or there are none."""
        told = {"curr items\r\n": "7", "bytes": 8.0}
        self.storage.statistics.return_value = succeed(told)
        said = self.successResultOf(self.report.statistics())
        self.assertEqual(repr(said), "{'curr_items': 7, 'bytes': 8}")
        for told in ({"bytes": "many"}, {"bytes": None}, {7: 7}, None):  # type: ignore[assignment]
            self.failed("statistics", lambda told=told: succeed(told))
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_health(self) -> None:
        """Whoever cannot say how it is, is not well."""
        self.storage.health.side_effect = ZeroDivisionError
        for _ in range(2):
            health = self.report.health()
            self.assertEqual(health, Health(False, "a fault of the storage in health()"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.storage.health.side_effect = lambda: Health(True)
        self.assertTrue(self.report.health().ready)
        for nothing in (None, True, succeed(Health(True))):
            self.storage.health.side_effect = lambda told=nothing: told
            self.assertFalse(self.report.health().ready)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    def test_reason(self) -> None:
        """Why it is not well stands in one line; where it says nothing, that is said."""
        for reason, said in {
            "two\nlines": "two lines",
            "": "the storage is not ready, and does not say why",
        }.items():
            self.storage.health.side_effect = lambda reason=reason: Health(False, reason)
            self.assertEqual(self.report.health(), Health(False, said))

    def test_no_answer(self) -> None:
        """Nobody waits for long, the log says so once, and nothing comes of a late answer."""
        for name, answers in itertools.product(
            ("statistics", "describe", "traffic"),
            (lambda late: late.callback({}), lambda late: late.errback(ZeroDivisionError())),
        ):
            with self.subTest(name):
                late: Deferred[Any] = Deferred()
                question = getattr(self.storage, name)
                question.side_effect = lambda late=late: late
                question.reset_mock()
                ask = getattr(self.report, name)
                asked = ask()
                self.clock.advance(ANSWERING - 0.1)
                self.assertNoResult(asked)
                with capturedLogs() as said:
                    self.clock.advance(0.2)
                    for one in (asked, ask(), ask()):
                        error = self.failureResultOf(one, BackendError).value
                        self.assertEqual(str(error), f"the storage does not answer {name}()")
                self.assertEqual(
                    [formatEvent(event) for event in said],
                    [f"The storage has not answered {name}() in 20 s: going on without it"],
                )
                question.assert_called_once_with()
                answers(late)
                self.flushLoggedErrors(ZeroDivisionError)
                question.side_effect = lambda: succeed({})
                self.assertEqual(self.successResultOf(ask()), {})

    def test_a_late_refusal(self) -> None:
        """As of a Redis that has long to answer, and is lost: it is no fault, and in no log."""
        late: list[Deferred[Any]] = [Deferred()]
        self.storage.statistics.side_effect = lambda: late[0]
        asked = self.report.statistics()
        self.clock.advance(ANSWERING)
        self.failureResultOf(asked, BackendError)
        with capturedLogs() as said:
            late.pop().errback(BackendError(ErrorKind.UNAVAILABLE, "storage connection lost"))
            gc.collect()
        self.assertEqual(said, [])

    def test_stop(self) -> None:
        """It has some time; and who does not take it is not waited for."""
        stopped: Deferred[None] = Deferred()
        self.storage.stop.side_effect = lambda: stopped
        done = self.report.stop()
        self.clock.advance(STOPPING - 0.1)
        self.assertNoResult(done)
        with capturedLogs() as said:
            self.clock.advance(0.2)
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(
            [formatEvent(event) for event in said],
            ["The storage has not stopped in 10 s: ending without it"],
        )
        self.storage.stop.side_effect = ZeroDivisionError
        self.failureResultOf(self.report.stop(), ZeroDivisionError)
        self.storage.stop.side_effect = lambda: None
        self.successResultOf(self.report.stop())
