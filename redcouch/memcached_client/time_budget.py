"""How long one request may wait for the old side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from redcouch.process.clock import cancel

T = TypeVar("T")


class TimeBudget:
    """
    Seconds that are spent on one request, however many questions it takes.
    Only what is spent on the old side counts.

    @ivar left: what is left of them.
    @ivar began: since when.
    """

    def __init__(self, seconds: float, clock: Any) -> None:
        self.left = seconds
        self.began: float = clock.seconds()
        self._clock = clock

    @contextmanager
    def spending(self) -> Iterator[None]:
        """What is waited for inside is waited for at the same time."""
        began = self._clock.seconds()
        try:
            yield
        finally:
            self.left -= self._clock.seconds() - began

    def limit(self, answer: Deferred[T]) -> Deferred[T]:
        """The same answer, cancelled where it takes longer than what is left."""
        if answer.called:
            return answer
        timer: IDelayedCall = self._clock.callLater(max(0.0, self.left), lambda: over())

        def over() -> None:
            # If it was this process that was busy, the answer is there to be read, and is read
            # before this is called.
            nonlocal timer
            timer = self._clock.callLater(0, answer.cancel)

        def stop(result: T) -> T:
            cancel(timer)
            return result

        return answer.addBoth(stop)
