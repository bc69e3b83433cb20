"""L{Items} for redis-py, and L{AsyncItems} for its asyncio side: the same methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

from redcouch.native.operations import Call, Found, Operations

if TYPE_CHECKING:
    import redis
    import redis.asyncio

T = TypeVar("T")

Key = str | bytes


def _evalsha(call: Call[Any]) -> tuple[Any, ...]:
    return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.arguments)


def _eval(call: Call[Any]) -> tuple[Any, ...]:
    return ("EVAL", call.script.text, len(call.keys), *call.keys, *call.arguments)


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
        """The values of those that are there, one after the other."""
        found = ((key, self.get(key)) for key in keys)
        return {key: value for key, value in found if value is not None}

    def set_many(self, values: Mapping[Key, Key], ttl: float | None = None, flags: int = 0) -> None:
        """Write several values, one after the other."""
        for key, value in values.items():
            self.set(key, value, ttl, flags)


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
        """The values of those that are there, one after the other."""
        found = [(key, await self.get(key)) for key in keys]
        return {key: value for key, value in found if value is not None}

    async def set_many(
        self, values: Mapping[Key, Key], ttl: float | None = None, flags: int = 0
    ) -> None:
        """Write several values, one after the other."""
        for key, value in values.items():
            await self.set(key, value, ttl, flags)
