"""The servers that are asked the same: real memcacheds, and RedCouch over several storages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests.support import servers
from tests.support.comparison import Subject
from tests.support.requirements import needs, redis_name
from tests.support.servers import MEMCACHED_VERSIONS
from tests.support.wire import Address, ask

STORAGES = {
    "6.2": "?encoding=raw",
    "7.0": "/7?layout=string&flush=all",
    "8.2": "?encoding=hex&cache=1m",
    "valkey 8.1": "/7?layout=string&flush=all&cache=1m",
}
"""
Each server that is supported, and among them each way in which items are kept, with a cache and
without. (In hex without one: L{ours}.)
"""

Start = Callable[[str], Subject]


def _used(address: Address) -> Subject:
    """A server that has given some tokens already, so that no small number is one by chance."""
    ask(address, b"set a 0 0 1 noreply\r\nx\r\n" * 1000 + b"version\r\n", b"\r\n")
    return Subject(address)


@pytest.fixture(scope="session")
def memcached_of() -> Iterator[Start]:
    """Starts a memcached of a version, once."""
    with ExitStack() as stack:

        @cache
        def start(version: str) -> Subject:
            server = stack.enter_context(servers.memcached(version=version))
            return stack.enter_context(_used(server.address))

        yield start


@pytest.fixture(scope="session")
def redcouch_over() -> Iterator[Start]:
    """Starts a RedCouch over one of L{STORAGES}, or over any Redis, once."""
    with ExitStack() as stack:

        @cache
        def start(version: str) -> Subject:
            # A busy machine takes its time over values of megabytes.
            parameters = STORAGES.get(version, "?encoding=hex") + "&timeout=60"
            storage = servers.served_redis(version).url + parameters
            server = stack.enter_context(servers.redcouch(storage))
            return stack.enter_context(_used(server.address))

        yield start


@pytest.fixture(
    params=[pytest.param(one, marks=needs(f"memcached {one}")) for one in MEMCACHED_VERSIONS]
)
def theirs(request: pytest.FixtureRequest, memcached_of: Start) -> Subject:
    """A memcached of each version."""
    return memcached_of(request.param)


@pytest.fixture
def ours(redcouch_over: Start) -> Subject:
    """RedCouch over some Redis."""
    return redcouch_over("")


@pytest.fixture(params=[pytest.param(one, marks=needs(redis_name(one))) for one in STORAGES])
def each_of_ours(request: pytest.FixtureRequest, redcouch_over: Start) -> Subject:
    """RedCouch over each storage."""
    return redcouch_over(request.param)
