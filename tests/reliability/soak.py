"""
A long run under harm: C{python -m tests.reliability.soak --seconds 3600}.

Clients write and read values that hold their key, while Redis is killed and
started, and held. At the end every acknowledged write has to be in Redis. What
was counted is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests import servers
from tests.reliability.clients import Client, Load
from tests.servers import RedCouch, RedisServer

LASTING = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass
class Report:
    """
    @ivar wrong: replies that were not the answer, clients that failed, writes that were lost.
    @ivar memory: MiB of the service at each look.
    @ivar descriptors: how many it had then.
    """

    seconds: float = 0.0
    requests: int = 0
    faults: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    slowest_recovery: float = 0.0

    def __str__(self) -> str:
        errors = ", ".join(f"{reason}: {count}" for reason, count in self.refused.most_common())
        first, last = self.memory[0], self.memory[-1]
        return (
            f"{self.seconds:.0f} s, {self.requests} requests, {self.faults} faults\n"
            f"wrong answers and lost acknowledged writes: {len(self.wrong)}\n"
            f"errors: {errors or 'none'}\n"
            f"slowest recovery: {self.slowest_recovery:.2f} s\n"
            f"memory: {first:.0f} MiB first, {last:.0f} MiB last; "
            f"descriptors: {self.descriptors[0]} first, {max(self.descriptors)} at most"
        )


def run(seconds: float, clients: int = 4) -> Report:
    """Do harm for so many seconds."""
    with (
        servers.redis_server("7.0", *LASTING) as storage,
        servers.redcouch(storage.url + "?timeout=0.5") as server,
    ):
        loads = [Load(server.address, f"client-{number}") for number in range(clients)]
        for load in loads:
            load.start()
        report = Report()
        began = time.monotonic()
        while not report.faults or time.monotonic() - began < seconds:
            time.sleep(min(2.0, seconds / 10))
            _look(server, report)
            random.choice((_kill, _hold))(storage)
            report.faults += 1
            report.slowest_recovery = max(report.slowest_recovery, _until_stored(server))
        for load in loads:
            load.finish()
        report.seconds = time.monotonic() - began
        _look(server, report)
        _audit(server, loads, report)
    return report


def _kill(storage: RedisServer) -> None:
    storage.kill()
    time.sleep(random.uniform(0, 0.5))
    storage.start()


def _hold(storage: RedisServer) -> None:
    os.kill(storage.pid, signal.SIGSTOP)
    time.sleep(random.uniform(0, 1.5))
    os.kill(storage.pid, signal.SIGCONT)


def _until_stored(server: RedCouch) -> float:
    began = time.monotonic()
    client = Client(server.address, "first")
    servers.eventually(lambda: client.set("first", "1") == b"STORED\r\n")
    client.close()
    return time.monotonic() - began


def _look(server: RedCouch, report: Report) -> None:
    status = Path(f"/proc/{server.pid}/status").read_text()
    report.memory.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
    report.descriptors.append(len(list(Path(f"/proc/{server.pid}/fd").iterdir())))


def _audit(server: RedCouch, loads: list[Load], report: Report) -> None:
    client = Client(server.address, "auditor")
    for load in loads:
        report.requests += load.asked
        report.refused.update(load.refused)
        report.wrong += load.wrong + load.failed
        for key in load.uncertain:
            try:
                load.check(key, client.get(key))
            except AssertionError as error:
                report.wrong.append(str(error))
    client.close()


def main() -> int:
    """Run as the command line says; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description="A long run under harm.")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=4)
    given = parser.parse_args()
    report = run(given.seconds, given.clients)
    print(report)
    for wrong in report.wrong:
        print(wrong)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
