"""
Whatever some send, others are answered within 50 ms.

Measured is how long the service and Redis work while a client waits for its
answer: on a machine with nothing else to do that is how long it waits. A machine
that is busy wakes the client late, and they go on working meanwhile; so of some
tries one has to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.reliability.latency import FLOODS, again_and_again, flood, latencies
from tests.support import servers
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import Wire

MOST = 50
"""Milliseconds."""

SECONDS = 0.5
TRIES = 10

AT_ONCE = ("--drain-timeout", "0")
"""What a flood has left to be answered, to clients that are gone, is not waited for."""


def worked(*pids: int) -> Callable[[], float]:
    """Gives the seconds of CPU time that these processes have had."""
    clocks = [(~pid << 3) | 2 for pid in pids]  # as clock_getcpuclockid has it
    return lambda: sum(map(time.clock_gettime, clocks))


def within(longest: Callable[[], float]) -> bool:
    """Whether the longest wait is short enough, in one of a few tries."""
    return any(longest() < MOST for _ in range(TRIES))


def answers_probe(port: int) -> None:
    with servers.plain(port) as probe:
        probe.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert servers.read_all(probe).startswith(b"HTTP/1.0 200")


def probes(port: int, now: Callable[[], float]) -> list[float]:
    """How long /healthz takes, in milliseconds."""
    found = []
    for _ in range(20):
        began = now()
        answers_probe(port)
        found.append((now() - began) * 1000)
    return found


def harm(server: RedCouch, storage: RedisServer, name: str, hello: bytes = b"") -> list[float]:
    """What a well-behaved client waits beside a flood."""
    now = worked(server.pid, storage.pid)
    with ExitStack() as clients, again_and_again(flood(name)(server, clients)):
        return latencies(server, SECONDS, now, hello)


@pytest.mark.parametrize("name", FLOODS)
def test_floods(name: str, any_redis: RedisServer) -> None:
    """On any dialect; also who only asks whether the service is there is answered."""
    port = servers.free_port()
    with servers.redcouch(any_redis.url, "--http", str(port), *AT_ONCE) as server:
        assert within(lambda: max(harm(server, any_redis, name)))
        now = worked(server.pid, any_redis.pid)
        with ExitStack() as clients, again_and_again(flood(name)(server, clients)):
            assert within(lambda: max(probes(port, now)))


@pytest.mark.parametrize("name", ["32,768 empty lines", "lines of meta no-ops", "small sets"])
def test_floods_of_the_unauthenticated(name: str, any_redis: RedisServer, tmp_path: Path) -> None:
    """Nor does it help them that they have yet to say who they are."""
    users = tmp_path / "users"
    users.write_text("ann:secret\n")
    options = ("--auth-file", str(users), *AT_ONCE)
    with servers.redcouch(any_redis.url, *options, ready=False) as server:
        hello = b"set auth 0 0 10\r\nann secret\r\n"
        assert within(lambda: max(harm(server, any_redis, name, hello)))


def test_all_is_answered(any_redis: RedisServer) -> None:
    """Whoever sends much at once gets every answer, in order, also if it closes its side."""
    lines = [b"set key%d 0 0 3\r\n%03d\r\nget key%d\r\n\r\n" % (n, n, n) for n in range(1000)]
    with servers.redcouch(any_redis.url) as server, Wire(server.address) as wire:
        said = wire.say([*lines, b"quit\r\n"], b"never").reply
    assert said == b"".join(
        b"STORED\r\nVALUE key%d 0 3\r\n%03d\r\nEND\r\nERROR\r\n" % (n, n) for n in range(1000)
    )
