"""Storages whose answers a test gives itself, or that answer at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from redcouch.commands import (
    Command,
    Get,
)
from redcouch.interfaces import Answer, Health, IDirectBackend, IStorageBackend
from redcouch.results import Item, Outcome, Result


def result_of(command: Command) -> Result:
    """What the storages here answer: an item that is its own key, or OK."""
    if isinstance(command, Get):
        return [Item(key, 0, 0) for key in command.keys]
    return Outcome.OK


class Batch:
    """Commands that a storage has been given and not yet answered."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.answer: Deferred[list[Result]] = Deferred()

    def succeed(self) -> None:
        """Answer them."""
        self.answer.callback([result_of(command) for command in self.commands])

    def fail(self, error: Exception) -> None:
        """Answer none of them."""
        self.answer.errback(error)


class Idle:
    """The part of a storage that no session asks for."""

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def health(self) -> Health:
        return Health(True)

    def statistics(self) -> Deferred[Mapping[str, int]]:
        return succeed({})


@implementer(IStorageBackend)
class Slow(Idle):
    """Answers when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[Batch] = []
        self.seen: list[list[Command]] = []

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        batch = Batch(commands)
        self.waiting.append(batch)
        self.seen.append(list(commands))
        return batch.answer

    def next(self) -> Batch:
        """The batch that has waited longest."""
        return self.waiting.pop(0)

    def answer_all(self) -> None:
        """Answer until nothing waits."""
        while self.waiting:
            self.next().succeed()


@implementer(IStorageBackend)
class Prompt(Idle):
    """Answers at once."""

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        return succeed([result_of(command) for command in commands])


@implementer(IDirectBackend)
class Direct(Prompt):
    """Answers at once, and without a Deferred."""

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        answer([result_of(command) for command in commands])
