"""C{redcouch sweep}: what nobody has asked for yet, brought over beside a running bridge."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress

import click

from redcouch.backends.origin.url import OriginLocation
from redcouch.cli.common import json_option, rate_option, refuse, work
from redcouch.cli.import_items import Copier, ImportCounts
from redcouch.cli.rate_limit import Pace
from redcouch.cli.warm_storage import (
    WarmLocation,
    WarmStorage,
    open_warm_storage,
    warm_storage_option,
    why_unlike,
)
from redcouch.errors import ServerError
from redcouch.memcached_client.node import BlockingNode


@click.command("sweep")
@warm_storage_option
@rate_option
@json_option
def command(warm: WarmLocation, rate: float | None) -> None:
    """
    Bring over what nobody has asked for yet, while RedCouch serves a storage with warm:.

    Each item is claimed as RedCouch does it, so that nothing comes back that a client deletes or
    changes meanwhile. To go on after Ctrl-C or a lost connection, run it again: what is there
    already is passed over. When it has come to its end in the stage redis-first, the next one is
    possible: redcouch stage redis-only.

    Exit status 1: some items failed, the stage does not allow it, or a RedCouch has other old
    memcacheds in its URL. 3: a memcached or the storage failed.
    """
    origin = warm.origin
    if origin is None:
        raise click.UsageError("give the storage as the service has it, with warm: and from=")
    counts = ImportCounts()
    began = time.monotonic()
    with work(counts.troubles) as stop, open_warm_storage(warm) as opened:
        version, items = _begin(opened, origin)
        left = _Left(opened, version, items)
        pace = Pace(rate, stop)
        copier = Copier(opened.storage, origin.ring, True, pace, counts, left.on_batch)
        for place, address in enumerate(origin.nodes):
            copier.copy_node(place, address)
        whole = not (counts.troubles or counts.counts["failed"] or stop.requested)
        if whole:
            opened.storage.check_same()
            opened.note_swept(version)
        left.note(0 if whole else left.items + counts.counts["failed"] or None)
    counts.seconds = time.monotonic() - began
    counts.end(stop)


class _Left:
    """
    Tells those who look at the storage how many items are left to bring over.

    @ivar items: how many; of memcacheds that have not been listed yet, all that they have.
    """

    def __init__(self, opened: WarmStorage, version: int, items: list[int]) -> None:
        """@param items: how many each has at the start."""
        self._opened = opened
        self._version = version
        self._of_node = items
        self.note(self.items)

    @property
    def items(self) -> int:
        return sum(self._of_node)

    def on_batch(self, place: int, left: int) -> None:
        """One of the memcacheds has so many left; it is noted once a second."""
        self._of_node[place] = left
        if time.monotonic() - self._noted_at >= 1.0:
            self.note(self.items)

    def note(self, items: int | None) -> None:
        """Write it down; C{None} where nobody knows, as a memcached could not be asked."""
        self._noted_at = time.monotonic()
        self._opened.note(left=items or 0, left_in=b"" if items is None else self._version)


def _begin(opened: WarmStorage, origin: OriginLocation) -> tuple[int, list[int]]:
    """
    The version of the stage, if this is one in which something may be brought over, and how many
    items each memcached has: none, if it cannot be asked, of which the sweep tells. Which processes
    they are is noted before: what comes from one that is another one later is missing there.
    """
    with ExitStack() as stack:
        nodes: list[BlockingNode] = []
        items = [0] * len(origin.nodes)
        for place, address in enumerate(origin.nodes):
            with suppress(ServerError):
                node = stack.enter_context(BlockingNode(address))
                items[place] = node.item_count()
                nodes.append(node)
        status = opened.status(nodes)
    why = opened.storage.why_closed() or why_unlike(status.members, origin)
    if status.pending is None:
        why = "the old memcacheds have missed too much to be believed"
    refuse(why)
    return status.version, items
