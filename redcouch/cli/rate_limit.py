"""Long work that keeps to a rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from redcouch.cli.progress import Stop

_SLICE = 0.1

Thing = TypeVar("Thing")


@dataclass
class Pace:
    """
    So many items in a second, and no more.

    @ivar _rate: items in a second; C{None} for as many as there can be.
    """

    _rate: float | None
    stop: Stop
    _clock: Callable[[], float] = time.monotonic
    _sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self._free = self._clock()

    def portions(self, items: Iterable[Thing], size: int) -> Iterator[list[Thing]]:
        """All of them, up to C{size} together and when they may be done, until it is to stop."""
        remaining = iter(items)
        while several := list(islice(remaining, self.batch(size))):
            self.spend(len(several))
            if self.stop.requested:
                return
            yield several

    def batch(self, size: int) -> int:
        """How many of C{size} items to take together: what a tenth of a second has room for."""
        if self._rate is None:
            return size
        return max(1, min(size, int(self._rate * _SLICE)))

    def spend(self, count: int) -> None:
        """Wait until so many more items may be done, or until it is to stop."""
        if self._rate is None:
            return
        now = self._clock()
        self._free = max(self._free, now)
        while now < self._free and not self.stop.requested:
            self._sleep(min(_SLICE, self._free - now))
            now = self._clock()
        self._free += count / self._rate
