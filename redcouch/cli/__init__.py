"""
The C{redcouch} command: what a migration needs beside the service.

L{run} is the program, L{main} the command, one module each holds a subcommand; L{common},
L{storage} and L{progress} are what they share. The service imports none of this.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


class Interrupt(SystemExit):
    """
    Somebody ends it: the exit status is 130, 143 or 129. A C{KeyboardInterrupt} would be taken by
    click, which has one status for a question without an answer and for whatever comes late.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def run() -> None:
    """
    The program: Ctrl-C, SIGTERM and a terminal that goes away (SIGHUP, but not under C{nohup}) end
    it in one line, also while it begins, and once it has ended.
    """
    over = False
    if sys.stderr is None:
        say_no_more()

    def end(number: int, frame: FrameType | None) -> None:
        if not over:
            _terminate(number, frame)

    numbers = endings()
    for number in numbers:
        signal.signal(number, end)
    try:
        try:
            from redcouch.cli.main import main

            main()
        finally:
            over = True
            for number in numbers:
                signal.signal(number, signal.SIG_IGN)
    except Interrupt:
        print("redcouch: interrupted", file=sys.stderr)
        raise


def say_no_more() -> None:
    """
    Lose standard error, and what it still holds, which would be tried again. Where there is none,
    click would say on standard output what is wrong.
    """
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the end


def endings() -> list[signal.Signals]:
    """The signals by which somebody ends it."""
    under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if under_nohup else [signal.SIGHUP])]


def _terminate(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:  # a shell passes it on, and the system sends one of its own
        signal.signal(number, signal.SIG_IGN)
    raise Interrupt(number)
