"""L{Items} for redis-py, and L{AsyncItems} for its asyncio side: the same methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

from redcouch.native.operations import Call, Found, Operations

if TYPE_CHECKING:
    import redis
    import redis.asyncio

T = TypeVar("T")

BATCH = 500
"""Keys that go to Redis in one round trip."""

Key = str | bytes


def _evalsha(call: Call[Any]) -> tuple[Any, ...]:
    return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.arguments)


def _eval(call: Call[Any]) -> tuple[Any, ...]:
    return ("EVAL", call.script.text, len(call.keys), *call.keys, *call.arguments)


def _load(calls: Sequence[Call[Any]]) -> tuple[Any, ...]:
    """Tell Redis the script that all of these calls run."""
    return ("SCRIPT LOAD", calls[0].script.text)


def _batches(calls: Iterable[Call[T]]) -> Iterator[list[Call[T]]]:
    remaining = iter(calls)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def _not_known(replies: Sequence[Any]) -> list[int]:
    """Which calls Redis did not know the script of."""
    return [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def _read_all(calls: Sequence[Call[T]], replies: Sequence[Any]) -> list[T]:
    """What the replies mean; the first error is raised."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return [call.read(reply) for call, reply in zip(calls, replies, strict=True)]


#: Values are bytes, whatever the client makes of other replies.
_PLAIN: dict[str, Any] = {NEVER_DECODE: []}


class Items:
    """
    Items by a L{redis.Redis}.

    Keys are without the prefix. Times to live (C{ttl}) are in seconds, C{None}
    for ever. A key of another Redis type raises L{redis.ResponseError}; what
    cannot be read raises L{UnreadableItemError}.

    @param prefix: as the service's storage URL has it; C{None} for the layout's
        own default. So C{encoding} (C{hex} or C{raw}) and C{layout} (C{hash} or
        C{string}).
    """

    def __init__(
        self,
        client: redis.Redis,
        prefix: Key | None = None,
        encoding: str = "hex",
        layout: str = "hash",
    ) -> None:
        self._client = client
        self._operations = Operations(prefix, encoding, layout)

    def _run(self, call: Call[T]) -> T:
        try:
            reply = self._client.execute_command(*_evalsha(call), **_PLAIN)
        except NoScriptError:
            reply = self._client.execute_command(*_eval(call), **_PLAIN)
        return call.read(reply)

    def _run_many(self, calls: Iterable[Call[T]]) -> list[T]:
        """Run many calls of one script, in one round trip for each C{BATCH} of them."""
        results = []
        for several in _batches(calls):
            replies = self._pipeline(map(_evalsha, several))
            if places := _not_known(replies):
                again = [_load(several), *(_evalsha(several[place]) for place in places)]
                _, *replies_again = self._pipeline(again)
                for place, reply in zip(places, replies_again, strict=True):
                    replies[place] = reply
            results += _read_all(several, replies)
        return results

    def _pipeline(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """The replies to commands that go together, with the errors in place."""
        with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command, **_PLAIN)
            replies: list[Any] = pipe.execute(raise_on_error=False)
        return replies

    def get(self, key: Key) -> bytes | None:
        """A value; C{None} where there is none."""
        return self._run(self._operations.get(key))

    def gets(self, key: Key) -> Found | None:
        """A value with its flags, CAS token and time to live; C{None} where there is none."""
        return self._run(self._operations.gets(key))

    def set(self, key: Key, value: Key, ttl: float | None = None, flags: int = 0) -> int:
        """Write a value; gives its CAS token."""
        token = self._run(self._operations.store("set", key, value, ttl, flags))
        assert token is not None
        return token

    def add(self, key: Key, value: Key, ttl: float | None = None, flags: int = 0) -> int | None:
        """The same where there is no item; otherwise C{None}."""
        return self._run(self._operations.store("add", key, value, ttl, flags))

    def replace(self, key: Key, value: Key, ttl: float | None = None, flags: int = 0) -> int | None:
        """The same where there is an item; otherwise C{None}."""
        return self._run(self._operations.store("replace", key, value, ttl, flags))

    def cas(
        self, key: Key, value: Key, token: int, ttl: float | None = None, flags: int = 0
    ) -> int | None:
        """The same where the item carries this token; otherwise C{None}."""
        return self._run(self._operations.store("cas", key, value, ttl, flags, token))

    def append(self, key: Key, piece: Key) -> int | None:
        """Add behind the value; gives the CAS token, C{None} where there is no item."""
        return self._run(self._operations.concat("append", key, piece))

    def prepend(self, key: Key, piece: Key) -> int | None:
        """Add before the value; gives the CAS token, C{None} where there is no item."""
        return self._run(self._operations.concat("prepend", key, piece))

    def delete(self, key: Key, token: int | None = None) -> bool:
        """Remove an item, if it carries this token where one is given. Gives whether it has."""
        return self._run(self._operations.delete(key, token))

    def touch(self, key: Key, ttl: float | None = None) -> bool:
        """Give an item a new time to live. Gives whether there is one."""
        return self._run(self._operations.touch(key, ttl))

    def incr(
        self, key: Key, delta: int = 1, initial: int | None = None, ttl: float | None = None
    ) -> int | None:
        """
        Add, wrapping at 2**64. Without an item: C{initial}, stored with C{ttl},
        or C{None}.

        @raise UnreadableItemError: the value is no number.
        """
        return self._run(self._operations.arithmetic("incr", key, delta, initial, ttl))

    def decr(
        self, key: Key, delta: int = 1, initial: int | None = None, ttl: float | None = None
    ) -> int | None:
        """Take away, stopping at 0; otherwise as L{incr}."""
        return self._run(self._operations.arithmetic("decr", key, delta, initial, ttl))

    def get_many(self, keys: Iterable[Key]) -> dict[Key, bytes]:
        """
        The values of those that are there, in one round trip for each L{BATCH} keys.
        Where one cannot be read, none is given.
        """
        names = list(keys)
        found = self._run_many(map(self._operations.get, names))
        return {key: value for key, value in zip(names, found, strict=True) if value is not None}

    def set_many(self, values: Mapping[Key, Key], ttl: float | None = None, flags: int = 0) -> None:
        """
        Write several values, in one round trip for each L{BATCH} of them. Each is a step
        of its own: where one raises, others of its batch have been written.
        """
        store = self._operations.store
        self._run_many(store("set", key, value, ttl, flags) for key, value in values.items())

    def delete_many(self, keys: Iterable[Key]) -> int:
        """Remove several items, in the same way. Gives how many there were."""
        return sum(self._run_many(self._operations.delete(key, None) for key in keys))


class AsyncItems:
    """
    Items by a L{redis.asyncio.Redis}; otherwise as L{Items}.

    Keys are without the prefix. Times to live (C{ttl}) are in seconds, C{None}
    for ever. A key of another Redis type raises L{redis.ResponseError}; what
    cannot be read raises L{UnreadableItemError}.

    @param prefix: as the service's storage URL has it; C{None} for the layout's
        own default. So C{encoding} (C{hex} or C{raw}) and C{layout} (C{hash} or
        C{string}).
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        prefix: Key | None = None,
        encoding: str = "hex",
        layout: str = "hash",
    ) -> None:
        self._client = client
        self._operations = Operations(prefix, encoding, layout)

    async def _run(self, call: Call[T]) -> T:
        try:
            reply = await self._client.execute_command(*_evalsha(call), **_PLAIN)
        except NoScriptError:
            reply = await self._client.execute_command(*_eval(call), **_PLAIN)
        return call.read(reply)

    async def _run_many(self, calls: Iterable[Call[T]]) -> list[T]:
        """Run many calls of one script, in one round trip for each C{BATCH} of them."""
        results = []
        for several in _batches(calls):
            replies = await self._pipeline(map(_evalsha, several))
            if places := _not_known(replies):
                again = [_load(several), *(_evalsha(several[place]) for place in places)]
                _, *replies_again = await self._pipeline(again)
                for place, reply in zip(places, replies_again, strict=True):
                    replies[place] = reply
            results += _read_all(several, replies)
        return results

    async def _pipeline(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """The replies to commands that go together, with the errors in place."""
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command, **_PLAIN)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies

    async def get(self, key: Key) -> bytes | None:
        """A value; C{None} where there is none."""
        return await self._run(self._operations.get(key))

    async def gets(self, key: Key) -> Found | None:
        """A value with its flags, CAS token and time to live; C{None} where there is none."""
        return await self._run(self._operations.gets(key))

    async def set(self, key: Key, value: Key, ttl: float | None = None, flags: int = 0) -> int:
        """Write a value; gives its CAS token."""
        token = await self._run(self._operations.store("set", key, value, ttl, flags))
        assert token is not None
        return token

    async def add(
        self, key: Key, value: Key, ttl: float | None = None, flags: int = 0
    ) -> int | None:
        """The same where there is no item; otherwise C{None}."""
        return await self._run(self._operations.store("add", key, value, ttl, flags))

    async def replace(
        self, key: Key, value: Key, ttl: float | None = None, flags: int = 0
    ) -> int | None:
        """The same where there is an item; otherwise C{None}."""
        return await self._run(self._operations.store("replace", key, value, ttl, flags))

    async def cas(
        self, key: Key, value: Key, token: int, ttl: float | None = None, flags: int = 0
    ) -> int | None:
        """The same where the item carries this token; otherwise C{None}."""
        return await self._run(self._operations.store("cas", key, value, ttl, flags, token))

    async def append(self, key: Key, piece: Key) -> int | None:
        """Add behind the value; gives the CAS token, C{None} where there is no item."""
        return await self._run(self._operations.concat("append", key, piece))

    async def prepend(self, key: Key, piece: Key) -> int | None:
        """Add before the value; gives the CAS token, C{None} where there is no item."""
        return await self._run(self._operations.concat("prepend", key, piece))

    async def delete(self, key: Key, token: int | None = None) -> bool:
        """Remove an item, if it carries this token where one is given. Gives whether it has."""
        return await self._run(self._operations.delete(key, token))

    async def touch(self, key: Key, ttl: float | None = None) -> bool:
        """Give an item a new time to live. Gives whether there is one."""
        return await self._run(self._operations.touch(key, ttl))

    async def incr(
        self, key: Key, delta: int = 1, initial: int | None = None, ttl: float | None = None
    ) -> int | None:
        """
        Add, wrapping at 2**64. Without an item: C{initial}, stored with C{ttl},
        or C{None}.

        @raise UnreadableItemError: the value is no number.
        """
        return await self._run(self._operations.arithmetic("incr", key, delta, initial, ttl))

    async def decr(
        self, key: Key, delta: int = 1, initial: int | None = None, ttl: float | None = None
    ) -> int | None:
        """Take away, stopping at 0; otherwise as L{incr}."""
        return await self._run(self._operations.arithmetic("decr", key, delta, initial, ttl))

    async def get_many(self, keys: Iterable[Key]) -> dict[Key, bytes]:
        """
        The values of those that are there, in one round trip for each L{BATCH} keys.
        Where one cannot be read, none is given.
        """
        names = list(keys)
        found = await self._run_many(map(self._operations.get, names))
        return {key: value for key, value in zip(names, found, strict=True) if value is not None}

    async def set_many(
        self, values: Mapping[Key, Key], ttl: float | None = None, flags: int = 0
    ) -> None:
        """
        Write several values, in one round trip for each L{BATCH} of them. Each is a step
        of its own: where one raises, others of its batch have been written.
        """
        store = self._operations.store
        await self._run_many(store("set", key, value, ttl, flags) for key, value in values.items())

    async def delete_many(self, keys: Iterable[Key]) -> int:
        """Remove several items, in the same way. Gives how many there were."""
        return sum(await self._run_many(self._operations.delete(key, None) for key in keys))
