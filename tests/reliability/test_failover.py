"""The master dies or is replaced under load; the sentinels make the replica the master."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.reliability.clients import (
    BinaryClient,
    Client,
    MetaClient,
    RefusedError,
    Survivor,
    at_work,
    until_stored,
)
from tests.reliability.historians import historians, judge, wait_for_more
from tests.support import servers
from tests.support.polling import eventually
from tests.support.servers import LOOPBACK, RedisServer, Sentinel
from tests.support.wire import Address

pytestmark = pytest.mark.once


@contextmanager
def watched(master: RedisServer) -> Iterator[tuple[str, list[Sentinel]]]:
    """The URL of a master that three sentinels watch, with its replica; and they."""
    with ExitStack() as running:
        sentinels = [
            running.enter_context(servers.sentinel(master.port, quorum=2)) for _ in range(3)
        ]
        complete = {"replicas": 1, "sentinels": 2, "port": master.port}
        for sentinel in sentinels:
            eventually(lambda sentinel=sentinel: sentinel.knows() == complete)  # type: ignore[misc]
        hosts = ",".join(f"{LOOPBACK}:{sentinel.port}" for sentinel in sentinels)
        yield f"redis+sentinel://{hosts}/main?timeout=10", sentinels


def test_failover() -> None:
    """Each request has its own answer throughout; what the new master has acknowledged is there."""
    with (
        servers.redis_server("--repl-diskless-sync-delay", "0") as master,
        servers.redis_server() as replica,
        replica.client() as native,
    ):
        native.replicaof(LOOPBACK, master.port)
        eventually(lambda: native.info("replication")["master_link_status"] == "up")
        with (
            watched(master) as (url, sentinels),
            servers.redcouch(url, "--workers", "2") as server,
        ):
            kinds = (Client, Client, MetaClient, BinaryClient)
            loads = [
                Survivor(kind(server.address, f"survivor-{number}"))
                for number, kind in enumerate(kinds)
            ]
            with at_work(loads):
                until_stored(loads, 20)
                for load in loads:
                    load.strict = False
                take_for_dead_after(sentinels, 300)
                master.kill()
                eventually(lambda: native.info("replication")["role"] == "master")
                take_for_dead_after(sentinels, 60_000)
                eventually(lambda: all(one.names(replica.port) for one in sentinels))
                until_stored(loads, 20)  # each key twice at least: what is there is known again
                for load in loads:
                    load.strict = True
                until_stored(loads, 20)
            for load in loads:
                assert (load.wrong, load.failed, load.reconnected) == ([], [], 0)
                for key in load.acknowledged:
                    field = native.hget(f"rc:{key}", "v")
                    assert isinstance(field, bytes)
                    load.check(key, bytes.fromhex(field.decode()))


def take_for_dead_after(sentinels: Sequence[Sentinel], milliseconds: int) -> None:
    """How long a master may be silent: for long, but where one is to be replaced."""
    for sentinel in sentinels:
        sentinel.take_for_dead_after(milliseconds)


@contextmanager
def master_and_replica() -> Iterator[tuple[RedisServer, RedisServer, str, list[Sentinel]]]:
    """A master, its replica, their URL, and the three sentinels behind it."""
    with (
        servers.redis_server("--repl-diskless-sync-delay", "0") as master,
        servers.redis_server("--repl-diskless-sync-delay", "0") as replica,
        replica.client() as native,
    ):
        native.replicaof(LOOPBACK, master.port)
        eventually(lambda: native.info("replication")["master_link_status"] == "up")
        with watched(master) as (url, sentinels):
            yield master, replica, url, sentinels


def role(server: RedisServer) -> str:
    with server.client() as native:
        said: bytes = native.role()[0]
        return said.decode()


@pytest.mark.parametrize("services", [1, 2])
def test_planned_failover(services: int) -> None:
    """
    C{SENTINEL FAILOVER} loses nothing that was acknowledged: one order of all
    that happened before, meanwhile and afterwards explains every answer, of one
    service and of two. The old master, which is one for seconds more, is not written to.
    """
    for _ in range(TRIES):
        if fails_over_well(services):
            return
    pytest.fail(f"Redis itself lost something {TRIES} times")


TRIES = 5
"""Sentinels do not wait for a replica that stands still, and is behind: Redis loses that."""

UNDECIDED = ("wait_start", "select_slave", "send_slaveof_noone")
"""States of a failover in which the replica has not been told to be the master."""


def fails_over_well(services: int) -> bool:
    """Have the sentinels do it; whether Redis has lost nothing, and then, neither may RedCouch."""
    with master_and_replica() as (master, replica, url, sentinels), ExitStack() as running:
        bridges = [running.enter_context(servers.redcouch(url)) for _ in range(services)]
        with historians([bridge.address for bridge in bridges]) as clients:
            wait_for_more(clients, 40)
            leader: Any = running.enter_context(sentinels[0].client())
            leader.execute_command("SENTINEL", "FAILOVER", "main")
            offsets = [0]

            def is_decided() -> bool:
                offset = told(master)["master_repl_offset"]
                if leader.sentinel_master("main").get("failover-state") in UNDECIDED:
                    offsets.append(offset)
                    return False
                return True

            eventually(is_decided)
            eventually(lambda: role(replica) == "master")
            there = told(master)
            assert there["role"] == "master"
            wait_for_more(clients, 40)
            then = told(master)
        if told(replica)["second_repl_offset"] <= offsets[-1]:
            return False  # it has not had what the master had before anybody was to be promoted
        judge(clients)
        changes = "rdb_changes_since_last_save"
        assert then["role"] != "master" or then[changes] == there[changes]
        with replica.client() as native:
            assert native.exists("redcouch:sys:cas_counter")
        return True


def told(server: RedisServer) -> dict[str, Any]:
    """What a Redis says of itself."""
    with server.client() as native:
        said: dict[str, Any] = native.info()
    return said


@pytest.mark.parametrize("services", [1, 2])
@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP])
def test_unplanned_failover(harm: signal.Signals, services: int) -> None:
    """
    When the master dies or hangs, the service loses what Redis loses and no more: each
    count goes on from what the replica had when it was cut off. A master that wakes up again
    is not gone back to.
    """
    with master_and_replica() as (master, replica, url, sentinels), ExitStack() as running:
        bridges = [running.enter_context(servers.redcouch(url)) for _ in range(services)]
        counts = [Count(bridge.address, f"count-{place}") for place, bridge in enumerate(bridges)]
        for count in counts:
            assert count.client.set(count.name, "0") == b"STORED\r\n"
            for _ in range(50):
                assert count.up()
        with replica.client() as native:
            take_for_dead_after(sentinels, 300)
            os.kill(master.pid, harm)
            eventually(lambda: native.info("replication")["role"] == "master")
            take_for_dead_after(sentinels, 60_000)
            had = [
                int(bytes.fromhex(native.hget(f"rc:{one.name}", "v").decode())) for one in counts
            ]
        for count, there in zip(counts, had, strict=True):
            eventually(count.up)
            assert count.last == there + 1
            count.begun_at, count.acknowledged = count.last, 0
        if harm is signal.SIGSTOP:
            os.kill(master.pid, signal.SIGCONT)
            eventually(lambda: all(count.up() for count in counts) and role(master) == "slave")
            for count in counts:
                assert count.last == count.begun_at + count.acknowledged
        for count in counts:
            count.client.close()


class Count:
    """
    One who counts up.

    @ivar last: the number that was acknowledged last.
    @ivar acknowledged: how many there were since it was at C{begun_at}.
    """

    def __init__(self, address: Address, name: str) -> None:
        self.client = Client(address, name)
        self.name = name
        self.last = self.begun_at = self.acknowledged = 0

    def up(self) -> bool:
        """Count once; whether that was acknowledged."""
        said = self.client.ask(f"incr {self.name} 1\r\n".encode(), lambda all: all.endswith(b"\n"))
        if said.startswith(b"SERVER_ERROR"):
            return False
        self.last = int(said)
        self.acknowledged += 1
        return True


def test_too_few_replicas() -> None:
    """With C{min-replicas-to-write}, a master alone refuses writes, changes nothing, and reads."""
    with (
        servers.redis_server() as master,
        servers.redcouch(master.url) as server,
        master.client() as native,
    ):
        kinds = (Client, MetaClient, BinaryClient)
        clients = [kind(server.address, kind.__name__) for kind in kinds]
        for client in clients:
            client.store(client.name, "before")
        native.config_set("min-replicas-to-write", 1)
        for client in clients:
            for value in ("after", "after" * 2000):  # which are stored in two ways
                with pytest.raises(RefusedError, match="storage answered NOREPLICAS"):
                    client.store(client.name, value)
            assert client.get(client.name) == b"before"
        native.config_set("min-replicas-to-write", 0)
        for client in clients:
            client.store(client.name, "after")
            assert client.get(client.name) == b"after"
            client.close()
