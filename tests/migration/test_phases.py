"""
The three phases with everything real: memcached, Redis, the service, the command, and two
instances of an application that run all the time, and in which no request may fail.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.cli.running import run
from tests.migration.application import SESSIONS
from tests.migration.instances import TURNS, application, sign_in
from tests.support import servers
from tests.support.polling import eventually
from tests.support.servers import Memcached, RedCouch, RedisServer

pytestmark = pytest.mark.once


def test_phase_1(
    memcached: Memcached,
    old: str,
    redcouch: RedCouch,
    any_redis: RedisServer,
    client: redis.Redis,
    tmp_path: Path,
) -> None:
    """Import and cut-over: nobody is logged out, and going back is one number, too."""
    sign_in(memcached.address)
    with application(tmp_path, f"memcached {memcached.port}") as (one, two):
        assert run("import", old, "--to", any_redis.url).status == 0
        # The page and the counts may have changed meanwhile; the sessions may not.
        assert run("import", old, "--to", any_redis.url, "--overwrite").status == 0
        for instance in (one, two):
            instance.use(f"memcached {redcouch.port}")
        one.work()
        assert client.ttl("rc:session:0") > 3000
        assert client.hget("rc:session:49", "v") == b"user-49".hex().encode()


def test_phase_2(
    redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """Dual access: one instance native, the other not; each sees what the other wrote."""
    sign_in(redcouch.address)
    with application(tmp_path, f"memcached {redcouch.port}") as (one, two):
        one.use(f"items {any_redis.port}")
        two.work()
        told = run("inspect", "count:one", "-s", any_redis.url, "--json").json
        assert int(told["value"]) > TURNS
        assert "session:0" in {
            line["key"] for line in run("ls", "-s", any_redis.url, "--json").lines
        }
        one.use(f"memcached {redcouch.port}")  # back again, and now for good
        one.use(f"items {any_redis.port}")
        two.use(f"items {any_redis.port}")


def promote_under_load(server: RedisServer, folder: Path) -> None:
    """What an application reads in either form becomes plain strings, and what is left goes."""
    with application(folder, f"items {server.port}") as (one, two):
        for instance in (one, two):
            instance.use(f"either {server.port}")
        said = run("promote", "--force", "*", "--to", "string", "-s", server.url, "--json")
        assert said.status in (0, 1)
        assert said.json["promoted"] >= SESSIONS
        assert said.json["left"] == [
            [key, "there is such a key already"] for key, _ in said.json["left"]
        ]
        for instance in (one, two):
            instance.use(f"strings {server.port}")
        assert run("cleanup", "--force", "--yes", "--system", "-s", server.url).status == 0
        one.work()
        two.work()


def test_phase_3(tmp_path: Path) -> None:
    """Promote and clean up under load: what is left is what a native application has."""
    with (
        servers.redis_server() as server,
        servers.redcouch(server.url) as bridge,
        server.client() as client,
    ):
        sign_in(bridge.address)
        promote_under_load(server, tmp_path)
        left = [key for key in client.keys("redcouch:*") if b":traffic" not in key]  # any time
        assert client.keys("rc:*") == left == []
        assert client.get("session:7") == b"user-7"
        assert 3000 < client.ttl("session:7") <= 3600


def test_from_the_beginning_to_the_end(memcached: Memcached, old: str, tmp_path: Path) -> None:
    """All phases in one go: import, cut-over, dual access, promote, readiness, cleanup."""
    sign_in(memcached.address)
    with (
        servers.redis_server() as redis_server,
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
            assert run("promote", "--force", "*", "--to", "string", *storage).status in (0, 1)
            for instance in (one, two):
                instance.use(f"strings {redis_server.port}")
            eventually(lambda: run("ready", "--quiet-for", "1s", *storage).status == 0)
            named = run("traffic", "--json", *storage).json
            assert [client["name"] for client in named["client"]] == ["127.0.0.1"]
        one.work()
        assert run("cleanup", "--force", "--yes", "--system", *storage).status == 0
        one.work()
        two.work()
        assert native.keys("rc:*") == native.keys("redcouch:*") == []
        assert native.get("session:7") == b"user-7"
