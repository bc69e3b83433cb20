"""C{redcouch stale}: copies on memcacheds of a fleet that are not their owners."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import click

from redcouch.cli.common import (
    end,
    json_option,
    nodes_argument,
    rate_option,
    ring_option,
    show_key,
    show_option,
    tell,
    work,
)
from redcouch.cli.fleet import NodeKeys, in_turn, listed
from redcouch.cli.progress import progress
from redcouch.cli.rate_limit import Pace
from redcouch.memcached_client.address import Address, ring_of
from redcouch.memcached_client.rings import Ring

_MOST_ELSEWHERE = 1 / 3
"""The part of all keys that may be elsewhere if the ring is to be believed."""


@dataclass
class StaleCounts:
    """
    @ivar listed: keys that the memcacheds have named.
    @ivar named: the first copies elsewhere: key, node, owner.
    @ivar failed: copies that could not be removed.
    """

    listed: int = 0
    elsewhere: int = 0
    deleted: int = 0
    failed: int = 0
    named: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def json(self) -> dict[str, Any]:
        named = [dict(zip(("key", "node", "owner"), one, strict=True)) for one in self.named]
        counts = {"elsewhere": self.elsewhere, "deleted": self.deleted, "failed": self.failed}
        return {"listed": self.listed, **counts, "named": named}

    @property
    def text(self) -> str:
        lines = [f"{self.listed} keys, {self.elsewhere} of them not on their owner"]
        lines += [f"  {key}  on {node}, its owner is {owner}" for key, node, owner in self.named]
        if rest := self.elsewhere - len(self.named):
            lines.append(f"  and {rest} more")
        if self.deleted or self.failed:
            lines.append(f"deleted {self.deleted}, failed {self.failed}")
        return "\n".join(lines)


@click.command("stale")
@nodes_argument
@ring_option
@click.option("--delete", is_flag=True, help="Remove them from these memcacheds.")
@click.option("--force", is_flag=True, help="Remove them though they are many.")
@show_option("How many to name; all are counted.")
@rate_option
@json_option
def command(
    nodes: Sequence[Address],
    ring: str | None,
    delete: bool,
    force: bool,
    show: int,
    rate: float | None,
) -> None:
    """
    Find copies on memcacheds where no client looks for them, as --ring says, which were left
    behind when the fleet was another one. They are out of date by now, and would be found
    again if clients got such a fleet once more.

    The memcacheds are given as for redcouch import. With --delete the copies are removed; the
    owners' items stay. Where more than a third of all keys is elsewhere, the ring is hardly the
    clients' own, and nothing is removed without --force.

    Exit status 1: there are some, or not all could be removed.
    """
    if force and not delete:
        raise click.UsageError("--force: needs --delete")
    owners = ring_of(nodes, ring)
    counts = StaleCounts()
    refused = ""
    troubles: list[str] = []
    with work(troubles) as stop, ExitStack() as stack:
        lists = [stack.enter_context(listed(*each, stop)) for each in enumerate(nodes)]
        search = _Search(lists, owners, Pace(rate, stop), counts)
        search.name(show)
        if delete and not force and counts.elsewhere > counts.listed * _MOST_ELSEWHERE:
            refused = "so many that the ring may be a wrong one: see --force"
        elif delete:
            search.delete()
    tell(counts.json | {"complete": not (troubles or stop.requested)}, stop.mark + counts.text)
    end(stop, troubles, counts.elsewhere - counts.deleted, refused)


@dataclass
class _Search:
    """All nodes' keys, batch by batch."""

    _lists: Sequence[NodeKeys]
    _ring: Ring
    _pace: Pace
    _tally: StaleCounts

    def name(self, most: int) -> None:
        """Count the copies elsewhere, and name the first of them."""
        self._tally.listed = sum(len(one.keys) for one in self._lists)
        for part in in_turn(self._lists, self._ring, Pace(None, self._pace.stop)):
            self._tally.elsewhere += len(part.elsewhere)
            for entry in part.elsewhere[: most - len(self._tally.named)]:
                owner = self._lists[self._ring.owner(entry.key)].node
                self._tally.named.append(
                    (show_key(entry.key), part.node.address.shown, owner.address.shown)
                )

    def delete(self) -> None:
        """Remove them."""
        with progress("deleting", self._tally.listed) as advance:
            for part in in_turn(self._lists, self._ring, self._pace):
                for gone in part.node.delete([entry.key for entry in part.elsewhere]):
                    self._tally.deleted += gone
                    self._tally.failed += not gone
                advance(len(part))
