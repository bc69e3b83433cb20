"""C{redcouch stale}: what a fleet has kept where no client looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from pymemcache.client.rendezvous import RendezvousHash

from tests.cli.filling import Given, binary_get, fill
from tests.cli.running import run
from tests.support import servers
from tests.support.requirements import fixture_needs
from tests.support.servers import Memcached, free_port

ODD = (b"two words", b"\x00\xff", bytes(range(1, 251)), b"x" * 250)


@dataclass
class Fleet:
    """Two memcacheds, and what the command needs to know of them."""

    nodes: list[Memcached]

    @property
    def words(self) -> list[str]:
        return [
            *(node.url for node in self.nodes),
            "--ring",
            "pymemcache",
        ]

    def owner(self, key: bytes) -> int:
        names = [f"127.0.0.1:{node.port}" for node in self.nodes]
        return names.index(RendezvousHash(names).get_node(key.decode(errors="surrogateescape")))

    def put(self, key: bytes, right: bool) -> None:
        """An item on its owner, or a copy elsewhere."""
        node = self.nodes[self.owner(key) if right else 1 - self.owner(key)]
        fill(node.address, {key: Given(b"1")})

    def keeps(self, key: bytes) -> list[bool]:
        """Whether the owner has it, and the other one."""
        owner = self.owner(key)
        nodes = [self.nodes[owner], self.nodes[1 - owner]]
        return [binary_get(node.address, key) is not None for node in nodes]


@pytest.fixture
@fixture_needs("memcached")
def fleet() -> Iterator[Fleet]:
    """Fifty items where they belong."""
    with ExitStack() as stack:
        made = Fleet([stack.enter_context(servers.memcached()) for _ in range(2)])
        for number in range(50):
            made.put(b"key%d" % number, right=True)
        yield made


def test_nothing_is_elsewhere(fleet: Fleet) -> None:
    said = run("stale", *fleet.words, "--delete")
    assert (said.status, said.out) == (0, "50 keys, 0 of them not on their owner\n")


@pytest.mark.everywhere
def test_named_and_removed(fleet: Fleet) -> None:
    """Every copy elsewhere is named; with --delete it goes, and its owner's item stays."""
    for number in range(10):
        fleet.put(b"key%d" % number, right=False)
    fleet.put(b"lonely", right=False)
    said = run("stale", *fleet.words, "--show", 3)
    assert said.status == 1
    lines = said.out.splitlines()
    assert lines[0] == "61 keys, 11 of them not on their owner"
    assert len(lines) == 5
    assert ", its owner is memcached://127.0.0.1:" in lines[1]
    assert lines[-1] == "  and 8 more"

    said = run("stale", *fleet.words, "--delete", "--json")
    assert said.status == 0
    assert (said.json["elsewhere"], said.json["deleted"], said.json["failed"]) == (11, 11, 0)
    assert {one["key"] for one in said.json["named"]} >= {"lonely"}
    assert all(fleet.keeps(b"key%d" % number) == [True, False] for number in range(50))
    assert fleet.keeps(b"lonely") == [False, False]


def test_odd_keys(fleet: Fleet) -> None:
    """Those that text can name in base64 go; of others it is said that they stay."""
    for key in ODD:
        fleet.put(key, right=False)
    said = run("stale", *fleet.words, "--delete", "--json")
    assert (said.status, said.json["deleted"], said.json["failed"]) == (1, 3, 1)
    assert [fleet.keeps(key)[1] for key in ODD] == [False, False, True, False]


def test_a_wrong_ring(fleet: Fleet) -> None:
    """What would remove most items is not done, unless it is wanted."""
    first, second, *ring = fleet.words
    wrong = [f"{first}?as={second[12:]}", f"{second}?as={first[12:]}", *ring]
    said = run("stale", *wrong, "--delete")
    assert said.status == 1
    assert said.err == "redcouch: so many that the ring may be a wrong one: see --force\n"
    assert all(fleet.keeps(b"key%d" % number) == [True, False] for number in range(50))
    told = run("stale", *wrong, "--delete", "--force", "--json").json
    assert told["deleted"] == told["elsewhere"] == 50


def test_a_node_that_is_away(fleet: Fleet) -> None:
    """Nothing is said of half a fleet, and nothing removed: status 3."""
    gone = f"memcached://127.0.0.1:{free_port()}"
    said = run("stale", gone, *fleet.words, "--delete", "--json")
    assert (said.status, said.json["complete"], said.json["deleted"]) == (3, False, 0)
    assert said.err == f"redcouch: {gone}: Connection refused\n"
