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
_LONGEST_PAUSE = 0.05


def eventually(look: Callable[[], T], is_well: Callable[[T], object] = bool) -> T:
    """
    What C{look} gives, once that is well: true, unless C{is_well} says otherwise.

    @raise AssertionError: it never was. The text has what it gave last.
    """
    begun = time.monotonic()
    while not is_well(seen := look()):
        time.sleep(_pause(begun, seen))
    return seen


async def eventually_in_reactor(look: Callable[[], T]) -> T:
    """As L{eventually}, while the reactor goes on."""
    begun = time.monotonic()
    while not (seen := look()):
        await deferLater(reactor, _pause(begun, seen))
    return seen


def _pause(begun: float, seen: object) -> float:
    """Seconds until the next look: more of them for what takes long anyway."""
    waited = time.monotonic() - begun
    assert waited < PATIENCE, f"it did not come about in {PATIENCE:g} s; last: {seen!r}"
    return min(max(_PAUSE, waited / 10), _LONGEST_PAUSE)
