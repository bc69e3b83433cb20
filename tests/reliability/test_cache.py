"""With a cache in front of Redis, all of it still is one cache that is never stale."""

from __future__ import annotations

import random
import re
import time
from binascii import hexlify, unhexlify
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
import redis

from tests.reliability import history
from tests.reliability.historians import KEYS, VERBS, Historian, historians, judge, wait_for_more
from tests.reliability.history import Operation
from tests.support import servers
from tests.support.polling import eventually
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import Address, Wire
from tests.support.workers import statistics

MOSTLY_READS = (*VERBS, *["read"] * 30)

_EARLIEST, _LATEST = 0.009, 0.02
"""Seconds after which what was to expire in ten milliseconds has expired."""

_ITEM = re.compile(rb"<.*?>|\d+")
"""What an item began with: a word, or a number; what was added to it follows."""


FLUSH = """
redis.call('SELECT', ARGV[1])
local counted = redis.call('GET', KEYS[1])
redis.call('FLUSHALL')
redis.call('SET', KEYS[1], counted)
"""
"""FLUSHALL, but for the counter: a client that keeps a token for long would meet it again."""


def is_same_item(value: history.State, other: history.State) -> bool:
    """Whether one has become of the other by append and incr, which leave the exptime alone."""
    if value is None or other is None:
        return False
    its, others = (_ITEM.match(one) for one in (value, other))
    assert its is not None and others is not None
    if its[0].isdigit() and others[0].isdigit():
        return int(its[0]) // 1_000_000 == int(others[0]) // 1_000_000
    return its[0] == others[0]


EXPIRE = """
if redis.call('PTTL', KEYS[1]) == -1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return redis.call('HMGET', KEYS[1], 'v', 'r')
"""
"""Let an item expire, one that is going to no later than it was; gives what it is."""


class Flush:
    """A L{FLUSH}, if there was one."""

    def __init__(self) -> None:
        self.operations: list[tuple[int, Operation]] = []
        self.trouble: Exception | None = None

    def note(self, begin: float, end: float) -> None:
        gone = history.perhaps(lambda state: None)
        self.operations += [(key, Operation("flush", begin, end, gone)) for key in range(KEYS)]


class Native(Thread):
    """
    Does to the same items, in Redis, what a native client may do to them: once for some
    operations of the others, so that these find as much in the caches on a machine of any speed.
    """

    def __init__(
        self, client: redis.Redis, number: int, others: Sequence[Historian], over: Event
    ) -> None:
        super().__init__(daemon=True)
        self.operations: list[tuple[int, Operation]] = []
        self.trouble: Exception | None = None
        self._client: Any = client
        self._number = number
        self._others = others
        self._over = over

    def run(self) -> None:
        chance = random.Random(self._number)
        place = begins = 0
        try:
            while not self._over.wait(0.001):
                if (done := sum(len(other.operations) for other in self._others)) < begins:
                    continue
                begins = done + chance.randrange(20)
                place += 1
                self._do(chance.choice(("set", "delete", "expire")), chance.randrange(KEYS), place)
        except Exception as error:  # for the test to see
            self.trouble = error

    def _do(self, verb: str, key: int, place: int) -> None:
        name = b"rc:k%d" % key
        begin = time.monotonic()
        later: list[Operation] = []
        if verb == "set":
            value = b"<%d.%d>" % (self._number, place)
            transaction = self._client.pipeline(transaction=True)
            transaction.delete(name).hset(name, "v", hexlify(value))
            transaction.execute()
            step = history.set_(value)
        elif verb == "delete":
            step = history.delete(self._client.delete(name) == 1)
        else:
            hexadecimal, raw = self._client.eval(EXPIRE, 1, name, 10)
            found = raw if hexadecimal is None else unhexlify(hexadecimal)
            step = history.get(found)
            gone = history.perhaps(lambda state: None if is_same_item(state, found) else state)
            late = time.monotonic() + _LATEST
            later = [Operation(f"expiry of {key}", begin + _EARLIEST, late, gone)]
        now = Operation(f"native {verb} {key}", begin, time.monotonic(), step)
        self.operations += [(key, operation) for operation in (now, *later)]


@contextmanager
def natives(server: RedisServer, others: Sequence[Historian]) -> Iterator[list[Native]]:
    """Two native clients at work beside others."""
    over = Event()
    clients = [server.client(db=7) for _ in range(2)]
    threads = [Native(client, 100 + number, others, over) for number, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
        for client in clients:
            client.close()


def wait_for_hits(*services: RedCouch) -> None:
    """Until caches have answered for Redis, and not just now and then."""
    eventually(
        lambda: [int(statistics(one.address).get("cache_hits", 0)) for one in services],
        lambda hits: sum(hits) > 100,
    )


@pytest.mark.parametrize("parameters", ["cache=1m", "cache=1m&encoding=raw"])
def test_several_bridges_and_native_clients(any_redis: RedisServer, parameters: str) -> None:
    """Whoever is asked, and whoever has written: all answers fit one order."""
    url = f"{any_redis.url}/7?{parameters}"
    any_redis.client(db=7).flushdb()
    with (
        servers.redcouch(url) as one,
        servers.redcouch(url, "--workers", "2") as other,
        # So many at most: what it takes to judge them grows with the square of their number.
        historians([one.address, other.address], 600, MOSTLY_READS) as clients,
        natives(any_redis, clients) as writers,
    ):
        wait_for_more(clients, 300)
        wait_for_hits(one, other)
    judge([*clients, *writers])


@pytest.mark.parametrize("harm", ["killed", "flushed", "closed"])
def test_in_spite_of_faults(harm: str) -> None:
    """Connections are lost, Redis is started anew, or everything is removed."""
    with (
        servers.redis_server(*servers.LASTING) as storage,
        servers.redcouch(storage.url + "/7?cache=1m&timeout=0.5") as one,
        servers.redcouch(storage.url + "/7?cache=1m&timeout=0.5") as other,
        historians([one.address, other.address], verbs=MOSTLY_READS) as clients,
    ):
        flush = Flush()
        wait_for_more(clients, 100)
        with storage.client() as native:
            begin = time.monotonic()
            if harm == "killed":
                storage.kill()
                storage.start()
            elif harm == "flushed":
                native.eval(FLUSH, 1, "redcouch:sys:cas_counter", 7)
                flush.note(begin, time.monotonic())
            else:
                native.client_kill_filter(_type="normal", skipme=True)
        wait_for_more(clients, 100)
        wait_for_hits(one, other)
    judge([*clients, flush])


def test_nothing_is_stale(any_redis: RedisServer) -> None:
    """No get gives a value that another had replaced, and been told so, before it was sent."""
    keys = 20
    acknowledged = [0] * keys
    over = Event()

    def write(number: int) -> None:
        with any_redis.client(db=8) as client:
            place = 0
            while not over.is_set():
                place += 1
                for key in range(number, keys, 2):
                    client.hset(f"rc:n{key}", "v", hexlify(b"%d" % place))
                    acknowledged[key] = place

    seen = [0, 0]

    def read(address: Address) -> None:
        wanted = b"get " + b" ".join(b"n%d" % key for key in range(keys)) + b"\r\n"
        with Wire(address) as wire:
            while not over.is_set():
                before = list(acknowledged)
                said = wire.exchange(wanted, lambda reply: reply.endswith(b"END\r\n"))
                assert said is not None
                lines = said.split(b"\r\n")
                found = dict(zip(lines[0:-2:2], lines[1:-2:2], strict=True))
                values = {int(head.split()[1][1:]): int(value) for head, value in found.items()}
                seen[0] += len(values)
                seen[1] += sum(values.get(key, 0) < before[key] for key in range(keys))

    url = f"{any_redis.url}/8?cache=1m"
    with servers.redcouch(url) as one, servers.redcouch(url) as other:
        work = [Thread(target=write, args=(number,), daemon=True) for number in range(2)]
        work += [
            Thread(target=read, args=(server.address,), daemon=True)
            for server in (one, other)
            for _ in range(2)
        ]
        for thread in work:
            thread.start()
        eventually(lambda: seen[0] > 20_000)
        over.set()
        for thread in work:
            thread.join(60)
        wait_for_hits(one, other)
    assert seen[0] > 1000
    assert seen[1] == 0
