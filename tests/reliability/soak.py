"""
A long run under harm: C{python -m tests.reliability.soak --seconds 3600}.

Two services on one Redis, one of two workers and one of a single process. Clients of
each speak text, meta and binary, and write and read values that hold their key. Meanwhile
Redis is killed and started, and held; clients come and go in the middle of what they say;
and the first service is ended and started again, and has a worker killed. The second one
lives from beginning to end: its memory and descriptors are watched.

At the end every acknowledged write has to be in Redis. What was counted is printed as
Markdown, or with C{--json} as JSON; while it runs, a line a minute goes to stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import linear_regression

from tests.reliability.clients import BinaryClient, Client, Load, MetaClient, at_work, once_answered
from tests.support import servers
from tests.support.polling import PATIENCE, eventually
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import Address

_SETTLING = 0.25
"""The part of a run after which memory should not grow any more."""

MORE_DESCRIPTORS = 20
"""So many more than at first the undisturbed service does not have in the end."""


@dataclass
class Report:
    """
    @ivar wrong: replies that were not the answer, clients that failed, writes that were lost.
    @ivar refused: requests that were answered with an error, by its words.
    @ivar counted: those of the acknowledged writes that are by C{cas} on keys that many count up.
    @ivar reconnected: connections that clients lost, nearly all to a service that ended.
    @ivar looks: at seconds after the start, MiB and descriptors of the undisturbed service.
    """

    seconds: float = 0.0
    requests: int = 0
    acknowledged: int = 0
    counted: int = 0
    reconnected: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_recovery: float = 0.0
    recoveries: list[float] = field(default_factory=list)
    looks: list[tuple[float, float, int]] = field(default_factory=list)

    @property
    def memory_slope(self) -> float:
        """KiB that the service has grown by in a minute, once it had settled; 0 if unknown."""
        settled = [look for look in self.looks if look[0] >= self.seconds * _SETTLING]
        if len(settled) < 3:
            return 0.0
        times = [seconds / 60 for seconds, _, _ in settled]
        return linear_regression(times, [mib * 1024 for _, mib, _ in settled]).slope

    @property
    def descriptors(self) -> list[int]:
        """How many there were, at each look."""
        return [count for _, _, count in self.looks]

    def add_loads(self, loads: list[Load], address: Address) -> None:
        """Count what clients were told, and see that what was acknowledged is there."""
        auditor = Client(address, "auditor")
        for load in loads:
            self.requests += load.asked
            self.acknowledged += load.stored
            self.reconnected += load.reconnected
            self.refused.update(load.refused)
            self.wrong += load.wrong + load.failed
            for key in load.uncertain:
                try:
                    load.check(key, once_answered(auditor, key))
                except AssertionError as error:
                    self.wrong.append(str(error))
        auditor.close()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**dataclasses.asdict(self), "memory_slope": self.memory_slope}

    def __str__(self) -> str:
        memory = [mib for _, mib, _ in self.looks]
        rows = [
            ("seconds", f"{self.seconds:,.0f}"),
            ("requests", f"{self.requests:,}"),
            ("of them acknowledged writes", f"{self.acknowledged:,}"),
            *([("of them counted by `cas`", f"{self.counted:,}")] if self.counted else []),
            ("wrong answers and lost acknowledged writes", f"{len(self.wrong)}"),
            *((f"harm: {name}", f"{count:,}") for name, count in self.faults.most_common()),
            *((f"answered `{words}`", f"{count:,}") for words, count in self.refused.most_common()),
            ("connections that clients had to open again", f"{self.reconnected:,}"),
            ("slowest recovery after Redis was there again", f"{self.slowest_recovery:.2f} s"),
            (
                "memory: first, last, most",
                f"{memory[0]:.1f}, {memory[-1]:.1f}, {max(memory):.1f} MiB",
            ),
            ("memory: slope", f"{self.memory_slope:+.1f} KiB a minute"),
            ("descriptors: first, last", f"{self.descriptors[0]}, {self.descriptors[-1]}"),
        ]
        return "\n".join(
            ("| what | |", "|---|---|", *(f"| {name} | {is_} |" for name, is_ in rows))
        )


class Soak:
    """What runs, and the harm that can be done to it."""

    def __init__(self, storage: RedisServer, restless: RedCouch, steady: RedCouch) -> None:
        self._storage = storage
        self._restless = restless
        self._steady = steady
        self.report = Report()

    @property
    def harm(self) -> dict[str, Callable[[], None]]:
        """By its name, in an order that lets each come up in a short run, too."""
        return {
            "Redis killed and started": self._kill_storage,
            "Redis held": self._hold_storage,
            "service ended and started": self._restart,
            "clients gone in the middle": self._drop,
            "worker killed": self._kill_worker,
        }

    def do(self, name: str) -> None:
        """One sort of harm; returns when both services serve again."""
        self.harm[name]()
        self.report.faults[name] += 1
        began = time.monotonic()
        for server in (self._steady, self._restless):
            until_stored(server.address)
        if name.startswith("Redis"):
            took = time.monotonic() - began
            self.report.slowest_recovery = max(self.report.slowest_recovery, took)

    def look(self, seconds: float) -> None:
        """Note what the undisturbed service has and needs."""
        look(self.report, self._steady.pid, seconds)

    def let_clients_go(self) -> None:
        """Wait until the undisturbed service has noticed that they are gone, if it does."""
        most = self.report.descriptors[0] + MORE_DESCRIPTORS
        with suppress(AssertionError):  # the report says so
            eventually(lambda: servers.descriptors(self._steady.pid) < most)

    def close_books(self, loads: list[Load]) -> None:
        """Count what clients were told, and see that what was acknowledged is there."""
        self.report.add_loads(loads, self._steady.address)

    def _kill_storage(self) -> None:
        self._storage.kill()
        time.sleep(random.uniform(0, 0.5))
        self._storage.start()

    def _hold_storage(self) -> None:
        servers.hold(self._storage.pid)
        time.sleep(random.uniform(0, 1.5))
        os.kill(self._storage.pid, signal.SIGCONT)

    def _restart(self) -> None:
        self._restless.stop()
        self._restless.start()

    def _kill_worker(self) -> None:
        os.kill(random.choice(servers.family(self._restless.pid)[1:]), signal.SIGKILL)

    def _drop(self) -> None:
        for server in (self._steady, self._restless):
            for said in (b"", b"get ", b"set k 0 0 1000\r\nxyz", b"\x80\x01\x00\x05", b"get k\r\n"):
                for _ in range(20):
                    with socket.create_connection(server.address) as client:  # type: ignore[arg-type]
                        client.sendall(said)


def run(seconds: float, pause: float = 0.0) -> Report:
    """
    Do harm for so many seconds, and to the end of a round.

    @param pause: seconds that a client waits after each pair of requests.
    """
    with (
        servers.redis_server(*servers.LASTING) as storage,
        servers.redcouch(storage.url + "?timeout=0.5", "--workers", "2") as restless,
        servers.redcouch(storage.url + "?timeout=0.5") as steady,
    ):
        soak = Soak(storage, restless, steady)
        with _under_load([restless.address, steady.address], pause) as loads:
            began = said = time.monotonic()
            for name in cycle(soak.harm):
                soak.look(time.monotonic() - began)
                time.sleep(min(2.0, seconds / 20))
                soak.do(name)
                if time.monotonic() - said > 60:
                    said = time.monotonic()
                    tell(said - began, loads, soak.report)
                if time.monotonic() - began >= seconds and len(soak.report.faults) == len(
                    soak.harm
                ):
                    break
        soak.report.seconds = time.monotonic() - began
        soak.let_clients_go()
        soak.look(soak.report.seconds)
        soak.close_books(loads)
    return soak.report


@contextmanager
def _under_load(addresses: list[Address], pause: float) -> Iterator[list[Load]]:
    loads = [
        Load(kind(address, f"{kind.__name__}-{place}", PATIENCE), pause=pause)
        for place, address in enumerate(addresses)
        for kind in (Client, MetaClient, BinaryClient)
    ]
    with at_work(loads):
        yield loads


def until_stored(address: Address, key: str = "first") -> None:
    """Wait until a write succeeds."""
    client = Client(address, key, PATIENCE)
    eventually(lambda: client.set(key, "1") == b"STORED\r\n")
    client.close()


def look(report: Report, pid: int, seconds: float) -> None:
    """Note what a service has and needs, so many seconds after the start."""
    process = Path(f"/proc/{pid}")
    resident = int((process / "status").read_text().split("VmRSS:")[1].split()[0])
    report.looks.append((seconds, resident / 1024, servers.descriptors(pid)))


def tell(seconds: float, loads: list[Load], report: Report) -> None:
    asked = sum(load.asked for load in loads)
    wrong = sum(len(load.wrong) + len(load.failed) for load in loads)
    _, mib, descriptors = report.looks[-1]
    print(
        f"{seconds:.0f} s: {asked:,} requests, {sum(report.faults.values())} faults, "
        f"{wrong} wrong, {mib:.1f} MiB, {descriptors} descriptors",
        file=sys.stderr,
        flush=True,
    )


def main() -> int:
    """Run as the command line says; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description="A long run under harm.")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between requests")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    report = run(given.seconds, given.pause)
    print(json.dumps(report.as_dict(), indent=2) if given.json else report)
    for wrong in report.wrong:
        print(wrong, file=sys.stderr)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
