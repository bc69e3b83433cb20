"""
What the parent and a worker say to each other, over a pair of sockets.

A message is a JSON array with its length in front. Some are told, others are
asked and answered. Both ends are of one version and trust each other. The end
of the conversation is a message too: the other process is gone.

AMP, which does nearly the same, limits a value to 64 KiB; a list of clients or
of users may be longer.
"""

from __future__ import annotations

import json
import signal
import struct
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

#: Descriptors of the fork server: its conversation with the parent (see L{REQUEST}), and what
#: each worker has as well: the common memory, and the listening sockets that follow.
CONTROL = 0
COUNTS = 3
FIRST_SOCKET = 4

REQUEST = struct.Struct("!II")
"""
Asks the fork server for a worker: the number of the request, and that of the worker. The
descriptors of its channel and of what it prints to come along.
"""

REPORT = struct.Struct("!IIi")
"""What comes of a request: its number, the process id, and the wait status, or L{RUNNING}."""

RUNNING = -1

#: Signals that are for the parent, though a terminal or a service manager may send them to all.
UNHEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

MOST = 64 * 1024 * 1024
"""Bytes in a message; a million clients fit."""

TELL, ASK, ANSWER, REFUSE = range(4)
"""What a message is: its first element."""

Respond = Callable[[Any], Any]
"""Is given the argument of a message. What it returns, perhaps later, is the answer."""

Users = dict[bytes, bytes]


def write_users(users: Users) -> dict[str, str]:
    """Users and passwords, as a message may have them."""
    return {user.decode("latin-1"): users[user].decode("latin-1") for user in users}


def read_users(users: dict[str, str]) -> Users:
    """The other way round."""
    return {user.encode("latin-1"): users[user].encode("latin-1") for user in users}


class Unanswered(Exception):  # noqa: N818 - it is not always an error
    """There is no answer. The text says why."""


class Channel(Int32StringReceiver):
    """One end of the conversation."""

    _log = Logger()
    MAX_LENGTH = MOST

    def __init__(
        self, responds: Mapping[str, Respond], lost: Callable[[], None], clock: Any
    ) -> None:
        """
        @param responds: what is done when the other end says something, by its name.
        @param lost: called when the other end is gone.
        @param clock: the reactor.
        """
        self._responds = responds
        self._lost = lost
        self._clock = clock
        self._asked: dict[int, Deferred[Any]] = {}
        self._questions = 0

    def tell(self, name: str, argument: Any = None) -> None:
        """Say something that needs no answer."""
        self._send([TELL, 0, name, argument])

    def ask(self, name: str, argument: Any = None, *, seconds: float) -> Deferred[Any]:
        """The answer. Fails with L{Unanswered} where none comes in time."""
        self._questions += 1
        number = self._questions

        def forget(_: Deferred[Any]) -> None:
            del self._asked[number]

        answer: Deferred[Any] = Deferred(forget)
        answer.addTimeout(seconds, self._clock, lambda *_: Failure(Unanswered("too late")))
        self._asked[number] = answer
        self._send([ASK, number, name, argument])
        return answer

    def stringReceived(self, string: bytes) -> None:
        kind, number, name, argument = json.loads(string)
        if kind == ANSWER:
            self._settle(number, argument)
        elif kind == REFUSE:
            self._settle(number, Unanswered(argument))
        else:
            self._respond(kind, number, name, argument)

    def lengthLimitExceeded(self, length: int) -> None:
        self._log.critical("A message of {length} bytes is none of ours", length=length)
        super().lengthLimitExceeded(length)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for number in list(self._asked):
            self._settle(number, Unanswered("the other process is gone"))
        self.connected = 0
        self._lost()

    def _respond(self, kind: int, number: int, name: str, argument: Any) -> None:
        response = maybeDeferred(self._responds[name], argument)
        if kind == ASK:
            response.addCallback(lambda answer: self._send([ANSWER, number, "", answer]))
        response.addErrback(self._fault, kind, number, name)

    def _fault(self, failure: Failure, kind: int, number: int, name: str) -> None:
        """A fault of ours. Whoever asked is not left waiting."""
        if failure.check(Unanswered) is None:
            self._log.failure("Could not respond to {name!r}", failure, name=name)
        if kind == ASK:
            self._send([REFUSE, number, "", failure.getErrorMessage()])

    def _settle(self, number: int, answer: Any) -> None:
        waiting = self._asked.pop(number, None)
        if waiting is not None:
            waiting.callback(Failure(answer) if isinstance(answer, Unanswered) else answer)

    def _send(self, message: list[Any]) -> None:
        string = json.dumps(message, separators=(",", ":")).encode()
        if len(string) > MOST:
            raise Unanswered(f"a message of {len(string)} bytes is too long")
        if self.transport is not None:
            self.sendString(string)
