"""C{redcouch ls} and C{redcouch inspect}: what is in Redis, as people see it."""

from __future__ import annotations

import base64

import pytest
import redis

from redcouch.cli.common import key_argument, show_key
from redcouch.cli.inspect import show_value
from tests.cli.filling import Given, fill, fill_many
from tests.cli.running import finish, run, start
from tests.support.servers import RedCouch, RedisServer


@pytest.mark.over("redis", "cluster")
def test_ls(redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis) -> None:
    """Size, time to live, flags and key; what is no item is named as such."""
    fill(
        redcouch.address,
        {b"session:1": Given(b"hello", 5, 100), b"session:2": Given(b""), b"user 1": Given(b"x")},
    )
    client.lpush("rc:session:list", "x")
    client.hset("rc:session:2", "f", "")
    client.set("session:plain", "outside the prefix")

    said = run("ls", "session:*", "-s", any_redis.url)
    assert said.status == 0
    head, *lines = said.out.splitlines()
    assert head.split() == ["SIZE", "TTL", "FLAGS", "KEY"]
    assert {line.split()[3]: line.split()[:3] for line in lines} == {
        "session:1": ["5", lines_ttl(lines), "5"],
        "session:2": ["0", "-", "0"],
        "session:list": ["-", "-", "-"],
    }
    assert 90 <= int(lines_ttl(lines)) <= 100
    assert "(not an item)" in said.out

    everything = {line["key"]: line for line in run("ls", "-s", any_redis.url, "--json").lines}
    assert set(everything) == {"session:1", "session:2", "session:list", "user%201"}
    assert everything["user%201"]["size"] == 1
    assert everything["session:2"]["ttl"] is None
    assert everything["session:list"] == {"key": "session:list", "fault": "not an item"}


def lines_ttl(lines: list[str]) -> str:
    (line,) = (line for line in lines if line.endswith("session:1"))
    return line.split()[1]


@pytest.mark.over("redis", "cluster")
def test_ls_of_nothing(any_redis: RedisServer, client: redis.Redis) -> None:
    said = run("ls", "-s", any_redis.url)
    assert (said.status, said.out) == (1, "")


@pytest.mark.over("redis", "cluster")
def test_ls_of_many(redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis) -> None:
    fill_many(redcouch.address, b"k", 3000)
    assert len({line["key"] for line in run("ls", "-s", any_redis.url, "--json").lines}) == 3000
    assert len(run("ls", "k1*", "--limit", 5, "-s", any_redis.url).out.splitlines()) == 6


@pytest.mark.over("redis", "cluster")
def test_ls_keeps_to_the_prefix(any_redis: RedisServer, client: redis.Redis) -> None:
    """Glob characters in the prefix are none."""
    client.hset("r[c]*:mine", "v", "61")
    client.hset("rcx:not-mine", "v", "61")
    url = f"{any_redis.url}?prefix=r%5Bc%5D*:"
    assert [line["key"] for line in run("ls", "-s", url, "--json").lines] == ["mine"]


@pytest.mark.over("redis", "cluster")
def test_inspect(redcouch: RedCouch, any_redis: RedisServer) -> None:
    value = "héllo\n\x1b[31m".encode()
    fill(redcouch.address, {b"a b": Given(value, 2**32 - 1, 100)})
    said = run("inspect", "a%20b", "--encoded", "-s", any_redis.url)
    told = dict(line.split(None, 1) for line in said.out.splitlines() if "in Redis" not in line)
    assert told["key"] == "a%20b"
    assert (told["size"], told["flags"], told["encoding"]) == ("12", "4294967295", "hex")
    assert told["value"] == "héllo\\n\\x1b[31m"
    assert 90 < float(told["ttl"].split()[0]) <= 100
    assert int(told["cas"]) > 0

    told = run("inspect", "a b", "-s", any_redis.url, "--json").json
    assert told["value"] == value.decode()
    assert base64.b64decode(told["value_base64"]) == value
    assert told["redis_key"] == "rc:a%20b"
    assert run("inspect", "a b", "--raw", "-s", any_redis.url).out.encode() == value


@pytest.mark.over("redis", "cluster")
def test_inspect_of_what_a_native_client_wrote(any_redis: RedisServer, client: redis.Redis) -> None:
    """Loose hex, no token and no flags."""
    client.hset("rc:n", "v", "FF 00\n01")
    told = run("inspect", "n", "-s", any_redis.url, "--json").json
    assert (told["value"], told["cas"], told["flags"], told["ttl"]) == (None, None, 0, None)
    assert base64.b64decode(told["value_base64"]) == b"\xff\x00\x01"
    shown = run("inspect", "n", "-s", any_redis.url).out
    assert "value     hex ff0001\n" in shown
    assert "cas       none yet\n" in shown
    client.hset("rc:m", "r", "raw")
    assert run("inspect", "m", "-s", any_redis.url, "--json").json["encoding"] == "raw"
    assert client.hkeys("rc:n") == [b"v"]


@pytest.mark.over("redis", "cluster")
def test_inspect_of_what_is_no_item(any_redis: RedisServer, client: redis.Redis) -> None:
    said = run("inspect", "nothing", "-s", any_redis.url)
    assert (said.status, said.out) == (1, "")
    assert said.err == "redcouch: nothing: there is no such item\n"
    client.lpush("rc:list", "x")
    said = run("inspect", "list", "-s", any_redis.url)
    assert (said.status, said.err) == (3, "redcouch: list: not an item\n")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"plain", "plain"),
        (b"", ""),
        (b"\xff", "hex ff"),
        (b"a" * 20, "aaaaaaaa ... (12 bytes more)"),
        ("ééééé".encode(), "éééé ... (2 bytes more)"),
        ("aéééé".encode(), "aééé ... (1 bytes more)"),
        (b"\xff" * 9, "hex ffffffffffffffff ... (1 bytes more)"),
        (b"\xe2\x80\xae", "\\u202e"),
    ],
)
def test_show_value(value: bytes, shown: str) -> None:
    assert show_value(value, 8) == shown


@pytest.mark.parametrize(
    "key", [b"a", b"50%25", "é".encode(), b"\xff\x00 \n", "\u202e".encode(), bytes(range(256))]
)
def test_shown_keys_can_be_given_back(key: bytes) -> None:
    shown = show_key(key)
    assert shown.isprintable()
    assert " " not in shown
    assert key_argument(shown, True) == key


def test_a_locale_without_the_characters(any_redis: RedisServer, client: redis.Redis) -> None:
    """They are shown by their numbers, and the status is that of the work."""
    client.hset("rc:日😀", "v", "61")
    latin = {"PYTHONIOENCODING": "latin-1"}
    told = finish(start("ls", "-s", any_redis.url, env=latin))
    assert (told.status, told.out.split()[-1]) == (0, r"\u65e5\U0001f600")
    told = finish(start("inspect", "日😀", "--json", "-s", any_redis.url, env=latin))
    assert (told.status, told.json["key"]) == (0, "日😀")
