"""Several processes that are one service: C{--workers}."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from tests.backends.redis.certificates import Authority
from tests.support import prefork, servers
from tests.support.polling import PACE, PATIENCE, eventually
from tests.support.servers import LOOPBACK, RedCouch, RedisServer, children
from tests.support.wire import Wire, ask
from tests.support.workers import (
    all_serve,
    clients_by_worker,
    command_line,
    doomed,
    fork_server_pid,
    own_name,
    request,
    runs,
    send,
    statistics,
    stats_on,
    stats_with,
    worker_pids,
)

T = TypeVar("T")

TWO = ("--workers", "2")


@pytest.fixture
def both(any_redis: RedisServer) -> Iterator[RedCouch]:
    """A RedCouch of two workers, both of which serve, over an empty Redis."""
    with any_redis.client() as native:
        native.flushall()
    with servers.redcouch(any_redis.url, *TWO) as server:
        eventually(lambda: all_serve(server.address))
        ask(server.address, b"stats reset\r\n", b"RESET\r\n")
        yield server


@contextmanager
def one_each(server: RedCouch) -> Iterator[dict[int, Wire]]:
    """A client of each of two workers."""
    with ExitStack() as stack:
        found: dict[int, Wire] = {}
        more = []
        while len(found) < 2:
            wire = stack.enter_context(Wire(server.address))
            request(wire, b"version\r\n", b"\r\n")

            def number(wire: Wire = wire) -> int:
                return clients_by_worker(server.address).get(own_name(wire), 0)

            if found.setdefault(eventually(number), wire) != wire:
                more.append(wire)
        for wire in more:
            wire._socket.close()
        yield found


# -- serving -----------------------------------------------------------------------------------


@pytest.mark.everywhere
def test_all_serve_the_same_items(both: RedCouch) -> None:
    """What one sets the others get."""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(both.address)) for _ in range(12)]
        for number, wire in enumerate(wires):
            line = f"set key-{number} 0 0 2\r\n{number:02}\r\n".encode()
            assert request(wire, line, b"\r\n") == b"STORED\r\n"
        for number in range(12):
            for wire in wires:
                reply = request(wire, f"get key-{number}\r\n".encode(), b"END\r\n")
                assert reply == f"VALUE key-{number} 0 2\r\n{number:02}\r\nEND\r\n".encode()


@pytest.mark.everywhere
def test_clients_are_shared_out(both: RedCouch) -> None:
    """Each worker has its share of them, unless the machine leaves one no time for that."""

    def shared_out() -> bool:
        with ExitStack() as stack:
            for _ in range(12):
                wire = stack.enter_context(Wire(both.address))
                assert request(wire, b"mn\r\n", b"\r\n") == b"MN\r\n"
            workers = list(clients_by_worker(both.address).values())
        return min(workers.count(worker) for worker in (1, 2)) >= 3

    eventually(shared_out)


@pytest.mark.everywhere
def test_unix_socket(any_redis: RedisServer, tmp_path: Path) -> None:
    """A unix socket is shared too, keeps the mode asked for, and goes at the end."""
    path = tmp_path / "rc.sock"
    with servers.redcouch(any_redis.url, *TWO, "--port", f"unix:{path}:mode=600") as server:
        eventually(lambda: all_serve_unix(str(path), server))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_unix_socket_that_is_gone(any_redis: RedisServer, tmp_path: Path) -> None:
    """Somebody has removed its path: the service ends in order all the same, after its clients."""
    path = tmp_path / "rc.sock"
    with (
        servers.redcouch(any_redis.url, *TWO, "--port", f"unix:{path}") as server,
        Wire(server.address) as wire,
    ):
        with held(any_redis):
            send(wire, b"get a\r\n")
            eventually(lambda: nothing_unread(wire))
            path.unlink()
            os.kill(server.pid, signal.SIGTERM)
            ends = ("Waiting for 1 clients to finish", "Main loop terminated")
            said = eventually(lambda: [words for words in ends if words in server.log])
        assert said == [ends[0]]
        assert finished(wire) == b"END\r\n"


def all_serve_unix(path: str, server: RedCouch) -> bool:
    with ExitStack() as stack:
        for _ in range(8):
            wire = stack.enter_context(Wire(path))
            assert request(wire, b"version\r\n", b"\r\n").startswith(b"VERSION ")
        numbers = [
            int(name.partition(":")[0])
            for name, client in statistics(server.address, "conns").items()
            if client == "unix"
        ]
        return len(numbers) == 8 and {number % 2 for number in numbers} == {0, 1}


@pytest.mark.everywhere
def test_tls(any_redis: RedisServer, tmp_path: Path) -> None:
    """Each worker speaks TLS itself."""
    import ssl

    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("redcouch", LOOPBACK)
    port = servers.free_port()
    endpoint = f"ssl:{port}:interface={LOOPBACK}:privateKey={key}:certKey={certificate}"
    context = ssl.create_default_context(cafile=str(authority.path))
    with servers.redcouch(any_redis.url, *TWO, "--port", endpoint), ExitStack() as stack:
        for _ in range(6):
            plain = stack.enter_context(socket.create_connection((LOOPBACK, port), PATIENCE))
            encrypted = stack.enter_context(context.wrap_socket(plain, server_hostname=LOOPBACK))
            encrypted.sendall(b"version\r\n")
            assert encrypted.recv(100).startswith(b"VERSION ")


def test_embedded() -> None:
    """One private Redis for all workers. It outlives any worker, and ends with the service."""
    with servers.redcouch("embedded:", *TWO) as server:
        eventually(lambda: all_serve(server.address))
        assert ask(server.address, b"set a 0 0 1\r\nx\r\n", b"\r\n") == b"STORED\r\n"
        before = worker_pids(server.pid)
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(set(worker_pids(server.pid).values()) - set(before.values())) == 2)
        assert ask(server.address, b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n"
        (guard,) = set(children(server.pid)) - {fork_server_pid(server.pid)}
        redis_pids = children(guard)
        assert redis_pids
    assert not any(runs(pid) for pid in (guard, *redis_pids))


def test_embedded_ends_with_a_killed_parent() -> None:
    """The workers hold nothing open that would keep the private Redis alive."""
    with doomed("embedded:", *TWO) as server:
        eventually(lambda: len(servers.family(server.pid)) == 6)
        family = servers.family(server.pid)[1:]
        assert len(family) == 5
        server.kill()
        eventually(lambda: not any(runs(pid) for pid in family))


@pytest.mark.everywhere
def test_password_is_not_shown() -> None:
    """No command line has the storage URL's password but the one that the operator wrote."""
    with (
        servers.redis_server("--requirepass", "s3cret") as storage,
        servers.redcouch(f"redis://:s3cret@{LOOPBACK}:{storage.port}", *TWO) as server,
    ):
        pids = eventually(lambda: worker_pids(server.pid))
        shown = [word for pid in pids.values() for word in command_line(pid)]
        assert shown
        assert not any("s3cret" in word for word in shown)
        assert "s3cret" not in server.log


@pytest.mark.everywhere
def test_users(any_redis: RedisServer, tmp_path: Path) -> None:
    """SIGHUP has all workers know the users anew; a file that cannot be read changes nothing."""
    users = tmp_path / "users"
    users.write_text("me:first\n")
    with servers.redcouch(any_redis.url, *TWO, "--auth-file", str(users), ready=False) as server:
        eventually(lambda: enters(server, b"first", b"me") and "[worker 2]" in server.log)
        users.write_text("me:second\n")
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: "Read 1 users" in server.log)
        eventually(lambda: all(enters(server, b"second", b"me") for _ in range(6)))
        users.write_text("nonsense\n")
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: "The users stay as they are" in server.log)
        for pid in worker_pids(server.pid).values():
            os.kill(pid, signal.SIGKILL)
        for _ in range(6):
            assert enters(server, b"second", b"me"), "new workers have the users that count"


def enters(server: RedCouch, password: bytes, user: bytes) -> bool:
    proof = user + b" " + password
    line = b"set auth 0 0 %d\r\n%b\r\n" % (len(proof), proof)
    return ask(server.address, line, b"\r\n") == b"STORED\r\n"


# -- statistics --------------------------------------------------------------------------------


def test_statistics_are_of_all(both: RedCouch) -> None:
    """Whichever worker is asked, it tells of all; to the last request."""
    with one_each(both) as wires:
        request(wires[1], b"stats reset\r\n", b"RESET\r\n")
        for worker, wire in wires.items():
            for _ in range(10 * worker):
                request(wire, b"set a 0 0 1\r\nx\r\n", b"\r\n")
                request(wire, b"get a b\r\n", b"END\r\n")
        for wire in wires.values():
            seen = stats_with(wire, cmd_set="30", curr_connections="2")
            assert seen["cmd_get"] == "60"
            assert seen["get_hits"] == "30"
            assert seen["get_misses"] == "30"
            assert seen["threads"] == "2"
            assert seen["pid"] == str(both.pid)
            assert seen["max_connections"] == "1024"
            assert float(seen["rusage_user"]) > 0
            known = {f"tcp:127.0.0.1:{both.port}", "conn_listening"}
            known |= {own_name(wire) for wire in wires.values()}
            eventually(
                lambda wire=wire: set(stats_on(wire, "conns").values()),  # type: ignore[misc]
                known.__eq__,
            )
        assert statistics(both.address, "settings")["num_threads"] == "2"
        request(wires[2], b"stats reset\r\n", b"RESET\r\n")
        after = stats_with(wires[1], cmd_set="0", curr_connections="2")
        assert after["cmd_get"] == "0"


def test_counts_do_not_go_back(both: RedCouch) -> None:
    """What has been reported of a worker stays counted when it is no more."""
    with one_each(both) as wires:
        for wire in wires.values():
            request(wire, b"set a 0 0 1\r\nx\r\n", b"\r\n")
        before = stats_with(wires[1], cmd_set="2")
    for pid in worker_pids(both.pid).values():
        os.kill(pid, signal.SIGKILL)
    after = eventually(lambda: statistics(both.address))
    assert after["cmd_set"] == "2"
    assert int(after["total_connections"]) > int(before["total_connections"]) - 1
    eventually(lambda: statistics(both.address).get("curr_connections") == "1")


def test_silent_worker(both: RedCouch) -> None:
    """A worker that does not answer does not keep the others from answering."""
    with one_each(both) as wires:
        for wire in wires.values():
            request(wire, b"set a 0 0 1\r\nx\r\n", b"\r\n")
        stats_with(wires[1], cmd_set="2")
        pid = worker_pids(both.pid)[2]
        servers.hold(pid)
        try:
            assert eventually(partial(stats_on, wires[1]))["cmd_set"] == "2"
            eventually(lambda: own_name(wires[1]) in stats_on(wires[1], "conns").values())
            assert request(wires[1], b"stats reset\r\n", b"RESET\r\n") == b"RESET\r\n"
        finally:
            os.kill(pid, signal.SIGCONT)


def test_most_connections(any_redis: RedisServer) -> None:
    """--max-connections is for all workers together, however they share them."""
    with servers.redcouch(any_redis.url, *TWO, "--max-connections", "5") as server:
        eventually(lambda: len(worker_pids(server.pid)) == 2)
        with ExitStack() as stack:
            wires: list[Wire] = []
            while len(wires) < 5:
                wire = Wire(server.address)
                if request(wire, b"version\r\n", b"\r\n").startswith(b"VERSION"):
                    wires.append(stack.enter_context(wire))
            with Wire(server.address) as refused:
                assert refused.read_to_the_end() == b"ERROR Too many open connections\r\n"
            eventually(
                partial(stats_on, wires[0]),
                lambda seen: (
                    seen.get("curr_connections") == "5" and seen["rejected_connections"] != "0"
                ),
            )
            wires[0]._socket.close()
            eventually(lambda: welcome(server))


def welcome(server: RedCouch) -> bool:
    return ask(server.address, b"version\r\n", b"\r\n").startswith(b"VERSION")


# -- a worker that dies ------------------------------------------------------------------------


class Load(threading.Thread):
    """
    A client that verifies every reply. Its requests come by twenty at a time,
    and it connects again when its connection is lost.
    """

    def __init__(self, server: RedCouch, name: str) -> None:
        super().__init__()
        self.name = name
        self.server = server
        self.halt = threading.Event()
        self.rounds = 0
        self.lost: list[tuple[str, int]] = []
        self.wrong: list[bytes] = []
        self.connected_as = ""

    def run(self) -> None:
        while not self.halt.is_set():
            with Wire(self.server.address) as wire:
                self.connected_as = own_name(wire)
                while not self.halt.wait(PACE) and self._exchange(wire):
                    self.rounds += 1

    def _exchange(self, wire: Wire) -> bool:
        """Ten sets and ten gets; whether all were answered."""
        sent, expected = bytearray(), bytearray()
        for number in range(10):
            key = f"{self.name}-{number}"
            value = f"{self.rounds}-{key}" * 20
            sent += f"set {key} 0 0 {len(value)}\r\n{value}\r\nget {key}\r\n".encode()
            expected += f"STORED\r\nVALUE {key} 0 {len(value)}\r\n{value}\r\nEND\r\n".encode()
        heard = bytearray()
        with suppress(ConnectionError):
            wire._socket.sendall(sent)
            while len(heard) < len(expected) and (data := wire._socket.recv(65536)):
                heard += data
        if not expected.startswith(heard):
            self.wrong.append(bytes(heard))
        if heard == expected:
            return True
        unanswered = 20 - bytes(heard).count(b"STORED\r\n") - bytes(heard).count(b"END\r\n")
        self.lost.append((self.connected_as, unanswered))
        return False


def test_worker_killed_under_load(both: RedCouch) -> None:
    """
    Nothing is lost but what the killed worker had in flight; its clients find
    another at once, and no reply is ever wrong.
    """
    clients = [Load(both, f"client-{number}") for number in range(8)]
    for client in clients:
        client.start()

    def on_both() -> dict[str, int]:
        """Which worker has which client, once each has some; one more comes where not."""
        if not all(client.rounds > 20 for client in clients):
            return {}
        workers = clients_by_worker(both.address)
        serving = {workers.get(client.connected_as) for client in clients}
        if serving == {1, 2}:
            return workers
        if None not in serving:
            clients.append(Load(both, f"client-{len(clients)}"))
            clients[-1].start()
        return {}

    try:
        workers = eventually(on_both)
        victims = {client.connected_as for client in clients if workers[client.connected_as] == 1}
        others = {client.connected_as for client in clients} - victims
        assert victims
        assert others
        before = worker_pids(both.pid)
        os.kill(before[1], signal.SIGKILL)
        eventually(lambda: worker_pids(both.pid).get(1, before[1]) != before[1])
        marks = {client: client.rounds for client in clients}
        eventually(lambda: all(client.rounds > mark + 20 for client, mark in marks.items()))
    finally:
        for client in clients:
            client.halt.set()
        for client in clients:
            client.join()
    assert not [client.wrong for client in clients if client.wrong]
    lost = [loss for client in clients for loss in client.lost]
    assert {name for name, _ in lost} == victims
    assert len(lost) == len(victims)
    assert worker_pids(both.pid)[2] == before[2]
    assert both.log.count("was ended by SIGKILL") == 1
    (line,) = [line for line in both.log.splitlines() if "was ended by SIGKILL" in line]
    assert f"Worker 1 (process {before[1]})" in line
    eventually(lambda: all_serve(both.address))
    print(f"{len(victims)} of {len(clients)} clients lost {sum(n for _, n in lost)} requests")


def worker_pid(parent: int, number: int) -> int:
    """The process that is the worker of a number, as soon as there is one."""
    return eventually(lambda: worker_pids(parent).get(number, 0))


def replace_worker(parent: int, number: int) -> None:
    """Kill one, and wait for the next."""
    before = worker_pid(parent, number)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: worker_pids(parent).get(number, before) != before)


def test_worker_that_fails_again(both: RedCouch) -> None:
    """It is started again each time."""
    for _ in range(3):
        replace_worker(both.pid, 2)
    eventually(lambda: all_serve(both.address))
    assert both.log.count("Worker 2 (process") == 3


# -- the end -----------------------------------------------------------------------------------


def finished(wire: Wire) -> bytes:
    """All that comes until the server closes."""
    return b"".join(iter(lambda: wire._socket.recv(65536), b""))


@contextmanager
def held(storage: RedisServer) -> Iterator[None]:
    """A Redis that answers nobody meanwhile."""
    servers.hold(storage.pid)
    try:
        yield
    finally:
        os.kill(storage.pid, signal.SIGCONT)


def nothing_unread(wire: Wire) -> bool:
    """Whether the other side has read all that was sent, and nothing is on the way to it."""
    ends = {f":{port[1]:04X}" for port in (wire._socket.getsockname(), wire._socket.getpeername())}
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    queues = [fields[4] for fields in lines if {fields[1][-5:], fields[2][-5:]} == ends]
    return queues == ["00000000:00000000"] * 2


@pytest.mark.everywhere
def test_stop_drains(both: RedCouch, any_redis: RedisServer) -> None:
    """
    A stop that reaches every process, as Ctrl-C and systemd's do: nobody new is
    let in, what is in flight is answered, and then all end.
    """
    pids = worker_pids(both.pid)
    with one_each(both) as wires:
        with held(any_redis):
            for wire in wires.values():
                send(wire, b"get a\r\n")
            eventually(lambda: all(nothing_unread(wire) for wire in wires.values()))
            for number in (signal.SIGINT, signal.SIGTERM):
                for pid in pids.values():
                    os.kill(pid, number)
            os.kill(both.pid, signal.SIGTERM)
            eventually(lambda: not listens(both))
            assert all(runs(pid) for pid in pids.values())
        for wire in wires.values():
            assert finished(wire) == b"END\r\n"
    eventually(lambda: not runs(both.pid))
    assert not any(runs(pid) for pid in pids.values())


@pytest.mark.everywhere
def test_ctrl_c(any_redis: RedisServer) -> None:
    """Ctrl-C reaches the whole process group, and ends the service in order."""
    with doomed(any_redis.url, *TWO) as server:
        pids = eventually(lambda: worker_pids(server.pid))
        os.killpg(server.pid, signal.SIGINT)
        eventually(lambda: not runs(server.pid))
        assert not any(runs(pid) for pid in pids.values())
        assert "Server Shut Down." in server.log


def listens(server: RedCouch) -> bool:
    try:
        with socket.create_connection((LOOPBACK, server.port), PATIENCE):
            return True
    except ConnectionError:
        return False


def test_worker_that_does_not_end(any_redis: RedisServer) -> None:
    """It is killed when the clients' time is over."""
    with servers.redcouch(any_redis.url, *TWO, "--drain-timeout", "0.1") as server:
        eventually(lambda: all_serve(server.address))
        pid = worker_pid(server.pid, 2)
        servers.hold(pid)
        os.kill(server.pid, signal.SIGTERM)
        eventually(lambda: not runs(server.pid))
        eventually(lambda: not runs(pid))
        assert "Worker 2 does not end: killing it" in server.log


def test_parent_killed(any_redis: RedisServer) -> None:
    """The workers answer what is in flight, and end by themselves."""
    with doomed(any_redis.url, *TWO) as server:
        eventually(lambda: all_serve(server.address))
        pids = worker_pids(server.pid)
        with one_each(server) as wires:
            with held(any_redis):
                for wire in wires.values():
                    send(wire, b"get a\r\n")
                eventually(lambda: all(nothing_unread(wire) for wire in wires.values()))
                server.kill()
                eventually(lambda: not listens(server))
            for wire in wires.values():
                assert finished(wire) == b"END\r\n"
        eventually(lambda: not any(runs(pid) for pid in pids.values()))


# -- starting ----------------------------------------------------------------------------------


@pytest.mark.everywhere
def test_daemon(any_redis: RedisServer, tmp_path: Path) -> None:
    """In the background there is one log file, with every worker's lines whole."""
    port = servers.free_port()
    twistd = str(Path(sys.executable).parent / "twistd")
    options = [f"--pidfile={tmp_path}/pid", f"--logfile={tmp_path}/log", f"--rundir={tmp_path}"]
    service = ["redcouch", "--port", str(port), "--storage", any_redis.url, *TWO]
    subprocess.run([twistd, *options, *service], check=True, timeout=60)
    pid = int((tmp_path / "pid").read_text())
    try:
        eventually(lambda: all_serve((LOOPBACK, port)))
        replace_worker(pid, 1)
        eventually(lambda: all_serve((LOOPBACK, port)))
        eventually(lambda: both_connected((tmp_path / "log").read_text()))
        pids = worker_pids(pid)
    finally:
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not runs(pid))
    assert not any(runs(pid) for pid in pids.values())
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    for line in log.splitlines():
        assert line.startswith("20"), f"no line of its own: {line}"


def both_connected(log: str) -> bool:
    return all(f"[worker {number}] Connected to Redis" in log for number in (1, 2))


def refused(*options: str) -> str:
    """What is said where the service does not start."""
    command = [servers.TWISTD, "-n", "--pidfile=", "redcouch", "--port", "0", *options]
    ran = prefork.run(command, Path.cwd(), os.environ, PATIENCE)
    assert ran.returncode == 1, ran
    said = ran.stdout + ran.stderr
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "redcouch: " in line]
    return "redcouch: " + line.partition("redcouch: ")[2]


def test_memory_is_refused() -> None:
    """Each worker would have items of its own."""
    line = refused("--storage", "memory:", *TWO)
    assert line == (
        "redcouch: --workers: each worker would have items of its own in memory:; "
        "use redis:// or embedded:, or one worker"
    )


@pytest.mark.parametrize("number", ["0", "-1", "many", "513", ""])
def test_numbers_that_are_none(number: str) -> None:
    """At least one, at most many, or auto."""
    assert "auto, or a whole number" in refused("--workers", number)


def test_endpoints_that_cannot_be_shared(tmp_path: Path) -> None:
    """The operator is told which can."""
    line = refused("--port", "stdio:", *TWO)
    assert line == (
        "redcouch: --port stdio:: works with one worker only; with more, use "
        "tcp, tcp4, tcp6, unix, ssl, haproxy, systemd, or a number"
    )
    line = refused("--port", f"unix:{tmp_path}/missing/socket", *TWO)
    assert "missing/socket" in line
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        assert "in use" in refused("--port", str(taken.getsockname()[1]), *TWO).lower()


def test_workers_that_cannot_start(any_redis: RedisServer, tmp_path: Path) -> None:
    """The service ends, and says what the first worker said."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'redcouch.workers.fork_server' in sys.orig_argv:\n"
        "    sys.exit('redcouch: the dog has eaten it')\n"
    )
    twistd = str(Path(sys.executable).parent / "twistd")
    ran = subprocess.run(
        [twistd, "-n", "--pidfile=", "redcouch", "--port", "0", "-s", any_redis.url, *TWO],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert ran.returncode == 1, ran
    (line,) = [line for line in ran.stdout.splitlines() if "cannot go on" in line]
    assert "ended with status 1 before it served: " in line
    assert "the dog has eaten it" in line


def test_embedded_that_cannot_start(tmp_path: Path) -> None:
    """
    No worker begins: in a directory in use, it would connect to another service's Redis. And no
    PID file is left, by which a later start could be refused.
    """
    program = tmp_path / "redis-server"
    program.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo Redis server v=7.0.0 && exit\necho no luck; exit 1\n"
    )
    program.chmod(0o700)
    storage = ["--storage", f"embedded:?server={program}"]
    pidfile = tmp_path / "pid"
    twistd = [servers.TWISTD, "-n", f"--pidfile={pidfile}"]
    command = [*twistd, "redcouch", "--port", "0", *storage, *TWO]
    ran = prefork.run(command, Path.cwd(), os.environ, PATIENCE)
    assert ran.returncode == 1
    assert "did not start: no luck" in ran.stdout
    assert "[worker" not in ran.stdout
    assert not pidfile.exists()


@pytest.mark.everywhere
def test_auto(any_redis: RedisServer) -> None:
    """One for each CPU that the process may use."""
    with servers.redcouch(any_redis.url, "--workers", "auto") as server:
        expected = len(os.sched_getaffinity(0))
        assert eventually(lambda: statistics(server.address))["threads"] == str(expected)
        if expected > 1:
            eventually(lambda: len(worker_pids(server.pid)) == expected)
