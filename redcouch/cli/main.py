"""The console script: the list of subcommands, and the way out of each."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

import click

from redcouch import __version__
from redcouch.cli import (
    cleanup,
    export,
    functions,
    import_items,
    inspect,
    ls,
    promote,
    ready,
    stage,
    stale,
    sweep,
    traffic,
    verify,
)
from redcouch.cli.common import CommandError, Interrupted
from redcouch.errors import ConfigurationError, ServerError

COMMANDS = (
    import_items.command,
    verify.command,
    export.command,
    stale.command,
    stage.command,
    sweep.command,
    inspect.command,
    ls.command,
    promote.command,
    cleanup.command,
    functions.command,
    traffic.command,
    ready.command,
    # Each module that is named here has a click command called command.
)


class Program(click.Group):
    """Ends each command with one line where it fails, and a status that says how."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        if sys.stdout is None:  # click would say nothing then, and end well
            raise CommandError("standard output is closed")
        if isinstance(sys.stdout, TextIOWrapper):  # keys may have what the locale lacks
            sys.stdout.reconfigure(errors="backslashreplace")
        with _in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _in_one_line():
                return super().invoke(ctx)
        except ConfigurationError as error:
            raise click.UsageError(str(error), ctx) from None
        except KeyboardInterrupt as interrupt:
            raise Interrupted(interrupt) from None
        except ServerError as error:
            raise CommandError(str(error)) from None


@contextmanager
def _in_one_line() -> Iterator[None]:
    """What the system refuses, as a full disk does to our output, is said in one line."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has gone
            raise
        sys.stdout = None  # what it still holds would be tried again
        raise CommandError(str(error)) from None


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Exit status: 0 it is done, or the answer is yes; 1 the answer is no, or something was "
        "left undone (with --dry-run: would be); 2 the command line is wrong; 3 a server cannot be "
        "reached, or failed; 130 and 143 ended by Ctrl-C or SIGTERM, after saying what had been "
        "done."
    ),
)
@click.version_option(__version__, prog_name="redcouch", message="RedCouch %(version)s")
def main() -> None:
    """
    Move from memcached to Redis: fill the storage, look into it, compare it, turn its items
    into native ones, and clean up.

    The service itself is run by twistd: see twistd redcouch --help.
    """


def _give_whole_summary(command: click.Command) -> None:
    """Let lists of commands wrap the first sentence of its help, which click would cut off."""
    paragraph = " ".join((command.help or "").partition("\n\n")[0].split())
    command.short_help = paragraph.partition(". ")[0].removesuffix(".") + "."
    for each in getattr(command, "commands", {}).values():
        _give_whole_summary(each)


for _command in COMMANDS:
    main.add_command(_command)
    _give_whole_summary(_command)
