"""Whether the statistics are true: what moves them, and by how much."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.integration import monitors
from tests.support import servers
from tests.support.frames import frame, reply
from tests.support.polling import eventually
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import Wire, ask

Moved = dict[str, int]

#: Those that move with the mere asking.
_RESTLESS = {"uptime", "time", "rusage_user", "rusage_system", "bytes", "reclaimed"}
_RESTLESS |= {"bytes_read", "bytes_written", "total_connections", "curr_items"}
_RESTLESS |= {
    "curr_connections",
    "connection_structures",
    "version",
    "redcouch_version",
    "evictions",
}


@pytest.fixture(scope="module")
def running() -> Iterator[RedCouch]:
    """On a Redis of its own: keys of other tests would be counted as items."""
    with (
        servers.redis_server() as storage,
        servers.redcouch(storage.url, "--max-item-size", "2k") as server,
    ):
        yield server


@pytest.fixture
def bridge(running: RedCouch) -> RedCouch:
    """Empty but for a = x, n = 5 and text = t."""
    assert ask(running.address, b"flush_all\r\n", b"\r\n") == b"OK\r\n"
    with Wire(running.address) as wire:
        lines = b"".join(b"set %b 0 0 1\r\n%b\r\n" % pair for pair in _ITEMS)
        assert wire.say([lines], b"STORED\r\n" * len(_ITEMS)).reply == b"STORED\r\n" * len(_ITEMS)
    return running


_ITEMS = ((b"a", b"x"), (b"n", b"5"), (b"t", b"t"))


def moved_by(server: RedCouch, lines: bytes) -> Moved:
    """Which counts these lines move, and by how much."""
    before = monitors.text(server.address)
    with Wire(server.address) as wire:
        wire.converse([lines])
    after = monitors.text(server.address)
    moved = {
        key: int(after[key]) - int(before[key])
        for key in after
        if key not in _RESTLESS and after[key] != before[key]
    }
    # The conversation ends with a set and a get of its own.
    for key in ("cmd_set", "total_items", "cmd_get", "get_hits"):
        moved[key] -= 1
    return {key: count for key, count in moved.items() if count}


@pytest.mark.parametrize(
    ("lines", "moved"),
    [
        (b"get a\r\n", {"cmd_get": 1, "get_hits": 1}),
        (b"get a\r\n" * 7, {"cmd_get": 7, "get_hits": 7}),
        (b"get a n no\r\n", {"cmd_get": 3, "get_hits": 2, "get_misses": 1}),
        (b"gets no\r\n", {"cmd_get": 1, "get_misses": 1}),
        (b"mg a v\r\n", {"cmd_get": 1, "get_hits": 1}),
        (b"mg no\r\n", {"cmd_get": 1, "get_misses": 1}),
        (b"set b 0 0 1\r\nx\r\n", {"cmd_set": 1, "total_items": 1}),
        (b"ms b 1\r\nx\r\n", {"cmd_set": 1, "total_items": 1}),
        (b"add a 0 0 1\r\nx\r\n", {"cmd_set": 1, "set_not_stored": 1}),
        (b"append no 0 0 1\r\nx\r\n", {"cmd_set": 1, "set_not_stored": 1}),
        (b"cas a 0 0 1 1\r\nx\r\n", {"cmd_set": 1, "cas_badval": 1}),
        (b"cas no 0 0 1 1\r\nx\r\n", {"cmd_set": 1, "cas_misses": 1}),
        (b"delete a\r\n", {"delete_hits": 1}),
        (b"delete no\r\nmd no\r\n", {"delete_misses": 2}),
        (
            b"md a x\r\nmd a x I\r\nmd a I\r\nmd no x\r\n",
            {"delete_hits": 1, "delete_misses": 1, "total_items": 2},
        ),
        (b"incr n 1\r\nma n\r\n", {"incr_hits": 2}),
        (b"incr no 1\r\n", {"incr_misses": 1}),
        (b"decr n 1\r\nma n MD\r\n", {"decr_hits": 2}),
        (b"decr no 1\r\n", {"decr_misses": 1}),
        (b"incr t 1\r\n", {}),
        (b"touch a 50\r\n", {"cmd_touch": 1, "touch_hits": 1}),
        (b"touch no 50\r\n", {"cmd_touch": 1, "touch_misses": 1}),
        (b"flush_all\r\n", {"cmd_flush": 1}),
        (b"version\r\nmn\r\nverbosity 1\r\nfoo\r\nstats settings\r\n", {}),
    ],
    ids=lambda case: case.decode() if isinstance(case, bytes) else "",
)
def test_what_moves_what(bridge: RedCouch, lines: bytes, moved: Moved) -> None:
    """An operator who counts requests finds exactly them, and nothing else moves."""
    assert moved_by(bridge, lines) == moved


def test_a_cas_that_hits(bridge: RedCouch) -> None:
    """A cas that stores is a hit, and a set too."""
    token = ask(bridge.address, b"gets a\r\n", b"END\r\n").split()[4]
    moved = moved_by(bridge, b"cas a 0 0 1 %b\r\ny\r\n" % token)
    assert moved == {"cmd_set": 1, "total_items": 1, "cas_hits": 1}


def test_binary_moves_the_same(bridge: RedCouch) -> None:
    """Requests of both protocols are counted together."""
    before = monitors.binary(bridge.address)
    store = struct.pack(">II", 0, 0)
    with Wire(bridge.address) as wire:
        asked = frame(0x09, b"a") * 3 + frame(0x0D, b"no") + frame(0x11, b"b", store, b"v")
        asked += frame(0x14, b"b") + frame(0x1C, b"a", struct.pack(">I", 50)) + frame(0x0A)
        wire.say([asked], reply(0x0A))
    after = monitors.binary(bridge.address)
    moved = {key: int(after[key]) - int(before[key]) for key in after if key not in _RESTLESS}
    assert {key: count for key, count in moved.items() if count} == {
        "cmd_get": 4,
        "get_hits": 3,
        "get_misses": 1,
        "cmd_set": 1,
        "total_items": 1,
        "delete_hits": 1,
        "cmd_touch": 1,
        "touch_hits": 1,
    }


def test_the_process(bridge: RedCouch) -> None:
    """pid, time, word size and times of the process are its own; uptime only grows."""
    stats = monitors.text(bridge.address)
    assert stats["pid"] == str(bridge.pid)
    assert abs(int(stats["time"]) - time.time()) < 60
    assert stats["pointer_size"] == str(struct.calcsize("P") * 8)
    with open(f"/proc/{bridge.pid}/stat") as file:
        ticks = file.read().rpartition(")")[2].split()[11:13]
    spent = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    assert abs(float(stats["rusage_user"]) + float(stats["rusage_system"]) - spent) < 1
    assert int(monitors.text(bridge.address)["uptime"]) >= int(stats["uptime"]) >= 0


def test_connections_and_bytes(bridge: RedCouch) -> None:
    """Each client is counted while it is there, and each byte that it sends and gets."""
    with ExitStack() as stack:
        first = stack.enter_context(Wire(bridge.address))

        def count(key: str) -> int:
            reply = first.say([b"stats\r\n"], b"END\r\n").reply.decode()
            return int(reply.split(f"STAT {key} ")[1].split("\r\n")[0])

        eventually(lambda: count("curr_connections") == 1)  # those of the tests before are gone
        total = count("total_connections")
        others = [stack.enter_context(Wire(bridge.address)) for _ in range(5)]
        for other in others:
            other.say([b"mn\r\n"], b"MN\r\n")
        assert count("curr_connections") == count("connection_structures") == 6
        assert count("total_connections") == total + 5
        conns = first.say([b"stats conns\r\n"], b"END\r\n").reply
        assert conns.count(b":state conn_listening") == 1
        assert conns.count(b":addr tcp:127.0.0.1:") == 6 + 1
        read, written = count("bytes_read"), count("bytes_written")
        request, reply = b"get a\r\n" * 1000, b"VALUE a 0 1\r\nx\r\nEND\r\n" * 1000
        assert others[0].say([request], reply).reply == reply
        assert count("bytes_read") - read == len(request) + len(b"stats\r\n" * 2)
        assert count("bytes_written") - written > len(reply)


def test_items(bridge: RedCouch) -> None:
    """Each item more is one more; Redis is asked for it at most once a second."""

    def items() -> set[int]:
        shown = monitors.prometheus(bridge.address)
        return {int(shown["curr_items"]), int(shown["slab 1 number"])}

    assert ask(bridge.address, b"flush_all\r\nset a 0 0 1\r\nx\r\n", b"STORED\r\n")
    eventually(lambda: items() == {1})
    with Wire(bridge.address) as wire:
        for number in range(50):
            wire.say([b"set item-%d 0 0 1\r\nx\r\n" % number], b"STORED\r\n")
        wire.say([b"delete a\r\n"], b"DELETED\r\n")
    eventually(lambda: items() == {50})


def test_an_empty_service(bridge: RedCouch) -> None:
    """Where nothing is stored there are 0 items."""
    assert ask(bridge.address, b"flush_all\r\n", b"\r\n") == b"OK\r\n"
    eventually(lambda: monitors.text(bridge.address)["curr_items"] == "0")


@pytest.mark.parametrize("line", ["set a 0 0 4000", "add a 0 0 4000", "cas a 0 0 4000 1 noreply"])
def test_a_value_that_is_too_large(bridge: RedCouch, line: str) -> None:
    """A refused value is counted as one, whichever the command."""
    moved = moved_by(bridge, b"%b\r\n%b\r\n" % (line.encode(), bytes(4000)))
    assert moved == {"store_too_large": 1}


def test_memory_and_evictions() -> None:
    """
    Under a maxmemory the limit is Redis' own, the fill follows, and what Redis evicts or
    refuses is counted.
    """
    limit = 4 * 1024 * 1024
    with (
        servers.redis_server("--maxmemory", str(limit)) as redis,
        servers.redcouch(redis.url) as server,
        redis.client() as native,
    ):
        native.config_set("maxmemory-policy", "allkeys-lru")
        with Wire(server.address) as wire:
            value = b"set k%d 0 0 1000\r\n" + b"v" * 1000 + b"\r\n"
            lines = b"".join(value % number for number in range(4000))
            assert wire.say([lines], b"STORED\r\n").reply.count(b"STORED\r\n") > 0
            wire.say([b"mn\r\n"], b"MN\r\n")
            evicted = native.info()["evicted_keys"]
            eventually(lambda: int(monitors.text(server.address)["evictions"]) >= evicted)
            stats = monitors.text(server.address)
            assert stats["limit_maxbytes"] == str(limit)
            assert native.info()["evicted_keys"] >= int(stats["evictions"]) >= evicted > 0
            assert 0.5 * limit < int(stats["bytes"]) < 1.2 * limit
            assert int(stats["store_no_memory"]) == 0
            native.config_set("maxmemory-policy", "noeviction")
            native.config_set("maxmemory", "1mb")
            refused = wire.say([b"set more 0 0 1\r\nx\r\n"], b"\r\n").reply
            assert refused == b"SERVER_ERROR out of memory storing object\r\n"
        assert monitors.text(server.address)["store_no_memory"] == "1"


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_reset(bridge: RedCouch, binary: bool) -> None:
    """After a reset every count begins at 0; what is so now, and Redis' own, stays."""
    with Wire(bridge.address) as wire:
        wire.say([b"get a\r\n"], b"END\r\n")
        if binary:
            end = reply(0x10)
            with Wire(bridge.address) as other:
                assert other.say([frame(0x10, b"reset")], end).reply == end
        else:
            assert wire.say([b"stats reset\r\n"], b"RESET\r\n").reply == b"RESET\r\n"
        stats = monitors.text(bridge.address)
        for key in ("cmd_get", "get_hits", "cmd_set", "cmd_flush", "total_items", "incr_misses"):
            assert stats[key] == "0", key
        assert int(stats["curr_connections"]) >= 2
        assert int(stats["pid"]) == bridge.pid
        assert int(stats["limit_maxbytes"]) > 0


def test_settings(any_redis: RedisServer) -> None:
    """The settings are those that the operator gave."""
    given = ("-c", "77", "--idle-timeout", "30", "-I", "2m", "--no-flush", "--no-dump")
    with servers.redcouch(any_redis.url, *given) as server:
        for read in (monitors.text, monitors.binary):
            settings = read(server.address, "settings")
            assert settings["maxconns"] == "77"
            assert settings["tcpport"] == str(server.port)
            assert settings["inter"] == "127.0.0.1"
            assert settings["idle_timeout"] == "30"
            assert settings["item_size_max"] == str(2 * 1024 * 1024)
            assert settings["flush_enabled"] == settings["dump_enabled"] == "no"
            assert settings["auth_enabled_sasl"] == settings["auth_enabled_ascii"] == "no"
        assert monitors.text(server.address)["max_connections"] == "77"


def test_rejected_clients(any_redis: RedisServer) -> None:
    """A client beyond the limit is told so, and counted."""
    with servers.redcouch(any_redis.url, "-c", "2") as server, Wire(server.address) as first:
        eventually(  # those that asked whether it is up are gone
            lambda: b"STAT curr_connections 1\r\n" in first.say([b"stats\r\n"], b"END\r\n").reply
        )
        with Wire(server.address) as second:
            second.say([b"mn\r\n"], b"MN\r\n")
            refused = ask(server.address, b"", b"connections\r\n")
            assert refused == b"ERROR Too many open connections\r\n"
            stats = first.say([b"stats\r\n"], b"END\r\n").reply
        assert b"STAT rejected_connections 1\r\n" in stats
        assert b"STAT curr_connections 2\r\n" in stats
