"""
The clock by which time passes in a service.

Twisted measures time by the time of day. Where that is set back, whatever is due next waits for
as long: an answer for the end of its turn, and what watches over the connections as well.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


uptime: Callable[[], float] = partial(time.clock_gettime, _CLOCK)
"""
Seconds on a clock that is never set. On Linux it goes on while the machine is
suspended, as the lives of items do in a Redis elsewhere.
"""


LAST_WORDS = 1.0
"""Seconds that a storage has to take what it is told when the service ends: it may stand still."""


async def for_at_most(seconds: float, waited: Awaitable[Any], clock: Any) -> bool:
    """
    Wait until something is done, but no longer: nobody hears then what comes of it. Whether it
    was done.
    """

    async def wait() -> None:
        await waited

    done: Deferred[None] = Deferred()
    Deferred.fromCoroutine(wait()).chainDeferred(done)
    with suppress(TimeoutError):
        await done.addTimeout(seconds, clock)
        return True
    return False


def cancel(call: Any) -> None:
    """Cancel a delayed call, unless it is over or has never been made."""
    if call is not None and call.active():
        call.cancel()


def keep_steady(reactor: Any) -> None:
    """Let a reactor go by L{uptime}, unless something is due already by the clock that it has."""
    if not reactor.getDelayedCalls():
        reactor.seconds = uptime
