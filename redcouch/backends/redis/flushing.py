"""
Flushing all items, at once or later.

A later flush is noted in Redis as well as in a timer, so that it happens even
if this process ends before.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.backends.redis.usage_store import Asks
from redcouch.commands import Flush
from redcouch.errors import BackendError
from redcouch.expiry import flush_deadline
from redcouch.interfaces import BackendContext
from redcouch.results import ErrorKind, Failed, Outcome

_WHEN = re.compile(rb"\d{1,11}(\.\d{1,9})?")
"""A UNIX time, as a delayed flush is noted."""

_NO_FLUSH = Failed(
    ErrorKind.REFUSED, "flush_all needs a prefix, or flush=all, in the storage URL of layout=string"
)


class Flushing:
    """See the module. What Redis refuses is raised as a L{BackendError}."""

    _log = Logger()

    def __init__(self, exchange: Asks, codec: ScriptCodec, context: BackendContext) -> None:
        self._asks = exchange
        self._codec = codec
        self._layout = codec.layout
        self._now = context.now
        self._reactor = context.reactor
        self._flush_timer: Any = None
        self._told = False

    async def _unlink_all(self) -> None:
        """Remove all items there are."""
        raise NotImplementedError

    async def flush(self, command: Flush) -> Outcome | Failed:
        """Remove all items, or note when that is to be done."""
        if not self._layout.may_flush:
            return _NO_FLUSH
        self.stop()
        when = flush_deadline(command.exptime, self._now())
        if when is None:
            await self._asks.ask(b"DEL", self._codec.flush_key)
            await self._unlink_all()
        else:
            await self._asks.ask(b"SET", self._codec.flush_key, b"%.3f" % when)
            self._set_flush_timer(when)
        return Outcome.OK

    def look_for_flush(self) -> None:
        """Do what is noted: a connection is up, and a flush may have been noted elsewhere."""
        Deferred.fromCoroutine(self._flush_noted()).addErrback(self._flush_failed)

    def stop(self) -> None:
        """Wait for no flush any more."""
        if self._flush_timer is not None:
            if self._flush_timer.active():
                self._flush_timer.cancel()
            self._flush_timer = None

    def _set_flush_timer(self, when: float) -> None:
        self.stop()
        delay = max(0.0, when - self._now())
        self._flush_timer = self._reactor.callLater(delay, self.look_for_flush)

    async def _flush_noted(self) -> None:
        """Do what is noted in Redis, if it is still noted and its time has come."""
        noted = await self._asks.ask(b"GET", self._codec.flush_key)
        if noted is None:
            return
        if not isinstance(noted, bytes) or not _WHEN.fullmatch(noted):
            self._tell_senseless()
            return
        when = float(noted)
        if when > self._now():
            self._set_flush_timer(when)
            return
        if self._layout.may_flush:
            await self._unlink_all()
        await self._asks.ask(b"DEL", self._codec.flush_key)

    def _tell_senseless(self) -> None:
        if not self._told:
            self._told = True
            self._log.warn(
                "What stands at {key} in Redis is no time of a delayed flush_all: it is passed "
                "over",
                key=self._codec.flush_key.decode("utf-8", "backslashreplace"),
            )

    def _flush_failed(self, failure: Any) -> None:
        """The next connection looks for it again."""
        if failure.check(BackendError):
            if failure.value.failed.kind is ErrorKind.WRONG_TYPE:
                self._tell_senseless()
        else:
            self._log.failure("Could not carry out a delayed flush_all", failure)
