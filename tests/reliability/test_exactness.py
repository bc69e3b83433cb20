"""Many clients, several processes, one Redis: nothing is counted twice, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from threading import Barrier

import pytest
import redis

from tests.support import servers
from tests.support.servers import RedisServer
from tests.support.wire import Address, Wire

pytestmark = pytest.mark.once

CLIENTS = 9
TIMES = 60


@pytest.fixture(scope="module")
def addresses(any_redis: RedisServer) -> Iterator[list[Address]]:
    """Two services of one process, and one of two workers."""
    with (
        servers.redcouch(any_redis.url) as one,
        servers.redcouch(any_redis.url) as other,
        servers.redcouch(any_redis.url, "--workers", "2") as third,
    ):
        yield [one.address, other.address, third.address]


@pytest.fixture
def race(addresses: list[Address], any_redis: RedisServer) -> Callable[[Run], list[object]]:
    """Lets clients of all the processes do something at the same time; Redis is empty before."""
    with any_redis.client() as native:
        native.flushall()

    def run(what: Run) -> list[object]:
        start = Barrier(CLIENTS)

        def client(number: int, address: Address) -> object:
            with Wire(address) as wire:
                start.wait(60)
                return what(number, wire)

        with ThreadPoolExecutor(CLIENTS) as pool:
            return list(pool.map(client, range(CLIENTS), cycle(addresses)))

    return run


Run = Callable[[int, Wire], object]
Race = Callable[[Run], Sequence[object]]


def ask(wire: Wire, request: bytes, ending: bytes = b"\r\n") -> bytes:
    reply = wire.exchange(request, lambda said: said.endswith(ending))
    assert reply is not None
    return reply


def value(any_redis: RedisServer, key: str) -> bytes:
    """What a native client finds."""
    with any_redis.client() as native:
        return _read(native, key)


def _read(native: redis.Redis, key: str) -> bytes:
    field = native.hget(f"rc:{key}", "v")
    assert isinstance(field, bytes)
    return bytes.fromhex(field.decode())


def gets(wire: Wire, key: bytes) -> tuple[bytes, bytes]:
    """Value and token."""
    head, body, _ = ask(wire, b"gets %b\r\n" % key, b"END\r\n").split(b"\r\n", 2)
    return body, head.split()[4]


def test_incr(race: Race, any_redis: RedisServer) -> None:
    """Every increment counts once, and every client is told a number of its own."""

    def count(number: int, wire: Wire) -> object:
        ask(wire, b"add n 0 0 1\r\n0\r\n")
        return [int(ask(wire, b"incr n 1\r\n")) for _ in range(TIMES)]

    told = [number for numbers in race(count) for number in numbers]  # type: ignore[attr-defined]
    assert sorted(told) == list(range(1, CLIENTS * TIMES + 1))
    assert value(any_redis, "n") == b"%d" % (CLIENTS * TIMES)


def test_cas(race: Race, any_redis: RedisServer) -> None:
    """Counting by gets and cas loses no update, and no token is good for two."""

    def count(number: int, wire: Wire) -> object:
        ask(wire, b"add n 0 0 1\r\n0\r\n")
        used: list[bytes] = []
        while len(used) < TIMES // 4:
            body, token = gets(wire, b"n")
            after = b"%d" % (int(body) + 1)
            said = ask(wire, b"cas n 0 0 %d %b\r\n%b\r\n" % (len(after), token, after))
            if said == b"STORED\r\n":
                used.append(token)
            else:
                assert said == b"EXISTS\r\n"
        return used

    used = [token for tokens in race(count) for token in tokens]  # type: ignore[attr-defined]
    assert len(set(used)) == len(used) == CLIENTS * (TIMES // 4)
    assert value(any_redis, "n") == b"%d" % len(used)


def test_add(race: Race, any_redis: RedisServer) -> None:
    """Of all who add a key, one succeeds, and its value is there."""

    def add(number: int, wire: Wire) -> object:
        return [ask(wire, b"add k%d 0 0 1\r\n%d\r\n" % (key, number)) for key in range(TIMES)]

    told = race(add)
    for key in range(TIMES):
        winners = [
            number
            for number, replies in enumerate(told)
            if replies[key] == b"STORED\r\n"  # type: ignore[index]
        ]
        assert [b"%d" % number for number in winners] == [value(any_redis, f"k{key}")]


def test_append(race: Race, any_redis: RedisServer) -> None:
    """Every piece that was appended is there once, those of each client in its order."""

    def append(number: int, wire: Wire) -> object:
        ask(wire, b"add log 0 0 0\r\n\r\n")
        for place in range(TIMES):
            piece = b"%d.%d;" % (number, place)
            said = ask(wire, b"append log 0 0 %d\r\n%b\r\n" % (len(piece), piece))
            assert said == b"STORED\r\n"
        return None

    race(append)
    pieces = [piece.split(b".") for piece in value(any_redis, "log").rstrip(b";").split(b";")]
    for number in range(CLIENTS):
        places = [int(place) for name, place in pieces if int(name) == number]
        assert places == list(range(TIMES))
    assert len(pieces) == CLIENTS * TIMES


def test_meta_win(race: Race) -> None:
    """Of all who read a missing key with N, one is told to fill it."""

    def read(number: int, wire: Wire) -> object:
        return [ask(wire, b"mg k%d t N30\r\n" % key).split()[-1] for key in range(TIMES)]

    told = race(read)
    for key in range(TIMES):
        assert sorted(flags[key] for flags in told) == [b"W"] + [b"Z"] * (  # type: ignore[index]
            CLIENTS - 1
        )


def test_registers_are_linearizable(race: Race) -> None:
    """
    A chain of cas gives each key one order of values, and no client ever reads
    backwards in it, whichever process it asks.
    """

    def work(number: int, wire: Wire) -> object:
        ask(wire, b"add r 0 0 1\r\n0\r\n")
        seen = []
        for _ in range(TIMES):
            body, token = gets(wire, b"r")
            seen.append(int(body))
            after = b"%d" % (int(body) + 1)
            said = ask(wire, b"cas r 0 0 %d %b\r\n%b\r\n" % (len(after), token, after))
            read_again = int(gets(wire, b"r")[0])
            assert read_again > int(body) or said != b"STORED\r\n"
            assert read_again >= int(body)
            seen.append(read_again)
        return seen

    for seen in race(work):
        assert seen == sorted(seen)  # type: ignore[call-overload]
