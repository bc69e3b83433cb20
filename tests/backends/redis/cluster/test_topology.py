"""What nodes say of the cluster."""

from __future__ import annotations

from typing import Any

import pytest

from redcouch.backends.redis.cluster.topology import (
    Address,
    AddressMap,
    TopologyError,
    read_redirection,
    read_topology,
)

pytestmark = pytest.mark.everywhere

ASKED = ("node", 7000)
PLAIN = AddressMap({})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MOVED 3999 127.0.0.1:6381", (False, ("127.0.0.1", 6381))),
        ("ASK 0 127.0.0.1:6381", (True, ("127.0.0.1", 6381))),
        ("MOVED 16383 :6381", (False, ("node", 6381))),
        ("MOVED 16383 ?:6381", (False, ("node", 6381))),
        ("MOVED 1 fe80::1:6381", (False, ("fe80::1", 6381))),
        ("MOVED 1 [fe80::1]:6381", (False, ("fe80::1", 6381))),
        ("MOVED 1 a-host.example:6381", (False, ("a-host.example", 6381))),
        ("ERR unknown command, with args beginning with: MOVED 1 h:6", None),
        ("MOVED 1 h:6 x", None),
        ("MOVED 16384 h:6", None),
        ("MOVED x h:6", None),
        ("MOVED 1 h", None),
        ("CLUSTERDOWN The cluster is down", None),
    ],
)
def test_redirection(text: str, expected: tuple[bool, Address] | None) -> None:
    """The last colon ends the host; an empty one is that of the node that was asked."""
    assert read_redirection(text, ASKED, PLAIN) == expected


def test_addresses_behind_nat() -> None:
    """Ports have an address of their own, or that of their host; others stay as they are."""
    reached_at = AddressMap({("10.0.0.1", 6379): ("out", 7001), ("10.0.0.2", None): ("b", None)})
    assert reached_at(("10.0.0.1", 6379)) == ("out", 7001)
    assert reached_at(("10.0.0.1", 6380)) == ("10.0.0.1", 6380)
    assert reached_at(("10.0.0.2", 6380)) == ("b", 6380)
    redirection = read_redirection("MOVED 7 10.0.0.1:6379", ASKED, reached_at)
    assert redirection == (False, ("out", 7001))


def test_topology() -> None:
    """Slots belong to the first node of their range; some may have none."""
    replica = [b"10.0.0.9", 6379, b"id"]
    reply = [
        [0, 99, [b"10.0.0.1", 6379, b"id", [b"hostname", b"h"]], replica],
        [100, 100, [b"", 6380, b"id"]],
        [200, 16383, [None, 6381, b"id"]],
    ]
    topology = read_topology(reply, ASKED, PLAIN)
    one: Address = ("10.0.0.1", 6379)
    assert topology.owners[0] == topology.owners[99] == one
    assert topology.owners[100] == ("node", 6380)
    assert topology.owners[101] is topology.owners[199] is None
    assert topology.owners[200] == topology.owners[16383] == ("node", 6381)
    assert topology.masters == {one, ("node", 6380), ("node", 6381)}
    assert topology.uncovered == 99


@pytest.mark.parametrize("beside", [[b"ip", b"10.0.0.1"], {b"ip": b"10.0.0.1"}])
def test_a_node_without_a_name(beside: object) -> None:
    """Where nodes are known by their names, one that has none is reached at its address."""
    reply = [[0, 1, [b"h", 6379, b"id", []]], [2, 16383, [b"?", 6379, b"id", beside]]]
    assert read_topology(reply, ASKED, PLAIN).masters == {("h", 6379), ("10.0.0.1", 6379)}


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"OK",
        7,
        [],
        [7],
        [[0, 1]],
        [[0, 16384, [b"h", 1]]],
        [[2, 1, [b"h", 1]]],
        [[0, 1, []]],
        [[0, 1, [b"h"]]],
        [[0, 1, [b"h", b"1"]]],
        [[0, 1, [7, 1]]],
        [[b"0", 1, [b"h", 1]]],
        [[0, 1, [b"?", 1]]],
        [[0, 1, [b"?", 1, b"id", []]]],
    ],
)
def test_no_topology(reply: Any) -> None:
    """Whatever else a node answers is refused with one line."""
    with pytest.raises(TopologyError):
        read_topology(reply, ASKED, PLAIN)
