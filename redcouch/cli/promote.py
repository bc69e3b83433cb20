"""C{redcouch promote}: items of the bridge made into plain Redis strings."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import click
from redis.exceptions import RedisError, ResponseError

from redcouch.backends.redis.layout import CAS_COUNTER, SIDE, SYSTEM_PREFIX
from redcouch.backends.redis.replies import is_wrong_type
from redcouch.backends.redis.scripts import PROMOTE
from redcouch.backends.redis.url import RedisLocation
from redcouch.cli.common import (
    end,
    hash_storage_option,
    json_option,
    rate_option,
    refuse,
    show_key,
    tell,
    work,
)
from redcouch.cli.progress import progress
from redcouch.cli.promote_across_slots import promote_across_slots
from redcouch.cli.rate_limit import Pace
from redcouch.cli.recent_use import (
    Token,
    force_option,
    literals,
    matches,
    read_glob,
    refuse_recent_use,
)
from redcouch.cli.storage import BATCH, Storage, explain, open_storage

_EXAMPLES = 10

_WEIGHT = 256 * 1024
"""Bytes of values that Redis is given to turn together: it serves nobody else meanwhile."""

_LEFT = {
    "present": "there is such a key already",
    "stale": "marked stale, a client has to renew it first",
    "unreadable": "the value is no hex, or the flags are no number",
    "wrong_type": "not an item",
    "refused": "the new key would be empty, lie under the prefix, or be a system key",
    "failed": "Redis refused",
}
"""What keeps an item where it is."""


@dataclass(frozen=True, slots=True)
class Renaming:
    """The new key of an item: a beginning C{old} becomes C{new}, other keys stay."""

    old: bytes = b""
    new: bytes = b""

    def __call__(self, key: bytes) -> bytes:
        return self.new + key[len(self.old) :] if key.startswith(self.old) else key


@dataclass
class PromoteCounts:
    """
    @ivar counts: items by what became of them.
    @ivar flagged: promoted items whose client flags were not 0, and are lost.
    @ivar left: the first that stay as they are: key, why.
    @ivar examples: the first that are promoted: old key, new key.
    """

    counts: Counter[str] = field(default_factory=Counter)
    flagged: int = 0
    left: list[tuple[bytes, str]] = field(default_factory=list)
    examples: list[tuple[bytes, bytes]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, key: bytes, new: bytes, outcome: str, flags: bytes, why: str = "") -> None:
        self.counts[outcome] += 1
        if outcome == "promoted":
            self.flagged += flags not in (b"", b"0")
            if len(self.examples) < _EXAMPLES:
                self.examples.append((key, new))
        elif outcome in _LEFT and len(self.left) < _EXAMPLES:
            self.left.append((key, why or _LEFT[outcome]))

    @property
    def undone(self) -> int:
        return sum(self.counts[kind] for kind in _LEFT)

    @property
    def json(self) -> dict[str, Any]:
        return {
            "promoted": self.counts["promoted"],
            "flagged": self.flagged,
            **{kind: self.counts[kind] for kind in _LEFT},
            "examples": [[show_key(old), show_key(new)] for old, new in self.examples],
            "left": [[show_key(key), why] for key, why in self.left],
            "seconds": round(self.seconds, 3),
        }

    def text(self, dry_run: bool, with_flags: bool) -> str:
        verb = "would promote" if dry_run else "promoted"
        lines = [f"{verb} {self.counts['promoted']} in {self.seconds:.1f} s"]
        if dry_run:
            lines += [f"  {show_key(old)} -> {show_key(new)}" for old, new in self.examples]
        if self.flagged and not with_flags:
            lines.append(
                f"{self.flagged} of them have client flags, which a plain string does not keep: "
                "their values may be pickled or compressed"
            )
        lines += [
            f"left {self.counts[kind]}: {why}" for kind, why in _LEFT.items() if self.counts[kind]
        ]
        lines += [f"  {show_key(key)}: {why}" for key, why in self.left]
        return "\n".join(lines)


@click.command("promote")
@click.argument("pattern")
@click.option("--to", type=click.Choice(["string"]), required=True, help="What the items become.")
@click.option(
    "--rename",
    metavar="OLD=NEW",
    help="Begin the new key with NEW where the client's key begins with OLD. Default: the new "
    "key is the client's key.",
)
@click.option("--overwrite", is_flag=True, help="Replace strings that are there under the new key.")
@click.option("--keep", is_flag=True, help="Leave the items where they are, too.")
@click.option(
    "--with-flags",
    is_flag=True,
    help="Keep client flags and CAS tokens in redcouch:sys:item:<new key>, for a RedCouch that "
    "serves the strings to memcached clients.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be done.")
@force_option
@rate_option
@hash_storage_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    pattern: str,
    to: str,
    rename: str | None,
    overwrite: bool,
    keep: bool,
    with_flags: bool,
    dry_run: bool,
    force: bool,
    rate: float | None,
    storage: RedisLocation,
) -> None:
    """
    Turn the items whose keys match PATTERN into plain Redis strings.

    PATTERN is a glob as in Redis over the keys as memcached clients know them, without the prefix.
    The value's bytes become the string, and the time to live goes with it. Each item is turned in
    one step: no client ever sees it in both places, or in none, unless --keep is given. A
    string that is there under the new key stays, unless --overwrite is given; a key of another
    type stays always. An item that is marked stale (md with I) stays an item.

    From then on, memcached clients of the hash layout do not have the item. If they have used
    such keys within the last hour, or a RedCouch with warm: would bring items back from the old
    memcacheds, nothing is done without --force; in the stage origin-first nothing at all, as
    Redis may be out of date. --with-flags keeps
    what a plain string has no room for: flags and CAS token. To go on after
    Ctrl-C or a lost connection, run it again.

    On a cluster, an item and its string are on different nodes, most of the time: the string is
    written first, and then the item is removed if it has not changed meanwhile; otherwise the
    string is written again. So both are there for a moment.

    Exit status 1: some items stay as they are, and it is said why.
    """
    renaming, glob = _read_renaming(rename, ctx), [*read_glob(os.fsencode(pattern))]
    if with_flags and storage.cluster:
        raise click.UsageError("--with-flags: is for one Redis: see docs/cluster.md", ctx)
    if overwrite and not literals(glob)[0].startswith(renaming.old):
        raise click.UsageError(
            "--overwrite with --rename: PATTERN has to begin with OLD, as two items could get one "
            "key otherwise, and one of them be lost",
            ctx,
        )
    counts = PromoteCounts()
    began = time.monotonic()
    troubles: list[str] = []
    with work(troubles) as stop, open_storage(storage) as opened, progress("promoting") as advance:
        refuse(opened.why_outdated())
        if not force:
            refuse_recent_use(opened, os.fsencode(pattern))
        choices = (overwrite, keep, dry_run, with_flags)
        promotion = _Promotion(opened, glob, renaming, choices, counts)
        found = chain.from_iterable(opened.scan(os.fsencode(pattern)))
        for keys in Pace(rate, stop).portions(found, BATCH):
            promotion.promote(keys)
            advance(len(keys))
    counts.seconds = time.monotonic() - began
    facts = counts.json | {"dry_run": dry_run, "interrupted": stop.requested}
    tell(facts, stop.mark + counts.text(dry_run, with_flags))
    end(stop, troubles, counts.undone)


def _read_renaming(text: str | None, ctx: click.Context) -> Renaming:
    if text is None:
        return Renaming()
    old, sign, new = os.fsencode(text).partition(b"=")
    if not sign:
        raise click.UsageError("--rename: write OLD=NEW, as in session:=app:session:", ctx)
    return Renaming(old, new)


@dataclass
class _Promotion:
    """Promotes keys of a storage, batch by batch."""

    _storage: Storage
    _glob: list[Token]
    _renaming: Renaming
    _choices: Sequence[bool]
    _tally: PromoteCounts

    def promote(self, keys: Sequence[bytes]) -> None:
        """Promote those that may be, and count what became of each. One may be named twice."""
        for several in self._storage.by_weight(keys, _WEIGHT):
            self._promote(several)

    def _promote(self, keys: Sequence[bytes]) -> None:
        pairs = []
        for key in keys:
            new = self._renaming(key)
            if self._may_be(new):
                pairs.append((key, new))
            else:
                self._tally.add(key, new, "refused", b"")
        replies = self._ask(pairs)
        taken = self._taken(pairs)
        for (key, new), reply in zip(pairs, replies, strict=True):
            if key != new in taken and _is_promoted(reply):
                reply[0] = b"present"
            self._note(key, new, reply)

    def _taken(self, pairs: Sequence[tuple[bytes, bytes]]) -> set[bytes]:
        """In a dry run, those of the new keys that the items of just these keys would have too."""
        if not self._choices[2]:
            return set()
        others = [
            (new, new)
            for key, new in pairs
            if key != new == self._renaming(new) and matches(self._glob, new)
        ]
        replies = zip(others, self._ask(others), strict=True)
        return {new for (new, _), reply in replies if _is_promoted(reply)}

    def _ask(self, pairs: Sequence[tuple[bytes, bytes]]) -> Sequence[Any]:
        """Promote items of these keys, each to another key: what L{_note} takes."""
        renamed = [(self._storage.redis_key(key), new) for key, new in pairs]
        if self._storage.layout.cluster:
            return promote_across_slots(self._storage, renamed, *self._choices[:3])
        options = ["1" if one else "" for one in self._choices]
        calls = [((item, CAS_COUNTER, new, SIDE + new), options) for item, new in renamed]
        return self._storage.run_with_keys(PROMOTE, calls)

    def _may_be(self, new: bytes) -> bool:
        own = (self._storage.layout.prefix, SYSTEM_PREFIX)
        return bool(new) and not new.startswith(own)

    def _note(self, key: bytes, new: bytes, reply: Any) -> None:
        if isinstance(reply, ResponseError):
            kind = "wrong_type" if is_wrong_type(reply) else "failed"
            self._tally.add(key, new, kind, b"", "" if kind == "wrong_type" else explain(reply))
        elif isinstance(reply, RedisError):
            raise reply
        else:
            outcome, flags = reply
            self._tally.add(key, new, outcome.decode(), flags)


def _is_promoted(reply: Any) -> bool:
    return isinstance(reply, list) and reply[0] == b"promoted"
