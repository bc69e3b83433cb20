"""Native clients and memcached clients on the same items, with the service between them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from pymemcache.client.base import Client

from redcouch.backends.redis.layout import StringLayout
from redcouch.native import AsyncItems, Found, Items, UnreadableItemError
from tests.reliability.proxy import in_front_of
from tests.support import servers
from tests.support.servers import RedisServer
from tests.support.spans import left_of

MANY = {f"k{place}": b"%d" % place for place in range(1200)}

LAYOUTS = ("encoding=hex", "encoding=raw", "layout=string")


@pytest.fixture(scope="module", params=LAYOUTS)
def service(request: pytest.FixtureRequest, any_redis: RedisServer) -> Iterator[tuple[str, int]]:
    with servers.redcouch(f"{any_redis.url}/5?{request.param}") as server:
        yield request.param, server.port


@pytest.fixture
def both(service: tuple[str, int], any_redis: RedisServer) -> Iterator[tuple[Items, Client]]:
    """Items, and a memcached client of the same ones."""
    parameters, port = service
    with any_redis.client(db=5) as client:
        client.flushdb()
        memcached = Client(("127.0.0.1", port), default_noreply=False)
        yield Items(client, **dict([parameters.split("=")])), memcached
        memcached.close()


def test_both_directions(both: tuple[Items, Client]) -> None:
    """What one writes the other reads: value, flags, token, time to live."""
    items, memcached = both
    left = left_of(500)
    token = items.set("k", b"\0\xffv", ttl=500, flags=7)
    assert memcached.gets("k") == (b"\0\xffv", str(token).encode())
    assert items.gets("k") == Found(b"\0\xffv", 7, token, left)
    memcached.set("k", b"w")
    assert items.get("k") == b"w"
    assert items.gets("k").ttl is None  # type: ignore[union-attr]
    assert items.get("none") is None and items.gets("none") is None


def test_cas_in_both_directions(both: tuple[Items, Client]) -> None:
    """A write by either side makes the other's token fail."""
    items, memcached = both
    memcached.set("k", b"1")
    _, token = memcached.gets("k")
    assert items.set("k", b"2") > int(token)
    assert memcached.cas("k", b"3", token) is False
    seen = items.gets("k")
    assert seen is not None
    memcached.set("k", b"4")
    assert items.cas("k", b"5", seen.cas) is None
    seen = items.gets("k")
    assert seen is not None and items.cas("k", b"6", seen.cas)
    assert memcached.get("k") == b"6"
    assert not items.delete("k", seen.cas)


def write_natively(items: Items, key: str) -> None:
    """An item as any native client writes it, without a token."""
    name, layout = items._operations.get(key).keys[0], items._operations._layout
    if isinstance(layout, StringLayout):
        items._client.set(name, "1")
    else:
        items._client.hset(name, layout.field, layout.encode(b"1"))


def test_cas_of_what_has_no_token(both: tuple[Items, Client], any_redis: RedisServer) -> None:
    """An item that was written natively has a token once it is asked for one."""
    items, _ = both
    write_natively(items, "k")
    seen = items.gets("k")
    assert seen is not None and seen.cas and items.gets("k") == seen
    assert items.cas("k", b"2", seen.cas) and items.cas("k", b"3", seen.cas) is None

    async def work() -> None:
        async with redis.asyncio.Redis(port=any_redis.port, db=5) as client:
            awaited = AsyncItems(client)
            awaited._operations = items._operations
            seen = await awaited.gets("other")
            assert seen is not None and seen.cas and await awaited.cas("other", b"2", seen.cas)

    write_natively(items, "other")
    asyncio.run(work())
    assert items.get("other") == b"2"


@pytest.mark.parametrize("flags", [b"v", b"t v u"])
def test_who_asks_for_no_token_gives_none(both: tuple[Items, Client], flags: bytes) -> None:
    """A meta get that asks for the value leaves a native client's item as it is."""
    items, memcached = both

    def keys() -> set[bytes]:
        """But for those in which the service notes now and then who speaks memcached."""
        there: Any = items._client.keys("*")
        return {key for key in there if not key.startswith(b"redcouch:sys:traffic")}

    write_natively(items, "k")
    before = keys()
    assert memcached.raw_command(b"mg k " + flags, end_tokens=b"\r\n1\r\n").startswith(b"VA 1")
    assert keys() == before
    if not isinstance(items._operations._layout, StringLayout):
        assert items._client.hlen("rc:k") == 1


@pytest.mark.parametrize(
    ("field", "content", "change"),
    [("v", "odd", "incr"), ("f", "none", "touch"), ("c", "-1", "touch")],
)
def test_what_cannot_be_read(field: str, content: str, change: str, any_redis: RedisServer) -> None:
    """Whatever is asked of it, the same is said, and nothing changes."""
    with any_redis.client(db=5) as client:
        client.delete("rc:k")
        client.hset("rc:k", mapping={"v": "31", field: content})
        before = client.hgetall("rc:k")
        for name in ("get", "gets", change):
            with pytest.raises(UnreadableItemError):
                getattr(Items(client), name)("k")
        assert client.hgetall("rc:k") == before


def test_gets_of_a_stale_item(both: tuple[Items, Client]) -> None:
    """Who reads it natively is not told to renew it, so the next memcached client is."""
    items, memcached = both
    memcached.set("k", b"1")
    assert memcached.raw_command(b"md k I") == b"HD"
    seen = items.gets("k")
    assert seen is not None and seen.value == b"1"
    assert memcached.raw_command(b"mg k f") == b"HD f0 X W"
    assert memcached.raw_command(b"mg k f") == b"HD f0 Z X"


def test_every_change(both: tuple[Items, Client]) -> None:
    """Each method does what memcached's command does."""
    items, memcached = both
    assert items.replace("k", b"x") is None and items.append("k", b"x") is None
    assert items.add("k", b"b") and items.add("k", b"x") is None
    assert items.append("k", b"c") and items.prepend("k", b"a")
    assert memcached.get("k") == b"abc"
    left = left_of(500)
    assert items.replace("k", b"new") and items.touch("k", 500) and not items.touch("none", 5)
    found = items.gets("k")
    assert found is not None and found[:2] == (b"new", 0) and found.ttl == left
    with pytest.raises(UnreadableItemError):
        items.incr("k")
    assert items.incr("n") is None and items.incr("n", initial=2**64 - 1) == 2**64 - 1
    assert items.incr("n", 2) == 1 and memcached.incr("n", 4) == 5 and items.decr("n", 9) == 0
    items.set_many({"a": b"1", "b": b"2"}, ttl=500)
    assert items.get_many(["a", "b", "c"]) == {"a": b"1", "b": b"2"}
    assert items.delete_many(["b", "c"]) == 1 and items.get_many([]) == {}
    items.set_many({"b": b"2"})
    assert items.delete("a") and not items.delete("a")
    assert memcached.get("a") is None
    items.set("b", b"x", ttl=0)
    assert memcached.get("b") is None


def test_the_longest_life(both: tuple[Items, Client]) -> None:
    """What Redis would refuse is refused before anything is written."""
    items, memcached = both
    items.set("k", b"v", ttl=9e12)
    assert memcached.get("k") == b"v"
    for change in (
        lambda: items.set("k", b"w", ttl=1e17),
        lambda: items.add("new", b"w", ttl=9.3e15),
        lambda: items.incr("new", initial=1, ttl=1e17),
        lambda: items.touch("k", ttl=1e17),
    ):
        with pytest.raises(ValueError, match="lives so long"):
            change()
    assert items.get_many(["k", "new"]) == {"k": b"v"}


def test_what_ends_when_time_does(both: tuple[Items, Client]) -> None:
    """The latest end that Redis takes, as of a native client that means never."""
    items, memcached = both
    write_natively(items, "k")
    items._client.pexpireat(items._operations.get("k").keys[0], 2**63 - 1)
    assert (memcached.incr("k", 1), items.incr("k"), memcached.append("k", b"0")) == (2, 3, True)
    assert items.touch("k", 9e12) and memcached.get("k") == b"30"


def test_scripts_are_not_there(both: tuple[Items, Client]) -> None:
    """A Redis that has forgotten the scripts is told them."""
    items, _ = both
    items._client.script_flush()
    items.set("k", b"v")
    items._client.script_flush()
    assert items.get("k") == b"v"


def test_many_in_a_round_trip(both: tuple[Items, Client]) -> None:
    """More keys than go together."""
    items, memcached = both
    items.set_many(MANY, ttl=500)
    assert items.get_many(MANY) == MANY
    assert memcached.get_many(["k0", "k1199"]) == {"k0": b"0", "k1199": b"1199"}
    assert items.delete_many(MANY) == 1200 and items.get_many(MANY) == {}


def test_the_scripts_are_told_once() -> None:
    """However many keys there are; nobody else tells this Redis."""
    with servers.redis_server() as server, server.client() as client:
        items = Items(client)
        for call in (lambda: items.set_many(MANY), lambda: items.get_many(MANY)):
            client.script_flush()
            client.config_resetstat()
            call()
            assert client.info("commandstats")["cmdstat_script|load"]["calls"] == 1


def test_as_programs_with_types_have_it(any_redis: RedisServer) -> None:
    """What works is right to a checker of types, too: our own run of mypy reads this."""
    texts: dict[str, str] = {"a": "1"}
    names: dict[bytes, bytes] = {b"b": b"2"}

    async def work() -> dict[str, bytes]:
        async with redis.asyncio.Redis(port=any_redis.port, db=6) as client:
            awaited = AsyncItems(client)
            await asyncio.create_task(awaited.set_many(texts))
            async with asyncio.TaskGroup() as group:
                group.create_task(awaited.set_many(names))
            return await awaited.get_many(["a"])

    assert asyncio.run(work()) == {"a": b"1"}
    with any_redis.client(db=6) as client:
        items = Items(client)
        items.set_many({"a": b"3", b"c": "4"})
        found: dict[bytes, bytes] = items.get_many([b"a", b"b"])
        assert found == {b"a": b"3", b"b": b"2"} and items.get("c") == b"4"


def test_one_of_many_fails(both: tuple[Items, Client]) -> None:
    """What is no item raises; the others have been written."""
    items, memcached = both
    items._client.rpush(items._operations.get("list").keys[0], "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        items.set_many({"a": b"1", "list": b"2", "b": b"3"})
    assert memcached.get_many(["a", "b"]) == {"a": b"1", "b": b"3"}
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        items.get_many(["a", "list"])


def test_a_client_that_decodes(any_redis: RedisServer) -> None:
    """Values are bytes even where the client makes text of its replies."""
    with any_redis.client(db=6, decode_responses=True) as client:
        client.flushdb()
        items = Items(client, encoding="raw")
        items.set("k", b"\xff")
        assert items.get("k") == b"\xff"
        assert items.get_many(["k"]) == {"k": b"\xff"}
        client.rpush("rc:list", "x")
        with pytest.raises(redis.ResponseError):
            items.get("list")


def test_asyncio(any_redis: RedisServer) -> None:
    """The same methods, to await."""

    async def work() -> None:
        client = redis.asyncio.Redis(port=any_redis.port, db=6)
        items = AsyncItems(client, layout="string")
        try:
            await client.flushdb()
            left = left_of(60)
            token = await items.set("k", "1", flags=3, ttl=60)
            assert await items.gets("k") == Found(b"1", 3, token, left)
            assert await items.add("k", "2") is None
            assert await items.cas("k", "2", token)
            assert await items.replace("k", "3") and await items.append("k", "4")
            assert await items.prepend("k", "1") and await items.incr("k") == 135
            assert await items.decr("k", 5) == 130 and await items.touch("k", 60)
            await items.set_many({"a": "1"})
            await client.script_flush()
            assert await items.get_many(["a", "b"]) == {"a": b"1"}
            assert await items.delete_many(["a", "b"]) == 1
            assert await items.delete("k") and await items.get("k") is None
            with pytest.raises(ValueError, match="RedCouch's own"):
                await items.get("redcouch:sys:cas_counter")
        finally:
            await client.aclose()

    asyncio.run(work())


def test_nothing_is_done_twice(any_redis: RedisServer) -> None:
    """As the documentation says: a client without retries hears that an answer was lost."""
    with any_redis.client(db=6) as direct, in_front_of(any_redis.address) as proxy:
        direct.flushdb()
        items = Items(redis.Redis.from_url(f"{proxy.url}/6", retry=None))
        assert items.set("n", b"0") and items.incr("n") == 1
        proxy.cut()
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            items.incr("n")
        assert Items(direct).get("n") == b"2" and items.incr("n") == 3

        async def work() -> None:
            async with redis.asyncio.Redis.from_url(f"{proxy.url}/6", retry=None) as client:
                awaited = AsyncItems(client)
                assert await awaited.incr("n") == 4
                proxy.cut()
                with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
                    await awaited.incr("n")
                assert Items(direct).get("n") == b"5" and await awaited.incr("n") == 6

        asyncio.run(work())
        assert proxy.cuts == 2
        items._client.close()


def test_without_twisted() -> None:
    """Who imports it does not get a Twisted with it."""
    code = "import sys, redcouch.native; sys.exit('twisted' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
