"""
A long run on a cluster that changes: C{python -m tests.reliability.cluster_soak --seconds 3600}.

Two services on three masters with replicas. Clients of each speak text, meta and binary, and
write and read values that hold their key; others count numbers up by C{gets} and C{cas}.
Meanwhile slots are moved by C{redis-cli --cluster reshard}, and in one step where the server
can, masters are replaced by C{CLUSTER FAILOVER} and killed, and both at once.

A master that is to be killed takes no writes for a moment before, until its replica has
all: so Redis itself loses nothing, and nothing that was acknowledged may be missing.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle

from tests.reliability.clients import BinaryClient, Client, Load, MetaClient, at_work, once_answered
from tests.reliability.soak import Report, look, tell, until_stored
from tests.support import servers
from tests.support.cluster import MOVES_AT_ONCE, Cluster, ClusterNode, redis_cluster
from tests.support.polling import PATIENCE
from tests.support.servers import RedCouch
from tests.support.wire import Address, Wire

KINDS = (Client, MetaClient, BinaryClient)

COUNTERS = 3
"""Keys that are counted up."""

PROBES = [f"probe-{number}" for number in range(20)]
"""Keys of which some are on each master, whoever has which slots."""

_SLOTS = 200
"""Slots that move at a time."""


class Counter(threading.Thread):
    """
    Counts numbers up by C{gets} and C{cas}, together with others.

    @ivar counted: of each key, how many times C{cas} was answered STORED.
    @ivar uncertain: how many times nobody knows.
    """

    def __init__(self, address: Address, pause: float) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._pause = pause
        self._over = threading.Event()
        self.asked = 0
        self.counted = [0] * COUNTERS
        self.uncertain = [0] * COUNTERS
        self.trouble = ""

    def finish(self) -> None:
        """End it, and wait for that."""
        self._over.set()
        self.join(PATIENCE)

    def run(self) -> None:
        try:
            with Wire(self._address) as wire:
                number = 0
                while not self._over.wait(self._pause):
                    self._count(wire, number % COUNTERS)
                    number += 1
        except Exception as error:  # for the report
            self.trouble = repr(error)

    def _count(self, wire: Wire, number: int) -> None:
        self.asked += 2
        found = wire.exchange(b"gets counter-%d\r\n" % number, _is_whole)
        assert found is not None
        if found.startswith(b"SERVER_ERROR"):
            return
        head, value, _ = found.split(b"\r\n", 2)
        token, new = head.split()[4], b"%d" % (int(value) + 1)
        said = wire.exchange(
            b"cas counter-%d 0 0 %d %b\r\n%b\r\n" % (number, len(new), token, new),
            lambda reply: reply.endswith(b"\r\n"),
        )
        if said == b"STORED\r\n":
            self.counted[number] += 1
        elif said is None or said.startswith(b"SERVER_ERROR"):
            self.uncertain[number] += 1
        else:
            assert said == b"EXISTS\r\n", said


def _is_whole(reply: bytes) -> bool:
    return reply.endswith(b"\r\nEND\r\n") or (
        reply.startswith(b"SERVER_ERROR") and reply.endswith(b"\r\n")
    )


class ClusterSoak:
    """What runs, and the changes that can be made to it."""

    def __init__(self, cluster: Cluster, services: list[RedCouch], version: str = "") -> None:
        self._cluster = cluster
        self._services = services
        self.report = Report()
        self.harm: dict[str, Callable[[], None]] = {
            "slots moved": self._reshard,
            "master replaced": lambda: cluster.fail_over(self._any_master()),
            "master killed": lambda: self._kill(self._any_master()),
            "slots moved and a master replaced": lambda: self._at_once(cluster.fail_over),
            "slots moved and a master killed": lambda: self._at_once(self._kill),
        }
        if version == MOVES_AT_ONCE:
            self.harm["slots moved in one step"] = self._move_at_once

    def do(self, name: str) -> None:
        """One of them; returns when the cluster is well again and both services serve."""
        self.harm[name]()
        self.report.faults[name] += 1
        self._cluster.wait()
        self._recover()

    def _recover(self) -> None:
        """Wait until both services serve all slots, or so it seems, and note how long that took."""
        began = time.monotonic()
        for service in self._services:
            for key in PROBES:
                until_stored(service.address, key)
        self.report.recoveries.append(time.monotonic() - began)
        self.report.slowest_recovery = max(self.report.recoveries)

    def look(self, seconds: float) -> None:
        """Note what a service has and needs."""
        look(self.report, self._services[0].pid, seconds)

    def close_books(self, loads: list[Load], counters: list[Counter]) -> None:
        """Count what clients were told, and see that what was acknowledged is there."""
        report = self.report
        report.add_loads(loads, self._services[0].address)
        auditor = Client(self._services[0].address, "auditor")
        for number in range(COUNTERS):
            value = int(once_answered(auditor, f"counter-{number}") or b"-1")
            counted = sum(one.counted[number] for one in counters)
            perhaps = sum(one.uncertain[number] for one in counters)
            report.acknowledged += counted
            report.counted += counted
            if not counted <= value <= counted + perhaps:
                report.wrong.append(
                    f"counted to {value}: {counted} acknowledged, {perhaps} unknown"
                )
        auditor.close()
        for counter in counters:
            report.requests += counter.asked
            report.wrong += filter(None, [counter.trouble])

    # -- changes -----------------------------------------------------------------------------

    def _reshard(self) -> None:
        source, target = random.sample(self._cluster.serving_masters(), 2)
        self._cluster.reshard(source, target, _SLOTS)

    def _move_at_once(self) -> None:
        source, target = random.sample(self._cluster.serving_masters(), 2)
        served = next(one for one in self._cluster.slots() if one[1] is source)[0]
        self._cluster.move_at_once(served[:_SLOTS], target)

    def _any_master(self) -> ClusterNode:
        return random.choice(self._cluster.serving_masters())

    def _kill(self, master: ClusterNode) -> None:
        self._cluster.kill_master(master)
        self._recover()
        master.start()

    def _at_once(self, change: Callable[[ClusterNode], None]) -> None:
        """
        Replace a master while slots move between two others; what redis-cli has left open
        then, it mends. (One of the two that dies takes slots along that its replica has not
        heard of: Redis loses them.)
        """
        source, target, third = random.sample(self._cluster.serving_masters(), 3)
        moving = self._cluster.redis_cli(
            "reshard",
            *("--cluster-from", source.id, "--cluster-to", target.id),
            *("--cluster-slots", str(_SLOTS), "--cluster-yes"),
        )
        change(third)
        moving.communicate(timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while self._is_open():
            # Of slots that nobody serves, 7.0 asks whatever it was told.
            fix = self._cluster.redis_cli("fix", "--cluster-yes")
            fixed, _ = fix.communicate("yes\n" * 10, timeout=PATIENCE)
            assert time.monotonic() < deadline, fixed

    def _is_open(self) -> bool:
        checking = self._cluster.redis_cli("check")
        said, _ = checking.communicate(timeout=PATIENCE)
        return checking.returncode != 0 or "[ERR]" in said or "[WARNING]" in said


def run(seconds: float, version: str = "", pause: float = 0.0, parameters: str = "") -> Report:
    """
    Change the cluster for so many seconds, and to the end of a round.

    @param pause: seconds that a client waits after each pair of requests.
    """
    with (
        redis_cluster(version=version) as cluster,
        servers.redcouch(cluster.url + parameters) as one,
        servers.redcouch(cluster.url + parameters) as other,
    ):
        services = [one, other]
        soak = ClusterSoak(cluster, services, version)
        with _under_load([service.address for service in services], pause) as (loads, counters):
            began = said = time.monotonic()
            for name in cycle(soak.harm):
                soak.look(time.monotonic() - began)
                soak.do(name)
                if time.monotonic() - said > 60:
                    said = time.monotonic()
                    tell(said - began, loads, soak.report)
                over = time.monotonic() - began >= seconds
                if over and len(soak.report.faults) == len(soak.harm):
                    break
        soak.report.seconds = time.monotonic() - began
        soak.look(soak.report.seconds)
        soak.close_books(loads, counters)
    return soak.report


@contextmanager
def _under_load(
    addresses: list[Address], pause: float
) -> Iterator[tuple[list[Load], list[Counter]]]:
    first = Client(addresses[0], "first")
    for number in range(COUNTERS):
        first.store(f"counter-{number}", "0")
    first.close()
    loads = [
        Load(kind(address, f"{kind.__name__}-{place}"), pause=pause)
        for place, address in enumerate(addresses)
        for kind in KINDS
    ]
    counters = [Counter(address, pause) for address in addresses]
    with at_work([*loads, *counters]):
        yield loads, counters


def main() -> int:
    """Run as the command line says; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description="A long run on a cluster that changes.")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--version", default="", help="7.0, 8.2, 'valkey 8.1' or 'valkey 9.1'")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between requests")
    parser.add_argument("--parameters", default="", help="of the URL, as in ?cache=1m")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    report = run(given.seconds, given.version, given.pause, given.parameters)
    print(json.dumps(report.as_dict(), indent=2) if given.json else report)
    for wrong in report.wrong:
        print(wrong, file=sys.stderr)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
