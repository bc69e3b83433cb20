"""
L{Items} for redis-py, and L{AsyncItems} for its asyncio side.

Both have the same methods, each written once as L{Steps}: what goes to Redis is yielded,
what comes back is sent in. The two classes differ in how they wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import update_wrapper
from itertools import islice
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar, overload

from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.client import NEVER_DECODE
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError, ResponseError, SlotNotCoveredError

from redcouch.backends.redis.layout import UNREADABLE
from redcouch.native.operations import Call, Found, Operations, UnreadableItemError

if TYPE_CHECKING:  # and named in strings below
    from redis import Redis  # noqa: F401
    from redis.asyncio import Redis as AsyncRedis  # noqa: F401

T = TypeVar("T")
P = ParamSpec("P")
Client = TypeVar("Client")

BATCH = 500
"""Keys that go to Redis in one round trip."""

Key = str | bytes

Command: TypeAlias = tuple[Any, ...]

Steps: TypeAlias = Generator[Sequence[Command], Sequence[Any], T]
"""
Yields commands that go to Redis in one round trip, and is sent the replies, with errors of
Redis in their places.
"""


def _evalsha(call: Call[Any]) -> Command:
    return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.arguments)


def _eval(call: Call[Any]) -> Command:
    return ("EVAL", call.script.text, len(call.keys), *call.keys, *call.arguments)


def batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """The same, in lists."""
    remaining = iter(things)
    while batch := list(islice(remaining, size)):
        yield batch


def _read(call: Call[T], reply: Any) -> T:
    """What a reply means; an error is raised."""
    if isinstance(reply, ResponseError) and str(reply).startswith("UNREADABLE"):
        raise UnreadableItemError(UNREADABLE.message) from reply
    if isinstance(reply, Exception):
        raise reply
    return call.read(reply)


#: Values are bytes, whatever the client makes of other replies.
_PLAIN: dict[str, Any] = {NEVER_DECODE: []}


def served_by(client: RedisCluster, command: Sequence[Any]) -> dict[str, Any]:
    """
    The option of a pipeline's command that says which node it is for. Of a script redis-py would
    ask Redis for the keys: a round trip for each, with the value in it.
    """
    if command[0] in ("EVALSHA", "EVAL"):
        with suppress(SlotNotCoveredError):  # redis-py looks for the node then, again and again
            return {"target_nodes": client.get_node_from_key(command[3])}
    return {}


class operation(Generic[P, T]):  # noqa: N801 - a decorator, as property is
    """
    A method that is written as L{Steps}: with L{Items} it gives what these return, with
    L{AsyncItems} an awaitable for it.
    """

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self._steps = steps
        update_wrapper(self, steps)

    def __call__(self, items: Items | AsyncItems, *args: P.args, **kwargs: P.kwargs) -> Any:
        return items._perform(self._steps(items, *args, **kwargs))

    @overload
    def __get__(self, items: None, owner: Any) -> operation[P, T]: ...

    @overload
    def __get__(self, items: Items, owner: Any) -> Callable[P, T]: ...

    @overload
    def __get__(self, items: AsyncItems, owner: Any) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, items: Items | AsyncItems | None, owner: Any) -> Any:
        return self if items is None else MethodType(self, items)


class _Methods(Generic[Client]):
    """What can be done to items, whichever way Redis is waited for."""

    def __init__(
        self, client: Client, prefix: Key | None = None, encoding: str = "hex", layout: str = "hash"
    ) -> None:
        self._client = client
        self._cluster = isinstance(client, RedisCluster | AsyncRedisCluster)
        self._operations = Operations(prefix, encoding, layout, self._cluster)

    def _run(self, call: Call[T]) -> Steps[T]:
        (reply,) = yield [_evalsha(call)]
        if isinstance(reply, NoScriptError):
            (reply,) = yield [_eval(call)]
        return _read(call, reply)

    def _run_many(self, calls: Iterable[Call[T]]) -> Steps[list[T]]:
        """Run many calls of one script, in one round trip for each C{BATCH} of them."""
        results: list[T] = []
        for several in batches(calls, BATCH):
            replies = list((yield [*map(_evalsha, several)]))
            unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                if self._cluster:  # each node is told, by the first call that it is given
                    replies_again = yield [_eval(several[place]) for place in unknown]
                else:
                    again = [_evalsha(several[place]) for place in unknown]
                    load = ("SCRIPT LOAD", several[0].script.text)
                    _, *replies_again = yield [load, *again]
                for place, reply in zip(unknown, replies_again, strict=True):
                    replies[place] = reply
            results += map(_read, several, replies)
        return results

    @operation
    def get(self, key: Key) -> Steps[bytes | None]:
        """A value; C{None} where there is none."""
        return self._run(self._operations.get(key))

    @operation
    def gets(self, key: Key) -> Steps[Found | None]:
        """A value with its flags, CAS token and time to live; C{None} where there is none."""
        return self._run(self._operations.gets(key))

    @operation
    def set(self, key: Key, value: Key, ttl: float | None = None, flags: int = 0) -> Steps[int]:
        """Write a value; gives its CAS token."""
        token = yield from self._run(self._operations.store("set", key, value, ttl, flags))
        assert token is not None
        return token

    @operation
    def add(
        self, key: Key, value: Key, ttl: float | None = None, flags: int = 0
    ) -> Steps[int | None]:
        """The same where there is no item; otherwise C{None}."""
        return self._run(self._operations.store("add", key, value, ttl, flags))

    @operation
    def replace(
        self, key: Key, value: Key, ttl: float | None = None, flags: int = 0
    ) -> Steps[int | None]:
        """The same where there is an item; otherwise C{None}."""
        return self._run(self._operations.store("replace", key, value, ttl, flags))

    @operation
    def cas(
        self, key: Key, value: Key, token: int, ttl: float | None = None, flags: int = 0
    ) -> Steps[int | None]:
        """The same where the item carries this token; otherwise C{None}."""
        return self._run(self._operations.store("cas", key, value, ttl, flags, token))

    @operation
    def append(self, key: Key, piece: Key) -> Steps[int | None]:
        """Add behind the value; gives the CAS token, C{None} where there is no item."""
        return self._run(self._operations.concat("append", key, piece))

    @operation
    def prepend(self, key: Key, piece: Key) -> Steps[int | None]:
        """Add before the value; gives the CAS token, C{None} where there is no item."""
        return self._run(self._operations.concat("prepend", key, piece))

    @operation
    def delete(self, key: Key, token: int | None = None) -> Steps[bool]:
        """Remove an item, if it carries this token where one is given. Gives whether it has."""
        return self._run(self._operations.delete(key, token))

    @operation
    def touch(self, key: Key, ttl: float | None = None) -> Steps[bool]:
        """Give an item a new time to live. Gives whether there is one."""
        return self._run(self._operations.touch(key, ttl))

    @operation
    def incr(
        self, key: Key, delta: int = 1, initial: int | None = None, ttl: float | None = None
    ) -> Steps[int | None]:
        """
        Add, wrapping at 2**64. Without an item: C{initial}, stored with C{ttl},
        or C{None}.

        @raise UnreadableItemError: the value is no number.
        """
        return self._run(self._operations.arithmetic("incr", key, delta, initial, ttl))

    @operation
    def decr(
        self, key: Key, delta: int = 1, initial: int | None = None, ttl: float | None = None
    ) -> Steps[int | None]:
        """Take away, stopping at 0; otherwise as L{incr}."""
        return self._run(self._operations.arithmetic("decr", key, delta, initial, ttl))

    @operation
    def get_many(self, keys: Iterable[Key]) -> Steps[dict[Any, bytes]]:
        """
        The values of those that are there, in one round trip for each L{BATCH} keys.
        Where one cannot be read, none is given.
        """
        names = list(keys)
        found = yield from self._run_many(map(self._operations.get, names))
        return {key: value for key, value in zip(names, found, strict=True) if value is not None}

    @operation
    def set_many(
        self, values: Mapping[Any, Key], ttl: float | None = None, flags: int = 0
    ) -> Steps[None]:
        """
        Write several values, in one round trip for each L{BATCH} of them. Each is a step
        of its own: where one raises, others of its batch have been written.
        """
        store = self._operations.store
        yield from self._run_many(
            store("set", key, value, ttl, flags) for key, value in values.items()
        )

    @operation
    def delete_many(self, keys: Iterable[Key]) -> Steps[int]:
        """Remove several items, in the same way. Gives how many there were."""
        removed = yield from self._run_many(self._operations.delete(key, None) for key in keys)
        return sum(removed)


class Items(_Methods["Redis | RedisCluster"]):
    """
    Items by a L{redis.Redis}, or a L{redis.RedisCluster}.

    Keys are without the prefix. Times to live (C{ttl}) are in seconds, C{None}
    for ever. A key of another Redis type raises L{redis.ResponseError}; what
    cannot be read raises L{UnreadableItemError}.

    @param prefix: as the service's storage URL has it; C{None} for the layout's
        own default. So C{encoding} (C{hex} or C{raw}) and C{layout} (C{hash} or
        C{string}).
    """

    def _perform(self, steps: Steps[T]) -> T:
        try:
            commands = next(steps)
            while True:
                commands = steps.send(self._send(commands))
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The replies to commands that go together, with the errors in place."""
        if len(commands) == 1:
            try:
                return [self._client.execute_command(*commands[0], **_PLAIN)]
            except ResponseError as error:
                return [error]
        client = self._client
        with client.pipeline(transaction=False) as pipe:
            for command in commands:
                node = served_by(client, command) if isinstance(client, RedisCluster) else {}
                pipe.execute_command(*command, **_PLAIN, **node)
            replies: list[Any] = pipe.execute(raise_on_error=False)
        return replies


class AsyncItems(_Methods["AsyncRedis | AsyncRedisCluster"]):
    """Items by a L{redis.asyncio.Redis}, or its C{RedisCluster}; otherwise as L{Items}."""

    async def _perform(self, steps: Steps[T]) -> T:
        try:
            commands = next(steps)
            while True:
                commands = steps.send(await self._send(commands))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The replies to commands that go together, with the errors in place."""
        if len(commands) == 1:
            try:
                return [await self._client.execute_command(*commands[0], **_PLAIN)]
            except ResponseError as error:
                return [error]
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command, **_PLAIN)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies
