"""
Where a migration is, and what blocks its next step, as far as a bridge sees.

Phase 1: services speak memcached through the bridge. Phase 2: others use Redis
natively beside them. Phase 3: nobody has spoken memcached for a day.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

QUIET = 24 * 3600.0
"""Seconds without memcached traffic after which the bridge is not needed any more."""


@dataclass(frozen=True, slots=True)
class Signs:
    """
    @ivar clients: connected by memcached's protocols.
    @ivar quiet: seconds since the last of them asked for something, as far
        back as it is known; C{None} if none ever did.
    @ivar watched: seconds for which that has been watched.
    @ivar natives: connections to Redis that are not the bridge's; C{None}
        where that cannot be known.
    @ivar reachable: whether the storage can be asked.
    @ivar trouble: why clients cannot be served as they should; nothing, if they can.
    @ivar in_redis: whether the C{redcouch} command can work on the storage.
    @ivar items: how many the storage has; C{None} where it does not tell.
    @ivar strings: whether they are plain strings.
    @ivar filled: C{--storage} names an old memcached behind it.
    @ivar onward: the command that leads on from that one; nothing where it is not asked any more.
    @ivar warm: the share of hits that Redis had itself; C{None} before there was any.
    """

    clients: int
    quiet: float | None
    watched: float
    natives: int | None
    filled: bool = False
    onward: str = "redcouch stage"
    warm: float | None = None
    reachable: bool = True
    trouble: str = ""
    in_redis: bool = True
    items: int | None = None
    strings: bool = False


@dataclass(frozen=True, slots=True)
class Phase:
    """
    @ivar number: 1 to 3.
    @ivar says: in one sentence, what is so.
    @ivar blockers: what is still to be done before the next one, a sentence each.
    @ivar command: the one command that comes next; nothing where something has to be mended, or
        the storage is no Redis.
    """

    number: int
    title: str
    says: str
    blockers: list[str] = field(default_factory=list)
    command: str = ""


def phase(signs: Signs) -> Phase:
    """The phase that the signs speak for, and what comes next."""
    found = _phase(signs)
    usable = signs.reachable and not signs.trouble and signs.in_redis
    return replace(found, command=_next_command(found.number, signs) if usable else "")


def _next_command(number: int, signs: Signs) -> str:
    if signs.filled and signs.onward:  # what a native client removes would come back from there
        return signs.onward
    if number == 1:
        if not signs.items and not signs.filled:
            return "redcouch import memcached://HOST:PORT --to URL"
        return "redcouch ls" if signs.strings else "redcouch functions load"
    if number == 2:
        return "redcouch traffic"
    if signs.items and not signs.strings:
        return "redcouch promote '*' --to string"
    return "redcouch cleanup --system"


def _phase(signs: Signs) -> Phase:
    silence = signs.watched if signs.quiet is None else min(signs.quiet, signs.watched)
    if silence >= QUIET and not signs.filled:
        return _native(signs, silence)
    if signs.natives:
        return Phase(
            2,
            "Dual access",
            f"{_some(signs.natives, 'native client')} connected to Redis beside RedCouch.",
            _outage(signs) + _traffic(signs, silence) + _read_through(signs),
        )
    return Phase(
        1,
        "Bridge",
        "Services speak memcached; RedCouch keeps their items in Redis.",
        [
            *_outage(signs),
            *_read_through(signs),
            *_loneliness(signs),
        ],
    )


def _native(signs: Signs, silence: float) -> Phase:
    blockers = _outage(signs)
    if signs.clients:
        blockers.append(f"{_some(signs.clients, 'client')} still connected, though silent.")
    return Phase(3, "Native", f"Nobody has spoken memcached for {_duration(silence)}.", blockers)


def _traffic(signs: Signs, silence: float) -> list[str]:
    blockers = []
    if signs.clients:
        are = "is" if signs.clients == 1 else "are"
        blockers.append(f"{_some(signs.clients, 'memcached client')} {are} connected.")
    if signs.quiet is None or signs.quiet > signs.watched:
        blockers.append(
            f"No memcached traffic seen, but watched for {_duration(silence)} only; "
            f"a day has to pass."
        )
    elif signs.quiet < 60:
        blockers.append("memcached is spoken at this moment.")
    else:
        blockers.append(f"memcached was spoken {_duration(signs.quiet)} ago; a day has to pass.")
    return blockers


def _outage(signs: Signs) -> list[str]:
    if not signs.reachable:
        return ["The storage cannot be reached."]
    return [f"Clients cannot be served as they should: {signs.trouble}."] if signs.trouble else []


def _loneliness(signs: Signs) -> list[str]:
    if signs.filled and signs.onward:
        return []
    if signs.natives == 0:
        return ["No client but the bridge is connected to Redis: move a first service."]
    return ["This storage does not tell who else uses it."] if signs.reachable else []


def _read_through(signs: Signs) -> list[str]:
    if not signs.filled:
        return []
    if not signs.onward:
        return ["The old memcached is not asked any more: --storage without warm: will do."]
    share = "" if signs.warm is None else f": Redis itself had {signs.warm:.1%} of the hits"
    return [f"The old memcached is still asked{share}."]


def _some(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return _some(int(seconds // size), unit)
    return _some(int(seconds), "second")
