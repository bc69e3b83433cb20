"""Ctrl-C and termination, held back while a process is being started or stopped."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The run was asked to end."""


class Interrupts:
    """Turns SIGINT, SIGTERM and SIGHUP into one exception, at moments when it leaks no process."""

    def __init__(self) -> None:
        self._holders = 0
        self._pending = False

    def install(self) -> None:
        """Take over the signals, for the rest of the program."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._arrived)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delay the exception until the block is left."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._release()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self._pending = True
        self._release()

    def _release(self) -> None:
        if self._pending and not self._holders:
            self._pending = False
            raise Interrupted
