"""
The C{redcouch} command: what a migration needs beside the service.

L{run} is the program, L{main} the command, one module each holds a subcommand; L{common},
L{storage} and L{work} are what they share. The service imports none of this.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType


def run() -> None:
    """
    The program: Ctrl-C and SIGTERM end it in one line, also while it begins, and once it has ended.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from redcouch.cli.main import main

        main()
    except KeyboardInterrupt as interrupt:
        print("redcouch: interrupted", file=sys.stderr)
        raise SystemExit(status_of(interrupt)) from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


def status_of(interrupt: KeyboardInterrupt) -> int:
    """The exit status of what was ended so: 130, or 143."""
    return 128 + next(iter(interrupt.args), signal.SIGINT)
