"""What the tests of the subcommands share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.support.servers import Memcached, RedCouch, RedisServer


@pytest.fixture
def old(memcached: Memcached) -> str:
    """The URL of an empty memcached."""
    return f"memcached://127.0.0.1:{memcached.port}"


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
