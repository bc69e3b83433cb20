"""Lists of 50,000 items, from Redis: complete, in bounded memory, and no longer than wanted."""

from __future__ import annotations

import re
import socket
import struct
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

import pytest
import redis

from tests.support import servers
from tests.support.frames import frame, reply
from tests.support.polling import eventually
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import Wire, ask

MANY, FEWER = 50_000, 20_000
METADUMP, MGDUMP = b"lru_crawler metadump all\r\n", b"lru_crawler mgdump all\r\n"
CACHEDUMP = b"stats cachedump 1 0\r\n"

#: Filler that makes a list, of 16 MB, a multiple of the memory that it may take, in KiB.
LONG = b"-" + b"x" * 230
ALLOWED = 6 * 1024

ODD_KEYS = [b"a b", b"line\r\nend", b"\0", b"\xff\xfe", b"%41", b"caf\xc3\xa9", b"k" * 250, b" "]


@pytest.fixture(scope="module")
def storage() -> Iterator[RedisServer]:
    """A Redis with many items, and some keys that are none."""
    with servers.redis_server() as server, server.client() as native:
        with native.pipeline(transaction=False) as pipeline:
            for number in range(MANY):
                item = {"v": "78", "f": number % 3, "c": number + 1}
                pipeline.hset(b"rc:%d" % number + LONG, mapping=item)
            pipeline.expire(b"rc:7" + LONG, 1000)
            pipeline.set("other", "x")
            pipeline.set("rc:a string", "x")
            pipeline.hset("rc:no item", mapping={"field": "x"})
            pipeline.execute()
        yield server


@pytest.fixture(scope="module")
def running(storage: RedisServer) -> Iterator[RedCouch]:
    with servers.redcouch(storage.url) as server:
        yield server


@pytest.fixture
def bridge(running: RedCouch) -> Iterator[RedCouch]:
    yield running
    running.check_log()


def highest_memory(server: RedCouch) -> int:
    """The most memory that the process ever had, in KiB."""
    with open(f"/proc/{server.pid}/status") as file:
        return int(re.findall(r"VmHWM:\s+(\d+) kB", file.read())[0])


def memory(server: RedCouch) -> int:
    with open(f"/proc/{server.pid}/status") as file:
        return int(re.findall(r"VmRSS:\s+(\d+) kB", file.read())[0])


def keys_in(dump: bytes) -> list[bytes]:
    """The keys of a list, in any of its forms."""
    keys = []
    for line in dump.splitlines()[:-1]:
        if line.startswith(b"key="):
            keys.append(unquote_to_bytes(line.split(b" ")[0][4:]))
        elif line.startswith(b"mg "):
            words = line.split(b" ")
            keys.append(b64decode(words[1]) if words[2:] == [b"b"] else words[1])
        else:
            assert line.startswith(b"ITEM "), line
            keys.append(line.split(b" ")[1])
    return keys


def scans(native: redis.Redis) -> int:
    """How many pages Redis has been asked for."""
    stats = native.info("commandstats")
    return int(stats["cmdstat_scan"]["calls"]) if "cmdstat_scan" in stats else 0


@pytest.fixture(scope="module")
def metadump(running: RedCouch, storage: RedisServer) -> tuple[bytes, int]:
    """The whole list, and how many pages it has."""
    with storage.client() as native:
        native.config_resetstat()
        return ask(running.address, METADUMP, b"END\r\n"), scans(native)


@pytest.mark.parametrize(
    ("line", "end"), [(METADUMP, b"END\r\n"), (MGDUMP, b"EN\r\n")], ids=["metadump", "mgdump"]
)
def test_all_are_listed(bridge: RedCouch, line: bytes, end: bytes) -> None:
    """
    Each of 50,000 items is in the list, nothing else is, and the service needs no more
    memory for it than for a few.
    """
    ask(bridge.address, b"lru_crawler metadump 2\r\n", b"END\r\n")
    before = highest_memory(bridge)
    listed = keys_in(ask(bridge.address, line, end))
    assert set(listed) == {b"%d" % number + LONG for number in range(MANY)}
    assert len(listed) < MANY * 1.2
    assert highest_memory(bridge) - before < ALLOWED


def test_what_metadump_says(metadump: tuple[bytes, int]) -> None:
    """Each line has what an import needs: expiry, token, size and flags."""
    lines = metadump[0].splitlines()
    (seven,) = {line for line in lines if line.startswith(b"key=7-")}
    shown = dict(word.split(b"=") for word in seven.split(b" "))
    assert 900 < int(shown[b"exp"]) - time.time() < 1001
    assert abs(int(shown[b"la"]) - time.time()) < 1000
    assert (shown[b"cas"], shown[b"cls"], shown[b"flags"]) == (b"8", b"1", b"1")
    assert int(shown[b"size"]) == 59 + len(b"7" + LONG) + 4 + 1
    assert sum(b" exp=-1 " in line for line in lines) >= MANY - 1


def test_cachedump(bridge: RedCouch) -> None:
    """cachedump has the 2 MiB that memcached's has at most, and as many items as are asked for."""
    listed = ask(bridge.address, CACHEDUMP, b"END\r\n")
    assert 2_000_000 < len(listed) < 2 * 1024 * 1024
    assert len(set(keys_in(listed))) > 8000
    some = ask(bridge.address, b"stats cachedump 1 100\r\n", b"END\r\n")
    assert len(keys_in(some)) == 100
    assert ask(bridge.address, b"stats cachedump 2 0\r\n", b"END\r\n") == b"END\r\n"


def test_cachedump_of_all_that_fits() -> None:
    """Of a smaller store, cachedump lists everything that a line can hold."""
    with servers.redis_server() as server, servers.redcouch(server.url) as bridge:
        with server.client() as native, native.pipeline(transaction=False) as pipeline:
            for number in range(FEWER):
                pipeline.hset(f"rc:{number}", mapping={"v": "78"})
            pipeline.execute()
        listed = set(keys_in(ask(bridge.address, CACHEDUMP, b"END\r\n")))
        assert listed == {b"%d" % number for number in range(FEWER)}


def settled(number: Callable[[], int]) -> int:
    """A number that has come to rest: the same for a while."""
    last, times = number(), 0
    while times < 20:
        time.sleep(0.01)
        now = number()
        last, times = now, (times + 1 if now == last else 0)
    return last


def test_a_client_that_stops_reading(
    bridge: RedCouch, storage: RedisServer, metadump: tuple[bytes, int]
) -> None:
    """
    A client that asks for the list and does not read it holds up nobody and takes no
    memory to speak of; the list waits for it, and is complete when it reads on.
    """
    with storage.client() as native:
        native.config_resetstat()
        before = memory(bridge)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.connect(bridge.address)
            client.sendall(METADUMP)

            def waits() -> bool:
                """Whether no page was asked for while others were served."""
                pages = settled(lambda: scans(native))
                assert pages < metadump[1] * 0.8
                assert memory(bridge) - before < ALLOWED
                with Wire(bridge.address) as other:
                    for _ in range(100):
                        assert other.say([b"mn\r\n"], b"MN\r\n").reply == b"MN\r\n"
                        assert other.converse([b"get nothing\r\n"]).reply == b"END\r\n"
                return scans(native) == pages

            eventually(waits)
            received = bytearray()
            while not received.endswith(b"END\r\n"):
                received += client.recv(1 << 20)
        listed = {key for key in keys_in(bytes(received)) if key.endswith(LONG)}
        assert len(listed) == MANY


def test_a_client_that_goes_away(
    bridge: RedCouch, storage: RedisServer, metadump: tuple[bytes, int]
) -> None:
    """Nobody is left to read the list: it is not gone on with."""
    with storage.client() as native:
        native.config_resetstat()
        client = socket.socket()
        client.connect(bridge.address)
        client.sendall(METADUMP)
        assert client.recv(1000)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert settled(lambda: scans(native)) < metadump[1] * 0.8
    assert keys_in(ask(bridge.address, b"stats cachedump 1 1\r\n", b"END\r\n"))


def test_two_lists_and_commands_behind(bridge: RedCouch) -> None:
    """What a client asks behind a list is answered behind it, and lists of others are their own."""
    with Wire(bridge.address) as first, Wire(bridge.address) as second:
        short = b"stats cachedump 1 5\r\n"
        heard = first.say([short + b"mn\r\n" + short + b"version\r\n"], b"0.1.0\r\n").reply
        parts = re.split(rb"(?<=END\r\n)|MN\r\n", heard)
        assert [len(keys_in(part)) for part in (parts[0], parts[2])] == [5, 5]
        assert b"END\r\nMN\r\nITEM " in heard
        assert second.converse([b"get nothing\r\n"]).reply == b"END\r\n"


def test_odd_keys(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """
    Keys with blanks, line ends or any bytes are listed so that a tool can read them back:
    URL-encoded, or in base64; cachedump, whose lines cannot hold them, leaves them out.
    """
    with any_redis.client() as native:
        native.flushall()
        for key in ODD_KEYS:
            native.hset(b"rc:" + key, mapping={"v": "78", "f": 0, "c": 1})
    assert sorted(keys_in(ask(redcouch.address, METADUMP, b"END\r\n"))) == sorted(ODD_KEYS)
    listed = ask(redcouch.address, MGDUMP, b"EN\r\n")
    assert sorted(keys_in(listed)) == sorted(ODD_KEYS)
    plain = set(keys_in(ask(redcouch.address, CACHEDUMP, b"END\r\n")))
    assert plain == {b"\xff\xfe", b"%41", b"caf\xc3\xa9", b"k" * 250}
    with Wire(redcouch.address) as wire:  # mgdump's lines can be sent back as they are
        asked = b"".join(line + b" v k\r\n" for line in listed.splitlines()[:-1])
        heard = wire.say([asked + b"mn\r\n"], b"MN\r\n").reply
    assert heard.count(b"VA 1 k") == len(ODD_KEYS)


def test_no_dump_and_no_flush(any_redis: RedisServer) -> None:
    """
    With --no-dump no list is given, with --no-flush nothing is flushed, in any dialect; a
    client is told in memcached's words, and all else works.
    """
    with servers.redcouch(any_redis.url, "--no-dump", "--no-flush") as server:
        with Wire(server.address) as wire:
            for line, expected in (
                (b"set a 0 0 1\r\nx\r\n", b"STORED\r\n"),
                (METADUMP, b"ERROR metadump not allowed\r\n"),
                (MGDUMP, b"ERROR key dump not allowed\r\n"),
                (CACHEDUMP, b"CLIENT_ERROR stats cachedump not allowed\r\n"),
                (b"flush_all\r\n", b"CLIENT_ERROR flush_all not allowed\r\n"),
                (b"flush_all 10\r\n", b"CLIENT_ERROR flush_all not allowed\r\n"),
                (b"flush_all noreply\r\nmn\r\n", b"MN\r\n"),
                (b"get a\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n"),
                (b"me a\r\n", None),
            ):
                heard = wire.say([line], expected or b"\r\n").reply
                assert heard == (expected or heard)
        with Wire(server.address) as wire:
            for opcode in (0x08, 0x18):
                heard = wire.say([frame(opcode)], b"failure.").reply
                assert heard == reply(opcode, 0x20, b"Auth failure.")
        assert ask(server.address, b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n"


def test_redis_goes_away_in_the_middle() -> None:
    """A list that cannot be finished ends with an error, and not as if it were complete."""
    with servers.redis_server() as server, servers.redcouch(server.url) as bridge:
        with server.client() as native, native.pipeline(transaction=False) as pipeline:
            for number in range(MANY):
                pipeline.hset(b"rc:%d" % number + LONG, mapping={"v": "78"})
            pipeline.execute()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.connect(bridge.address)
            client.settimeout(60)
            client.sendall(METADUMP)
            received = bytearray(client.recv(1000))
            server.kill()
            client.shutdown(socket.SHUT_WR)
            while data := client.recv(1 << 20):
                received += data
        assert received.splitlines()[-1].startswith(b"SERVER_ERROR ")
        assert b"END\r\n" not in received
