"""
Which master serves each slot: as CLUSTER SLOTS says, and as single redirections
correct it. Sends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

from redcouch.backends.redis.cluster.slots import SLOTS

Address = tuple[str, int]
"""Host and port."""

_REDIRECTION = re.compile(r"(MOVED|ASK) (\d+) (\S*):(\d+)$")


class TopologyError(Exception):
    """What a node says is no topology. The text is for the operator."""


class AddressMap:
    """
    The addresses at which nodes are reached, where those that they tell each
    other are others (behind NAT): of single ports, or of a whole host.
    """

    def __init__(self, given: Mapping[tuple[str, int | None], tuple[str, int | None]]) -> None:
        self._given = given

    def __call__(self, address: Address) -> Address:
        host, port = address
        known = self._given.get(address) or self._given.get((host, None))
        return address if known is None else (known[0], known[1] or port)


def read_redirection(
    text: str, asked: Address, reached_at: AddressMap
) -> tuple[bool, Address] | None:
    """
    Where an error of the node at C{asked} sends us: whether this once (ASK), and not from now on
    (MOVED), and the address. C{None} where it says nothing of the kind. An empty host is that of
    the node that was asked.
    """
    found = _REDIRECTION.match(text)
    if found is None or int(found[2]) >= SLOTS:
        return None
    host, port = found[3], int(found[4])
    address = (asked[0], port) if host in ("", "?") else reached_at((_bare(host), port))
    return found[1] == "ASK", address


class Topology:
    """
    @ivar owners: the address of the master of each slot; C{None} for a slot that
        has none.
    @ivar nodes: the names of the masters and of their replicas, by which they know each other.
    """

    def __init__(self, owners: list[Address | None], nodes: Set[bytes] = frozenset()) -> None:
        self.owners = owners
        self.nodes = nodes

    def is_of_another_cluster(self, other: Topology) -> bool:
        """Whether both name nodes, and no node is in both."""
        return bool(self.nodes and other.nodes) and self.nodes.isdisjoint(other.nodes)

    @property
    def masters(self) -> set[Address]:
        """All masters that serve slots."""
        return {owner for owner in self.owners if owner is not None}

    @property
    def uncovered(self) -> int:
        """How many slots nobody serves."""
        return self.owners.count(None)


def read_topology(reply: Any, asked: Address, reached_at: AddressMap) -> Topology:
    """
    What the node at C{asked} answers to CLUSTER SLOTS.

    @raise TopologyError: it makes no sense, or has no slot.
    """
    owners: list[Address | None] = [None] * SLOTS
    nodes: set[bytes] = set()
    try:
        for first, last, master, *replicas in reply:
            host, port = master[0], master[1]
            if not 0 <= first <= last < SLOTS or not isinstance(port, int):
                raise ValueError
            if host == b"?":  # it is to be known by a name, and has none
                facts = master[3]  # a map in RESP3, else a list
                host = facts[b"ip"] if isinstance(facts, dict) else facts[facts.index(b"ip") + 1]
            if not host:
                address = (asked[0], port)
            else:
                address = reached_at((_bare(host.decode("utf-8", "surrogateescape")), port))
            owners[first : last + 1] = [address] * (last + 1 - first)
            nodes.update(node[2] for node in (master, *replicas) if len(node) > 2)
    except (TypeError, ValueError, LookupError, AttributeError):
        raise TopologyError("it answers CLUSTER SLOTS with something unknown") from None
    if owners.count(None) == SLOTS:
        raise TopologyError("no node of its cluster serves a slot")
    return Topology(owners, nodes)


def _bare(host: str) -> str:
    """A host without the brackets that an IPv6 address may have."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host
