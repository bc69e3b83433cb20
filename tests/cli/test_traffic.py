"""C{redcouch traffic} and C{redcouch ready}, with the service and real clients."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from redcouch.telemetry.usage import LAPSE, MOST
from tests.cli.running import Ended, run
from tests.support import servers
from tests.support.frames import frame
from tests.support.polling import eventually
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import ask

HOST = servers.LOOPBACK


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, which nobody has noted anything in."""
    with servers.redis_server() as server:
        yield server


def names(redis: RedisServer, kind: str) -> dict[str, Any]:
    """What has been noted of a kind: when each was seen last."""
    noted = run("traffic", "--json", "--storage", redis.url).json[kind]
    return {one["name"]: one["last"] for one in noted}


def speak(bridge: RedCouch) -> None:
    """One client that reads and goes, before anybody looks."""
    assert ask(bridge.address, b"get session:1\r\n", b"\r\n") == b"END\r\n"


def test_nothing_noted(redis: RedisServer) -> None:
    """Without a service there is nothing to show, and nobody is told to be ready."""
    shown = run("traffic", "--storage", redis.url)
    assert (shown.status, shown.out) == (1, "Nothing has been noted yet.\n")
    told = run("ready", "--quiet-for", "1s", "--storage", redis.url)
    assert (told.status, told.out) == (1, "Not ready: no service has noted any traffic here.\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_traffic(redis: RedisServer, workers: str) -> None:
    """Clients, prefixes, commands and dialects are noted, and outlive the service."""
    before = int(time.time())
    with servers.redcouch(redis.url, "--workers", workers) as bridge:
        speak(bridge)
        with socket.create_connection((HOST, bridge.port)) as client:
            client.sendall(frame(0x0A))
            assert client.recv(24)[0] == 0x81
    assert names(redis, "client")[HOST] >= before
    assert set(names(redis, "dialect")) == {"text", "binary"}
    assert "session:" in names(redis, "prefix")
    assert "get" in names(redis, "command")
    assert names(redis, "user") == {}
    shown = run("traffic", "--storage", redis.url)
    assert shown.status == 0
    assert "session:" in shown.out
    assert HOST in shown.out


@pytest.mark.everywhere
def test_user(redis: RedisServer, tmp_path: Path) -> None:
    """Who has proved who it is, is named."""
    users = tmp_path / "users"
    users.write_text("couch:secret\n")
    with (
        servers.redcouch(redis.url, "--auth-file", str(users), ready=False) as bridge,
        socket.create_connection((HOST, bridge.port)) as client,
    ):
        client.sendall(b"set auth 0 0 12\r\ncouch secret\r\n")
        assert client.recv(100) == b"STORED\r\n"
        eventually(lambda: "couch" in names(redis, "user"))


def test_separator_and_off(redis: RedisServer) -> None:
    """The operator says where a prefix ends, or wants no inventory at all."""
    with servers.redcouch(redis.url, "--no-inventory") as bridge:
        speak(bridge)
    assert run("traffic", "--storage", redis.url).status == 1
    with servers.redcouch(redis.url, "--inventory-separator", "on") as bridge:
        speak(bridge)
    assert "session" in names(redis, "prefix")


def once_well(ask: Callable[[], Ended]) -> Ended:
    """What a command says when it ends with status 0, which it does in the end."""
    return eventually(ask, lambda said: said.status == 0)


def test_ready(redis: RedisServer) -> None:
    """Only when everybody has been quiet, and somebody has watched for as long."""
    with servers.redcouch(redis.url) as bridge:
        speak(bridge)
        eventually(lambda: HOST in names(redis, "client"))
        told = run("ready", "--quiet-for", "24h", "--storage", redis.url)
        assert told.status == 1
        assert told.out.startswith("Not ready: 1 client has spoken memcached in the last 1d 0h.\n")
        assert HOST in told.out
        ignored = run("ready", "--quiet-for", "24h", "--ignore", HOST, "--storage", redis.url)
        assert ignored.status == 1
        assert "has been watched for" in ignored.out
        everybody = ("ready", "--quiet-for", "1s", "--json", "--storage", redis.url)
        told = once_well(lambda: run(*everybody))
        assert told.json == {"ready": True, "reason": None, "clients": [], "gap": None}


def test_ignore_unix(redis: RedisServer, tmp_path: Path) -> None:
    """Who comes by unix sockets can be left out as well, and is not left out with others."""
    path = tmp_path / "socket"
    with servers.redcouch(redis.url, "--port", f"unix:{path}"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"version\r\n")
            assert client.recv(100).startswith(b"VERSION ")
        eventually(lambda: "unix" in names(redis, "client"))
        assert ready(redis, "24h").json["clients"][0]["client"] == "unix"
        assert ready(redis, "24h", "--ignore", "unix").json["clients"] == []


def ready(redis: RedisServer, span: str, *options: str) -> Ended:
    """What C{redcouch ready} says, of clients that are not the tests' own."""
    return run(
        "ready", "--quiet-for", span, "--ignore", HOST, "--json", *options, "--storage", redis.url
    )


def watched(redis: RedisServer) -> float:
    """Until when somebody has watched; 0 if nobody has."""
    looked: float | None = run("traffic", "--json", "--storage", redis.url).json["looked"]
    return looked or 0.0


def test_nobody_watches(redis: RedisServer) -> None:
    """Where no RedCouch runs any more, nobody is told to be ready, and it is said since when."""
    with servers.redcouch(redis.url):
        eventually(lambda: ready(redis, "1s").status == 0)
    looked = watched(redis)
    eventually(lambda: ready(redis, "1s").status == 1)
    told = ready(redis, "1s")
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(looked))
    assert told.json["reason"] == f"nobody has been watching since {when}"


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_gap(redis: RedisServer, end: str) -> None:
    """A time in which none ran begins the span anew, and is named; the last end counts."""
    with servers.redcouch(redis.url) as bridge:
        eventually(lambda: ready(redis, "1s").status == 0)
        bridge.stop(signal.SIGKILL if end == "kill" else signal.SIGTERM)
        looked = watched(redis)
        bridge.start()
        eventually(lambda: watched(redis) > looked)
        told = ready(redis, "1h")
        assert told.status == 1
        begun, ended = told.json["gap"]
        assert begun == looked < ended
        assert run("traffic", "--json", "--storage", redis.url).json["since"] == ended
        assert "has been watched for" in told.json["reason"]
        assert "nobody watched from" in told.json["reason"]
        quiet = once_well(lambda: ready(redis, "1s"))
        assert quiet.json["gap"] == [begun, ended]
        assert "Before that, nobody watched from" in run("traffic", "--storage", redis.url).out


def test_one_after_another(redis: RedisServer) -> None:
    """Where another RedCouch watches meanwhile, one may end, in whatever way, without a gap."""
    with servers.redcouch(redis.url) as first:
        eventually(lambda: ready(redis, "1s").status == 0)
        with servers.redcouch(redis.url):
            eventually(lambda: redis_fields(redis) == 2)
            both = watched(redis)
            eventually(lambda: watched(redis) > both + 1)
            first.kill()
            looked = watched(redis)
            eventually(lambda: watched(redis) > looked + LAPSE)
            said = once_well(lambda: ready(redis, "4s"))
            assert said.json == {"ready": True, "reason": None, "clients": [], "gap": None}
            first.start()


def redis_fields(redis: RedisServer) -> int:
    """How many processes have noted that they watch."""
    with redis.client() as client:
        return int(client.hlen("redcouch:sys:traffic"))


def test_redis_away(redis: RedisServer) -> None:
    """While Redis cannot be written to, nobody watches; what was heard meanwhile is not lost."""
    with servers.redcouch(f"{redis.url}?timeout=1") as bridge:
        eventually(lambda: ready(redis, "1s").status == 0)
        servers.hold(redis.pid)
        try:
            began = time.monotonic()
            ask(bridge.address, b"get away:1\r\n", b"\r\n")
            eventually(lambda: time.monotonic() > began + LAPSE + 1)
        finally:
            os.kill(redis.pid, signal.SIGCONT)
        eventually(lambda: "away:" in names(redis, "prefix"))
        begun, ended = ready(redis, "1h").json["gap"]
        assert ended - begun > LAPSE


def have_all_looked(redis: RedisServer, before: set[tuple[bytes, bytes]]) -> bool:
    """Whether each process has looked again."""
    return not before & looks(redis)


def looks(redis: RedisServer) -> set[tuple[bytes, bytes]]:
    """When each process has looked for traffic last."""
    with redis.client() as client:
        return set(client.hgetall("redcouch:sys:traffic").items())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed(redis: RedisServer, workers: str) -> None:
    """Within two looks, a second, a client is on record, though its RedCouch is killed unwarned."""
    with servers.redcouch(redis.url, "--workers", workers) as bridge:
        eventually(lambda: redis_fields(redis) == int(workers))
        other = ("127.0.0.2", 0)
        with socket.create_connection((HOST, bridge.port), source_address=other) as client:
            client.sendall(b"get session:1\r\n")
            assert client.recv(100) == b"END\r\n"
            # The second look from here has heard the client, and the third finds it noted.
            for _ in range(3):
                looked = looks(redis)
                eventually(partial(have_all_looked, redis, looked))
            for worker in servers.family(bridge.pid)[1:]:
                os.kill(worker, signal.SIGKILL)
            bridge.kill()
        assert "127.0.0.2" in names(redis, "client")
        assert "session:" in names(redis, "prefix")
        bridge.start()


def test_lost_record(redis: RedisServer) -> None:
    """Where the record of clients was evicted or deleted, silence before that proves nothing."""
    with servers.redcouch(redis.url) as bridge:
        speak(bridge)
        eventually(lambda: ready(redis, "2s").status == 0)
        assert run("ready", "--quiet-for", "1h", "--storage", redis.url).status == 1
        with redis.client() as client:
            client.delete("redcouch:sys:traffic:client")
        told = ready(redis, "1h")
        assert told.status == 1
        assert "the record of clients has been lost" in told.json["reason"]
        eventually(lambda: ready(redis, "2s").status == 0)


@pytest.mark.parametrize(
    "span",
    ["", "0", "0h", "24", "3600", "-1h", "soon", "1w", "1", "1.5h", " 24h", "24 h", f"{9:05000}h"],
)
def test_bad_span(span: str) -> None:
    """What is no span of time is refused in one line."""
    told = run("ready", "--quiet-for", span)
    assert told.status == 2
    assert "is no span of time" in told.err
    assert ("the unit is missing" in told.err) == span.isdigit()


def test_bound(redis: RedisServer) -> None:
    """However many clients there have been, so many are remembered: the latest."""
    with redis.client() as client:
        many = {f"192.0.2.{number}": number + 1 for number in range(2 * MOST)}
        client.hset("redcouch:sys:traffic:client", mapping=many)
        client.hset("redcouch:sys:traffic:client:seconds", mapping=many)
        with servers.redcouch(redis.url) as bridge:
            speak(bridge)
        kept = set(client.hkeys("redcouch:sys:traffic:client"))
        assert len(kept) <= MOST
        assert {HOST.encode(), b"192.0.2.1999"} < kept
        assert client.hlen("redcouch:sys:traffic:client:seconds") <= MOST


def test_left_out(redis: RedisServer) -> None:
    """Where there were too many clients, one that is not on record counts as a speaker."""
    with redis.client() as client:
        now = client.time()[0]
        monitors = {f"10.0.{number // 256}.{number % 256}": now for number in range(2 * MOST)}
        client.hset("redcouch:sys:traffic:client", mapping={"192.0.2.7": now - 60, **monitors})
        with servers.redcouch(redis.url):
            eventually(lambda: client.hlen("redcouch:sys:traffic:client") < MOST)
            assert "192.0.2.7" not in names(redis, "client")
            told = ready(redis, "1h", "--ignore", "10.0.0.0/8")
            assert told.status == 1
            assert "and another one has spoken memcached" in told.json["reason"]
            eventually(lambda: ready(redis, "1s").status == 0)


def test_plain_strings(redis: RedisServer) -> None:
    """The layout of the items does not matter."""
    url = f"{redis.url}?layout=string"
    with servers.redcouch(url) as bridge:
        speak(bridge)
    assert HOST in run("traffic", "--storage", url).out
    assert run("ready", "--quiet-for", "1h", "--storage", url).status == 1


def test_items_are_counted_without_it(redis: RedisServer) -> None:
    """The inventory's keys are no items."""
    with servers.redcouch(redis.url) as bridge:
        assert ask(bridge.address, b"set k 0 0 1\r\nv\r\n", b"\r\n") == b"STORED\r\n"
        eventually(lambda: HOST in names(redis, "client"))
        assert b"STAT curr_items 1\r\n" in ask(bridge.address, b"stats\r\n", b"END\r\n")


@pytest.mark.parametrize("key", ["", ":client", ":client:seconds", ":application"])
def test_senseless(redis: RedisServer, key: str) -> None:
    """A key of another type is named; it is passed over, but nobody is told to be ready."""
    with servers.redcouch(redis.url) as bridge, redis.client() as client:
        speak(bridge)
        eventually(lambda: ready(redis, "1s").status == 0)
        client.delete(f"redcouch:sys:traffic{key}")
        client.set(f"redcouch:sys:traffic{key}", "x")
        told = ready(redis, "1s")
        assert told.status == 1
        assert f"redcouch:sys:traffic{key} in Redis makes no sense" in told.json["reason"]
        assert "delete it" in told.json["reason"]
        shown = run("traffic", "--storage", redis.url)
        assert shown.status == (1 if key == "" else 0)
        assert f"redcouch:sys:traffic{key} in Redis makes no sense" in shown.err
        refused = run("cleanup", "--yes", "--storage", redis.url)
        assert f"redcouch:sys:traffic{key} in Redis makes no sense" in refused.err
        client.delete(f"redcouch:sys:traffic{key}")
        eventually(lambda: ready(redis, "1s").status == 0)
