"""Going back to the old memcacheds at any moment at which it is said to be safe."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.backends.origin.conversation import stats
from tests.cli.running import run
from tests.support import servers
from tests.support.polling import eventually
from tests.support.requirements import needs
from tests.support.servers import Memcached, RedCouch

pytestmark = pytest.mark.once

NODES = 3
CLIENTS = 6
TRIES = 8

RATE = 60.0
"""Pieces of work of each client in a second."""


@contextmanager
def fleet() -> Iterator[tuple[str, list[Memcached], list[RedCouch]]]:
    """Some memcacheds, and two RedCouches before them in the stage redis-first."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(servers.memcached()) for _ in range(NODES)]
        redis = stack.enter_context(servers.redis_server())
        sources = "&".join(f"from={node.url}" for node in nodes)
        url = f"warm:{redis.url}?timeout=10&{sources}&ring=modula&hash=crc&from-timeout=0.3"
        yield url, nodes, [stack.enter_context(servers.redcouch(url)) for _ in range(2)]


def at(*running: Memcached | RedCouch) -> list[tuple[str, int]]:
    return [(servers.LOOPBACK, one.port) for one in running]


@needs("memcached", "pylibmc")
@pytest.mark.parametrize("seed", [1, 2])
def test_at_any_moment(seed: int) -> None:
    """
    Clients work through two RedCouches, and old memcacheds hang now and then. Whenever it is said
    to be safe, what is on the old memcacheds is what it has to be; in the end, clients go there.
    """
    from tests.migration.fleet_clients import Pymemcache
    from tests.migration.fleet_model import Model, Worker, at_rest

    chance = random.Random(seed)
    model, workers = Model(), list[Worker]()
    with fleet() as (url, nodes, bridges), ExitStack() as closing:

        def client() -> Pymemcache:
            made = Pymemcache()
            closing.callback(made.close)
            return made

        for number in range(CLIENTS):
            mine = client()
            mine.use(at(bridges[number % 2]))
            if not number:
                model.begin(mine)
            workers.append(Worker(number, CLIENTS, mine, model, RATE))
        behind = client()
        behind.use(at(*nodes))

        def go_on() -> None:
            goal = model.phase.operations + chance.randrange(1, 150)
            eventually(lambda: model.phase.operations >= goal)

        def missed_something() -> bool:
            return stats(bridges[0])["warm_barred"] > 0

        said: list[bool] = []
        for worker in workers:
            worker.start()
        try:
            while said.count(True) < TRIES:
                if len(said) % 2:
                    hung = chance.choice(nodes)
                    servers.hold(hung.pid)
                    eventually(missed_something)
                    go_on()
                    os.kill(hung.pid, signal.SIGCONT)
                go_on()
                with at_rest(workers):
                    said.append(run("stage", "-s", url, "--json").json["rollback_safe"])
                    if said[-1]:
                        model.look(behind)
                    for worker in workers if said.count(True) == TRIES else ():
                        worker.client.use(at(*nodes))
                assert len(said) < 10 * TRIES, said
            go_on()
        finally:
            for worker in workers:
                worker.stop()
        model.look(behind)
        assert not model.phase.faults, model.phase.examples
