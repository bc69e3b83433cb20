"""
C{--on-outage=miss}: while the storage is away, reads are misses.

Applications treat a cache that misses as a matter of course, and one that
fails sometimes as a disaster. A backend wrapped in this one answers reads with
a miss where it would have answered that it cannot be reached. Writes still
fail, and say so: an application must not think that something was stored, or
deleted, that was not. So does what reads and writes in one: a meta get that
creates items.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.python.failure import Failure

from redcouch.backends.wrapper import BackendWrapper
from redcouch.commands import Command
from redcouch.errors import BackendError, as_failed
from redcouch.interfaces import Answer
from redcouch.results import Result, says_away


class MissesOnOutage(BackendWrapper):
    """Any other backend, with reads that miss while it is away."""

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend}."""

        def forgive(results: list[Result] | Failure) -> None:
            if isinstance(results, Failure):
                if results.check(BackendError) is None:
                    answer(results)
                    return
                results = [as_failed(results)] * len(commands)
            try:
                results = [_miss(*each) for each in zip(commands, results, strict=True)]
            except Exception:  # a fault of the storage, which whoever waits has to hear of
                results = Failure()
            answer(results)

        self._perform_inner(commands, forgive)


def _miss(command: Command, result: Result) -> Result:
    """A command's result, or the miss that takes its place."""
    if isinstance(result, list):
        return [None if says_away(found) else found for found in result]
    if says_away(result):
        missed = command.miss()
        return result if missed is NotImplemented else missed
    return result
