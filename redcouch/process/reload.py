"""
What SIGHUP does: read again what can be read again, and say so in one line.

Who reads something from a file that may change adds it here. What cannot be
used is not taken over.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from redcouch.errors import ConfigurationError


class Reload:
    """All that can be read again in this process."""

    _log = Logger()

    def __init__(self) -> None:
        self._readers: list[tuple[str, Callable[[], str]]] = []
        #: Called when all has been read.
        self.then: Callable[[], None] = lambda: None

    def add(self, what: str, read: Callable[[], str]) -> None:
        """
        @param what: what is read, as in "The users".
        @param read: reads it, and says what was read; or raises
            L{ConfigurationError} and leaves everything as it was.
        """
        self._readers.append((what, read))

    def on_hangup(self, reactor: Any) -> None:
        """Let SIGHUP do it, in the reactor's own time."""
        signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(self))

    def __call__(self) -> None:
        """Read all again."""
        said, all_well = self.read()
        if all_well:
            self._log.info("{said}", said="; ".join(said) or "SIGHUP: nothing to read again")
        else:
            self._log.error("{said}", said="; ".join(said))
        self.then()

    def read(self) -> tuple[list[str], bool]:
        """The same, told to nobody else: what was read and what was not, and whether all was."""
        said = []
        all_well = True
        for what, read in self._readers:
            try:
                said.append(f"Read {read()}")
            except ConfigurationError as error:
                all_well = False
                said.append(f"{what} stay as they are: {error}")
        return said, all_well
