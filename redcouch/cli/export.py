"""C{redcouch export}: the storage's items, copied back into memcacheds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from secrets import token_hex
from typing import Any, TypeVar

import click

from redcouch.backends.redis.url import RedisLocation
from redcouch.cli.common import (
    end,
    json_option,
    rate_option,
    read_nodes,
    refuse,
    ring_option,
    show_key,
    show_option,
    storage_option,
    tell,
    work,
)
from redcouch.cli.progress import progress
from redcouch.cli.rate_limit import Pace
from redcouch.cli.storage import Storage, open_storage
from redcouch.cli.verify import Report, compare, kinds_of
from redcouch.errors import ConfigurationError, ServerError
from redcouch.limits import MAX_KEY, Limits, is_key
from redcouch.memcached_client.address import Address, ring_of
from redcouch.memcached_client.item_reading import Copy
from redcouch.memcached_client.node import BATCH, WEIGHT, BlockingNode
from redcouch.memcached_client.rings import Ring
from redcouch.results import Item

_KINDS = ("exported", "gone", "failed")

_LONG_KEY = f"no memcached has a key of more than {MAX_KEY} bytes, or of none"

_LARGE = "its value is larger than its memcached takes (-I)"

Answer = TypeVar("Answer")


@dataclass
class ExportCounts:
    """
    What has become of the items: C{exported}; C{gone} since they were found, or marked stale;
    C{failed}.

    @ivar reasons: why they failed, with how often.
    @ivar named: the first that failed: key, why.
    @ivar evicted: items that the memcacheds have thrown away meanwhile.
    @ivar troubles: servers that have failed, and why.
    """

    most: int
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    named: list[tuple[bytes, str]] = field(default_factory=list)
    evicted: int = 0
    troubles: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def fail(self, key: bytes, reason: str) -> None:
        self.counts["failed"] += 1
        self.reasons[reason] += 1
        if len(self.named) < self.most:
            self.named.append((key, reason))

    @property
    def json(self) -> dict[str, Any]:
        return {
            **{kind: self.counts[kind] for kind in _KINDS},
            "reasons": dict(self.reasons),
            "named": [{"key": show_key(key), "reason": why} for key, why in self.named],
            "evicted": self.evicted,
            "troubles": self.troubles,
            "seconds": round(self.seconds, 3),
        }

    @property
    def text(self) -> str:
        counts = ", ".join(f"{kind} {self.counts[kind]}" for kind in _KINDS)
        lines = [f"{self.counts.total()} items in {self.seconds:.1f} s: {counts}"]
        lines += [f"  failed {count}: {reason}" for reason, count in self.reasons.most_common()]
        lines += [f"  {show_key(key)}: {why}" for key, why in self.named]
        if self.evicted:
            lines.append(
                f"  evicted {self.evicted}: the memcacheds have too little memory for all of it"
            )
        return "\n".join(lines)


@click.command("export")
@click.option(
    "--to",
    "nodes",
    multiple=True,
    required=True,
    callback=read_nodes,
    metavar="MEMCACHED",
    help="A memcached, as for redcouch import. Several times for a fleet, in the clients' order.",
)
@ring_option
@click.option(
    "--flush",
    is_flag=True,
    help="Empty the memcacheds first, so that they keep nothing that the storage does not have. "
    "Where it has nothing, they are left alone.",
)
@show_option("How many failures, and how many differences, to name; all are counted.")
@rate_option
@storage_option
@json_option
def command(
    nodes: Sequence[Address],
    ring: str | None,
    flush: bool,
    show: int,
    rate: float | None,
    storage: RedisLocation,
) -> None:
    """
    Copy all items of the storage into one or several memcacheds, and verify them there.

    The way back. Each MEMCACHED is given as for redcouch import; of several, --ring says
    which one gets a key. Value, flags and remaining time to live are kept, this in seconds, rounded
    up; what would end after 19 January 2038 ends then. What a memcached has under the same key is
    replaced. An item that is marked stale (md with I) counts as gone. What no memcached can hold is
    named: keys of more than 250 bytes, values larger than its -I, and what is no item.

    Then both sides are compared as by redcouch verify, and the differences named: "missing" is
    what only a memcached has. It was there before, and clients that go back would find it: see
    --flush. What clients change meanwhile may differ. So end what writes before the last run.
    To go on after Ctrl-C or a lost connection, run it again. In the stage origin-first of a warm:
    storage, Redis may be out of date, and nothing is exported; nor in redis-first to the old
    memcacheds, which RedCouch keeps as Redis is.

    Exit status 1: some items failed or were evicted, the sides differ, or the stage does not allow
    it. 3: a memcached or the storage failed; the others have what is theirs.
    """
    owners = ring_of(nodes, ring)
    counts = ExportCounts(show)
    report = Report(show, kinds_of(nodes))
    began = time.monotonic()
    with work(counts.troubles) as stop, open_storage(storage) as opened:
        refuse(opened.why_outdated())
        found = chain.from_iterable(opened.scan())
        first = [*islice(found, 1)]
        if flush and not first:
            refuse("there are no items under this prefix: no memcached is emptied")
        pace = Pace(rate, stop)
        with ExitStack() as stack, progress("exporting") as advance:
            targets = [_Target(address, stack, counts.troubles) for address in nodes]
            for target in targets:
                target.ask(lambda node: _refuse_itself(opened, node))
                target.ask(lambda node: _refuse_origin(opened, node))
            if flush and not stop.requested:
                for target in targets:
                    target.ask(BlockingNode.flush)
            exporter = _Exporter(opened, owners, targets, counts)
            for keys in pace.portions(chain(first, found), BATCH):
                exporter.export(keys)
                advance(len(keys))
            counts.evicted = sum(target.evicted for target in targets)
        counts.seconds = time.monotonic() - began
        if not (stop.requested or counts.troubles):
            compare(opened, nodes, owners, pace, report)
    verified = not (stop.requested or counts.troubles)
    report.seconds = time.monotonic() - began - counts.seconds
    differences = report.json | {"complete": verified, "same": verified and not report.counts}
    facts = counts.json | {"interrupted": stop.requested, "verify": differences}
    text = counts.text + ("\n" if verified else "\nnot verified: ") + report.text
    tell(facts, stop.mark + text)
    end(stop, counts.troubles, counts.counts["failed"] or counts.evicted or report.counts)


def _refuse_itself(storage: Storage, node: BlockingNode) -> None:
    """
    A RedCouch over this storage would empty it, and take what clients change meanwhile back.

    @raise ConfigurationError: it is one, as it shows an item that is put into the storage.
    """
    if not node.is_redcouch:
        return
    key = b"redcouch:probe:" + token_hex(8).encode()
    try:
        storage.store([(key, Copy(b"", 0, 10))])
        (shown,) = node.present([key])
    finally:
        storage.unlink(storage.layout.keys_of_item(storage.redis_key(key)))
    if shown:
        raise ConfigurationError(f"{node.address.shown} is a RedCouch over this very storage")


def _refuse_origin(storage: Storage, node: BlockingNode) -> None:
    """An old memcached behind C{warm:} would lose items, or what clients change meanwhile."""
    if why := storage.why_kept_alike(node.process):
        refuse(f"{node.address.shown}: {why}")


class _Target:
    """One memcached, until it fails: then what is meant for it fails too."""

    def __init__(self, address: Address, stack: ExitStack, troubles: list[str]) -> None:
        self._troubles = troubles
        self._node: BlockingNode | None = None
        try:
            self._node = stack.enter_context(BlockingNode(address))
        except ServerError as error:
            troubles.append(str(error))
        self.limits = Limits(self.ask(BlockingNode.item_size) or Limits().max_item_size)
        self._evictions = self.ask(BlockingNode.evictions) or 0

    def ask(self, question: Callable[[BlockingNode], Answer]) -> Answer | None:
        """What it answers; C{None} where it has failed."""
        if self._node is None:
            return None
        try:
            return question(self._node)
        except ServerError as error:
            self._node = None
            self._troubles.append(str(error))
            return None

    @property
    def evicted(self) -> int:
        """How many items it has thrown away since this was made."""
        return max(0, (self.ask(BlockingNode.evictions) or 0) - self._evictions)


@dataclass
class _Exporter:
    """Copies a storage into memcacheds, batch by batch."""

    _storage: Storage
    _ring: Ring
    _targets: Sequence[_Target]
    _tally: ExportCounts

    def export(self, keys: Sequence[bytes]) -> None:
        """Copy up to L{BATCH} items, and count what became of each."""
        for several in self._storage.by_weight(keys, WEIGHT):
            owned: dict[int, list[tuple[bytes, Item, float | None]]] = {}
            for key, stored in zip(several, self._storage.read(several), strict=True):
                item = stored.fresh
                if stored.fault is not None:
                    self._tally.fail(key, stored.fault)
                elif item is None:
                    self._tally.counts["gone"] += 1
                elif self._may_go(key, len(item.value)):
                    owned.setdefault(self._ring.owner(key), []).append((key, item, stored.ttl))
            for place, items in owned.items():
                self._store(self._targets[place], items)

    def _may_go(self, key: bytes, size: int) -> bool:
        """Whether its memcached can hold such an item; it has failed otherwise."""
        if not is_key(key):
            self._tally.fail(key, _LONG_KEY)
        elif not self._targets[self._ring.owner(key)].limits.fits(key, 0, size):
            self._tally.fail(key, _LARGE)
        else:
            return True
        return False

    def _store(self, target: _Target, items: Sequence[tuple[bytes, Item, float | None]]) -> None:
        whys = target.ask(lambda node: node.store(items)) or ["its memcached has failed"] * len(
            items
        )
        for (key, _, _), why in zip(items, whys, strict=True):
            if why is None:
                self._tally.counts["exported"] += 1
            else:
                self._tally.fail(key, why)
