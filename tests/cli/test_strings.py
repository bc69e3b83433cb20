"""The commands on a storage with C{layout=string}, with the service on the same strings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.cli.filling import Given, fill, fill_many, get
from tests.cli.running import run
from tests.support import servers
from tests.support.servers import Memcached, RedCouch, RedisServer
from tests.support.wire import ask


@pytest.fixture(scope="module", params=["", "app:"])
def prefix(request: pytest.FixtureRequest) -> str:
    """What stands before the clients' keys."""
    return str(request.param)


@pytest.fixture(scope="module")
def url(prefix: str, any_redis: RedisServer) -> str:
    """The storage: a database of its own."""
    return f"{any_redis.url}/11?layout=string&prefix={prefix}"


@pytest.fixture(scope="module")
def running_service(url: str) -> Iterator[RedCouch]:
    with servers.redcouch(url, "--no-inventory") as service:
        yield service


@pytest.fixture
def service(running_service: RedCouch, native: redis.Redis) -> RedCouch:
    """The service, with nothing in its database."""
    return running_service


@pytest.fixture
def native(any_redis: RedisServer) -> Iterator[redis.Redis]:
    """A native client of the database, with nothing in it."""
    with any_redis.client(db=11) as client:
        client.flushdb()
        yield client


@pytest.mark.everywhere
def test_import_and_verify(
    memcached: Memcached, old: str, service: RedCouch, native: redis.Redis, url: str, prefix: str
) -> None:
    """Each item is a string under the client's key, with flags, token and time to live."""
    items = {b"a": Given(b"1\r\n\xff", 7, 500), b"two words": Given(b""), b"x" * 200: Given(b"3")}
    fill(memcached.address, items | {b"here": Given(b"old")})
    native.set(f"{prefix}here", "newer")
    told = run("import", old, "--to", url, "--json")
    assert (told.status, told.json["copied"], told.json["present"]) == (0, 3, 1)
    assert native.get(f"{prefix}a") == b"1\r\n\xff"
    assert 400 < native.ttl(f"{prefix}a") <= 500
    assert native.get(f"{prefix}here") == b"newer"
    assert get(service.address, b"a") == (b"1\r\n\xff", 7)
    assert int(ask(service.address, b"gets a\r\n", b"END\r\n").split()[4]) > 0

    differences = run("verify", old, url, "--json").json["differences"]
    assert {kind: count for kind, count in differences.items() if count} == {"value": 1}
    assert run("import", old, "--to", url, "--overwrite").status == 0
    same = run("verify", old, url)
    assert same.out.startswith("memcached 4 items, Redis 4; compared 4 in ")
    assert same.status == 0


def test_verify_names_what_differs(
    memcached: Memcached, old: str, service: RedCouch, native: redis.Redis, url: str, prefix: str
) -> None:
    """In both directions; a key that no memcached could have is extra, too."""
    fill(memcached.address, {key: Given(b"v", 1, 500) for key in (b"flags", b"ttl", b"gone", b"l")})
    assert run("import", old, "--to", url).status == 0
    native.set(f"{prefix}flags", "v2")  # a native write loses the flags, ...
    native.set(f"{prefix}flags", "w")
    fill(memcached.address, {b"flags": Given(b"w", 1)})
    native.persist(f"{prefix}ttl")
    native.delete(f"{prefix}gone", f"{prefix}l")
    native.lpush(f"{prefix}l", "x")
    native.set(prefix + "y" * 300, "1")
    said = run("verify", old, url, "--json")
    assert said.status == 1
    kinds = {one["key"]: one["kind"] for one in said.json["named"]}
    assert kinds == {
        "flags": "flags", "ttl": "ttl", "gone": "missing", "l": "unreadable", "y" * 300: "extra",
    }  # fmt: skip


def test_ls_and_inspect(service: RedCouch, native: redis.Redis, url: str, prefix: str) -> None:
    """Strings of native clients are items; side keys, other types and other prefixes are none."""
    fill(service.address, {b"k:1": Given(b"hello", 5, 100)})
    native.set(f"{prefix}k:2", "native")
    native.lpush(f"{prefix}k:3", "x")
    listed = {line["key"]: line for line in run("ls", "-s", url, "--json").lines}
    assert set(listed) == {"k:1", "k:2"}
    assert (listed["k:1"]["size"], listed["k:1"]["flags"]) == (5, 5)
    assert (listed["k:2"]["size"], listed["k:2"]["ttl"]) == (6, None)
    assert run("ls", "redcouch*", "-s", url).status == 1
    told = run("inspect", "k:1", "-s", url, "--json").json
    token = int(ask(service.address, b"gets k:1\r\n", b"END\r\n").split()[4])
    assert (told["value"], told["flags"], told["cas"]) == ("hello", 5, token)
    assert (told["redis_key"], told["encoding"]) == (f"{prefix}k:1", "string")
    native.set(f"{prefix}k:1", "other")
    told = run("inspect", "k:1", "-s", url, "--json").json
    assert (told["value"], told["flags"], told["cas"]) == ("other", 0, None)
    assert run("inspect", "k:3", "-s", url).err == "redcouch: k:3: not an item\n"
    assert run("inspect", "none", "-s", url).status == 1


def test_keys_of_redcouchs_own(
    memcached: Memcached, old: str, native: redis.Redis, any_redis: RedisServer
) -> None:
    """Without a prefix, no item of memcached's is written over the counter."""
    fill(memcached.address, {b"redcouch:sys:cas_counter": Given(b"7"), b"k": Given(b"v")})
    url = f"{any_redis.url}/11?layout=string"
    said = run("import", old, "--to", url, "--overwrite", "--json")
    assert (said.status, said.json["copied"], said.json["failed"]) == (1, 1, 1)
    counter = native.get("redcouch:sys:cas_counter")
    assert counter in (b"1", b"2")  # tokens of k, and of what was measured before; not 7
    assert run("inspect", "redcouch:sys:cas_counter", "-s", url).status == 1

    others = {b"%d" % number: Given(b"v", exptime=500 * (number % 2)) for number in range(20)}
    fill(memcached.address, others)
    assert run("import", old, "--to", url, "--json").json["copied"] == 20
    told = run("verify", old, url, "--json").json  # the times to live of each are its own
    assert {kind: count for kind, count in told["differences"].items() if count} == {"missing": 1}


def test_cleanup_leaves_the_strings(
    service: RedCouch, native: redis.Redis, url: str, prefix: str
) -> None:
    """Flags and tokens go; strings, other prefixes' flags and everything else stay."""
    fill_many(service.address, b"k", 300)
    others = {"mine": "1", "redcouch:sys:other": "2", "rc:x": "3"}
    if prefix:
        others["redcouch:sys:item:other:k"] = "4"
    native.mset(others)
    would = run("cleanup", "--force", "--dry-run", "-s", url)
    where = f"redcouch:sys:item:{prefix}"
    assert (would.status, would.out) == (0, f"would remove 300 keys under {where}\n")
    assert (
        run("cleanup", "--force", "--yes", "-s", url).out
        == f"removed 300 of 300 keys under {where}\n"
    )
    assert native.keys(f"{where}*") == []
    assert len(native.keys(f"{prefix}k*")) == 300
    assert native.mget(list(others)) == [value.encode() for value in others.values()]
    assert get(service.address, b"k7") == (b"7", 0)


def test_system_leaves_the_flags_of_strings(
    service: RedCouch, native: redis.Redis, any_redis: RedisServer, url: str
) -> None:
    """A cleanup of hashes takes nothing away from items that are strings."""
    fill(service.address, {b"k": Given(b"v", 5)})
    assert run("cleanup", "--force", "--yes", "--system", "-s", f"{any_redis.url}/11").status == 0
    assert get(service.address, b"k") == (b"v", 5)
    assert not native.exists("redcouch:sys:cas_counter")
    assert run("cleanup", "--force", "--yes", "--system", "-s", url).status == 0
    assert native.keys("redcouch:*") == []
    assert get(service.address, b"k") == (b"v", 0)
