"""A process that runs out of descriptors: who is in stays in, and nobody is turned away."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack

import pytest

from tests.support import servers
from tests.support.polling import eventually
from tests.support.servers import RedisServer, descriptors

ROOM = 100
"""Descriptors that the process may have."""


def says_hello(wire: socket.socket) -> bool:
    wire.sendall(b"version\r\n")
    return wire.recv(100).startswith(b"VERSION ")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_descriptors_left(any_redis: RedisServer, workers: str) -> None:
    """
    Accepting pauses and the log says so once; clients go on; those who wait are
    served when others are gone.
    """
    with servers.redcouch(any_redis.url, "--workers", workers) as server, ExitStack() as clients:
        pids = servers.family(server.pid)
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (ROOM, ROOM))
        crowd = [clients.enter_context(servers.plain(server.port)) for _ in range(2 * ROOM + 50)]
        eventually(lambda: "Cannot accept clients: Too many open files" in server.log)
        for wire in crowd[:5]:
            assert says_hello(wire)
        assert server.log.count("Cannot accept clients") <= int(workers)
        late = crowd.pop()
        for wire in crowd:
            wire.close()
        assert says_hello(late)
        eventually(lambda: "There is room for clients again" in server.log)
        assert "EMFILE" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_redis_comes_back_meanwhile(workers: str) -> None:
    """Redis is connected to again while clients have all that they can have, and stay."""
    with (
        servers.redis_server() as redis,
        servers.redcouch(redis.url, "--workers", workers) as server,
        ExitStack() as clients,
    ):
        for pid in servers.family(server.pid):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (ROOM, ROOM))
        redis.kill()
        eventually(lambda: server.log.count("Cannot reach Redis") == int(workers))
        crowd = [clients.enter_context(servers.plain(server.port)) for _ in range(2 * ROOM + 50)]
        eventually(lambda: server.log.count("Cannot accept clients") == int(workers))
        assert not any(map(_gets, crowd[:5]))
        redis.start()
        eventually(lambda: all(map(_gets, crowd[:5])))


def _gets(wire: socket.socket) -> bool:
    wire.sendall(b"get k\r\n")
    return wire.recv(100) == b"END\r\n"


def test_no_descriptor_is_leaked(any_redis: RedisServer) -> None:
    """10,000 clients that come and go in all ways leave nothing behind, and no lines in the log."""
    with servers.redcouch(any_redis.url) as server, servers.plain(server.port) as other:
        assert says_hello(other)  # it has been accepted, then
        before = descriptors(server.pid)
        lines = server.log.count("\n")
        pieces = [b"", b"get", b"set k 0 0 100\r\nabc", b"\x80\x01\x00", b"get k\r\n"]
        for number in range(10_000):
            wire = servers.plain(server.port)
            if number % 3 == 0:  # a reset in place of an end
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            wire.sendall(pieces[number % len(pieces)])
            wire.close()
            if number % 500 == 0:
                assert says_hello(other)
        eventually(lambda: descriptors(server.pid) <= before)
        assert server.log.count("\n") < lines + 100  # that it is full, perhaps, and no longer
