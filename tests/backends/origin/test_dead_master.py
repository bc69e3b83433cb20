"""A master of the cluster is away, and nobody takes over: what clients see in each stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from redcouch.backends.origin.stages import Stage
from redcouch.backends.redis.cluster.slots import slot_of
from tests.backends.origin.conftest import PATIENT
from tests.backends.origin.conversation import say, stats
from tests.cli.running import run
from tests.support import servers
from tests.support.cluster import QUICKLY, Cluster, ClusterNode, redis_cluster
from tests.support.polling import PACE, PATIENCE, eventually
from tests.support.servers import Memcached, RedCouch

pytestmark = pytest.mark.once

KEYS = [b"k%d" % number for number in range(30)]

AWAY = b"SERVER_ERROR storage not reachable\r\n"

CHANGES = (b"set %b 0 0 1\r\n7\r\n", b"add %b 0 0 1\r\n7\r\n", b"incr %b 6\r\n", b"touch %b 0\r\n")

ANSWERS = (b"STORED\r\n", b"NOT_STORED\r\n", b"11\r\n", b"TOUCHED\r\n")

FIVE, SEVEN, NONE = b"VA 1\r\n5\r\n", b"VA 1\r\n7\r\n", b"EN\r\n"


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[Cluster]:
    """Three masters, of which each is served while another is away."""
    with redis_cluster(replicas=False, node_timeout=QUICKLY) as running:
        yield running


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """The same, without a key; it is whole again afterwards."""
    running_cluster.wait()
    running_cluster.clear()
    for node in running_cluster.nodes:
        node.ask("CONFIG SET", "cluster-require-full-coverage", "no")
    yield running_cluster
    for node in running_cluster.nodes:
        if not node.is_running:
            node.start()


@pytest.fixture
def url(cluster: Cluster, nodes: list[Memcached]) -> str:
    sources = "&".join(f"from={node.url}" for node in nodes)
    return f"warm:{cluster.url}?{sources}&ring=ketama&{PATIENT}"


@pytest.fixture
def bridge(url: str) -> Iterator[RedCouch]:
    """A RedCouch."""
    with servers.redcouch(url) as running:
        yield running


def begin(bridge: RedCouch, url: str, stage: str) -> None:
    """Have items in a stage, on both sides where it says so."""
    for key in KEYS:
        assert say(bridge, b"set %b 0 0 1\r\n5\r\n" % key) == b"STORED\r\n"
    eventually(lambda: run("stage", stage, "-s", url, "--force").status == 0)


def end(bridge: RedCouch, node: ClusterNode) -> None:
    """A master dies, and that is noticed."""
    node.kill()
    eventually(lambda: f"Cannot reach Redis at {servers.LOOPBACK}:{node.port}" in bridge.log)


def split(cluster: Cluster, node: ClusterNode) -> tuple[list[bytes], list[bytes]]:
    """The keys that are on a node, and the others."""
    there = [key for key in KEYS if cluster.serving(slot_of(b"rc:" + key)) is node]
    return there, [key for key in KEYS if key not in there]


def read(server: RedCouch | Memcached, key: bytes) -> bytes:
    """What it says of a key; a C{get} of it comes to the same."""
    said = say(server, b"mg %b v\r\nmn\r\n" % key, b"MN\r\n").removesuffix(b"MN\r\n")
    got = say(server, b"get %b\r\nmn\r\n" % key, b"MN\r\n").removesuffix(b"MN\r\n")
    assert (said in got) if said == AWAY else (said == NONE) == (got == b"END\r\n"), (said, got)
    return said


def read_old(nodes: list[Memcached], key: bytes) -> bytes:
    """What the old side says of it."""
    return max(read(node, key) for node in nodes)


def at_once(ask: Callable[[], bytes]) -> bytes:
    """What is said within a second; asked again where it was the machine that stood still."""

    def look() -> list[bytes]:
        began = time.monotonic()
        said = ask()
        return [said] if time.monotonic() - began < 1 else []

    return eventually(look)[0]


def assert_no_change(url: str, node: ClusterNode) -> None:
    """The commands do nothing, and name the master that is away."""
    for words in (("stage",), ("sweep",), *(("stage", one.value, "--force") for one in Stage)):
        done = run(*words, "-s", url)
        assert (done.status, f":{node.port}. Connection refused" in done.err) == (3, True), done


@pytest.mark.parametrize("stage", [one.value for one in Stage])
def test_for_good(
    cluster: Cluster, nodes: list[Memcached], url: str, bridge: RedCouch, stage: str
) -> None:
    """
    Other keys are served as ever. Where the old side is right, it answers reads of the dead
    master's keys, and removes them; all else about these fails at once, and is done on no side.
    """
    home = cluster.serving(slot_of(b"{warm}"))
    dead = next(node for node in cluster.masters if node is not home)
    (gone, *there), (deleted, *elsewhere) = split(cluster, dead)
    begin(bridge, url, stage)
    end(bridge, dead)
    reads = stage == "origin-first"
    assert at_once(partial(read, bridge, there[0])) == (FIVE if reads else AWAY)
    for number, change in enumerate(CHANGES):
        assert at_once(partial(say, bridge, change % there[number])) == AWAY
        assert say(bridge, change % elsewhere[number]) == ANSWERS[number]
        assert read_old(nodes, there[number]) == FIVE
    assert say(bridge, b"delete %b\r\n" % gone) == (b"DELETED\r\n" if reads else AWAY)
    assert say(bridge, b"delete %b\r\n" % deleted) == b"DELETED\r\n"
    assert at_once(partial(read, bridge, elsewhere[-1])) == FIVE
    before = stats(bridge)["warm_stage"]
    assert_no_change(url, dead)
    assert stats(bridge)["warm_stage"] == before
    dead.start()
    cluster.wait()
    eventually(lambda: say(bridge, b"mg %b v\r\n" % there[0]) != AWAY)
    if stage != "redis-only":
        eventually(lambda: run("stage", "-s", url).status == 0)
    # It has come back without an item: where the old side is asked, that has them.
    assert read(bridge, gone) == NONE
    assert {read(bridge, key) for key in there} == {NONE if stage == "redis-only" else FIVE}
    if stage != "redis-only":
        assert [read(bridge, key) for key in KEYS] == [read_old(nodes, key) for key in KEYS]


@pytest.mark.parametrize("stage", [one.value for one in Stage])
def test_the_one_with_the_stage(
    cluster: Cluster, nodes: list[Memcached], url: str, bridge: RedCouch, stage: str
) -> None:
    """
    For five seconds, what is there is served, and nothing is brought over or changed; then nobody
    is served until it is back.
    """
    home = cluster.serving(slot_of(b"{warm}"))
    _, (kept, changed, evicted, *_) = split(cluster, home)
    begin(bridge, url, stage)
    with cluster.client() as client:
        client.delete(b"rc:" + evicted)
    killed = served = time.monotonic()
    end(bridge, home)
    assert read(bridge, kept) == FIVE
    lacking = {"origin-first": FIVE, "redis-first": AWAY, "redis-only": NONE}
    assert read(bridge, evicted) == lacking[stage]
    new = say(bridge, b"set %b 0 0 1\r\n7\r\n" % changed)
    assert new == (b"STORED\r\n" if stage == "redis-only" else AWAY)
    assert_no_change(url, home)
    while (asked := time.monotonic()) < killed + PATIENCE and read(bridge, kept) == FIVE:
        served = asked
        time.sleep(PACE)
    assert time.monotonic() - killed > 3
    assert served - killed < 8
    assert read(bridge, kept) == AWAY
    assert say(bridge, b"set %b 0 0 1\r\n7\r\n" % changed) == AWAY
    home.start()
    cluster.wait()
    eventually(lambda: say(bridge, b"mg %b v\r\n" % kept) == FIVE)
    assert read(bridge, changed) == (SEVEN if stage == "redis-only" else FIVE)
