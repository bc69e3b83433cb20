"""
Items of a cluster made into plain strings, which are in other slots: read, write, and
delete if unchanged, since no script can do that in one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

from redis.exceptions import ResponseError

from redcouch.backends.redis import scripts
from redcouch.backends.redis.layout import read_item
from redcouch.cli.storage import Storage, check
from redcouch.results import Failed

_TOGETHER = 20
"""Items whose values are here at one time."""

_ATTEMPTS = 10

_PROVISIONAL = 2**45
"""
Milliseconds to live of a string that is to live for ever, until its item is removed: so it can be
told from one with the same bytes that somebody else has written meanwhile.
"""

_RESTLESS = ResponseError("the item kept changing meanwhile: run it again")

Promoted = Any
"""As C{promote.lua} answers: outcome and flags, or an error."""


@dataclass
class _PendingString:
    """
    One item on its way.

    @ivar left: milliseconds to live; -1 for ever.
    @ivar over_at: when it will be over, in milliseconds of the UNIX time of its node.
    @ivar placed: SHA-1 of the string that has been put in place, and when it will be over, by its
        node; empty where none has.
    """

    item: bytes
    new: bytes
    value: bytes = b""
    flags: bytes = b"0"
    token: bytes = b""
    left: int = -1
    over_at: int = -1
    placed: tuple[str, int] | tuple[()] = ()
    answer: Promoted = None


def promote_across_slots(
    storage: Storage,
    pairs: Sequence[tuple[bytes, bytes]],
    overwrite: bool,
    keep: bool,
    dry_run: bool,
) -> list[Promoted]:
    """
    Promote items, each to a new key.

    @param pairs: the item's key in Redis, and the string's.
    @return: what has become of each.
    """
    answers: list[Promoted] = []
    for begin in range(0, len(pairs), _TOGETHER):
        several = [_PendingString(*pair) for pair in pairs[begin : begin + _TOGETHER]]
        for _ in range(_ATTEMPTS):
            left = [one for one in several if one.answer is None]
            if not left:
                break
            _read(storage, left, dry_run)
            forever = b"" if keep else b"%d" % _PROVISIONAL
            open_ones = [one for one in left if one.answer is None]
            _place(storage, open_ones, forever, overwrite, dry_run)
            if not (keep or dry_run):
                _remove(storage, [one for one in left if one.answer == [b"promoted", one.flags]])
        _retract(storage, [one for one in several if not isinstance(one.answer, list)])
        answers += [_RESTLESS if one.answer is None else one.answer for one in several]
    return answers


def _read(storage: Storage, several: Sequence[_PendingString], dry_run: bool) -> None:
    """See what each item is now; it has a token then, by which a change is noticed."""
    asking = "" if dry_run else "1"
    found = storage.run(scripts.READ, [[one.item, asking, "1"] for one in several])
    for one, fields in zip(several, found, strict=True):
        if isinstance(fields, Exception):
            one.answer = fields
            continue
        one.flags = fields[2] or b"0"
        item = read_item(fields[:3])
        if item is None:
            one.answer = [b"gone", one.flags]
        elif fields[4] is not None:
            one.answer = [b"stale", one.flags]
        elif isinstance(item, Failed):
            one.answer = [b"unreadable", one.flags]
        else:
            one.value, one.token, (one.left, one.over_at) = item.value, fields[3], fields[5:]
    _retract(storage, [one for one in several if one.answer is not None])


def _place(
    storage: Storage,
    several: Sequence[_PendingString],
    forever: bytes,
    overwrite: bool,
    dry_run: bool,
) -> None:
    """Write the strings, or (C{dry_run}) see whether they could be written."""
    if dry_run:
        types = storage.pipeline(("TYPE", one.new) for one in several)
        for one, kind in zip(several, types, strict=True):
            free = check(kind) == b"none" or (overwrite and kind == b"string")
            one.answer = [b"promoted" if free else b"present", one.flags]
        return
    calls = [
        [
            one.new,
            b"=" + one.value,
            forever if one.left < 0 else b"%d" % max(one.left, 1),
            "1" if overwrite else "",
            *(one.placed or ("", "")),
        ]
        for one in several
    ]
    for one, reply in zip(several, storage.run(scripts.PLACE, calls), strict=True):
        if isinstance(reply, int):
            one.placed = sha1(one.value, usedforsecurity=False).hexdigest(), reply
            reply = b"promoted"
        one.answer = reply if isinstance(reply, Exception) else [reply, one.flags]


def _remove(storage: Storage, several: Sequence[_PendingString]) -> None:
    """Remove the items; one that has changed is to be promoted again, and one that has gone not."""
    replies = storage.run(scripts.DELETE, [[one.item, one.token, one.over_at] for one in several])
    for one, reply in zip(several, replies, strict=True):
        if isinstance(reply, Exception):
            one.answer = reply
        elif reply == b"EX":
            one.answer = None
        elif reply == b"NF":
            one.answer = [b"gone", one.flags]
    ends = [*zip(several, replies, strict=True)]
    _retract(storage, [one for one, said in ends if said == b"NF"])
    _retract(storage, [one for one, said in ends if said == 1 and one.left < 0], stay="1")


def _retract(storage: Storage, several: Sequence[_PendingString], stay: str = "") -> None:
    """Take the strings away again, or (C{stay}) let them live for ever."""
    calls = [[one.new, "", "", stay, *one.placed] for one in several if one.placed]
    for reply in storage.run(scripts.PLACE, calls):
        check(reply)
