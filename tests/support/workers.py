"""Services of several processes, as the system and their clients see them."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support.polling import eventually
from tests.support.servers import RedCouch, children, family
from tests.support.wire import Address, Wire


def runs(pid: int) -> bool:
    """Whether a process is there and is not just waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return [""]


def worker_pids(parent: int) -> dict[int, int]:
    """The worker processes of a service, by their number."""
    found = {}
    for pid in family(parent):
        name, _, number = command_line(pid)[0].rpartition(" ")
        if name == "redcouch worker":
            found[int(number)] = pid
    return found


def fork_server_pid(parent: int) -> int:
    """The process that workers of a service are forked from; 0 where there is none."""
    found = [pid for pid in children(parent) if "redcouch.workers.fork_server" in command_line(pid)]
    return found[-1] if found else 0


def statistics(address: Address, group: str = "") -> dict[str, str]:
    with Wire(address) as wire:
        return stats_on(wire, group)


def stats_on(wire: Wire, group: str = "") -> dict[str, str]:
    """The same on a connection that is open already."""
    line = f"stats {group}".strip().encode() + b"\r\n"
    reply = wire.exchange(line, lambda said: said.endswith(b"END\r\n") or _is_late(said))
    if reply is None or _is_late(reply):
        return {}  # the process that knows stands still
    return dict(one.split(" ", 2)[1:] for one in reply.decode().splitlines() if one != "END")


def stats_with(wire: Wire, **expected: str) -> dict[str, str]:
    """
    The same, once these are in it: a worker that takes longer than a second to answer is told of
    as it was when it was last asked.
    """
    return eventually(lambda: stats_on(wire), lambda seen: expected.items() <= seen.items())


def _is_late(reply: bytes) -> bool:
    return reply.startswith(b"SERVER_ERROR") and reply.endswith(b"\r\n")


def clients_by_worker(address: Address, workers: int = 2) -> dict[str, int]:
    """Which worker has which client. (Their numbers go on from those of listening sockets.)"""
    conns = statistics(address, "conns")
    listening = sum(state == "conn_listening" for state in conns.values())
    return {
        client: (int(name.partition(":")[0]) - listening - 1) % workers + 1
        for name, client in conns.items()
        if name.endswith(":addr")
    }


def own_name(wire: Wire) -> str:
    """How C{stats conns} calls a client."""
    host, port = wire._socket.getsockname()
    return f"tcp:{host}:{port}"


def request(wire: Wire, what: bytes, until: bytes) -> bytes:
    return wire.say([what], until).reply


def send(wire: Wire, what: bytes) -> None:
    """Send, without waiting for the reply."""
    wire._socket.sendall(what)


def all_serve(address: Address, workers: int = 2) -> bool:
    """Whether every worker has taken a client, once so many have come that each should."""
    with ExitStack() as stack:
        for _ in range(4 * workers):
            wire = stack.enter_context(Wire(address))
            request(wire, b"version\r\n", b"\r\n")
        return len(set(clients_by_worker(address, workers).values())) == workers


@contextmanager
def doomed(storage: str, *options: str) -> Iterator[RedCouch]:
    """A RedCouch that the test ends in its own way."""
    with tempfile.TemporaryDirectory(prefix="redcouch-tests-") as folder:
        server = RedCouch(Path(folder), storage, options, ready=True)
        server.start()
        try:
            yield server
        finally:
            left = worker_pids(server.pid) if server._process is not None else {}
            server.kill()
            for pid in left.values():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        server.check_log()
