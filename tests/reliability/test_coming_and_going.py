"""Clients that come and go, as many as may be and more."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.backends.redis.certificates import Authority
from tests.support import servers
from tests.support.over_tls import ask as ask_over_tls
from tests.support.over_tls import context_for
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import ask

MOST = 20


def leave_unnoticed(server: RedCouch, sent: bytes = b"") -> None:
    """More clients than may be come and go while the service sees nothing."""
    pids = servers.family(server.pid)
    for pid in pids:
        servers.hold(pid)
    try:
        with ExitStack() as clients:
            for number in range(4 * MOST):
                client = clients.enter_context(servers.plain(server.port))
                client.sendall(sent)
                if number % 2:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("sent", [b"", b"get k\r\n", b"set k 0 0 9\r\nabc", b"\x80"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_is_gone_makes_room(workers: str, sent: bytes, any_redis: RedisServer) -> None:
    """Nobody is refused because of clients that are there no more."""
    options = ("--workers", workers, "--max-connections", str(MOST))
    with servers.redcouch(any_redis.url, *options) as server:
        for _ in range(5):
            leave_unnoticed(server, sent)
            assert ask(server.address, b"get absent\r\n", b"\r\n") == b"END\r\n"
        assert "are in use" not in server.log


def test_who_is_gone_is_heard(any_redis: RedisServer) -> None:
    """What they have said last is done all the same."""
    with (
        servers.redcouch(any_redis.url, "--max-connections", str(MOST)) as server,
        any_redis.client() as native,
    ):
        native.delete("rc:n")
        ask(server.address, b"set n 0 0 1\r\n0\r\n", b"\r\n")
        servers.hold(server.pid)
        for _ in range(2 * MOST):
            with servers.plain(server.port) as client:
                client.sendall(b"incr n 1 noreply\r\n")
        os.kill(server.pid, signal.SIGCONT)
        said = ask(server.address, b"get n\r\n", b"END\r\n")
        assert said == b"VALUE n 0 2\r\n%d\r\nEND\r\n" % (2 * MOST)


def test_who_is_gone_over_tls(tmp_path: Path) -> None:
    """So it is where they spoke TLS."""
    authority = Authority(tmp_path, "authority")
    certificate, key = map(str, authority.issue("server"))
    options = ("--tls-cert", certificate, "--tls-key", key, "--max-connections", str(MOST))
    with servers.redcouch_over_tls("memory:", *options) as server:
        leave_unnoticed(server)
        assert ask_over_tls(server.port, context_for(authority), b"mn\r\n") == b"MN\r\n"


def test_who_waits_for_answers_over_tls(tmp_path: Path) -> None:
    """Who has ended its side, and waits for answers, is not gone when its place is wanted."""
    authority = Authority(tmp_path, "authority")
    certificate, key = map(str, authority.issue("server"))
    options = ("--tls-cert", certificate, "--tls-key", key, "--max-connections", "1")
    with (
        servers.redis_server() as storage,
        servers.redcouch_over_tls(f"{storage.url}?timeout=60", *options) as server,
    ):
        ask_over_tls(server.port, context_for(authority), b"set k 0 0 1\r\nv\r\n")
        servers.hold(storage.pid)
        plain = servers.plain(server.port)
        with context_for(authority).wrap_socket(plain, server_hostname=servers.LOOPBACK) as client:
            client.sendall(b"get k\r\n")
            socket.socket.shutdown(client, socket.SHUT_WR)  # by TCP alone
            with servers.plain(server.port) as another:
                another.sendall(b"version\r\n")  # no TLS: it is closed
                servers.read_all(another)
            os.kill(storage.pid, signal.SIGCONT)
            assert servers.read_all(client) == b"VALUE k 0 1\r\nv\r\nEND\r\n"


def test_at_the_limit(any_redis: RedisServer) -> None:
    """Clients that come and go at the limit for a while: one line says so, and no more."""
    with (
        servers.redcouch(any_redis.url, "--max-connections", str(MOST)) as server,
        ExitStack() as stay,
    ):
        for _ in range(MOST - 4):
            client = stay.enter_context(servers.plain(server.port))
            client.sendall(b"mn\r\n")
            assert client.recv(9) == b"MN\r\n"
        for _ in range(40):
            with ExitStack() as passing:
                clients = [passing.enter_context(servers.plain(server.port)) for _ in range(9)]
                for client in clients:
                    assert client.send(b"mn\r\n")
                    client.recv(9)
        assert server.log.count("are in use") == 1
        assert server.log.count("Accepting clients again") == 0
