"""A load generator for what memcaslap cannot do: pipelining, 1 MiB values, exact latencies.

It runs as a program of its own and imports nothing but the standard library. Requests and their
expected answers are built before the clock starts, so that a round trip costs one send, one receive
and one comparison of bytes; every answer is compared whole. The result is one JSON object.
"""

import argparse
import json
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

PATIENCE_SECONDS = 10
EXCHANGES = 20
MAX_KEYS = 100
MAX_BYTES_PER_CONNECTION = 8 * 1024 * 1024


class WrongAnswerError(Exception):
    """The server said something other than what it had to."""


@dataclass(frozen=True, slots=True)
class Work:
    """What every connection does."""

    connections: int
    depth: int
    value_size: int
    set_share: float


@dataclass(frozen=True, slots=True)
class Item:
    """A stored value with the requests for it and their answers."""

    set_request: bytes
    get_request: bytes
    get_answer: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """Requests sent together, and all that has to come back."""

    payload: bytes
    expected: bytes


def make_item(connection: int, number: int, size: int) -> Item:
    """An item with a 32-byte key and random bytes as its value, the same in every run."""
    key = f"bench:{connection:012d}:{number:013d}".encode()
    value = random.Random(key).randbytes(size)
    return Item(
        set_request=b"set %b 0 0 %d\r\n%b\r\n" % (key, size, value),
        get_request=b"get %b\r\n" % key,
        get_answer=b"VALUE %b 0 %d\r\n%b\r\nEND\r\n" % (key, size, value),
    )


def make_exchanges(items: list[Item], work: Work) -> list[Exchange]:
    """A round of exchanges over all items, with the stores spread evenly among the reads."""
    requests = []
    owed = 0.0
    supply = cycle(items)
    for _ in range(max(EXCHANGES, -(-len(items) // work.depth)) * work.depth):
        item = next(supply)
        owed += work.set_share
        if owed >= 1.0 - 1e-9:
            owed -= 1.0
            requests.append((item.set_request, b"STORED\r\n"))
        else:
            requests.append((item.get_request, item.get_answer))
    return [
        Exchange(
            b"".join(payload for payload, _ in requests[start : start + work.depth]),
            b"".join(expected for _, expected in requests[start : start + work.depth]),
        )
        for start in range(0, len(requests), work.depth)
    ]


class Conversation:
    """One connection, which waits for the whole answer before it sends again."""

    def __init__(self, address: tuple[str, int], number: int, work: Work) -> None:
        keys = min(MAX_KEYS, max(1, MAX_BYTES_PER_CONNECTION // work.value_size))
        self._items = [make_item(number, n, work.value_size) for n in range(keys)]
        exchanges = make_exchanges(self._items, work)
        self._supply = cycle(exchanges)
        self._expected = b""
        self._answer = bytearray(max(4096, *(len(e.expected) for e in exchanges)))
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

    def fill(self) -> None:
        """Store every item once."""
        for item in self._items:
            self._send(Exchange(item.set_request, b"STORED\r\n"))
            self.finish()
        self.latencies.clear()

    def send(self) -> None:
        """Send the next requests."""
        self._send(next(self._supply))

    def _send(self, exchange: Exchange) -> None:
        self._expected = exchange.expected
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
        conversations += [Conversation(address, n, work) for n in range(work.connections)]
        for conversation in conversations:
            conversation.fill()
        begun = time.monotonic()
        if work.connections == 1:
            run_alone(conversations[0], seconds)
        else:
            run_together(conversations, seconds)
    except (WrongAnswerError, OSError) as error:
        problems.append(str(error))
    ended = time.monotonic()
    latencies = list(_all_latencies(conversations))
    done = summary(work, latencies, ended - begun) if latencies else {}
    return {"begun": begun, "ended": ended, "problems": problems, **done}


def _all_latencies(conversations: list[Conversation]) -> Iterator[int]:
    for conversation in conversations:
        yield from conversation.latencies


def main(arguments: list[str]) -> int:
    """Run from the command line and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--value-size", type=int, default=100)
    parser.add_argument("--set-share", type=float, default=0.1)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args(arguments)
    work = Work(options.connections, options.depth, options.value_size, options.set_share)
    json.dump(run((options.host, options.port), work, options.seconds), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
