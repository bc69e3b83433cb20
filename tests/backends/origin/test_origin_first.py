"""
While the old memcached is right, clients of RedCouch see no difference to it, and Redis has
what it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from redcouch.backends.origin.relay import result_of
from redcouch.backends.origin.stages import Stage
from redcouch.commands import Store, StoreMode
from redcouch.memcached_client.protocol import Reply, is_plain
from redcouch.results import ErrorKind, Failed
from tests.backends.origin.conftest import PATIENT
from tests.backends.origin.conversation import say
from tests.backends.origin.journeys import JOURNEYS
from tests.differential.transcripts import ALL, distinct
from tests.support import servers
from tests.support.comparison import Conversation, Cut, Subject, Transcript, assert_alike
from tests.support.requirements import fixture_needs, needs
from tests.support.servers import MEMCACHED_VERSIONS, Memcached, RedCouch, RedisServer
from tests.support.wire import whole

STATE = "redcouch:sys:warm_state:o:"


@pytest.fixture(scope="module")
@fixture_needs("memcached")
def running() -> Iterator[tuple[RedCouch, Memcached, RedisServer]]:
    """A RedCouch in this stage, its memcached and its Redis."""
    with servers.memcached() as old, servers.redis_server() as storage:
        with storage.client() as client:
            client.hset(STATE, "stage", Stage.ORIGIN_FIRST.value)
        url = f"warm:{storage.url}?prefix=o:&from={old.url}"
        with servers.redcouch(f"{url}&{PATIENT}") as bridge:
            yield bridge, old, storage
            bridge.check_log()


@pytest.fixture
def first(running: tuple[RedCouch, Memcached, RedisServer]) -> RedCouch:
    """A RedCouch in this stage, empty on both sides."""
    assert say(running[0], b"flush_all\r\n") == b"OK\r\n"
    return running[0]


@pytest.fixture
def old(running: tuple[RedCouch, Memcached, RedisServer]) -> Memcached:
    return running[1]


@pytest.fixture
def redis_client(running: tuple[RedCouch, Memcached, RedisServer]) -> Iterator[redis.Redis]:
    with running[2].client() as client:
        yield client


_PADDED = re.compile(rb"(VALUE \S+ \d+ )\d+( [^\r]*)?\r\n(\d+) *\r\n")


class Unpadded(Subject):
    """
    A number that has become shorter keeps its length in memcached, with blanks, unless somebody
    reads it in that moment; and RedCouch has read it, for Redis.
    """

    def replies(self, transcript: Transcript, cut: Cut = whole) -> bytes:
        return _PADDED.sub(rb"\1\2 \3", super().replies(transcript, cut))


@pytest.mark.parametrize("group", ALL)
def test_conversations(group: str, memcached: Memcached, first: RedCouch) -> None:
    """What is said on one connection."""
    kind = Unpadded if group == "counting" else Subject
    with kind(memcached.address) as theirs, kind(first.address) as ours:
        assert_alike(theirs, ours, distinct(ALL[group]))


def items(client: redis.Redis) -> dict[bytes, bytes]:
    """What Redis has."""
    found = {}
    for key in client.scan_iter(match="o:*"):
        value: Any = client.hget(key, "v")
        found[key.removeprefix(b"o:")] = bytes.fromhex(value.decode())
    return found


@pytest.mark.parametrize("name", JOURNEYS)
def test_redis_follows(
    name: str, first: RedCouch, old: Memcached, redis_client: redis.Redis
) -> None:
    """After each answer Redis has what the old memcached has, or nothing; and in the end all."""
    for step in JOURNEYS[name]:
        with Conversation(first.address) as client:
            client.say(step)
        for key, value in items(redis_client).items():
            if not is_plain(key):
                continue
            assert say(old, b"get %b\r\n" % key, b"END\r\n").split(b"\r\n", 1)[1] == (
                value + b"\r\nEND\r\n"
            )
    for key in (b"a", b"n", b"t"):
        found = say(first, b"get %b\r\n" % key, b"END\r\n")
        stale = b"X" in say(old, b"mg %b s\r\n" % key)
        assert (key in items(redis_client)) == (found != b"END\r\n" and not stale)


STALE = b"set a 0 0 1\r\n5\r\nmd a I T1000\r\nmn\r\n"
READINGS = [
    b"get a\r\n",
    b"gat 1000 a\r\n",
    b"touch a 1000\r\n",
    b"incr a 1\r\n",
    b"ms a 1 C1 I\r\nx\r\n",
]
"""What leaves a stale item as it is, and is followed by Redis; the last one makes another."""


@pytest.mark.parametrize(
    "version", [pytest.param(one, marks=needs(f"memcached {one}")) for one in MEMCACHED_VERSIONS]
)
def test_who_is_to_renew(version: str) -> None:
    """A stale item is for the first client to renew that asks by C{mg}, not for RedCouch."""
    with servers.memcached(version=version) as old, servers.redis_server() as storage:
        with storage.client() as client:
            client.hset(STATE, "stage", Stage.ORIGIN_FIRST.value)
        with servers.redcouch(f"warm:{storage.url}?prefix=o:&from={old.url}&{PATIENT}") as bridge:
            for reading in READINGS:
                say(bridge, STALE, b"MN\r\n")
                say(bridge, reading + b"mn\r\n", b"MN\r\n")
                told = say(bridge, b"mg a k\r\nmg a k\r\nmn\r\n", b"MN\r\n")
                assert told == b"HD ka X W\r\nHD ka Z X\r\nMN\r\n", reading
            token = say(old, STALE + b"gets a\r\n", b"END\r\n").split()[-3]
            say(bridge, b"gets a\r\n", b"END\r\n")
            kept = say(old, b"gets a\r\n", b"END\r\n").split()[-3] == token
            assert kept is (version != "1.6.18")  # which cannot


def test_no_room_for_a_large_item() -> None:
    """As memcached says it once it has read some of it."""
    reply = Reply(b"SERVER_ERROR", b"Out of memory during read".split(b" "))
    failed = result_of(Store(StoreMode.SET, b"k", b"x"), b"k", reply)
    assert isinstance(failed, Failed) and failed.kind is ErrorKind.OUT_OF_MEMORY
