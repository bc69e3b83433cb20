"""
Each example in the documents by which a native client writes an item: a memcached client
that has read the item before cannot overwrite it by C{cas}, and the item lives as long as
the example says.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from redcouch.native import AsyncItems, Items
from tests.support import servers
from tests.support.documents import DOCUMENTS, README, STORAGE, blocks, shell
from tests.support.requirements import needs
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import ask

ROOT = README.parent
_MIGRATION, _NATIVE = ROOT / "docs/migration.md", ROOT / "docs/native.md"


class Stage(NamedTuple):
    """Where an example is run."""

    server: RedisServer
    client: redis.Redis
    folder: Path


class Example(NamedTuple):
    """
    @ivar run: does what the example does.
    @ivar key: the key that it writes, as clients name it.
    @ivar seconds: how long the item is to live, as the example says.
    """

    run: Callable[[Stage], None]
    key: bytes
    value: bytes
    seconds: int


def _python(document: Path, place: int, cut: str = "") -> Callable[[Stage], None]:
    """A block of Python, from these words on, with the client of the stage."""

    def run(stage: Stage) -> None:
        block = blocks(document, "python")[place]
        block = block[block.index(cut) :]
        exec(block, {"client": stage.client})

    return run


def _migration(stage: Stage) -> None:
    (block,) = (one for one in blocks(_MIGRATION, "python") if "def write(" in one)
    names: dict[str, Any] = {"client": stage.client}
    exec(block[block.index("def write(") : block.index("\n\n\nprint(")], names)
    (call,) = re.findall(r"^write\(.*\)$", block, re.M)
    exec(call, names)


def _items(stage: Stage) -> None:
    block = blocks(_NATIVE, "python")[0]
    lines = [line for line in block.splitlines() if line.startswith(("items.", "found"))]
    exec("\n".join(lines), {"items": Items(stage.client)})


def _async_items(stage: Stage) -> None:
    (line,) = (
        line for line in blocks(_NATIVE, "python")[1].splitlines() if line.startswith("await ")
    )

    async def run() -> None:
        client = redis.asyncio.Redis(host=servers.LOOPBACK, port=stage.server.port)
        names: dict[str, Any] = {"items": AsyncItems(client)}
        exec(f"async def example():\n    {line}", names)
        await names["example"]()
        await client.aclose()

    asyncio.run(run())


def _storage_shell(stage: Stage, value: str = "hello") -> None:
    (script,) = blocks(STORAGE, "sh")
    shell(script.splitlines()[0].replace("hello", value), stage.server, stage.folder)


def _functions_shell(stage: Stage) -> None:
    from redcouch.backends.redis.layout import Layout
    from redcouch.native.functions import library

    stage.client.function_load(library(Layout()), replace=True)
    script = next(one for one in blocks(_NATIVE, "sh") if "FCALL redcouch_set" in one)
    (line,) = (line for line in script.splitlines() if "FCALL redcouch_set" in line)
    shell(line, stage.server, stage.folder)


EXAMPLES = {
    "README": Example(_python(README, 0, "with client"), b"farewell", b"bye", 3600),
    "storage, Python": Example(_python(STORAGE, 1), b"session:abc", b"hello", 60),
    "storage, shell": Example(_storage_shell, b"k", b"hello", 60),
    "storage, shell, more than a line of xxd": Example(
        partial(_storage_shell, value="hello" * 20), b"k", b"hello" * 20, 60
    ),
    "migration": Example(_migration, b"session:3", b"carol", 3600),
    "native": Example(_items, b"session:1", b"new", 1800),
    "native, async": Example(_async_items, b"session:1", b"value", 1800),
    "functions": Example(_functions_shell, b"key", b"value", 500),
}


@pytest.fixture(scope="module", params=["hex", "raw"])
def bridge(request: pytest.FixtureRequest, any_redis: RedisServer) -> Iterator[RedCouch]:
    """One that writes values in either encoding; the examples write hex."""
    with servers.redcouch(f"{any_redis.url}?encoding={request.param}") as server:
        yield server


@needs("redis-cli", "xxd")
@pytest.mark.parametrize("name", EXAMPLES)
def test_beside_a_cas(name: str, bridge: RedCouch, any_redis: RedisServer, tmp_path: Path) -> None:
    """Who has read the old item is told EXISTS, and reads the native value with its own token."""
    example = EXAMPLES[name]
    with any_redis.client() as client:
        for exptime in (0, 100_000):
            stored = ask(
                bridge.address, b"set %b 7 %d 3\r\nold\r\n" % (example.key, exptime), b"\r\n"
            )
            assert stored == b"STORED\r\n"
            token = _gets(bridge, example.key)[1]
            example.run(Stage(any_redis, client, tmp_path))
            late = b"cas %b 0 0 4\r\nlate\r\n".replace(b" 4\r", b" 4 %d\r") % (example.key, token)
            assert ask(bridge.address, late, b"\r\n") == b"EXISTS\r\n"
            value, fresh = _gets(bridge, example.key)
            assert value == example.value
            assert fresh != token
            left = client.ttl(b"rc:" + example.key)
            assert example.seconds - 30 < left <= example.seconds
            good = b"cas %b 0 0 2 %d\r\nok\r\n" % (example.key, fresh)
            assert ask(bridge.address, good, b"\r\n") == b"STORED\r\n"


def _gets(bridge: RedCouch, key: bytes) -> tuple[bytes, int]:
    reply = ask(bridge.address, b"gets %b\r\n" % key, b"END\r\n")
    line, value, _ = reply.split(b"\r\n", 2)
    return value, int(line.split()[4])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_other_example_writes_a_hash(document: Path) -> None:
    """Whichever example writes an item's fields, removes its token and gives it an expiry."""
    found = re.findall(r"^```\w+\n(.*?)^```$", document.read_text(), re.M | re.S)
    for block in found:
        if re.search(r"hset\(|HSET ", block):
            assert re.search(r'hdel\([^)]*"c"|HDEL \S+ [^\\]*\bc\b', block), block
            assert re.search(r"expire\(|EXPIRE |persist\(|PERSIST ", block), block
