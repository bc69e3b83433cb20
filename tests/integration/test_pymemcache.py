"""What an application with pymemcache relies on beyond single calls, on RedCouch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheIllegalInputError, MemcacheServerError

from tests.support.servers import RedCouch

THREADS = 8
ROUNDS = 25

pytestmark = pytest.mark.everywhere


@pytest.fixture
def client(redcouch: RedCouch) -> Iterator[Any]:
    """A client that waits for each reply."""
    with closing(Client(redcouch.address, default_noreply=False, timeout=20)) as client:
        yield client


def _in_threads(redcouch: RedCouch, work: Callable[[Any], None]) -> None:
    """Do the same in several threads, each with a client of its own."""

    def run(_: int) -> None:
        with closing(Client(redcouch.address, default_noreply=False, timeout=20)) as client:
            work(client)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(run, range(THREADS)))


def test_version(client: Any) -> None:
    """The server says as which memcached it behaves, and who it is."""
    assert re.fullmatch(rb"1\.6\.\d+-RedCouch-\d+\.\d+\.\d+", client.version())


def test_compare_and_swap_loses_nothing(client: Any, redcouch: RedCouch) -> None:
    """Clients that add to a list with gets and cas, trying again as needed, all get in."""
    client.set("list", b"")

    def add(client: Any) -> None:
        for _ in range(ROUNDS):
            added = False
            while not added:
                value, token = client.gets("list")
                added = client.cas("list", value + b"x", token)

    _in_threads(redcouch, add)
    assert client.get("list") == b"x" * THREADS * ROUNDS


def test_concurrent_changes_all_count(client: Any, redcouch: RedCouch) -> None:
    """incr, append and add by many clients at once: none is lost, and one add wins."""
    client.set("number", "0")
    client.set("log", "")
    winners: list[bool] = []

    def change(client: Any) -> None:
        for _ in range(ROUNDS):
            client.incr("number", 3)
            client.append("log", "y")
        winners.append(client.add("lock", "mine"))

    _in_threads(redcouch, change)
    assert client.get("number") == b"%d" % (3 * THREADS * ROUNDS)
    assert client.get("log") == b"y" * THREADS * ROUNDS
    assert sorted(winners) == [False] * (THREADS - 1) + [True]


def test_no_reply_is_the_default(redcouch: RedCouch) -> None:
    """A client that does not wait reads what it wrote, and stays in step after errors."""
    with closing(Client(redcouch.address, timeout=20)) as client:
        for number in range(300):
            client.set("last", f"{number}")
        assert client.get("last") == b"299"
        client.add("last", "no")
        client.replace("nothing", "no")
        client.delete("nothing")
        client.touch("nothing", 5)
        client.append("nothing", "no")
        client.set("large", b"x" * 2_000_000, noreply=True)
        assert client.get("large") is None
        client.incr("last", 1, noreply=True)
        client.set("word", "abc")
        client.incr("word", 1, noreply=True)
        assert client.get_many(["last", "word", "nothing"]) == {"last": b"300", "word": b"abc"}
        client.flush_all()
        assert client.get("last") is None


@pytest.mark.parametrize("size", [0, 1, 4095, 65_536, 1_000_000, 1024 * 1024 - 65])
def test_sizes(client: Any, size: int) -> None:
    """Values up to nearly a mebibyte come back as they were, whatever bytes are in them."""
    value = (bytes(range(256)) * (size // 256 + 1))[:size]
    assert client.set("k", value)
    assert client.get("k") == value
    assert client.get_many(["k", "nothing"]) == {"k": value}


def test_too_large(client: Any) -> None:
    """A value of a whole mebibyte is refused, and no stale one is left behind."""
    client.set("k", "old")
    with pytest.raises(MemcacheServerError, match="object too large for cache"):
        client.set("k", b"x" * 1024 * 1024)
    assert client.get("k") is None


def test_many(client: Any) -> None:
    """Thousands of keys in one call, written and read."""
    values = {f"k{number}": f"value {number}".encode() for number in range(5000)}
    assert client.set_many(values) == []
    assert client.get_many(values) == values
    assert {key: value for key, (value, _) in client.gets_many(values).items()} == values
    assert client.delete_many(values)
    assert client.get_many(values) == {}


def test_unicode_keys(redcouch: RedCouch) -> None:
    """Keys in any script, up to 250 bytes of them."""
    options = {"allow_unicode_keys": True, "default_noreply": False, "timeout": 20}
    with closing(Client(redcouch.address, **options)) as client:
        for key in ("ключ", "鍵" * 83, "\N{SNOWMAN}" * 83 + "x"):
            assert client.set(key, key.encode())
            assert client.get(key) == key.encode()
        with pytest.raises(MemcacheIllegalInputError):
            client.set("鍵" * 84, "x")


def test_flags_and_serialising(redcouch: RedCouch) -> None:
    """What a serialiser notes in the flags is there when the value is read."""

    def serialise(_: object, value: Any) -> tuple[bytes, int]:
        return repr(value).encode(), 2**32 - 1 if isinstance(value, int) else 7

    def read(_: object, value: bytes, flags: int) -> tuple[bytes, int]:
        return value, flags

    options = {"serializer": serialise, "deserializer": read, "default_noreply": False}
    with closing(Client(redcouch.address, **options)) as client:
        client.set("number", 5)
        client.set("list", [1])
        client.incr("number", 1)
        assert client.get_many(["number", "list"]) == {
            "number": (b"6", 2**32 - 1),
            "list": (b"[1]", 7),
        }


def test_expiry(client: Any) -> None:
    """Times as Django and others send them: never, at once, and absolute beyond 30 days."""
    for exptime, there in ((0, True), (100, True), (2_592_000, True), (-1, False)):
        assert client.set("k", "v", expire=exptime)
        assert (client.get("k") is not None) is there, exptime
    assert client.set("k", "v", expire=2_592_001)
    assert client.get("k") is None
    assert client.set("k", "v", expire=2_147_483_647)
    value, token = client.gets("k")
    assert client.touch("k", expire=100)
    assert client.get("k") == value == b"v"
    assert client.touch("k", expire=-1)
    assert client.get("k") is None
    assert client.cas("k", "w", token) is None


def test_delayed_flush(client: Any) -> None:
    """A flush to come leaves items until then, and one at once takes its place."""
    client.set("k", "v")
    assert client.flush_all(delay=1000)
    assert client.get("k") == b"v"
    assert client.flush_all()
    assert client.get("k") is None
    client.set("k", "v")
    assert client.get("k") == b"v"


def test_statistics(client: Any) -> None:
    """pymemcache understands the statistics, and they count what has been done."""
    before = client.stats()
    client.set("k", "v")
    client.get_many(["k", "nothing"])
    after = client.stats()
    changed = {
        name: after[name] - before[name] for name in (b"cmd_set", b"get_hits", b"get_misses")
    }
    assert changed == {b"cmd_set": 1, b"get_hits": 1, b"get_misses": 1}
    assert isinstance(after[b"rusage_user"], float)
    assert client.stats("settings")[b"maxconns"] == 1024


def test_raw_command(client: Any) -> None:
    """What pymemcache has no method for can be said in the protocol's own words."""
    client.set("k", "v")
    assert client.raw_command(b"gat 100 k", b"END\r\n") == b"VALUE k 0 1\r\nv\r\n"
    assert client.raw_command(b"verbosity 1") == b"OK"
    assert client.raw_command(b"mg k s v", b"v\r\n") == b"VA 1 s1\r\n"


def test_pool(redcouch: RedCouch) -> None:
    """A pool of connections shared by threads keeps each one's replies apart."""
    pool = PooledClient(redcouch.address, max_pool_size=THREADS, default_noreply=False, timeout=20)

    def work(number: int) -> None:
        for turn in range(ROUNDS):
            pool.set(f"k{number}", f"{number} {turn}")
            assert pool.get(f"k{number}") == f"{number} {turn}".encode()

    with closing(pool), ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(THREADS)))
