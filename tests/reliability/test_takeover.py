"""Another process takes the port over, and no client sees an error."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.reliability.clients import Client, Load, at_work, until_asked
from tests.support import servers
from tests.support.polling import eventually
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import ask

pytestmark = pytest.mark.once

#: Runs a command with the socket of a descriptor, as systemd passes it.
ACTIVATE = """
import os, sys
descriptor = int(sys.argv[1])
if descriptor != 3:
    os.dup2(descriptor, 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="redcouch")
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def under_load(port: int) -> Iterator[list[Load]]:
    """Some clients that write and read; each has had answers when the block begins and ends."""
    address = (servers.LOOPBACK, port)
    loads = [Load(Client(address, f"client-{number}")) for number in range(4)]
    with at_work(loads):
        until_asked(loads)
        yield loads
        until_asked(loads)


def check_books(loads: list[Load], reconnected: bool) -> None:
    """Nobody was told anything wrong, nor anything at all but success."""
    for load in loads:
        assert load.wrong == []
        assert load.failed == []
        assert load.refused == {}
        assert bool(load.reconnected) == reconnected


@contextmanager
def activated(
    folder: Path, listening: socket.socket, storage: str, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A service that is given its port by a service manager; it serves when the block begins."""
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = str(folder / f"notify-{os.urandom(4).hex()}")
    notified.bind(path)
    notified.settimeout(60)
    twistd = str(Path(sys.executable).parent / "twistd")
    command = [twistd, "-n", "--pidfile=", "redcouch", "--storage", servers.patient(storage)]
    domain = listening.family.name.removeprefix("AF_")
    command += ["--port", f"systemd:domain={domain}:name=redcouch", *options]
    descriptor = listening.fileno()
    with (folder / "log").open("ab") as log, notified:
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(descriptor), sys.executable, *command],
            pass_fds=[descriptor],
            env={**os.environ, "NOTIFY_SOCKET": path},
            stdout=log,
            stderr=log,
            cwd=folder,
        )
        try:
            assert notified.recv(1000) == b"READY=1\nSTATUS=Serving", (folder / "log").read_text()
            yield process
            process.terminate()
            assert notified.recv(1000).startswith(b"STOPPING=1\n")
        finally:
            process.terminate()
            process.wait(60)
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket as a service manager opens it."""
    with socket.create_server((servers.LOOPBACK, 0), backlog=128) as opened:
        yield opened


@pytest.mark.parametrize("workers", ["1", "2"])
def test_socket_activation(
    any_redis: RedisServer, tmp_path: Path, listening: socket.socket, workers: str
) -> None:
    """The socket of a service manager outlives the process that serves from it."""
    port = listening.getsockname()[1]
    options = ("--workers", workers)
    with (
        activated(tmp_path, listening, any_redis.url, *options) as old,
        under_load(port) as loads,
        activated(tmp_path, listening, any_redis.url, *options),
    ):
        old.terminate()
        assert old.wait(60) is not None
        until_asked(loads)
        for load in loads:
            load.finish()
    check_books(loads, reconnected=True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_unix_socket_activation(any_redis: RedisServer, tmp_path: Path, workers: str) -> None:
    """So does a unix one, with its path, and the mode that the service manager has given it."""
    path = tmp_path / "rc.sock"
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))
        path.chmod(0o620)
        opened.listen()
        for _ in range(2):
            with activated(tmp_path, opened, any_redis.url, "--workers", workers):
                assert ask(str(path), b"mn\r\n", b"\r\n") == b"MN\r\n"
            assert stat.S_IMODE(path.stat().st_mode) == 0o620


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reuse_port(any_redis: RedisServer, workers: str) -> None:
    """With C{--reuse-port} the next service listens before the last one stops."""
    options = ("--reuse-port", "--workers", workers)
    with servers.redcouch(any_redis.url, *options) as old, under_load(old.port) as loads:
        with successor(old, any_redis.url, *options):
            assert old.stop() == -15
            until_asked(loads)
            for load in loads:
                load.finish()
        old.check_log()
        old.start()  # for the way out
    check_books(loads, reconnected=False)


@contextmanager
def successor(old: RedCouch, storage: str, *options: str) -> Iterator[RedCouch]:
    """Another service on the same port."""
    folder = old.folder / "successor"
    folder.mkdir()
    server = RedCouch(folder, storage, options, ready=True)
    server.port = old.port
    server.start()
    eventually(lambda: "Following process" in server.log)
    try:
        yield server
    finally:
        server.stop()
        server.check_log()


def test_port_is_not_shared_unasked() -> None:
    """A second process is told that the port is taken, unless both have the option."""
    with servers.redcouch("memory:") as server:
        second = RedCouch(server.folder, "memory:", ["--reuse-port"], ready=True)
        second.port = server.port
        status, said = second.run()
        assert status == 1
        assert "in use" in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_those_who_wait_are_taken(any_redis: RedisServer, workers: str) -> None:
    """Whoever was in the queue of a shared port when the service ends is still answered."""
    options = ("--reuse-port", "--workers", workers)
    with servers.redcouch(any_redis.url, *options) as server, ExitStack() as clients:
        held = servers.family(server.pid)
        for process in held:
            servers.hold(process)
        crowd = [clients.enter_context(servers.plain(server.port)) for _ in range(20)]
        for client in crowd:
            client.sendall(b"mn\r\n")
        os.kill(server.pid, signal.SIGTERM)
        for process in held:
            os.kill(process, signal.SIGCONT)
        for client in crowd:
            assert servers.read_all(client) == b"MN\r\n"
        eventually(lambda: "Server Shut Down." in server.log)


def test_second_signal() -> None:
    """A second SIGTERM while clients finish changes nothing."""
    with (
        servers.redis_server() as storage,
        servers.redcouch(storage.url + "?timeout=30") as server,
    ):
        with servers.plain(server.port) as client:
            servers.hold(storage.pid)
            client.sendall(b"get k\r\n")
            seen = servers.plain(server.port)
            seen.sendall(b"version\r\n")
            assert seen.recv(100).startswith(b"VERSION")  # so the first one was read, too
            seen.close()
            os.kill(server.pid, signal.SIGTERM)
            eventually(lambda: "Waiting for" in server.log)
            os.kill(server.pid, signal.SIGTERM)
            os.kill(storage.pid, signal.SIGCONT)
            assert servers.read_all(client) == b"END\r\n"
        eventually(lambda: "Server Shut Down." in server.log)
        assert "ReactorNotRunning" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_two_signals_at_once(any_redis: RedisServer, tmp_path: Path, workers: str) -> None:
    """Nor does one that comes with the first, as where a terminal and a wrapper both send it."""
    server = RedCouch(tmp_path, any_redis.url, ["--workers", workers], ready=True)
    server.start()
    try:
        servers.hold(server.pid)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            os.kill(server.pid, number)
        eventually(lambda: "Server Shut Down." in server.log)
    finally:
        server.stop()
    server.check_log()
