"""
memcached's rules for C{exptime}, as pure functions.

From memcached's protocol.txt ("Expiration times") and its C{realtime()}: 0
never expires, a negative number is over at once, up to 30 days counts from
now, and anything larger is an absolute UNIX time, which may have passed.
"""

from __future__ import annotations

MAX_RELATIVE = 60 * 60 * 24 * 30
"""The largest C{exptime}, in seconds, that counts from now."""


def seconds_left(exptime: int, now: float) -> float | None:
    """
    How long an item with this C{exptime} lives, seen at C{now} (UNIX time in
    seconds): C{None} for ever, 0.0 if it is over already.
    """
    if exptime == 0:
        return None
    if exptime < 0:
        return 0.0
    if exptime <= MAX_RELATIVE:
        return float(exptime)
    return max(0.0, exptime - now)


def lasting(seconds: int, now: float) -> int:
    """The C{exptime} of an item that is to live so many seconds more; 0 for ever."""
    return seconds if seconds <= MAX_RELATIVE else seconds + int(now)


def flush_deadline(exptime: int, now: float) -> float | None:
    """
    When a flush with this C{exptime} is due, in UNIX time; C{None} for at once.
    memcached is a second early with it: a delay of one second is none.
    """
    until = deadline(exptime, now)
    return None if until is None or until - 1 <= now else until - 1


def deadline(exptime: int, now: float) -> float | None:
    """When an item with this C{exptime} ends, in UNIX time; C{None} for never."""
    left = seconds_left(exptime, now)
    return None if left is None else now + left
