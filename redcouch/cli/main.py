"""The console script: the list of subcommands, and the way out of each."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from redcouch import __version__
from redcouch.cli import Interrupt, say_no_more
from redcouch.cli.common import CommandError, Interrupted, end_json
from redcouch.errors import ConfigurationError, ServerError

COMMANDS = {
    "cleanup": "cleanup",
    "export": "export",
    "functions": "functions",
    "import": "import_items",
    "inspect": "inspect",
    "ls": "ls",
    "promote": "promote",
    "ready": "ready",
    "stage": "stage",
    "stale": "stale",
    "sweep": "sweep",
    "traffic": "traffic",
    "verify": "verify",
}
"""The module of each, in which it is called C{command}."""


class Program(click.Group):
    """
    Imports a command when it is called for. Ends it with one line where it fails, and a status
    that says how.
    """

    _status = 1
    """What is wrong, as an exit status; until that is known, the one of C{Aborted!}."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError:  # of a full disk: the status is to tell what is wrong all the same
            say_no_more()
            raise SystemExit(self._status) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"redcouch.cli.{COMMANDS[cmd_name]}").command
        _give_whole_summary(command)
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with self._remembered(), _in_one_line():
            if sys.stdout is None:  # click would say nothing then, and end well
                raise CommandError("standard output is closed")
            if isinstance(sys.stdout, TextIOWrapper):  # keys may have what the locale lacks
                sys.stdout.reconfigure(errors="backslashreplace")
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with self._remembered(), _in_one_line():
            why = None
            try:
                with _in_one_line(), self._as_exceptions_of_click(ctx):
                    return super().invoke(ctx)
            except click.ClickException as error:
                why = error.format_message()
                raise
            finally:
                end_json(ctx, why)

    @contextmanager
    def _as_exceptions_of_click(self, ctx: click.Context) -> Iterator[None]:
        try:
            yield
        except ConfigurationError as error:
            name = ctx.invoked_subcommand or ""
            command = self.get_command(ctx, name) or self
            raise click.UsageError(str(error), click.Context(command, ctx, name)) from None
        except ServerError as error:
            raise CommandError(str(error)) from None

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except click.ClickException as error:
            self._status = error.exit_code
            raise


@contextmanager
def _in_one_line() -> Iterator[None]:
    """So is said what the system refuses, as a full disk does to our output, and a Ctrl-C."""
    try:
        yield
    except Interrupt as interrupt:
        raise Interrupted(interrupt) from None
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
        "reached, or failed; 130, 143 and 129 ended by Ctrl-C, SIGTERM or SIGHUP, after saying "
        "what had been done."
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
