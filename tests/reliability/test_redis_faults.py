"""Redis is killed, held and replaced by something else, while clients write and read."""

from __future__ import annotations

import os
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.reliability.clients import (
    RECOVERY,
    BinaryClient,
    Client,
    Load,
    MetaClient,
    at_work,
    once_answered,
    until_asked,
)
from tests.reliability.proxy import in_front_of
from tests.support import servers
from tests.support.frames import HEADER, frame
from tests.support.polling import eventually
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import Wire


@contextmanager
def under_load(server: RedCouch) -> Iterator[list[Load]]:
    """
    Some clients; at the end, nothing wrong was said to them, and every
    acknowledged write is there.
    """
    loads = [Load(Client(server.address, f"client-{number}")) for number in range(2)]
    loads.append(Load(MetaClient(server.address, "meta-client")))
    loads.append(Load(BinaryClient(server.address, "binary-client")))
    with at_work(loads):
        until_asked(loads)
        yield loads
        until_asked(loads)
    client = Client(server.address, "auditor")
    for load in loads:
        assert load.wrong == []
        assert load.failed == []
        assert load.reconnected == 0
        for key in load.uncertain:
            load.check(key, once_answered(client, key))
    client.close()


def refusals(loads: list[Load]) -> set[str]:
    return {reason for load in loads for reason in load.refused}


def until_refused(loads: list[Load]) -> None:
    """Wait until clients have been told of some failures more."""

    def told() -> int:
        return sum(sum(load.refused.values()) for load in loads)

    goal = told() + 8
    eventually(lambda: told() >= goal)


def until_stored(server: RedCouch) -> float:
    """Wait until a write succeeds; gives the seconds that it took."""
    began = time.monotonic()
    client = Client(server.address, "first")
    eventually(lambda: client.set("first", "1") == b"STORED\r\n")
    client.close()
    return time.monotonic() - began


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed(workers: str) -> None:
    """Killed and started again under load: what was acknowledged is there, nothing is mixed up."""
    with (
        servers.redis_server(*servers.LASTING) as storage,
        servers.redcouch(storage.url, "--workers", workers) as server,
        under_load(server) as loads,
    ):
        for _ in range(3):
            storage.kill()
            eventually(lambda: refusals(loads))
            until_asked(loads)
            storage.start()
            assert until_stored(server) < RECOVERY
        assert all(
            reason.startswith(("SERVER_ERROR storage ", "0x0086 storage "))
            for reason in refusals(loads)
        )


def test_held() -> None:
    """Held for longer than the timeout: an error for each request, and no answer of another's."""
    with (
        servers.redis_server() as storage,
        servers.redcouch(storage.url + "?timeout=0.5") as server,
        under_load(server) as loads,
    ):
        for _ in range(2):
            servers.hold(storage.pid)
            try:
                until_refused(loads)
            finally:
                os.kill(storage.pid, signal.SIGCONT)
            assert until_stored(server) < RECOVERY


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reset_in_the_middle_of_a_reply(any_redis: RedisServer, workers: str) -> None:
    """Half a reply and a reset: errors for those who waited, and nobody has another's answer."""
    with (
        in_front_of(any_redis.address) as proxy,
        servers.redcouch(proxy.url, "--workers", workers) as server,
        under_load(server) as loads,
    ):
        for times in range(1, 4):
            proxy.cut()
            eventually(lambda times=times: proxy.cuts == times)  # type: ignore[misc]
            assert until_stored(server) < RECOVERY
            until_asked(loads)
        assert refusals(loads)
        assert all(
            reason.startswith(("SERVER_ERROR storage ", "0x0086 storage "))
            for reason in refusals(loads)
        )


def test_single_bytes(any_redis: RedisServer) -> None:
    """Replies that come byte by byte are replies like all others, and each is its request's."""
    with in_front_of(any_redis.address) as proxy:
        proxy.dripping = True
        with servers.redcouch(proxy.url + "?timeout=30") as server, under_load(server) as loads:
            until_asked(loads)
            assert refusals(loads) == set()


# -- a Redis that is none ----------------------------------------------------------------------


HALF = b"$5\r\nab"
"""Where a reply ends that a reset cuts short."""

RESET = b"\1\0\0\0\0\0\0\0"
"""What closes with a reset, for SO_LINGER."""


class _Fake(socketserver.StreamRequestHandler):
    """Answers what RedCouch asks to begin with as a Redis does, and all else as it is told."""

    def handle(self) -> None:
        while head := self.rfile.readline():
            words = []
            for _ in range(int(head[1:])):
                words.append(self.rfile.read(int(self.rfile.readline()[1:])))
                self.rfile.readline()
            name = words[0].upper()
            if name == b"SCRIPT":
                reply: bytes | None = b"$40\r\n" + b"0" * 40 + b"\r\n"
            elif name in (b"HMGET", b"EVALSHA"):
                reply = self.server.answer  # type: ignore[attr-defined]
            else:
                reply = b"+OK\r\n"
            if reply is None:
                return
            self.wfile.write(reply)
            if reply.endswith(HALF):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return


@contextmanager
def fake_redis(answer: bytes | None) -> Iterator[str]:
    """The URL of something that gives this answer; C{None} closes the connection."""
    with socketserver.ThreadingTCPServer((servers.LOOPBACK, 0), _Fake) as fake:
        fake.daemon_threads = True
        fake.block_on_close = False
        fake.answer = answer  # type: ignore[attr-defined]
        thread = threading.Thread(target=fake.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"redis://{servers.LOOPBACK}:{fake.server_address[1]}?timeout=0.5"
        finally:
            fake.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-MISCONF Redis is configured to save RDB snapshots\r\n",
        b"-BUSY Redis is busy running a script.\r\n",
        b"-NOSCRIPT No matching script. Please use EVAL.\r\n",
        b"-NOPERM this user has no permissions\r\n",
        b"-CLUSTERDOWN The cluster is down\r\n",
        b"-NOREPLICAS Not enough good replicas to write.\r\n",
        b"-ERR something nobody has heard of\r\n",
        b"*3\r\n$3\r\nabc\r\n$5\r\na",  # and then nothing: late
        b"*3\r\n$3\r\nabc\r\n" + HALF,
        b"",  # nothing at all
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"*-7\r\n",
        None,
    ],
)
def test_strange_answers(answer: bytes | None) -> None:
    """Each request is answered once, in order, with an error that looks like nothing else."""
    with fake_redis(answer) as url, servers.redcouch(url, ready=False) as server:
        with Wire(server.address) as wire:
            request = b"get k\r\nset k 0 0 1\r\nv\r\nincr k 1\r\ndelete k\r\nmg k v\r\nmn\r\n"
            said = wire.exchange(request, lambda reply: reply.endswith(b"MN\r\n"))
        assert said is not None
        lines = said.split(b"\r\n")
        assert len(lines) == 7
        assert lines[5:] == [b"MN", b""]
        for line in lines[:5]:
            assert line.startswith(b"SERVER_ERROR "), said
        assert [status in FAILURES for status in statuses(server)] == [True] * 5 + [False]


FAILURES = (0x82, 0x84, 0x86)
"""Out of memory, internal error, temporary failure."""


def statuses(server: RedCouch) -> list[int]:
    """The statuses of six requests in the binary protocol, the last of which is a noop."""
    asked = [
        frame(0x00, b"k", opaque=0),
        frame(0x01, b"k", bytes(8), b"v", opaque=1),
        frame(0x05, b"k", bytes(20), opaque=2),
        frame(0x04, b"k", opaque=3),
        frame(0x0E, b"k", b"", b"v", opaque=4),
        frame(0x0A, opaque=5),
    ]
    with Wire(server.address) as wire:
        said = wire.say([b"".join(asked)], b"\x81" + asked[-1][1:]).reply
    found = []
    for place, request in enumerate(asked):
        magic, answered, _, _, _, status, body, opaque, _ = HEADER.unpack_from(said)
        assert (magic, answered, opaque) == (0x81, request[1], place)
        found.append(status)
        said = said[24 + body :]
    assert said == b""
    return found
