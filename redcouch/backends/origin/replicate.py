"""
What commands mean for the old side: pure functions.

The old side may lack what is here, but must not have anything else. So a change
is repeated there, and where the answer shows that it has not come out the same,
the item is removed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil

from redcouch.backends.fill_leases import PauseFills, RevokeAllLeases
from redcouch.commands import (
    Arithmetic,
    Command,
    Effect,
    Flush,
    GetAndTouch,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from redcouch.expiry import MAX_RELATIVE, flush_deadline, seconds_left
from redcouch.memcached_client import protocol as wire
from redcouch.memcached_client.protocol import Reply
from redcouch.results import Failed, MetaItem, Number, Outcome, Result, Stored, Touched, says_away
from redcouch.value_lines import Lines

AROUND_FLUSH = (1.0, 5.0)
"""Seconds before and after a delayed flush in which the two sides may not be equally empty."""

_SAME, _SAME_BY_CLOCKS = 2.0, 3600.0
"""
Seconds by which times to live may differ that are the same; the second where they were given as
UNIX times, which each side reads by its own clock.
"""


def from_now(exptime: int, now: float) -> int:
    """
    What the old side is told for this exptime: of a UNIX time how many seconds are left, as its
    clock may be another one.
    """
    left = ceil(exptime - now)
    if exptime <= MAX_RELATIVE or left > MAX_RELATIVE:
        return exptime
    return left if left > 0 else -1


def effect_of(command: Command, now: float) -> Effect:
    """What becomes of the items, at this UNIX time: an expiry that is over removes them."""
    effect = command.effect
    if effect is Effect.CHANGE:
        exptime = command.new_exptime
        if exptime is not None and seconds_left(exptime, now) == 0.0:
            return Effect.REMOVE
    return effect


def missed(command: Command, result: Result) -> Iterator[bytes]:
    """The keys for which a command that leaves no item in any case has found none."""
    if isinstance(result, list | Lines):
        pairs = zip(command.keys, result, strict=True)
        yield from (key for key, found in pairs if found is None)
    elif result in (None, Outcome.NOT_FOUND, Outcome.NOT_STORED):
        yield from command.keys


def notes_of_flush(flush: Flush, now: float) -> list[Command]:
    """
    What the storage is asked once the old side has been told of a flush as well: to flush what was
    fetched between the two, or to fetch nothing around the time at which it is due.
    """
    due = flush_deadline(flush.exptime, now)
    if due is None:
        return [RevokeAllLeases(), PauseFills(0.0, 0.0), flush]
    before, after = AROUND_FLUSH
    return [PauseFills(due - before, due + after)]


_NOT_REMOVED = (Outcome.EXISTS, Outcome.NOT_STORED, Outcome.NON_NUMERIC)


def not_removed(commands: Iterable[Command], results: Iterable[Result]) -> Iterator[bytes]:
    """The keys of which there may be an item still after commands that were to remove it."""
    for command, result in zip(commands, results, strict=True):
        emptied = isinstance(command, Invalidate) and not command.stale and result is Outcome.OK
        for place, key in enumerate(command.keys):
            part = _part(result, place)
            if emptied or isinstance(part, Failed) or part in _NOT_REMOVED:
                yield key


_LACKING = frozenset((b"NF", b"EN", b"NS"))


@dataclass(frozen=True, slots=True)
class ReplicatedChange:
    """
    A change, as the old side is told of it.

    @ivar agrees: whether the answer shows that both sides are now alike, or
        that there is no item on the old one.
    @ivar token: the CAS token that the item has here if nobody has changed it
        since; C{None} where the change gives it no new one.
    @ivar exptime: the same of its expiry.
    """

    key: bytes
    request: bytes
    agrees: Callable[[Reply], bool]
    token: int | None = None
    exptime: int | None = None

    def lacks(self, reply: Reply) -> bool:
        """Whether the answer shows that the old side does not have what is to be changed."""
        return reply.code in _LACKING and self.agrees is not _is_gone


def lasts(ttl: int | None, exptime: int | None, now: float) -> bool:
    """Whether an item with these seconds to live has this expiry; C{None} for any."""
    left = None if exptime is None else seconds_left(exptime, now)
    if exptime is None or ttl is None or left is None:
        return exptime is None or ttl is left
    return abs(left - ttl) <= (_SAME if exptime <= MAX_RELATIVE else _SAME_BY_CLOCKS)


def replicated_changes(
    commands: Iterable[Command], results: Iterable[Result], now: float
) -> list[ReplicatedChange]:
    """What changes, made at this UNIX time, mean for the old side, in their order."""
    return [
        change
        for command, result in zip(commands, results, strict=True)
        for place, key in enumerate(command.keys)
        if (named := wire.name(key)) is not None
        for change in _changes(command, _part(result, place), key, named, now)
    ]


def _part(result: Result, place: int) -> Result:
    """Of the result for several keys, that of one."""
    return result[place] if isinstance(result, list | Lines) else result


def _changes(
    command: Command, result: Result, key: bytes, named: bytes, now: float
) -> Iterator[ReplicatedChange]:
    match command, result:
        case _, Failed(undone=False):  # nobody knows what has become of it
            agrees = _never if says_away(result) else _is_gone
            yield ReplicatedChange(key, wire.delete(named), agrees)
        case Store(), Stored():
            yield from _changes_of_store(command, result, named, now)
        case Arithmetic(), Number():
            yield from _change_of_arithmetic(command, result, named, now)
        case (Touch(exptime=exptime), Touched()) | (GetAndTouch(exptime=exptime), tuple()):
            yield _touch(key, named, exptime, now)
        case MetaGet(touch=int() as exptime), MetaItem():
            yield _touch(key, named, exptime, now)


def _touch(key: bytes, named: bytes, exptime: int, now: float) -> ReplicatedChange:
    request = wire.touch(named, from_now(exptime, now))
    return ReplicatedChange(key, request, _is_touched, exptime=exptime)


def _changes_of_store(
    command: Store, stored: Stored, named: bytes, now: float
) -> Iterator[ReplicatedChange]:
    key, mode = command.key, command.mode
    if command.invalidate:  # it may be marked stale, or be one to be put there again
        yield ReplicatedChange(key, wire.delete(named), _never)
        return
    if command.appends:
        request = wire.concatenate(named, command.value, mode is StoreMode.PREPEND)
        yield ReplicatedChange(key, request, _is_longer, stored.cas)
        # It may have been another item there, or one that had been repaired with this piece in it.
        yield ReplicatedChange(
            key,
            wire.look(named),
            lambda reply: reply.code == b"EN" or reply.number(b"s") == stored.size,
        )
        return
    exptime = from_now(command.exptime, now)
    request = wire.store(named, command.value, command.flags, exptime)
    yield ReplicatedChange(key, request, _is_stored, stored.cas, command.exptime)


def _change_of_arithmetic(
    command: Arithmetic, number: Number, named: bytes, now: float
) -> Iterator[ReplicatedChange]:
    text = b"%d" % number.value
    if number.created:
        request = wire.store(named, text, 0, from_now(command.exptime, now))
        yield ReplicatedChange(command.key, request, _is_stored, number.cas, command.exptime)
        return
    request = wire.count(named, command.delta, command.decrement)
    yield ReplicatedChange(
        command.key,
        request,
        lambda reply: reply.code == b"NF" or reply.value == text,
        number.cas,
    )
    if command.touch is not None:  # by itself: ma, where it makes a new item, forgets it
        yield _touch(command.key, named, command.touch, now)


def _never(reply: Reply) -> bool:
    """It may be here still."""
    return False


def _is_any(*codes: bytes) -> Callable[[Reply], bool]:
    return lambda reply: reply.code in codes


_is_gone = _is_any(b"HD", b"NF")
_is_touched = _is_any(b"HD", b"EN")
_is_stored = _is_any(b"HD")
_is_longer = _is_any(b"HD", b"NS")
