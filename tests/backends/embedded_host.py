"""
A process that runs an embedded storage and nothing else, for the tests to end
in all kinds of ways.

    python -m tests.backends.embedded_host embedded:?server=...

It says C{up} and the socket's path on standard output, C{drained} and Redis'
answer to a last PING when it is told to stop and has taken its time, and
C{failed} and the reason when the storage cannot serve. The log is on standard
error.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import globalLogBeginner, textFileLogObserver
from zope.interface import implementer

from redcouch.backends.embedded.backend import EmbeddedBackend
from redcouch.backends.embedded.ping import PING, ask
from redcouch.commands import Command
from redcouch.interfaces import BackendContext, Health, IStorageBackend
from redcouch.limits import Limits
from redcouch.results import Outcome, Result

DRAINING = 0.5
"""Seconds that the last clients are supposed to need."""


def say(*words: str) -> None:
    print(*words, flush=True)


@implementer(IStorageBackend)
class Inner:
    """Stands where the Redis backend does."""

    def __init__(self, url: str, context: BackendContext) -> None:
        self.url = url
        self.socket = unquote(urlsplit(url).path)
        self._reactor = context.reactor
        self._started = False

    def start(self) -> Deferred[None]:
        self._started = True
        say("up", self.socket)
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        if not self._started:
            return
        await deferLater(self._reactor, DRAINING)
        say("drained", (await ask(self._reactor, self.socket, PING)).decode())

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        return succeed([Outcome.OK for _ in commands])

    def health(self) -> Health:
        return Health(True)

    def statistics(self) -> Deferred[Mapping[str, int]]:
        return succeed({"curr_items": 1})


def main(url: str, reactor: Any) -> None:
    def fail(reason: str) -> None:
        say("failed", reason)
        reactor.callLater(0, reactor.stop)

    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    context = BackendContext(reactor, Limits(), time.time, fail)
    backend = EmbeddedBackend.from_url(url, context, Inner)
    reactor.callWhenRunning(backend.start)
    reactor.addSystemEventTrigger("before", "shutdown", backend.stop)
    reactor.run()


if __name__ == "__main__":
    from twisted.internet import reactor

    # A shell that runs the tests in the background has them ignore this signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(sys.argv[1], reactor)
