"""C{redcouch cleanup}: everything under the prefix, and nothing else."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
import redis

from tests.cli.filling import fill_many
from tests.cli.running import REDCOUCH, Ended, finish, run, start
from tests.support.polling import eventually
from tests.support.servers import RedCouch, RedisServer


@pytest.fixture
def items(redcouch: RedCouch, client: redis.Redis) -> Mapping[bytes, bytes]:
    """1000 items, a list under the prefix, and keys that are somebody else's; gives these."""
    fill_many(redcouch.address, b"k", 1000)
    client.lpush("rc:list", "x")
    others = {b"rcx": b"1", b"Rc:k": b"2", b"xrc:k": b"3", b"r": b"4"}
    client.mset(others)
    return others


def left(client: redis.Redis) -> set[bytes]:
    """Every key but the inventory's, which the service writes whenever it likes."""
    keys: list[Any] = client.keys("*")
    return {key for key in keys if not key.startswith(b"redcouch:sys:traffic")}


@pytest.mark.everywhere
def test_yes(items: Mapping[bytes, bytes], any_redis: RedisServer, client: redis.Redis) -> None:
    said = run("cleanup", "--force", "--yes", "-s", any_redis.url)
    assert (said.status, said.out) == (0, "removed 1001 of 1001 keys under rc:\n")
    assert left(client) == {*items, b"redcouch:sys:cas_counter"}
    again = run("cleanup", "--force", "--yes", "-s", any_redis.url, "--json")
    assert (again.status, again.json["found"]) == (0, 0)


def test_system(items: Mapping[bytes, bytes], any_redis: RedisServer, client: redis.Redis) -> None:
    """RedCouch's own keys go only when that is asked for."""
    client.set("redcouch:system", "not RedCouch's")
    said = run("cleanup", "--force", "--yes", "--system", "-s", any_redis.url)
    assert (said.status, said.out.partition(" keys ")[2]) == (0, "under rc: and redcouch:sys:\n")
    assert left(client) == {*items, b"redcouch:system"}


def test_dry_run(items: Mapping[bytes, bytes], any_redis: RedisServer, client: redis.Redis) -> None:
    said = run("cleanup", "--force", "--dry-run", "-s", any_redis.url)
    assert (said.status, said.out) == (0, "would remove 1001 keys under rc:\n")
    assert len(left(client)) == 1001 + len(items) + 1


def test_nobody_to_ask(any_redis: RedisServer, client: redis.Redis) -> None:
    said = run("cleanup", "--force", "-s", any_redis.url)
    assert said.status == 2
    assert "give --yes or --dry-run" in said.err


def test_no_standard_input(any_redis: RedisServer) -> None:
    """As where a job's is closed."""
    command = [str(REDCOUCH), "cleanup", "--force", "-s", any_redis.url]
    ended = subprocess.run(["sh", "-c", '"$@" <&-', "", *command], capture_output=True, check=False)
    assert ended.returncode == 2
    assert b"give --yes or --dry-run" in ended.stderr


def answered(answer: str, url: str) -> Ended:
    """The command in a terminal, where somebody types this."""
    ours, theirs = pty.openpty()
    try:
        process = start("cleanup", "--force", "-s", url, terminal=theirs)
        os.write(ours, answer.encode() + b"\n")
        return finish(process)
    finally:
        os.close(theirs)
        os.close(ours)


def test_it_asks(items: Mapping[bytes, bytes], any_redis: RedisServer, client: redis.Redis) -> None:
    """It says how many keys, where, and takes a no."""
    said = answered("n", any_redis.url)
    assert said.status == 1
    assert f"Remove 1001 keys under rc: from {any_redis.url}? [y/N]" in said.err
    assert len(left(client)) == 1001 + len(items) + 1
    said = answered("y", any_redis.url)
    assert (said.status, said.out.strip()) == (0, "removed 1001 of 1001 keys under rc:")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_place_of_an_answer(
    number: signal.Signals, status: int, any_redis: RedisServer, client: redis.Redis
) -> None:
    """The status is that of a command that was ended, and not that of a no."""
    client.hset("rc:k", "v", "61")
    ours, theirs = pty.openpty()
    try:
        process = start("cleanup", "--force", "-s", any_redis.url, terminal=theirs)
        assert process.stderr is not None
        asked = b""
        while b"[y/N]" not in asked:
            asked += (more := os.read(process.stderr.fileno(), 1024))
            assert more, asked

        def ended() -> bool:  # Python may not see a signal that comes just before it reads
            process.send_signal(number)
            return process.poll() is not None

        eventually(ended)
        said = finish(process)
    finally:
        os.close(theirs)
        os.close(ours)
    assert (said.status, "redcouch: interrupted" in said.err) == (status, True)
    assert client.exists("rc:k")


def test_glob_characters_in_the_prefix(any_redis: RedisServer, client: redis.Redis) -> None:
    """They are escaped: only what begins with just these bytes goes."""
    client.mset({"a*b?[c]\\:1": "x", "axbxc:1": "y", "a*b?c\\:1": "z"})
    url = f"{any_redis.url}?prefix=a*b%3F%5Bc%5D%5C:"
    assert run("cleanup", "--force", "--yes", "-s", url, "--json").json["removed"] == 1
    assert left(client) == {b"axbxc:1", b"a*b?c\\:1"}


@pytest.mark.parametrize("prefix", ["", "r", "redcouch:sys:", "redcouch:sys:x"])
def test_prefixes_that_are_refused(
    prefix: str, any_redis: RedisServer, client: redis.Redis
) -> None:
    client.set("redcouch:sys:x", "1")
    said = run("cleanup", "--force", "--yes", "-s", f"{any_redis.url}?prefix={prefix}")
    assert said.status == 2
    assert client.exists("redcouch:sys:x")


def test_ctrl_c(items: Mapping[bytes, bytes], any_redis: RedisServer, client: redis.Redis) -> None:
    """It says what is gone, and a second run does the rest."""
    process = start("cleanup", "--force", "--yes", "--rate", 100, "-s", any_redis.url, "--json")
    eventually(lambda: len(client.keys("rc:*")) < 1001)
    process.send_signal(signal.SIGINT)
    said = finish(process)
    assert said.status == 130
    assert said.json["removed"] == 1001 - len(client.keys("rc:*"))
    assert run("cleanup", "--force", "--yes", "-s", any_redis.url).status == 0
    assert left(client) == {*items, b"redcouch:sys:cas_counter"}
