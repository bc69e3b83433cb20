"""The exception by which a subcommand says that a server left it alone."""

from __future__ import annotations


class ServerError(Exception):
    """
    A server cannot be reached, or failed. The text is one line for the
    operator; L{redcouch.cli.main} prints it and ends with status 3.
    """
