"""What an operator may say of a ring, and what clients publish of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcouch.errors import ConfigurationError
from redcouch.memcached_client.address import read_address
from redcouch.memcached_client.rings import SCHEMES, RingNode, make_ring, read_member, read_ring

PLACES = ["10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.3:11212"]


def owners(ring: str, names: Sequence[str], keys: Sequence[str]) -> list[int]:
    """The node that has each key."""
    owner = make_ring(read_ring(ring), [RingNode(name) for name in names]).owner
    return [owner(key.encode()) for key in keys]


@pytest.mark.parametrize("scheme", SCHEMES)
@given(key=st.binary(max_size=250))
def test_any_key_has_an_owner(scheme: str, key: bytes) -> None:
    """Also one that no client of that kind could have written; and it keeps it."""
    ring = make_ring(read_ring(scheme), [RingNode(name) for name in PLACES])
    assert 0 <= ring.owner(key) < 3
    assert ring.owner(key) == ring.owner(key)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_node(scheme: str) -> None:
    """It has everything."""
    assert make_ring(read_ring(scheme), [RingNode("a:1")]).owner(b"key") == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_node_has_a_share(scheme: str) -> None:
    """Of many keys, none has all."""
    assert set(owners(scheme, PLACES, [f"{n * n * n}:key" for n in range(900)])) == {0, 1, 2}


@pytest.mark.parametrize(
    ("place", "name", "host"),
    [
        ("Cache-1.Example:7", "Cache-1.Example:7", "Cache-1.Example"),
        ("me:p%40w@Cache-1", "Cache-1:11211", "Cache-1"),
        ("[FE80::1]", "FE80::1:11211", "FE80::1"),
        ("Cache-1:?as=Other:1", "Other:1", "Cache-1"),
    ],
)
def test_a_name_is_hashed_as_it_is_written(place: str, name: str, host: str) -> None:
    """In capitals too, as the clients do."""
    address = read_address(f"memcached://{place}")
    assert (address.ring_node.name, address.host) == (name, host)


def test_xmemcached() -> None:
    """Who has three keys is said in xmemcached's own tests."""
    names = [f"localhost/127.0.0.1:{port}" for port in (8080, 8081, 8082)]
    assert owners("xmemcached", names, ["a1", "a2", "a3"]) == [2, 0, 1]


def test_xmemcached_weights() -> None:
    """A node counts as often as it weighs, on a ring of its own."""
    nodes = [RingNode("10.0.0.1:1", 3), RingNode("10.0.0.2:1")]
    owner = make_ring(read_ring("xmemcached"), nodes).owner
    share = sum(owner(b"%d" % n) == 0 for n in range(4000)) / 4000
    assert 0.65 < share < 0.85


def test_spymemcached() -> None:
    """Who has some keys is said in spymemcached's own tests."""
    names = [f"10.0.1.{last}:11211" for last in range(1, 9)]
    keys = ["137470", "137703", "137936", "138169", "138402", "138635", "139101", "141664"]
    assert owners("spymemcached", names, keys) == [1, 2, 0, 5, 7, 6, 3, 4]


def test_prefixes_that_are_not_hashed() -> None:
    """The longest that fits is left out; a key without one is hashed whole."""
    ring = "modula&hash=md5&unhashed=app:&unhashed=app%3Asessions%26:"
    plain, *prefixed = owners(ring, PLACES, ["key", "app:key", "app:sessions&:key"])
    assert prefixed == [plain, plain]
    whole = [f"other:{n}" for n in range(50)]
    assert owners(ring, PLACES, whole) == owners("modula&hash=md5", PLACES, whole)


def test_hash_tag() -> None:
    """Only what is between the two characters is hashed, if there is something."""
    ring = "twemproxy&hash_tag={}"
    tagged = ["{user}a", "b{user}", "{user}{other}"]
    assert len(set(owners(ring, PLACES, ["user", *tagged]))) == 1
    whole = [f"{form}{n}" for form in ("{}", "{", "}{", "x") for n in range(20)]
    assert owners(ring, PLACES, whole) == owners("twemproxy", PLACES, whole)


@pytest.mark.parametrize(
    ("ring", "same"),
    [
        ("modula&hash=default", "modula"),
        ("modula&hash=one-at-a-time", "modula"),
        ("modula&hash=FNV1A_32", "modula&hash=fnv1a-32"),
        ("ketama-weighted&hash=md5", "ketama-weighted"),
        ("twemproxy&distribution=ketama&hash=fnv1a_64", "twemproxy"),
    ],
)
def test_spellings(ring: str, same: str) -> None:
    """A default can be said, and a hash be written either way."""
    keys = [str(n) for n in range(50)]
    assert owners(ring, PLACES, keys) == owners(same, PLACES, keys)


@pytest.mark.parametrize(
    ("ring", "why"),
    [
        ("", r"^ring=: the schemes are modula, ketama, .*twemproxy$"),
        ("consistent", r"^ring=consistent: the schemes are modula, "),
        ("ketama&hash=sha1", "^ring=ketama: hash=sha1: choose from default, .*murmur3$"),
        ("ketama&hash=", "hash=: choose from"),
        ("ketama&hash", "hash=: choose from"),
        ("ketama&hash=md5&hash=crc", "^ring=ketama: hash is given twice$"),
        ("ketama&hash_tag={}", "^ring=ketama: hash_tag: is unknown; it has hash, unhashed$"),
        ("ketama&distribution=ketama", "distribution: is unknown"),
        ("ketama&", "^ring=ketama: : is unknown"),
        ("ketama&unhashed=", "unhashed: is unknown|unhashed=PREFIX"),
        ("gomemcache&hash=md5", "hash: is unknown; it has unhashed$"),
        ("twemproxy&distribution=random", "distribution=random: choose from ketama, modula$"),
        ("twemproxy&hash_tag={", "hash_tag={: write two characters, as {}$"),
        ("pymemcache&keys=str", "keys=str: choose from text, bytes$"),
    ],
)
def test_refused_rings(ring: str, why: str) -> None:
    """What cannot be meant is refused in one line that says what can."""
    with pytest.raises(ConfigurationError, match=why) as refused:
        read_ring(ring)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("ring", "nodes", "why"),
    [
        ("ketama", [RingNode("a:1"), RingNode("a:1")], "^ring=ketama: two nodes are named a:1$"),
        ("modula", [RingNode("a:1"), RingNode("b:1", 2)], "^ring=modula: b:1 has a weight, "),
        ("ketama", [RingNode("a:1", 3), RingNode("b:1")], "ketama-weighted"),
        ("memjs", [RingNode("a:1", 3)], "has a weight"),
        (
            "spymemcached&distribution=modula",
            [RingNode("10.0.0.1:1", 3), RingNode("10.0.0.2:1")],
            "has a weight",
        ),
        ("xmemcached", [RingNode("a:1"), RingNode("b:1")], "^a:1: .*as=HOST/IP:PORT"),
        ("spymemcached", [RingNode("a:1"), RingNode("b:1")], "^a:1: .*as=HOST/IP:PORT"),
    ],
)
def test_refused_nodes(ring: str, nodes: list[RingNode], why: str) -> None:
    """So are nodes that a client could not have, or whose name would have to be guessed."""
    with pytest.raises(ConfigurationError, match=why) as refused:
        make_ring(read_ring(ring), nodes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("", (None, 1)),
        ("weight=1", (None, 1)),
        ("weight=10000", (None, 10_000)),
        ("as=cache-1:11211", ("cache-1:11211", 1)),
        ("as=cache%261/10.0.0.1:11211&weight=3", ("cache&1/10.0.0.1:11211", 3)),
    ],
)
def test_members(query: str, member: tuple[str | None, int]) -> None:
    """What is said of one node."""
    assert read_member(query) == member


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("weight=0", "^weight=0: write a number from 1 to 10000$"),
        ("weight=", "write a number"),
        ("weight=10001", "write a number"),
        ("weight=1.5", "write a number"),
        ("weight=٣", "write a number"),
        ("weight=" + "9" * 5000, "write a number"),
        ("weight=1&weight=1", "once each$"),
        ("as=a&as=b", "once each$"),
        ("as=", "^as=: a node has as=NAME and weight=NUMBER"),
        ("colour=red", "^colour=red: a node has"),
        ("&", "a node has"),
    ],
)
def test_refused_members(query: str, why: str) -> None:
    """Nothing is guessed, and nothing ignored."""
    with pytest.raises(ConfigurationError, match=why):
        read_member(query)


def test_the_page() -> None:
    """It names every scheme, and each ring and hash that it names is one."""
    page = (Path(__file__).parents[2] / "docs/rings.md").read_text()
    clients, _, parameters = page.partition("## Which one")[2].partition("## Parameters")
    rows = [line for line in clients.splitlines() if line.startswith("| ")][1:]
    rings = [row.rpartition(" | ")[2].split("`")[1] for row in rows]
    assert {read_ring(ring).name for ring in rings} == set(SCHEMES)
    hashes = [row.split(" | ") for row in parameters.splitlines() if row.startswith("| `hash` |")]
    for _, schemes, values in hashes:
        for scheme in schemes.split("`")[1::2]:
            for value in set(values.split("`")[1::2]) - set(SCHEMES) - {"distribution=modula"}:
                read_ring(f"{scheme}&hash={value}")
