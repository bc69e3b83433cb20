"""SIGHUP, however RedCouch runs: what can be read again is, and nothing else happens."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.polling import eventually
from tests.support.servers import RedisServer
from tests.support.wire import ask


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("storage", ["redis", "embedded:", "memory:", "warm:"])
def test_nothing_to_read(storage: str, workers: str, any_redis: RedisServer) -> None:
    """Clients notice nothing, and one line says that there was nothing to read."""
    if storage == "memory:" and workers == "2":
        storage = "redis"
    url = any_redis.url if storage == "redis" else storage
    if storage == "warm:":
        url = f"warm:{any_redis.url}?from=memcached://127.0.0.1:{servers.free_port()}"
    with (
        servers.redcouch(url, "--workers", workers) as server,
        servers.plain(server.port) as client,
    ):
        for times in (1, 2):
            os.kill(server.pid, signal.SIGHUP)
            eventually(lambda: server.log.count("nothing to read again") == times)  # noqa: B023
            client.sendall(b"mn\r\n")
            assert client.recv(100) == b"MN\r\n"
            assert ask(server.address, b"mn\r\n", b"\r\n") == b"MN\r\n"


@pytest.mark.everywhere
@pytest.mark.parametrize("workers", ["1", "2"])
def test_daemon(workers: str, any_redis: RedisServer, tmp_path: Path) -> None:
    """In the background, too."""
    server = servers.RedCouch(tmp_path, any_redis.url, ["--workers", workers], ready=False)
    server.port = servers.free_port()
    command = [word for word in server.command() if word not in ("-n", "--pidfile=")]
    command[1:1] = ["--pidfile", "pid", "--logfile", "log"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    eventually(lambda: (tmp_path / "pid").exists())
    pid = int((tmp_path / "pid").read_text())
    try:
        eventually(lambda: _serves(server))
        os.kill(pid, signal.SIGHUP)
        eventually(lambda: "nothing to read again" in server.log)
        assert _serves(server)
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not (tmp_path / "pid").exists())


def _serves(server: servers.RedCouch) -> bool:
    try:
        return ask(server.address, b"mn\r\n", b"\r\n") == b"MN\r\n"
    except OSError:
        return False


@pytest.mark.everywhere
def test_one_line(any_redis: RedisServer, tmp_path: Path) -> None:
    """One line says what was read, and of what cannot be read that it stays as it is."""
    users = tmp_path / "users"
    users.write_text("ann:secret\n")
    with servers.redcouch(any_redis.url, "--auth-file", str(users), ready=False) as server:
        eventually(lambda: "Connected to Redis" in server.log)
        before = server.log.count("\n")
        for text, words in (
            ("ann:secret\nbob:secret\n", f"Read 2 users from {users}"),
            ("ann\n", f"The users stay as they are: {users}, line 1"),
        ):
            users.write_text(text)
            os.kill(server.pid, signal.SIGHUP)
            eventually(lambda: words in server.log)  # noqa: B023
        assert server.log.count("\n") == before + 2
