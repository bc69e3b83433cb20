"""C{redcouch verify}: whether the storage has what the memcacheds have."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from redcouch.backends.redis.replies import is_wrong_type
from redcouch.cli.common import (
    Finite,
    end,
    json_option,
    rate_option,
    read_nodes,
    read_storage_url,
    ring_option,
    show_key,
    show_option,
    storage_url_option,
    tell,
    work,
)
from redcouch.cli.fleet import NodeKeys, in_turn, listed
from redcouch.cli.progress import progress
from redcouch.cli.rate_limit import Pace
from redcouch.cli.storage import Storage, StoredItem, check, open_storage
from redcouch.memcached_client.address import Address, ring_of
from redcouch.memcached_client.item_reading import Copy, Fault
from redcouch.memcached_client.key_listing import ListedKey
from redcouch.memcached_client.node import BATCH, BlockingNode, ReadItem, by_weight
from redcouch.memcached_client.rings import Ring
from redcouch.urls import redact

TOLERANCE = 5.0
"""Seconds by which times to live may differ: they are rounded, and not read at once."""

KINDS = ("missing", "extra", "value", "flags", "ttl", "unreadable")

_ELSEWHERE = "elsewhere"

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Difference:
    """
    @ivar kind: one of L{KINDS}, or for a fleet C{elsewhere}.
    @ivar memcached: what is there, for flags, ttl and (as sizes) values.
    @ivar redis: the same of the storage.
    @ivar node: for a copy that is elsewhere: where.
    @ivar owner: and where it would have to be.
    """

    kind: str
    key: bytes
    memcached: str = ""
    redis: str = ""
    node: str = ""
    owner: str = ""

    @property
    def text(self) -> str:
        sides = f"  memcached {self.memcached}, Redis {self.redis}" if self.memcached else ""
        if self.node:
            sides = f"  on {self.node}, its owner is {self.owner}"
        return f"  {self.kind:<10} {show_key(self.key)}{sides}"

    @property
    def json(self) -> dict[str, str]:
        shown = {"kind": self.kind, "key": show_key(self.key)}
        if self.node:
            return shown | {"node": self.node, "owner": self.owner}
        return shown | ({"memcached": self.memcached, "redis": self.redis} if self.redis else {})


@dataclass
class Report:
    """
    @ivar memcached: keys that the memcacheds have named.
    @ivar redis: keys under the prefix.
    @ivar compared: keys of which the items were compared.
    @ivar named: the first differences, up to C{most}.
    @ivar kinds: the kinds of differences that there may be.
    """

    most: int
    kinds: Sequence[str] = KINDS
    memcached: int = 0
    redis: int = 0
    compared: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    named: list[Difference] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, difference: Difference) -> None:
        self.counts[difference.kind] += 1
        if len(self.named) < self.most:
            self.named.append(difference)

    @property
    def json(self) -> dict[str, Any]:
        return {
            "same": not self.counts,
            "memcached": self.memcached,
            "redis": self.redis,
            "compared": self.compared,
            "differences": {kind: self.counts[kind] for kind in self.kinds},
            "named": [one.json for one in self.named],
            "seconds": round(self.seconds, 3),
        }

    @property
    def text(self) -> str:
        found = ", ".join(f"{kind} {self.counts[kind]}" for kind in self.kinds if self.counts[kind])
        lines = [
            f"memcached {self.memcached} items, Redis {self.redis}; "
            f"compared {self.compared} in {self.seconds:.1f} s: {found or 'no differences'}"
        ]
        lines += [one.text for one in self.named]
        rest = self.counts.total() - len(self.named)
        return "\n".join([*lines, f"  and {rest} more"] if rest else lines)


@click.command("verify")
@click.argument("sides", metavar="MEMCACHED... [URL]", nargs=-1, required=True)
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Compare N items. Default: all."
)
@click.option(
    "--ttl-tolerance",
    type=Finite(min=0),
    default=TOLERANCE,
    show_default=True,
    metavar="SECONDS",
    help="By how much times to live may differ; whose end is nearer may be gone on one side.",
)
@show_option("How many differences to name; all are counted.")
@ring_option
@rate_option
@storage_url_option("-s", "--storage", read=lambda *given: given)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    sides: Sequence[str],
    sample: int | None,
    ttl_tolerance: float,
    show: int,
    ring: str | None,
    rate: float | None,
    storage: tuple[click.Context, click.Parameter, str],
) -> None:
    """
    Compare one or several memcacheds with the storage, and name the differences.

    A last argument that is no memcached:// URL is the storage; else it is --storage. Compared are
    value, flags and time to live. A key counts as missing if only memcached has it, as extra if
    only the storage has it, and as unreadable if what is in its place in Redis is no item. An item
    that is marked stale (md with I) counts as not there. Of several memcacheds, the item of a key's
    owner is compared, by --ring; copies on others count as elsewhere. A difference is looked at
    twice, so that what merely changed meanwhile is none. With --sample, so many keys of each side
    are chosen at random; all are counted.

    The list of keys goes into a temporary file first (TMPDIR).

    Exit status 1: they differ.
    """
    if sides[-1].lower().startswith("memcached:"):
        location = read_storage_url(*storage)
    elif ctx.get_parameter_source("storage") is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"name one storage: {redact(sides[-1])} or --storage", ctx)
    else:
        location = read_storage_url(ctx, None, sides[-1])
        sides = sides[:-1]
    addresses = read_nodes(ctx, None, sides)
    if not addresses:
        raise click.UsageError("name a memcached://HOST:PORT to compare with", ctx)
    owners = ring_of(addresses, ring)
    report = Report(show, kinds_of(addresses))
    began = time.monotonic()
    troubles: list[str] = []
    with work(troubles) as stop, open_storage(location) as opened:
        pace = Pace(rate, stop)
        compare(opened, addresses, owners, pace, report, ttl_tolerance, sample)
    report.seconds = time.monotonic() - began
    whole = not (troubles or stop.requested)
    same = {"complete": whole, "same": whole and not report.counts}
    tell(report.json | same, ("" if whole else "not complete: ") + report.text)
    end(stop, troubles, report.counts)


def kinds_of(addresses: Sequence[Address]) -> Sequence[str]:
    """The kinds of differences that there may be between a storage and these memcacheds."""
    return KINDS if len(addresses) == 1 else (*KINDS, _ELSEWHERE)


def compare(
    storage: Storage,
    addresses: Sequence[Address],
    ring: Ring,
    pace: Pace,
    report: Report,
    tolerance: float = TOLERANCE,
    sample: int | None = None,
) -> None:
    """
    Compare memcacheds with a storage, and fill in the report, until it is to stop.

    @raise ServerError: a server fails.
    """
    with ExitStack() as stack:
        lists = [stack.enter_context(listed(*each, pace.stop)) for each in enumerate(addresses)]
        _Comparison(storage, lists, ring, sample, tolerance, pace, report).run()


def difference_of(
    key: bytes, outcome: Copy | Fault, stored: StoredItem, tolerance: float
) -> Difference | None:
    """
    How an item on a memcached and the storage's differ, if they do.

    @param tolerance: seconds by which times to live may.
    """
    if isinstance(outcome, Fault):
        return Difference("unreadable", key, outcome.reason, "not compared")
    if stored.fault is not None:
        return Difference("unreadable", key, "an item", stored.fault)
    item = stored.fresh
    if item is None:
        return None if _is_ending(outcome.ttl, tolerance) else Difference("missing", key)
    if item.value != outcome.value:
        return Difference("value", key, _size(outcome.value), _size(item.value))
    if item.flags != outcome.flags:
        return Difference("flags", key, str(outcome.flags), str(item.flags))
    if not _same_ttl(outcome.ttl, stored.ttl, tolerance):
        return Difference("ttl", key, _ttl(outcome.ttl), _ttl(stored.ttl))
    return None


def _is_ending(ttl: float | None, tolerance: float) -> bool:
    """Whether an item may be over on one side already, and still be there on the other."""
    return ttl is not None and ttl <= tolerance


def _same_ttl(one: float | None, other: float | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= tolerance


@dataclass
class _Comparison:
    """Both sides, batch by batch."""

    _storage: Storage
    _lists: Sequence[NodeKeys]
    _ring: Ring
    _sample: int | None
    _tolerance: float
    _pace: Pace
    _report: Report

    def run(self) -> None:
        """Fill in the report."""
        self._report.memcached = sum(len(one.keys) for one in self._lists)
        self._compare_all()
        self._look_for_extras()

    def _compare_all(self) -> None:
        total = min(self._report.memcached, self._sample or self._report.memcached)
        with progress("comparing", total) as advance:
            for part in in_turn(self._chosen(), self._ring, self._pace):
                self._name_elsewhere(part.node, [entry.key for entry in part.elsewhere])
                doubtful: list[ListedKey] = []
                for found in by_weight(part.node.fetch(part.owned)):
                    self._report.compared += sum(outcome is not None for _, outcome in found)
                    doubtful += [entry for entry, _ in self._compare(found)]
                self._look_again(part.node, doubtful)
                advance(len(part))

    def _owner(self, key: bytes) -> BlockingNode:
        return self._lists[self._ring.owner(key)].node

    def _name_elsewhere(self, node: BlockingNode, keys: Sequence[bytes]) -> None:
        for key, there in zip(keys, node.present(keys), strict=True):
            if there:
                owner = self._owner(key).address.shown
                found = Difference(_ELSEWHERE, key, node=node.address.shown, owner=owner)
                self._report.add(found)

    def _chosen(self) -> Iterable[tuple[int, BlockingNode, Iterable[ListedKey]]]:
        """All keys of all nodes, or a sample of them."""
        if self._sample is None:
            return self._lists
        pairs = ((one.place, entry) for one in self._lists for entry in one.keys)
        chosen: dict[int, list[ListedKey]] = {}
        for place, entry in choose(pairs, self._sample):
            chosen.setdefault(place, []).append(entry)
        return [(place, self._lists[place].node, entries) for place, entries in chosen.items()]

    def _compare(self, found: Sequence[ReadItem]) -> Iterator[tuple[ListedKey, Difference]]:
        """Those that differ, and how."""
        there = self._storage.read([entry.key for entry, _ in found])
        for (entry, outcome), stored in zip(found, there, strict=True):
            if outcome is None:
                continue  # it has gone since it was listed
            difference = difference_of(entry.key, outcome, stored, self._tolerance)
            if difference is not None:
                yield entry, difference

    def _look_again(self, node: BlockingNode, doubtful: Sequence[ListedKey]) -> None:
        """Add the differences that there still are: what changed meanwhile may have looked so."""
        for found in by_weight(node.fetch(doubtful)):
            for _, difference in self._compare(found):
                self._report.add(difference)

    def _look_for_extras(self) -> None:
        """What only the storage has."""
        keys: Iterable[bytes] = self._scanned()
        if self._sample is not None:
            keys = choose(keys, self._sample)
        with progress("looking for extras") as advance:
            for several in self._pace.portions(keys, BATCH):
                self._name_extras(several)
                advance(len(several))

    def _scanned(self) -> Iterator[bytes]:
        for several in self._storage.scan():
            if self._pace.stop.requested:
                return
            self._report.redis += len(several)
            yield from several

    def _name_extras(self, keys: Sequence[bytes]) -> None:
        unknown = self._unknown(self._unknown(keys))
        for key, said in zip(unknown, self._storage.describe(unknown), strict=True):
            if said is None or is_wrong_type(said):
                continue
            _, _, _, left, _, _, stale = check(said)
            if not (stale or _is_ending(None if left < 0 else left / 1000, self._tolerance)):
                self._report.add(Difference("extra", key))

    def _unknown(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Those that their owners do not have."""
        unknown: list[bytes] = []
        for _, node, _ in self._lists:
            owned = [key for key in keys if self._owner(key) is node]
            there = node.present(owned)
            unknown += [key for key, known in zip(owned, there, strict=True) if not known]
        return unknown


def choose(things: Iterable[Thing], count: int) -> list[Thing]:
    """So many of them, each with the same chance, without knowing before how many there are."""
    chosen: list[Thing] = []
    for place, thing in enumerate(things):
        if place < count:
            chosen.append(thing)
        elif (other := random.randrange(place + 1)) < count:
            chosen[other] = thing
    return chosen


def _size(value: bytes) -> str:
    return f"{len(value)} bytes"


def _ttl(seconds: float | None) -> str:
    return "for ever" if seconds is None else f"{seconds:.0f} s"
