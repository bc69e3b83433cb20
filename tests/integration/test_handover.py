"""What goes from a RedCouch to the one that takes over from it."""

from __future__ import annotations

import os
import resource
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import pytest

from redcouch.handover.succession import find
from tests.backends.redis.certificates import Authority
from tests.support import servers
from tests.support.frames import frame
from tests.support.over_tls import context_for
from tests.support.polling import PATIENCE, eventually
from tests.support.servers import LOOPBACK, TWISTD, RedCouch, RedisServer
from tests.support.wire import Wire, ask
from tests.support.workers import all_serve, doomed, request, runs, send, stats_with, worker_pids

TAKE_OVER = "--take-over"

VERSION = b"version\r\n"
READY = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@contextmanager
def following(old: RedCouch, storage: str, *options: str) -> Iterator[RedCouch]:
    """A RedCouch that is to take over. It is being started when the block begins."""
    new = RedCouch(old.folder / "new", storage, [*options, TAKE_OVER], ready=True)
    new.folder.mkdir()
    new.port = old.port
    new._launch()
    try:
        yield new
    finally:
        new.stop()
        new.check_log()


class OtherVersion(RedCouch):
    """One that hands over in another way, as a version to come may."""

    def command(self) -> list[str]:
        patched = (
            "from redcouch.handover import succession; succession.PROTOCOL += 1; "
            "from twisted.scripts.twistd import run; run()"
        )
        return [sys.executable, "-c", patched, *super().command()[1:]]


def take_over(old: RedCouch, new: RedCouch) -> None:
    """Wait until only the new one is left."""
    pid = old.pid
    eventually(lambda: not runs(pid))
    assert old.stop() == 0
    assert runs(new.pid), new.log
    eventually(new.answers)


def closed(wire: Wire) -> bool:
    return wire._socket.recv(1) == b""


@pytest.mark.parametrize(("before", "after"), [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")])
def test_clients_go_on(any_redis: RedisServer, before: str, after: str) -> None:
    """
    Clients that have said nothing, half a line, half a value or half a frame go on with the
    other half; whatever they have asked for is answered, in order.
    """
    large = os.urandom(500_000)
    noop = frame(0x0A)
    texts = [
        (b"", b"get none\r\n", b"END\r\n"),
        (b"get no", b"ne\r\n", b"END\r\n"),
        (VERSION[:3], VERSION[3:], b"VERSION 1.6.38-RedCouch-0.1.0\r\n"),
        (b"set a 5 0 8\r\nhal", b"f\r\n\r\n\r\n", b"STORED\r\n"),
        (b"set b 0 0 500000\r\n" + large[:300_000], large[300_000:] + b"\r\n", b"STORED\r\n"),
        (b"set c 0 0 9000000\r\n" + b"x" * 4_000_000, b"x" * 5_000_000 + b"\r\nmn\r\n", b"MN\r\n"),
        (noop[:5], noop[5:], noop.replace(b"\x80", b"\x81", 1)),
    ]
    store = frame(0x01, b"d", struct.pack(">II", 9, 0), large[:2000])
    with (
        doomed(any_redis.url, "--workers", before) as old,
        ExitStack() as stack,
    ):
        eventually(lambda: before == "1" or all_serve(old.address))
        wires = [stack.enter_context(Wire(old.address)) for _ in texts]
        binary = stack.enter_context(Wire(old.address))
        for wire, (first, _, _) in zip(wires, texts, strict=True):
            send(wire, first)
        send(binary, store[:1500])
        new = stack.enter_context(following(old, any_redis.url, "--workers", after))
        take_over(old, new)
        for wire, (_, second, expected) in zip(wires, texts, strict=True):
            send(wire, second)
            heard = b""
            while not heard.endswith(expected):
                data = wire._socket.recv(65536)
                assert data, f"closed after {heard!r}"
                heard += data
            assert heard in (expected, b"SERVER_ERROR object too large for cache\r\n" + expected)
        send(binary, store[1500:])
        assert binary._socket.recv(24)[6:8] == b"\0\0"
        found = ask(new.address, b"get a\r\n", b"END\r\n")
        assert found == b"VALUE a 5 8\r\nhalf\r\n\r\n\r\nEND\r\n"
        assert large in ask(new.address, b"get b\r\n", b"END\r\n")
        assert large[:2000] in ask(new.address, b"get d\r\n", b"END\r\n")
        expected = b"STAT curr_connections %d\r\n" % (len(texts) + 2)
        eventually(lambda: expected in ask(new.address, b"stats\r\n", b"END\r\n"))


def test_many_clients(any_redis: RedisServer) -> None:
    """As many clients as there may be go on, though each takes descriptors on its way."""
    options = ("--max-connections", "400")
    with doomed(any_redis.url, *options) as old, ExitStack() as stack:
        limit = resource.prlimit(old.pid, resource.RLIMIT_NOFILE, (464, 464))
        assert limit
        wires: list[Wire] = []
        while len(wires) < 400:
            wire = stack.enter_context(Wire(old.address))
            if request(wire, VERSION, b"\r\n").startswith(b"VERSION"):
                wires.append(wire)
        new = stack.enter_context(following(old, any_redis.url, *options))
        pid = old.pid
        eventually(lambda: not runs(pid))
        for wire in wires:
            assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        assert "400 clients go on" in old.log
        assert runs(new.pid)


def test_replies_that_are_not_taken(any_redis: RedisServer) -> None:
    """A client that has yet to take its replies gets every byte of them, in order."""
    value = os.urandom(900_000)
    with doomed(any_redis.url) as old, Wire(old.address) as wire, ExitStack() as stack:
        wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line = b"set big 0 0 %d\r\n%b\r\n" % (len(value), value)
        assert request(wire, line, b"\r\n") == b"STORED\r\n"
        send(wire, b"get big\r\n" * 3)
        new = stack.enter_context(following(old, any_redis.url))
        eventually(lambda: "Process " in old.log)
        wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        wire._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, 1 << 20)
        expected = (b"VALUE big 0 %d\r\n%b\r\nEND\r\n" % (len(value), value)) * 3
        heard = b""
        while len(heard) < len(expected):
            data = wire._socket.recv(65536)
            assert data, f"closed after {len(heard)} bytes"
            heard += data
        assert heard == expected
        take_over(old, new)
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"


def test_users_stay_who_they_are(any_redis: RedisServer, tmp_path: Path) -> None:
    """
    Who has proved who it is need not do so again, in text and binary; who has not still must, and
    so must who has then had the password wrong, or has begun anew.
    """
    users = tmp_path / "users"
    users.write_text("me:secret\n")
    options = ("--auth-file", str(users))
    with ExitStack() as stack:
        old = RedCouch(tmp_path, any_redis.url, options, ready=False)
        stack.callback(old.stop)
        old.start()
        text, binary, out, anew, nobody, half = (
            stack.enter_context(Wire(old.address)) for _ in range(6)
        )
        assert request(text, b"set x 0 0 9\r\nme secret\r\n", b"\r\n") == b"STORED\r\n"
        for wire in (binary, out, anew):
            send(wire, frame(0x21, b"PLAIN", b"", b"\0me\0secret"))
            assert wire._socket.recv(100).endswith(b"Authenticated")
        send(out, frame(0x21, b"PLAIN", b"", b"\0me\0wrong"))
        assert out._socket.recv(100).endswith(b"Auth failure.")
        send(anew, frame(0x20))
        assert anew._socket.recv(100).endswith(b"PLAIN")
        assert request(nobody, b"get a\r\n", b"\r\n").startswith(b"CLIENT_ERROR unauth")
        send(half, b"set x 0 0 9\r\nme se")
        new = stack.enter_context(following(old, any_redis.url, *options))
        take_over_unready(old, new)
        assert request(text, b"get none\r\n", b"END\r\n") == b"END\r\n"
        send(binary, frame(0x00, b"none"))
        assert binary._socket.recv(100)[6:8] == b"\0\1"
        for wire in (out, anew):
            send(wire, frame(0x00, b"none"))
            assert wire._socket.recv(100).endswith(b"Auth failure.")
        assert request(nobody, b"get a\r\n", b"\r\n").startswith(b"CLIENT_ERROR unauth")
        assert request(half, b"cret\r\n", b"\r\n") == b"STORED\r\n"


def take_over_unready(old: RedCouch, new: RedCouch) -> None:
    """The same, of a new one that says nothing to strangers."""
    pid = old.pid
    eventually(lambda: not runs(pid))
    assert runs(new.pid), new.log


def test_under_way(any_redis: RedisServer) -> None:
    """What is under way is answered by the process that was asked; then the client goes on."""
    with (
        servers.redis_server() as storage,
        doomed(storage.url + "?timeout=60") as old,
        Wire(old.address) as wire,
        ExitStack() as stack,
    ):
        assert request(wire, b"set a 0 0 1\r\n1\r\n", b"\r\n") == b"STORED\r\n"
        new = stack.enter_context(following(old, storage.url))
        eventually(lambda: "Taking over" in new.log)
        assert request(wire, b"incr a 1\r\n", b"\r\n") == b"2\r\n"
        take_over(old, new)
        assert request(wire, b"incr a 1\r\n", b"\r\n") == b"3\r\n"


def test_tls_clients_finish(any_redis: RedisServer, tmp_path: Path) -> None:
    """A client over TLS is let finish, and closed; the port is never closed."""
    authority = Authority(tmp_path, "ca")
    certificate, key = authority.issue("server")
    options = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    context = context_for(authority)

    def client() -> ssl.SSLSocket:
        plain = socket.create_connection((LOOPBACK, old.port), PATIENCE)
        return context.wrap_socket(plain, server_hostname=LOOPBACK)

    with ExitStack() as stack:
        old = servers.RedCouchOverTLS(tmp_path, any_redis.url, options, ready=False)
        stack.callback(old.stop)
        old.start()
        first = stack.enter_context(client())
        first.sendall(b"set t 0 0 1\r\nx\r\n")
        assert first.recv(100) == b"STORED\r\n"
        new = stack.enter_context(following(old, any_redis.url, *options))
        assert first.recv(100) == b""
        first.close()
        take_over_unready(old, new)
        second = stack.enter_context(client())
        second.sendall(b"get t\r\n")
        assert second.recv(100).startswith(b"VALUE t 0 1\r\n")


def test_unix_socket(any_redis: RedisServer, tmp_path: Path) -> None:
    """
    A unix socket goes on as it is: with its clients, its mode and its path, however long that is,
    and as many may wait. After a crash it is opened again.
    """
    path = tmp_path / "s".ljust(99 - len(str(tmp_path)), "s")
    options = ("--port", f"unix:{path}:mode=600")
    with doomed(any_redis.url, *options) as old, ExitStack() as stack:
        wire = stack.enter_context(Wire(str(path)))
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        path.chmod(0o640)  # only its owner may, who need not be the one that takes over
        with following(old, any_redis.url, *options) as new:
            take_over(old, new)
            assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
            assert ask(str(path), b"mn\r\n", b"\r\n") == b"MN\r\n"
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
            servers.hold(new.pid)
            for _ in range(100):
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
            os.kill(new.pid, signal.SIGCONT)
            assert "Nobody can take over" not in old.log
            eventually(lambda: os.path.lexists(f"{path}.lock"))
            new.kill()
            new.start()
            assert ask(str(path), b"mn\r\n", b"\r\n") == b"MN\r\n"
        assert not path.exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_old_memcached_that_is_away(any_redis: RedisServer, workers: str) -> None:
    """It keeps nobody from serving, nor from taking over; nor workers from being renewed."""
    url = f"warm:{any_redis.url}?from=memcached://{LOOPBACK}:{servers.free_port()}"
    with (
        doomed(url, "--workers", workers) as old,
        Wire(old.address) as wire,
        following(old, url, "--workers", workers) as new,
    ):
        take_over(old, new)
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        if workers == "2":
            os.kill(new.pid, signal.SIGUSR2)
            eventually(lambda: "All workers are new" in new.log)
            assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_other_ports(any_redis: RedisServer, tmp_path: Path, workers: str) -> None:
    """
    A port that the new one has not is closed, with the path of a unix socket, and one that the old
    one had not is opened.
    """
    gone, new_port = servers.free_port(), servers.free_port()
    path, page = tmp_path / "s", tmp_path / "page"
    options = ("--port", str(gone), "--port", f"unix:{path}", "--http", f"unix:{page}")
    with doomed(any_redis.url, *options, "--workers", workers) as old, ExitStack() as stack:
        wire = stack.enter_context(Wire((LOOPBACK, gone)))
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        new = stack.enter_context(following(old, any_redis.url, "--port", str(new_port)))
        take_over(old, new)
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        assert ask((LOOPBACK, new_port), b"mn\r\n", b"\r\n") == b"MN\r\n"
        with pytest.raises(ConnectionRefusedError):
            Wire((LOOPBACK, gone))
        assert not path.exists()
        assert not page.exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_status_page(any_redis: RedisServer, workers: str) -> None:
    """The page stays where it is, too."""
    place = (LOOPBACK, servers.free_port())
    options = ("--http", str(place[1]), "--workers", workers)
    with doomed(any_redis.url, *options) as old, following(old, any_redis.url, *options) as new:
        take_over(old, new)
        eventually(lambda: ask(place, READY, b"never").startswith(b"HTTP/1.1 200 "))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_clients_that_come_before_it_can_serve(any_redis: RedisServer, workers: str) -> None:
    """All are the old one's, and so are those who ask for the status page."""
    place = (LOOPBACK, servers.free_port())
    options = ("--http", str(place[1]), "--workers", workers)
    nowhere = f"redis://{LOOPBACK}:{servers.free_port()}"
    with servers.redcouch(any_redis.url, *options) as old, following(old, nowhere, *options) as new:
        eventually(lambda: new.log.count("Cannot reach Redis") >= int(workers))
        for _ in range(40):
            assert ask(old.address, b"get none\r\n", b"\r\n") == b"END\r\n"
            assert ask(place, READY, b"never").startswith(b"HTTP/1.1 200 ")


def test_one_that_cannot_serve(any_redis: RedisServer) -> None:
    """A new one that cannot reach its storage, or cannot start, takes nothing over."""
    with servers.redcouch(any_redis.url) as old, Wire(old.address) as wire:
        with following(old, f"redis://{LOOPBACK}:{servers.free_port()}") as new:
            eventually(lambda: "Cannot reach Redis" in new.log)
            assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        second = RedCouch(old.folder, any_redis.url, [TAKE_OVER, "--auth-file=none"], ready=True)
        second.port = old.port
        status, _ = second.run()
        assert status == 1
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        assert ask(old.address, b"get none\r\n", b"END\r\n") == b"END\r\n"
        assert "takes over" not in old.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_that_gives_up(any_redis: RedisServer, tmp_path: Path, workers: str) -> None:
    """A new one that is ended before it can serve leaves the unix socket of the old one alone."""
    path = tmp_path / "rc.sock"
    options = ("--port", f"unix:{path}", "--workers", workers)
    with servers.redcouch(any_redis.url, *options) as old:
        nowhere = f"redis://{LOOPBACK}:{servers.free_port()}"
        with following(old, nowhere, *options) as new:
            eventually(lambda: "Cannot reach Redis" in new.log)
        assert ask(str(path), b"mn\r\n", b"\r\n") == b"MN\r\n"
    assert not path.exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_old_one_that_is_ended_first(tmp_path: Path, workers: str) -> None:
    """Where the old one is ended before the new one can serve, that goes on listening."""
    path = tmp_path / "rc.sock"
    options = ("--port", f"unix:{path}", "--workers", workers)
    with servers.redis_server() as storage, doomed(storage.url, *options) as old:
        storage.kill()
        with following(old, storage.url, *options) as new:
            eventually(lambda: "Cannot reach Redis" in new.log)
            assert old.stop() == -signal.SIGTERM
            assert ask(new.address, b"get a\r\n", b"\r\n").startswith(b"SERVER_ERROR")
            storage.start()
            eventually(new.answers)
            assert ask(str(path), b"mn\r\n", b"\r\n") == b"MN\r\n"
        assert not path.exists()


def test_two_at_once(any_redis: RedisServer) -> None:
    """While one process is to take over, another one is refused, and leaves both alone."""
    with doomed(any_redis.url) as old, ExitStack() as stack:
        (old.folder / "second").mkdir()
        second = RedCouch(old.folder / "second", any_redis.url, [TAKE_OVER], ready=True)
        second.port = old.port
        endpoint = f"tcp:{old.port}:interface={LOOPBACK}"
        first = find([endpoint], [])
        assert first is not None
        for listening in first.take_sockets([endpoint]).values():
            listening.close()
        status, said = second.run()
        assert status == 1
        (line,) = (line for line in said.splitlines() if "--take-over: " in line)
        assert f"process {os.getpid()} is to take over already" in line
        assert "Traceback" not in said
        first.close()
        take_over(old, stack.enter_context(following(old, any_redis.url)))


def test_nobody_there(any_redis: RedisServer) -> None:
    """Where nobody serves yet, the option changes nothing; where another program does, it fails."""
    with servers.redcouch(any_redis.url, TAKE_OVER) as server:
        assert ask(server.address, b"mn\r\n", b"\r\n") == b"MN\r\n"
    with socket.create_server((LOOPBACK, 0)) as other:
        server = RedCouch(server.folder.parent, any_redis.url, [TAKE_OVER], ready=True)
        server.folder, server.port = Path.cwd(), other.getsockname()[1]
        status, said = server.run()
        assert status == 1
        assert "in use" in said


@pytest.mark.parametrize("storage", ["memory:", "embedded:"])
def test_items_that_would_be_lost(tmp_path: Path, storage: str) -> None:
    """Where the items end with the process, nobody can take over."""
    server = RedCouch(tmp_path, storage, [TAKE_OVER], ready=True)
    server.port = servers.free_port()
    status, said = server.run()
    assert (status, said) == (
        1,
        f"redcouch: --take-over: the items of {storage} end with the process that has them\n",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_strangers(any_redis: RedisServer) -> None:
    """A process of another user is not spoken with."""
    program = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "caller = socket.socket(socket.AF_UNIX)\n"
        "caller.connect('\\0redcouch-tcp:' + sys.argv[1] + ':interface=127.0.0.1')\n"
        "caller.settimeout(60)\n"
        "try:\n"
        "    caller.sendall(b'\\0\\0\\0\\x13[1,0,\"sockets\",null]')\n"
        "    print(caller.recv(100))\n"
        "except (BrokenPipeError, ConnectionResetError):\n"
        "    print(b'')\n"
    )
    with servers.redcouch(any_redis.url) as server:
        command = [sys.executable, "-c", program, str(server.port)]
        assert subprocess.check_output(command, text=True) == "b''\n"


def test_pid_file(any_redis: RedisServer, tmp_path: Path) -> None:
    """
    The same command line again takes over: twistd's file has the new process id then, and the log
    every line of each process.
    """
    port = servers.free_port()
    file = tmp_path / "rc.pid"
    places = [f"--pidfile={file}", f"--logfile={tmp_path}/log", f"--rundir={tmp_path}"]
    path = f"{tmp_path}/sock"
    ports = ["--port", str(port), "--port", f"unix:{path}"]
    service = ["redcouch", *ports, "--storage", any_redis.url, TAKE_OVER]
    with ExitStack() as stack:
        start(places, service, None)
        eventually(lambda: listens_on(port))
        wire = stack.enter_context(Wire((LOOPBACK, port)))
        for _ in range(2):
            assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
            start(places, service, int(file.read_text()))
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        pid = int(file.read_text())
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not runs(pid))
    assert not list(tmp_path.glob("rc.pid*"))
    log = (tmp_path / "log").read_text()
    for line, count in (("starting up.", 3), ("Taking over from", 2), ("Server Shut Down.", 3)):
        assert log.count(line) == count, log
    assert log.count(f"(UNIX Port {path} Closed)") == 3, log
    assert "\0" not in log  # with which grep would take it for a binary file


def test_pid_file_of_one_that_waits(any_redis: RedisServer, tmp_path: Path) -> None:
    """Whoever comes meanwhile is told who is to take over, whose file stays as it is."""
    port, file = servers.free_port(), tmp_path / "rc.pid"
    places = [f"--pidfile={file}", f"--logfile={tmp_path}/log"]
    service = ["redcouch", "--port", str(port), TAKE_OVER, "--storage"]
    away = f"redis://127.0.0.1:{servers.free_port()}"
    pids = []
    try:
        start(places, [*service, any_redis.url], None)
        pids.append(int(file.read_text()))
        subprocess.run([TWISTD, *places, *service, away], check=True, timeout=PATIENCE)
        (beside,) = tmp_path.glob("rc.pid*.next")
        waiting = beside.read_text()
        pids.append(int(waiting))
        third = [TWISTD, *places, *service, any_redis.url]
        done = subprocess.run(third, capture_output=True, text=True, timeout=PATIENCE)
        assert f"process {waiting} is to take over already\n" in done.stderr
        assert done.returncode == 1
        assert [one.read_text() for one in tmp_path.glob("rc.pid*.next")] == [waiting]
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not any(map(runs, pids)))


def start(places: list[str], service: list[str], before: int | None) -> None:
    """Start a service in the background, and wait until it has the PID file of the one before."""
    subprocess.run([TWISTD, *places, *service], check=True, timeout=PATIENCE)
    file = Path(places[0].partition("=")[2])
    eventually(lambda: file.exists() and file.read_text() not in ("", str(before)))
    eventually(lambda: before is None or not runs(before))


def listens_on(port: int) -> bool:
    try:
        return ask((LOOPBACK, port), b"mn\r\n", b"\r\n") == b"MN\r\n"
    except ConnectionRefusedError:
        return False


# -- SIGUSR2 -----------------------------------------------------------------------------------


def test_restart(any_redis: RedisServer) -> None:
    """SIGUSR2 starts the process that takes over, with the same options."""
    with doomed(any_redis.url) as old, Wire(old.address) as wire:
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        pid = old.pid
        os.kill(pid, signal.SIGUSR2)
        eventually(lambda: not runs(pid))
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        seen = request(wire, b"stats\r\n", b"END\r\n").decode()
        new = int(seen.partition("STAT pid ")[2].split()[0])
        assert new != pid
        os.kill(new, signal.SIGTERM)
        assert closed(wire)
        eventually(lambda: not runs(new))


def test_restart_of_one_that_ends(any_redis: RedisServer) -> None:
    """Whoever has ended the service, and is asked for another one meanwhile, has none after it."""
    with servers.redcouch(any_redis.url, "--drain-timeout", "1000") as server:
        with servers.plain(server.port) as wire:
            wire.sendall(b"set k 0 0 1000000\r\n%b\r\n" % bytes(1_000_000) + b"get k\r\n" * 20)
            wire.recv(100)
            os.kill(server.pid, signal.SIGTERM)
            eventually(lambda: "Waiting for 1 clients to finish" in server.log)
            os.kill(server.pid, signal.SIGUSR2)
            eventually(lambda: "SIGUSR2: " in server.log)
        assert "no other process can take over from this one" in server.log


def test_restart_of_one_that_is_ended() -> None:
    """Whoever ends the service while another is to take over from it has none after it."""
    with servers.redis_server() as redis, servers.redcouch(redis.url) as server:
        redis.kill()  # for which the other one waits
        os.kill(server.pid, signal.SIGUSR2)
        eventually(lambda: "is to take over" in server.log)
        other = int(server.log.partition(" is to take over")[0].rpartition(" ")[2])
        try:
            os.kill(server.pid, signal.SIGTERM)
            eventually(lambda: not runs(other))
        finally:
            if runs(other):
                os.kill(other, signal.SIGKILL)
        eventually(lambda: not listens_on(server.port))  # the first one, too, has ended


def test_restart_that_fails(any_redis: RedisServer, tmp_path: Path) -> None:
    """In the background, where nobody hears the new process, the log of the old one says so."""
    port, users = servers.free_port(), tmp_path / "users"
    users.write_text("ann:secret\n")
    file, log = tmp_path / "rc.pid", tmp_path / "log"
    service = ["redcouch", "--port", str(port), "--storage", any_redis.url]
    start([f"--pidfile={file}", f"--logfile={log}"], [*service, "--auth-file", str(users)], None)
    pid = int(file.read_text())
    try:
        eventually(lambda: listens_on(port))
        users.unlink()
        os.kill(pid, signal.SIGUSR2)
        eventually(lambda: "has ended with status 1, and this one goes on" in log.read_text())
        assert listens_on(port)
    finally:
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not runs(pid))


def test_workers_are_renewed(any_redis: RedisServer) -> None:
    """SIGUSR2 renews one worker after the other; clients and what was counted stay."""
    with servers.redcouch(any_redis.url, "--workers", "2") as server, ExitStack() as stack:
        eventually(lambda: all_serve(server.address))
        wires = [stack.enter_context(Wire(server.address)) for _ in range(6)]
        ask(server.address, b"stats reset\r\n", b"RESET\r\n")
        for wire in wires:
            assert request(wire, b"set a 0 0 1\r\nx\r\n", b"\r\n") == b"STORED\r\n"
        before = worker_pids(server.pid)
        os.kill(server.pid, signal.SIGUSR2)
        eventually(lambda: "All workers are new" in server.log)
        after = worker_pids(server.pid)
        assert set(after) == {1, 2}
        assert not set(after.values()) & set(before.values())
        for wire in wires:
            assert request(wire, b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n"
        stats_with(wires[0], cmd_set="6", cmd_get="6", total_connections="0")


def test_worker_that_cannot_be_renewed(any_redis: RedisServer, tmp_path: Path) -> None:
    """It stays, and so do the others; the log says why."""
    module = tmp_path / "sitecustomize.py"
    server = RedCouch(tmp_path, any_redis.url, ["--workers", "2"], ready=True)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, PYTHONPATH=str(tmp_path)))
        stack.callback(server.stop)
        server.start()
        eventually(lambda: all_serve(server.address))
        wire = stack.enter_context(Wire(server.address))
        before = worker_pids(server.pid)
        module.write_text(
            "import sys\n"
            "if 'redcouch.workers.fork_server' in sys.orig_argv:\n"
            "    sys.exit('redcouch: the dog has eaten it')\n"
        )
        os.kill(server.pid, signal.SIGUSR2)
        eventually(lambda: "the dog has eaten it" in server.log and "was renewed" in server.log)
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        assert worker_pids(server.pid) == before


@pytest.mark.parametrize("workers", ["1", "2"])
def test_another_version(any_redis: RedisServer, workers: str) -> None:
    """It is refused in one line, and clients of the old one, and new ones, notice nothing."""
    with (
        servers.redcouch(any_redis.url, "--workers", workers) as old,
        Wire(old.address) as wire,
    ):
        wire.say([VERSION], b"\r\n")
        (old.folder / "new").mkdir()
        new = OtherVersion(old.folder / "new", any_redis.url, [TAKE_OVER], ready=True)
        new.port = old.port
        status, said = new.run()
        assert status == 1
        (line,) = (line for line in said.splitlines() if "--take-over: " in line)
        assert "is of a version that hands over otherwise (protocol 1, not 2)" in line
        assert "Traceback" not in said
        assert wire.say([VERSION], b"\r\n").reply.startswith(b"VERSION ")
        assert old.answers()


def test_one_beside_that_is_renewed(any_redis: RedisServer) -> None:
    """With C{--reuse-port}, clients of the old one go to the workers that the new one has then."""
    with doomed(any_redis.url, "--reuse-port") as old, ExitStack() as stack:
        wire = stack.enter_context(Wire(old.address))
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
        (old.folder / "new").mkdir()
        options = ["--reuse-port", "--workers", "2"]
        new = RedCouch(old.folder / "new", any_redis.url, options, ready=True)
        new.port = old.port
        stack.callback(new.stop)
        new._launch()
        eventually(lambda: new.log.count("Following process") == 1)
        os.kill(new.pid, signal.SIGUSR2)
        eventually(lambda: new.log.count("Following process") == 2)
        old.stop()
        assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"


def test_another_version_beside(any_redis: RedisServer) -> None:
    """With C{--reuse-port} both serve; the clients of the old one are not given."""
    with servers.redcouch(any_redis.url, "--reuse-port") as old, ExitStack() as stack:
        (old.folder / "new").mkdir()
        new = OtherVersion(old.folder / "new", any_redis.url, ["--reuse-port"], ready=True)
        new.port = old.port
        stack.callback(new.stop)
        new._launch()
        with Wire(old.address) as wire:
            eventually(lambda: "cannot have the clients: it is of a version that" in old.log)
            assert wire.say([VERSION], b"\r\n").reply.startswith(b"VERSION ")
        assert runs(new.pid)
