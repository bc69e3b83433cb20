"""C{redcouch import}: the items of live memcacheds, copied into the storage."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import click
from redis.exceptions import ResponseError

from redcouch.backends.fill_leases import LEASE_SECONDS
from redcouch.backends.redis.layout import SYSTEM_PREFIX
from redcouch.backends.redis.url import RedisLocation
from redcouch.cli.common import (
    end,
    json_option,
    nodes_argument,
    rate_option,
    ring_option,
    storage_url_option,
    tell,
    work,
)
from redcouch.cli.estimate import Estimate, Evictions, estimate
from redcouch.cli.fleet import in_turn, listed
from redcouch.cli.progress import Advance, Stop, progress
from redcouch.cli.rate_limit import Pace
from redcouch.cli.storage import Storage, explain, is_out_of_memory, open_storage
from redcouch.errors import ServerError
from redcouch.memcached_client.address import Address, ring_of
from redcouch.memcached_client.item_reading import Copy, Fault
from redcouch.memcached_client.key_listing import ListedKey
from redcouch.memcached_client.node import BlockingNode, ReadItem, by_weight
from redcouch.memcached_client.rings import Ring

_RESERVED = f"its key in Redis would begin with {SYSTEM_PREFIX.decode()}, which is RedCouch's own"

_LATE = f"it was not read within the {LEASE_SECONDS:.0f} s for which it may be filled in"

_KINDS = ("copied", "present", "expired", "gone", "failed")


@dataclass
class ImportCounts:
    """
    What has become of the keys: C{copied}; C{present} in the storage already; C{expired} or
    otherwise C{gone} since they were listed; C{elsewhere}, on another node than their
    owner, and passed over; C{failed}.

    @ivar listed: how many keys the memcacheds have named.
    @ivar reasons: why they failed, with how often.
    @ivar troubles: memcacheds that were not read to their end, and why.
    @ivar estimate: how much memory it takes, as far as that is known.
    """

    listed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    estimate: Estimate | None = None
    seconds: float = 0.0

    def fail(self, reason: str, count: int = 1) -> None:
        self.counts["failed"] += count
        self.reasons[reason] += count

    @property
    def json(self) -> dict[str, Any]:
        return {
            "listed": self.listed,
            **{kind: self.counts[kind] for kind in (*_KINDS, "elsewhere")},
            "reasons": dict(self.reasons),
            "troubles": self.troubles,
            "estimate": None if self.estimate is None else self.estimate.json,
            "seconds": round(self.seconds, 3),
        }

    def end(self, stop: Stop, refused: str = "") -> NoReturn:
        """See L{redcouch.cli.common.end}."""
        tell(self.json | {"interrupted": stop.requested}, stop.mark + self.text)
        end(stop, self.troubles, self.counts["failed"], refused)

    @property
    def text(self) -> str:
        counts = ", ".join(f"{kind} {self.counts[kind]}" for kind in _KINDS)
        lines = [f"{self.listed} keys in {self.seconds:.1f} s: {counts}"]
        if elsewhere := self.counts["elsewhere"]:
            lines.append(f"  elsewhere {elsewhere}: not on the memcached that the ring names")
        lines += [f"  failed {count}: {reason}" for reason, count in self.reasons.most_common()]
        return "\n".join(lines)


@click.command("import")
@nodes_argument
@ring_option
@storage_url_option("--to", "storage")
@click.option(
    "--if-absent/--overwrite",
    "if_absent",
    default=True,
    show_default=True,
    help="Whether an item that the storage has already stays as it is.",
)
@click.option("--force", is_flag=True, help="Copy though Redis has too little memory for it.")
@rate_option
@json_option
def command(
    nodes: Sequence[Address],
    ring: str | None,
    storage: RedisLocation,
    if_absent: bool,
    force: bool,
    rate: float | None,
) -> None:
    """
    Copy all items of one or several memcacheds into the storage.

    Each MEMCACHED is memcached://[USER:PASSWORD@]HOST[:PORT], where the password is for
    memcached's -Y, or memcached:///path/to/socket. They stay as they
    are, up to the order in which items are evicted. Of several, --ring says which one has a key,
    and what others have of it is passed over; in the order of the clients' own list, each with
    ?as=NAME and ?weight=N where clients know it by another name and have weights.
    Value, flags and remaining time to live are kept, in seconds; CAS
    tokens are new ones, from the storage's counter.

    To go on after Ctrl-C or a lost connection, run it again: what is in the storage already is
    passed over without being read again. Beside a RedCouch with a warm: storage, nothing comes
    back that a client deletes meanwhile, but with --overwrite; in its stage redis-only nothing is
    copied without that. One without warm: does not tell the memcacheds of
    deletions: there, run it before the clients change over.

    Before that, some items of each memcached are measured in Redis. If all of them would take
    more than Redis has left of its maxmemory, nothing is copied without --force. If Redis evicts
    keys meanwhile, the copying ends, with status 3.

    The list of keys goes into a temporary file first (TMPDIR).

    Exit status 1: some items failed, there is no room for them, or the stage does not allow it.
    3: a memcached or the storage failed; the others were copied.
    """
    owners = ring_of(nodes, ring)
    counts = ImportCounts()
    began = time.monotonic()
    refused = ""
    with work(counts.troubles) as stop, open_storage(storage) as opened:
        copier = Copier(opened, owners, if_absent, Pace(rate, stop), counts)
        refused = opened.why_closed() if if_absent else ""
        if not refused:
            counts.estimate = estimate(opened, nodes, owners, if_absent, stop)
            if counts.estimate and counts.estimate.too_much and not force:
                refused = f"{counts.estimate.text}: nothing is copied without --force"
        if not refused:
            for place, address in enumerate(nodes):
                copier.copy_node(place, address)
    counts.seconds = time.monotonic() - began
    counts.end(stop, refused)


@dataclass
class Copier:
    """
    Copies nodes into a storage, batch by batch. What the storage has stays if that is wanted;
    then each item is claimed before it is read, as L{redcouch.backends.fill_leases} says,
    so that it does not come back where a RedCouch has it deleted or changed meanwhile.

    @ivar _on_batch: told how many items the node of a place has left.
    """

    _storage: Storage
    _ring: Ring
    _if_absent: bool
    _pace: Pace
    _tally: ImportCounts
    _on_batch: Callable[[int, int], None] = lambda place, left: None

    def __post_init__(self) -> None:
        self._evictions = Evictions(self._storage)

    def copy_node(self, place: int, address: Address) -> None:
        """Copy what the node of this place owns, or note in the tally why not all of it."""
        if self._pace.stop.requested or self._evictions.count:
            return
        try:
            with listed(place, address, self._pace.stop) as own:
                self._tally.listed += len(own.keys)
                left = len(own.keys)
                self._on_batch(place, left)
                with progress(address.shown, left) as advance:
                    for part in in_turn([own], self._ring, self._pace):
                        self._evictions.check()
                        self._tally.counts["elsewhere"] += len(part.elsewhere)
                        advance(len(part.elsewhere))
                        self._copy(part.node, part.owned, advance)
                        left -= len(part.elsewhere) + len(part.owned)
                        self._on_batch(place, left)
                self._evictions.check(now=True)
        except ServerError as error:
            self._tally.troubles.append(str(error))

    def _copy(self, node: BlockingNode, entries: Sequence[ListedKey], advance: Advance) -> None:
        wanted = [entry for entry in entries if self._storage.may_hold(entry.key)]
        if len(wanted) < len(entries):
            self._tally.fail(_RESERVED, len(entries) - len(wanted))
        if not self._if_absent:
            advance(len(entries) - len(wanted))
            for found in by_weight(node.fetch(wanted)):
                self._count(self._storage.store(self._copies(node, found)))
                advance(len(found))
            return
        for entry in self._fill_in(node, self._absent(wanted)):
            if self._pace.stop.requested:
                return
            if self._fill_in(node, [entry]):  # by itself, it takes less time
                self._tally.fail(_LATE)
        advance(len(entries))

    def _fill_in(self, node: BlockingNode, entries: Sequence[ListedKey]) -> list[ListedKey]:
        """Fill these in. Those whose lease did not hold so long are left, and may be again."""
        leases = self._claim(entries)
        claimed = {entry.key: entry for entry in entries if entry.key in leases}
        left: list[ListedKey] = []
        for found in by_weight(node.fetch([*claimed.values()])):
            copies = self._copies(node, found)
            written = [(key, self._storage.written(copy)) for key, copy in copies]
            replies = self._storage.fill([(key, (leases[key], *rest)) for key, rest in written])
            self._count([reply for reply in replies if reply != b"NS"])
            answered = zip(copies, replies, strict=True)
            left += self._absent([claimed[key] for (key, _), reply in answered if reply == b"NS"])
        return left

    def _copies(self, node: BlockingNode, found: Sequence[ReadItem]) -> list[tuple[bytes, Copy]]:
        """What is a copy of an item; of the others it is noted why they are none."""
        copies = []
        for entry, outcome in found:
            if isinstance(outcome, Copy):
                copies.append((entry.key, outcome))
            else:
                self._note_missing(node, entry, outcome)
        return copies

    def _absent(self, entries: Sequence[ListedKey]) -> list[ListedKey]:
        """Those that the storage does not have."""
        there = self._storage.exist([entry.key for entry in entries])
        absent = [entry for entry, exists in zip(entries, there, strict=True) if not exists]
        self._tally.counts["present"] += len(entries) - len(absent)
        return absent

    def _claim(self, entries: Sequence[ListedKey]) -> dict[bytes, bytes]:
        """The leases on those that may be brought over."""
        leases = {}
        keys = [entry.key for entry in entries]
        for key, lease in zip(keys, self._storage.take_leases(keys), strict=True):
            if isinstance(lease, ResponseError):
                self._tally.fail(_why(lease))
            elif lease == b"NS":
                self._tally.fail("the old memcacheds have missed too many changes")
            elif lease == b"NF":  # what the memcached has of it is out of date
                self._tally.counts["gone"] += 1
            else:
                leases[key] = lease
        return leases

    def _note_missing(self, node: BlockingNode, entry: ListedKey, found: Fault | None) -> None:
        if found is not None:
            self._tally.fail(found.reason)
        elif 0 <= entry.expires <= node.now:
            self._tally.counts["expired"] += 1
        else:
            self._tally.counts["gone"] += 1

    def _count(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            if isinstance(reply, ResponseError):
                self._tally.fail(_why(reply))
            else:
                self._tally.counts["copied"] += 1


def _why(error: ResponseError) -> str:
    """Redis' refusal without what differs from item to item."""
    text = explain(error)
    if "WRONGTYPE" in text:
        return "a key of another type is in its place in Redis"
    if is_out_of_memory(error):
        return "Redis is out of memory"
    return "Redis said " + text
