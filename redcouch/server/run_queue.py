"""
Whose turn it is: clients that have sent more than is understood in one go.

A few small packets can hold tens of thousands of requests. Of each client so
much is understood at a time as L{Limits.turn<redcouch.limits.Limits>} says;
who has more waits here, and is served in rounds. A turn of the reactor has a
millisecond for that, so all others (clients with a request or two, the
replies of the storage, the status page) are heard in between.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

SLICE = 0.001
"""Seconds of a turn of the reactor in which those who wait here are served."""


class Runner(Protocol):
    """Somebody who waits for a turn."""

    def take_turn(self) -> None:
        """Do a little. Whoever is not done by then comes again."""


class RunQueue:
    """Serves whoever waits, one after the other."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: deque[Runner] = deque()
        self._is_called = False

    def add(self, runner: Runner) -> None:
        """Wait for a turn. Nobody waits for two."""
        self._waiting.append(runner)
        if not self._is_called:
            self._is_called = True
            self._reactor.callLater(0, self._serve)

    def _serve(self) -> None:
        self._is_called = False
        waiting = self._waiting
        seconds = self._reactor.seconds
        until = seconds() + SLICE
        for _ in range(len(waiting)):
            waiting.popleft().take_turn()
            if seconds() >= until:
                break
        if waiting and not self._is_called:
            self._is_called = True
            self._reactor.callLater(0, self._serve)
