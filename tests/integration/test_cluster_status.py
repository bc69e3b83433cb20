"""What an operator of a cluster sees: status page, metrics and C{stats}."""

from __future__ import annotations

import os
import signal

import pytest

from redcouch.backends.redis.cluster.slots import slot_of
from tests.http.pages import fetch, metrics
from tests.support import servers
from tests.support.cluster import QUICKLY, redis_cluster
from tests.support.polling import eventually
from tests.support.requirements import needs
from tests.support.wire import ask
from tests.support.workers import all_serve, worker_pids

pytestmark = pytest.mark.once


@needs("redis 7.0")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_dead_node_is_seen(workers: str) -> None:
    """
    Each master with its slots; which one is down, and why; what was sent elsewhere. What it had
    counted stays counted, whichever worker is asked.
    """
    with (
        redis_cluster(version="7.0", replicas=False, node_timeout=QUICKLY) as cluster,
        servers.redcouch(cluster.url, "--http", "0", "--workers", workers) as server,
    ):
        nodes = fetch(server, "/api/status").json()["storage"]["facts"]["nodes"]
        assert sorted(node["address"] for node in nodes) == sorted(
            f"127.0.0.1:{node.port}" for node in cluster.masters
        )
        assert {node["slots"] for node in nodes} == {5461, 5462}
        assert all("trouble" not in node for node in nodes)
        assert metrics(server)["redcouch_storage_reconnections_total"] == 0
        slot = slot_of(b"rc:k")
        target = next(node for node in cluster.masters if node is not cluster.serving(slot))
        with cluster.moving(slot, target):
            ask(server.address, b"set k 0 0 1\r\nx\r\n", b"STORED\r\n")
        assert metrics(server)["redcouch_cluster_redirections_total"] > 0
        assert b"STAT cluster_redirections " in ask(server.address, b"stats\r\n", b"END\r\n")
        dead = cluster.serving(slot_of(b"over"))
        with cluster.client() as native:
            native.set("over", "x", px=1)
        eventually(lambda: metrics(server).get("redcouch_storage_expired_total", 0) >= 1)
        dead.kill()
        eventually(lambda: fetch(server, "/readyz").status == 503)
        eventually(lambda: metrics(server).get("redcouch_cluster_masters_down") == 1)
        eventually(lambda: metrics(server)["redcouch_storage_expired_total"] >= 1)
        if workers == "2":  # whom the dead one has told nothing
            os.kill(worker_pids(server.pid)[1], signal.SIGKILL)
            restarts = 'redcouch_worker_restarts_total{worker="1"}'
            eventually(lambda: metrics(server)[restarts] == 1)
            name = "redcouch_storage_expired_total"
            assert eventually(lambda: metrics(server).get(name, -1.0), lambda told: told >= 0) >= 1
            eventually(lambda: all_serve(server.address))
            os.kill(server.pid, signal.SIGUSR2)  # which does not wait for the dead one
            eventually(lambda: "All workers are new" in server.log)
        status = fetch(server, "/api/status").json()
        down = [node for node in status["storage"]["facts"]["nodes"] if "trouble" in node]
        assert [node["address"] for node in down] == [f"127.0.0.1:{dead.port}"]
        assert f"127.0.0.1:{dead.port}" in status["reason"]
