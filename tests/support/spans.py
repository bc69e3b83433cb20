"""What is left of a time to live, on a machine on which any amount of it may pass unseen."""

from __future__ import annotations

import time
from typing import Any


def left_of(seconds: int) -> Any:
    """
    Equal to every time to live, in seconds rounded up, that something may have that is given so
    many from now on.
    """
    return _Left(seconds)


class _Left:
    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._began = time.monotonic()

    def __eq__(self, ttl: object) -> bool:
        passed = time.monotonic() - self._began
        return isinstance(ttl, int) and self._seconds - passed <= ttl <= self._seconds

    def __repr__(self) -> str:
        return f"{self._seconds} - {time.monotonic() - self._began:.1f}"
