"""What clients and people are told of the version, and that each client can read it."""

from __future__ import annotations

import re
from pathlib import Path

import pymemcache

from redcouch import MEMCACHED_VERSION, __version__
from redcouch.options import VERSION
from tests.integration import monitors
from tests.integration.clients.programs import run
from tests.support import servers
from tests.support.frames import frame, reply
from tests.support.requirements import installed, needs
from tests.support.servers import LOOPBACK, RedCouch, RedisServer
from tests.support.wire import Address, Wire, ask

TYPED = f"RedCouch {__version__}"


def in_text(address: Address, line: bytes) -> str:
    """What a line is answered, behind VERSION."""
    reply = ask(address, line, b"\r\n")
    assert reply.startswith(b"VERSION "), reply
    return reply[8:-2].decode()


def in_binary(address: Address) -> str:
    """The same of the binary opcode."""
    with Wire(address) as wire:
        said = wire.say([frame(0x0B) + frame(0x0A)], reply(0x0A)).reply
    return said[24 : -len(reply(0x0A))].decode()


@needs("nc")
def test_who_asks(redcouch: RedCouch) -> None:
    """A client library, whose line ends in CRLF, reads a number; a person at nc reads a name."""
    address = redcouch.address
    for line in (b"version\r\n", b" version\r\n", b"version foo\r\n", b"version \r\n"):
        assert in_text(address, line) == VERSION
    for line in (b"version\n", b" version\n", b"version foo\n", b"version \n"):
        assert in_text(address, line) == TYPED
    with Wire(address) as wire:
        mixed = wire.say([b"version\nversion\r\nversion\nmn\r\n"], b"MN\r\n").reply
    said = [line[8:].decode() for line in mixed.split(b"\r\n")[:3]]
    assert said == [TYPED, VERSION, TYPED]
    assert in_binary(address) == VERSION
    printed = run(["sh", "-c", f"echo version | nc -N {LOOPBACK} {redcouch.port}"])
    assert printed == f"VERSION {TYPED}\r\n"


def test_statistics(redcouch: RedCouch) -> None:
    """Monitors find the release whose behaviour this is, and RedCouch's own version."""
    for stats in (monitors.text(redcouch.address), monitors.binary(redcouch.address)):
        assert stats["version"] == VERSION
        assert stats["redcouch_version"] == __version__


def test_before_authentication(tmp_path: Path) -> None:
    """It is the same for a client that is not in yet."""
    users = tmp_path / "users"
    users.write_bytes(b"anna:secret\n")
    with servers.redcouch("memory:", "--auth-file", str(users), ready=False) as server:
        assert in_text(server.address, b"version\r\n") == VERSION
        assert in_text(server.address, b"version\n") == TYPED
        assert in_binary(server.address) == VERSION


def test_a_string_of_ones_own() -> None:
    """--version-string is what everybody is told; the own version stays to be seen."""
    with servers.redcouch("memory:", "--version-string", "1.4.2") as server:
        for line in (b"version\r\n", b"version\n"):
            assert in_text(server.address, line) == "1.4.2"
        assert in_binary(server.address) == "1.4.2"
        stats = monitors.text(server.address)
        assert (stats["version"], stats["redcouch_version"]) == ("1.4.2", __version__)


def _libmemcached(word: str) -> str:
    """strtol, a dot, strtol, a dot, strtol; and stats keeps 23 bytes."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", word)
    assert match, word
    assert len(word) < 24
    return match[0]


def _npm_memcached(word: str) -> str:
    """Three numbers at the end, or the process ends."""
    match = re.search(r"(\d+)\.(\d+)\.(\d+)$", word)
    assert match, word
    return match[0]


def test_strict_readers() -> None:
    """What the strictest clients look for is there."""
    assert _libmemcached(VERSION) == MEMCACHED_VERSION
    assert _npm_memcached(VERSION) == __version__
    assert " " not in VERSION


@needs("php")
def test_clients(redcouch: RedCouch) -> None:
    """Real ones: pymemcache, and PHP in both protocols."""
    client = pymemcache.Client(redcouch.address)
    assert client.version() == VERSION.encode()
    client.close()
    program = installed("php")
    for binary in ("false", "true"):
        script = (
            f"$c = new Memcached(); $c->setOption(Memcached::OPT_BINARY_PROTOCOL, {binary});"
            f"$c->addServer('{LOOPBACK}', {redcouch.port});"
            "echo current($c->getVersion()), ' ', current($c->getStats())['version'];"
        )
        assert run([program, "-r", script]).split() == [MEMCACHED_VERSION, VERSION]


def test_statistics_with_workers(any_redis: RedisServer) -> None:
    """Each process says the same."""
    with servers.redcouch(any_redis.url, "--workers", "2") as server:
        for _ in range(8):
            assert in_text(server.address, b"version\r\n") == VERSION
            assert in_text(server.address, b"version\n") == TYPED
