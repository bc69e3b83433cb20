"""Clients that take no replies, or never finish what they say: memory stays bounded."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

from tests.support import servers
from tests.support.servers import RedisServer
from tests.support.wire import Wire

MIB = 1024 * 1024
CLIENTS = 8
PER_CLIENT = 24
"""MiB that a client which reads nothing may cost."""


def resident(pid: int) -> int:
    """MiB of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def greets(server: servers.RedCouch) -> bool:
    with Wire(server.address) as wire:
        return wire.exchange(b"mn\r\n", lambda said: said.endswith(b"\r\n")) == b"MN\r\n"


def test_slow_readers(any_redis: RedisServer) -> None:
    """Each asks for 400 values of a MiB, in one go, and reads nothing."""
    value = b"x" * (MIB - 200)
    with servers.redcouch(any_redis.url) as server, ExitStack() as clients:
        with Wire(server.address) as wire:
            said = wire.say([b"set big 0 0 %d\r\n" % len(value), value, b"\r\n"], b"\r\n")
            assert said.reply == b"STORED\r\n"
        before = resident(server.pid)
        for _ in range(CLIENTS):
            slow = clients.enter_context(servers.plain(server.port))
            slow.sendall(b"get big\r\n" * 400)
        for _ in range(50):
            assert greets(server)
        assert resident(server.pid) - before < CLIENTS * PER_CLIENT + 64


def test_promises_not_kept(any_redis: RedisServer) -> None:
    """Values announced and never sent, endless lines and absurd lengths cost next to nothing."""
    with servers.redcouch(any_redis.url) as server, ExitStack() as clients:
        before = resident(server.pid)
        for _ in range(100):
            for words in (
                b"set k 0 0 1000000\r\n",
                b"set k 0 0 1073741824\r\n" + b"x" * 10_000,
                b"x" * 100_000,
                b"get " + b"k" * 100_000,
                b"\x80\x01\x00\x01\x08\x00\x00\x00\x40\x00\x00\x00" + b"\x00" * 10_000,
            ):
                promising = clients.enter_context(servers.plain(server.port))
                promising.setblocking(False)
                try:
                    promising.send(words)
                except OSError:  # it has closed already
                    continue
            assert greets(server)
        assert resident(server.pid) - before < 150


def test_reset_in_the_middle_of_a_value(any_redis: RedisServer) -> None:
    """A value that was not sent whole is not stored."""
    with servers.redcouch(any_redis.url) as server:
        with Wire(server.address) as wire:
            assert wire.say([b"set half 0 0 3\r\nold\r\n"], b"\r\n").reply == b"STORED\r\n"
        for _ in range(20):
            wire_end = servers.plain(server.port)
            wire_end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            wire_end.sendall(b"set half 0 0 1000\r\n" + b"n" * 500)
            wire_end.close()
        with Wire(server.address) as wire:
            said = wire.say([b"get half\r\n"], b"END\r\n").reply
            assert said == b"VALUE half 0 3\r\nold\r\nEND\r\n"


def test_idle_clients(any_redis: RedisServer) -> None:
    """What a client has stored is not kept until it says something else."""
    value = b"x" * (MIB // 2)
    with servers.redcouch(any_redis.url) as server, ExitStack() as clients:
        before = resident(server.pid)
        for _ in range(300):
            idle = clients.enter_context(servers.plain(server.port))
            idle.sendall(b"set big 0 0 %d\r\n%b\r\n" % (len(value), value))
            assert idle.recv(100) == b"STORED\r\n"
        assert resident(server.pid) - before < 64


def test_long_lines_of_keys(any_redis: RedisServer) -> None:
    """
    20 clients with a line of 8 MiB of keys each, 4 million of them, who read
    nothing: a line costs its bytes and the keys of a batch.
    """
    line = b"get " + b"k " * ((8 * MIB - 100) // 2) + b"\r\n"
    with servers.redcouch(any_redis.url) as server, ExitStack() as clients:
        with Wire(server.address) as wire:
            said = wire.say([b"set k 0 0 1000\r\n", b"v" * 1000, b"\r\n"], b"\r\n")
            assert said.reply == b"STORED\r\n"
        before = resident(server.pid)
        for _ in range(20):
            clients.enter_context(servers.plain(server.port)).sendall(line)
            assert greets(server)
        assert resident(server.pid) - before < 20 * (8 + 4) + 64


def test_a_line_sent_byte_by_byte(any_redis: RedisServer) -> None:
    """Bytes that come one at a time take no more room than those that come together."""
    with servers.redcouch(any_redis.url) as server, servers.plain(server.port) as slow:
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before = resident(server.pid)
        slow.sendall(b"get ")
        for _ in range(200_000):
            slow.sendall(b"k")
        assert greets(server)
        assert resident(server.pid) - before < 8


def test_many_readers_of_large_values(any_redis: RedisServer) -> None:
    """
    100 clients ask for 8 values of a MiB each and take none: neither this
    process nor Redis holds them all, nobody is told of an error, and in the
    end each has its values.
    """
    value = b"x" * (MIB - 200)
    limit = 64
    with (
        servers.redcouch(any_redis.url, "--memory-limit", f"{limit}m") as server,
        ExitStack() as clients,
    ):
        with Wire(server.address) as wire:
            said = wire.say([b"set big 0 0 %d\r\n" % len(value), value, b"\r\n"], b"\r\n")
            assert said.reply == b"STORED\r\n"
        before, redis_before = resident(server.pid), resident(any_redis.pid)
        crowd = [clients.enter_context(servers.plain(server.port)) for _ in range(100)]
        for client in crowd:
            client.sendall(b"get big\r\n" * 8)
        highest = redis_highest = 0
        for _ in range(200):
            assert greets(server)
            with Wire(server.address) as wire:  # a newcomer
                assert wire.say([b"get small\r\n"], b"END\r\n").reply == b"END\r\n"
            highest = max(highest, resident(server.pid) - before)
            redis_highest = max(redis_highest, resident(any_redis.pid) - redis_before)
        assert highest < 2 * limit + 64
        assert redis_highest < 200
        whole = len(b"VALUE big 0 %d\r\n\r\nEND\r\n" % len(value)) + len(value)
        for client in crowd:
            taken = 0
            while taken < 8 * whole:
                data = client.recv(MIB)
                assert data, "closed"
                assert b"SERVER_ERROR" not in data
                taken += len(data)
