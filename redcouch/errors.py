"""The few exceptions that cross a module's border."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redcouch.results import ErrorKind, Failed

if TYPE_CHECKING:
    from twisted.python.failure import Failure


class ConfigurationError(Exception):
    """An option or a storage URL is wrong. The text is one line for the operator."""


class StartError(SystemExit, Exception):
    """
    The service cannot start. The text is one line for the operator.

    Ends the process as C{SystemExit} does, without a traceback. It is an
    C{Exception} too, because twistd looks for one: only then does a start in
    the background tell whoever waits for it, and is the PID file removed.
    """


class ServerError(Exception):
    """
    A server that a command asks cannot be reached, or has failed. The text is one line
    for the operator; L{redcouch.cli.main} prints it and ends with status 3.
    """


class BackendError(Exception):
    """
    A backend could not perform a command, or a whole batch.

    The session answers each command concerned with C{failed}.
    """

    def __init__(self, kind: ErrorKind, message: str, undone: bool = False) -> None:
        super().__init__(message)
        self.failed = Failed(kind, message, undone)


def as_failed(failure: Failure) -> Failed:
    """
    What a L{BackendError} leaves in the place of a result. Any other failure
    is raised again.
    """
    failure.trap(BackendError)
    error = failure.value
    assert isinstance(error, BackendError)
    return error.failed
