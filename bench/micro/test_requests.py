"""What the interpreter does for one request: codec, backend, and all of it."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import hiredis
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from bench.micro.requests import EXCHANGES, Exchange
from redcouch.backends.redis.backend import RedisBackend
from redcouch.backends.redis.connection import Waiting
from redcouch.backends.redis.hash_codec import HashCodec
from redcouch.backends.redis.layout import Layout
from redcouch.dialects.detect import dialect_name, dialect_of
from redcouch.interfaces import BackendContext
from redcouch.limits import Limits
from redcouch.results import Result
from redcouch.server.session import Session, Shared
from redcouch.telemetry.counters import Counters


class CannedLink:
    """Answers whatever is sent to Redis with the same bytes, read as they always are."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._reader = hiredis.Reader()

    def submit(self, payload: bytes, waiting: Waiting) -> None:
        """As L{redcouch.backends.redis.connection.RedisConnection.submit}."""
        gets = self._reader.gets
        self._reader.feed(self._exchange.replies)
        waiting.done([gets() for _ in range(self._exchange.count)])


def make_backend(exchange: Exchange) -> RedisBackend:
    """The real backend on a link that answers at once."""
    context = BackendContext(Clock(), Limits(), time.time, print)
    link: Any = CannedLink(exchange)
    return RedisBackend(link, HashCodec(Layout(), context), context)


def no_report(group: bytes) -> Deferred[list[tuple[bytes, bytes]] | None]:
    """Nobody asks for statistics here."""
    return succeed(None)


def ignore(*_: object) -> None:
    """Nothing follows from what the session says of itself."""


@pytest.fixture(params=EXCHANGES)
def exchange(request: pytest.FixtureRequest) -> Exchange:
    """Each of the requests in turn."""
    return EXCHANGES[request.param]


def test_codec(benchmark: BenchmarkFixture, exchange: Exchange) -> None:
    """From bytes to a command, and from its result to bytes."""
    dialect = dialect_of(dialect_name(exchange.request), Limits())
    (request,) = dialect.receive(exchange.request)
    results: list[Any] = []
    make_backend(exchange).perform((request.command,), results.append)
    ((result,),) = results

    def both_ways() -> bytes:
        (request,) = dialect.receive(exchange.request)
        return request.encode(result)

    assert benchmark(both_ways) == exchange.reply


def test_backend(benchmark: BenchmarkFixture, exchange: Exchange) -> None:
    """From a command to bytes for Redis, and from its replies to the result."""
    (request,) = dialect_of(dialect_name(exchange.request), Limits()).receive(exchange.request)
    backend = make_backend(exchange)
    commands = (request.command,)
    given: list[Any] = []

    def perform() -> list[Result]:
        backend.perform(commands, given.append)
        answered: list[Result] = given.pop()
        return answered

    (result,) = benchmark(perform)
    assert request.encode(result) == exchange.reply


def test_all(benchmark: BenchmarkFixture, exchange: Exchange) -> None:
    """From the client's bytes to the reply, but for what sockets cost."""
    limits = Limits()
    reset = partial(succeed, None)
    shared = Shared(make_backend(exchange), Counters(), limits, b"1", no_report, reset)
    said: list[bytes] = []
    session = Session(shared, said.append, ignore, ignore, ignore, "nowhere")
    dialect = dialect_of(dialect_name(exchange.request), limits)

    def converse() -> bytes:
        session.submit(dialect.receive(exchange.request))
        return said.pop()

    assert benchmark(converse) == exchange.reply
