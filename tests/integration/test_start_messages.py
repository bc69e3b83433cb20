"""What an operator is told at the start, and about clients that do not fit."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.backends.redis.certificates import Authority
from tests.support import servers
from tests.support.over_tls import context_for
from tests.support.polling import eventually
from tests.support.servers import LOOPBACK, RedCouch, RedisServer
from tests.support.wire import Wire, ask

OPEN = "may read and change all items"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_any_port(workers: str, any_redis: RedisServer) -> None:
    """Where any port will do, the log says which it is: for clients and for the status page."""
    options = ("--workers", workers, "--port", "0", "--http", "0")
    with servers.redcouch(any_redis.url, *options) as server:
        found = re.search(r"listens on .*, tcp:(\d+):interface=127\.0\.0\.1 and", server.log)
        assert found is not None, server.log
        eventually(lambda: ask((LOOPBACK, int(found[1])), b"mn\r\n", b"\r\n") == b"MN\r\n")
        page = re.search(r"status page is on tcp:(\d+):", server.log)
        assert page is not None
        with servers.plain(int(page[1])) as probe:
            probe.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert servers.read_all(probe).startswith(b"HTTP/1.0 200")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_open_to_others(workers: str, any_redis: RedisServer, tmp_path: Path) -> None:
    """One line where others reach the port without a password; none where they need one."""
    users = tmp_path / "users"
    users.write_text("ann:secret\n")
    options = ("--workers", workers, "--interface", "0.0.0.0", "--port", "0")
    for more, times in (((), 1), (("--auth-file", str(users)), 0)):
        with servers.redcouch(any_redis.url, *options, *more, ready=False) as server:
            assert server.log.count(OPEN) == times
    with servers.redcouch(any_redis.url, "--workers", workers, ready=False) as server:
        assert OPEN not in server.log


@pytest.mark.parametrize(
    ("option", "given", "meant"),
    [
        ("--port", "localhost:11211", "tcp:11211:interface=localhost"),
        ("--port", "0.0.0.0:11211", "tcp:11211:interface=0.0.0.0"),
        ("--port", "[::1]:11211", r"tcp:11211:interface=\:\:1"),
        ("--port", ":11211", "tcp:11211:interface="),
        ("--http", "0.0.0.0:8080", "tcp:8080:interface=0.0.0.0"),
    ],
)
def test_host_and_port(option: str, given: str, meant: str, tmp_path: Path) -> None:
    """As other programs take it: refused in a line with the endpoint that is meant."""
    status, said = RedCouch(tmp_path, "memory:", [], ready=False).run(option, given)
    assert status == 1
    (line,) = said.splitlines()
    assert line.startswith(f"redcouch: {option} ")
    assert line.endswith(meant)


@pytest.mark.parametrize("more", [[], ["--workers", "2"], ["--http", "0"], ["--log-format=json"]])
def test_start_in_the_background(more: list[str], any_redis: RedisServer, tmp_path: Path) -> None:
    """Why a start fails is said in full to whoever waits for it, however long that is."""
    folder = tmp_path / ("long-name-" * 12)
    endpoint = f"unix:{folder}/absent/redcouch.sock"
    server = RedCouch(tmp_path, any_redis.url, ["--port", endpoint, *more], ready=False)
    server.port = servers.free_port()
    command = [word for word in server.command() if word not in ("-n", "--pidfile=")]
    done = subprocess.run(
        [command[0], "--pidfile", "pid", "--logfile", "log", *command[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("redcouch: "))
    assert f"{folder}/absent/redcouch.sock" in line
    assert not (tmp_path / "pid").exists()


def test_tls_to_a_plain_port(any_redis: RedisServer) -> None:
    """One line, however often the client tries again."""
    context = ssl.create_default_context()
    with servers.redcouch(any_redis.url) as server:
        for _ in range(5):
            with servers.plain(server.port) as plain, pytest.raises((ssl.SSLError, OSError)):
                context.wrap_socket(plain, server_hostname=LOOPBACK)
        assert server.log.count("it speaks TLS to a port that does not") == 1


@pytest.mark.parametrize(
    "words", [b"version\r\n", b"GET / HTTP/1.0\r\n\r\n", b"\x80\x0a" + bytes(22)]
)
def test_plain_to_a_tls_port(words: bytes, tmp_path: Path) -> None:
    """The same the other way round; clients that do speak TLS are served meanwhile."""
    authority = Authority(tmp_path, "authority")
    certificate, key = map(str, authority.issue("server"))
    options = ("--tls-cert", certificate, "--tls-key", key)
    with servers.redcouch_over_tls("memory:", *options) as server:
        for _ in range(5):
            with servers.plain(server.port) as plain:
                plain.sendall(words)
                servers.read_all(plain)
        eventually(lambda: "No client for this port is tcp:127.0.0.1:" in server.log)
        assert server.log.count("TLS could not begin") == 1
        with (
            servers.plain(server.port) as plain,
            context_for(authority).wrap_socket(plain, server_hostname=LOOPBACK) as wire,
        ):
            wire.sendall(b"mn\r\n")
            assert wire.recv(10) == b"MN\r\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_unix_sockets(workers: str, any_redis: RedisServer, tmp_path: Path) -> None:
    """They are their owner's alone, unless the endpoint says otherwise."""
    places = [tmp_path / name for name in ("clients", "shared", "page", "shared-page")]
    clients, shared, page, shared_page = places
    options = [
        "--workers",
        workers,
        "--port",
        f"unix:{clients}",
        "--port",
        f"unix:{shared}:mode=660",
    ]
    with servers.redcouch(any_redis.url, *options, "--http", f"unix:{page}"):
        modes = [place.stat().st_mode & 0o777 for place in places[:3]]
        assert modes == [0o600, 0o660, 0o600]
        with Wire(str(clients)) as wire:
            assert wire.exchange(b"mn\r\n", lambda said: True) == b"MN\r\n"
    with servers.redcouch(any_redis.url, "--http", f"unix:{shared_page}:mode=666"):
        assert shared_page.stat().st_mode & 0o777 == 0o666
