"""Clients that come all at once."""

from __future__ import annotations

import errno
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet.defer import succeed
from twisted.internet.protocol import Factory
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock

from redcouch.process.reload import Reload
from redcouch.server.listeners import (
    BACKLOG,
    ManagersSocket,
    RetryingEndpoint,
    complete,
    server_endpoint,
)
from tests.support import servers
from tests.support.polling import eventually


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("tcp:1", f"tcp:1:backlog={BACKLOG}"),
        ("tcp:1:interface=\\:\\:1", f"tcp:1:interface=\\:\\:1:backlog={BACKLOG}"),
        ("unix:/run/s", f"unix:/run/s:backlog={BACKLOG}:mode=600"),
        ("unix:/run/s:mode=666", f"unix:/run/s:mode=666:backlog={BACKLOG}"),
        ("tcp:1:backlog=5", "tcp:1:backlog=5"),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
    ],
)
def test_complete(given: str, used: str) -> None:
    """
    The backlog is memcached's, unless the operator has said otherwise, or somebody
    else listens; a unix socket is the owner's alone.
    """
    assert complete(given) == used


def test_crowd() -> None:
    """Hundreds of clients that come while nobody accepts need not try again."""
    with servers.redcouch("memory:") as server, ExitStack() as clients:
        servers.hold(server.pid)
        try:
            client_count = [clients.enter_context(_connect(server.port)) for _ in range(300)]
        finally:
            os.kill(server.pid, signal.SIGCONT)
        for client in client_count:
            client.sendall(b"version\r\n")
        for client in client_count:
            assert client.recv(100).startswith(b"VERSION ")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_socket_of_a_service_manager(family: socket.AddressFamily, tmp_path: Path) -> None:
    """Whoever takes over is passed none by the manager, and has that of the process before."""
    place = "systemd:domain=ANY:name=redcouch"
    address = str(tmp_path / "s") if family == socket.AF_UNIX else (servers.LOOPBACK, 0)
    with socket.socket(family) as opened:
        opened.bind(address)
        opened.listen()
        name = opened.getsockname()
        inherited = {place: opened.dup()}
        endpoint = server_endpoint(place, SelectReactor(), False, Reload(), inherited)
        port = endpoint.listen(Factory()).result
        assert port.socket.getsockname() == name
        assert not inherited
        port.connectionLost(None)
        with socket.socket(family) as client:
            client.connect(name)  # it is the manager's, who goes on


@pytest.mark.parametrize(
    ("family", "address", "said"),
    [
        (socket.AF_INET, (servers.LOOPBACK, 0), socket.AF_INET6),
        (socket.AF_UNIX, "s", socket.AF_INET),
    ],
)
def test_family_of_a_service_managers_socket(
    family: socket.AddressFamily,
    address: Any,
    said: socket.AddressFamily,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    It is the socket's own, as IPv6 for systemd's C{ListenStream=11210}: with that of the string,
    clients' addresses were whatever lay in memory.
    """
    monkeypatch.chdir(tmp_path)
    with socket.socket(family) as opened:
        opened.bind(address)
        opened.listen()
        managers = ManagersSocket(SelectReactor())
        port = managers.adoptStreamPort(opened.fileno(), said, Factory())
        assert port.socket.family == family
        port.connectionLost(None)


@pytest.mark.parametrize("reads", [True, False])
def test_last_look(reads: bool) -> None:
    """Whoever waits is accepted before a shared port closes, unless it accepts nobody yet."""
    port: Any = mock.Mock(stopListening=lambda: succeed(None))
    reactor: Any = Clock()
    reactor.getReaders = lambda: [port] if reads else []
    inner = mock.Mock(listen=lambda factory: succeed(port))
    RetryingEndpoint(inner, reactor, last_look=True).listen(Factory())
    port.stopListening()
    assert port.doRead.called is reads


def _connect(port: int) -> socket.socket:
    return socket.create_connection((servers.LOOPBACK, port), 30)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_path_that_cannot_be_removed(workers: str, tmp_path: Path) -> None:
    """A unix socket is closed all the same when the service ends, and no client waits at it."""
    path, other = tmp_path / "s", tmp_path / "other"
    options = ("--port", f"unix:{path}", "--workers", workers, "--drain-timeout", "1000")
    with (
        servers.redcouch(servers.served_redis().url, *options) as server,
        servers.plain(server.port) as busy,
    ):
        busy.sendall(b"set k 0 0 1000000\r\n%b\r\n" % bytes(1_000_000) + b"get k\r\n" * 20)
        busy.recv(100)
        path.rename(other)
        os.kill(server.pid, signal.SIGTERM)
        eventually(lambda: "Waiting for 1 clients to finish" in server.log)
        eventually(lambda: _refuses(other))


def _refuses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == errno.ECONNREFUSED
