"""
What memcached clients have used lately, before a command takes it away from them.

The service notes which prefixes of keys clients use; L{refuse_recent_use} holds against that
the keys that a command is about to change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import click

from redcouch.backends.redis.usage_store import ROOT, tell_senseless
from redcouch.cli.common import Refusal, show_key
from redcouch.cli.storage import Storage
from redcouch.cli.traffic import ago, at, fetch
from redcouch.telemetry.usage import LAPSE, MOST, SEPARATOR, Usage, UsageSample

RECENT = 3600
"""Seconds for which a prefix counts as one that is used."""

_NAMED = 20

_ANY = frozenset(range(256))

force_option = click.option(
    "--force",
    is_flag=True,
    help="Do it nonetheless, where the text above says that nothing is done without.",
)
"""C{--force}, for the argument C{force}."""


def refuse_recent_use(storage: Storage, pattern: bytes, system: bool = False) -> None:
    """
    Name the prefixes that clients have used within the last hour, and that a key which
    matches the pattern may have; and say so where items would come back.

    @param system: RedCouch's own keys are to go, too, which come back while one runs.
    @raise Refusal: there are some.
    """
    usage, now = fetch(storage), storage.clock(ROOT)
    used = [one for one in recently_used(usage, pattern) if one.last > now - RECENT]
    doubts = [*map(tell_senseless, usage.senseless)]
    recorded = usage.recorded.get("prefix", usage.looked or 0)
    if usage.since is not None and recorded > max(usage.since + LAPSE + 1, now - RECENT):
        doubts.append(f"the record of prefixes has been lost, and begins at {at(recorded)}")
    if refilled := storage.why_refilled():
        doubts.append(refilled)
    if system and (usage.looked or 0) > now - LAPSE:
        doubts.append("a RedCouch uses this database, and its own keys: end it first")
    if not (used or doubts):
        return
    if used:
        doubts.append("memcached clients have used such keys within the last hour:")
    for one in used[:_NAMED]:
        prefix = show_key(one.name) or "(without a prefix)"
        doubts.append(f"{ago(now - one.last) + ' ago':>12}  {prefix}")
    more = f"and {len(used) - _NAMED} more; " if len(used) > _NAMED else ""
    doubts.append(f"{more}nothing is changed without --force")
    raise Refusal("\n".join(doubts))


def recently_used(usage: Usage, pattern: bytes) -> Iterator[UsageSample]:
    """The prefixes that a key which matches the pattern may have, those used last first."""
    separators = [one.name for one in usage.of(SEPARATOR)]
    tokens = [*read_glob(pattern)]
    text = literals(tokens)
    for one in usage.of("prefix"):
        if one.name:
            if may_begin(tokens, one.name):
                yield one
        elif not (separators and all(any(one in part for part in text) for one in separators)):
            yield one  # by one RedCouch at least, a key that matches may have no prefix
    if "prefix" in usage.left_out:
        others = b"(others: no more than %d are kept on record)" % MOST
        yield UsageSample("prefix", others, usage.left_out["prefix"], 0)


Token: TypeAlias = frozenset[int] | None
"""The bytes that may stand in a place; C{None} for any number of any bytes."""


def read_glob(pattern: bytes) -> Iterator[Token]:
    """A glob as Redis reads it, place by place."""
    rest = pattern
    while rest:
        head, rest = rest[:1], rest[1:]
        if head == b"*":
            yield None
        elif head == b"?":
            yield _ANY
        elif head == b"[":
            allowed, rest = _read_class(rest)
            yield allowed
        elif head == b"\\" and rest:
            yield frozenset(rest[:1])
            rest = rest[1:]
        else:
            yield frozenset(head)


def _read_class(rest: bytes) -> tuple[frozenset[int], bytes]:
    """What stands behind a C{[}, and the rest behind the C{]}, which may be missing."""
    negated = rest.startswith(b"^")
    rest = rest.removeprefix(b"^")
    allowed: set[int] = set()
    while rest and rest[:1] != b"]":
        if rest[:1] == b"\\" and len(rest) > 1:
            rest = rest[1:]
            allowed.add(rest[0])
            rest = rest[1:]
        elif rest[1:2] == b"-" and len(rest) > 2:
            low, high = sorted((rest[0], rest[2]))
            allowed.update(range(low, high + 1))
            rest = rest[3:]
        else:
            allowed.add(rest[0])
            rest = rest[1:]
    return (_ANY - allowed if negated else frozenset(allowed)), rest[1:]


def may_begin(tokens: list[Token], prefix: bytes) -> bool:
    """Whether something that matches can begin with this."""
    for token, byte in zip(tokens, prefix, strict=False):
        if token is None:
            return True
        if byte not in token:
            return False
    return len(prefix) <= len(tokens)


def matches(tokens: list[Token], text: bytes) -> bool:
    """Whether this matches."""
    size = len(text)
    ends = {0}  # of what the tokens so far may stand for
    for token in tokens:
        if token is None:
            ends = {*range(min(ends, default=size + 1), size + 1)}
        else:
            ends = {end + 1 for end in ends if end < size and text[end] in token}
    return size in ends


def literals(tokens: Iterable[Token]) -> list[bytes]:
    """The text that each match contains, in pieces."""
    pieces = [b""]
    for token in tokens:
        if token is not None and len(token) == 1:
            pieces[-1] += bytes(token)
        else:
            pieces.append(b"")
    return pieces
