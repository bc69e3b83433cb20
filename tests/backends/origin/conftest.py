"""A RedCouch over a Redis that is filled from an old memcached."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.support import servers
from tests.support.cluster import Cluster, shared_cluster
from tests.support.requirements import fixture_needs, needs
from tests.support.servers import Memcached, RedCouch, RedisServer
from tests.support.wire import ask

PATIENT = "from-timeout=20"
"""For tests that are not about time, on a machine that may be busy."""


@pytest.fixture(params=["redis", pytest.param("cluster", marks=needs("redis 7.0"))])
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer | Cluster]:
    """One Redis, and a cluster."""
    if request.param == "cluster":
        cluster = shared_cluster("7.0")
        cluster.clear()
        yield cluster
    else:
        with servers.redis_server() as server:
            yield server


@pytest.fixture
@fixture_needs("memcached")
def nodes() -> Iterator[list[Memcached]]:
    """Two memcacheds."""
    with servers.memcached() as one, servers.memcached() as other:
        yield [one, other]


@pytest.fixture(scope="session")
@fixture_needs("memcached")
def running_old() -> Iterator[Memcached]:
    """The memcached behind L{running_warm}."""
    with servers.memcached() as server:
        yield server


@pytest.fixture(scope="session")
def running_warm(running_old: Memcached, any_redis: RedisServer) -> Iterator[RedCouch]:
    """A warm RedCouch, as the last test has left it."""
    url = f"warm:{any_redis.url}?prefix=w:&from={running_old.url}"
    with servers.redcouch(f"{url}&{PATIENT}") as server:
        yield server


@pytest.fixture
def warm(running_warm: RedCouch) -> Iterator[RedCouch]:
    """A warm RedCouch, empty on both sides. Nothing may go wrong in it during the test."""
    assert ask(running_warm.address, b"flush_all\r\n", b"\r\n") == b"OK\r\n"
    yield running_warm
    running_warm.check_log()


@pytest.fixture
def old(warm: RedCouch, running_old: Memcached) -> Memcached:
    """The old memcached behind L{warm}, empty."""
    return running_old


@pytest.fixture
def redis_client(warm: RedCouch, any_redis: RedisServer) -> Iterator[Redis]:
    """The Redis behind L{warm}, empty."""
    with any_redis.client() as client:
        yield client
