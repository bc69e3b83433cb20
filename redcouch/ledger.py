"""
The books: what has been counted and who is connected, for one process or for
all that serve together.

Whoever reports asks a L{Ledger} and need not know how many processes there
are.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from redcouch.stats import Counters

Clients = list[tuple[str, str]]
"""The number and the address of each client."""


@dataclass(slots=True)
class Figures:
    """
    What there is to say about a process, or several that are one service.

    @ivar pid: of the process that the operator started.
    @ivar uptime: its seconds since then.
    @ivar user: seconds of CPU time in user mode, of all processes.
    @ivar system: the same in system mode.
    @ivar counters: summed up.
    """

    pid: int
    uptime: float
    user: float
    system: float
    counters: Counters


class Ledger(Protocol):
    """Where to look up L{Figures} and clients."""

    async def figures(self) -> Figures:
        """What has been counted. Raises L{redcouch.errors.BackendError} where nobody can say."""

    async def clients(self) -> Clients:
        """Who is connected, in no order. Raises the same."""

    async def reset(self) -> None:
        """Count from zero."""


class OwnLedger:
    """The books of this process alone."""

    def __init__(
        self, counters: Counters, clients: Callable[[], Iterable[tuple[str, str]]], clock: Any
    ) -> None:
        """
        @param clients: gives a number and the address of each client.
        @param clock: the reactor.
        """
        self._counters = counters
        self._clients = clients
        self._clock = clock
        self._started = clock.seconds()

    async def figures(self) -> Figures:
        uptime = self._clock.seconds() - self._started
        used = resource.getrusage(resource.RUSAGE_SELF)
        counters = Counters(**asdict(self._counters))
        return Figures(os.getpid(), uptime, used.ru_utime, used.ru_stime, counters)

    async def clients(self) -> Clients:
        return list(self._clients())

    async def reset(self) -> None:
        self._counters.reset()
