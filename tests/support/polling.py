"""Waiting for what comes about by itself: looked at again and again, not slept for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from twisted.internet import reactor
from twisted.internet.task import deferLater

T = TypeVar("T")

PATIENCE = 120.0
"""
Seconds after which a test gives up on what takes a fraction of one on an idle
machine. All waiting of the tests has this limit; what is well never reaches it.
"""

PACE = 0.003
"""
Seconds that a client under whose load something happens waits between its requests: it is to
ask at every moment, and not to keep the machine busy.
"""

_PAUSE = 0.01


def eventually(look: Callable[[], T], is_well: Callable[[T], object] = bool) -> T:
    """
    What C{look} gives, once that is well: true, unless C{is_well} says otherwise.

    @raise AssertionError: it never was. The text has what it gave last.
    """
    deadline = time.monotonic() + PATIENCE
    while not is_well(seen := look()):
        _check(deadline, seen)
        time.sleep(_PAUSE)
    return seen


async def eventually_in_reactor(look: Callable[[], T]) -> T:
    """As L{eventually}, while the reactor goes on."""
    deadline = time.monotonic() + PATIENCE
    while not (seen := look()):
        _check(deadline, seen)
        await deferLater(reactor, _PAUSE)
    return seen


def _check(deadline: float, seen: object) -> None:
    assert time.monotonic() < deadline, f"it did not come about in {PATIENCE:g} s; last: {seen!r}"
