"""
Real servers for the tests: processes on free loopback ports, stopped by their own ids.

Each server is a context manager, and has answered once when its block begins.
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any, TypeVar

import redis

from tests.support import prefork, requirements
from tests.support.polling import PATIENCE, eventually
from tests.support.prefork import Preforked
from tests.support.wire import Address, ask

LOOPBACK = "127.0.0.1"

LASTING = ("--appendonly", "yes", "--appendfsync", "always")
"""Options with which a Redis that is killed has lost nothing that it has acknowledged."""
TWISTD = str(Path(sys.executable).parent / "twistd")
REDIS_VERSIONS = ("6.2", "7.0", "8.2", "valkey 8.1")
"""The servers that RedCouch is for; those without a name are Redis."""

MEMCACHED_VERSIONS = ("1.6.18", "1.6.38")
"""Those of Debian 12 and of Debian 13. Where they disagree, RedCouch does as the newer one."""

_ATTEMPTS = 5
_FAULTS = ("Traceback", "Unhandled", "Could not answer a client")


class StartError(AssertionError):
    """A server did not come up. The text says what it printed."""


class Server:
    """A program that is started here and listens on a loopback port."""

    name = "server"
    _process: subprocess.Popen[bytes] | Preforked | None = None

    def __init__(self, folder: Path) -> None:
        """@param folder: where it runs and keeps its log; nobody else uses it."""
        self.folder = folder
        self.port = 0

    # What each server knows of itself

    def command(self) -> Sequence[str]:
        """The command line, for L{port}."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it serves by now."""
        raise NotImplementedError

    # What tests use

    @property
    def address(self) -> Address:
        return (LOOPBACK, self.port)

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def log(self) -> str:
        """All that it has printed."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """
        Start it and wait until it serves. Where it has run before, it has the
        same port again.

        @raise StartError: it ended, or never answered.
        """
        requirements.starting(self.name)
        attempts = 1 if self.port else _ATTEMPTS
        for _ in range(attempts):
            self.port = self.port or free_port()
            self._launch()
            if self._comes_up():
                return
            status = self.stop()
            if "in use" not in self.log.lower():
                break
            if attempts > 1:
                self.port = 0  # somebody was faster: try another
        raise StartError(f"{self.name} did not start (status {status}). It said:\n{self.log}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """
        End it, if it runs; gives its exit status, 0 if it did not run. It is
        killed where it takes too long.
        """
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(how)
            if how is not signal.SIGKILL:
                process.send_signal(signal.SIGCONT)  # a test may have held it
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def kill(self) -> None:
        """End it as a crash does."""
        self.stop(signal.SIGKILL)

    # Starting

    def _launch(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_ends_with_us(), *self.command()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for the tests, which then stop it
            )

    def _comes_up(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                if self.answers():
                    return True
            except OSError:
                pass
            time.sleep(0.01)
        return False


S = TypeVar("S", bound=Server)


class Memcached(Server):
    """A memcached: of one of L{MEMCACHED_VERSIONS}, or as Debian has it."""

    name = "memcached"

    def __init__(self, folder: Path, options: Sequence[str], version: str = "") -> None:
        super().__init__(folder)
        self._program = requirements.installed(f"memcached {version}".rstrip())
        self._options = options

    def command(self) -> Sequence[str]:
        user = ["-u", "root"] if os.geteuid() == 0 else []
        return [self._program, "-l", LOOPBACK, "-p", str(self.port), *user, *self._options]

    @property
    def url(self) -> str:
        return f"memcached://{LOOPBACK}:{self.port}"

    def answers(self) -> bool:
        said = ask(self.address, b"version\r\n", b"\r\n")
        return said.startswith((b"VERSION ", b"CLIENT_ERROR unauthenticated"))


class RedisServer(Server):
    """A Redis, on a loopback port and on a unix socket, that keeps nothing on disk."""

    name = "redis-server"

    def __init__(self, folder: Path, version: str, options: Sequence[str]) -> None:
        super().__init__(folder)
        self._program = redis_binary(version)
        self._options = options

    @property
    def url(self) -> str:
        """A storage URL."""
        return f"redis://{LOOPBACK}:{self.port}"

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def unix_url(self) -> str:
        """A storage URL, by the unix socket."""
        return f"redis+unix://{self.socket}"

    def client(self, **options: Any) -> redis.Redis:
        """A native client, for the caller to close."""
        return redis.Redis(host=LOOPBACK, port=self.port, **options)

    def rest(self) -> None:
        """
        Look after its keys and its cluster once a second from now on, in place of ten times, since
        it stays to the end of the run and mostly nobody asks it: many of them take a CPU of two.
        """
        with self.client() as client:
            client.config_set("hz", 1)

    def command(self) -> Sequence[str]:
        places = ["--bind", LOOPBACK, "--port", str(self.port), "--unixsocket", str(self.socket)]
        return [self._program, *places, "--save", "", "--appendonly", "no", *self._options]

    def answers(self) -> bool:
        pong = ask(self.address, b"PING\r\n", b"\r\n")
        return pong.startswith((b"+PONG", b"-NOAUTH"))


class Sentinel(Server):
    """
    One of those who watch a master, under the name C{main}.

    @ivar options: what its clients need.
    """

    name = "redis-sentinel"

    def __init__(self, folder: Path, master: int, rules: Sequence[str], quorum: int) -> None:
        super().__init__(folder)
        self._master = f"sentinel monitor main {LOOPBACK} {master} {quorum}"
        self._rules = rules
        self._tls = any(rule.startswith("tls-") for rule in rules)
        self.options: dict[str, Any] = {}

    def command(self) -> Sequence[str]:
        file = self.folder / "sentinel.conf"
        rules = [
            f"port 0\ntls-port {self.port}" if self._tls else f"port {self.port}",
            f"bind {LOOPBACK}",
            f"dir {self.folder}",
            self._master,
            "sentinel down-after-milliseconds main 60000",  # until a test says otherwise
            "sentinel failover-timeout main 3000",
            *self._rules,
        ]
        file.write_text("\n".join(rules) + "\n")
        return [redis_binary(), str(file), "--sentinel"]

    def answers(self) -> bool:
        with plain(self.port):
            return True

    def client(self, **options: Any) -> redis.Redis:
        """For the caller to close."""
        return redis.Redis(host=LOOPBACK, port=self.port, **self.options, **options)

    def take_for_dead_after(self, milliseconds: int) -> None:
        """
        How long the master may be silent. For long again once it has been replaced: the next one
        may stand still, too.
        """
        with self.client() as client:
            client.sentinel_set("main", "down-after-milliseconds", milliseconds)

    def knows(self) -> dict[str, int]:
        """How many replicas and other sentinels, and which master."""
        with self.client() as client:
            state = client.execute_command(
                "SENTINEL MASTER", "main"
            )  # sentinel_master fails in redis-py 6.4
        return {
            "replicas": int(state["num-slaves"]),
            "sentinels": int(state["num-other-sentinels"]),
            "port": int(state["port"]),
        }

    def names(self, port: int) -> bool:
        """Whether it finds nothing wrong with the master, which is this one."""
        with self.client() as client:
            state = client.execute_command(
                "SENTINEL MASTER", "main"
            )  # sentinel_master fails in redis-py 6.4
        return (int(state["port"]), state["flags"]) == (port, "master")


class RedCouch(Server):
    """A C{twistd redcouch}."""

    name = "RedCouch"

    def __init__(self, folder: Path, storage: str, options: Sequence[str], ready: bool) -> None:
        super().__init__(folder)
        self._options = ["--storage", patient(storage), *options]
        self._ready = ready

    def command(self) -> Sequence[str]:
        start = [TWISTD, "-n", "--pidfile=", "redcouch", "--port", str(self.port)]
        return [*start, *self._options]

    def _launch(self) -> None:
        log = self.folder / "log"
        self._said_before = len(self.log) if log.exists() else 0
        if self._is_ours:
            self._process = Preforked(self.command(), self.folder, log, log, os.environ)
        else:
            super()._launch()

    @property
    def _is_ours(self) -> bool:
        """Whether it is the twistd of these tests."""
        return self.command()[0] == TWISTD

    def answers(self) -> bool:
        if not ask(self.address, b"version\r\n", b"\r\n").startswith(b"VERSION "):
            return False
        if not self._ready:
            return True
        return self._all_connected() and ask(self.address, b"get ready\r\n", b"\r\n") == b"END\r\n"

    def _all_connected(self) -> bool:
        """Whether each of several workers has its Redis; the one that answers may be any."""
        said = self.log[self._said_before :]
        workers = re.search(r"; (\d+) workers serve", said)
        lines = [line for line in said.splitlines() if "Connected to Redis" in line]
        connected = set(re.findall(r"\bworker\W+(\d+)", "\n".join(lines)))
        return workers is None or len(connected) >= int(workers[1])

    def run(self, *options: str) -> tuple[int, str]:
        """The status and the words with which it ends by itself, given some options more."""
        run = prefork.run if self._is_ours else prefork.run_anew
        done = run([*self.command(), *options], self.folder, os.environ, PATIENCE)
        return done.returncode, done.stdout + done.stderr

    def check_log(self) -> None:
        """Fail where anything went wrong in it that no client was told of."""
        log = self.log
        for fault in _FAULTS:
            assert fault not in log, f"RedCouch's log:\n{log}"


def patient(storage: str) -> str:
    """
    A storage URL whose Redis may stand still as it does on a busy machine, where it does not say
    for how long.
    """
    if "redis" not in storage or re.search("[?&]timeout=", storage):
        return storage
    storage = storage.removesuffix("?")
    return f"{storage}{'&' if '?' in storage else '?'}timeout=30"


class RedCouchOverTLS(RedCouch):
    """One whose port speaks TLS. It serves once it accepts."""

    name = "RedCouch over TLS"

    def answers(self) -> bool:
        with plain(self.port):
            return "RedCouch" in self.log and " listens on " in self.log


def children(pid: int) -> list[int]:
    """The processes that one has started."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it is gone
        return []
    return [int(child) for child in found.split()]


def family(pid: int) -> list[int]:
    """A process, and all that have come of it."""
    return [pid, *(one for child in children(pid) for one in family(child))]


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def hold(pid: int) -> None:
    """
    Stop a process, by SIGSTOP. One of its threads hears of it, and tells the others: until then
    these go on, on a busy machine for long enough to answer somebody.
    """
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(_is_held(task) for task in Path(f"/proc/{pid}/task").iterdir()))


def _is_held(task: Path) -> bool:
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"


def plain(port: int) -> socket.socket:
    """A connection to a loopback port, for the caller to close."""
    return socket.create_connection((LOOPBACK, port), PATIENCE)


def read_all(wire: socket.socket) -> bytes:
    """What comes until the other side closes, in whichever way."""
    said = b""
    try:
        while data := wire.recv(65536):
            said += data
    except ConnectionError:
        pass
    return said


_PORTS_EACH = 400


def _ports_of_this_process() -> Iterator[int]:
    """Those of a block, again and again. It is its own: the block's first port says that it is."""
    for first in range(11_300, 22_300, _PORTS_EACH):
        with socket.socket() as sign, suppress(OSError):
            sign.bind((LOOPBACK, first))
            for place in itertools.count(os.getpid() * 37):
                yield first + 1 + place % (_PORTS_EACH - 1)
    raise AssertionError("too many processes run tests at the same time")


_ports = _ports_of_this_process()


def free_port() -> int:
    """
    A loopback port that nothing listens on just now, and that no test is given soon again: a
    server that is stopped and started has it meanwhile for itself. Those of one process of the
    tests are none of another's, in another run neither, and below all that Linux gives to
    connections.
    """
    for port in itertools.islice(_ports, _PORTS_EACH):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port
    raise AssertionError(f"all of {_PORTS_EACH} ports are taken")


def redis_binary(version: str = "") -> str:
    """
    The path of a redis-server: of one of L{REDIS_VERSIONS}, for a test that
    needs C{redis VERSION}, or of any.
    """
    return requirements.installed(requirements.redis_name(version))


@contextmanager
def memcached(*options: str, version: str = "") -> Iterator[Memcached]:
    """A memcached as it starts by default, but for these options."""
    with _running(lambda folder: Memcached(folder, options, version)) as server:
        yield server


@contextmanager
def redis_server(*options: str, version: str = "") -> Iterator[RedisServer]:
    """An empty Redis: of one of L{REDIS_VERSIONS}, for a test that needs it, or of any."""
    with _running(lambda folder: RedisServer(folder, version, options)) as server:
        yield server


@contextmanager
def sentinel(master: int, *rules: str, quorum: int = 1) -> Iterator[Sentinel]:
    """
    Somebody who watches the master at this port.

    @param rules: lines of the configuration. With certificates in it it speaks TLS only.
    """
    with _running(lambda folder: Sentinel(folder, master, rules, quorum)) as server:
        yield server


@contextmanager
def _running(make: Callable[[Path], S]) -> Iterator[S]:
    with _folder() as folder:
        server = make(folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()  # it keeps nothing: a Redis hears of a SIGTERM when it looks after itself


@contextmanager
def redcouch_over_tls(storage: str, *options: str) -> Iterator[RedCouch]:
    """As L{redcouch}, with options that make its port speak TLS."""
    with redcouch(storage, *options, ready=False, kind=RedCouchOverTLS) as server:
        yield server


@contextmanager
def redcouch(
    storage: str, *options: str, ready: bool = True, kind: type[RedCouch] = RedCouch
) -> Iterator[RedCouch]:
    """
    RedCouch on a storage. On the way out it gets a SIGTERM, has to end well,
    and must not have logged a fault.

    @param ready: wait until the storage serves, too.
    """
    with _folder() as folder:
        server = kind(folder, storage, options, ready)
        try:
            server.start()
            yield server
        except BaseException:
            server.stop()
            raise
        status = server.stop()
        server.check_log()
        # Twisted shuts down in order, and then ends by the signal that it was sent.
        ended_well = status == -signal.SIGTERM and "Server Shut Down." in server.log
        assert ended_well, f"RedCouch ended with status {status}. Its log:\n{server.log}"


def shared_redis(version: str = "") -> RedisServer:
    """
    A Redis that lives until the end of the run, for tests that clean up before themselves and
    look at all that is in it. Nothing else writes there: for a service it is L{served_redis}.
    """
    redis_binary(version)
    return _shared_redis(version, "")


def served_redis(version: str = "") -> RedisServer:
    """The same, for tests that have a service on it, which goes on writing while it is there."""
    redis_binary(version)
    return _shared_redis(version, "served")


@cache
def _shared_redis(version: str, use: str) -> RedisServer:
    server = _shared.enter_context(redis_server(version=version))
    server.rest()
    return server


_shared = ExitStack()
atexit.register(_shared.close)


@cache
def _ends_with_us() -> tuple[str, ...]:
    """What before a command line ends it with the tests, should they be killed (on Linux)."""
    setpriv = which("setpriv")
    return () if setpriv is None else (setpriv, "--pdeathsig", "KILL", "--")


# -- finding -----------------------------------------------------------------------------------


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="redcouch-tests-") as folder:
        yield Path(folder)
