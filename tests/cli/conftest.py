"""What the tests of the subcommands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis

from tests.support import servers
from tests.support.cluster import Cluster, redis_cluster
from tests.support.requirements import needs
from tests.support.servers import Memcached, RedCouch, RedisServer

_OVER = {"redis": "redis", "cluster": pytest.param("cluster", marks=needs("redis 7.0"))}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """C{@pytest.mark.over("redis", "cluster")}: what L{any_redis} is, one after the other."""
    over = metafunc.definition.get_closest_marker("over")
    if over is not None and "any_redis" in metafunc.fixturenames:
        kinds = [_OVER[name] for name in over.args]
        metafunc.parametrize("any_redis", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def any_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer | Cluster]:
    """A Redis, or a cluster for a test that says so; behind L{running_redcouch}."""
    with ExitStack() as running:
        if getattr(request, "param", "redis") == "redis":
            yield running.enter_context(servers.redis_server())
        else:
            yield running.enter_context(redis_cluster(version="7.0", replicas=False))


@pytest.fixture(scope="session")
def running_redcouch(any_redis: RedisServer | Cluster) -> Iterator[RedCouch]:
    """A RedCouch over it, as the last test has left it."""
    with servers.redcouch(any_redis.url) as server:
        yield server


@pytest.fixture
def old(memcached: Memcached) -> str:
    """The URL of an empty memcached."""
    return memcached.url


@pytest.fixture
def client(any_redis: RedisServer, redcouch: RedCouch) -> Iterator[redis.Redis]:
    """The Redis behind an empty RedCouch, without a key in it."""
    with any_redis.client() as client:
        client.flushall()
        yield client


@pytest.fixture(params=["hex", "raw"])
def storage(any_redis: RedisServer, client: redis.Redis, request: pytest.FixtureRequest) -> str:
    """The URL of an empty storage, in each encoding."""
    return f"{any_redis.url}/0?encoding={request.param}"
