"""
The easy way to write a backend: one method per command, and no batches.

L{PerCommandBackend} turns a batch into calls of these methods, one after
another, so a subclass needs no care for order. Each method may return its
result, or a Deferred or coroutine of it. A method that raises (or fails with)
L{BackendError<redcouch.errors.BackendError>} fails that command alone; within
a C{get} of many keys, that key alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import iscoroutine
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Flush,
    Get,
    GetAndTouch,
    Store,
    Touch,
)
from redcouch.errors import BackendError
from redcouch.interfaces import Health, IStorageBackend
from redcouch.results import Result


@implementer(IStorageBackend)
class PerCommandBackend:
    """Override the methods below C{statistics}; the rest has sensible answers."""

    def start(self) -> Deferred[None]:
        """See L{IStorageBackend}."""
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """See L{IStorageBackend}."""
        return succeed(None)

    def health(self) -> Health:
        """See L{IStorageBackend}."""
        return Health(True)

    def statistics(self) -> Deferred[Mapping[str, int]]:
        """See L{IStorageBackend}."""
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
        """The outcome TOUCHED or NOT_FOUND."""
        raise NotImplementedError

    def arithmetic(self, command: Arithmetic) -> Any:
        """L{Number<redcouch.results.Number>} or the outcome that L{Arithmetic} names."""
        raise NotImplementedError

    def flush(self, exptime: int) -> Any:
        """The outcome OK."""
        raise NotImplementedError

    # -- a batch as method calls -------------------------------------------------------------

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        """See L{IStorageBackend}."""
        return Deferred.fromCoroutine(self._execute(commands))

    async def _execute(self, commands: Sequence[Command]) -> list[Result]:
        return [await self._perform(command) for command in commands]

    async def _perform(self, command: Command) -> Result:
        match command:
            case Get():
                return [await _result(self.get, key) for key in command.keys]
            case GetAndTouch():
                return [await self._get_and_touch(key, command.exptime) for key in command.keys]
            case Store():
                return await _result(self.store, command)
            case Delete():
                return await _result(self.delete, command)
            case Discard():
                return await _result(self.delete, Delete(command.key))
            case Touch():
                return await _result(self.touch, command.key, command.exptime)
            case Arithmetic():
                return await _result(self.arithmetic, command)
            case Flush():
                return await _result(self.flush, command.exptime)
        raise TypeError(f"no such command: {command!r}")

    async def _get_and_touch(self, key: bytes, exptime: int) -> Result:
        found = await _result(self.get, key)
        if found is not None:
            await _result(self.touch, key, exptime)
        return found


async def _result(method: Any, *arguments: Any) -> Result:
    """What a method answers, however it answers."""
    try:
        result = method(*arguments)
        if isinstance(result, Deferred) or iscoroutine(result):
            result = await result
    except BackendError as error:
        return error.failed
    return result
