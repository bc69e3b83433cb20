"""
Two sides and several workers, without a network: the test says which request is
carried out next, and whether it gets through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from redcouch.backends.fill_leases import EndChanges, FillState
from redcouch.backends.memory import MemoryBackend
from redcouch.backends.origin.backend import OriginBackend, warm
from redcouch.backends.origin.stages import Stage
from redcouch.backends.origin.url import OriginLocation
from redcouch.commands import Command, Delete
from redcouch.interfaces import BackendContext, IStorageBackend
from redcouch.limits import Limits
from redcouch.memcached_client.address import read_address
from redcouch.memcached_client.protocol import Reply
from redcouch.memcached_client.twisted_client import AwayError
from redcouch.results import Result

START = 1_700_000_000.0

Do = Callable[[bool, bool], None]
"""Carry out a request: whether it arrives, and whether its answer does."""

Queue = tuple[str, int]
"""What is asked, by which worker. Behind a blank, it says that it is read only."""

WELL, UNANSWERED, LOST = "well", "unanswered", "lost"

Choice = tuple[Queue, str]
"""The next request of a queue, and how it goes."""


class Shelf:
    """
    A memcached's items, and its replies to L{redcouch.memcached_client.protocol}.

    @ivar expiries: their exptimes, as far as they have any.
    """

    def __init__(self) -> None:
        self.items: dict[bytes, bytes] = {}
        self.expiries: dict[bytes, int] = {}

    def _note_expiry(self, key: bytes, words: set[bytes]) -> None:
        for word in words:
            if word.startswith(b"T"):
                self.expiries[key] = int(word[1:])

    def answer(self, request: bytes) -> list[Reply]:
        """The replies to some requests."""
        lines = deque(request.split(b"\r\n")[:-1])
        replies = []
        while lines:
            verb, *words = lines.popleft().split(b" ")
            key = words[0] if words else b""
            value = lines.popleft() if verb == b"ms" else b""
            replies.append(self._answer(verb, key, set(words[1:]), value))
        return replies

    def _answer(self, verb: bytes, key: bytes, words: set[bytes], value: bytes) -> Reply:
        items = self.items
        if verb == b"flush_all":
            items.clear()
            return Reply(b"OK")
        there = items.get(key)
        if verb == b"md":
            self.expiries.pop(key, None)
            return Reply(b"NF" if items.pop(key, None) is None else b"HD")
        if verb == b"ms" and b"MA" not in words:
            items[key] = value
            self._note_expiry(key, words)
            return Reply(b"HD")
        if there is None:
            return Reply({b"mg": b"EN", b"ma": b"NF", b"ms": b"NS"}[verb])
        if verb == b"ms":
            items[key] = there + value
            return Reply(b"HD")
        if verb == b"ma":
            if not there.isdigit():
                return Reply(b"CLIENT_ERROR")
            items[key] = b"%d" % (int(there) + 1)
            return Reply(b"VA", [], items[key])
        self._note_expiry(key, words)
        if b"v" in words:
            return Reply(b"VA", [b"f0", b"t%d" % (self.expiries.get(key) or -1)], there)
        return Reply(b"HD", [b"s%d" % len(there)])


class World:
    """
    A storage and a shelf that several workers share.

    @ivar failures: how many requests to the old side may still go wrong.
    """

    #: How many orders of each test are tried one by one; C{None} for all there are.
    most_orders: int | None = None

    #: Makes what the workers share.
    make_items: Callable[[BackendContext], SharedItems] = lambda context: SharedMemory(context)

    def __init__(self, workers: int, failures: int = 0) -> None:
        self.clock = Clock()
        self.shelf = Shelf()
        self.failures = failures
        self._queues: dict[Queue, deque[Do]] = {}
        self.items = World.make_items(self._context())
        self.nodes = [StagedNode(self, number) for number in range(workers)]
        self.workers = [self._make_worker(node) for node in self.nodes]

    def _context(self) -> BackendContext:
        return BackendContext(self.clock, Limits(), lambda: START + self.clock.seconds(), print)

    def _make_worker(self, node: StagedNode) -> OriginBackend:
        location = OriginLocation("memory:", "", (read_address("memcached://old"),))
        made: Any = warm(self.items.for_worker(self, node.number), location, self._context())
        worker: OriginBackend = made
        made._old.nodes = [node]
        made._stages.start = lambda: None
        made._stages._until = float("inf")
        made._stages.stage = Stage.REDIS_FIRST
        made._stages.state = FillState(notes_removals=self.items.notes_removals)
        made._up_since = [-1e9]
        worker.start()
        return worker

    def add(self, queue: Queue, do: Do) -> None:
        """Something to be carried out, after what is in the same queue already."""
        self._queues.setdefault(queue, deque()).append(do)

    def choices(self) -> list[tuple[Choice, Callable[[], None]]]:
        """What can happen next."""
        found: list[tuple[Choice, Callable[[], None]]] = []
        for name, queue in self._queues.items():
            if queue:
                found.append(((name, WELL), partial(self._carry_out, queue)))
                if name[0].startswith("old") and self.failures:
                    found.append(((name, UNANSWERED), partial(self._fail, queue, True)))
                    found.append(((name, LOST), partial(self._fail, queue, False)))
        return found

    def _carry_out(self, queue: deque[Do]) -> None:
        queue.popleft()(True, True)

    def _fail(self, queue: deque[Do], arrives: bool) -> None:
        self.failures -= 1
        queue.popleft()(arrives, False)

    def finish(self) -> None:
        """Carry out all that is left, as it comes."""
        while choices := self.choices():
            _, do = choices[0]
            do()

    def begin_repair(self) -> None:
        """Let the first worker begin to see to what the old side has missed."""
        state = FillState(denied=self.items.count_denied(), leads=True)
        self.workers[0]._on_look(state)

    def repair(self) -> None:
        """Let it do that, with nothing going on beside."""
        self.nodes[0].up = True
        self.begin_repair()
        self.finish()

    def ask(self, worker: int, *commands: Command) -> list[Result]:
        """What a worker answers, with nothing going on beside."""
        self.failures = 0
        results: list[list[Result]] = []
        self.workers[worker].execute(commands).addCallback(results.append)
        self.finish()
        return results[0]


class SharedItems(Protocol):
    """
    What the workers share, and how one of them reaches it.

    @ivar notes_removals: see L{FillState}.
    """

    notes_removals: bool

    def for_worker(self, world: World, number: int) -> IStorageBackend:
        """A storage whose steps are carried out when the world says."""

    def value(self, key: bytes) -> bytes | None:
        """The value of an item, without a step."""

    def evict(self, key: bytes) -> None:
        """Remove an item as Redis does it by itself."""

    def count_denied(self) -> int | None:
        """How many keys are denied."""


class SharedMemory:
    """Items in memory: each batch is one step."""

    notes_removals = False

    def __init__(self, context: BackendContext) -> None:
        self.backend = MemoryBackend(context)

    def for_worker(self, world: World, number: int) -> IStorageBackend:
        return StagedMemory(world, self.backend, number)

    def value(self, key: bytes) -> bytes | None:
        item = self.backend.get(key)
        return None if item is None else item.value

    def evict(self, key: bytes) -> None:
        self.backend.delete(Delete(key))

    def count_denied(self) -> int | None:
        return self.backend.leases.count_denied()


class StagedMemory(MemoryBackend):
    """The storage as one worker reaches it."""

    def __init__(self, world: World, shared: MemoryBackend, number: int) -> None:
        super().__init__(world._context())
        self._world = world
        self._shared = shared
        self._number = number

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        if isinstance(commands[0], EndChanges):  # for which nobody waits
            return self._shared.execute(commands)
        answer: Deferred[list[Result]] = Deferred()

        def do(arrives: bool, answers: bool) -> None:
            self._shared.execute(commands).chainDeferred(answer)

        self._world.add(("storage", self._number), do)
        return answer


class StagedNode:
    """
    The old memcached as one worker reaches it. Once a request fails, it is away.

    @ivar is_slow: the next request is not answered in time, and arrives some time after that.
    """

    def __init__(self, world: World, number: int) -> None:
        self.up = True
        self.is_slow = False
        self._late = 0
        self.number = number
        self.on_up: Callable[[], None] = lambda: None
        self._world = world

    async def start(self) -> None:
        pass

    def stop(self) -> None:
        self.up = False

    def is_through(self, begin: float, end: float) -> bool:
        return not self._late

    def _arrive(self, request: bytes) -> None:
        self._world.shelf.answer(request)
        self._late -= 1

    def ask(self, request: bytes, expected: int) -> Deferred[list[Reply]]:
        if not self.up:
            return fail(AwayError("it is away"))
        if self.is_slow:
            self.is_slow = False
            self._late += 1
            late = ("old", -1 - self.number)  # overtaken by what comes after it
            self._world.add(late, lambda arrives, answers: self._arrive(request))
            return fail(AwayError("it does not answer in time"))
        answer: Deferred[list[Reply]] = Deferred()

        def do(arrives: bool, answers: bool) -> None:
            replies = self._world.shelf.answer(request) if arrives else []
            if answers and self.up:
                assert len(replies) == expected
                answer.callback(replies)
            else:
                self.up = False
                answer.errback(AwayError("it does not answer"))

        reads = all(line.startswith((b"mg ", b"mn")) for line in request.split(b"\r\n")[:-1])
        self._world.add(("old reads" if reads else "old", self.number), do)
        return answer


def every_schedule(
    make: Callable[[], World],
    batches: Sequence[tuple[Any, ...]],
    check: Callable[[World, list[list[Result]]], None],
    begin: Callable[[World], None] = lambda world: None,
) -> int:
    """
    Give batches (a worker, and commands) to workers at the same time, and let
    happen what can in every possible order, with what else begins in C{begin}; C{check} sees
    how each ends. Gives the number of orders.

    Of orders that differ only in steps that have nothing to do with each other, one is tried. Where
    there are more than L{World.most_orders}, a third as many others are drawn by lot.
    """
    chosen: list[int] = []
    count = ended = 0
    lot = Random(1)
    while True:
        by_lot = World.most_orders is not None and count >= World.most_orders
        world = make()
        results: list[list[Result]] = [[] for _ in batches]
        for place, (worker, *commands) in enumerate(batches):
            world.workers[worker].execute(commands).addCallback(results[place].extend)
        begin(world)
        taken: list[tuple[int, int]] = []
        tried: set[Choice] = set()  # with these next, it comes to what has been tried
        while choices := [one for one in world.choices() if one[0] not in tried]:
            which = chosen[len(taken)] if len(taken) < len(chosen) else 0
            if by_lot:
                which = lot.randrange(len(choices))
            taken.append((which, len(choices)))
            now, do = choices[which]
            if not by_lot:
                tried |= {one for one, _ in choices[:which]}
                tried = {one for one in tried if _have_nothing_to_do(one, now)}
            do()
        count += 1
        if not world.choices():
            assert all(results), "somebody was not answered"
            check(world, results)
            ended += 1
        while taken and taken[-1][0] == taken[-1][1] - 1:
            taken.pop()
        if (not taken and not by_lot) or (
            World.most_orders is not None and count >= World.most_orders * 4 // 3
        ):
            return ended
        if not by_lot:
            chosen = [which for which, _ in taken]
            chosen[-1] += 1


def _have_nothing_to_do(one: Choice, other: Choice) -> bool:
    """Whether two steps come to the same in either order, and both are possible in both."""
    ((where, worker), goes), ((other_where, other_worker), other_goes) = one, other
    if worker == other_worker or not (goes == other_goes == WELL or WELL in (goes, other_goes)):
        return False
    place, _, reads = where.partition(" ")
    other_place, _, other_reads = other_where.partition(" ")
    return place != other_place or bool(reads and other_reads)
