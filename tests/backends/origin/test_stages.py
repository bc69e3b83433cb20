"""Stages: changed by everybody together, refused where something would be lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from redcouch.backends.origin.backend import origin_digest
from redcouch.backends.origin.url import read_location as read_origin
from redcouch.backends.redis.fill_leases import FillKeys
from redcouch.backends.redis.layout import CAS_COUNTER, FLUSH_AT, Layout
from redcouch.cli import Interrupt
from redcouch.cli.storage import Storage, StoredItem, read_storage
from redcouch.cli.warm_storage import WarmLocation, WarmStorage, open_warm_storage
from redcouch.memcached_client.node import BlockingNode
from tests.backends.origin.conftest import PATIENT
from tests.backends.origin.conversation import say, stats
from tests.cli.running import Ended, finish, run, start
from tests.differential.binary import DELETE, GET, NOOP, SET, frame
from tests.support import servers
from tests.support.cluster import Cluster
from tests.support.polling import PACE, eventually
from tests.support.requirements import needs
from tests.support.servers import Memcached, RedCouch, RedisServer
from tests.support.wire import Wire


@pytest.fixture
def url(redis: RedisServer | Cluster, nodes: list[Memcached]) -> str:
    return warm(redis, nodes)


def warm(redis: RedisServer | Cluster, nodes: list[Memcached], more: str = PATIENT) -> str:
    sources = "&".join(f"from={node.url}" for node in nodes)
    return f"warm:{redis.url}?{sources}&ring=ketama&{more}"


_PASSING = ("no acknowledgement from", "it took too long", "still used by", "have been repaired")
"""Why a change is refused where a process stood still for a while."""


def go(url: str, stage: str, *options: str) -> dict[str, Any]:
    """Change the stage: asked for again, where that is all that is in the way."""
    said = eventually(lambda: change(url, stage, *options), _is_final)
    assert said["changed"], said
    return said


def _is_final(said: dict[str, Any]) -> bool:
    return said["changed"] or not any(words in said["reason"] for words in _PASSING)


def change(url: str, stage: str, *options: str) -> dict[str, Any]:
    """What the command says, and that its exit status goes with it."""
    done = run("stage", stage, "-s", url, "--json", *options)
    said: dict[str, Any] = done.json
    assert done.status == (0 if said.get("changed") else 1), done.err
    return said


def standing(url: str) -> dict[str, Any]:
    """The same, without a change."""
    done = run("stage", "-s", url, "--json")
    said: dict[str, Any] = done.json
    assert done.status == (0 if said["rollback_safe"] else 1), done.err
    return said


def owner_of(nodes: list[Memcached], key: bytes) -> Memcached:
    """The memcached that has it."""
    found = [node for node in nodes if say(node, b"get %b\r\n" % key, b"END\r\n") != b"END\r\n"]
    assert len(found) == 1
    return found[0]


@contextmanager
def working(bridge: RedCouch, work: Callable[[Wire], None]) -> Iterator[None]:
    """Somebody works with a bridge all the time; nothing may go wrong in it."""
    stop, faults = threading.Event(), list[Exception]()

    def loop() -> None:
        with Wire(bridge.address) as wire:
            while not stop.wait(PACE):
                try:
                    work(wire)
                except Exception as error:
                    faults.append(error)
                    return

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        assert not faults, faults


def test_forth_and_back(url: str, redis: RedisServer | Cluster, nodes: list[Memcached]) -> None:
    """
    Through all stages and back, with two services and three processes, while two clients count:
    no number is given twice, and none is left out.
    """
    numbers: list[int] = []

    def count(wire: Wire) -> None:
        reply = wire.say([b"incr n 1\r\n"], b"\r\n").reply
        numbers.append(int(reply))

    def go_on() -> None:
        before = len(numbers)
        eventually(lambda: len(numbers) > before + 50)

    with servers.redcouch(url) as one, servers.redcouch(url, "--workers", "2") as two:
        eventually(lambda: len(standing(url)["redcouches"]) == 3)
        go(url, "origin-first")
        say(one, b"set n 0 0 1\r\n0\r\n")
        say(one, b"set kept 0 0 1\r\nx\r\n")  # n is removed, and repaired, now and then
        with working(one, count), working(two, count):
            for stage in ("redis-first", "origin-first", "redis-first"):
                assert len(go(url, stage)["redcouches"]) == 3
                go_on()
            assert change(url, "redis-only")["reason"].startswith("what nobody has asked for yet")
            assert run("sweep", "-s", url).status == 0
            go(url, "redis-only")
            go_on()
            said = change(url, "redis-first")
            assert said["reason"].startswith("items from before, ")
            assert "flush_all" in said["force"]
            go(url, "redis-first", "--force")
            go_on()
        assert sorted(numbers) == [*range(1, len(numbers) + 1)]
        eventually(lambda: standing(url)["rollback_safe"])
        assert say(owner_of(nodes, b"n"), b"get n\r\n", b"END\r\n").split()[4] == b"%d" % len(
            numbers
        )
        for bridge in (one, two):
            bridge.check_log()


def test_who_does_not_acknowledge(url: str) -> None:
    """It is named, and nothing has changed; when it is there again, it goes on in the old stage."""
    with servers.redcouch(url) as one, servers.redcouch(url) as two:
        say(one, b"set k 0 0 1\r\nx\r\n")
        servers.hold(two.pid)
        try:

            def only_one_is_late() -> bool:
                said = change(url, "origin-first", "--timeout", "1")
                assert f":{two.pid} " in said["reason"]
                return f":{one.pid} " not in said["reason"]

            eventually(only_one_is_late)
            assert say(one, b"get k\r\n", b"END\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        finally:
            os.kill(two.pid, signal.SIGCONT)
        assert standing(url)["stage"] == "redis-first"
        assert say(two, b"get k\r\n", b"END\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        go(url, "origin-first")


def test_without_anybody(url: str) -> None:
    """A stage can be set before anybody serves, and whoever comes later has it."""
    go(url, "origin-first")
    with servers.redcouch(url) as bridge:
        say(bridge, b"set k 0 0 1\r\nx\r\n")
        assert stats(bridge)["warm_stage"] == 1
        eventually(lambda: standing(url)["rollback_safe"])


def test_others_on_the_old_side(url: str, nodes: list[Memcached]) -> None:
    """While somebody still speaks to an old memcached, it stays right."""
    go(url, "origin-first")
    with servers.redcouch(url) as bridge, Wire(nodes[0].address) as wire:
        wire.say([b"get x\r\n"], b"END\r\n")
        say(bridge, b"get x\r\n", b"END\r\n")
        used = "the old memcacheds are still used by 1 connection of 127.0.0.1"
        eventually(lambda: change(url, "redis-first")["reason"] == used)
        go(url, "redis-first", "--force")


def test_who_compares_is_nobody_else(url: str) -> None:
    """A key that only binary can name is asked for over a connection of its own."""
    with servers.redcouch(url) as bridge:
        noop = frame(NOOP, opaque=0x11223344)
        said = b"\x81" + noop[1:]
        say(bridge, frame(SET, LONG, extras=bytes(8)) + noop, said)
        go(url, "origin-first", "--force")
        done = change(url, "redis-first")
        while not done["changed"] and "acknowledgement" in done["reason"]:
            done = change(url, "redis-first")
        assert done["changed"], done


@contextmanager
def meanwhile(do: Callable[[], object]) -> Iterator[None]:
    """Something is done whenever a command that runs in this process waits."""
    wait = time.sleep

    def wait_and_do(seconds: float) -> None:
        do()
        wait(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", wait_and_do)
        yield


def test_others_that_connect_for_each_request(url: str, nodes: list[Memcached]) -> None:
    """They are seen though none of them is connected at the moment of a look."""
    go(url, "origin-first")
    with servers.redcouch(url) as bridge:
        say(bridge, b"set x 0 0 1\r\n1\r\n")
        with meanwhile(lambda: say(nodes[0], b"set y 0 0 1\r\n2\r\n")):
            reason = change(url, "redis-first")["reason"]
        assert reason.startswith("the old memcacheds are still used by ")
        assert standing(url)["stage"] == "origin-first"
        go(url, "redis-first")


def test_others_while_all_hold(
    url: str, nodes: list[Memcached], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an old memcached tells of its connections, a change by somebody else is seen."""
    go(url, "origin-first")
    with servers.redcouch(url) as bridge:
        say(bridge, b"set x 0 0 1\r\n1\r\n")
        with monkeypatch.context() as patch:
            patch.setattr(BlockingNode, "clients", lambda *_: ())
            patch.setattr(BlockingNode, "connections", lambda _: 0)
            with meanwhile(lambda: say(nodes[0], b"delete y\r\n")):
                said = eventually(
                    lambda: change(url, "redis-first"),
                    lambda said: said["changed"] or "no ack" not in said["reason"],
                )
        assert said["reason"].endswith(" no RedCouch: delete_misses went up meanwhile")
        assert say(bridge, b"get x\r\n", b"END\r\n") == b"VALUE x 0 1\r\n1\r\nEND\r\n"
        go(url, "redis-first")


@needs("memcached")
def test_others_by_udp(redis: RedisServer | Cluster) -> None:
    """They have no connection, but a port that has been used since the start."""
    port = servers.free_port()
    with servers.memcached("-U", str(port)) as node:
        url = warm(redis, [node])
        go(url, "origin-first")
        uptime = b"STAT uptime "
        eventually(lambda: int(say(node, b"stats\r\n", b"END\r\n").split(uptime)[1].split()[0]) > 3)
        go(url, "redis-first")
        go(url, "origin-first")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.connect((servers.LOOPBACK, port))
            wire.send(b"\0\1\0\0\0\1\0\0get x\r\n")
            assert wire.recv(100).endswith(b"END\r\n")
        assert "still used by 1 connection of 127.0.0.1" in change(url, "redis-first")["reason"]


class BySocket(Memcached):
    """One on a unix socket alone."""

    @property
    def address(self) -> str:
        return str(self.folder / "socket")

    def command(self) -> list[str]:
        return [*super().command()[:1], "-s", self.address, "-u", "root"]


@needs("memcached")
def test_others_over_a_unix_socket(redis: RedisServer | Cluster, tmp_path: Path) -> None:
    """Connections over it have no address: RedCouch's own are known by their number."""
    node = BySocket(tmp_path, [])
    node.start()
    try:
        url = f"warm:{redis.url}?from=memcached://{node.address}&{PATIENT}"
        go(url, "origin-first")
        with servers.redcouch(url, "--workers", "2") as bridge:
            for _ in range(20):
                say(bridge, b"set x 0 0 1\r\n1\r\n")
            go(url, "redis-first")
            go(url, "origin-first")
            with Wire(node.address) as wire:
                wire.say([b"get x\r\n"], b"END\r\n")
                used = f"the old memcacheds are still used by 1 connection of unix:{node.address}"
                eventually(lambda: change(url, "redis-first")["reason"] == used)
    finally:
        node.stop()


def test_what_cannot_be_read(url: str, redis: RedisServer | Cluster) -> None:
    """What the owner has comes in its place: an item that nobody can read is not as it has it."""
    with servers.redcouch(url) as bridge, redis.client() as client:
        go(url, "origin-first")
        say(bridge, b"set value 0 0 1\r\n1\r\nset flags 0 0 1\r\n2\r\n", b"STORED\r\nSTORED\r\n")
        client.hset("rc:value", "v", "no hex")
        client.hset("rc:flags", "f", "none")
        client.rpush("rc:list", "x")
        go(url, "redis-first")
        found = say(bridge, b"get value flags\r\n", b"END\r\n")
        assert found == b"VALUE value 0 1\r\n1\r\nVALUE flags 0 1\r\n2\r\nEND\r\n"
        assert client.exists("rc:list")


def test_no_export_while_the_old_side_is_right(
    url: str, redis: RedisServer | Cluster, nodes: list[Memcached]
) -> None:
    """What a client has changed there by itself is not replaced by what Redis has of it."""
    export = ["export", "-s", url, "--ring", "ketama"]
    for node in nodes:
        export += ["--to", node.url]
    with servers.redcouch(url) as bridge:
        go(url, "origin-first")
        assert say(bridge, b"set k 0 0 3\r\nold\r\n") == b"STORED\r\n"
        owner = owner_of(nodes, b"k")
        assert say(owner, b"set k 0 0 5\r\nnewer\r\n") == b"STORED\r\n"
        said = run(*export)
        assert (said.status, "origin-first" in said.err) == (1, True)
        go(url, "redis-first")
        for side in (owner, bridge):
            assert say(side, b"get k\r\n", b"END\r\n") == b"VALUE k 0 5\r\nnewer\r\nEND\r\n"
    assert run(*export).status == 0


def test_large_items(
    url: str, redis: RedisServer | Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are compared a few at a time: all of a batch would be in Redis' memory once more."""
    most: list[int] = []
    read = Storage.read

    def counted(self: Storage, keys: Sequence[bytes]) -> list[StoredItem]:
        most.append(len(keys))
        return read(self, keys)

    with servers.redcouch(url) as bridge:
        go(url, "origin-first")
        for place in range(12):
            said = say(bridge, b"set k%d 0 0 900000\r\n%b\r\n" % (place, b"x" * 900_000))
            assert said == b"STORED\r\n"
        monkeypatch.setattr(Storage, "read", counted)
        go(url, "redis-first")
    assert sum(most) >= 12 and max(most) <= 4


def test_what_others_have_changed(url: str, nodes: list[Memcached]) -> None:
    """What clients have changed on the old side by themselves is so in the next stage, too."""
    go(url, "origin-first")
    with servers.redcouch(url) as bridge:
        for key in (b"new", b"gone", b"same", b"short"):
            say(bridge, b"set %b 3 100 3\r\nold\r\n" % key)
        say(owner_of(nodes, b"new"), b"set new 4 0 3\r\nnew\r\n")
        say(owner_of(nodes, b"gone"), b"delete gone\r\n")
        say(owner_of(nodes, b"short"), b"touch short 1000\r\n")
        assert say(bridge, b"get new gone\r\n", b"END\r\n") == b"VALUE new 4 3\r\nnew\r\nEND\r\n"
        say(owner_of(nodes, b"new"), b"set new 5 0 5\r\nnewer\r\n")
        go(url, "redis-first")
        found = say(bridge, b"get new gone same\r\n", b"END\r\n")
        assert found == b"VALUE new 5 5\r\nnewer\r\nVALUE same 3 3\r\nold\r\nEND\r\n"
        assert 900 < int(say(bridge, b"mg short t\r\n")[4:]) <= 1000


@needs("memcached")
def test_a_flush_that_is_refused(redis: RedisServer | Cluster) -> None:
    """It is not said to be silent."""
    with servers.memcached("-F") as old:
        url = warm(redis, [old])
        go(url, "origin-first")
        with servers.redcouch(url) as bridge:
            refused = b"SERVER_ERROR old memcached refuses: flush_all not allowed\r\n"
            assert say(bridge, b"flush_all\r\n") == refused


@pytest.mark.parametrize(
    ("request_", "first"),
    [
        (b"get k\r\n", b"END\r\n"),
        (b"mg k v\r\n", b"EN\r\n"),
        (b"set k 0 0 1\r\ny\r\n", b"SERVER_ERROR old memcached does not answer\r\n"),
        (b"incr k 1\r\n", b"SERVER_ERROR old memcached does not answer\r\n"),
        (b"delete k\r\n", b"SERVER_ERROR old memcached does not answer\r\n"),
        (b"flush_all\r\n", b"SERVER_ERROR old memcached does not answer\r\n"),
    ],
)
def test_a_node_that_hangs(
    request_: bytes, first: bytes, redis: RedisServer | Cluster, nodes: list[Memcached]
) -> None:
    """What clients are told while the old memcacheds are right and say nothing."""
    url = warm(redis, nodes, "from-timeout=0.3")
    go(url, "origin-first")
    with servers.redcouch(url) as bridge:
        say(bridge, b"set k 0 0 1\r\nx\r\n")
        for node in nodes:
            servers.hold(node.pid)
        try:
            assert say(bridge, request_) == first
        finally:
            for node in nodes:
                os.kill(node.pid, signal.SIGCONT)
        eventually(lambda: say(bridge, b"set k 0 0 1\r\nz\r\n") == b"STORED\r\n")
        there = b"VALUE k 0 1\r\nz\r\nEND\r\n"
        eventually(lambda: say(bridge, b"get k\r\n", b"END\r\n") == there)


def test_repaired(redis: RedisServer | Cluster, nodes: list[Memcached]) -> None:
    """
    What an old memcached has missed makes going back unsafe until it has been repaired, by
    whoever is there; then it has what Redis has.
    """
    url = warm(redis, nodes, "from-timeout=0.3")
    keys = [b"k%d" % number for number in range(50)]
    with servers.redcouch(url) as other:
        with servers.redcouch(url) as bridge:
            for key in keys:
                say(bridge, b"set %b 0 0 3\r\nold\r\n" % key)
            say(bridge, b"set n 0 0 1\r\n1\r\n")
            eventually(lambda: standing(url)["rollback_safe"])
            for node in nodes:
                servers.hold(node.pid)
            for key in keys[::2]:
                say(bridge, b"set %b 7 0 3\r\nnew\r\n" % key)
            say(bridge, b"delete k1\r\n")
            assert say(bridge, b"incr n 4\r\n") == b"5\r\n"
            assert stats(bridge)["warm_barred"] == 27
        for node in nodes:
            os.kill(node.pid, signal.SIGCONT)
        eventually(lambda: standing(url)["rollback_safe"])
        assert stats(other)["warm_barred"] == 0
        request = b"get %b n\r\n" % b" ".join(keys)
        found = b"".join(say(node, request, b"END\r\n") for node in nodes)
        assert found.count(b" 7 3\r\nnew\r\n") == 25
        assert found.count(b" 0 3\r\nold\r\n") == 24
        assert b"VALUE n 0 1\r\n5\r\n" in found


@needs("memcached")
def test_what_it_refuses(redis: RedisServer | Cluster) -> None:
    """What an old memcached has no room for is missed by whoever goes back: that is not safe."""
    with servers.memcached("-I", "512k", "-o", "slab_chunk_max=128") as small:
        url = warm(redis, [small])
        with servers.redcouch(url) as bridge:
            say(bridge, b"set k 0 0 3\r\nold\r\n")
            eventually(lambda: standing(url)["rollback_safe"])
            large = b"v" * 700_000
            assert say(bridge, b"set k 0 0 700000\r\n%b\r\n" % large) == b"STORED\r\n"
            eventually(lambda: "refused an item" in (standing(url)["because"] or ""))
            assert "refused an item" in change(url, "origin-first")["reason"]
            eventually(lambda: stats(bridge)["warm_lacking"] == 1)
            failed = run("stage", "redis-first", "-s", url)
            assert (failed.status, "refuses items" in failed.err) == (3, True), failed.err
            assert say(bridge, b"get k\r\n", b"END\r\n").startswith(b"VALUE k 0 700000\r\n")
            say(bridge, b"delete k\r\n")
            assert go(url, "redis-first")["rollback_safe"]


def test_one_that_is_known_to_be_away(
    url: str, nodes: list[Memcached], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command does not wait for it: where it hangs, that would be half a minute."""
    asked: list[str] = []

    class Noted(BlockingNode):
        def __enter__(self) -> BlockingNode:
            asked.append(self.address.shown)
            return super().__enter__()

    def shown() -> tuple[str, list[str]]:
        asked.clear()
        return standing(url)["because"], asked

    monkeypatch.setattr("redcouch.cli.stage.BlockingNode", Noted)
    with servers.redcouch(url):
        nodes[0].kill()
        eventually(lambda: shown() == ("1 of the old memcacheds does not answer", [nodes[1].url]))


LONG = b"\x01 " * 110
"""A key of which the old memcached's text cannot say the name."""


@pytest.mark.parametrize("opcode", [SET, DELETE], ids=["set", "delete"])
@pytest.mark.parametrize("stage", ["redis-first", "origin-first"])
def test_what_it_cannot_be_told_of(opcode: int, stage: str, url: str) -> None:
    """A change of such a key is not seen by whoever goes back."""
    with servers.redcouch(url) as bridge:
        say(bridge, b"set k 0 0 1\r\n1\r\n")
        if stage == "origin-first":
            go(url, stage)
        eventually(lambda: standing(url)["rollback_safe"])
        noop = frame(NOOP, opaque=0x11223344)
        said = b"\x81" + noop[1:]
        extras = bytes(8) if opcode == SET else b""
        say(bridge, frame(GET, LONG) + noop, said)
        assert standing(url)["rollback_safe"]
        say(bridge, frame(opcode, LONG, extras=extras) + noop, said)
        assert "cannot be told of" in standing(url)["because"]
        if (opcode, stage) == (SET, "redis-first"):
            failed = run("stage", stage, "-s", url)
            assert (failed.status, "cannot be told of a key" in failed.err) == (3, True), failed.err
            assert stats(bridge)["warm_barred"] == 0


COMMANDS = b"flush_all\r\nset injected 0 0 3\r\nyes"
"""What a memcached would do that took a value for requests."""


def put_strange(client: Any) -> list[bytes]:
    """What a native client may have put where items are, and no memcached can have."""
    strange: dict[bytes, dict[str, str | bytes]] = {
        b"x" * 251: {"v": COMMANDS.hex()},
        b"y" * 3000: {"r": COMMANDS},
        b"": {"v": "31"},
        b"broken": {"v": "zz"},
        b"nameless": {"v": "31", "c": "none"},
    }
    for key, fields in strange.items():
        client.hset(b"rc:" + key, mapping=fields)
    client.rpush("rc:list", "x")
    return [*strange, b"list"]


def all_items(nodes: list[Memcached]) -> set[bytes]:
    """The keys that the old memcacheds have."""
    dumps = [say(node, b"lru_crawler metadump hash\r\n", b"END\r\n") for node in nodes]
    lines = b"".join(dumps).splitlines()
    return {line.split()[0] for line in lines if line != b"END"}


def test_a_delayed_flush_on_the_way_back(url: str, nodes: list[Memcached]) -> None:
    """It empties the old memcacheds as well, which were not told when it was asked for."""
    with servers.redcouch(url) as bridge:
        go(url, "redis-only", "--force")
        assert say(bridge, b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
        assert say(bridge, b"flush_all 6\r\n") == b"OK\r\n"
        go(url, "redis-first")
        eventually(lambda: not all_items(nodes))
        eventually(lambda: say(bridge, b"get k\r\n", b"END\r\n") == b"END\r\n")
        assert say(bridge, b"get k\r\n", b"END\r\n") == b"END\r\n"


class Behind(BlockingNode):
    """A memcached whose clock is an hour behind, and what it is told of flushes."""

    def __init__(self) -> None:
        self.told: list[int] = []

    @property
    def now(self) -> float:
        return time.time() - 3600

    def flush(self, exptime: int = 0) -> None:
        self.told.append(exptime)


def test_a_delayed_flush_by_the_clock_of_the_old_memcached(
    url: str, redis: RedisServer | Cluster
) -> None:
    """It is due there at the same moment, not an hour later."""
    due, node = int(time.time()) + 5000, Behind()
    with (
        redis.client() as client,
        open_warm_storage(WarmLocation(read_storage(url), read_origin(url))) as opened,
    ):
        client.set(FLUSH_AT + b"rc:", due)
        opened.pass_flush_on([node])
        assert node.told == [pytest.approx(due - 3600, abs=600)]


def test_what_is_no_item(redis: RedisServer | Cluster, nodes: list[Memcached]) -> None:
    """On the way back it keeps nothing else out, is named, and is never told as requests."""
    url = warm(redis, nodes)
    with servers.redcouch(url) as bridge, redis.client() as client:
        go(url, "redis-only", "--force")
        for number in range(20):
            say(bridge, b"set k%d 0 0 3\r\nnew\r\n" % number)
        put_strange(client)
        done = eventually(
            lambda: run("stage", "redis-first", "-s", url), lambda said: said.status != 1
        )
        assert (done.status, done.err.count("\n")) == (0, 1), done
        assert done.err.startswith("redcouch: left in Redis alone, as no memcached can have such")
        assert done.err.endswith(f": 4 of them, as , list, {'x' * 60}\n")
        assert standing(url)["rollback_safe"]
        assert all_items(nodes) == {b"key=k%d" % number for number in range(20)}
        go(url, "origin-first")
        go(url, "redis-first")  # which compares
        assert client.exists(b"rc:" + b"x" * 251)
        bridge.check_log()


def test_long_native_strings(nodes: list[Memcached]) -> None:
    """The same of plain strings."""
    with servers.redis_server() as redis:
        url = warm(redis, nodes, f"layout=string&prefix=app:&{PATIENT}")
        with servers.redcouch(url) as bridge, redis.client() as client:
            go(url, "redis-only", "--force")
            say(bridge, b"set k 0 0 3\r\nnew\r\n")
            client.set("app:" + "x" * 251, COMMANDS)
            client.rpush("app:list", "x")
            assert go(url, "redis-first")["rollback_safe"]
            assert all_items(nodes) == {b"key=k"}
            bridge.check_log()


def test_native_strings_without_a_prefix(nodes: list[Memcached]) -> None:
    """What was in the database before stays there, and a refused flush_all empties neither side."""
    with servers.redis_server() as redis, redis.client() as client:
        client.mset({"native": "x", "same": "x"})
        url = warm(redis, nodes, f"layout=string&{PATIENT}")
        go(url, "origin-first")
        with servers.redcouch(url) as bridge:
            for key in (b"same", b"gone"):
                say(bridge, b"set %b 0 0 3\r\nold\r\n" % key)
            assert say(bridge, b"flush_all\r\n").startswith(b"SERVER_ERROR flush_all")
            say(owner_of(nodes, b"gone"), b"delete gone\r\n")
            go(url, "redis-first")
            assert all_items(nodes) == {b"key=same"}
            assert client.mget("native", "same", "gone") == [b"x", b"old", None]


def test_pending_and_no_item(redis: RedisServer | Cluster, nodes: list[Memcached]) -> None:
    """What cannot be repaired does not stay pending, whoever has noted it; it is removed there."""
    url = warm(redis, nodes)
    with servers.redcouch(url) as bridge, redis.client() as client:
        for key in (b"broken", b"nameless", b"list"):
            say(bridge, b"set %b 0 0 3\r\nold\r\n" % key)
        eventually(lambda: standing(url)["rollback_safe"])
        client.delete("rc:list")
        pending = put_strange(client)
        with open_warm_storage(WarmLocation(read_storage(url), read_origin(url))) as opened:
            opened.pend([key for key in pending if key])
            eventually(lambda: opened.pending == 0)
        assert standing(url)["rollback_safe"]
        assert all_items(nodes) == set()
        bridge.check_log()


def test_no_old_memcacheds(redis: RedisServer | Cluster) -> None:
    """Without them nothing is known of a way back, and no stage is changed."""
    assert "no old memcached can be asked" in standing(redis.url)["because"]
    assert "no old memcached can be asked" in change(redis.url, "redis-first")["reason"]


_CLUSTER = needs("redis 7.0")

also_with_cache = pytest.mark.parametrize(
    ("redis", "cache"),
    [
        ("redis", ""),
        pytest.param("cluster", "", marks=_CLUSTER),
        pytest.param("cluster", "&cache=1m", marks=_CLUSTER),
    ],
    indirect=["redis"],
)
"""Over links that speak another version of Redis's protocol, too."""


@also_with_cache
def test_started_again(redis: RedisServer | Cluster, nodes: list[Memcached], cache: str) -> None:
    """
    An old memcached that has been started again has lost what it had: going back is not safe until
    Redis's own has been put there, whoever of the RedCouches was there when it happened.
    """
    url = warm(redis, nodes, PATIENT + cache)
    keys = [b"k%d" % number for number in range(50)]
    with servers.redcouch(url) as bridge:
        for key in keys:
            say(bridge, b"set %b 7 0 3\r\nold\r\n" % key)
        eventually(lambda: standing(url)["rollback_safe"])
        lost = sum(owner_of(nodes, key) is nodes[0] for key in keys)
        assert 0 < lost < len(keys)
        nodes[0].kill()
        assert "1 of the old memcacheds does not answer" in standing(url)["because"]
        nodes[0].start()
        eventually(lambda: "started again" in standing(url)["because"])
        eventually(lambda: "Going back is not safe" in bridge.log)
        eventually(lambda: stats(bridge)["warm_lacking"] == 1)
        assert "started again" in change(url, "origin-first")["reason"]
        assert go(url, "redis-first")["rollback_safe"]
        eventually(lambda: stats(bridge)["warm_lacking"] == 0)
        for key in keys:
            assert say(owner_of(nodes, key), b"get %b\r\n" % key, b"END\r\n").split()[4] == b"old"
    nodes[1].kill()
    nodes[1].start()
    assert "started again" in standing(url)["because"]
    with servers.redcouch(url) as bridge:
        assert go(url, "redis-first")["rollback_safe"]
        go(url, "origin-first")
        nodes[0].kill()
        nodes[0].start()
        eventually(lambda: standing(url)["rollback_safe"])


def test_lost_note_of_it(url: str, redis: RedisServer | Cluster, nodes: list[Memcached]) -> None:
    """Going back is not safe either where Redis loses the note of that, or what it is known by."""
    state = FillKeys.of(Layout(cluster=isinstance(redis, Cluster))).state
    with servers.redcouch(url) as bridge, redis.client() as client:

        def is_noted_anew() -> bool:
            client.delete(state)
            eventually(lambda: client.hexists(state, "stage"))
            return bool(client.hexists(state, "returning"))

        eventually(lambda: standing(url)["rollback_safe"])
        nodes[0].kill()
        eventually(lambda: stats(bridge)["warm_old_away"] == 1)
        eventually(is_noted_anew)
        nodes[0].start()
        eventually(lambda: "started again" in standing(url)["because"])
        eventually(lambda: stats(bridge)["warm_old_away"] == 0)
        eventually(lambda: stats(bridge)["warm_lacking"] == 1)
        assert is_noted_anew()
        assert "started again" in standing(url)["because"]
        assert go(url, "redis-first")["rollback_safe"]


@also_with_cache
def test_killed_in_the_middle(
    redis: RedisServer | Cluster, nodes: list[Memcached], cache: str
) -> None:
    """What a RedCouch was changing when it was killed is repaired by another one."""
    url = warm(redis, nodes, f"from-timeout=60{cache}")
    with servers.redcouch(url) as other, servers.redcouch(url) as bridge:
        say(bridge, b"set k 0 0 3\r\nold\r\n")
        eventually(lambda: standing(url)["rollback_safe"])
        for node in nodes:
            servers.hold(node.pid)
        try:
            with (
                socket.create_connection((servers.LOOPBACK, bridge.port)) as wire,
                redis.client() as client,
            ):
                wire.sendall(b"set k 0 0 3\r\nnew\r\n")
                eventually(lambda: client.hget("rc:k", "v") == b"new".hex().encode())
                bridge.kill()
        finally:
            for node in nodes:
                os.kill(node.pid, signal.SIGCONT)
        said = standing(url)
        assert said["because"].startswith("1 change may be on the way to them still")
        eventually(lambda: standing(url)["rollback_safe"])
        assert say(owner_of(nodes, b"k"), b"get k\r\n", b"END\r\n").split()[4] == b"new"
        assert say(other, b"get k\r\n", b"END\r\n").split()[4] == b"new"
        bridge.start()


def test_late_after_the_change(
    url: str, nodes: list[Memcached], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A RedCouch that stands still when the stage has been changed is named; that it has been changed
    is said, and the old memcacheds, empty by now, do not pass for whole.
    """
    with servers.redcouch(url) as bridge:
        say(bridge, b"set k 7 0 3\r\nnew\r\n")
        go(url, "redis-only", "--force")
        commit = WarmStorage.commit

        def commit_and_stand_still(*arguments: Any) -> None:
            commit(*arguments)
            servers.hold(bridge.pid)

        with monkeypatch.context() as patch:
            patch.setattr(WarmStorage, "commit", commit_and_stand_still)
            words = ("stage", "redis-first", "-s", url, "--force")
            done = eventually(lambda: run(*words), lambda said: said.status != 1)
        try:
            assert done.status == 3, done
            assert "the stage is redis-first now, but no acknowledgement from " in done.err
            assert f":{bridge.pid} " in done.err
            assert standing(url)["stage"] == "redis-first"
            assert "has been started again" in standing(url)["because"]
        finally:
            os.kill(bridge.pid, signal.SIGCONT)
        assert "has been started again" in change(url, "origin-first")["reason"]
        assert go(url, "redis-first")["rollback_safe"]
        assert say(owner_of(nodes, b"k"), b"get k\r\n", b"END\r\n").split()[4] == b"new"


@pytest.mark.parametrize(
    ("stages", "earlier"),
    [
        (("origin-first",), "redis-first"),
        (("redis-only",), "redis-first"),
        (("origin-first", "redis-first"), "origin-first"),
    ],
)
def test_redis_is_set_back(
    url: str, redis: RedisServer | Cluster, stages: Sequence[str], earlier: str
) -> None:
    """
    Where Redis has forgotten a stage, as when it is started again from an older copy, that counts
    still; redis-first does not, since who is followed before it is right then, too.
    """
    state = FillKeys.of(Layout(cluster=isinstance(redis, Cluster))).state
    with servers.redcouch(url) as bridge, redis.client() as client:
        say(bridge, b"set k 0 0 1\r\nx\r\n")
        for stage in stages:
            eventually(lambda: client.hget(state, "stage"))
            version = client.hget(state, "version") or b"0"
            go(url, stage, "--force")
        client.hset(state, mapping={"stage": earlier, "version": version})
        counts = earlier if stages[-1] == "redis-first" else stages[-1]
        eventually(lambda: standing(url)["stage"] == counts)
        number = ["origin-first", "redis-first", "redis-only"].index(counts) + 1
        eventually(lambda: stats(bridge)["warm_stage"] == number)
        assert standing(url)["stage"] == counts


def test_what_an_older_copy_says_of_repairs(url: str, redis: RedisServer | Cluster) -> None:
    """Where the old memcacheds are right by now, it is no matter what they had missed then."""
    cluster = isinstance(redis, Cluster)
    state = FillKeys.of(Layout(cluster=cluster)).state
    with servers.redcouch(url) as bridge, redis.client() as client:
        say(bridge, b"set k 0 0 1\r\nx\r\n")
        eventually(lambda: standing(url)["rollback_safe"])
        go(url, "origin-first")
        eventually(lambda: standing(url)["rollback_safe"])
        with open_warm_storage(WarmLocation(read_storage(url), read_origin(url))) as opened:
            opened.pend([b"k"])
            opened.note(returning=1)
        client.hset(state, mapping={"stage": "redis-first", "version": 0})
        eventually(lambda: standing(url)["stage"] == "origin-first")
        eventually(lambda: standing(url)["rollback_safe"])


def test_redis_is_set_back_while_the_stage_changes(
    url: str, redis: RedisServer | Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a failover to a replica that has not heard of it: then it is not said to be so."""
    state = FillKeys.of(Layout(cluster=isinstance(redis, Cluster))).state
    go(url, "origin-first")
    with redis.client() as client, monkeypatch.context() as patch:
        commit = WarmStorage.commit

        def commit_and_lose(*arguments: Any) -> None:
            before = client.hgetall(state)
            commit(*arguments)
            client.hset(state, mapping=before)

        patch.setattr(WarmStorage, "commit", commit_and_lose)
        said = run("stage", "redis-first", "-s", url)
        assert (said.status, said.out) == (3, "")
        assert "the stage is origin-first: Redis has been set back" in said.err


def test_one_whose_record_is_lost(
    url: str, redis: RedisServer | Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Redis evicts it, or has no room for it for a while: it is waited for, too."""
    members = FillKeys.of(Layout(cluster=isinstance(redis, Cluster))).members
    announce, commit = WarmStorage._announce, WarmStorage.commit
    with servers.redcouch(url), redis.client() as client, monkeypatch.context() as patch:
        eventually(lambda: client.hlen(members))

        def announce_and_lose(*arguments: Any) -> int:
            version = announce(*arguments)
            if not arguments[2]:
                client.delete(members)
            return version

        held = []

        def look_and_commit(opened: WarmStorage, *rest: Any) -> None:
            held.append([one.acknowledged[-1:] for one in opened.members()])
            commit(opened, *rest)

        patch.setattr(WarmStorage, "_announce", announce_and_lose)
        patch.setattr(WarmStorage, "commit", look_and_commit)
        go(url, "origin-first")
        assert held[-1] == ["="]


@pytest.mark.parametrize(
    ("when", "counts"), [("hold", "redis-first"), ("await_following", "origin-first")]
)
def test_ctrl_c(url: str, when: str, counts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ends it is told which stage counts."""
    with servers.redcouch(url), monkeypatch.context() as patch:
        eventually(lambda: len(standing(url)["redcouches"]) == 1)

        def interrupt(*_: Any) -> None:
            raise Interrupt(signal.SIGINT)

        patch.setattr(WarmStorage, when, interrupt)
        said = eventually(lambda: run("stage", "origin-first", "-s", url), lambda it: it.status > 1)
        assert said == (130, "", f"redcouch: interrupted: the stage is {counts}\n")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal(how: signal.Signals, url: str, redis: RedisServer | Cluster) -> None:
    """Nobody waits any longer for a change that is ended so; the status says by what."""
    keys = FillKeys.of(read_storage(url).layout)
    about = json.dumps({"origin": origin_digest(read_origin(url).parameters)})
    with redis.client() as client:

        def announced() -> bool:
            """Whether it waits by now for a RedCouch that does not acknowledge."""
            client.hset(keys.members, "silent", f"{time.time() * 1000:.0f} 0 {about}")
            return bool(client.hget(keys.state, "next"))

        assert not announced()
        process = start("stage", "origin-first", "-s", url, "--timeout", "600")
        eventually(announced)
        process.send_signal(how)
        said = (128 + how, "", "redcouch: interrupted: the stage is redis-first\n")
        assert finish(process) == said
        assert not announced()


@pytest.mark.parametrize("command", ["set", "unlink", "hexists"])
def test_a_command_that_is_forbidden(command: str, nodes: list[Memcached]) -> None:
    """
    A change that Redis refuses in its last step, or where it keeps what is out of date, leaves the
    stage as it was.
    """
    with servers.redis_server() as redis, redis.client() as client:
        assert run("stage", "origin-first", "-s", warm(redis, nodes)).status == 0
        client.set(CAS_COUNTER, 1)
        client.hset("rc:k", "v", "61")
        client.execute_command("ACL", "SETUSER", "default", f"-{command}")
        said = run("stage", "redis-first", "-s", warm(redis, nodes))
        assert (said.status, said.out) == (3, "")
        state = FillKeys.of(read_storage(redis.url).layout).state
        assert client.hget(state, "stage") == b"origin-first"


def test_one_that_is_started_again_meanwhile(
    url: str, nodes: list[Memcached], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old memcached that loses its items while the stage changes does not become right."""
    with servers.redcouch(url) as bridge, monkeypatch.context() as patch:
        say(bridge, b"set k 0 0 1\r\nv\r\n", b"STORED\r\n")
        eventually(lambda: standing(url)["rollback_safe"])
        owner, hold = owner_of(nodes, b"k"), WarmStorage.hold

        def start_again(opened: WarmStorage, stage: Any) -> float:
            owner.kill()
            owner.start()
            return hold(opened, stage)

        def attempt() -> Ended:
            go(url, "redis-first")  # what has been lost before is there again
            return run("stage", "origin-first", "-s", url)

        patch.setattr(WarmStorage, "hold", start_again)
        said = eventually(attempt, lambda it: it.status != 1)
        assert (said.status, said.out) == (3, "")
        assert "has been started again meanwhile" in said.err
