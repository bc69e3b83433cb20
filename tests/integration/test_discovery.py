"""Clients that are given one address and find the nodes by themselves: C{--advertise}."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.backends.redis import access
from tests.integration.clients.programs import HERE, seen
from tests.support import servers
from tests.support.documents import STORAGE
from tests.support.frames import frame, reply
from tests.support.polling import eventually
from tests.support.requirements import installed, needs
from tests.support.servers import LOOPBACK, RedCouch, RedisServer
from tests.support.wire import Wire, ask

ASK = b"config get cluster\r\n"
END = b"END\r\n"


def advertising(*nodes: str) -> list[str]:
    return [word for node in nodes for word in ("--advertise", node)]


def told(server: RedCouch, question: bytes = ASK, head: bytes = b"CONFIG cluster") -> list[str]:
    """The number and the line of nodes that a client is told, in the form of ElastiCache."""
    reply = ask(server.address, question, END)
    line, _, rest = reply.partition(b"\r\n")
    assert line == b"%b 0 %d" % (head, len(rest) - len(b"\r\nEND\r\n"))
    assert rest.endswith(b"\n\r\nEND\r\n")
    number, nodes = rest.removesuffix(b"\n\r\nEND\r\n").decode().split("\n")
    assert number.isdigit()
    return [number, nodes]


@pytest.fixture
def storage(any_redis: RedisServer) -> str:
    """The URL of an empty Redis."""
    with any_redis.client() as native:
        native.flushall()
    return any_redis.url


@pytest.mark.parametrize("workers", ["1", "2"])
def test_number_counts_up(storage: str, workers: str) -> None:
    """
    The number of a list stays over restarts and is the same in all workers and in another
    RedCouch; it counts up by one with the list, also where that is an old one again.
    """
    options = ("--workers", workers)
    first = advertising("10.0.0.1:11211", "[2001:DB8::2]:11212")
    shown = "10.0.0.1|10.0.0.1|11211 2001:db8::2|2001:db8::2|11212"
    with servers.redcouch(storage, *options, *first) as server:
        number, nodes = told(server)
        assert nodes == shown
        assert told(server, b"config get cluster\n") == [number, nodes]
        older = b"AmazonElastiCache:cluster"
        for verb in (b"get ", b" get  "):
            assert told(server, verb + older + b"\r\n", b"VALUE " + older) == [number, nodes]
        with ExitStack() as stack:
            for _ in range(8):  # of any worker
                wire = stack.enter_context(Wire(server.address))
                reply = wire.say([ASK], END).reply.decode()
                assert reply.split("\r\n")[1] == f"{number}\n{nodes}\n"
    changes = (first, advertising("10.0.0.1:11211"), first, first)
    for count, list_ in zip((0, 1, 2, 2), changes, strict=True):
        with servers.redcouch(storage, *options, *list_) as server:
            assert int(told(server)[0]) == int(number) + count


def test_lost_number(storage: str, any_redis: RedisServer) -> None:
    """Where Redis has lost the number, the next is larger all the same."""
    with servers.redcouch(storage, *advertising("10.0.0.1:1")) as server:
        before = int(told(server)[0])
    with any_redis.client() as native:
        assert native.delete("redcouch:sys:advertised:rc:") == 1
    eventually(lambda: time.time() >= before + 1)
    with servers.redcouch(storage, *advertising("10.0.0.1:2")) as server:
        assert int(told(server)[0]) > before


def test_memory() -> None:
    """A storage that keeps nothing has a number of its own."""
    with servers.redcouch("memory:", *advertising("10.0.0.1:1")) as server:
        assert told(server)[1] == "10.0.0.1|10.0.0.1|1"


def test_names(storage: str) -> None:
    """A name comes with its address; one that nobody knows stands in both places."""
    nodes = advertising("localhost:11211", "no-such-host.invalid:11211")
    with servers.redcouch(storage, *nodes) as server:
        known = ("localhost|127.0.0.1|11211", "localhost|::1|11211")
        eventually(lambda: told(server)[1].split(" ")[0] in known)
        assert told(server)[1].split(" ")[1] == "no-such-host.invalid|no-such-host.invalid|11211"


def test_binary(storage: str) -> None:
    """ElastiCache's opcode, and the older key, in binary; both only where nodes are advertised."""
    older = b"AmazonElastiCache:cluster"
    with servers.redcouch(storage, *advertising("10.0.0.1:11211")) as server:
        number, nodes = told(server)
        value = f"{number}\n{nodes}\n".encode()
        for opcode, key in ((0x60, b"cluster"), (0x00, older), (0x0C, older)):
            shown = older if opcode == 0x0C else b""
            expected = reply(opcode, 0, value, shown, bytes(4))
            assert ask(server.address, frame(opcode, key), value) == expected
        missing = ask(server.address, frame(0x60, b"other"), b"Not found")
        assert missing[6:8] == b"\0\x01"
    with servers.redcouch(storage) as server:
        unknown = ask(server.address, frame(0x60, b"cluster"), b"Unknown command")
        assert unknown[6:8] == b"\0\x81"


def test_without(storage: str) -> None:
    """Nobody is told of nodes where there are none: as with any memcached."""
    with servers.redcouch(storage) as server:
        assert ask(server.address, ASK, b"\r\n") == b"ERROR\r\n"
        line = b"set AmazonElastiCache:cluster 0 0 1\r\nx\r\n"
        assert ask(server.address, line, b"\r\n") == b"STORED\r\n"
        reply = ask(server.address, b"get AmazonElastiCache:cluster\r\n", END)
        assert reply == b"VALUE AmazonElastiCache:cluster 0 1\r\nx\r\nEND\r\n"


def test_other_words(storage: str) -> None:
    """What is not ElastiCache's question is an error, or nothing that is known."""
    with servers.redcouch(storage, *advertising("10.0.0.1:11211")) as server:
        for line in (b"config", b"config get", b"config set cluster 0 1", b"config get cluster x"):
            assert ask(server.address, line + b"\r\n", b"\r\n") == b"ERROR\r\n"
        assert ask(server.address, b"config get other\r\n", b"\r\n") == END


@pytest.mark.parametrize(
    "node",
    [
        "",
        "host",
        "host:",
        ":11211",
        "host:0",
        "host:65536",
        "host:-1",
        "host:http",
        "two hosts:11211",
        "host|x:11211",
        "::1:11211",
        "[10.0.0.1]:11211",
        "[::zz]:11211",
        "10.0.0.256:11211",
        "0.0.0.0:11211",
        "[::]:11211",
        "a..b:11211",
        "-a:11211",
        "tcp:11211:interface=::",
    ],
)
def test_bad_nodes(tmp_path: Path, node: str) -> None:
    """A node that no client could connect to ends the start with one line."""
    server = RedCouch(tmp_path, "memory:", [], ready=True)
    status, said = server.run("--advertise", node)
    assert status == 1
    (line,) = said.splitlines()
    assert line.startswith(f"redcouch: --advertise {node!r}: ")


def test_given_twice(tmp_path: Path) -> None:
    """So does a node that stands there twice."""
    server = RedCouch(tmp_path, "memory:", [], ready=True)
    assert server.run(*advertising("Cache:1", "cache:1")) == (
        1,
        "redcouch: --advertise 'cache:1': is given twice\n",
    )


def test_storage_away() -> None:
    """While the number cannot be known, the client is told so; then it is known."""
    with servers.redis_server() as redis:
        url = redis.url
        redis.stop()
        with servers.redcouch(url, *advertising("10.0.0.1:1"), ready=False) as server:
            assert ask(server.address, ASK, b"\r\n").startswith(b"SERVER_ERROR ")
            redis.start()
            eventually(lambda: ask(server.address, b"get x\r\n", b"\r\n") == END)
            assert told(server)[1] == "10.0.0.1|10.0.0.1|1"


def test_rights(any_redis: RedisServer) -> None:
    """A Redis user takes one right more for it, as is documented."""
    (more,) = re.findall(r"`--advertise` takes `(.*?)`", STORAGE.read_text())
    with any_redis.client() as native:
        rule = f"on >pw {access.KEYS} {access.BASICS} {more}"
        native.execute_command("ACL", "SETUSER", "bridge", *rule.split())
    url = any_redis.url.replace("redis://", "redis://bridge:pw@")
    with servers.redcouch(url, "--no-inventory", *advertising("10.0.0.1:1")) as server:
        assert told(server)[1] == "10.0.0.1|10.0.0.1|1"


# -- real clients ------------------------------------------------------------------------------


@contextmanager
def two_nodes(storage: str) -> Iterator[tuple[RedCouch, RedCouch]]:
    """Two RedCouches on one storage, both of which tell clients of both."""
    ports = [servers.free_port(), servers.free_port()]
    nodes = advertising(*(f"{LOOPBACK}:{port}" for port in ports))
    with (
        servers.redcouch(storage, *nodes, "--port", str(ports[0])) as first,
        servers.redcouch(storage, *nodes, "--port", str(ports[1])) as second,
    ):
        first.port, second.port = ports
        yield first, second


def both_served(nodes: tuple[RedCouch, RedCouch]) -> bool:
    """Whether each node has stored something."""
    replies = [ask(node.address, b"stats\r\n", END) for node in nodes]
    return all(b"STAT cmd_set " in one and b"STAT cmd_set 0\r" not in one for one in replies)


def check(command: list[str], storage: str, environment: dict[str, str] | None = None) -> None:
    """A program that is told of one node finds both, and divides the keys."""
    with two_nodes(storage) as nodes:
        found = seen([*command, str(nodes[0].port)], environment)
        assert found["nodes"] == sorted(f"{LOOPBACK}:{node.port}" for node in nodes)
        assert found["values"] == [str(number) for number in range(50)]
        assert both_served(nodes)


@needs("django-elastipymemcache")
def test_elastipymemcache(storage: str) -> None:
    """pymemcache's client for ElastiCache, as django-elastipymemcache has it."""
    check([sys.executable, str(HERE / "elasticache.py")], storage)


@needs("node", "npm packages")
def test_npm_memcached_elasticache(storage: str) -> None:
    """npm's memcached-elasticache."""
    environment = {"NODE_PATH": str(Path(installed("npm packages")).parent)}
    check([installed("node"), str(HERE / "elasticache.js")], storage, environment)
