"""
Nobody notices an upgrade: clients of four libraries, and one that pipelines, keep their
connections through it. REDCOUCH_UPGRADES says how many upgrades there are.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients.programs import HERE
from tests.support import servers
from tests.support.polling import PACE, PATIENCE, eventually
from tests.support.requirements import installed, needs
from tests.support.servers import LOOPBACK, RedCouch, RedisServer
from tests.support.wire import Wire
from tests.support.workers import doomed, runs, worker_pids

pytestmark = pytest.mark.once

UPGRADES = int(os.environ.get("REDCOUCH_UPGRADES", "2"))

TAKE_OVER = "--take-over"

Turn = Callable[[int], object]
"""Asks something, and fails where the answer is not the right one."""


# -- clients -----------------------------------------------------------------------------------


class Loop(threading.Thread):
    """A client that asks without end, on one connection; it notes every failure."""

    def __init__(self, name: str, turn: Turn) -> None:
        super().__init__(name=name, daemon=True)
        self._turn = turn
        self._over = threading.Event()
        self.turns = 0
        self.failed: list[str] = []

    def run(self) -> None:
        while not self._over.wait(PACE):
            try:
                self._turn(self.turns)
            except Exception as error:
                self.failed.append(f"{type(error).__name__}: {error}")
            self.turns += 1

    def finish(self) -> None:
        self._over.set()
        self.join(PATIENCE)
        assert not self.is_alive()


def storing(client: Any, name: str) -> Turn:
    """Sets a key and gets it again, by a library."""

    def turn(number: int) -> None:
        key, value = f"{name}-{number % 50}", f"{number}-" * (1 + number % 300)
        assert client.set(key, value), "set"
        found = client.get(key)
        assert found in (value, value.encode()), f"get gave {found!r:.60}"

    return turn


def pipelining(wire: Wire) -> Turn:
    """Sends forty requests at once, of which one has a value that comes in two pieces."""

    def turn(number: int) -> None:
        sent, expected = bytearray(), bytearray()
        for place in range(20):
            value = b"%d-%d-" % (number, place) * (4000 if place == 10 else 10)
            sent += b"set pipe-%d 0 0 %d\r\n%b\r\nget pipe-%d\r\n" % (
                place,
                len(value),
                value,
                place,
            )
            expected += b"STORED\r\nVALUE pipe-%d 0 %d\r\n%b\r\nEND\r\n" % (
                place,
                len(value),
                value,
            )
        half = len(sent) // 2
        wire._socket.sendall(sent[:half])
        wire._socket.sendall(sent[half:])
        heard = bytearray()
        while len(heard) < len(expected):
            data = wire._socket.recv(65536)
            assert data, "closed"
            heard += data
        assert heard == expected

    return turn


@contextmanager
def php(port: int, protocol: str) -> Iterator[subprocess.Popen[bytes]]:
    """A PHP program that sets and gets until its input ends, and then says how that went."""
    command = [installed("php"), str(HERE / "upgrade.php"), str(port), protocol]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    said, _ = process.communicate(timeout=PATIENCE)
    found: dict[str, Any] = json.loads(said)
    return found


@contextmanager
def clients(port: int) -> Iterator[Callable[[], None]]:
    """
    All kinds of clients under load. Gives a function that waits until each has asked more.
    On the way out none may have had a failure.
    """
    import pylibmc
    from pymemcache.client.base import Client

    with ExitStack() as stack:
        wire = stack.enter_context(Wire((LOOPBACK, port)))
        plain = Client((LOOPBACK, port), timeout=PATIENCE)
        stack.callback(plain.close)
        behaviors = {"tcp_nodelay": True, "_poll_timeout": 60_000}
        text, binary = (
            pylibmc.Client([f"{LOOPBACK}:{port}"], binary=binary, behaviors=behaviors)
            for binary in (False, True)
        )
        turns = {
            "pymemcache": storing(plain, "pymemcache"),
            "pylibmc text": storing(text, "pylibmc-text"),
            "pylibmc binary": storing(binary, "pylibmc-binary"),
            "pipelining": pipelining(wire),
        }
        programs = [stack.enter_context(php(port, protocol)) for protocol in ("text", "binary")]
        loops = [Loop(name, turn) for name, turn in turns.items()]
        for loop in loops:
            loop.start()

        def ask_more() -> None:
            goals = [loop.turns + 20 for loop in loops]
            pairs = list(zip(loops, goals, strict=True))
            eventually(lambda: all(loop.turns >= goal for loop, goal in pairs))

        try:
            ask_more()
            yield ask_more
            ask_more()
        finally:
            for loop in loops:
                loop.finish()
        asked = {loop.name: loop.turns for loop in loops}
        for program in programs:
            found = end(program)
            assert found["failed"] == []
            asked[f"php {found['protocol']}"] = found["turns"]
        print(asked)
        assert all(asked.values())
        assert {loop.name: loop.failed for loop in loops if loop.failed} == {}


# -- upgrades ----------------------------------------------------------------------------------


@contextmanager
def another(first: RedCouch, name: str, storage: str, options: Sequence[str]) -> Iterator[RedCouch]:
    """A RedCouch on the same port; whoever has it answers when the block begins."""
    new = RedCouch(first.folder / name, storage, options, ready=True)
    new.folder.mkdir()
    new.port = first.port
    try:
        new.start()
        yield new
    finally:
        new.stop()
        new.check_log()


@contextmanager
def upgraded(first: RedCouch, storage: str, options: Sequence[str]) -> Iterator[Callable[[], None]]:
    """A function that lets another RedCouch take over from the one that serves now."""
    with ExitStack() as stack:
        serving = [first]

        def upgrade() -> None:
            old = serving[-1]
            new = stack.enter_context(another(first, str(len(serving)), storage, options))
            eventually(lambda: not runs(old.pid))
            # The next one would find it.
            offered = f"@redcouch-tcp:{new.port}:"
            eventually(lambda: offered in Path("/proc/net/unix").read_text())
            serving.append(new)

        yield upgrade


@needs("pylibmc", "php", "php memcached")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.timeout(300 + 60 * UPGRADES)
def test_upgrades_under_load(any_redis: RedisServer, workers: str) -> None:
    """No request fails, of any client."""
    options = ("--workers", workers, TAKE_OVER)
    with (
        doomed(any_redis.url, *options) as first,
        upgraded(first, any_redis.url, options) as upgrade,
        clients(first.port) as ask_more,
    ):
        for _ in range(UPGRADES):
            upgrade()
            ask_more()


@needs("pylibmc", "php", "php memcached")
def test_reuse_port_under_load(any_redis: RedisServer) -> None:
    """The same where both share the port, and the old one is told when to end."""
    options = ("--reuse-port",)
    with (
        doomed(any_redis.url, *options) as old,
        another(old, "new", any_redis.url, options) as new,
        clients(old.port) as ask_more,
    ):
        eventually(lambda: "Following process" in new.log)
        ask_more()
        assert old.stop() == -signal.SIGTERM
        ask_more()


@needs("pylibmc", "php", "php memcached")
def test_workers_renewed_under_load(any_redis: RedisServer) -> None:
    """SIGUSR2 puts a new process into the place of each worker, and nobody notices."""
    with (
        servers.redcouch(any_redis.url, "--workers", "2") as server,
        clients(server.port) as ask_more,
    ):
        before = set(worker_pids(server.pid).values())
        for count in range(1, UPGRADES + 1):
            os.kill(server.pid, signal.SIGUSR2)
            eventually(partial(renewed, server, count))
            ask_more()
            after = set(worker_pids(server.pid).values())
            assert len(after) == 2
            assert not after & before
            before = after


def renewed(server: RedCouch, count: int) -> bool:
    return server.log.count("All workers are new") == count
