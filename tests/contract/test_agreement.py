"""
The same random commands, on items in memory and on items in Redis, have the
same results.

Hypothesis runs in a thread of its own, since it knows nothing of a reactor.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase

from redcouch.backends.memory import MemoryBackend
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Dump,
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
from redcouch.interfaces import BackendContext, IStorageBackend
from redcouch.results import Item, Listed, ListedPage, Outcome, Result
from tests.contract import contract, redis_storage
from tests.contract.numbers import TWO_64
from tests.support.requirements import needs
from tests.support.results import named
from tests.support.servers import shared_redis

T = TypeVar("T")

ABSOLUTE = 500 + (1 << 40)
"""Stands for the exptime that is 500 seconds from now, as a point in time."""

BOGUS = -1
"""Stands for a token that no item has."""

EXPTIMES = ("exptime", "touch", "vivify", "recache")

STANDING = ("ttl", "fetched")
"""What may be left out where it was not asked for."""

# What is drawn. Times are such that no two of them meet by accident.

keys = st.sampled_from([b"a", b"b", b"c%[*\\", b"d" * 250])
values = st.one_of(
    st.sampled_from([b"", b"0", b"7", b"18446744073709551615", b"9223372036854775807 ", b" 12"]),
    st.sampled_from([b"x" * 3000, b"\0\r\n\xff", b"-1", b"seven"]),
    st.binary(max_size=8),
)
flags = st.sampled_from([0, 0, 0, 1, (1 << 32) - 1])
exptimes = st.sampled_from([0, 0, 0, 100, 1000, ABSOLUTE, -1, 2_592_001])
maybe_exptimes = st.none() | exptimes
compares = st.sampled_from([None, None, None, BOGUS, *range(6)])
numbers = st.sampled_from(contract.EDGES)
some_keys = st.lists(keys, min_size=1, max_size=3)

commands = st.one_of(
    st.builds(Get, some_keys, st.booleans()),
    st.builds(GetAndTouch, some_keys, exptimes, st.booleans()),
    st.builds(
        Store,
        st.sampled_from(StoreMode),
        keys,
        values,
        flags,
        exptimes,
        compares,
        invalidate=st.booleans(),
        vivify=maybe_exptimes,
    ),
    st.builds(
        Arithmetic,
        keys,
        numbers,
        st.booleans(),
        st.none() | numbers,
        exptimes,
        compares,
        touch=maybe_exptimes,
        ttl=st.booleans(),
    ),
    st.builds(Delete, keys, compares),
    st.builds(Touch, keys, exptimes),
    st.builds(Discard, keys),
    st.builds(
        Invalidate, keys, st.booleans(), st.booleans(), maybe_exptimes, compares, flags=flags
    ),
    st.builds(
        MetaGet,
        keys,
        value=st.booleans(),
        cas=st.booleans(),
        metadata=st.booleans(),
        touch=maybe_exptimes,
        vivify=maybe_exptimes,
        recache=st.sampled_from([None, 33, 333]),
        touch_first=st.booleans(),
        no_update=st.booleans(),
    ),
    st.builds(Inspect, keys),
    st.builds(Flush, st.sampled_from([0, -1, 100, 1000])),
)


class Both:
    """A storage in memory and one in Redis, and the tokens that each has given."""

    def __init__(self, over_redis: redis_storage.RedisStorage) -> None:
        self.over_redis = over_redis
        self.clock = over_redis.clock
        context = BackendContext(self.clock, contract.LIMITS, over_redis.now, print)
        self.memory: IStorageBackend = MemoryBackend(context)
        self._elapsed = 0.0
        self._tokens: list[tuple[int, int]] = []

    async def start_over(self) -> None:
        """An empty storage on both sides."""
        await self.over_redis.storage.execute([Flush()])
        self.over_redis.client.flushdb()
        self.__init__(self.over_redis)  # type: ignore[misc]

    async def elapse(self, seconds: float) -> None:
        self._elapsed += seconds
        await self.over_redis.elapse(seconds)

    async def perform(self, batch: list[Command]) -> None:
        """Do it on both sides, and compare."""
        now = self.over_redis.now()
        here = await self.memory.execute([self._fill_in(one, 0, now) for one in batch])
        there = named(
            await self.over_redis.storage.execute(
                [self._fill_in(one, 1, time.time()) for one in batch]
            )
        )
        assert len(here) == len(there) == len(batch)
        for command, one, other in zip(batch, here, there, strict=True):
            if not isinstance(command, Discard):
                self._compare(command, one, other)

    async def list_all(self) -> None:
        """Both know of the same items."""
        here, there = [await _dump(side) for side in (self.memory, self.over_redis.storage)]
        assert set(here) == set(there)
        for key in here:
            self._compare(Dump(), here[key], there[key])

    def _fill_in(self, command: Command, side: int, now: float) -> Command:
        """The command with tokens and times as this side knows them."""
        changes: dict[str, Any] = {
            name: int(now) + 500 for name in EXPTIMES if getattr(command, name, None) == ABSOLUTE
        }
        compare = getattr(command, "compare", None)
        if compare is not None:
            known = compare != BOGUS and self._tokens
            # The latest tokens are the ones that are worth comparing with.
            token = self._tokens[-1 - compare % len(self._tokens)][side] if known else TWO_64 - 1
            changes["compare"] = token
        return dataclasses.replace(command, **changes) if changes else command  # type: ignore[type-var]

    def _compare(self, command: Command, one: Result, other: Result) -> None:
        if isinstance(one, list):
            assert len(one) == len(other)
            for here, there in zip(one, other, strict=True):
                self._compare(command, here, there)
            return
        assert type(one) is type(other), (command, one, other)
        if one is None or isinstance(one, Outcome):
            assert one == other, (command, one, other)
            return
        names = one._fields if isinstance(one, Item) else [f.name for f in dataclasses.fields(one)]
        for name in names:
            here, there = getattr(one, name), getattr(other, name)
            assert self._agree(command, name, here, there), (command, one, other)

    def _agree(self, command: Command, name: str, here: Any, there: Any) -> bool:
        if name == "idle":
            return True  # by Redis' own clock
        if name == "cas":
            return not getattr(command, "cas", True) or self._agree_on_token(here, there)
        if name in STANDING and isinstance(command, MetaGet) and not command.metadata:
            return True
        if name == "ttl":
            return here == there or (None not in (here, there) and abs(here - there) < 30)
        return bool(here == there)

    def _agree_on_token(self, here: int, there: int) -> bool:
        """Tokens are other numbers on either side, but they are the same tokens."""
        if (here, there) in self._tokens:
            return True
        if any(here == one or there == other for one, other in self._tokens):
            return False
        self._tokens.append((here, there))
        return True


async def _dump(storage: IStorageBackend) -> dict[bytes, Listed]:
    found = {}
    cursor = b""
    while True:
        (page,) = await storage.execute([Dump(cursor)])
        assert isinstance(page, ListedPage), page
        found.update({listed.key: listed for listed in page.items})
        cursor = page.cursor
        if not cursor:
            return found


class Agreement(RuleBasedStateMachine):
    """Random batches of commands, with time passing in between."""

    def __init__(self, both: Both) -> None:
        super().__init__()
        self._both = both
        self._wait_for(both.start_over)

    def _wait_for(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> None:
        blockingCallFromThread(
            reactor,  # type: ignore[arg-type]
            lambda: Deferred.fromCoroutine(function(*arguments)),  # type: ignore[arg-type]
        )

    @rule(batch=st.lists(commands, min_size=1, max_size=6))
    def perform(self, batch: list[Command]) -> None:
        """A batch of all kinds of commands."""
        self._wait_for(self._both.perform, batch)

    @rule(key=keys, value=values, flags=flags, exptime=exptimes)
    def store(self, key: bytes, value: bytes, flags: int, exptime: int) -> None:
        """So that there are items to work on."""
        self._wait_for(self._both.perform, [Store(StoreMode.SET, key, value, flags, exptime)])

    @rule(seconds=st.sampled_from([51, 151, 951]))
    def elapse(self, seconds: int) -> None:
        """Time passes on both sides."""
        self._wait_for(self._both.elapse, seconds)

    @rule()
    def list_all(self) -> None:
        """Both list the same items."""
        self._wait_for(self._both.list_all)


class AgreementTests(TestCase):
    """Memory is the plain statement of what Redis has to do."""

    timeout = 500

    async def explore(self, version: str, parameters: str) -> None:
        server = shared_redis(version)
        client = server.client()
        self.addCleanup(client.close)
        client.flushall()
        over_redis = redis_storage.RedisStorage(f"{server.url}?{parameters}", client)
        await over_redis.storage.start()
        self.addCleanup(over_redis.storage.stop)
        both = Both(over_redis)
        await deferToThread(
            run_state_machine_as_test,
            partial(Agreement, both),  # type: ignore[arg-type]
            settings=settings(
                max_examples=100,
                stateful_step_count=20,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                # Shrinking takes minutes: leave it in to look closer at a failure.
                phases=(Phase.explicit, Phase.generate),
            ),
        )

    @needs("redis 6.2")
    async def test_redis_62_hex(self) -> None:
        """Redis 6.2, values in hex, answers as memory does."""
        await self.explore("6.2", "encoding=hex")

    @needs("redis 7.0")
    async def test_any_redis_hex(self) -> None:
        """Redis 7.0, values in hex, answers as memory does."""
        await self.explore("7.0", "encoding=hex")

    @needs("redis 8.2")
    async def test_redis_82_raw(self) -> None:
        """Redis 8.2, values as they are, answers as memory does."""
        await self.explore("8.2", "encoding=raw")

    @needs("redis 7.0")
    async def test_any_redis_strings(self) -> None:
        """Redis 7.0, items as plain strings, answers as memory does."""
        await self.explore("7.0", "layout=string&flush=all")

    @needs("valkey 8.1")
    async def test_valkey_hex(self) -> None:
        """Valkey 8.1, values in hex, answers as memory does."""
        await self.explore("valkey 8.1", "encoding=hex")
