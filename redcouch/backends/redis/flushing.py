"""
Flushing all items, at once or later.

A later flush is noted in Redis, where every process looks from time to time, so that it happens
even if the one that was asked ends before. Who carries it out puts the note off meanwhile.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.backends.redis.scripts import REPLACE, write
from redcouch.backends.redis.usage_store import Asks
from redcouch.commands import Flush
from redcouch.errors import BackendError
from redcouch.expiry import flush_deadline
from redcouch.interfaces import BackendContext
from redcouch.process.clock import cancel
from redcouch.results import ErrorKind, Failed, Outcome

_PAUSE = 5.0
"""Seconds between two looks at what is noted."""

_LEASE = 2 * _PAUSE
"""Seconds for which others leave a flush to the process that is at it and does not say more."""

_SENSELESS = "What stands at {key} in Redis is no time of a delayed flush_all: it is passed over"
_REFUSED = "A delayed flush_all, noted at {key} in Redis, cannot be carried out: {why}"

_WHEN = re.compile(rb"(\d{1,11}(?:\.\d{1,9})?)(?: [0-9a-f]{1,4096})?")
"""A UNIX time, as a delayed flush is noted, and behind it what is left of one that has failed."""

_NO_FLUSH = Failed(
    ErrorKind.REFUSED, "flush_all needs a prefix, or flush=all, in the storage URL of layout=string"
)


def due_time(noted: Any) -> float | None:
    """When a delayed flush is due, as it is noted; C{None} where that makes no sense."""
    match = _WHEN.fullmatch(noted) if isinstance(noted, bytes) else None
    return float(match[1]) if match else None


class Flushing:
    """See the module. What Redis refuses is raised as a L{BackendError}."""

    _log = Logger()

    #: What the last flush has left undone, for who goes on with it; empty for all.
    _left = b""

    def __init__(self, exchange: Asks, codec: ScriptCodec, context: BackendContext) -> None:
        self._asks = exchange
        self._codec = codec
        self._layout = codec.layout
        self._now = context.now
        self._reactor = context.reactor
        self._next_look: Any = None
        #: What is noted while a flush is under way here, or has left something.
        self._lease = b""
        self._under_way = False
        self._told: set[str] = set()

    async def _unlink_all(self, left: bytes = b"") -> None:
        """Remove all items there are, or what one that has failed has left."""
        raise NotImplementedError

    async def flush(self, command: Flush) -> Outcome | Failed:
        """Remove all items, or note when that is to be done."""
        if not self._layout.may_flush:
            return _NO_FLUSH
        when = flush_deadline(command.exptime, self._now())
        if when is None:
            await self._asks.ask(b"DEL", self._codec.flush_key)
            await self._unlink_all()
        else:
            await self._asks.ask(*write(self._codec.flush_key, b"SET", b"%.3f" % when))
            self._look_at(when)
        return Outcome.OK

    def look_for_flush(self) -> None:
        """Do what is noted, perhaps elsewhere, now and from now on."""
        self.stop()
        self._next_look = self._reactor.callLater(_PAUSE, self.look_for_flush)
        Deferred.fromCoroutine(self._flush_noted()).addErrback(self._flush_failed)

    def stop(self) -> None:
        """Look no more."""
        cancel(self._next_look)

    def _look_at(self, when: float) -> None:
        """Look again at this time, where that is soon."""
        if self._next_look is not None and self._next_look.active():
            self._next_look.reset(max(0.0, min(_PAUSE, when - self._now())))

    async def _flush_noted(self) -> None:
        """Do what is noted in Redis, if its time has come."""
        noted = await self._asks.ask(b"GET", self._codec.flush_key)
        if noted is None:
            return
        due = due_time(noted)
        if due is None:
            self._tell(_SENSELESS)
            return
        mine = noted == self._lease
        goes_on = mine and not self._under_way  # with what may not have been noted
        left = self._left if goes_on else noted.partition(b" ")[2]
        lease = self._leased(left)
        if not mine and due > self._now():
            self._look_at(due)
            return
        if mine and self._under_way:
            self._lease = lease
        free = mine or not self._under_way
        if free and await self._replace(noted, lease) and not self._under_way:
            await self._flush_under(lease, left)

    def _leased(self, left: bytes) -> bytes:
        """What is noted by who is at what is left."""
        lease = b"%.3f" % (self._now() + _LEASE)
        return lease + b" " + left if left else lease

    async def _flush_under(self, lease: bytes, left: bytes) -> None:
        self._lease = lease
        self._under_way = True
        try:
            if self._layout.may_flush:
                await self._unlink_all(left)
            await self._replace(self._lease, b"")
            self._left = b""
        except BackendError:
            lease = self._leased(self._left)
            if self._left and await self._replace(self._lease, lease):
                self._lease = lease
            raise
        finally:
            self._under_way = False
            if not self._left:
                self._lease = b""

    async def _replace(self, noted: bytes, by: bytes) -> bool:
        """Note something else, or nothing, unless somebody else has; gives whether that is so."""
        key = self._codec.flush_key
        return bool(await self._asks.ask(b"EVAL", REPLACE, b"1", key, noted, by))

    def _tell(self, text: str, **facts: str) -> None:
        """Once."""
        if text not in self._told:
            self._told.add(text)
            key = self._codec.flush_key.decode("utf-8", "backslashreplace")
            self._log.warn(text, key=key, **facts)

    def _flush_failed(self, failure: Any) -> None:
        """The next look is another attempt."""
        if not failure.check(BackendError):
            self._log.failure("Could not carry out a delayed flush_all", failure)
            return
        failed: Failed = failure.value.failed
        if failed.kind is ErrorKind.WRONG_TYPE:
            self._tell(_SENSELESS)
        elif failed.kind is not ErrorKind.UNAVAILABLE:
            self._tell(_REFUSED, why=failed.message)
