"""Histories that can have come about and that cannot, and those of real clients."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Sequence

import pytest

from tests.reliability import history
from tests.reliability.historians import historians, judge, wait_for_more
from tests.reliability.history import Operation, Step, is_linearizable
from tests.support import servers
from tests.support.servers import RedisServer

pytestmark = pytest.mark.once

# -- the judge -----------------------------------------------------------------------------------


def during(begin: float, end: float, step: Step) -> Operation:
    return Operation("by hand", begin, end, step)


STORED_A = during(0, 1, history.set_(b"a"))


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [during(0, 1, history.get(None))],
        [STORED_A, during(2, 3, history.get(b"a"))],
        # At the same time, so that either may have been first.
        [STORED_A, during(0.5, 3, history.get(None))],
        [STORED_A, during(0.5, 3, history.get(b"a"))],
        [STORED_A, during(0, 1, history.set_(b"b")), during(2, 3, history.get(b"a"))],
        [
            STORED_A,
            during(2, 3, history.cas(b"a", b"b", b"STORED")),
            during(4, 5, history.get(b"b")),
        ],
        [
            STORED_A,
            during(2, 3, history.delete(deleted=True)),
            during(4, 5, history.add(b"b", True)),
        ],
        [STORED_A, during(2, 3, history.append(b"b", True)), during(4, 5, history.get(b"ab"))],
        [
            during(0, 1, history.set_(b"8")),
            during(2, 4, history.incr(b"10")),
            during(2, 4, history.incr(b"9")),
            during(5, 6, history.get(b"10")),
        ],
        [STORED_A, during(2, 3, history.incr(b"CLIENT_ERROR no number"))],
        [during(0, 1, history.incr(b"NOT_FOUND"))],
        # What was not answered may have been done, or not, or much later.
        [
            during(0, 1, history.set_(b"8")),
            during(2, math.inf, history.perhaps(history.incremented)),
            during(3, 4, history.get(b"8")),
            during(5, 6, history.incr(b"10")),
        ],
        [STORED_A, during(2, math.inf, history.set_(b"b")), during(3, 4, history.get(b"a"))],
        [STORED_A, during(2, math.inf, history.set_(b"b")), during(3, 4, history.get(b"b"))],
        [
            during(0, math.inf, history.set_(b"b")),
            during(1, 2, history.get(None)),
            during(3, 4, history.get(b"b")),
        ],
    ],
)
def test_possible(operations: Sequence[Operation]) -> None:
    """One order at least explains all answers."""
    assert is_linearizable(operations)


@pytest.mark.parametrize(
    "operations",
    [
        [during(0, 1, history.get(b"never stored"))],
        # A read of what was over before it began.
        [STORED_A, during(2, 3, history.get(None))],
        [STORED_A, during(2, 3, history.set_(b"b")), during(4, 5, history.get(b"a"))],
        # Two reads, one after the other, that go back.
        [
            STORED_A,
            during(2, 9, history.set_(b"b")),
            during(3, 4, history.get(b"b")),
            during(5, 6, history.get(b"a")),
        ],
        # A lost update: the same token was good for two.
        [
            STORED_A,
            during(2, 4, history.cas(b"a", b"b", b"STORED")),
            during(2, 4, history.cas(b"a", b"c", b"STORED")),
        ],
        [during(0, 2, history.add(b"a", True)), during(1, 3, history.add(b"b", True))],
        [STORED_A, during(2, 4, history.append(b"b", True)), during(5, 6, history.get(b"a"))],
        [
            STORED_A,
            during(2, 4, history.delete(deleted=True)),
            during(3, 5, history.delete(deleted=True)),
        ],
        [STORED_A, during(2, 3, history.cas(b"a", b"b", b"EXISTS"))],
        # Two were told the same number.
        [
            during(0, 1, history.set_(b"8")),
            during(2, 4, history.incr(b"9")),
            during(2, 4, history.incr(b"9")),
        ],
        # One that was not answered counts once at most.
        [
            during(0, 1, history.set_(b"8")),
            during(2, math.inf, history.perhaps(history.incremented)),
            during(3, 4, history.incr(b"11")),
        ],
        [during(0, 1, history.incr(b"9"))],
        # What was done, unanswered, is not undone.
        [
            STORED_A,
            during(2, math.inf, history.set_(b"b")),
            during(3, 4, history.get(b"b")),
            during(5, 6, history.get(b"a")),
        ],
    ],
)
def test_impossible(operations: Sequence[Operation]) -> None:
    """No order explains them."""
    assert not is_linearizable(operations)


# -- real clients --------------------------------------------------------------------------------


def test_several_processes(any_redis: RedisServer) -> None:
    """Whichever process a client asks, all of them are one cache."""
    with any_redis.client(db=7) as native:
        native.flushdb()
    with (
        servers.redcouch(any_redis.url + "/7") as one,
        servers.redcouch(any_redis.url + "/7", "--workers", "2") as other,
    ):
        with historians([one.address, other.address], 100) as clients:
            for client in clients:
                client.join(60)
        judge(clients)


def test_two_caches_are_noticed(any_redis: RedisServer) -> None:
    """Services that do not share their items do not pass for one cache."""
    with (
        servers.redcouch(any_redis.url + "/7") as one,
        servers.redcouch(any_redis.url + "/8") as other,
    ):
        with historians([one.address, other.address], 100) as clients:
            for client in clients:
                client.join(60)
        with pytest.raises(AssertionError, match="Operation"):
            judge(clients)


@pytest.mark.parametrize("harm", ["held", "killed"])
def test_in_spite_of_faults(harm: str) -> None:
    """Redis fails meanwhile: what was said to have been done was done, once and in order."""
    with (
        servers.redis_server(*servers.LASTING) as storage,
        servers.redcouch(storage.url + "?timeout=0.3") as one,
        servers.redcouch(storage.url + "?timeout=0.3") as other,
        historians([one.address, other.address]) as clients,
    ):
        wait_for_more(clients, 60)
        if harm == "held":
            servers.hold(storage.pid)
            time.sleep(0.5)
            os.kill(storage.pid, signal.SIGCONT)
        else:
            storage.kill()
            storage.start()
        wait_for_more(clients, 60)
    judge(clients)
