"""
Clients see no difference between a memcached and a RedCouch that is filled from
one, wherever an item is just then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import pytest
import redis

from tests.backends.origin.journeys import JOURNEYS, SEE
from tests.differential.binary import BINARY
from tests.differential.transcripts import CLASSIC, distinct
from tests.support.comparison import Conversation, Subject, assert_alike
from tests.support.servers import Memcached, RedCouch, Server

STANDING = re.compile(rb"(?<= )(?:h|l)\d+(?=[ \r])")
"""When an item was read last, which does not move with it."""


@pytest.mark.parametrize("group", CLASSIC | BINARY)
def test_conversations(group: str, memcached: Memcached, warm: RedCouch) -> None:
    """What is said on one connection, in text or in frames."""
    with Subject(memcached.address) as theirs, Subject(warm.address) as ours:
        assert_alike(theirs, ours, distinct((CLASSIC | BINARY)[group]))


@pytest.mark.parametrize("name", JOURNEYS)
def test_only_the_old_side_has_it(
    name: str, memcached: Memcached, warm: RedCouch, redis_client: redis.Redis
) -> None:
    """Redis loses all items before every step: each comes from the old side, up to date."""

    def forget() -> None:
        for key in list(redis_client.scan_iter(match="w:*")):
            redis_client.delete(key)

    _compare(memcached, warm, JOURNEYS[name], forget)


@pytest.mark.parametrize("name", JOURNEYS)
def test_only_redis_has_it(name: str, memcached: Memcached, warm: RedCouch, old: Memcached) -> None:
    """The old memcached loses all items before every step."""
    _compare(memcached, warm, JOURNEYS[name], lambda: _say(old, b"flush_all\r\n"))


@pytest.mark.parametrize("name", sorted(JOURNEYS.keys() - {"md stale"}))  # which is only gone there
def test_going_back(name: str, memcached: Memcached, warm: RedCouch, old: Memcached) -> None:
    """After all steps, the old memcached gives what one gives that has seen nothing else."""

    def both() -> tuple[list[bytes], list[bytes]]:
        for step in JOURNEYS[name]:
            _say(memcached, step)
            _say(warm, step)
        return [_say(old, SEE)], [_say(memcached, SEE)]

    _assert_alike(memcached, warm, both)


def _compare(
    memcached: Memcached, warm: RedCouch, steps: Iterable[bytes], lose: Callable[[], object]
) -> None:
    def both() -> tuple[list[bytes], list[bytes]]:
        theirs, ours = [], []
        with Conversation(memcached.address) as one, Conversation(warm.address) as other:
            for step in steps:
                theirs.append(one.say(step))
                lose()
                ours.append(other.say(step))
        return ours, theirs

    _assert_alike(memcached, warm, both)


def _assert_alike(
    memcached: Memcached, warm: RedCouch, both: Callable[[], tuple[list[bytes], list[bytes]]]
) -> None:
    """A difference has to show each time: memcached's clock may tick in the middle."""
    for _ in range(20):
        for server in (memcached, warm):
            _say(server, b"flush_all\r\n")
        ours, theirs = map(_plain, both())
        if ours == theirs:
            return
    assert ours == theirs


def _plain(answers: list[bytes]) -> list[bytes]:
    return [STANDING.sub(b"", answer) for answer in answers]


def _say(server: Server, request: bytes) -> bytes:
    with Conversation(server.address) as conversation:
        return conversation.say(request)


def test_stale_there(warm: RedCouch, old: Memcached) -> None:
    """It counts as gone, and is left for clients who go back to renew."""
    _say(old, b"set a 0 0 1\r\nx\r\nmd a I\r\n")
    assert _say(warm, b"get a\r\n") == b"END\r\n"
    assert _say(old, b"mg a k\r\n") == b"HD ka X W\r\n"
