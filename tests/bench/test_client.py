"""The load generators, against a memcached and a Redis."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from binascii import hexlify
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import redis

from bench.client import Work, run
from bench.items import make_item
from tests.support.polling import eventually
from tests.support.servers import LOOPBACK, Memcached, RedisServer
from tests.support.wire import ask

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "work",
    [
        Work(connections=1),
        Work(connections=3, depth=4),
        Work(connections=2, keys_per_get=10, set_share=0.0),
        Work(connections=3, shared_keys=250, set_share=0.0),
        Work(connections=3, shared_keys=250, set_share=0.5),
        Work(connections=1, value_size=300_000),
    ],
    ids=str,
)
def test_memcached_is_right(memcached: Memcached, work: Work) -> None:
    """A real memcached gives every answer that the load generator compares with."""
    done = run((LOOPBACK, memcached.port), work, 0.1)
    assert done["problems"] == []
    assert isinstance(done["requests"], int)
    assert done["requests"] > 0


def test_what_is_asked(memcached: Memcached) -> None:
    """The mix of commands and the number of keys are those of the work."""
    before = _counts(memcached)
    done = run((LOOPBACK, memcached.port), Work(connections=1, depth=5, set_share=0.2), 0.1)
    after = _counts(memcached)
    requests = done["requests"]
    assert isinstance(requests, int)
    stored = after["cmd_set"] - before["cmd_set"] - 100  # stored beforehand
    assert stored == requests // 5
    assert after["cmd_get"] - before["cmd_get"] == requests - stored


def _counts(memcached: Memcached) -> dict[str, int]:
    said = ask(memcached.address, b"stats\r\n", b"END\r\n").decode().splitlines()
    words = [line.split() for line in said]
    return {line[1]: int(line[2]) for line in words if line[1:2] in (["cmd_set"], ["cmd_get"])}


def test_wrong_answer() -> None:
    """What a server gets wrong is in the result."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"STORED\r\n")
                connection.recv(65536)
                connection.sendall(b"SERVER_ERROR out of memory\r\n")

        server = Thread(target=serve)
        server.start()
        done = run(listener.getsockname(), Work(connections=1), 0.1)
        server.join()
    assert done["problems"] == ["b'SERVER_ERROR out of memory\\r\\n' instead of b'STORED\\r\\n'"]


def test_writer(any_redis: RedisServer) -> None:
    """The native writer stores items as RedCouch does, and says how many once it is stopped."""
    item = make_item(0, 0, 100)
    program = ("bench.writer", "redis", f"127.0.0.1:{any_redis.port}", "--per-second=1000")
    with redis.Redis(port=any_redis.port) as native:
        native.flushall()
        native.config_resetstat()

        def busy() -> bool:
            seen: dict[str, dict[str, int]] = native.info("commandstats")
            return seen.get("cmdstat_hset", {}).get("calls", 0) > 1000

        said = stopped(busy, *program, "--keys=5")
        assert native.hgetall(b"rc:" + item.key) == {b"v": hexlify(item.value)}
    assert said["problems"] == []
    assert said["requests"] > 0


def stopped(look: Callable[[], object], *program: str) -> dict[str, Any]:
    """What a program says that gets SIGTERM once this is true."""
    command = [sys.executable, "-m", *program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as running:
        eventually(look)
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate()
    assert running.returncode == 0
    result: dict[str, Any] = json.loads(said)
    return result


def test_heavy_client_is_stopped(memcached: Memcached) -> None:
    """What runs beside a load ends at SIGTERM, with what it has done."""
    before = _counts(memcached)["cmd_get"]
    program = ("bench.client", "127.0.0.1", str(memcached.port), "--seconds=3600", "--set-share=0")
    said = stopped(lambda: _counts(memcached)["cmd_get"] > before + 1000, *program)
    assert said["problems"] == []
    assert said["requests"] > 0
