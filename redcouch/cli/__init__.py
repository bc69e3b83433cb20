"""
The C{redcouch} command: what a migration needs beside the service.

L{run} is the program, L{main} the command, one module each holds a subcommand; L{common},
L{storage} and L{work} are what they share. The service imports none of this.
"""

from __future__ import annotations

import signal
import sys


def run() -> None:
    """The program: Ctrl-C ends it in one line, also while it begins, and once it has ended."""
    try:
        from redcouch.cli.main import main

        main()
    except KeyboardInterrupt:
        print("redcouch: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
