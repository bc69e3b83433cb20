"""A load generator for what memcaslap cannot do.

That is pipelining, 1 MiB values, exact latencies, and keys that all connections share by Zipf's
law. It imports nothing but the standard library. Requests and their expected answers are built
before the clock starts, so that a round trip costs one send, one receive and one comparison of
bytes; every answer is compared whole. The result is one JSON object. SIGTERM ends the run early and
in order.
"""

import argparse
import json
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle

from bench.items import Item, by_last_use, draw, make_item

PATIENCE_SECONDS = 10
EXCHANGES = 20
DRAWS = 500_000
MAX_KEYS = 100
MAX_BYTES_PER_CONNECTION = 8 * 1024 * 1024
AT_ONCE = 100


class WrongAnswerError(Exception):
    """The server said something other than what it had to."""


class StoppedError(Exception):
    """Somebody asked for the end by a signal."""


@dataclass(frozen=True, slots=True)
class Work:
    """What every connection does. With `shared_keys`, `depth` and `keys_per_get` are 1.

    The keys of connection n are those of number `first` + n: two programs need not meet.
    """

    connections: int
    depth: int = 1
    value_size: int = 100
    set_share: float = 0.1
    keys_per_get: int = 1
    shared_keys: int = 0
    first: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """Requests sent together, and all that has to come back."""

    payload: bytes
    expected: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """What one connection does: first once, while the others wait, then again and again."""

    first: Iterable[Exchange]
    supply: Iterator[Exchange]


def get_exchange(items: list[Item]) -> Exchange:
    """One get of these items."""
    keys = b" ".join(item.key for item in items)
    return Exchange(b"get %b\r\n" % keys, b"".join(item.value_lines for item in items) + b"END\r\n")


def set_exchange(items: list[Item]) -> Exchange:
    """Stores of these items."""
    return Exchange(b"".join(item.set_request for item in items), b"STORED\r\n" * len(items))


def join(exchanges: list[Exchange]) -> Exchange:
    """One after the other without waiting."""
    return Exchange(b"".join(e.payload for e in exchanges), b"".join(e.expected for e in exchanges))


def stores(share: float) -> Iterator[bool]:
    """For each request whether it stores: this share of them does, spread evenly."""
    owed = 0.0
    while True:
        owed += share
        store = owed >= 1.0 - 1e-9
        owed -= store
        yield store


def make_exchanges(items: list[Item], work: Work) -> list[Exchange]:
    """A round of exchanges over all items, with the stores spread evenly among the reads."""
    supply, turns = cycle(items), stores(work.set_share)

    def request() -> Exchange:
        if next(turns):
            return set_exchange([next(supply)])
        return get_exchange([next(supply) for _ in range(work.keys_per_get)])

    count = max(EXCHANGES, -(-len(items) // work.depth))
    return [join([request() for _ in range(work.depth)]) for _ in range(count)]


def make_parts(work: Work) -> list[Part]:
    """One for each connection, each with keys of its own."""
    keys = min(MAX_KEYS, max(1, MAX_BYTES_PER_CONNECTION // work.value_size))
    parts = []
    for connection in range(work.first, work.first + work.connections):
        items = [make_item(connection, number, work.value_size) for number in range(keys)]
        first = [set_exchange([item]) for item in items]
        parts.append(Part(first, cycle(make_exchanges(items, work))))
    return parts


def make_sharing_parts(work: Work) -> list[Part]:
    """One for each connection, with the same keys, asked for by Zipf's law.

    The first of them stores all and reads all once, in such an order that a cache then has what it
    would have after a long time.
    """
    items = [make_item(0, number, work.value_size) for number in range(work.shared_keys)]
    gets = [get_exchange([item]) for item in items]
    sets = [set_exchange([item]) for item in items] if work.set_share else []
    parts = []
    for connection in range(work.connections):
        drawn = draw(work.shared_keys, DRAWS // work.connections, connection)
        turns = stores(work.set_share)
        chosen = [sets[n] if next(turns) else gets[n] for n in drawn]
        parts.append(Part(() if connection else _fill_and_read(items), cycle(chosen)))
    return parts


def _fill_and_read(items: list[Item]) -> Iterator[Exchange]:
    ordered = [items[number] for number in by_last_use(len(items), seed=0)]
    for make in (set_exchange, get_exchange):
        for start in range(0, len(ordered), AT_ONCE):
            yield make(ordered[start : start + AT_ONCE])


class Conversation:
    """One connection, which waits for the whole answer before it sends again."""

    def __init__(self, address: tuple[str, int], part: Part) -> None:
        self._part = part
        self._expected = b""
        self._answer = bytearray(4096)
        self._view = memoryview(self._answer)
        self._received = 0
        self._sent_at = 0
        self.latencies: list[int] = []
        self.socket = self._connect(address)

    @staticmethod
    def _connect(address: tuple[str, int]) -> socket.socket:
        connection = socket.create_connection(address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A time limit kept by the kernel: Python's own costs a poll for every call.
        limit = struct.pack("ll", PATIENCE_SECONDS, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        return connection

    def begin(self) -> None:
        """Do what comes first."""
        for exchange in self._part.first:
            self._send(exchange)
            self.finish()
        self.latencies.clear()

    def send(self) -> None:
        """Send the next requests."""
        self._send(next(self._part.supply))

    def _send(self, exchange: Exchange) -> None:
        self._expected = exchange.expected
        if len(self._expected) > len(self._answer):
            self._answer = bytearray(len(self._expected))
            self._view = memoryview(self._answer)
        self._received = 0
        self._sent_at = time.perf_counter_ns()
        self.socket.sendall(exchange.payload)

    def receive(self) -> bool:
        """Take what has arrived; true when the answer is complete. Raises WrongAnswerError."""
        try:
            count = self.socket.recv_into(self._view[self._received :])
        except BlockingIOError:
            raise WrongAnswerError(f"no answer in {PATIENCE_SECONDS} s") from None
        if not count:
            raise WrongAnswerError("the server closed the connection")
        self._received += count
        if self._received < len(self._expected):
            if not self._expected.startswith(self._answer[: min(self._received, 64)]):
                raise WrongAnswerError(self._complaint())
            return False
        # startswith compares in place, where a comparison of slices would copy or go by element.
        if self._received > len(self._expected) or not self._answer.startswith(self._expected):
            raise WrongAnswerError(self._complaint())
        self.latencies.append(time.perf_counter_ns() - self._sent_at)
        return True

    def finish(self) -> None:
        """Wait for the rest of the answer."""
        while not self.receive():
            pass

    def _complaint(self) -> str:
        said = bytes(self._answer[: min(self._received, 60)])
        return f"{said!r} instead of {self._expected[:60]!r}"


def run_alone(conversation: Conversation, seconds: float) -> None:
    """One exchange after the other on one connection, as a plain client makes them."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        conversation.send()
        conversation.finish()


def run_together(conversations: list[Conversation], seconds: float) -> None:
    """Every connection sends again as soon as it has its answer."""
    poller = select.epoll()
    by_number = {c.socket.fileno(): c for c in conversations}
    for number in by_number:
        poller.register(number, select.EPOLLIN)
    deadline = time.perf_counter() + seconds
    for conversation in conversations:
        conversation.send()
    while time.perf_counter() < deadline:
        ready = poller.poll(PATIENCE_SECONDS)
        if not ready:
            raise WrongAnswerError(f"no answer in {PATIENCE_SECONDS} s")
        for number, _ in ready:
            conversation = by_number[number]
            if conversation.receive():
                conversation.send()
    for conversation in conversations:
        conversation.finish()


def percentile(ordered: list[int], share: float) -> float:
    """The value that this share of the ordered nanoseconds does not exceed, in microseconds."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000


def summary(work: Work, latencies: list[int], seconds: float) -> dict[str, float]:
    """What was done and how long each exchange took."""
    ordered = sorted(latencies)
    return {
        "seconds": seconds,
        "requests": len(ordered) * work.depth,
        "p50_us": percentile(ordered, 0.50),
        "p99_us": percentile(ordered, 0.99),
    }


def run(address: tuple[str, int], work: Work, seconds: float) -> dict[str, object]:
    """Do the work and describe it; trouble is part of the description, as is what came before."""
    problems: list[str] = []
    conversations: list[Conversation] = []
    begun = time.monotonic()
    try:
        parts = make_sharing_parts(work) if work.shared_keys else make_parts(work)
        conversations += [Conversation(address, part) for part in parts]
        for conversation in conversations:
            conversation.begin()
        begun = time.monotonic()
        if work.connections == 1:
            run_alone(conversations[0], seconds)
        else:
            run_together(conversations, seconds)
    except StoppedError:
        pass
    except (WrongAnswerError, OSError) as error:
        problems.append(str(error))
    ended = time.monotonic()
    for conversation in conversations:
        conversation.socket.close()
    latencies = list(_all_latencies(conversations))
    done = summary(work, latencies, ended - begun) if latencies else {}
    return {"begun": begun, "ended": ended, "problems": problems, **done}


def _all_latencies(conversations: list[Conversation]) -> Iterator[int]:
    for conversation in conversations:
        yield from conversation.latencies


def stop_on_sigterm() -> None:
    """From now on SIGTERM raises StoppedError, once."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise StoppedError

    signal.signal(signal.SIGTERM, stop)


def main(arguments: list[str]) -> int:
    """Run from the command line and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--value-size", type=int, default=100)
    parser.add_argument("--set-share", type=float, default=0.1)
    parser.add_argument("--keys-per-get", type=int, default=1)
    parser.add_argument("--shared-keys", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = vars(parser.parse_args(arguments))
    address = (options.pop("host"), options.pop("port"))
    seconds = options.pop("seconds")
    stop_on_sigterm()
    json.dump(run(address, Work(**options), seconds), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
