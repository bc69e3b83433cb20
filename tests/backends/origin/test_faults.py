"""The old memcached fails in every way: no client notices, and nothing out of date comes back."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.backends.origin.conftest import PATIENT
from tests.backends.origin.conversation import say, stats
from tests.support import servers
from tests.support.frames import frame
from tests.support.polling import PACE, eventually
from tests.support.servers import Memcached, RedisServer
from tests.support.wire import Wire

SOON = "from-timeout=0.3"
"""Long enough for a memcached that works, on most days: no test with it is wrong if not."""


def url(own_redis: RedisServer, port: int, timeout: str = SOON) -> str:
    return f"warm:{own_redis.url}?{timeout}&from=memcached://{servers.LOOPBACK}:{port}"


def conversation(number: int) -> tuple[bytes, bytes]:
    """All that a client does with a key that nobody else has, and what it is told."""
    key = b"c%d" % number
    return (
        b"get %b\r\nset %b 0 0 1\r\n1\r\nincr %b 1\r\nappend %b 0 0 1\r\n0\r\nget %b\r\n"
        b"touch %b 100\r\nadd %b 0 0 1\r\nx\r\ndelete %b\r\nget %b\r\n" % ((key,) * 9),
        b"END\r\nSTORED\r\n2\r\nSTORED\r\nVALUE %b 0 2\r\n20\r\nEND\r\n"
        b"TOUCHED\r\nNOT_STORED\r\nDELETED\r\nEND\r\n" % key,
    )


def test_killed(own_redis: RedisServer, own_memcached: Memcached) -> None:
    """It ends in the middle of everything, stays away, and comes back empty."""
    with servers.redcouch(url(own_redis, own_memcached.port)) as bridge:
        say(own_memcached, b"set k 0 0 1\r\nx\r\n")
        stop = threading.Event()
        wrong: list[bytes] = []

        def work(first: int) -> None:
            with Wire(bridge.address) as wire:
                number = first
                while not stop.wait(PACE):
                    request, reply = conversation(number)
                    said = wire.say([request], reply[-30:]).reply
                    if said != reply:
                        wrong.append(said)
                    number += 10

        workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for worker in workers:
            worker.start()
        try:
            eventually(lambda: stats(bridge)["warm_hits"] > 50)
            own_memcached.kill()
            eventually(lambda: "is away" in bridge.log)
            before = stats(bridge)["warm_hits"]
            eventually(lambda: stats(bridge)["warm_hits"] > before + 50)
            own_memcached.start()
            eventually(lambda: "answers again" in bridge.log)
        finally:
            stop.set()
            for worker in workers:
                worker.join(60)
        assert wrong == []
        say(own_memcached, b"set later 0 0 1\r\ny\r\n")
        eventually(
            lambda: say(bridge, b"get later\r\n", b"END\r\n") == b"VALUE later 0 1\r\ny\r\nEND\r\n"
        )
        assert stats(bridge)["warm_errors"] > 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_held(own_redis: RedisServer, own_memcached: Memcached, workers: str) -> None:
    """It stops to answer; what is deleted and written meanwhile does not come back from it."""
    say(own_memcached, b"set gone 0 0 1\r\nx\r\nset new 0 0 3\r\nold\r\n", b"STORED\r\nSTORED\r\n")
    with servers.redcouch(url(own_redis, own_memcached.port), "--workers", workers) as bridge:
        servers.hold(own_memcached.pid)
        try:
            assert say(bridge, b"get gone\r\n", b"END\r\n") == b"END\r\n"
            assert say(bridge, b"delete gone\r\n") == b"NOT_FOUND\r\n"
            assert say(bridge, b"set new 0 0 3\r\nnew\r\n") == b"STORED\r\n"
            assert say(bridge, b"incr gone 1\r\n") == b"NOT_FOUND\r\n"
            eventually(lambda: stats(bridge)["warm_barred"] >= 2)
            with own_redis.client() as client:
                client.delete("rc:new")  # as Redis evicts
        finally:
            os.kill(own_memcached.pid, signal.SIGCONT)
        eventually(lambda: stats(bridge)["warm_old_up"] == 1)
        for _ in range(20):
            assert say(bridge, b"get gone new\r\n", b"END\r\n") == b"END\r\n"
        # And it is told, so that it is right for whoever goes back.
        eventually(lambda: say(own_memcached, b"get gone new\r\n", b"END\r\n") == b"END\r\n")


def test_barred_for_all(own_redis: RedisServer, own_memcached: Memcached) -> None:
    """A service that was not there when a deletion was missed knows of it."""
    say(own_memcached, b"set gone 0 0 1\r\nx\r\nset here 0 0 1\r\ny\r\n", b"STORED\r\nSTORED\r\n")
    nowhere = servers.free_port()
    with servers.redcouch(url(own_redis, nowhere)) as bridge:
        assert say(bridge, b"delete gone\r\n") == b"NOT_FOUND\r\n"
        eventually(lambda: "it cannot be reached" in bridge.log)
    with servers.redcouch(url(own_redis, own_memcached.port)) as bridge:
        eventually(
            lambda: say(bridge, b"get here\r\n", b"END\r\n") == b"VALUE here 0 1\r\ny\r\nEND\r\n"
        )
        assert say(bridge, b"get gone\r\n", b"END\r\n") == b"END\r\n"


def test_missed_flush(own_redis: RedisServer, own_memcached: Memcached) -> None:
    """After a flush_all that did not reach it, it is not asked any more; nor after a restart."""
    say(own_memcached, b"set k 0 0 1\r\nx\r\n")
    with servers.redcouch(url(own_redis, servers.free_port())) as bridge:
        assert say(bridge, b"flush_all\r\n") == b"OK\r\n"
        assert "Nothing is fetched from the old memcached any more" in bridge.log
        assert stats(bridge)["warm_ended"] == 1
        assert say(bridge, b"set a 0 0 1\r\n1\r\nget a\r\n", b"END\r\n").endswith(b"1\r\nEND\r\n")
    with servers.redcouch(url(own_redis, own_memcached.port)) as bridge:
        assert say(bridge, b"get k\r\n", b"END\r\n") == b"END\r\n"
        assert stats(bridge)["warm_ended"] == 1
        assert say(own_memcached, b"get k\r\n", b"END\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"


@contextmanager
def impostor(reply: bytes, answers: int = 0) -> Iterator[int]:
    """
    Listens on the port that it gives, says MN so many times, and to everything
    else the same.
    """
    with socket.create_server((servers.LOOPBACK, 0)) as listener:
        stopping = threading.Event()

        def serve() -> None:
            clients = []
            while not stopping.is_set():
                try:
                    client, _ = listener.accept()
                except OSError:
                    break
                clients.append(client)
                thread = threading.Thread(target=talk, args=(client,))
                thread.start()
                threads.append(thread)

        def talk(client: socket.socket) -> None:
            left = answers
            with client:
                try:
                    while client.recv(65536):
                        client.sendall(b"MN\r\n" if left else reply)
                        left = max(0, left - 1)
                except OSError:
                    pass

        threads: list[threading.Thread] = []
        server = threading.Thread(target=serve)
        server.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stopping.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in (server, *threads):
                thread.join(30)


@pytest.mark.parametrize(
    ("reply", "answers"),
    [
        (b"ERROR\r\n", 0),  # a memcached before 1.6
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 0),
        (b"", 0),  # never answers
        (b"\0\xff" * 5000, 1),
        (b"VALUE k 0 1\r\nx\r\nEND\r\n", 1),
        (b"VA 4000000000 f0 t-1\r\n", 1),
        (b"VA 3 f0 t-1\r\nabcdef\r\n", 1),
        (b"HD s5\r\nHD s5\r\nHD s5\r\n", 1),
        (b"CLIENT_ERROR no\r\n", 1),
        (b"SERVER_ERROR out of memory\r\n", 1),
        (b"EN\r\n", 1),
        (b"VA 1 fx ty\r\nq\r\n", 1),
        (b"", 1),
    ],
)
def test_nonsense(own_redis: RedisServer, reply: bytes, answers: int) -> None:
    """Whatever it says, clients are served by Redis."""
    with impostor(reply, answers) as port, servers.redcouch(url(own_redis, port)) as bridge:
        for number in range(5):
            request, expected = conversation(number)
            assert say(bridge, request, expected[-30:]) == expected
        assert say(bridge, b"flush_all\r\n") == b"OK\r\n"
        assert say(bridge, *conversation(9)) == conversation(9)[1]


def test_told_once(own_redis: RedisServer) -> None:
    """However often it is tried, the log has one line about it."""
    with servers.redcouch(url(own_redis, servers.free_port())) as bridge:
        with Wire(bridge.address) as wire:
            for _ in range(300):
                wire.say([b"get x\r\nset y 0 0 1\r\nz\r\n"], b"STORED\r\n")
        eventually(lambda: "is away" in bridge.log)
        assert bridge.log.count("is away") == 1


def test_redis_away(own_redis: RedisServer, own_memcached: Memcached) -> None:
    """Where Redis is away, nothing is served from the old side alone, and no change is made up."""
    say(own_memcached, b"set k 0 0 1\r\nx\r\n")
    with servers.redcouch(url(own_redis, own_memcached.port, PATIENT)) as bridge:
        own_redis.kill()
        eventually(lambda: say(bridge, b"get k\r\n").startswith(b"SERVER_ERROR"))
        assert say(bridge, b"set k 0 0 1\r\ny\r\n").startswith(b"SERVER_ERROR")
        assert say(bridge, b"delete k\r\n").startswith(b"SERVER_ERROR")
        own_redis.start()
        eventually(lambda: say(bridge, b"get other\r\n") == b"END\r\n")
        assert say(bridge, b"get k\r\n", b"END\r\n") == b"END\r\n"


def test_removed_while_redis_is_away(own_redis: RedisServer, own_memcached: Memcached) -> None:
    """What could not be removed in Redis, the old side gets again."""
    here = b"VALUE k 0 1\r\nx\r\nEND\r\n"
    with servers.redcouch(url(own_redis, own_memcached.port, PATIENT)) as bridge:
        assert say(bridge, b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        with own_redis.client() as client:
            client.save()
        own_redis.kill()
        assert say(bridge, b"delete k\r\n").startswith(b"SERVER_ERROR")
        own_redis.start()
        eventually(lambda: say(bridge, b"get k\r\n", b"\r\n").startswith(b"VALUE"))
        eventually(lambda: say(own_memcached, b"get k\r\n", b"END\r\n") == here)


def test_misses_on_outage(own_redis: RedisServer, own_memcached: Memcached) -> None:
    """With --on-outage=miss, that is a miss; and what failed then has left nothing behind."""
    say(own_memcached, b"set k 0 0 1\r\nx\r\nset l 0 0 1\r\ny\r\n", b"STORED\r\nSTORED\r\n")
    with servers.redcouch(
        url(own_redis, own_memcached.port, PATIENT), "--on-outage", "miss"
    ) as bridge:
        own_redis.kill()
        eventually(lambda: say(bridge, b"set k 0 0 1\r\nz\r\n").startswith(b"SERVER_ERROR"))
        assert say(bridge, b"get k l\r\n", b"END\r\n") == b"END\r\n"
        assert say(bridge, b"gat 0 k\r\n", b"END\r\n") == b"END\r\n"
        assert say(bridge, b"delete k\r\n").startswith(b"SERVER_ERROR")
        own_redis.start()
        eventually(lambda: say(bridge, b"get l\r\n", b"END\r\n") != b"END\r\n")
        assert say(bridge, b"get k\r\n", b"END\r\n") == b"END\r\n"


def test_redis_full(own_redis: RedisServer, own_memcached: Memcached) -> None:
    """Where Redis has no memory left, nothing is fetched: it could not be leased."""
    say(own_memcached, b"set k 0 0 1\r\nx\r\n")
    with (
        servers.redcouch(url(own_redis, own_memcached.port, PATIENT)) as bridge,
        own_redis.client() as client,
    ):
        client.config_set("maxmemory", "1")
        assert say(bridge, b"get k\r\n", b"END\r\n") == b"END\r\n"
        assert say(bridge, b"delete k\r\n") == b"DELETED\r\n"
        client.config_set("maxmemory", "0")
        assert say(bridge, b"get k\r\n", b"END\r\n") == b"END\r\n"


def test_redis_takes_no_writes(own_redis: RedisServer, own_memcached: Memcached) -> None:
    """
    Redis refuses writes for a while, as without its replicas: what was asked for meanwhile ends
    nothing, also where the old side cannot be told of the key, and the old side is repaired then.
    """
    here = b"VALUE k 0 1\r\nx\r\nEND\r\n"
    refused = b"storage answered NOREPLICAS"
    with (
        servers.redcouch(url(own_redis, own_memcached.port, PATIENT)) as bridge,
        own_redis.client() as client,
    ):
        assert say(bridge, b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        client.config_set("min-replicas-to-write", "1")
        for key in (b"k", b"nowhere"):  # which somebody may be bringing over, and is not stopped
            assert say(bridge, b"delete %b\r\n" % key) == b"SERVER_ERROR %b\r\n" % refused
        assert say(bridge, b"set k 0 0 1\r\ny\r\n") == b"SERVER_ERROR %b\r\n" % refused
        assert say(bridge, frame(0x04, b" " * 200), refused).endswith(refused)
        eventually(lambda: "cannot be noted" in bridge.log)
        client.config_set("min-replicas-to-write", "0")
        eventually(lambda: say(own_memcached, b"get k\r\n", b"END\r\n") == here)
        say(own_memcached, b"set only 0 0 1\r\nz\r\n")
        found = b"VALUE only 0 1\r\nz\r\nEND\r\n"
        eventually(lambda: say(bridge, b"get only\r\n", b"END\r\n") == found)
        assert stats(bridge)["warm_ended"] == 0
        assert bridge.log.count("cannot be noted") == 1
