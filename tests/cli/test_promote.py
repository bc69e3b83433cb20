"""C{redcouch promote}: items become plain strings, one by one, while traffic goes on."""

from __future__ import annotations

import hashlib
import random
import signal
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from redcouch.backends.redis.scripts import PROMOTE, READ, Script
from redcouch.cli.storage import Call, Storage
from tests.cli.filling import Given, fill, fill_many, get
from tests.cli.running import finish, run, start
from tests.support.polling import eventually
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import ask

ALL = bytes(range(256))


@pytest.mark.over("redis", "cluster")
@pytest.mark.parametrize("encoding", ["hex", "raw"])
def test_every_byte(
    encoding: str, redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis
) -> None:
    """Short and long values, of all bytes, with their time to live; the items are gone."""
    values = {b"all": ALL, b"none": b"", b"long": random.Random(3).randbytes(700_000)}
    if encoding == "hex":
        fill(redcouch.address, {key: Given(value, 0, 100) for key, value in values.items()})
    else:
        for key, value in values.items():
            client.hset(b"rc:" + key, mapping={"r": value})
            client.expire(b"rc:" + key, 100)
    said = run("promote", "--force", "*", "--to", "string", "-s", any_redis.url, "--json")
    assert (said.status, said.json["promoted"], said.json["flagged"]) == (0, 3, 0)
    for key, value in values.items():
        assert client.get(key) == value
        assert 90_000 < client.pttl(key) <= 100_000
    assert client.keys("rc:*") == []


@pytest.mark.over("redis", "cluster")
def test_large_values(
    any_redis: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is asked to turn few of them together, as it serves nobody else meanwhile."""
    together: list[int] = []
    run_with_keys = Storage.run_with_keys

    def counted(self: Storage, script: Script, calls: Sequence[tuple[Call, Call]]) -> list[Any]:
        together.append(len(calls) if script in (PROMOTE, READ) else 0)
        return run_with_keys(self, script, calls)

    monkeypatch.setattr(Storage, "run_with_keys", counted)
    for place in range(12):
        client.hset(f"rc:k{place}", "v", b"61" * 100_000)
    said = run("promote", "--force", "*", "--to", "string", "-s", any_redis.url, "--json")
    assert (said.status, said.json["promoted"]) == (0, 12)
    assert max(together) == 2


@pytest.mark.over("redis", "cluster")
@pytest.mark.parametrize("value", [b"FF 00\n0a", b"ff00" * 3000 + b"\nFF"])
def test_loose_hex(value: bytes, any_redis: RedisServer, client: redis.Redis) -> None:
    client.hset("rc:k", "v", value)
    assert run("promote", "--force", "k", "--to", "string", "-s", any_redis.url).status == 0
    assert client.get("k") == bytes.fromhex(value.decode())
    assert client.ttl("k") == -1


@pytest.mark.over("redis", "cluster")
def test_what_matches(redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis) -> None:
    """Only the pattern's keys, and nothing outside the prefix."""
    fill_many(redcouch.address, b"session:", 1000)
    fill_many(redcouch.address, b"user:", 10)
    client.hset("session:hash", "v", "61")
    told = run(
        "promote", "--force", "session:*", "--to", "string", "-s", any_redis.url, "--json"
    ).json
    assert (told["promoted"], told["flagged"]) == (1000, 800)
    assert client.get("session:999") == b"999"
    assert len(client.keys("rc:*")) == 10
    assert client.type("session:hash") == b"hash"
    assert get(redcouch.address, b"session:1") is None


@pytest.mark.over("redis", "cluster")
def test_dry_run(redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis) -> None:
    """Says what would be done, and does nothing."""
    fill_many(redcouch.address, b"k", 3)
    client.set("k1", "mine")
    before = {key: client.dump(key) for key in client.keys("rc:*")}
    said = run("promote", "--force", "*", "--to", "string", "-s", any_redis.url, "--dry-run")
    assert said.status == 1
    assert said.out.startswith("would promote 2 in ")
    assert "\n  k2 -> k2\n" in said.out
    assert said.out.endswith(
        "left 1: there is such a key already\n  k1: there is such a key already\n"
    )
    assert {key: client.dump(key) for key in client.keys("rc:*")} == before
    assert client.exists("k0", "k2") == 0


@pytest.mark.over("redis", "cluster")
@pytest.mark.usefixtures("client")
def test_status_of_a_dry_run(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """It is that of the run itself, for each command that has one."""
    fill_many(redcouch.address, b"k", 3)
    for command in (["promote", "*", "--to", "string", "--force"], ["cleanup", "--yes", "--force"]):
        arguments = [*command, "-s", any_redis.url]
        would = run(*arguments, "--dry-run")
        assert would.out.startswith("would ")
        assert would.status == run(*arguments, "--dry-run").status == 0, command
        if command[0] == "cleanup":
            assert run(*arguments).status == 0


@pytest.mark.over("redis", "cluster")
@pytest.mark.parametrize(("pattern", "left"), [("*", 1), ("[ab]:?", 1), ("a:*", 0)])
def test_dry_run_where_two_items_get_one_name(
    pattern: str, left: int, any_redis: RedisServer, client: redis.Redis
) -> None:
    """It says what the run itself does: one of the two stays, unless the other stays anyway."""
    for key in ("a:1", "a:2", "b:1", "b:2", "b:3"):
        client.hset("rc:" + key, "v", "61")
    client.hset("rc:b:2", "s", 1)
    options = ("--to", "string", "--force", "--rename", "a:=b:", "-s", any_redis.url, "--json")
    would, did = (run("promote", pattern, *options, *more) for more in (["--dry-run"], []))
    stale = 1 if left else 0
    for said in (would, did):
        assert (said.json["present"], said.json["stale"]) == (left, stale)
    assert (would.status, would.json["promoted"]) == (did.status, did.json["promoted"])


@pytest.mark.over("redis", "cluster")
def test_rename(redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis) -> None:
    """A beginning is replaced; another key keeps its name."""
    fill(redcouch.address, {b"session:a": Given(b"1"), b"user:b": Given(b"2")})
    said = run(
        "promote",
        "--force",
        "*",
        "--to",
        "string",
        "--rename",
        "session:=app:s:",
        "-s",
        any_redis.url,
    )
    assert said.status == 0
    assert (client.get("app:s:a"), client.get("user:b")) == (b"1", b"2")
    fill(redcouch.address, {b"c": Given(b"3")})
    run("promote", "--force", "*", "--to", "string", "--rename", "=app:", "-s", any_redis.url)
    assert client.get("app:c") == b"3"
    assert (
        run(
            "promote", "--force", "*", "--to", "string", "--rename", "x", "-s", any_redis.url
        ).status
        == 2
    )


@pytest.mark.parametrize(
    ("pattern", "status"), [("*", 2), ("?:*", 2), ("a*", 2), ("a:*", 0), (r"[a]\:?", 0)]
)
def test_rename_to_a_key_of_another(
    pattern: str, status: int, any_redis: RedisServer, client: redis.Redis
) -> None:
    """With --overwrite, no item is put in the place of another that is promoted as well."""
    client.hset("rc:a:1", "v", "61")
    client.hset("rc:b:1", "v", "62")
    options = ("--to", "string", "--force", "--rename", "a:=b:", "--overwrite")
    said = run("promote", pattern, *options, "-s", any_redis.url)
    assert (said.status, "--overwrite with --rename" in said.err) == (status, status == 2)
    assert client.exists("rc:b:1")


@pytest.mark.over("redis", "cluster")
def test_what_stays(redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis) -> None:
    """Each item that cannot be promoted is as it was, and is named; status 1."""
    fill(redcouch.address, {b"taken": Given(b"new"), b"list": Given(b"1"), b"stale": Given(b"2")})
    client.set("taken", "mine")
    client.lpush("list", "mine")
    client.hset("rc:stale", "s", 1)
    client.hset("rc:broken", "v", "no hex")
    client.hset("rc:flagged", mapping={"v": "61", "f": "seven"})
    client.lpush("rc:other", "x")
    client.hset("rc:empty", "f", 0)
    said = run("promote", "--force", "*", "--to", "string", "-s", any_redis.url, "--json")
    assert said.status == 1
    told = said.json
    kinds = ("promoted", "present", "stale", "unreadable", "wrong_type", "refused", "failed")
    assert [told[kind] for kind in kinds] == [0, 2, 1, 2, 1, 0, 0]
    left = {"taken", "list", "stale", "broken", "flagged", "other"}
    assert {key for key, _ in told["left"]} == left
    assert (client.get("taken"), client.lrange("list", 0, -1)) == (b"mine", [b"mine"])
    assert len(client.keys("rc:*")) == 7

    told = run(
        "promote", "--force", "*", "--to", "string", "--overwrite", "-s", any_redis.url, "--json"
    ).json
    assert [told[kind] for kind in kinds] == [1, 1, 1, 2, 1, 0, 0]
    assert (client.get("taken"), client.lrange("list", 0, -1)) == (b"new", [b"mine"])


@pytest.mark.over("redis", "cluster")
def test_new_keys_that_may_not_be(
    redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis
) -> None:
    """No string is put among the items, nor among RedCouch's own keys."""
    fill(redcouch.address, {b"rc:x": Given(b"1"), b"redcouch:sys:y": Given(b"2")})
    told = run("promote", "--force", "*", "--to", "string", "-s", any_redis.url, "--json").json
    assert (told["promoted"], told["refused"]) == (0, 2)
    assert get(redcouch.address, b"rc:x") == (b"1", 0)


@pytest.mark.over("redis", "cluster")
def test_a_new_key_that_is_empty(any_redis: RedisServer, client: redis.Redis) -> None:
    """Why the item stays is said."""
    client.hset("rc:k", "v", "61")
    said = run("promote", "--force", "k", "--to", "string", "--rename", "k=", "-s", any_redis.url)
    assert said.status == 1
    assert "k: the new key would be empty" in said.out
    assert client.exists("rc:k")


@pytest.mark.over("redis", "cluster")
def test_keep(redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis) -> None:
    fill(redcouch.address, {b"k": Given(b"1", 4, 100)})
    assert (
        run("promote", "--force", "k", "--to", "string", "--keep", "-s", any_redis.url).status == 0
    )
    assert client.get("k") == b"1"
    assert get(redcouch.address, b"k") == (b"1", 4)
    again = run(
        "promote", "--force", "k", "--to", "string", "--keep", "-s", any_redis.url, "--json"
    )
    assert (again.status, again.json["present"]) == (1, 1)


def test_with_flags(redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis) -> None:
    """Flags and token stand beside the string, with the digest of the value they belong to."""
    fill(redcouch.address, {b"k": Given(b"hello", 2**32 - 1, 100), b"n": Given(b"", 3)})
    client.hset("rc:c", mapping={"v": "", "f": 3, "c": ""})  # of which only flags can be read
    token = run("inspect", "k", "-s", any_redis.url, "--json").json["cas"]
    client.hdel("rc:n", "c")
    said = run("promote", "--force", "*", "--to", "string", "--with-flags", "-s", any_redis.url)
    assert (said.status, said.out.count("\n")) == (0, 1)
    digest = hashlib.sha1(b"hello").hexdigest()[:20]
    assert client.get("redcouch:sys:item:k") == f"{digest} 4294967295 {token}".encode()
    assert 240 < client.ttl("redcouch:sys:item:k") <= 260
    for key in ("n", "c"):
        assert client.get(f"redcouch:sys:item:{key}") == b"da39a3ee5e6b4b0d3255 3 -"
    assert client.ttl("redcouch:sys:item:n") == -1
    fill(redcouch.address, {b"k": Given(b"other", 5)})
    run("promote", "--force", "k", "--to", "string", "--overwrite", "-s", any_redis.url)
    assert client.exists("redcouch:sys:item:k") == 0


@pytest.mark.parametrize("flags", [(), ("--with-flags",)])
def test_what_ends_when_time_does(
    flags: tuple[str, ...], any_redis: RedisServer, client: redis.Redis
) -> None:
    """An item with the latest end that Redis takes, as of a native client that means never."""
    client.hset("rc:k", "v", "76")
    client.pexpireat("rc:k", 2**63 - 1)
    said = run("promote", "--force", "k", "--to", "string", *flags, "-s", any_redis.url)
    assert said.status == 0, said
    assert (client.get("k"), client.exists("rc:k")) == (b"v", 0)
    assert client.pttl("k") > 2**51


@pytest.mark.everywhere
def test_ctrl_c(redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis) -> None:
    """It ends between two batches; a second run does the rest."""
    fill_many(redcouch.address, b"k", 2000)
    process = start(
        "promote", "--force", "k*", "--to", "string", "--rate", 200, "-s", any_redis.url, "--json"
    )
    eventually(lambda: client.keys("k*") != [])
    process.send_signal(signal.SIGINT)
    said = finish(process)
    assert said.status == 130
    done = said.json["promoted"]
    assert 0 < done < 2000
    assert len(client.keys("k*")) == done
    rest = run("promote", "--force", "k*", "--to", "string", "-s", any_redis.url, "--json")
    assert (rest.status, rest.json["promoted"]) == (0, 2000 - done)


@pytest.mark.over("redis", "cluster")
def test_while_traffic_goes_on(
    redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis
) -> None:
    """
    A counter that memcached clients count up is promoted with what it had: each
    count is either before, and in the string, or after, and not found.
    """
    fill(redcouch.address, {b"n%d" % place: Given(b"0") for place in range(200)})
    counted = [0] * 200
    begun = threading.Event()

    def count() -> None:
        for turn in range(20):
            for place in range(200):
                reply = ask(redcouch.address, b"incr n%d 1\r\n" % place, b"\r\n")
                if reply != b"NOT_FOUND\r\n":
                    counted[place] = int(reply)
                if turn:
                    begun.set()

    counting = threading.Thread(target=count)
    counting.start()
    try:
        assert begun.wait(60)
        said = run("promote", "--force", "n*", "--to", "string", "--rate", 400, "-s", any_redis.url)
    finally:
        counting.join()
    assert said.status == 0
    assert [int(client.get(f"n{place}") or -1) for place in range(200)] == counted
    assert max(counted) > 1
