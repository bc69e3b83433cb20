"""Long work: it shows how far it is, and ends in order when it is told to."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from redcouch.cli import Interrupt, endings, say_no_more


class Stop:
    """
    Whether somebody has told the command to end, by Ctrl-C, SIGTERM or SIGHUP. The work
    looks at L{requested} between its batches, so that each is done or not begun.
    A second Ctrl-C ends it at once; not a second SIGHUP, as a shell passes it on and the system
    sends one of its own. Use it in a C{with} statement.
    """

    def __init__(self) -> None:
        self._signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        for number in endings():
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal and number != signal.SIGHUP:
            raise Interrupt(number)
        self._signal = self._signal or number

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """As if this were not there, within the block: for a question that is asked."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    @property
    def requested(self) -> bool:
        return self._signal != 0

    @property
    def mark(self) -> str:
        """What stands before what has been done until then."""
        return "interrupted: " if self.requested else ""

    @property
    def status(self) -> int:
        """The exit status that says so: 130, 143 or 129; 0 if nobody has."""
        return 128 + self._signal if self._signal else 0


Advance = Callable[[int], None]
"""Tells that so many more are done."""


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Advance]:
    """A bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    task = bar.add_task(title, total=total)
    with _while_the_terminal_is_there():
        bar.start()
    try:
        yield lambda count: bar.advance(task, count)
    finally:
        with _while_the_terminal_is_there():
            bar.stop()


@contextmanager
def _while_the_terminal_is_there() -> Iterator[None]:
    """It may be closed meanwhile, which is not to end the work nor to keep what is told of it."""
    try:
        yield
    except OSError:
        say_no_more()
