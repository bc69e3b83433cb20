"""
A whole fleet moves: C{python -m tests.migration.fleet --seconds 600 --rate 1000}.

Four memcacheds, two RedCouches (one of them with two workers) on one Redis, and clients of four
libraries that work all the time, first on the memcacheds themselves. They change over to
RedCouch one after the other, in 20 seconds; the stages go forth to redis-only and back; the
clients go back to the memcacheds, one after the other; and all that again until the time is over.
Every answer is checked. What was seen is printed as Markdown; the exit status is 1 if anything was
wrong. The first part, before RedCouch has any client, is the control: what is seen there is the
libraries' own, is shown, and does not count.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from redcouch.backends.redis.cluster.slots import SLOTS, slot_of
from tests.cli.running import run
from tests.migration.fleet_clients import LIBRARIES, FleetClient, Servers
from tests.migration.fleet_model import FAULTS, Model, Phase, Worker
from tests.support import servers
from tests.support.cluster import Cluster, redis_cluster
from tests.support.polling import eventually
from tests.support.servers import RedisServer

NODES = 4
CLIENTS_PER_LIBRARY = 2

CONTROL = "on the memcacheds"
"""The name of the part in which nobody uses RedCouch."""

ROLLING = 20.0
"""Seconds in which all clients change over."""


@dataclass
class Trial:
    """
    A trial that runs.

    @ivar phases: what was seen so far.
    """

    url: str
    nodes: Servers
    bridges: Sequence[Servers]
    workers: Sequence[Worker]
    model: Model
    phases: list[Phase]
    scale: float

    def phase(self, name: str) -> None:
        """From now on, it is this part."""
        self.model.phase = Phase(name)
        self.phases.append(self.model.phase)

    def last(self, seconds: float) -> None:
        """Let this part go on for a while."""
        time.sleep(seconds * self.scale)
        eventually(lambda: self.model.phase.operations)

    def roll(self, *targets: Servers) -> None:
        """All clients change over, one after the other, each to the next of these."""
        pause = ROLLING * self.scale / len(self.workers)
        for place, worker in enumerate(self.workers):
            worker.move(targets[place % len(targets)])
            time.sleep(pause)

    def stage(self, stage: str, *options: str) -> None:
        """Change the stage, as an operator does."""
        words = ("stage", stage, "-s", self.url, "--timeout", "30", *options)
        eventually(lambda: run(*words).status == 0)  # one process may be late to acknowledge

    def forth_and_back(self) -> None:
        """Once through all stages."""
        self.phase("clients change over (origin-first)")
        self.roll(*self.bridges)
        self.last(5)
        self.phase("redis-first")
        self.stage("redis-first")
        self.last(10)
        self.phase("sweep, then redis-only")
        assert run("sweep", "-s", self.url).status == 0
        self.stage("redis-only")
        self.last(10)
        self.phase("back to redis-first")
        self.stage("redis-first", "--force")
        self.last(5)
        self.phase("back to origin-first")
        self.stage("origin-first")
        self.last(5)
        self.phase("clients go back (origin-first)")
        self.roll(self.nodes)
        self.last(5)


@contextmanager
def moving_slots(cluster: Cluster) -> Iterator[None]:
    """Slots move from master to master all the time; every other time that of the stage itself."""
    over = threading.Event()
    moved: list[int] = []
    faults: list[Exception] = []

    def move() -> None:
        while not over.wait(0.05):
            slot = slot_of(b"{warm}") if len(moved) % 2 else random.randrange(SLOTS)
            source = cluster.serving(slot)
            target = random.choice([one for one in cluster.masters if one is not source])
            try:
                with cluster.moving(slot, target):
                    over.wait(0.3)
            except Exception as error:
                faults.append(error)
                return
            moved.append(slot)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        assert moved, "no slot has moved"
        assert not faults, faults
        print(f"{len(moved)} slots were moved", file=sys.stderr)


@contextmanager
def trial(
    rate: float, scale: float, on_cluster: bool = False, parameters: str = ""
) -> Iterator[Trial]:
    """
    Everything running, the clients on the memcacheds.

    @param rate: requests a second, about.
    @param scale: how long each part lasts, as a share of what it does.
    @param on_cluster: in place of one Redis, there are three masters whose slots move.
    @param parameters: more of them for the URL of the storage, as in C{cache=1m&}.
    """
    with ExitStack() as stack:
        members = [stack.enter_context(servers.memcached("-m", "128")) for _ in range(NODES)]
        redis: RedisServer | Cluster
        if on_cluster:
            redis = stack.enter_context(redis_cluster(replicas=False))
        else:
            redis = stack.enter_context(servers.redis_server())
        nodes = [(servers.LOOPBACK, member.port) for member in members]
        sources = "&".join(f"from=memcached://{host}:{port}" for host, port in nodes)
        url = (
            f"warm:{redis.url}?{parameters}timeout=10&{sources}&ring=modula&hash=crc&from-timeout=5"
        )
        assert run("stage", "origin-first", "-s", url).status == 0
        bridges = [
            stack.enter_context(servers.redcouch(url)),
            stack.enter_context(servers.redcouch(url, "--workers", "2")),
        ]
        model, workers = Model(), list[Worker]()
        names = [*LIBRARIES] * CLIENTS_PER_LIBRARY
        for number, name in enumerate(names):
            client: FleetClient = LIBRARIES[name]()
            stack.callback(client.close)
            client.use(nodes)
            if not number:
                model.begin(client)
            workers.append(Worker(number, len(names), client, model, rate / len(names)))
        targets = [[(servers.LOOPBACK, bridge.port)] for bridge in bridges]
        running = Trial(url, nodes, targets, workers, model, [], scale)
        running.phase(CONTROL)
        if isinstance(redis, Cluster):
            stack.enter_context(moving_slots(redis))
        for worker in workers:
            worker.start()
        try:
            yield running
        finally:
            for worker in workers:
                worker.stop()
        for bridge in bridges:
            bridge.check_log()


def go(
    seconds: float,
    rate: float,
    rounds: int = 0,
    on_cluster: bool = False,
    parameters: str = "",
) -> list[Phase]:
    """What was seen in as many rounds as there is time for; or in so many."""
    scale = min(1.0, seconds / 100)
    began = time.monotonic()
    with trial(rate, scale, on_cluster, parameters) as running:
        running.last(3)
        done = 0
        while not done or (done < rounds if rounds else time.monotonic() < began + seconds):
            running.forth_and_back()
            done += 1
        for worker in running.workers:
            worker.stop()
        running.phase("in the end")
        probe: FleetClient = LIBRARIES["pymemcache"]()
        probe.use(running.nodes)
        running.model.look(probe)
        probe.close()
    return running.phases


def wrong(phases: Sequence[Phase]) -> int:
    """How often something was wrong, the control left out."""
    return sum(phase.faults.total() for phase in phases if phase.name != CONTROL)


def table(phases: Sequence[Phase]) -> str:
    """All parts of the same name together, as Markdown."""
    lines = [
        f"| part | requests | {' | '.join(FAULTS)} | slowest, ms |",
        "|---|---|" + "---|" * len(FAULTS) + "---|",
    ]
    names = list(dict.fromkeys(phase.name for phase in phases))
    rows = [(name, [phase for phase in phases if phase.name == name]) for name in names]
    for name, some in [*rows, ("all", [*phases])]:
        faults = [sum(phase.faults[kind] for phase in some) for kind in FAULTS]
        requests = sum(phase.operations for phase in some)
        slowest = max(phase.slowest for phase in some) * 1000
        cells: list[Any] = [name, f"{requests:,}", *faults, f"{slowest:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.migration.fleet", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for how long")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument(
        "--cluster", action="store_true", help="to a cluster, whose slots move meanwhile"
    )
    parser.add_argument(
        "--cache", default="", metavar="SIZE", help="with so much memory for items in RedCouch"
    )
    options = parser.parse_args(arguments)
    parameters = f"cache={options.cache}&" if options.cache else ""
    phases = go(options.seconds, options.rate, on_cluster=options.cluster, parameters=parameters)
    print(table(phases))
    examples = [one for phase in phases for one in phase.examples]
    for one in examples[:20]:
        print(one)
    return 1 if wrong(phases) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
