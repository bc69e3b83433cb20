"""By which clock a service goes."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.base import ReactorBase

from redcouch.process.clock import keep_steady, uptime


class Reactor(ReactorBase):
    """One that waits for nothing but time."""

    def installWaker(self) -> None:
        pass


def reactor_by(time_of_day: list[float]) -> Any:
    """A reactor as Twisted makes it, where it is this time of day."""
    made: Any = Reactor()
    made.seconds = lambda: time_of_day[0]
    return made


def test_time_of_day_is_set_back() -> None:
    """What is due is done then, and not when that time of day has come again."""
    time_of_day = [time.time()]
    reactor = reactor_by(time_of_day)
    keep_steady(reactor)
    done: list[int] = []
    reactor.callLater(0, done.append, 1)
    time_of_day[0] -= 3600
    assert reactor.timeout() == 0
    reactor.runUntilCurrent()
    assert done == [1]


def test_what_is_due_already() -> None:
    """It is due by the clock that it was asked by, which stays."""
    time_of_day = [time.time()]
    reactor = reactor_by(time_of_day)
    done: list[int] = []
    reactor.callLater(1, done.append, 1)
    keep_steady(reactor)
    time_of_day[0] += 2
    reactor.runUntilCurrent()
    assert done == [1]


def test_uptime() -> None:
    """It is no time of day, and does not go back."""
    first = uptime()
    assert 0 < first <= uptime() < time.time() - 365 * 86400
