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
