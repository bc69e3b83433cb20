"""What an application may see of a cache that loses nothing: every answer is checked against it."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.migration.fleet_clients import FleetClient

PAGES, NUMBERS, LOCKS, CARTS = 200, 5, 8, 20

FAULTS = (
    "stale reads",
    "resurrected",
    "lost reads",
    "wrong numbers",
    "locks held twice",
    "carts wrong",
    "failed requests",
)


@dataclass
class Phase:
    """
    What was seen in a part of a trial.

    @ivar slowest: seconds that the slowest request took.
    @ivar examples: the first things that went wrong, in words.
    """

    name: str
    operations: int = 0
    slowest: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


class Page:
    """
    A value that one client changes and all read. What has been written is numbered; a
    reader may see what was there when it began, or anything that was begun since.
    """

    def __init__(self) -> None:
        self.history: list[bytes | None] = [None]
        #: The number of the last change that was acknowledged.
        self.done = 0

    def judge(self, since: int, seen: bytes | None) -> str | None:
        """What is wrong with a value that was read, by somebody who began at this number."""
        allowed = self.history[since:]
        if seen in allowed:
            return None
        if seen is None:
            return "lost reads"
        return "resurrected" if allowed == [None] else "stale reads"


class Model:
    """
    What is known of all items. One for all clients.

    @ivar excused: what a request may raise, of which nobody knows whether it has been done.
    @ivar unsure: how many of these would have counted a number on, or changed a cart; by key.
    @ivar refused: how many there were.
    """

    excused: type[Exception] | tuple[()] = ()

    def __init__(self) -> None:
        self.phase = Phase("")
        self.pages = [Page() for _ in range(PAGES)]
        self.numbers: list[list[int]] = [[] for _ in range(NUMBERS)]
        self.holders: list[int | None] = [None] * LOCKS
        #: How many items were in each cart after each change that was made.
        self.carts: list[list[int]] = [[] for _ in range(CARTS)]
        self.unsure: Counter[str] = Counter()
        self.refused = 0
        self._lock = threading.Lock()

    def fault(self, kind: str, words: str) -> None:
        """Something went wrong."""
        with self._lock:
            self.phase.faults[kind] += 1
            if len(self.phase.examples) < 5:
                self.phase.examples.append(f"{kind}: {words}")

    def timed(self, seconds: float) -> None:
        """A request took so long."""
        with self._lock:
            self.phase.operations += 1
            self.phase.slowest = max(self.phase.slowest, seconds)

    def begin(self, client: FleetClient) -> None:
        """Make what there is at the beginning."""
        for number in range(NUMBERS):
            client.set(f"number:{number}", b"0")
        for cart in range(CARTS):
            client.set(f"cart:{cart}", b"0 by nobody")

    def look(self, client: FleetClient) -> None:
        """See that everything is as it has to be while nobody is at work."""
        for number, given in enumerate(self.numbers):
            self._look_at_count(client, "wrong numbers", f"number:{number}", given)
        for cart, given in enumerate(self.carts):
            self._look_at_count(client, "carts wrong", f"cart:{cart}", given)
        for number, page in enumerate(self.pages):
            wrong = page.judge(page.done, client.get(f"page:{number}"))
            if wrong:
                self.fault(wrong, f"page {number}")

    def _look_at_count(self, client: FleetClient, kind: str, key: str, given: list[int]) -> None:
        """Nothing was given twice, and there is none but what was given, or may have been."""
        count = int((client.get(key) or b"-1").split()[0])
        most = len(given) + self.unsure[key]
        if len({*given}) < len(given) or not max(given, default=0) <= count <= most:
            words = f"{key} is {count}: {len(given)} given, {self.unsure[key]} unknown"
            self.fault(kind, f"{words}, the highest {max(given, default=0)}")


class Worker(threading.Thread):
    """A client that works all the time."""

    def __init__(
        self, number: int, of: int, client: FleetClient, model: Model, rate: float
    ) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self._number = number
        self.client = client
        self._model = model
        self._pause = 1 / rate
        self._random = random.Random(number)
        self._own = range(number, PAGES, of)
        self._ended = threading.Event()
        self._next: Callable[[], None] | None = None

    def move(self, servers: Sequence[tuple[str, int]]) -> None:
        """Let it use other servers, between two pieces of work. Returns when it does."""
        moved = threading.Event()

        def use() -> None:
            self.client.use(servers)
            moved.set()

        self._next = use
        assert moved.wait(60), f"{self.name} does not move"

    def hold(self) -> threading.Event:
        """Let it rest between two pieces of work, until what is given is set."""
        held, over = threading.Event(), threading.Event()

        def rest() -> None:
            held.set()
            over.wait(60)

        self._next = rest
        assert held.wait(60), f"{self.name} does not rest"
        return over

    def stop(self) -> None:
        """Let it end."""
        self._ended.set()
        self.join(60)

    def run(self) -> None:
        work = [self._read] * 60 + [self._write] * 15 + [self._delete] * 5
        work += [self._count] * 12 + [self._hold] * 4 + [self._buy] * 4
        due = time.monotonic()
        while not self._ended.is_set():
            step, self._next = self._next, None
            if step is not None:
                step()
            try:
                self._random.choice(work)()
            except self._model.excused:
                self._model.refused += 1
            except Exception as error:
                self._fault("failed requests", repr(error))
            due += self._pause
            time.sleep(max(0.0, due - time.monotonic()))

    def _fault(self, kind: str, words: str) -> None:
        self._model.fault(kind, f"{type(self.client).__name__}: {words}")

    def _timed(self, request: Callable[[], object], counts: str = "") -> object:
        """What comes of a request. C{counts}: the key that it would count on."""
        began = time.monotonic()
        try:
            return request()
        except self._model.excused:
            self._model.unsure[counts] += 1
            raise
        finally:
            self._model.timed(time.monotonic() - began)

    def _read(self) -> None:
        number = self._random.randrange(PAGES)
        page = self._model.pages[number]
        since = page.done
        seen = self._timed(lambda: self.client.get(f"page:{number}"))
        assert seen is None or isinstance(seen, bytes)
        wrong = page.judge(since, seen)
        if wrong:
            words = f"page {number}: {seen!r}, not {page.history[since:][:3]}"
            self._fault(wrong, words)

    def _change(self, value: bytes | None, request: Callable[[str], object]) -> None:
        number = self._random.choice(self._own)
        page = self._model.pages[number]
        page.history.append(value)
        now = len(page.history) - 1
        self._timed(lambda: request(f"page:{number}"))
        page.done = now

    def _write(self) -> None:
        value = b"%d.%d" % (self._number, self._random.getrandbits(40))
        self._change(value, lambda key: self.client.set(key, value))

    def _delete(self) -> None:
        self._change(None, self.client.delete)

    def _count(self) -> None:
        number = self._random.randrange(NUMBERS)
        key = f"number:{number}"
        given = self._timed(lambda: self.client.incr(key), key)
        assert isinstance(given, int)
        self._model.numbers[number].append(given)

    def _hold(self) -> None:
        lock = self._random.randrange(LOCKS)
        if not self._timed(lambda: self.client.add(f"lock:{lock}", b"%d" % self._number)):
            return
        holder, self._model.holders[lock] = self._model.holders[lock], self._number
        if holder is not None:
            words = f"lock {lock}: by {holder} and {self._number}"
            self._fault("locks held twice", words)
        seen = self._timed(lambda: self.client.get(f"lock:{lock}"))
        if seen != b"%d" % self._number:
            self._fault("lost reads", f"lock {lock}: {seen!r}, not {self._number}")
        self._model.holders[lock] = None
        self._timed(lambda: self.client.delete(f"lock:{lock}"))

    def _buy(self) -> None:
        cart = self._random.randrange(CARTS)
        key = f"cart:{cart}"
        found = self._timed(lambda: self.client.gets(key))
        if found is None:
            self._fault("lost reads", f"cart {cart}")
            return
        assert isinstance(found, tuple)
        value, token = found
        items = int(value.split()[0]) + 1
        new = b"%d by %d" % (items, self._number)
        if self._timed(lambda: self.client.cas(key, new, token), key):
            self._model.carts[cart].append(items)


@contextmanager
def at_rest(workers: Sequence[Worker]) -> Iterator[None]:
    """Nobody has a request under way within the block."""
    holds = [worker.hold() for worker in workers]
    try:
        yield
    finally:
        for over in holds:
            over.set()
