"""
One line in the log when something begins to go wrong, and one when that is over.

What goes wrong often does so many times in a row, and is all right for a moment
in between. So it counts as over only when it has not happened for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

QUIET = 5.0
"""Seconds without trouble after which it is over."""


class Alarm:
    """Something that may go wrong."""

    def __init__(
        self,
        clock: Any,
        is_over: Callable[[], bool] = lambda: True,
        say_over: Callable[[], None] = lambda: None,
        quiet: float = QUIET,
    ) -> None:
        """
        @param is_over: whether nothing is wrong any more, as far as can be seen.
        @param say_over: tells the operator so, once.
        @param quiet: seconds without trouble after which it may be over.
        """
        self._clock = clock
        self._is_over = is_over
        self._say_over = say_over
        self._quiet = quiet
        self._raised_at = 0.0
        self._next_look: Any = None

    def raise_(self) -> bool:
        """It has gone wrong. Whether the operator does not know yet."""
        self._raised_at = self._clock.seconds()
        if self._next_look is not None:
            return False
        self._next_look = self._clock.callLater(self._quiet, self._look)
        return True

    def _look(self) -> None:
        left = self._raised_at + self._quiet - self._clock.seconds()
        if left <= 0 and self._is_over():
            self._next_look = None
            self._say_over()
        else:
            self._next_look = self._clock.callLater(left if left > 0 else self._quiet, self._look)

    def stop(self) -> None:
        """Look no more: whoever would want to know is gone."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
