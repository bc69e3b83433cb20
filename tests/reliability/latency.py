"""
What the others notice: C{python -m tests.reliability.latency}.

One well-behaved client asks one request after the other, first by itself and
then beside clients that do harm. Printed are its latencies, as Markdown.
"""

from __future__ import annotations

import argparse
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import quantiles

from tests.support import servers
from tests.support.frames import frame
from tests.support.servers import RedCouch
from tests.support.wire import Wire

MIB = 1024 * 1024

_LONG_VALUE = MIB - 200
_PAUSE = 0.001
"""Seconds between what one client does and what it does next."""

Harm = Callable[[RedCouch, ExitStack], Callable[[], None] | None]
"""Prepares something, and gives what is to be done again and again meanwhile."""


def fill(words: bytes, size: int = 65536) -> bytes:
    """The same words again and again."""
    return words * (size // len(words))


_MANY_KEYS = b" ".join(b"key-%d" % number for number in range(200))

#: What 64 clients say at once, each again when it has all its answers.
FLOODS = {
    "32,768 empty lines": fill(b"\r\n"),
    "65,536 line ends": fill(b"\n"),
    "lines of meta no-ops": fill(b"mn\r\n"),
    "meta gets": fill(b"mg key v t f\r\n"),
    "gets of 200 keys": fill(b"get " + _MANY_KEYS + b"\r\n"),
    "a get of 400,000 keys": b"get " + b"k " * 400_000 + b"\r\n",
    "small sets": fill(b"set key 0 0 10 noreply\r\n0123456789\r\n"),
    "sets of 1 MB": b"set key-large 0 0 1000000\r\n" + b"x" * 1_000_000 + b"\r\n",
    "increments": fill(b"incr number 1\r\n"),
    "binary no-ops": fill(frame(0x0A)),
    "quiet binary misses": fill(frame(0x09, key=b"absent")) + frame(0x0A),
    "binary sets": fill(frame(0x01, b"key", bytes(8), b"value")),
}
_CROWD = 64


def flood(name: str) -> Harm:
    """64 clients that each say one of L{FLOODS}, and say it again when it is answered."""

    def prepare(server: RedCouch, clients: ExitStack) -> Callable[[], None]:
        crowd = {}
        for _ in range(_CROWD):
            client = clients.enter_context(servers.plain(server.port))
            client.setblocking(False)
            crowd[client] = memoryview(FLOODS[name])

        def go_on() -> None:
            sending = [client for client, rest in crowd.items() if rest]
            readable, writable, _ = select.select(list(crowd), sending, [], 0.5)
            for client in readable:
                with suppress(BlockingIOError):
                    if not client.recv(MIB):
                        del crowd[client]  # the service ends
            for client in writable:
                with suppress(BlockingIOError, KeyError):
                    crowd[client] = crowd[client][client.send(crowd[client]) :]
            if not (readable or writable):
                for client in crowd:
                    crowd[client] = memoryview(FLOODS[name])

        return go_on

    prepare.__doc__ = f"64 clients that each send {name}."
    return prepare


def nothing(server: RedCouch, clients: ExitStack) -> None:
    """Nothing else."""


def slow_readers(server: RedCouch, clients: ExitStack) -> None:
    """20 clients ask for 400 MiB each and take none of it."""
    with Wire(server.address) as wire:
        wire.say([b"set big 0 0 %d\r\n" % _LONG_VALUE, b"x" * _LONG_VALUE, b"\r\n"], b"\r\n")
    for _ in range(20):
        clients.enter_context(servers.plain(server.port)).sendall(b"get big\r\n" * 400)


def readers_who_leave(server: RedCouch, clients: ExitStack) -> Callable[[], None]:
    """10 clients a second that ask for 400 MiB and go without it."""

    def ask() -> None:
        with servers.plain(server.port) as client:
            client.sendall(b"get big\r\n" * 400)
        time.sleep(0.1)

    return ask


def absurd_lengths(server: RedCouch, clients: ExitStack) -> Callable[[], None]:
    """A client promises 1 GiB and sends 64 KiB of it at a time, without end."""
    sending = clients.enter_context(servers.plain(server.port))
    sending.sendall(b"set huge 0 0 1073741824\r\n")
    return lambda: sending.sendall(b"x" * 65536)


def endless_lines(server: RedCouch, clients: ExitStack) -> Callable[[], None]:
    """Clients that send a line without an end, and come again when they are closed."""

    def send() -> None:
        with servers.plain(server.port) as sending, suppress(OSError):
            for _ in range(4):
                sending.sendall(b"x" * 65536)

    return send


def promised_values(server: RedCouch, clients: ExitStack) -> None:
    """500 clients that send all of a value of 1 MB but its end."""
    for _ in range(500):
        client = clients.enter_context(servers.plain(server.port))
        client.sendall(b"set promised 0 0 1000000\r\n" + b"x" * 100_000)


def coming_and_going(server: RedCouch, clients: ExitStack) -> Callable[[], None]:
    """Connections opened and dropped, half of them with a reset."""

    def drop() -> None:
        for reset in (b"\0\0\0\0\0\0\0\0", b"\1\0\0\0\0\0\0\0"):
            with servers.plain(server.port) as client:
                client.sendall(b"get k")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)

    return drop


def wrong_frames(server: RedCouch, clients: ExitStack) -> Callable[[], None]:
    """Binary frames whose lengths lie, each on a connection of its own."""

    def lie() -> None:
        with servers.plain(server.port) as client:
            client.sendall(b"\x80\x01\xff\xff\x08\0\0\0\0\0\0\x04" + bytes(12) + b"lies")

    return lie


HARM: tuple[Harm, ...] = (
    nothing,
    slow_readers,
    readers_who_leave,
    absurd_lengths,
    endless_lines,
    promised_values,
    coming_and_going,
    wrong_frames,
    *map(flood, FLOODS),
)


@contextmanager
def again_and_again(does: Callable[[], None] | None) -> Iterator[None]:
    """Do it on a thread until the end of the block."""
    over = threading.Event()

    def work() -> None:
        assert does is not None
        while not over.wait(_PAUSE):
            does()

    thread = threading.Thread(target=work, daemon=True)
    if does is not None:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if does is not None:
            thread.join()


def latencies(
    server: RedCouch,
    seconds: float,
    now: Callable[[], float] = time.perf_counter,
    hello: bytes = b"",
) -> list[float]:
    """
    Of one request after the other, in milliseconds.

    @param hello: what the client says first, to be let in.
    """
    found = []
    until = time.monotonic() + seconds
    with Wire(server.address) as wire:
        wire.say([hello + b"set well 0 0 2\r\nhi\r\nmn\r\n"], b"MN\r\n")
        while time.monotonic() < until:
            began = now()
            said = wire.exchange(b"get well\r\n", lambda reply: reply.endswith(b"END\r\n"))
            found.append((now() - began) * 1000)
            assert said == b"VALUE well 0 2\r\nhi\r\nEND\r\n", said
            time.sleep(_PAUSE)
    return found


def most_memory(pid: int) -> float:
    """The most that a process has had resident so far, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description="What harm costs other clients.")
    parser.add_argument("--seconds", type=float, default=3, help="for each sort of harm")
    parser.add_argument("--only", default="", help="words of the harm to do")
    given = parser.parse_args()
    print("| beside | p50 | p99 | longest | memory of RedCouch, of Redis |\n|---|---|---|---|---|")
    for harm in HARM:
        if given.only in str(harm.__doc__):
            with (
                servers.redis_server() as storage,
                servers.redcouch(storage.url) as server,
                ExitStack() as clients,
                again_and_again(harm(server, clients)),
            ):
                found = latencies(server, given.seconds)
                memory = f"{most_memory(server.pid):.0f} MiB, {most_memory(storage.pid):.0f} MiB"
            cuts = quantiles(found, n=100)
            told = (harm.__doc__ or "").strip().rstrip(".")
            waits = f"{cuts[49]:.2f} ms | {cuts[98]:.2f} ms | {max(found):.1f} ms"
            print(f"| {told} | {waits} | {memory} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
