"""C{redcouch promote} and C{redcouch cleanup} leave alone what memcached clients still use."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from redcouch.backends.redis.usage_store import RECORDED
from redcouch.cli.recent_use import may_begin, read_glob, recently_used
from redcouch.telemetry.usage import Usage, UsageSample
from tests.cli.running import run
from tests.differential.binary import GETKQ, NOOP, frame
from tests.support import servers
from tests.support.polling import eventually
from tests.support.requirements import needs
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import Wire, ask


@pytest.fixture
def bridge(own_redis: RedisServer) -> Iterator[RedCouch]:
    with servers.redcouch(own_redis.url) as bridge:
        yield bridge


def use(bridge: RedCouch, own_redis: RedisServer, key: bytes) -> None:
    """A client stores a key; the service has noted that."""
    command = b"set %b 0 0 1\r\nv\r\n" % key
    assert ask(bridge.address, command, b"\r\n") == b"STORED\r\n"
    before, colon, _ = key.partition(b":")
    with own_redis.client() as client:
        prefix = before + colon if colon else b""
        eventually(lambda: client.hexists("redcouch:sys:traffic:prefix", prefix))


def long_ago(own_redis: RedisServer) -> None:
    """Nobody has used anything for more than an hour."""
    with own_redis.client() as client:
        moment = client.time()[0] - 3601
        for prefix in client.hkeys("redcouch:sys:traffic:prefix"):
            client.hset("redcouch:sys:traffic:prefix", prefix, moment)


@pytest.mark.everywhere
def test_promote(own_redis: RedisServer) -> None:
    """Where a used prefix may have matching keys, it is done after an hour, or with --force."""
    with servers.redcouch(own_redis.url) as bridge:
        use(bridge, own_redis, b"session:1")
        use(bridge, own_redis, b"user:1")
    string = ("--to", "string", "--storage", own_redis.url)
    refused = run("promote", "session:*", *string)
    assert (refused.status, refused.out) == (1, "")
    assert "within the last hour" in refused.err
    assert "  session:\n" in refused.err
    assert "user:" not in refused.err
    assert refused.err.endswith("nothing is changed without --force\n")
    as_json = run("promote", "session:*", "--dry-run", "--json", *string)
    assert as_json.status == 1
    assert as_json.err == f"redcouch: {as_json.json['error']}\n"
    with own_redis.client() as client:
        assert client.exists("rc:session:1", "rc:user:1") == 2
        assert run("promote", "other:*", *string).status == 0
        assert run("promote", "session:*", "--force", *string).status == 0
        assert client.get("session:1") == b"v"
        long_ago(own_redis)
        assert run("promote", "user:*", *string).status == 0
        assert client.get("user:1") == b"v"


def test_a_large_value_or_a_request_without_a_key(own_redis: RedisServer, bridge: RedCouch) -> None:
    """Neither hides which keys a client has asked for."""
    with own_redis.client() as client, Wire(bridge.address) as text, Wire(bridge.address) as binary:
        text.say([b"set large:1 0 0 9000\r\n%b\r\n" % (b"v" * 9000)], b"\r\n")
        gets = frame(GETKQ, b"many:1") + frame(GETKQ, b"many:2")
        binary.say([gets, frame(NOOP)], frame(NOOP, magic=0x81))
        for prefix in ("large:", "many:"):
            eventually(partial(client.hexists, "redcouch:sys:traffic:prefix", prefix))
            refused = run("promote", f"{prefix}*", "--to", "string", "--storage", own_redis.url)
            assert (refused.status, f"  {prefix}\n" in refused.err) == (1, True)


def test_a_lost_record(own_redis: RedisServer) -> None:
    """Where the record of prefixes was evicted or deleted, that it has none proves nothing."""
    promote = ("promote", "session:*", "--to", "string", "--storage", own_redis.url)
    with own_redis.client() as client:
        client.hset("rc:session:1", "v", "76")
        now = client.time()[0]
        client.hset("redcouch:sys:traffic", "process", f"{now - 600}000 {now}000")
        for begins in (now, now - 300):
            refused = run(*promote)
            assert (refused.status, refused.out) == (1, "")
            assert "the record of prefixes has been lost, and begins at 20" in refused.err
            client.hset("redcouch:sys:traffic:prefix", RECORDED, begins)
        assert run(*promote).status == 1
        client.hset("redcouch:sys:traffic:prefix", RECORDED, now - 600)
        assert run(*promote).status == 0


@needs("memcached")
@pytest.mark.parametrize("command", [("promote", "*", "--to", "string"), ("cleanup", "--yes")])
def test_what_would_come_back(own_redis: RedisServer, command: tuple[str, ...]) -> None:
    """While a RedCouch would bring items back from an old memcached, none is taken away."""
    with servers.memcached() as old:
        url = f"warm:{own_redis.url}?from={old.url}"
        with servers.redcouch(url) as bridge:
            use(bridge, own_redis, b"k")
            long_ago(own_redis)
            refused = run(*command, "--storage", own_redis.url)
            assert refused.status == 1
            assert "brings items back that the old memcacheds have" in refused.err
            assert run("sweep", "--storage", url).status == 0
            assert run("stage", "redis-only", "--storage", url).status == 0
            assert run(*command, "--storage", own_redis.url).status == 0
            assert ask(bridge.address, b"get k\r\n", b"END\r\n") == b"END\r\n"


@needs("memcached")
def test_old_memcacheds_that_are_right(own_redis: RedisServer) -> None:
    """In origin-first Redis may be out of date: no item becomes a string, with --force either."""
    with servers.memcached() as old:
        url = f"warm:{own_redis.url}?from={old.url}"
        assert run("stage", "origin-first", "--storage", url).status == 0
        with servers.redcouch(url) as bridge, own_redis.client() as client:
            use(bridge, own_redis, b"k")
            assert ask(old.address, b"set k 0 0 5\r\nnewer\r\n", b"\r\n") == b"STORED\r\n"
            refused = run("promote", "k", "--to", "string", "--force", "--storage", own_redis.url)
            assert (refused.status, client.exists("k")) == (1, 0)
            assert "may be out of date" in refused.err


def test_cleanup(own_redis: RedisServer) -> None:
    """Any prefix that is used refuses it, keys without one too."""
    with servers.redcouch(own_redis.url) as bridge:
        use(bridge, own_redis, b"session:1")
        use(bridge, own_redis, b"plain")
    refused = run("cleanup", "--yes", "--storage", own_redis.url)
    assert (refused.status, refused.out) == (1, "")
    assert "  session:\n" in refused.err
    assert "  (without a prefix)\n" in refused.err
    with own_redis.client() as client:
        assert client.exists("rc:session:1", "rc:plain") == 2
    long_ago(own_redis)
    assert run("cleanup", "--yes", "--storage", own_redis.url).status == 0
    with own_redis.client() as client:
        assert client.keys("rc:*") == []


def test_cleanup_of_what_one_uses(own_redis: RedisServer) -> None:
    """RedCouch's own keys come back while one runs, of clients that have gone long ago too."""
    system = ("cleanup", "--yes", "--system", "--storage", own_redis.url)
    with servers.redcouch(own_redis.url) as bridge:
        use(bridge, own_redis, b"session:1")
        long_ago(own_redis)
        for options in ((), ("--dry-run",)):
            refused = run(*system, *options)
            assert (refused.status, refused.out) == (1, "")
            assert "a RedCouch uses this database" in refused.err
        assert run("cleanup", "--yes", "--storage", own_redis.url).status == 0
    eventually(lambda: run(*system).status == 0)
    with own_redis.client() as client:
        assert client.keys("*") == []


def test_cleanup_with_force(own_redis: RedisServer) -> None:
    with servers.redcouch(own_redis.url) as bridge:
        use(bridge, own_redis, b"session:1")
    assert run("cleanup", "--yes", "--force", "--storage", own_redis.url).status == 0


def test_all_keys_of_a_request(own_redis: RedisServer) -> None:
    """Each prefix of a get of many keys is noted."""
    with servers.redcouch(own_redis.url) as bridge:
        assert ask(bridge.address, b"get a:1 b:1 c:1\r\n", b"END\r\n") == b"END\r\n"
    refused = run("cleanup", "--yes", "--storage", own_redis.url)
    assert all(f"  {prefix}:\n" in refused.err for prefix in "abc")


def noted(prefix: bytes, *separators: bytes) -> Usage:
    """Somebody has used this."""
    seen = [UsageSample("separator", separator, 1, 1) for separator in separators]
    return Usage(0, 1, None, {}, [UsageSample("prefix", prefix, 1, 1), *seen])


@pytest.mark.parametrize(
    ("pattern", "prefix", "separator", "used"),
    [
        (b"*", b"session:", b":", True),
        (b"*", b"", b":", True),
        (b"session:*", b"session:", b":", True),
        (b"session:10", b"session:", b":", True),
        (b"session:*", b"sess:", b":", False),
        (b"sess*", b"session:", b":", True),
        (b"s*:user:*", b"session:", b":", True),
        (b"session:*", b"", b":", False),  # each of its keys has a separator
        (b"session:*", b"", b"/", True),
        (b"plain", b"", b":", True),
        (b"a[0-9]:*", b"a5:", b":", True),
        (b"a[^0-9]:*", b"a5:", b":", False),
        (b"a\\*:*", b"a*:", b":", True),
        (b"a\\*:*", b"ab:", b":", False),
        (b"?", b"session:", b":", False),  # too short for any of them
        (b"", b"session:", b":", False),
    ],
)
def test_patterns(pattern: bytes, prefix: bytes, separator: bytes, used: bool) -> None:
    """Whether keys of a prefix may match."""
    assert bool([*recently_used(noted(prefix, separator), pattern)]) is used


@pytest.mark.parametrize(("pattern", "used"), [(b"session:*", True), (b"session:a/*", False)])
def test_several_separators(pattern: bytes, used: bool) -> None:
    """A key has no prefix for a RedCouch whose separator it has not, whatever others have."""
    assert bool([*recently_used(noted(b"", b"/", b":"), pattern)]) is used


def test_no_separator() -> None:
    """Where nobody knows which there were, any key may have had no prefix."""
    assert [*recently_used(noted(b""), b"session:*")]


def test_left_out() -> None:
    """Where there were too many prefixes, those that are not on record may be anybody's."""
    usage = replace(noted(b"user:", b":"), left_out={"prefix": 5})
    (others,) = recently_used(usage, b"session:*")
    assert (others.last, others.name.startswith(b"(others: ")) == (5, True)


@given(st.text("ab*?[]^-\\:", max_size=8), st.text("ab-^]:", max_size=5), st.randoms())
def test_as_redis_matches(pattern: str, key: str, chance: random.Random) -> None:
    """Where Redis takes a key for a match, each beginning of it may be one of a match."""
    if matches(pattern.encode(), key.encode()):
        beginning = key[: chance.randint(0, len(key))].encode()
        assert may_begin([*read_glob(pattern.encode())], beginning), (pattern, key)


_REDIS: list[redis.Redis] = []


@pytest.fixture(scope="module", autouse=True)
def _judge() -> Iterator[None]:
    """A Redis that says what matches."""
    with servers.redis_server() as server, server.client() as client:
        _REDIS.append(client)
        yield
        _REDIS.clear()


def matches(pattern: bytes, key: bytes) -> bool:
    """Whether Redis takes this key for one that matches."""
    (client,) = _REDIS
    client.flushall()
    client.set(key, b"")
    return bool(client.keys(pattern))
