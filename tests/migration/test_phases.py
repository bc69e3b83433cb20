"""
The three phases with everything real: memcached, Redis, the service, the command, and two
instances of an application that run all the time, and in which no request may fail.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.cli.filling import Given, fill
from tests.cli.running import run
from tests.migration.application import PAUSE, SESSIONS
from tests.support import servers
from tests.support.servers import Memcached, RedCouch, RedisServer, eventually
from tests.support.wire import Address

TURNS = 30
"""How often each instance goes through all of its work between two steps."""

_PATIENCE = 120


class Instance:
    """An instance of the application, which is deployed anew by L{use}."""

    def __init__(self, name: str, folder: Path, mode: str) -> None:
        self._mode = folder / f"{name}.mode"
        self._state = folder / f"{name}.state"
        self._mode.write_text(mode)
        program = Path(__file__).with_name("application.py")
        self._process = subprocess.Popen([sys.executable, str(program), name, str(folder)])

    @property
    def state(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads(self._state.read_text())
        except FileNotFoundError:
            return {"mode": "", "turns": 0, "failures": []}
        return told

    def use(self, mode: str) -> None:
        """Change its storage, and see that it works with that."""
        self._say(mode)
        self.work(mode)

    def pause(self) -> None:
        """Let it do nothing, until L{use}."""
        self._say(PAUSE)
        self._until(lambda: self.state["mode"] == PAUSE)

    def _say(self, mode: str) -> None:
        new = self._mode.with_suffix(".next")
        new.write_text(mode)
        new.replace(self._mode)

    def work(self, mode: str = "") -> None:
        """Let it do some turns more."""
        begun = self.state["turns"] if not mode else 0
        self._until(
            lambda: self.state["turns"] >= begun + TURNS and self.state["mode"].startswith(mode)
        )

    def end(self) -> list[str]:
        """What has failed in it."""
        self._say("end")
        self._process.wait(_PATIENCE)
        failures: list[str] = self.state["failures"]
        return failures

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert self._process.poll() is None, "the application has ended"
            assert time.monotonic() < deadline, self.state
            time.sleep(0.01)


@contextmanager
def application(folder: Path, mode: str) -> Iterator[tuple[Instance, Instance]]:
    """Two instances that work all the time. On the way out, nothing may have failed in them."""
    one, two = Instance("one", folder, mode), Instance("two", folder, mode)
    try:
        one.work(mode)
        two.work(mode)
        yield one, two
        assert one.end() == []
        assert two.end() == []
    finally:
        one.kill()
        two.kill()


def sign_in(address: Address) -> None:
    """The sessions of those who are there already."""
    fill(address, {b"session:%d" % n: Given(b"user-%d" % n, 0, 3600) for n in range(SESSIONS)})


def test_phase_1(
    memcached: Memcached,
    old: str,
    redcouch: RedCouch,
    redis_70: RedisServer,
    client: redis.Redis,
    tmp_path: Path,
) -> None:
    """Import and cut-over: nobody is logged out, and going back is one number, too."""
    sign_in(memcached.address)
    with application(tmp_path, f"memcached {memcached.port}") as (one, two):
        assert run("import", old, "--to", redis_70.url).status == 0
        # The page and the counts may have changed meanwhile; the sessions may not.
        assert run("import", old, "--to", redis_70.url, "--overwrite").status == 0
        for instance in (one, two):
            instance.use(f"memcached {redcouch.port}")
        one.work()
        assert client.ttl("rc:session:0") > 3000
        assert client.hget("rc:session:49", "v") == b"user-49".hex().encode()


def test_phase_2(
    redcouch: RedCouch, redis_70: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """Dual access: one instance native, the other not; each sees what the other wrote."""
    sign_in(redcouch.address)
    with application(tmp_path, f"memcached {redcouch.port}") as (one, two):
        one.use(f"items {redis_70.port}")
        two.work()
        told = run("inspect", "count:one", "-s", redis_70.url, "--json").json
        assert int(told["value"]) > TURNS
        assert "session:0" in {
            line["key"] for line in run("ls", "-s", redis_70.url, "--json").lines
        }
        one.use(f"memcached {redcouch.port}")  # back again, and now for good
        one.use(f"items {redis_70.port}")
        two.use(f"items {redis_70.port}")


def test_phase_3(
    redcouch: RedCouch, redis_70: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """Promote and clean up under load: what is left is what a native application has."""
    sign_in(redcouch.address)
    with application(tmp_path, f"items {redis_70.port}") as (one, two):
        for instance in (one, two):
            instance.use(f"either {redis_70.port}")
        said = run("promote", "*", "--to", "string", "-s", redis_70.url, "--json")
        assert said.status in (0, 1)
        assert said.json["promoted"] >= SESSIONS
        assert said.json["left"] == [
            [key, "there is such a key already"] for key, _ in said.json["left"]
        ]
        for instance in (one, two):
            instance.use(f"strings {redis_70.port}")
        assert run("cleanup", "--yes", "--system", "-s", redis_70.url).status == 0
        one.work()
        two.work()
    left = [key for key in client.keys("redcouch:*") if b":traffic" not in key]  # written any time
    assert client.keys("rc:*") == left == []
    assert client.get("session:7") == b"user-7"
    assert 3000 < client.ttl("session:7") <= 3600


def test_from_the_beginning_to_the_end(memcached: Memcached, old: str, tmp_path: Path) -> None:
    """All phases in one go: import, cut-over, dual access, promote, readiness, cleanup."""
    sign_in(memcached.address)
    with (
        servers.redis_server("7.0") as redis_server,
        redis_server.client() as native,
        application(tmp_path, f"memcached {memcached.port}") as (one, two),
    ):
        storage = ("--storage", redis_server.url)
        with servers.redcouch(redis_server.url) as bridge:
            assert run("import", old, "--to", redis_server.url).status == 0
            assert run("import", old, "--to", redis_server.url, "--overwrite").status == 0
            for instance in (one, two):
                instance.use(f"memcached {bridge.port}")
            one.use(f"items {redis_server.port}")
            two.work()
            eventually(lambda: "127.0.0.1" in run("ready", "--quiet-for", "1h", *storage).out)
            two.use(f"items {redis_server.port}")
            for instance in (one, two):
                instance.use(f"either {redis_server.port}")
            assert run("promote", "*", "--to", "string", *storage).status in (0, 1)
            for instance in (one, two):
                instance.use(f"strings {redis_server.port}")
            eventually(lambda: run("ready", "--quiet-for", "1s", *storage).status == 0)
            named = run("traffic", "--json", *storage).json
            assert [client["name"] for client in named["client"]] == ["127.0.0.1"]
        one.work()
        assert run("cleanup", "--yes", "--system", *storage).status == 0
        one.work()
        two.work()
        assert native.keys("rc:*") == native.keys("redcouch:*") == []
        assert native.get("session:7") == b"user-7"
