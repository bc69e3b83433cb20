"""One line when trouble begins, and one when it is over for good."""

from __future__ import annotations

from twisted.internet.task import Clock

from redcouch.server.alarm import QUIET, Alarm


class Case:
    """An alarm, and what it says."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.well = True
        self.over = 0
        self.alarm = Alarm(self.clock, lambda: self.well, self._say)

    def _say(self) -> None:
        self.over += 1


def test_trouble_that_comes_and_goes() -> None:
    """However often it goes wrong meanwhile, it is said once; and that it is over, once."""
    case = Case()
    assert case.alarm.raise_()
    for _ in range(100):
        case.clock.advance(QUIET / 2)
        assert not case.alarm.raise_()
    assert case.over == 0
    case.clock.advance(QUIET - 0.1)
    assert case.over == 0
    case.clock.advance(0.2)
    assert case.over == 1
    case.clock.advance(100)
    assert case.over == 1
    assert case.alarm.raise_()


def test_trouble_that_stays() -> None:
    """While it can be seen that it is not over, nobody says so."""
    case = Case()
    case.well = False
    assert case.alarm.raise_()
    case.clock.pump([QUIET] * 5)
    assert case.over == 0
    case.well = True
    case.clock.advance(QUIET)
    assert case.over == 1
    assert case.clock.getDelayedCalls() == []


def test_stop() -> None:
    """Nothing is left of an alarm that nobody needs any more."""
    case = Case()
    case.alarm.raise_()
    case.alarm.stop()
    assert case.clock.getDelayedCalls() == []
