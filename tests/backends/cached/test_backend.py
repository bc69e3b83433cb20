"""What is answered from memory, and above all what is not."""

from __future__ import annotations

import pytest
from twisted.python.failure import Failure

from redcouch.backends.cached.table import OVERHEAD
from redcouch.commands import Command, Delete, Get, MetaGet, Store, StoreMode
from redcouch.results import MetaItem
from tests.backends.cached.conversation import (
    EMPTIED,
    MISS,
    PONG,
    Conversation,
    bulk,
    changed,
    fields_of,
    item,
    item_of,
    values,
)

pytestmark = pytest.mark.everywhere

SET = Store(StoreMode.SET, b"k", b"new")


@pytest.fixture
def redis() -> Conversation:
    """Redis, with nothing in memory."""
    return Conversation()


def test_hit(redis: Conversation) -> None:
    """What was read once is not read again: Redis is asked for a PONG alone."""
    redis.fill()
    results = redis.get(b"k")
    assert redis.sent() == [[b"PING"]]
    assert results == []
    redis.say(PONG)
    assert values(results) == [[b"v"]]
    assert redis.counts == {
        "cache_hits": 1,
        "cache_misses": 1,
        "cache_invalidations": 0,
        "cache_bytes": OVERHEAD + len(b"kkkVALUE k 0 1\r\nv\r\n"),
    }


def test_one_ping_serves_a_turn(redis: Conversation) -> None:
    """However many clients ask in one turn of the reactor, one PING answers them."""
    redis.fill()
    asked = [redis.get(b"k") for _ in range(50)]
    assert redis.names() == [b"PING"]
    redis.say(PONG)
    assert all(values(results) == [[b"v"]] for results in asked)


def test_ping_goes_last(redis: Conversation) -> None:
    """What other clients send in the same turn comes before the PING, and so does what it tells."""
    redis.fill()
    results = redis.get(b"k")
    redis.ask(SET)
    assert redis.names() == [b"EVALSHA", b"PING"]
    redis.say(b":7\r\n", changed(b"k"), PONG)
    assert results == []
    assert redis.names() == [b"HMGET", b"PTTL"]
    redis.say(item(b"new"))
    assert values(results) == [[b"new"]]


def test_a_later_get_has_a_ping_of_its_own(redis: Conversation) -> None:
    """A PING that has gone already says nothing about a get that comes after it."""
    redis.fill()
    first = redis.get(b"k")
    assert redis.names() == [b"PING"]
    second = redis.get(b"k")
    assert redis.names() == [b"PING"]
    redis.say(PONG)
    assert values(first) == [[b"v"]]
    assert second == []
    redis.say(changed(b"k"), PONG)
    assert second == []
    redis.sent()
    redis.say(item(b"w"))
    assert values(second) == [[b"w"]]


def test_changed_between_ping_and_pong(redis: Conversation) -> None:
    """An item that changes while its PONG is awaited is read from Redis."""
    redis.fill()
    results = redis.get(b"k")
    redis.sent()
    redis.say(changed(b"k"), PONG)
    assert results == []
    assert redis.names() == [b"HMGET", b"PTTL"]
    redis.say(item(b"w"))
    assert values(results) == [[b"w"]]


def test_read_anew_between_ping_and_pong(redis: Conversation) -> None:
    """What another read brings meanwhile makes no difference: of a change, Redis would tell."""
    one, other = redis.get(b"k"), redis.get(b"k")
    redis.sent()
    redis.say(item(b"v"))
    results = redis.get(b"k")
    assert redis.names() == [b"PING"]
    redis.say(item(b"v"), PONG)
    assert values(one) == values(other) == values(results) == [[b"v"]]
    results = redis.get(b"k")
    redis.sent()
    again = redis.get(b"k", b"other")
    redis.sent()
    redis.say(changed(b"k"), PONG, item_of(b"o"), b":-1\r\n")
    assert results == again == []
    assert redis.names() == [b"HMGET", b"PTTL"] + [b"HMGET"] * 2 + [b"PTTL"] * 2


@pytest.mark.parametrize("place", [0, 1, 2])
def test_changed_under_way(redis: Conversation, place: int) -> None:
    """What changes while it is read is answered, and not kept: wherever that is told."""
    results = redis.get(b"k")
    redis.sent()
    said = [item_of(b"v"), b":-1\r\n"]
    said.insert(place, changed(b"k"))
    redis.say(*said)
    assert values(results) == [[b"v"]]
    assert redis.counts["cache_bytes"] == 0


def test_told_in_pieces(redis: Conversation) -> None:
    """What Redis says may come in any pieces."""
    redis.fill()
    results = redis.get(b"k")
    redis.sent()
    for byte in changed(b"k") + PONG:
        redis.say(bytes((byte,)))
    assert redis.names() == [b"HMGET", b"PTTL"]
    for byte in item(b"w"):
        redis.say(bytes((byte,)))
    assert values(results) == [[b"w"]]


def test_told_while_nobody_asks(redis: Conversation) -> None:
    """A change is heard on an idle connection as well."""
    redis.fill()
    redis.say(changed(b"k"))
    assert redis.counts["cache_bytes"] == 0
    assert redis.counts["cache_invalidations"] == 1


def test_expiry(redis: Conversation) -> None:
    """An item ends in memory no later than in Redis, whenever Redis says so."""
    redis.fill(left=500)
    redis.reactor.advance(0.499)
    results = redis.get(b"k")
    assert redis.names() == [b"PING"]
    redis.reactor.advance(0.001)
    redis.say(PONG)
    assert results == []
    assert redis.names() == [b"HMGET", b"PTTL"]
    redis.say(MISS)
    assert values(results) == [[None]]


@pytest.mark.parametrize("left", [b":-2\r\n", b":0\r\n", b"-ERR no\r\n"])
def test_no_certain_end(redis: Conversation, left: bytes) -> None:
    """What has ended between the two questions, or has no known end, is not kept."""
    results = redis.get(b"k")
    redis.sent()
    redis.say(item_of(b"v"), left)
    assert values(results) == [[b"v"]]
    assert redis.counts["cache_bytes"] == 0


@pytest.mark.parametrize("under_way", [False, True])
def test_flushall(redis: Conversation, under_way: bool) -> None:
    """Nothing outlives FLUSHALL, nor what is being read then."""
    redis.fill(b"a")
    redis.fill(b"b")
    results = redis.get(b"c") if under_way else []
    redis.sent()
    redis.say(EMPTIED)
    if under_way:
        redis.say(item(b"v"))
        assert values(results) == [[b"v"]]
    assert redis.counts["cache_bytes"] == 0
    redis.get(b"a", b"b", b"c")
    assert redis.names() == [b"HMGET"] * 3 + [b"PTTL"] * 3


def test_connection_lost(redis: Conversation) -> None:
    """A get that waits for a PONG fails as any other; the next connection knows nothing."""
    redis.fill()
    results = redis.get(b"k")
    redis.sent()
    redis.lose()
    assert isinstance(results[0], Failure)
    assert redis.counts["cache_bytes"] == 0
    redis.connect()
    redis.get(b"k")
    assert redis.names() == [b"HMGET", b"PTTL"]


def test_lost_before_the_ping_is_sent(redis: Conversation) -> None:
    """What was found over the old connection is not confirmed by a PONG over the new one."""
    redis.fill()
    results = redis.get(b"k")
    redis.lose()
    assert results == []
    redis.connect()
    assert values(results) == [[b"w"]]


def test_partly_in_memory(redis: Conversation) -> None:
    """Redis is asked for what is missing, which confirms the rest."""
    redis.fill(b"a", b"1")
    results = redis.get(b"a", b"b", b"a", b"c")
    assert [command[1] for command in redis.sent()] == [b"rc:b", b"rc:c"] * 2
    redis.say(item_of(b"2"), MISS[:-5], b":-1\r\n:-2\r\n")
    assert values(results) == [[b"1", b"2", b"1", None]]
    redis.get(b"a", b"b")
    assert redis.names() == [b"PING"]


def test_rest_changed_meanwhile(redis: Conversation) -> None:
    """If the rest has changed by then, all is read, and from Redis."""
    redis.fill(b"a", b"1")
    results = redis.get(b"a", b"b")
    redis.sent()
    redis.say(item_of(b"2"), changed(b"a"), b":-1\r\n")
    assert results == []
    assert [command[1] for command in redis.sent()] == [b"rc:a", b"rc:b"] * 2
    redis.say(item_of(b"3"), item_of(b"2"), b":-1\r\n" * 2)
    assert values(results) == [[b"3", b"2"]]


def test_pipelined_gets(redis: Conversation) -> None:
    """Gets that one client sends together are answered each with its own."""
    redis.fill(b"a", b"1")
    redis.fill(b"b", b"2")
    results = redis.ask(Get([b"b"]), Get([b"a", b"b"]), Get([b"a"]))
    assert redis.names() == [b"PING"]
    redis.say(PONG)
    assert values(results) == [[b"2"], [b"1", b"2"], [b"1"]]


@pytest.mark.parametrize(
    "commands",
    [
        (SET, Get([b"k"])),
        (Delete(b"k"), Get([b"k"])),
        (Get([b"k"]), SET),
        (MetaGet(b"k", recache=30), Get([b"k"])),
        (Get([b"k"]), MetaGet(b"k", touch=30)),
    ],
)
def test_past_the_cache(redis: Conversation, commands: list[Command]) -> None:
    """A batch that changes something is Redis's."""
    redis.fill()
    redis.ask(*commands)
    names = redis.names()
    assert b"PING" not in names
    assert b"PTTL" not in names


def test_all_that_an_item_has(redis: Conversation) -> None:
    """Who asks for tokens, or by a meta get, is answered from memory as well."""
    redis.fill()
    results = redis.ask(Get([b"k"], cas=True), MetaGet(b"k"), Get([b"k"]), MetaGet(b"k", cas=True))
    assert redis.names() == [b"PING"]
    redis.say(PONG)
    meta = MetaItem(b"v", 1, 0, 5)
    assert results == [[(b"v", 0, 5)], meta, [(b"v", 0, 5)], meta]
    results = redis.ask(Get([b"k", b"none"], cas=True), MetaGet(b"none"), MetaGet(b"k"))
    redis.sent()
    redis.say(*[MISS[:-5]] * 2, *[MISS[-5:]] * 2)
    assert results == [[(b"v", 0, 5), None], None, meta]


def test_no_token(redis: Conversation) -> None:
    """What has no token is told to who asks for none; for the others one is made."""
    results = redis.get(b"k")
    redis.sent()
    redis.say(fields_of(b"76", None, None, None, None, None), b":-1\r\n")
    assert values(results) == [[b"v"]]
    assert hit(redis) == [b"PING"]
    results = redis.ask(Get([b"k"], cas=True))
    assert redis.names() == [b"HMGET", b"PTTL"]
    redis.say(fields_of(b"76", None, None, None, None, None), b":-1\r\n")
    assert results == []
    assert redis.names() == [b"HMGET"]
    redis.say(fields_of(b"76", None, None, None))
    assert redis.names() == [b"EVALSHA"]
    redis.say(changed(b"k"), b"$1\r\n7\r\n")
    assert results == [[(b"v", 0, 7)]]


@pytest.mark.parametrize("marks", [(b"1", None), (None, b"1"), (b"1", b"1")])
def test_marked(redis: Conversation, marks: tuple[bytes | None, bytes | None]) -> None:
    """What is stale, or somebody has won, is never kept: a meta get says so."""
    for _ in range(2):
        results = redis.ask(MetaGet(b"k"))
        assert redis.names() == [b"HMGET", b"PTTL"]
        redis.say(fields_of(b"76", None, b"0", b"5", *marks), b":-1\r\n")
        assert redis.names() == [b"HMGET"]
        redis.say(fields_of(b"76", None, b"0", b"5", *marks))
        if redis.names():  # who may renew it is decided by the first to ask
            redis.say(b":0\r\n")
        assert (results[0].value, results[0].stale) == (b"v", marks[0] is not None)


def test_what_answers_no_pong(redis: Conversation) -> None:
    """A Redis that does not say PONG, as while it loads its data, answers the get itself."""
    redis.fill()
    results = redis.get(b"k")
    redis.sent()
    redis.say(b"-LOADING Redis is loading the dataset in memory\r\n")
    assert redis.names() == [b"HMGET", b"PTTL"]
    redis.say(item(b"w"))
    assert values(results) == [[b"w"]]


EVICTS = "maxmemory:1000000\r\nmaxmemory_policy:allkeys-lru"


@pytest.mark.parametrize("memory", [EVICTS, "", EVICTS.replace("lru", "lfu")])
def test_kept_warm(memory: str) -> None:
    """Redis hears about once a second of an item in use, so that it does not evict it as cold."""
    redis = Conversation(memory=memory)
    redis.fill()
    for _ in range(3):
        hit(redis)
    redis.tick()
    results = redis.get(b"k")
    assert redis.sent() == [[b"TOUCH", b"rc:k"], [b"PING"]]
    redis.say(b":1\r\n", PONG)
    assert values(results) == [[b"v"]]
    assert hit(redis) == [b"PING"]
    redis.tick()
    redis.tick()
    assert hit(redis) == [b"TOUCH", b"PING"]


@pytest.mark.parametrize(
    "memory", ["maxmemory:0\r\nmaxmemory_policy:allkeys-lru", EVICTS.replace("lru", "random")]
)
def test_nothing_to_keep_warm(memory: str) -> None:
    """A Redis that evicts nothing, or whatever it be, is not bothered; until it does."""
    redis = Conversation(memory=memory)
    redis.fill()
    for _ in range(3):
        assert hit(redis) == [b"PING"]
        redis.tick()
    for _ in range(7):
        redis.tick()
    assert redis.sent() == [[b"INFO", b"memory"]]
    redis.say(bulk(EVICTS))
    assert hit(redis) == [b"PING"]
    redis.tick()
    assert hit(redis) == [b"TOUCH", b"PING"]


def hit(redis: Conversation) -> list[bytes]:
    """Read the item from memory; gives what Redis was sent for it."""
    results = redis.get(b"k")
    names = redis.names()
    redis.say(*(b":1\r\n" if name == b"TOUCH" else PONG for name in names))
    assert values(results) == [[b"v"]]
    return names


@pytest.mark.parametrize("name", ["HELLO", "CLIENT", "PTTL", "TOUCH", "PING"])
def test_redis_that_does_not_track(name: str) -> None:
    """Where Redis refuses what is needed, it serves every get itself."""
    redis = Conversation(refused={name: b"-NOPERM no\r\n"})
    for _ in range(2):
        results = redis.get(b"k")
        assert redis.names() == [b"HMGET"]
        redis.say(item_of(b"v"))
        assert values(results) == [[b"v"]]
    assert redis.counts["cache_hits"] == 0


@pytest.mark.parametrize(
    ("name", "error"),
    [("PING", b"-MISCONF cannot write\r\n"), ("PTTL", b"-ASK 7 127.0.0.1:7000\r\n")],
)
def test_error_that_passes(name: str, error: bytes) -> None:
    """A Redis whose disk is full, or whose slot moves, when it is connected to, is cached."""
    redis = Conversation(refused={name: error})
    redis.fill()
    assert hit(redis) == [b"PING"]
