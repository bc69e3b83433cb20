"""What every dialect gives: a command, and how to say its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from redcouch.commands import Command, Noop
from redcouch.results import Result


@dataclass(slots=True)
class Request:
    """
    @ivar command: what to do, in no dialect.
    @ivar encode: the result, as bytes for the client; C{b""} where the client
        asked for silence.
    """

    command: Command
    encode: Callable[[Result], bytes]


class Dialect(Protocol):
    """One client's side of a conversation, in one protocol."""

    #: The stream can no longer be understood. Once what was asked before is
    #: answered, the connection has to end; C{receive} is not called again.
    broken: bool

    def receive(self, data: bytes) -> list[Request]:
        """The requests that these bytes complete, in order. Raises nothing."""
        ...


_NOOP = Noop()


def answered(reply: bytes) -> Request:
    """A request whose reply is known, waiting for its turn."""
    return Request(_NOOP, lambda _: reply)
