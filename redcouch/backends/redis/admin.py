"""
What concerns all items of a Redis, or Redis itself: flushing, listing, statistics.

A flush at once is SCAN and UNLINK over the item prefix. A later one is noted in
Redis as well as in a timer, so that it happens even if this process ends before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from redcouch.backends.redis.exchange import Exchange
from redcouch.backends.redis.replies import unexpected
from redcouch.backends.redis.resp import pack_command
from redcouch.backends.redis.script_codec import ScriptCodec, read_listed
from redcouch.backends.redis.server_info import read_facts, read_info
from redcouch.backends.redis.usage_store import SYSTEM_KEYS
from redcouch.commands import Dump, Flush
from redcouch.errors import BackendError
from redcouch.expiry import flush_deadline
from redcouch.interfaces import Surroundings
from redcouch.results import Failed, Listed, Outcome, Page, Trouble

_SCAN_STEP = b"500"

_WHEN = re.compile(rb"\d{1,11}(\.\d{1,9})?")
"""A UNIX time, as a delayed flush is noted."""

_NO_FLUSH = Failed(
    Trouble.REFUSED, "flush_all needs a prefix, or flush=all, in the storage URL of layout=string"
)


class RedisAdmin:
    """See the module. What Redis refuses is raised as a L{BackendError}."""

    _log = Logger()

    def __init__(self, exchange: Exchange, codec: ScriptCodec, surroundings: Surroundings) -> None:
        self._exchange = exchange
        self._codec = codec
        self._layout = codec.layout
        self._now = surroundings.now
        self._reactor = surroundings.reactor
        self._flush_timer: Any = None
        self._told = False

    # -- flushing ----------------------------------------------------------------------------

    async def flush(self, command: Flush) -> Outcome | Failed:
        """Remove all items, or note when that is to be done."""
        if not self._layout.may_flush:
            return _NO_FLUSH
        self.stop()
        when = flush_deadline(command.exptime, self._now())
        if when is None:
            await self._exchange.ask(b"DEL", self._codec.flush_key)
            await self._unlink_all()
        else:
            await self._exchange.ask(b"SET", self._codec.flush_key, b"%.3f" % when)
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

    async def _unlink_all(self) -> None:
        cursor = b""
        while True:
            cursor, items = await self._scan(cursor)
            if items:
                keys = [key for item in items for key in self._layout.keys_of_item(item)]
                await self._exchange.ask(b"UNLINK", *keys)
            if not cursor:
                return

    async def _scan(self, cursor: bytes) -> tuple[bytes, list[bytes]]:
        """Some keys in Redis that are items, and the cursor to go on with, C{b""} at the end."""
        layout = self._layout
        where = (b"MATCH", layout.pattern, b"COUNT", _SCAN_STEP, *layout.scan_options)
        reply = await self._exchange.ask(b"SCAN", cursor or b"0", *where)
        match reply:
            case [bytes() as cursor, list() as keys]:
                return (b"" if cursor == b"0" else cursor), [*filter(layout.is_item, keys)]
        raise unexpected(reply)

    def _set_flush_timer(self, when: float) -> None:
        self.stop()
        delay = max(0.0, when - self._now())
        self._flush_timer = self._reactor.callLater(delay, self.look_for_flush)

    async def _flush_noted(self) -> None:
        """Do what is noted in Redis, if it is still noted and its time has come."""
        noted = await self._exchange.ask(b"GET", self._codec.flush_key)
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
        await self._exchange.ask(b"DEL", self._codec.flush_key)

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
            if failure.value.failed.trouble is Trouble.WRONG_TYPE:
                self._tell_senseless()
        else:
            self._log.failure("Could not carry out a delayed flush_all", failure)

    # -- listing -----------------------------------------------------------------------------

    async def dump(self, command: Dump) -> Page:
        """Some of the items, as they are listed."""
        cursor, names = await self._scan(command.cursor)
        keys = [name[len(self._layout.prefix) :] for name in names]
        replies = await self._exchange.run([*map(self._codec.pack_inspection, keys)])
        # A key of another type, or one that is no item, has no place in the list.
        listed = [
            read_listed(key, fields)
            for key, fields in zip(keys, replies, strict=True)
            if isinstance(fields, list)
        ]
        items = [item for item in listed if isinstance(item, Listed)]
        return Page(items, cursor, self._now())

    # -- statistics --------------------------------------------------------------------------

    async def statistics(self) -> Mapping[str, int]:
        """As of Redis's own INFO: of the whole server, but for the number of keys."""
        payload = b"".join(
            pack_command(command)
            for command in (
                (b"INFO", b"memory"),
                (b"INFO", b"stats"),
                (b"DBSIZE",),
                (b"EXISTS", *self._codec.system_keys, *SYSTEM_KEYS),
            )
        )
        memory, counts, size, own = await self._exchange.send(payload, 4)
        facts = {**read_info(memory), **read_info(counts)}
        found = {
            name: int(facts[there])
            for name, there in (
                ("bytes", "used_memory"),
                ("limit_maxbytes", "maxmemory"),
                ("evictions", "evicted_keys"),
                ("reclaimed", "expired_keys"),
            )
            if facts.get(there, "").isdigit()
        }
        if isinstance(size, int):
            found["curr_items"] = max(0, size - own) if isinstance(own, int) else size
        if not found.get("limit_maxbytes") and facts.get("total_system_memory", "").isdigit():
            found["limit_maxbytes"] = int(facts["total_system_memory"])  # no limit but this
        return found

    async def describe(self) -> Mapping[str, str | int]:
        """What L{IDescribedBackend<redcouch.interfaces.IDescribedBackend>} names."""
        return read_facts(read_info(await self._exchange.ask(b"INFO")))
