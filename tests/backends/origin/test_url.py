"""What a C{warm:} URL may say, and what is shown of it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import reactor

from redcouch.backends.origin.backend import warm
from redcouch.backends.origin.url import read_location, storage_of
from redcouch.backends.per_command import PerCommandBackend
from redcouch.build import Storage, make_storage
from redcouch.errors import ConfigurationError
from redcouch.interfaces import BackendContext, IFillableBackend, ILocalBackend, ITrafficBackend
from redcouch.limits import Limits
from redcouch.memcached_client.rings import RingNode, make_ring, read_ring
from redcouch.urls import redact


def test_whole() -> None:
    """The storage keeps what belongs to it."""
    url = (
        "warm:redis://h:1/2?prefix=x:&from=memcached://a:3&from-timeout=2&timeout=5"
        "&from=memcached:///s&ring=modula"
    )
    location = read_location(url)
    assert location.storage == "redis://h:1/2?prefix=x:&timeout=5"
    assert [node.shown for node in location.nodes] == ["memcached://a:3", "memcached:///s"]
    assert location.timeout == 2
    assert read_location(location.around("redis+unix:///r?db=0")).storage == "redis+unix:///r?db=0"
    assert read_location(location.around("memory:")).nodes == location.nodes
    assert read_location("WARM:memory:?from=memcached://a").timeout == 0.1


@pytest.mark.parametrize(
    "url",
    [
        "warm:redis://h?from=memcached://a?weight=2&as=b:1&from=memcached://c:2&ring=dalli",
        "warm:redis://h?ring=dalli&from=memcached://a?as=b:1&weight=2&from=memcached://c:2",
        "warm:redis://h?from=memcached://a&weight=2&as=b:1&from=memcached://c:2&ring=dalli&weight=1",
    ],
)
def test_of_nodes(url: str) -> None:
    """What is said behind a node is the node's."""
    location = read_location(url)
    assert location.storage == "redis://h"
    assert [node.ring_node for node in location.nodes] == [RingNode("b:1", 2), RingNode("c:2")]
    assert [node.shown for node in location.nodes] == ["memcached://a", "memcached://c:2"]
    again = read_location(location.around("memory:"))
    assert again.nodes == location.nodes
    keys = [b"%d" % n for n in range(20)]
    expected = make_ring(read_ring("dalli"), [RingNode("b:1", 2), RingNode("c:2")])
    assert [*map(again.ring.owner, keys)] == [*map(expected.owner, keys)]


def test_of_rings() -> None:
    """A ring's parameters may stand anywhere, and are the storage's where there is no ring."""
    nodes = "from=memcached://a&from=memcached://b"
    keys = [b"{%d}%d" % (n % 5, n) for n in range(50)]
    whole = read_location(f"warm:redis://h?hash=murmur&{nodes}&ring=twemproxy&hash_tag={{}}&x=1")
    assert whole.storage == "redis://h?x=1"
    members = [RingNode("a:11211"), RingNode("b:11211")]
    ring = make_ring(read_ring("twemproxy&hash=murmur&hash_tag={}"), members)
    assert [*map(whole.ring.owner, keys)] == [*map(ring.owner, keys)]
    plain = read_location("warm:redis://h?hash=x&from=memcached://a")
    assert plain.storage == "redis://h?hash=x"


def test_plain() -> None:
    """The commands work on the storage behind."""
    assert storage_of("warm:redis://h?from=memcached://a") == "redis://h"
    assert storage_of("redis://h?prefix=x") == "redis://h?prefix=x"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("warm:redis://h", "say from where"),
        ("warm:redis://h?from=", "write memcached://host:port"),
        ("warm:redis://h?from=redis://a", "write memcached://host:port"),
        ("warm:redis://h?from=memcached://a&from=memcached://a", "twice"),
        ("warm:redis://h?from=memcached://a&from-timeout=1&from-timeout=2", "twice"),
        ("warm:warm:redis://h?from=memcached://a", "warm: twice"),
        ("warm:redis://h?from=memcached://a&from-timeout=soon", "from-timeout has to be seconds"),
        ("warm:redis://h?from=memcached://a&from-timeout=0", "from-timeout has to be seconds"),
        ("warm:redis://h?from=memcached://a&from=memcached://b", "ring=SCHEME .*modula, ketama"),
        ("warm:redis://h?from=memcached://a&from=memcached://b&ring=", "the schemes are modula"),
        ("warm:redis://h?from=memcached://a&from=memcached://b&ring=x", "the schemes are modula"),
        ("warm:redis://h?from=memcached://a&ring=ketama&ring=ketama", "twice"),
        ("warm:redis://h?from=memcached://a&ring=ketama&hash=x", "hash=x: choose from default"),
        ("warm:redis://h?from=memcached://a&ring=ketama&weight=2", "has a weight"),
        ("warm:redis://h?from=memcached://a&weight=2", "belong to a ring"),
        ("warm:redis://h?from=memcached://a?as=b", "belong to a ring"),
        ("warm:redis://h?from=memcached://a?weight=x", "memcached://a: weight=x: write a number"),
        ("warm:redis://h?from=memcached://a?as=b&as=c", "once each"),
        ("warm:redis://h?as=b&from=memcached://a", "unknown parameter 'as'"),
        ("warm:redis://h?hash=md5&from=memcached://a", "unknown parameter 'hash'"),
        (
            "warm:redis://h?from=memcached://a&from=memcached://b?as=a:11211&ring=dalli",
            "two nodes are named a:11211",
        ),
        ("warm:redis://h?from=memcached://a&colour=1", "unknown parameter 'colour'"),
        ("warm:nosuch://h?from=memcached://a", "has to begin with"),
    ],
)
def test_refused(url: str, why: str) -> None:
    """What cannot be meant is refused in one line."""
    with pytest.raises(SystemExit, match=why):
        made(url)


def test_not_fillable() -> None:
    """A storage that knows nothing of leases could bring back what was deleted."""
    location = read_location("warm:memory:?from=memcached://a")
    with pytest.raises(ConfigurationError, match="cannot be filled"):
        warm(PerCommandBackend(), location, context())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "warm:redis://u:pw@h?from=memcached://v:pw@a&from=memcached://b",
            "warm:redis://u:***@h?from=memcached://v:***@a&from=memcached://b",
        ),
        ("warm:redis://h:1?from=memcached://v:pw@a:2", "warm:redis://h:1?from=memcached://v:***@a:2"),
        ("warm:redis://h?from=memcached%3A%2F%2Fv%3Apw%40a", "warm:redis://h?from=***"),
        ("warm:redis+sentinel://h/m?sentinel_password=pw&from=memcached://a",
         "warm:redis+sentinel://h/m?sentinel_password=***&from=memcached://a"),
    ],
)  # fmt: skip
def test_passwords(url: str, shown: str) -> None:
    """No password is shown, of neither side."""
    assert redact(url) == shown


def test_as_its_storage() -> None:
    """It can what its storage can, and is one process's own where that is."""
    of_memory: Any = made("warm:memory:?from=memcached://a").outermost
    assert ILocalBackend.providedBy(of_memory)
    assert of_memory.shared_url is None
    of_redis = made("warm:redis://h?from=memcached://a").outermost
    assert ITrafficBackend.providedBy(of_redis)
    assert not ILocalBackend.providedBy(of_redis)
    assert not IFillableBackend.providedBy(of_redis)


def made(url: str) -> Storage:
    options = {"storage": url, "on-outage": "error", "take-over": False}
    return make_storage(options, context())


def context() -> BackendContext:
    return BackendContext(reactor, Limits(), lambda: 0.0, print)
