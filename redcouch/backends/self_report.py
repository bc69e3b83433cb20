"""
What a storage tells of itself, beside the items.

It may be anybody's, and a fault in how it counts its items is no reason to show nothing else, to
fill the log, or never to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from redcouch.backends.wrapper import BackendWrapper
from redcouch.errors import BackendError
from redcouch.interfaces import Health, IStorageBackend
from redcouch.process.clock import for_at_most
from redcouch.results import ErrorKind
from redcouch.telemetry.usage import Usage, UsageSample

T = TypeVar("T")

STOPPING = 10.0
"""Seconds that a storage has to stop, more than a private Redis takes in the worst case."""

ANSWERING = 20.0
"""Seconds for what a storage tells of itself, more than Redis mostly has."""

_UNSAID = "the storage is not ready, and does not say why"


class SelfReport(BackendWrapper):
    """
    A backend that tells of itself, or fails with L{BackendError}. A fault of its own is in the
    log, and then no more until the same question has been answered.
    """

    _log = Logger()

    def __init__(self, inner: IStorageBackend, reactor: Any) -> None:
        super().__init__(inner)
        self._reactor = reactor
        self._faulty: set[str] = set()
        #: Questions that are not answered, and whose askers have gone on without.
        self._late: set[str] = set()

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if not await for_at_most(STOPPING, maybeDeferred(super().stop), self._reactor):
            self._log.error(
                "The storage has not stopped in {seconds:g} s: ending without it", seconds=STOPPING
            )

    def health(self) -> Health:
        try:
            told = super().health()
            reason = " ".join(str(told.reason).split()) or ("" if told.ready else _UNSAID)
            health = Health(bool(told.ready), reason, told.impaired)
        except Exception:  # of anybody's code
            return Health(False, str(self._fault("health")))
        self._faulty.discard("health")
        return health

    def statistics(self) -> Deferred[Mapping[str, int]]:
        return self._ask("statistics", super().statistics, _numbers, soon=True)

    def describe(self) -> Deferred[Mapping[str, Any]]:
        return self._ask("describe", super().describe, soon=True)

    def probe_writes(self) -> Deferred[None]:
        return self._ask("probe_writes", super().probe_writes)

    def keep_traffic(self, seen: Sequence[UsageSample], now: float) -> Deferred[None]:
        return self._ask("keep_traffic", lambda: super(SelfReport, self).keep_traffic(seen, now))

    def traffic(self) -> Deferred[Usage]:
        return self._ask("traffic", super().traffic, soon=True)

    def _ask(
        self,
        name: str,
        question: Callable[[], Deferred[T]],
        read: Callable[[T], T] = lambda told: told,
        soon: bool = False,
    ) -> Deferred[T]:
        """@param soon: somebody waits for the answer, and goes on without it after a time."""
        tell = self._told_soon if soon else self._told
        return Deferred.fromCoroutine(tell(name, question, read))

    async def _told_soon(
        self, name: str, question: Callable[[], Deferred[T]], read: Callable[[T], T]
    ) -> T:
        """A question that is late is left to itself, and not asked again before it is answered."""
        answers: list[T] = []
        if name not in self._late:
            asked = Deferred.fromCoroutine(self._told(name, question, read))
            asked.addCallback(answers.append)
            if await for_at_most(ANSWERING, asked, self._reactor):
                return answers[0]
            if name not in self._late:
                self._late.add(name)
                self._log.warn(
                    "The storage has not answered {name}() in {seconds:g} s: going on without it",
                    name=name,
                    seconds=ANSWERING,
                )
            asked.addBoth(lambda _: self._late.discard(name))
        raise BackendError(ErrorKind.UNAVAILABLE, f"the storage does not answer {name}()")

    async def _told(
        self, name: str, question: Callable[[], Deferred[T]], read: Callable[[T], T]
    ) -> T:
        try:
            told = read(await question())
        except BackendError:
            raise
        except Exception:  # of anybody's code
            raise self._fault(name) from None
        self._faulty.discard(name)
        return told

    def _fault(self, name: str) -> BackendError:
        if name not in self._faulty:
            self._faulty.add(name)
            self._log.failure("A fault of the storage in {name}()", name=name)
        return BackendError(ErrorKind.UNAVAILABLE, f"a fault of the storage in {name}()")


def _numbers(told: Mapping[str, int]) -> Mapping[str, int]:
    """What can be told to clients, and to other processes as JSON."""
    return {"_".join(name.split()): int(number) for name, number in told.items()}
