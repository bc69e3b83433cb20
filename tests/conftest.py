"""Servers that all tests share."""

from __future__ import annotations

import fcntl
import gc
import importlib.metadata
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from unittest import mock

import pytest
import redis
from hypothesis import HealthCheck, settings

from tests.support import servers
from tests.support.requirements import fixture_needs, needs, redis_name
from tests.support.servers import Memcached, RedCouch, RedisServer
from tests.support.skipping import Skipping
from tests.support.wire import ask

# Who begins the tests in the background of a shell passes an ignored SIGINT on to
# all that they start; some tests interrupt it.
signal.signal(signal.SIGINT, signal.default_int_handler)


# A machine may be busy: how long an example takes says nothing of what it tests.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


# pytest looks Twisted's version up for each test of trial's, redis-py its own for each connection:
# two milliseconds, and half of one.
mock.patch("importlib.metadata.version", cache(importlib.metadata.version)).start()

# Trial makes each module forget for each test which warnings it has given. So do the filters that
# pytest sets for each.
mock.patch("twisted.trial._synctest._setWarningRegistryToNone", lambda modules: None).start()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Skipping(config))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """The tests are there to the end: the garbage collector need not look at them, now or later."""
    gc.disable()
    with _one_compiles():
        collected = yield
    gc.freeze()
    gc.enable()
    return collected


@contextmanager
def _one_compiles() -> Iterator[None]:
    """Of several processes the first one alone compiles the tests; the others read what it made."""
    environment = os.open(sys.prefix, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: each compiles them
            try:
                fcntl.flock(environment, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(environment, fcntl.LOCK_SH)
        yield
    finally:
        os.close(environment)


_LONG = {
    "migration",
    "reliability",
    "test_discovery",
    "test_embedded_cluster",
    "test_on_cluster",
    "test_senseless",
    "test_stages",
    "test_sweep",
    "test_traffic",
    "test_trouble",
}
"""Folders and modules whose tests wait for seconds, rather than work."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each process begins with some of those that take long: none has to be waited for at last."""
    processes: int = getattr(config, "workerinput", {}).get("workercount", 1)
    long: list[pytest.Item] = []
    short: list[pytest.Item] = []
    for item in items:
        (long if _LONG & {item.path.parent.name, item.path.stem} else short).append(item)
    items[:] = [
        item
        for number in range(processes)
        for part in (long, short)
        for item in part[number * len(part) // processes : (number + 1) * len(part) // processes]
    ]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """
    C{-n auto} is three for each CPU: they wait for servers more than half of their time.
    C{-n logical} is one, for who runs beside others: each has to learn all tests.
    """
    for_each = 1 if config.option.numprocesses == "logical" else 3
    return min(9, for_each * len(os.sched_getaffinity(0)))


def _empty(server: Memcached | RedCouch) -> None:
    """Remove all that an earlier test has left, and a flush that may still wait."""
    assert ask(server.address, b"flush_all\r\n", b"\r\n") == b"OK\r\n"


@pytest.fixture(scope="session")
@fixture_needs("memcached")
def running_memcached() -> Iterator[Memcached]:
    """A real memcached, as the last test has left it."""
    with servers.memcached() as server:
        yield server


@pytest.fixture
@fixture_needs("memcached")
def own_memcached() -> Iterator[Memcached]:
    """A real memcached that no other test has spoken to."""
    with servers.memcached() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that is the test's own."""
    with servers.redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def any_redis() -> Iterator[RedisServer]:
    """The Redis behind L{running_redcouch}."""
    with servers.redis_server() as server:
        server.rest()
        yield server


@pytest.fixture(scope="session")
def running_redcouch(any_redis: RedisServer) -> Iterator[RedCouch]:
    """A RedCouch over a Redis, as the last test has left it."""
    with servers.redcouch(any_redis.url) as server:
        yield server


@pytest.fixture
def memcached(running_memcached: Memcached) -> Memcached:
    """A real memcached, empty."""
    _empty(running_memcached)
    return running_memcached


@pytest.fixture
def redcouch(running_redcouch: RedCouch) -> Iterator[RedCouch]:
    """A RedCouch over a Redis, empty. Nothing may go wrong in it during the test."""
    _empty(running_redcouch)
    yield running_redcouch
    running_redcouch.check_log()


@pytest.fixture(
    scope="session",
    params=[pytest.param(one, marks=needs(redis_name(one))) for one in servers.REDIS_VERSIONS],
)
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A Redis of each version in turn."""
    with servers.redis_server(version=request.param) as server:
        server.rest()
        yield server


@pytest.fixture(scope="session")
def running_bridge(redis_server: RedisServer) -> Iterator[RedCouch]:
    """A RedCouch over each version of Redis in turn, by its unix socket."""
    with servers.redcouch(redis_server.unix_url) as server:
        yield server


@pytest.fixture
def bridge(running_bridge: RedCouch) -> Iterator[RedCouch]:
    """A RedCouch over each version of Redis in turn, empty."""
    _empty(running_bridge)
    yield running_bridge
    running_bridge.check_log()


@pytest.fixture
def native(redis_server: RedisServer, bridge: RedCouch) -> Iterator[redis.Redis]:
    """A native client of the Redis behind L{bridge}, without a key in it."""
    with redis_server.client() as client:
        client.flushall()
        yield client
