"""The keys of one or several memcacheds, as the commands walk through them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from redcouch.cli.progress import Stop
from redcouch.cli.rate_limit import Pace
from redcouch.memcached_client.address import Address
from redcouch.memcached_client.key_listing import ListedKey, ListedKeys
from redcouch.memcached_client.node import BATCH, BlockingNode
from redcouch.memcached_client.rings import Ring


class NodeKeys(NamedTuple):
    """
    @ivar place: of the node in the ring.
    @ivar keys: all that it has named.
    """

    place: int
    node: BlockingNode
    keys: ListedKeys


class Part(NamedTuple):
    """
    @ivar owned: some of a node's keys that are its own.
    @ivar elsewhere: and some that no client looks for there.
    """

    node: BlockingNode
    owned: list[ListedKey]
    elsewhere: list[ListedKey]

    def __len__(self) -> int:
        return len(self.owned) + len(self.elsewhere)


@contextmanager
def listed(place: int, address: Address, stop: Stop) -> Iterator[NodeKeys]:
    """
    Connect to a node and list its keys; of a list that is stopped, what it has so far.

    @raise ServerError: it cannot be reached, gives no list, or fails within the block.
    """
    with BlockingNode(address) as node, node.list_keys(lambda: stop.requested) as keys:
        yield NodeKeys(place, node, keys)


def in_turn(
    lists: Iterable[tuple[int, BlockingNode, Iterable[ListedKey]]],
    ring: Ring,
    pace: Pace,
) -> Iterator[Part]:
    """All keys of all nodes, as the pace allows."""
    for place, node, keys in lists:
        for entries in pace.portions(keys, BATCH):
            part = Part(node, [], [])
            for entry in entries:
                (part.owned if ring.owner(entry.key) == place else part.elsewhere).append(entry)
            yield part
