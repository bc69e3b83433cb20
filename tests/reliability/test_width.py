"""Many workers: what each costs, how clients are shared out, and the end of their fork server."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.polling import eventually
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import Wire
from tests.support.workers import (
    all_serve,
    clients_by_worker,
    fork_server_pid,
    request,
    runs,
    worker_pids,
)

FURTHER_WORKER = 25.0
"""MiB that each worker beyond the first may cost."""

REQUESTS = 4_000
"""For each worker, about."""


def proportional(server: RedCouch) -> float:
    """MiB of all processes, where what several share counts once."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in servers.family(server.pid)]
    return sum(int(rollup.split("\nPss:")[1].split()[0]) for rollup in rollups) / 1024


def work(server: RedCouch, workers: int) -> None:
    """Have every worker answer requests of several kinds."""
    value = b"x" * 500
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address)) for _ in range(4 * workers)]
        for number in range(REQUESTS // 40):
            for wire in wires:
                line = b"set k%d 0 0 %d\r\n%b\r\nget k%d k%d\r\n" % (number, 500, value, number, 1)
                request(wire, line * 4 + b"mg k v\r\nmn\r\n", b"MN\r\n")


def memory(storage: RedisServer, workers: int) -> tuple[float, float]:
    """MiB of a service of so many workers, idle and after some work."""
    with servers.redcouch(storage.url, "--workers", str(workers)) as server:
        eventually(lambda: all_serve(server.address, workers))
        idle = proportional(server)
        work(server, workers)
        return idle, proportional(server)


def test_memory_of_workers(any_redis: RedisServer) -> None:
    """A worker beyond the first costs little, whether it has worked or not."""
    idle, worked = zip(memory(any_redis, 2), memory(any_redis, 4), strict=True)
    further = [(four - two) / 2 for two, four in (idle, worked)]
    print(f"MiB of 2 and 4 workers idle {idle}, worked {worked}; each further {further}")
    assert max(further) <= FURTHER_WORKER


@pytest.mark.parametrize("workers", [4, 8])
def test_spread(any_redis: RedisServer, workers: int) -> None:
    """Each worker has its share of the clients, within a fifth."""
    share = 20

    def even() -> bool:
        with ExitStack() as stack:
            for _ in range(share * workers):
                request(stack.enter_context(Wire(server.address)), b"mn\r\n", b"\r\n")
            found = list(clients_by_worker(server.address, workers).values())
            counts = [found.count(number) for number in range(1, workers + 1)]
        return 0.8 * share <= min(counts) and max(counts) <= 1.2 * share

    with servers.redcouch(any_redis.url, "--workers", str(workers)) as server:
        eventually(even)


def contains(server: RedCouch, number: int) -> bool:
    return number in worker_pids(server.pid)


def test_fork_server_killed(any_redis: RedisServer) -> None:
    """Its workers serve on; the next worker brings another fork server, from which more follow."""
    with servers.redcouch(any_redis.url, "--workers", "2") as server:
        eventually(lambda: all_serve(server.address))
        before, first = worker_pids(server.pid), fork_server_pid(server.pid)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: f"fork server (process {first}) was ended by SIGKILL" in server.log)
        assert all(runs(pid) for pid in before.values())
        eventually(lambda: all_serve(server.address))
        for number, pid in before.items():
            os.kill(pid, signal.SIGKILL)
            eventually(partial(contains, server, number))
            eventually(lambda: all_serve(server.address))
            assert f"Worker {number} (process {pid}) ended" in server.log
        assert fork_server_pid(server.pid) not in (0, first)
        again = worker_pids(server.pid)[2]
        os.kill(again, signal.SIGKILL)
        eventually(lambda: f"Worker 2 (process {again}) was ended by SIGKILL" in server.log)
        eventually(lambda: all_serve(server.address))
    assert not any(runs(pid) for pid in (*before.values(), first))


def test_fork_server_killed_at_the_start(any_redis: RedisServer) -> None:
    """Before it has forked anything: another one does."""
    with servers.redcouch(any_redis.url, "--workers", "2", ready=False) as server:
        first = eventually(lambda: fork_server_pid(server.pid))
        os.kill(first, signal.SIGKILL)
        eventually(lambda: all_serve(server.address))


def test_workers_without_their_fork_server_end(any_redis: RedisServer) -> None:
    """A stop waits for workers that nobody reports on, and for those it has to kill."""
    with servers.redcouch(any_redis.url, "--workers", "2", "--drain-timeout", "0.1") as server:
        eventually(lambda: all_serve(server.address))
        pids = worker_pids(server.pid)
        fork_server = fork_server_pid(server.pid)
        servers.hold(fork_server)
        servers.hold(pids[1])
        os.kill(server.pid, signal.SIGTERM)
        eventually(lambda: not runs(server.pid))
        os.kill(fork_server, signal.SIGCONT)
        eventually(lambda: not any(runs(pid) for pid in (fork_server, *pids.values())))
        assert "Worker 1 does not end: killing it" in server.log
