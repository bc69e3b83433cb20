"""The Redis Function library, as redis-cli and memcached clients see it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pymemcache.client.base import Client

from tests.cli.running import run
from tests.integration.clients.programs import GO
from tests.integration.clients.programs import run as start
from tests.support import servers
from tests.support.requirements import installed, needs
from tests.support.servers import RedisServer
from tests.support.spans import left_of

DOCS = Path(__file__).parents[2] / "docs" / "native.md"
REDISES = ("7.0", "8.2")


class Both:
    """A Redis with the library, and a service over it."""

    def __init__(self, server: RedisServer, url: str, port: int) -> None:
        self.server = server
        self.url = url
        self.port = port

    def call(self, name: str, key: str, *arguments: object) -> Any:
        """A function's reply."""
        with self.server.client() as client:
            kind = "FCALL_RO" if name in ("get", "gets") else "FCALL"
            return client.execute_command(kind, f"redcouch_{name}", 1, key, *arguments)

    def cli(self, *words: str) -> str:
        """What redis-cli prints."""
        program = installed("redis-cli")
        told = [program, "-p", str(self.server.port), *words]
        return subprocess.run(told, capture_output=True, text=True, check=True).stdout


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((v, e), marks=needs(f"redis {v}")) for v in REDISES for e in ("hex", "raw")
    ],
)
def running(request: pytest.FixtureRequest) -> Iterator[Both]:
    version, encoding = request.param
    with servers.redis_server(version=version) as server:
        url = f"{server.url}?encoding={encoding}"
        with servers.redcouch(url) as service:
            yield Both(server, url, service.port)


@pytest.fixture
def both(running: Both) -> Both:
    with running.server.client() as client:
        client.flushall()
        client.execute_command("FUNCTION", "FLUSH")
    assert run("functions", "load", "--storage", running.url).status == 0
    return running


@pytest.fixture
def memcached(both: Both) -> Iterator[Client]:
    client = Client(("127.0.0.1", both.port), default_noreply=False)
    yield client
    client.close()


@needs("redis-cli")
def test_redis_cli(both: Both, memcached: Client) -> None:
    """The examples of the documentation."""
    left = left_of(500)
    token = both.cli("FCALL", "redcouch_set", "1", "rc:key", "value", "500", "7").strip()
    assert token.isdigit()
    assert both.cli("FCALL_RO", "redcouch_get", "1", "rc:key") == "value\n"
    *said, ttl = both.cli("FCALL_RO", "redcouch_gets", "1", "rc:key").split()
    assert (said, int(ttl)) == (["value", "7", token], left)
    assert memcached.gets("key") == (b"value", token.encode())


def example(both: Both, language: str) -> str:
    """The documentation's program in a language, for this Redis."""
    found = re.search(rf"```{language}\n(.*?)```", DOCS.read_text(), re.S)
    assert found is not None
    return found[1].replace("127.0.0.1:6379", f"127.0.0.1:{both.server.port}")


@needs("go", "go redigo")
def test_go(both: Both, memcached: Client, tmp_path: Path) -> None:
    """The documentation's program in Go, and what a memcached client sees of it."""
    (tmp_path / "main.go").write_text(example(both, "go"))
    assert start([installed("go"), "run", str(tmp_path / "main.go")], GO) == "value\n"
    assert memcached.get("key") == b"value"


@needs("node", "node redis")
def test_node(both: Both, memcached: Client, tmp_path: Path) -> None:
    """The documentation's program in Node, and what a memcached client sees of it."""
    (tmp_path / "main.js").write_text(example(both, "js"))
    settings = {"NODE_PATH": "/usr/share/nodejs"}
    assert start([installed("node"), str(tmp_path / "main.js")], settings) == "value\n"
    assert memcached.get("key") == b"value"


def test_every_function(both: Both, memcached: Client) -> None:
    """Each does what memcached's command does, and memcached clients see it."""
    call = both.call
    every_byte = bytes(range(256))
    assert call("get", "rc:k") is None and call("gets", "rc:k") is None
    assert call("replace", "rc:k", "x") is None and call("append", "rc:k", "x") is None
    assert call("add", "rc:k", every_byte).isdigit() and call("add", "rc:k", "x") is None
    assert memcached.get("k") == call("get", "rc:k") == every_byte
    assert call("set", "rc:k", "b", 0, 2**32 - 1).isdigit()
    assert call("append", "rc:k", "c").isdigit() and call("prepend", "rc:k", "a").isdigit()
    assert memcached.get("k") == b"abc"
    assert call("gets", "rc:k")[1:2] == [b"4294967295"]
    left = left_of(500)
    assert call("touch", "rc:k", 500) == 1 and call("touch", "rc:none", 500) == 0
    assert call("gets", "rc:k")[3] == left
    with both.server.client() as client:
        client.hset("rc:k", "f", "")
    assert call("gets", "rc:k")[1] == b"0"
    assert call("incr", "rc:n") is None
    assert call("incr", "rc:n", 1, 2**64 - 1) == b"18446744073709551615"
    assert call("incr", "rc:n", 2) == b"1" and memcached.incr("n", 4) == 5
    assert call("decr", "rc:n", 2**64 - 1) == b"0"
    assert call("delete", "rc:k") == 1 and call("delete", "rc:k") == 0
    assert memcached.get("k") is None
    call("set", "rc:k", "over", -1)
    assert call("get", "rc:k") is None


def test_cas(both: Both, memcached: Client) -> None:
    """A write by either side makes the other's token fail."""
    memcached.set("k", b"1")
    _, token = memcached.gets("k")
    both.call("set", "rc:k", "2")
    assert memcached.cas("k", b"3", token) is False
    seen = both.call("gets", "rc:k")[2]
    memcached.set("k", b"4")
    assert both.call("cas", "rc:k", seen, "5") is None
    assert both.call("delete", "rc:k", seen) == 0
    assert both.call("cas", "rc:k", both.call("gets", "rc:k")[2], "6").isdigit()
    assert memcached.get("k") == b"6"
    with both.server.client() as client:
        client.hdel("rc:k", "c")
    assert both.call("gets", "rc:k")[2] == b"0" and both.call("cas", "rc:k", 0, "7") is None
    token = both.call("append", "rc:k", "")
    assert both.call("gets", "rc:k")[:3] == [b"6", b"0", token]
    assert both.call("cas", "rc:k", token, "7").isdigit()


def test_what_is_wrong(both: Both) -> None:
    """Wrong arguments, other types and what cannot be read are errors, and change nothing."""
    call = both.call
    call("set", "rc:k", "text")
    for name, *arguments in (
        ("set",),
        ("set", "v", "soon"),
        ("set", "v", 0, 2**32),
        ("set", "v", 0, 0, 0),
        ("cas", "token", "v"),
        ("incr", -1),
        ("incr", 2**64),
        ("incr", 1),
        ("touch",),
        ("delete", "x"),
        ("append",),
        ("get", "rc:other"),
        ("gets", "rc:other"),
    ):
        with pytest.raises(redis.ResponseError):
            call(name, "rc:k", *arguments)
    assert call("get", "rc:k") == b"text"
    with both.server.client() as client:
        client.rpush("rc:list", "x")
        client.hset("rc:odd", "v", "xyz")
        for name, key in (("get", "rc:list"), ("set", "rc:list"), ("get", "rc:odd")):
            with pytest.raises(redis.ResponseError):
                call(name, key, *(["v"] if name == "set" else []))
        assert client.type("rc:list") == b"list"
        client.hset("rc:k", "f", "none")
        with pytest.raises(redis.ResponseError, match="UNREADABLE"):
            call("touch", "rc:k", 500)
        assert client.ttl("rc:k") == -1
        for flags, token in (("none", "1"), ("4294967296", "1"), ("0", "-1"), ("0", "")):
            client.hset("rc:k", mapping={"f": flags, "c": token})
            with pytest.raises(redis.ResponseError, match="UNREADABLE"):
                call("gets", "rc:k")
        client.hset("rc:k", mapping={"f": "007", "c": "008"})
        assert call("gets", "rc:k") == [b"text", b"7", b"8", -1]


@needs("redis-cli")
def test_the_command(both: Both) -> None:
    """load and dump; a second load asks for --replace; redis-cli does the rest."""
    listed = both.cli("FUNCTION", "LIST", "LIBRARYNAME", "redcouch")
    assert len(set(re.findall(r"redcouch_\w+", listed))) == 12
    assert run("functions", "load", "--storage", both.url).status == 3
    assert run("functions", "load", "--replace", "--storage", both.url).status == 0
    assert run("functions", "dump", "--storage", both.url).out.startswith("#!lua name=redcouch\n")
    assert both.cli("FUNCTION", "DELETE", "redcouch").strip() == "OK"
    assert both.cli("FUNCTION", "LIST", "LIBRARYNAME", "redcouch").strip() == ""


def test_another_second_key(both: Both) -> None:
    """A key that is not the CAS counter is never counted up in its place, nor passed over."""
    both.call("set", "rc:one", "1")
    calls = (("set", "v"), ("touch", 60), ("delete",), ("incr",), ("append", "x"), ("get",))
    with both.server.client() as client:
        client.set("visits", 7)
        for name, *arguments in calls:
            for other in ("visits", "rc:two"):
                with pytest.raises(redis.ResponseError, match="wrong arguments"):
                    client.fcall(f"redcouch_{name}", 2, "rc:one", other, *arguments)
        assert (client.get("visits"), client.exists("rc:two")) == (b"7", 0)
        counter = "redcouch:sys:cas_counter"
        assert client.fcall("redcouch_set", 2, "rc:one", counter, "v") == client.get(counter)
