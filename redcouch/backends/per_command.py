"""
The easy way to write a backend: one method per command, and no batches.

L{PerCommandBackend} turns a batch into calls of these methods, one after
another, so a subclass needs no care for order. Each method may return its
result, or a Deferred or coroutine of it. A method that raises (or fails with)
L{BackendError<redcouch.errors.BackendError>} fails that command alone; within
a C{get} of many keys, that key alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import iscoroutine
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

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
from redcouch.errors import BackendError
from redcouch.interfaces import Health, IStorageBackend
from redcouch.results import ErrorKind, Failed, Listed, MetaItem, Result, Stored


@implementer(IStorageBackend)
class PerCommandBackend:
    """Override the methods below C{statistics}; the rest has sensible answers."""

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def health(self) -> Health:
        return Health(True)

    def statistics(self) -> Deferred[Mapping[str, int]]:
        return succeed({})

    def get(self, key: bytes) -> Any:
        """An L{Item<redcouch.results.Item>}, with its CAS token, or C{None}."""
        raise NotImplementedError

    def store(self, command: Store) -> Any:
        """L{Stored<redcouch.results.Stored>} or the outcome that L{Store} names."""
        raise NotImplementedError

    def delete(self, command: Delete) -> Any:
        """The outcome DELETED, NOT_FOUND or EXISTS."""
        raise NotImplementedError

    def touch(self, key: bytes, exptime: int) -> Any:
        """L{Touched<redcouch.results.Touched>} or the outcome NOT_FOUND."""
        raise NotImplementedError

    def arithmetic(self, command: Arithmetic) -> Any:
        """L{Number<redcouch.results.Number>} or the outcome that L{Arithmetic} names."""
        raise NotImplementedError

    def flush(self, exptime: int) -> Any:
        """The outcome OK."""
        raise NotImplementedError

    # -- what not every storage can do: override these where it can --------------------------

    def meta_get(self, command: MetaGet) -> Any:
        """
        L{MetaItem<redcouch.results.MetaItem>}, or C{None}. This one knows no
        time to live and no stale items; only the creation of an item is won.
        """
        return Deferred.fromCoroutine(self._meta_get(command))

    async def _meta_get(self, command: MetaGet) -> MetaItem | None:
        found = await _outcome(self.get, command.key)
        created = False
        if found is None and command.vivify is not None:
            empty = Store(StoreMode.ADD, command.key, b"", exptime=command.vivify)
            created = isinstance(await _outcome(self.store, empty), Stored)
            found = await _outcome(self.get, command.key)
        if found is None:
            return None
        if command.touch is not None:
            await _outcome(self.touch, command.key, command.touch)
        value, flags, cas = found
        return MetaItem(value, len(value), flags, cas, won=created, created=created)

    def invalidate(self, command: Invalidate) -> Any:
        """The outcome OK, NOT_FOUND or EXISTS."""
        raise BackendError(ErrorKind.REFUSED, "this storage knows no stale items")

    def inspect(self, key: bytes) -> Any:
        """L{Listed<redcouch.results.Listed>}, or C{None}."""
        return Deferred.fromCoroutine(self._inspect(key))

    async def _inspect(self, key: bytes) -> Listed | None:
        found = await _outcome(self.get, key)
        if found is None:
            return None
        value, flags, cas = found
        return Listed(key, None, 0, cas, False, len(value), flags)

    def dump(self, cursor: bytes) -> Any:
        """A L{ListedPage<redcouch.results.ListedPage>} of the items."""
        raise BackendError(ErrorKind.REFUSED, "this storage cannot list its items")

    # -- a batch as method calls -------------------------------------------------------------

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        return Deferred.fromCoroutine(self._execute(commands))

    async def _execute(self, commands: Sequence[Command]) -> list[Result]:
        methods = self.methods
        return [await _result(methods[one.__class__], self, one) for one in commands]

    async def _get_each(self, keys: Sequence[bytes]) -> Result:
        return [await _result(self.get, key) for key in keys]

    async def _get_and_touch_each(self, command: GetAndTouch) -> Result:
        return [await self._get_and_touch(key, command.exptime) for key in command.keys]

    async def _get_and_touch(self, key: bytes, exptime: int) -> Result:
        found = await _result(self.get, key)
        if found is None or isinstance(found, Failed):
            return found
        touched = await _result(self.touch, key, exptime)
        return touched if isinstance(touched, Failed) else found

    #: What each command becomes. A capability that has commands of its own adds to it.
    methods: ClassVar[Mapping[type[Command], Callable[[Any, Any], Any]]] = {
        Get: lambda backend, command: backend._get_each(command.keys),
        GetAndTouch: lambda backend, command: backend._get_and_touch_each(command),
        Store: lambda backend, command: backend.store(command),
        Delete: lambda backend, command: backend.delete(command),
        Discard: lambda backend, command: backend.delete(Delete(command.key)),
        MetaGet: lambda backend, command: backend.meta_get(command),
        Invalidate: lambda backend, command: backend.invalidate(command),
        Inspect: lambda backend, command: backend.inspect(command.key),
        Dump: lambda backend, command: backend.dump(command.cursor),
        Touch: lambda backend, command: backend.touch(command.key, command.exptime),
        Arithmetic: lambda backend, command: backend.arithmetic(command),
        Flush: lambda backend, command: backend.flush(command.exptime),
    }


async def _outcome(method: Any, *arguments: Any) -> Result:
    """What a method answers, however it answers."""
    result = method(*arguments)
    if isinstance(result, Deferred) or iscoroutine(result):
        result = await result
    return result


async def _result(method: Any, *arguments: Any) -> Result:
    """The same, with a backend's failure as a result."""
    try:
        return await _outcome(method, *arguments)
    except BackendError as error:
        return error.failed
