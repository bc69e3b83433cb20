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
from redcouch.interfaces import IFillableBackend, ILocalBackend, ITrafficBackend, Surroundings
from redcouch.limits import Limits
from redcouch.urls import redact


def test_whole() -> None:
    """The storage keeps what belongs to it."""
    url = "warm:redis://h:1/2?prefix=x:&from=memcached://a:3&from-timeout=2&timeout=5&from=memcached:///s"
    location = read_location(url)
    assert location.storage == "redis://h:1/2?prefix=x:&timeout=5"
    assert [node.shown for node in location.nodes] == ["memcached://a:3", "memcached:///s"]
    assert location.timeout == 2
    assert read_location(location.around("redis+unix:///r?db=0")).storage == "redis+unix:///r?db=0"
    assert read_location(location.around("memory:")).nodes == location.nodes
    assert read_location("WARM:memory:?from=memcached://a").timeout == 0.1


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
        warm(PerCommandBackend(), location, surroundings())


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
    return make_storage({"storage": url, "on-outage": "error"}, surroundings())


def surroundings() -> Surroundings:
    return Surroundings(reactor, Limits(), lambda: 0.0, print)
