"""
Whatever happens at the same time, in whichever order: nothing that was deleted
comes back, no change is lost, and the old side has no other value.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from twisted.internet.defer import Deferred

from redcouch.backends.fill_leases import FillState
from redcouch.backends.origin.stages import Stage
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Flush,
    Get,
    GetAndTouch,
    Inspect,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from redcouch.expiry import seconds_left
from redcouch.memcached_client.pool import OriginPool
from redcouch.memcached_client.protocol import Reply
from redcouch.results import Listed, Number, Outcome, Result, Stored
from tests.backends.origin.cluster_world import BlockingRedis, SharedCluster
from tests.backends.origin.world import START, SharedMemory, World, every_schedule
from tests.support import servers

K = b"k"
GET = Get([K])
DELETE = Delete(K)
FLUSH = Flush()
INCR = Arithmetic(K, 1)
APPEND = Store(StoreMode.APPEND, K, b"+")
MARK = Invalidate(K, stale=True)


@pytest.fixture(scope="module")
def redis() -> Iterator[BlockingRedis]:
    with servers.redis_server() as server, closing(BlockingRedis(server.socket)) as connection:
        yield connection


@pytest.fixture(autouse=True, params=["memory", "cluster"])
def _items(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What the workers share: items in memory, or in a cluster, where each key is a step of its own.
    There, some tests have so many orders that REDCOUCH_EVERY_ORDER=1 has to ask for them all.
    """
    make: Any = SharedMemory
    if request.param == "cluster":
        make = partial(SharedCluster, request.getfixturevalue("redis"))
        if not os.environ.get("REDCOUCH_EVERY_ORDER"):
            monkeypatch.setattr(World, "most_orders", 150)
    monkeypatch.setattr(World, "make_items", make)


def store(value: bytes, mode: StoreMode = StoreMode.SET, exptime: int = 0) -> Store:
    return Store(mode, K, value, exptime=exptime)


def cold(workers: int, failures: int = 0, value: bytes = b"1") -> Callable[[], World]:
    """Makes worlds in which only the old side has the item."""

    def make() -> World:
        world = World(workers, failures)
        world.shelf.items[K] = value
        return world

    return make


def in_storage(world: World) -> bytes | None:
    return world.items.value(K)


def seen(world: World) -> bytes | None:
    """What a client reads when all is done."""
    (found,) = world.ask(0, GET)[0]
    return None if found is None else bytes(found[0])


@pytest.mark.parametrize(
    ("removal", "readers"), [(DELETE, 1), (FLUSH, 1), (store(b"x", exptime=-1), 1), (DELETE, 2)]
)
def test_removed_for_good(removal: Command, readers: int) -> None:
    """A get that finds the item on the old side just then does not bring it back."""

    def check(world: World, results: list[list[Result]]) -> None:
        assert world.shelf.items == {}
        assert in_storage(world) is None
        assert seen(world) is None

    gets = [(number + 1, GET) for number in range(readers)]
    assert every_schedule(cold(3), [(0, removal), *gets], check) > 1


def test_a_set_is_the_last_word() -> None:
    """A new value is not followed by the one before it."""

    def check(world: World, results: list[list[Result]]) -> None:
        assert in_storage(world) == b"new"
        assert world.shelf.items.get(K) in (None, b"new")

    assert every_schedule(cold(2), [(0, store(b"new")), (1, GET)], check) > 1


@pytest.mark.parametrize(
    "commands",
    [
        [store(b"one"), store(b"two")],
        [store(b"7"), INCR],
        [store(b"1"), INCR],
        [store(b"one"), store(b"+", StoreMode.APPEND)],
        [store(b"one", StoreMode.ADD), store(b"two")],
        [store(b"+", StoreMode.APPEND), INCR],
    ],
    ids=repr,
)
def test_both_sides_end_alike(commands: Sequence[Command]) -> None:
    """Two workers that change an item leave the same behind on both sides, or none on the old."""

    def check(world: World, results: list[list[Result]]) -> None:
        assert world.shelf.items.get(K) in (None, in_storage(world))

    batches = list(enumerate(commands))
    assert every_schedule(cold(2), batches, check) > 1
    warm_already = cold(2)

    def make() -> World:
        world = warm_already()
        world.ask(0, GET)
        return world

    assert every_schedule(make, batches, check) > 1


@pytest.mark.parametrize(
    "commands",
    [
        [store(b"x", exptime=100), Touch(K, 1000)],
        [store(b"x"), GetAndTouch([K], 2_000_000_000)],
        [Touch(K, 100), Touch(K, 0)],
        [Arithmetic(K, 1, touch=100), MetaGet(K, touch=1000)],
        [INCR, Touch(K, 100)],
    ],
    ids=repr,
)
def test_both_sides_end_at_the_same_time(commands: Sequence[Command]) -> None:
    """Two workers of which one gives an item another time to live: no other one is left there."""

    def make() -> World:
        world = cold(2)()
        world.ask(0, GET)
        return world

    def check(world: World, results: list[list[Result]]) -> None:
        (listed,) = world.ask(0, Inspect(K))
        assert isinstance(listed, Listed)
        if K in world.shelf.items:
            exptime = world.shelf.expiries.get(K, 0)
            assert seconds_left(exptime, START) == listed.ttl

    assert every_schedule(make, list(enumerate(commands)), check) > 1


@pytest.mark.parametrize(
    ("batch", "last"),
    [
        ([store(b"7"), INCR], b"8"),
        ([store(b"7"), Touch(K, 0)], b"7"),
        ([INCR, store(b"+", StoreMode.APPEND)], b"2+"),
        ([store(b"7"), DELETE, store(b"8", StoreMode.ADD)], b"8"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("other", [store(b"two"), INCR, DELETE, GET], ids=repr)
def test_a_batch(batch: Sequence[Command], last: bytes, other: Command) -> None:
    """
    The same for a client that sends several requests at once. A deletion that
    overlaps with a change may count as the earlier of the two.
    """

    def check(world: World, results: list[list[Result]]) -> None:
        later = last if other is DELETE else None
        assert world.shelf.items.get(K) in (None, in_storage(world), later)

    assert every_schedule(cold(2), [(0, *batch), (1, other)], check) > 1


def test_no_change_is_lost() -> None:
    """What is made of a cold item by two at once is made twice."""

    def counted(world: World, results: list[list[Result]]) -> None:
        assert in_storage(world) == b"3"
        assert world.shelf.items.get(K) in (None, b"3")
        assert all(isinstance(result, Number) for (result,) in results)

    def appended(world: World, results: list[list[Result]]) -> None:
        assert in_storage(world) in (b"1+-", b"1-+")
        assert world.shelf.items.get(K) in (None, in_storage(world))

    every_schedule(cold(2), [(0, INCR), (1, INCR)], counted)
    more = [store(b"+", StoreMode.APPEND), store(b"-", StoreMode.APPEND)]
    every_schedule(cold(2), list(enumerate(more)), appended)


def test_one_lock() -> None:
    """Of two that add, one is told that it has; none, where the old side has the item."""

    def check(world: World, results: list[list[Result]]) -> None:
        assert sum(isinstance(result, Stored) for (result,) in results) == 1

    def taken(world: World, results: list[list[Result]]) -> None:
        assert results == [[Outcome.NOT_STORED]] * 2

    adds = [(number, store(b"%d" % number, StoreMode.ADD)) for number in range(2)]
    every_schedule(lambda: World(2), adds, check)
    every_schedule(cold(2), adds, taken)


def test_a_lock_that_is_let_go() -> None:
    """Who takes it then has it, on both sides, whoever else asks for it at that moment."""

    def make() -> World:
        world = World(3)
        world.ask(0, store(b"0", StoreMode.ADD))
        if isinstance(world.items, SharedMemory):  # from an add in the middle of the first one
            world.items.backend.leases.take(K)
        return world

    def check(world: World, results: list[list[Result]]) -> None:
        assert results[0] == [Outcome.DELETED]
        taken = [number for number in (1, 2) if isinstance(results[number][0], Stored)]
        assert len(taken) <= 1
        has = b"%d" % taken[0] if taken else None
        assert in_storage(world) == world.shelf.items.get(K) == has

    adds = [(number, store(b"%d" % number, StoreMode.ADD)) for number in (1, 2)]
    assert every_schedule(make, [(0, DELETE), *adds], check) > 50


@pytest.mark.parametrize("missed", [True, False])
def test_removed_once(missed: bool) -> None:
    """What the old side has of an item whose removal it has missed is nothing to remove."""
    world = cold(1)()
    if missed:
        world.nodes[0].up = False
        world.ask(0, DELETE)
        world.nodes[0].up = True
        assert world.ask(0, GET) == [[None]]
    assert world.shelf.items.get(K) == b"1"
    assert world.ask(0, DELETE) == [Outcome.NOT_FOUND if missed else Outcome.DELETED]
    assert world.shelf.items.get(K) is None


def test_set_and_delete() -> None:
    """Either may be the last; what was there before is gone in any case."""

    def check(world: World, results: list[list[Result]]) -> None:
        value = in_storage(world)
        assert value in (None, b"new")
        assert world.shelf.items.get(K) in (None, b"new")
        assert seen(world) in (None, b"new")

    assert every_schedule(cold(2), [(0, store(b"new")), (1, DELETE)], check) > 1
    assert every_schedule(cold(3), [(0, store(b"new")), (1, DELETE), (2, GET)], check) > 50


@pytest.mark.parametrize("command", [DELETE, FLUSH, store(b"new"), INCR], ids=repr)
def test_what_the_old_side_missed(command: Command) -> None:
    """
    One of its answers, or of the requests to it, is lost: nobody is told of a
    failure, and when it is there again it gives nothing that is out of date.
    """

    def check(world: World, results: list[list[Result]]) -> None:
        assert results[0][0] in (Outcome.DELETED, Outcome.NOT_FOUND, Outcome.OK) or isinstance(
            results[0][0], Stored | Number
        )
        for node in world.nodes:
            node.up = True
        if in_storage(world) is not None:  # as Redis evicts
            world.items.evict(K)
        before = None if command is INCR and results[0][0] is Outcome.NOT_FOUND else b"1"
        assert before is None or seen(world) != before

    assert every_schedule(cold(2, failures=1), [(0, command), (1, GET)], check) > 1


def test_both_change_while_it_fails() -> None:
    """The same where two workers are at it."""

    def check(world: World, results: list[list[Result]]) -> None:
        for node in world.nodes:
            node.up = True
        stored = in_storage(world)
        old = world.shelf.items.get(K)
        assert old in (None, stored) or world.items.count_denied() == 1

    batches: list[tuple[int, Command]] = [(0, store(b"one")), (1, store(b"two"))]
    assert every_schedule(cold(2, failures=1), batches, check) > 1


@pytest.mark.parametrize("command", [DELETE, FLUSH, store(b"new"), INCR, APPEND, MARK], ids=repr)
def test_repaired_meanwhile(command: Command) -> None:
    """What the old side has missed is put there just while somebody changes it once more."""

    def make() -> World:
        world = World(2)
        world.ask(0, store(b"5"))
        world.shelf.items[K] = b"old"
        Deferred.fromCoroutine(world.workers[0]._deny([K], 0.0))
        world.finish()
        assert world.items.count_denied() == 1
        return world

    def check(world: World, results: list[list[Result]]) -> None:
        if world.items.count_denied() == 0:
            assert world.shelf.items.get(K) in (None, in_storage(world))
        if command is MARK:
            assert results == [[Outcome.OK]]
            assert in_storage(world) == b"5"
            world.repair()
            assert world.shelf.items == {}
        if command in (DELETE, FLUSH):
            assert in_storage(world) is None
            assert seen(world) is None

    assert every_schedule(make, [(1, command)], check, World.begin_repair) > 1


@pytest.mark.parametrize("command", [DELETE, FLUSH, store(b"new"), INCR, APPEND], ids=repr)
def test_a_change_that_comes_late(command: Command) -> None:
    """
    What the old side was told, and did not answer in time, it may still do at any moment: while
    others repair, and while the item is changed once more.
    """

    def make() -> World:
        world = World(2)
        world.ask(0, store(b"5"))
        world.nodes[1].is_slow = True
        answered = world.workers[1].execute([store(b"6")])
        while not answered.called:
            next(do for ((queue, _), _), do in world.choices() if queue != "old")()
        assert world.items.count_denied() == 1
        return world

    def check(world: World, results: list[list[Result]]) -> None:
        for worker in world.workers:
            worker._on_look(FillState())
        world.finish()
        world.repair()
        assert world.items.count_denied() == 0
        assert world.shelf.items.get(K) in (None, in_storage(world))
        if command in (DELETE, FLUSH):
            assert in_storage(world) is None
            assert seen(world) is None

    assert every_schedule(make, [(0, command)], check, World.begin_repair) > 1


def test_late_in_another_stage() -> None:
    """Where Redis is right alone, nobody waits for what comes late to the old side."""
    world = World(1)
    world.nodes[0].is_slow = True
    answered = world.workers[0].execute([store(b"6")])
    while not answered.called:
        next(do for ((queue, _), _), do in world.choices() if queue != "old")()
    worker: Any = world.workers[0]
    worker._on_look(FillState())
    assert worker._late
    worker._stages.stage = Stage.REDIS_ONLY
    worker._on_look(FillState())
    assert not worker._late


@pytest.mark.parametrize("there", [0, 100])
def test_together(there: int) -> None:
    """However many keys are missed, the old side is asked for all of them at once."""
    world = World(1)
    keys = [b"%d" % number for number in range(100)]
    world.shelf.items.update(dict.fromkeys(keys[:there], b"x"))
    asked = []
    answer = world.shelf.answer
    world.shelf.answer = lambda request: asked.append(request) or answer(request)  # type: ignore
    (found,) = world.ask(0, Get(keys))
    assert len(asked) == (2 if there else 1)  # which there are, and then those
    assert sum(one is not None for one in found) == there


def test_repair_that_is_refused() -> None:
    """What it has no room for, it may keep as it was: "Out of memory during read" does so."""
    world = cold(1)()
    world.nodes[0].up = False
    assert isinstance(world.ask(0, store(b"new"))[0], Stored)
    answer = world.shelf.answer
    full = [Reply(b"SERVER_ERROR", b"Out of memory during read".split(b" "))]
    with patch.object(world.shelf, "answer") as answers:
        answers.side_effect = lambda asked: full if asked[:2] == b"ms" else answer(asked)
        world.repair()
    assert world.shelf.items == {} and world.items.count_denied() == 0


def test_repair_of_what_is_about_to_end() -> None:
    """In its last millisecond an item has 0 s to live, which as an exptime would be for ever."""
    world = World(1)
    world.nodes[0].up = False
    assert isinstance(world.ask(0, store(b"x", exptime=100))[0], Stored)
    repairer: Any = world.workers[0]._repairer
    ask = repairer._ask

    async def in_the_last_millisecond(commands: Sequence[Command]) -> list[Result]:
        results = await ask(commands)
        return [replace(one, ttl=0) if isinstance(one, Listed) else one for one in results]

    repairer._ask = in_the_last_millisecond
    world.repair()
    assert world.shelf.items == {} and world.items.count_denied() == 0


def test_repairs_of_large_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read and put there a few at a time: all together they would fill the memory."""
    world = World(1)
    world.nodes[0].up = False
    keys = [b"%d" % number for number in range(8)]
    for key in keys:
        assert isinstance(world.ask(0, Store(StoreMode.SET, key, b"x" * 200_000))[0], Stored)
    told: list[int] = []
    tell = OriginPool.tell

    def counted(self: OriginPool, requests: Sequence[tuple[bytes, bytes]], budget: Any) -> Any:
        told.append(sum(len(request) for _, request in requests))
        return tell(self, requests, budget)

    monkeypatch.setattr(OriginPool, "tell", counted)
    world.repair()
    assert world.shelf.items.keys() == {*keys} and world.items.count_denied() == 0
    assert max(told) < 300_000


@pytest.mark.parametrize(
    "command",
    [
        store(b"x", StoreMode.ADD, -1),
        Arithmetic(K, 1, touch=-1),
        Invalidate(K, stale=False, drop_value=True),
    ],
    ids=repr,
)
def test_what_a_removal_leaves(command: Command) -> None:
    """What was to be removed, and was not, the old side gets again; as often as that happens."""
    world = World(1)
    assert isinstance(world.ask(0, store(b"no number"))[0], Stored)
    for _ in range(2):
        world.ask(0, command)
        world.repair()
        assert world.shelf.items.get(K) == in_storage(world) is not None


def test_removed_twice() -> None:
    """What one command has removed, a delete behind it in the same batch does not find."""
    for first in (store(b"x", exptime=-1), Touch(K, -1), DELETE):
        assert cold(1)().ask(0, first, DELETE)[1] is Outcome.NOT_FOUND


@pytest.mark.parametrize("stage", [Stage.ORIGIN_FIRST, Stage.REDIS_FIRST])
def test_around_a_delayed_flush(stage: Stage) -> None:
    """While one side may be empty and the other not yet, nothing is fetched, whoever was right."""
    world = cold(1)()
    worker: Any = world.workers[0]
    worker._stages.stage = stage
    assert world.ask(0, Flush(100)) == [Outcome.OK]  # which is due after 99 s, as in memcached
    worker._stages.stage = Stage.REDIS_FIRST
    world.shelf.items[K] = b"1"
    world.clock.advance(98)
    assert world.ask(0, GET) == [[None]]
    world.clock.advance(5.9)
    assert world.ask(0, GET) == [[None]]
    world.clock.advance(0.1)
    assert seen(world) == b"1"


@pytest.mark.parametrize("stale", [False, True])
def test_stored_with_any_older_token(stale: bool) -> None:
    """The old side gets what C{ms} with C{I} has stored, unless that has marked it stale."""
    world = World(1)
    tokens = [world.ask(0, store(b"1"))[0] for _ in range(2)]
    token: Any = tokens[0 if stale else 1]
    newest = replace(store(b"2"), compare=token.cas, invalidate=True)
    assert isinstance(world.ask(0, newest)[0], Stored)
    world.repair()
    assert world.items.count_denied() == 0
    assert world.shelf.items == ({} if stale else {K: b"2"})
