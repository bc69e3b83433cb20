"""
Plain counters of what happened.

One L{Counters} is made with the service and handed down; sessions and
connections add to it, L{redcouch.telemetry.stats_command} reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Flush,
    Get,
    GetAndTouch,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from redcouch.results import ErrorKind, Failed, MetaItem, Number, Outcome, Result, Stored, Touched
from redcouch.value_lines import Lines


@dataclass(slots=True)
class Counters:
    """Everything that is counted, under memcached's names where it has one."""

    cmd_get: int = 0
    cmd_set: int = 0
    cmd_flush: int = 0
    cmd_touch: int = 0
    get_hits: int = 0
    get_misses: int = 0
    delete_hits: int = 0
    delete_misses: int = 0
    incr_hits: int = 0
    incr_misses: int = 0
    decr_hits: int = 0
    decr_misses: int = 0
    cas_hits: int = 0
    cas_misses: int = 0
    cas_badval: int = 0
    touch_hits: int = 0
    touch_misses: int = 0
    store_too_large: int = 0
    store_no_memory: int = 0
    total_items: int = 0
    total_connections: int = 0
    rejected_connections: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    auth_cmds: int = 0
    auth_errors: int = 0
    idle_kicks: int = 0
    storage_errors: int = 0

    #: Without a token, such as an C{add} of a key that is there. memcached does not count it.
    set_not_stored: int = 0

    #: Of the errors, by what had been asked for.
    get_errors: int = 0
    set_errors: int = 0
    delete_errors: int = 0
    incr_errors: int = 0
    decr_errors: int = 0
    touch_errors: int = 0
    flush_errors: int = 0

    #: Not reset: how many clients are connected now.
    curr_connections: int = 0

    def add(self, more: Counters) -> None:
        """Count all that another has counted."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(more, field.name))

    def reset(self) -> None:
        """As C{stats reset} does: everything to zero but what is so now."""
        for field in fields(self):
            if field.name != "curr_connections":
                setattr(self, field.name, 0)


def _count_get(counters: Counters, command: Get, result: Any) -> None:
    asked = len(result)
    misses = failures = 0
    if result.__class__ is Lines:
        misses = result.misses
    else:
        for found in result:
            if found is None:
                misses += 1
            elif found.__class__ is Failed:
                failures += 1
    if misses:
        counters.get_misses += misses
    if failures:
        counters.storage_errors += failures
        counters.get_errors += failures
    counters.get_hits += asked - misses - failures
    counters.cmd_get += asked


def _count_get_and_touch(counters: Counters, command: GetAndTouch, result: Any) -> None:
    hits = sum(isinstance(found, tuple) for found in result)
    errors = sum(found.__class__ is Failed for found in result)
    counters.cmd_touch += len(result)
    counters.touch_hits += hits
    counters.touch_misses += len(result) - hits - errors
    counters.touch_errors += errors
    counters.storage_errors += errors


def _count_store(counters: Counters, command: Store, result: Result) -> None:
    counters.cmd_set += 1
    stored = result.__class__ is Stored
    if stored:
        counters.total_items += 1
    if command.compare is not None and command.mode in (StoreMode.SET, StoreMode.REPLACE):
        if stored:
            counters.cas_hits += 1
        elif result is Outcome.EXISTS:
            counters.cas_badval += 1
        else:
            counters.cas_misses += 1
    elif not stored:
        counters.set_not_stored += 1


def _count_arithmetic(counters: Counters, command: Arithmetic, result: Result) -> None:
    hit = isinstance(result, Number) and not result.created  # that is neither, as in memcached
    missed = result is Outcome.NOT_FOUND
    counters.total_items += isinstance(result, Number) and result.created
    if command.decrement:
        counters.decr_hits += hit
        counters.decr_misses += missed
    else:
        counters.incr_hits += hit
        counters.incr_misses += missed


def _count_delete(counters: Counters, command: Delete, result: Result) -> None:
    if result is Outcome.DELETED:
        counters.delete_hits += 1
    elif result is Outcome.NOT_FOUND or command.exists_is_miss:
        counters.delete_misses += 1


def _count_touch(counters: Counters, command: Touch, result: Result) -> None:
    counters.cmd_touch += 1
    if result.__class__ is Touched:
        counters.touch_hits += 1
    else:
        counters.touch_misses += 1


def _count_meta_get(counters: Counters, command: MetaGet, result: Result) -> None:
    if command.touch is not None and result is not None:
        counters.cmd_touch += 1
        counters.touch_hits += 1
    else:
        counters.cmd_get += 1
        counters.get_hits += result is not None
        counters.get_misses += result is None
    counters.total_items += isinstance(result, MetaItem) and result.created


def _count_invalidate(counters: Counters, command: Invalidate, result: Result) -> None:
    if result is not Outcome.OK:
        counters.delete_misses += 1
        return
    counters.total_items += command.drop_value
    if not command.stale:  # as in memcached, what is only marked is not deleted
        counters.delete_hits += 1


def _count_discard(counters: Counters, command: Discard, result: Result) -> None:
    """A set that was refused. (As memcached, it does not count as a set.)"""
    counters.store_too_large += 1


def _count_flush(counters: Counters, command: Flush, result: Result) -> None:
    counters.cmd_flush += 1


_LATE = 600_000_000
"""Microseconds by which what is told may be overtaken on its way, at most."""


class CountedUp:
    """
    What the parts of a storage have counted, of those as well that are away or have begun anew: a
    sum of what they say now would go back then, which looks like a burst in a rate.
    """

    def __init__(self) -> None:
        self._sums: dict[str, int] = {}
        self._last: dict[str, Mapping[str, int]] = {}

    def take(self, told: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
        """
        The sums, after what parts have told of each count. Their C{at} is when, by the part's own
        clock: what comes here behind something newer is nothing new, unless that clock has been
        set back.
        """
        for part, counts in told.items():
            last = self._last.get(part, {})
            if 0 < last.get("at", 0) - counts["at"] < _LATE:
                continue
            self._last[part] = counts
            for name in counts.keys() - {"at"}:
                before, now = last.get(name, 0), counts[name]
                more = now - before if now >= before else now
                self._sums[name] = self._sums.get(name, 0) + more
        return dict(self._sums)


_COUNT: dict[type[Command], Callable[[Counters, Any, Any], None]] = {
    Get: _count_get,
    GetAndTouch: _count_get_and_touch,
    Store: _count_store,
    Arithmetic: _count_arithmetic,
    Delete: _count_delete,
    Touch: _count_touch,
    MetaGet: _count_meta_get,
    Invalidate: _count_invalidate,
    Discard: _count_discard,
    Flush: _count_flush,
}


def _count_error(counters: Counters, command: Command) -> None:
    if isinstance(command, Arithmetic):
        name = "decr_errors" if command.decrement else "incr_errors"
    else:
        name = _ERRORS.get(command.__class__, "")
    if name:
        setattr(counters, name, getattr(counters, name) + 1)


#: Where failures of the storage are counted. One of a get or a gat that fails as a whole is one.
_ERRORS: dict[type[Command], str] = {
    Get: "get_errors",
    GetAndTouch: "touch_errors",
    MetaGet: "get_errors",
    Store: "set_errors",
    Discard: "set_errors",
    Delete: "delete_errors",
    Invalidate: "delete_errors",
    Touch: "touch_errors",
    Flush: "flush_errors",
}


def count(counters: Counters, command: Command, result: Result) -> None:
    """Add one answered command to the counters."""
    if result.__class__ is Failed:
        counters.storage_errors += 1
        if result.kind is ErrorKind.OUT_OF_MEMORY:
            counters.store_no_memory += 1
        _count_error(counters, command)
        return
    adder = _COUNT.get(command.__class__)
    if adder is not None:
        adder(counters, command, result)
