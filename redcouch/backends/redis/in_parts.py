"""A batch with a flush or a dump in it: performed part by part."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Protocol

from redcouch.commands import Command, Dump, Flush
from redcouch.errors import BackendError
from redcouch.results import Failed, ListedPage, Outcome, Result


class Admin(Protocol):
    """Does what concerns all items."""

    async def flush(self, command: Flush) -> Outcome | Failed:
        """Remove all items."""

    async def dump(self, command: Dump) -> ListedPage:
        """List some items."""


class InParts:
    """See the module."""

    def __init__(
        self,
        ordinary: Container[type[Command]],
        perform: Callable[[list[Command]], Awaitable[list[Result]]],
        admin: Admin,
    ) -> None:
        """@param perform: performs a batch of C{ordinary} commands only."""
        self._ordinary = ordinary
        self._perform = perform
        self._admin = admin

    async def execute(self, commands: Sequence[Command]) -> list[Result]:
        """A batch with a flush or a dump in it: what comes before, that, what comes after."""
        results: list[Result] = []
        part: list[Command] = []
        for command in commands:
            if command.__class__ in self._ordinary:
                part.append(command)
                continue
            results += await self._execute_part(part)
            part = []
            results.append(await self._execute_alone(command))
        return results + await self._execute_part(part)

    async def _execute_part(self, part: list[Command]) -> list[Result]:
        if not part:
            return []
        try:
            return await self._perform(part)
        except BackendError as error:
            return [error.failed] * len(part)

    async def _execute_alone(self, command: Command) -> Result:
        try:
            match command:
                case Flush():
                    return await self._admin.flush(command)
                case Dump():
                    return await self._admin.dump(command)
        except BackendError as error:
            return error.failed
        raise TypeError(f"no such command: {command!r}")
