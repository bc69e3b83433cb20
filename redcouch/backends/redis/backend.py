"""
L{IStorageBackend} over Redis: a batch becomes one pipeline.

For each command there is a method that packs it and one that reads its
replies. What a batch needs beyond one round trip is rare and happens in
L{_Aftermath}: Redis has forgotten the scripts, or an item that a native client
wrote is asked for a CAS token it does not have.
"""

from __future__ import annotations

import re
from binascii import hexlify, unhexlify
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha1
from math import ceil
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from redcouch.backends.redis import scripts
from redcouch.backends.redis.connection import Link, RedisError, Replies, Waiting
from redcouch.backends.redis.fill_leases import FillCodec
from redcouch.backends.redis.layout import (
    CAS_COUNTER,
    FLUSH_AT,
    NO_CAS,
    UNREADABLE,
    Layout,
    read_item,
    read_number,
)
from redcouch.backends.redis.resp import (
    LARGE_REPLIES,
    bulks,
    pack_command,
    pack_hmget,
    pack_large_store,
    pack_script,
    pack_store,
)
from redcouch.backends.redis.server_info import read_facts
from redcouch.backends.redis.usage_store import (
    SYSTEM_KEYS,
    key_of,
    oldest,
    pack_forget,
    pack_questions,
    pack_seen,
    read_answers,
)
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Dump,
    Flush,
    Get,
    GetAndTouch,
    Inspect,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from redcouch.errors import BackendError
from redcouch.expiry import MAX_RELATIVE, flush_deadline, seconds_left
from redcouch.interfaces import (
    Answer,
    Health,
    IDescribedBackend,
    IDirectBackend,
    IFillableBackend,
    ITrafficBackend,
    Surroundings,
)
from redcouch.limits import FLAGS_OVERHEAD
from redcouch.results import (
    Failed,
    Found,
    Item,
    Listed,
    MetaItem,
    Number,
    Outcome,
    Page,
    Result,
    Stored,
    Touched,
    Trouble,
)
from redcouch.telemetry.usage import KINDS, MOST, Inventory, Seen

_HALF = 10**10

_SCAN_STEP = 500

_OUTCOMES = {
    b"NS": Outcome.NOT_STORED,
    b"EX": Outcome.EXISTS,
    b"NF": Outcome.NOT_FOUND,
    b"NN": Outcome.NON_NUMERIC,
}

#: In the place of a result: the script was not there, so nothing has happened.
_FORGOTTEN = Failed(Trouble.REFUSED, "storage has lost its scripts")

#: The same for a large set that Redis had no memory for: its old item is still there.
_NOTHING_DONE = Failed(Trouble.OUT_OF_MEMORY, "out of memory storing object")

#: Redis's error codes that mean something to a client; Redis 6.2 wraps those of scripts.
_CODE = re.compile(
    r"\b(NOSCRIPT|OOM|WRONGTYPE|UNREADABLE|READONLY|LOADING|MISCONF|MASTERDOWN|NOREPLICAS|BUSY"
    r"|NOPERM|NOAUTH|CLUSTERDOWN|MOVED|TRYAGAIN|UNKILLABLE|RESERVED)\b"
)

_KNOWN_ERRORS = {
    "NOSCRIPT": _FORGOTTEN,
    "OOM": Failed(Trouble.OUT_OF_MEMORY, "out of memory storing object"),
    "WRONGTYPE": Failed(Trouble.WRONG_TYPE, "key in Redis is not an item"),
    "UNREADABLE": Failed(Trouble.UNREADABLE, "item in Redis is not readable"),
    "RESERVED": Failed(Trouble.REFUSED, "key is reserved"),
}

#: Errors that pass, and with which Redis is as good as not there.
_AWAY = frozenset({"LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"})

#: Errors after which another connection may find a better Redis.
_DROP_ON = frozenset({"READONLY", "MASTERDOWN", "NOAUTH"})

#: Flags as Redis has them, as numbers: those that clients use, and nothing to be checked.
_USUAL_FLAGS = {b"%d" % number: number for number in range(256)}

Pack = Callable[[Any], tuple[bytes, int]]
"""A command as bytes for Redis, and how many replies it has."""

Read = Callable[[Any, Sequence[Any]], Result]
"""A command and its replies, as its result."""


@implementer(IDescribedBackend, IDirectBackend, IFillableBackend, ITrafficBackend)
class RedisBackend:
    """See the module. C{link} is the backend's own: it starts and stops it."""

    _log = Logger()
    _scripts = scripts.SCRIPTS
    _fill_scripts = (scripts.LEASE, scripts.FILL, scripts.DENY)
    _scan_more: tuple[bytes, ...] = ()

    def __init__(self, link: Link, layout: Layout, surroundings: Surroundings) -> None:
        self._link = link
        self._layout = layout
        self._surroundings = surroundings
        self._flush_timer: Any = None
        self._pack_templates(layout)
        #: How each command is packed and read. A command that is not here (a flush) takes the
        #: long way.
        self._steps: dict[type[Command], tuple[Pack, Read]] = {
            Get: (self._pack_get, self._read_get),
            GetAndTouch: (self._pack_get_and_touch, self._read_get),
            Store: (self._pack_store, self._read_store),
            Arithmetic: (self._pack_arithmetic, self._read_arithmetic),
            Delete: (self._pack_delete, self._read_delete),
            Discard: (self._pack_discard, self._read_delete),
            Touch: (self._pack_touch, self._read_touch),
            MetaGet: (self._pack_meta_get, self._read_meta_get),
            Invalidate: (self._pack_invalidate, self._read_invalidate),
            Inspect: (self._pack_inspect, self._read_inspect),
        }
        self._fills = FillCodec(
            layout, self._fill_scripts, surroundings.now, _expiry, self._outcome
        )
        self._steps.update(self._fills.steps)

    def _pack_templates(self, layout: Layout) -> None:
        prefix = layout.prefix
        self._hmget = pack_hmget(prefix, (b"v", b"r", b"f"))
        self._hmget_cas = pack_hmget(prefix, (b"v", b"r", b"f", b"c"))
        self._set = pack_store(prefix, scripts.SET, (layout.field, layout.other_field), 3)
        self._set_large = pack_large_store(prefix, scripts.SETTLE, layout.field, layout.other_field)
        self._hmget_meta = pack_hmget(prefix, (b"v", b"r", b"f", b"c", b"s", b"w"))
        self._store = pack_script(prefix, scripts.STORE, 9)
        self._concat = pack_script(prefix, scripts.CONCAT, 10)
        self._arithmetic = pack_script(prefix, scripts.ARITHMETIC, 12)
        self._meta = pack_script(prefix, scripts.META, 11)
        self._invalidate = pack_script(prefix, scripts.INVALIDATE, 6)
        self._win = pack_script(prefix, scripts.WIN, 1)
        self._list = pack_script(prefix, scripts.LIST, 0)
        self._touch = pack_script(prefix, scripts.TOUCH, 2)
        self._gat = pack_script(prefix, scripts.GAT, 2)
        self._delete = pack_script(prefix, scripts.DELETE, 1)
        self._assign = pack_script(prefix, scripts.ASSIGN, 2)

    # -- IStorageBackend ---------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        self._link.when_up = self._look_for_flush
        self._link.start()
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self._cancel_flush_timer()
        return self._link.stop()

    def health(self) -> Health:
        return self._link.health()

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        answer: Deferred[list[Result]] = Deferred()
        self.perform(commands, answer.callback)
        return answer

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend}."""
        if len(commands) == 1:
            step = self._steps.get(commands[0].__class__)
            if step is not None:
                payload, replies = step[0](commands[0])
                self._link.submit(payload, _Lone(self, commands, answer, replies, step[1]))
                return
        else:
            commands = _with_turns(commands)
            packed = self._pack(commands)
            if packed is not None:
                payload, replies = packed
                self._link.submit(payload, _Pipeline(self, commands, answer, replies))
                return
        Deferred.fromCoroutine(self._execute_in_parts(commands)).addBoth(answer)

    def _pack(self, commands: Sequence[Command]) -> tuple[bytes, int] | None:
        """A batch as one payload; C{None} where something in it takes the long way."""
        steps = self._steps
        payload = []
        expected = 0
        for command in commands:
            step = steps.get(command.__class__)
            if step is None:
                return None
            packed, replies = step[0](command)
            payload.append(packed)
            expected += replies
        return b"".join(payload), expected

    def read(self, commands: Sequence[Command], replies: Sequence[Any]) -> list[Result]:
        """The results of a batch; sets C{needs_more} where they are not final."""
        steps = self._steps
        results = []
        at = 0
        for command in commands:
            after = at + self._count_replies(command)
            results.append(steps[command.__class__][1](command, replies[at:after]))
            at = after
        return results

    #: Bytes of a value from which a set is a transaction (L{pack_large_store}).
    _large = 8192

    def _count_replies(self, command: Command) -> int:
        if isinstance(command, Get | GetAndTouch):
            return len(command.keys)
        if isinstance(command, Store) and len(command.value) >= self._large and _is_plain(command):
            return LARGE_REPLIES
        return 1

    #: Set while replies are read: a result is not final.
    needs_more = False

    # -- reading -----------------------------------------------------------------------------

    def _pack_get(self, command: Get) -> tuple[bytes, int]:
        keys = command.keys
        return (self._hmget_cas if command.cas else self._hmget)(keys), len(keys)

    def _pack_get_and_touch(self, command: GetAndTouch) -> tuple[bytes, int]:
        expiry = _expiry(command.exptime)
        keys = command.keys
        return b"".join([self._gat(key, *expiry) for key in keys]), len(keys)

    def _read_get(self, command: Get | GetAndTouch, replies: Sequence[Any]) -> Result:
        if command.cas:
            return [self._read_found(fields) for fields in replies]
        found: list[Found] = []
        add = found.append
        for fields in replies:
            try:  # what nearly every item looks like, read in place
                value, raw, flags = fields
                if value is not None:
                    add((unhexlify(value), _USUAL_FLAGS[flags], 0))
                    continue
                if raw is not None:
                    add((raw, _USUAL_FLAGS[flags], 0))
                    continue
            except (TypeError, ValueError, KeyError):
                pass
            add(self._read_found(fields))
        return found

    def _read_found(self, fields: Any) -> Found:
        """One item's fields, whatever they are."""
        if fields.__class__ is not list:
            return self._failed(fields)
        item = read_item(fields)
        if isinstance(item, Item) and item.cas == NO_CAS:
            self.needs_more = True
        return item

    async def complete_item(self, key: bytes, item: Item) -> Found:
        """An item that was read and has no token yet, with one."""
        digests = [
            sha1(seen, usedforsecurity=False).hexdigest().encode()
            for seen in (hexlify(item.value), item.value)
        ]
        try:
            (reply,) = await self._send_scripts([self._assign(key, *digests)], 1)
        except BackendError as error:
            return error.failed
        if reply.__class__ is not bytes:
            return self._failed(reply)
        return item._replace(cas=int(reply))

    # -- writing -----------------------------------------------------------------------------

    def _pack_store(self, command: Store) -> tuple[bytes, int]:
        layout = self._layout
        mode = command.mode
        value = layout.encode(command.value)
        if _is_plain(command):
            rest = _flags_and_expiry(command.flags, command.exptime)
            if len(command.value) >= self._large:
                return self._set_large(command.key, value, rest), LARGE_REPLIES
            return self._set(command.key, value, rest), 1
        if mode is StoreMode.APPEND or mode is StoreMode.PREPEND:
            return self._pack_concat(command, value), 1
        common = (
            layout.field,
            layout.other_field,
            value,
            b"%d" % command.flags,
            *_expiry(command.exptime),
        )
        how = mode.value.encode()
        if command.compare is not None and mode is not StoreMode.ADD:
            how = b"stale" if command.invalidate else b"cas"
        tokens = (_number(command.compare), _number(command.new_cas))
        return self._store(command.key, *common, how, *tokens), 1

    def _pack_concat(self, command: Store, piece: bytes) -> bytes:
        return self._concat(
            command.key,
            self._layout.field,
            self._layout.other_field,
            piece,
            command.mode.value.encode(),
            b"%d" % self._surroundings.limits.value_room(command.key),
            b"%d" % FLAGS_OVERHEAD,
            _number(command.compare),
            _number(command.new_cas),
            *_maybe_expiry(command.vivify),
        )

    def _read_store(self, command: Store, replies: Sequence[Any]) -> Result:
        reply = replies[0] if len(replies) == 1 else self._read_transaction(replies)
        if reply.__class__ is int:
            return Stored(reply)
        if reply.__class__ is bytes and reply.isdigit():
            return Stored(int(reply))
        if reply.__class__ is list:
            return Stored(int(reply[0]), reply[1])
        if reply is _NOTHING_DONE:
            return _NOTHING_DONE
        return self._outcome(reply)

    def _read_transaction(self, replies: Sequence[Any]) -> Any:
        """The script's reply, or the error because of which nothing was done."""
        match replies:
            case [_, _, _, [_, reply]]:
                return reply
        refused = next((reply for reply in replies if isinstance(reply, RedisError)), None)
        if refused is not None and "OOM" in str(refused):
            self.needs_more = True
            return _NOTHING_DONE
        return refused

    def _pack_arithmetic(self, command: Arithmetic) -> tuple[bytes, int]:
        packed = self._arithmetic(
            command.key,
            b"decr" if command.decrement else b"incr",
            *(b"%d" % half for half in divmod(command.delta, _HALF)),
            _number(command.compare),
            _number(command.initial),
            self._layout.field,
            *_expiry(command.exptime),
            _number(command.new_cas),
            *_maybe_expiry(command.touch),
            _truth(command.ttl),
        )
        return packed, 1

    def _read_arithmetic(self, command: Arithmetic, replies: Sequence[Any]) -> Result:
        reply = replies[0]
        if reply.__class__ is list:
            number, cas, ttl, old_ttl, created = reply
            return Number(int(number), int(cas), _ttl(ttl), _ttl(old_ttl), created == 1)
        return self._outcome(reply)

    def _pack_delete(self, command: Delete) -> tuple[bytes, int]:
        return self._delete(command.key, _number(command.compare)), 1

    def _pack_discard(self, command: Discard) -> tuple[bytes, int]:
        return self._delete(command.key, b""), 1

    def _read_delete(self, command: Command, replies: Sequence[Any]) -> Result:
        reply = replies[0]
        if reply.__class__ is int:
            return Outcome.DELETED
        return self._outcome(reply)

    def _pack_touch(self, command: Touch) -> tuple[bytes, int]:
        return self._touch(command.key, *_expiry(command.exptime)), 1

    def _read_touch(self, command: Touch, replies: Sequence[Any]) -> Result:
        reply = replies[0]
        if reply.__class__ is list:
            try:
                return Touched(read_number(reply[0], 32), read_number(reply[1], 64))
            except ValueError:
                return UNREADABLE
        return self._outcome(reply)

    # -- standing ----------------------------------------------------------------------------

    def _pack_meta_get(self, command: MetaGet) -> tuple[bytes, int]:
        if command.plain:
            return self._hmget_meta((command.key,)), 1
        layout = self._layout
        renewal = None
        if command.recache is not None:
            renewal = seconds_left(command.recache, self._surroundings.now())
        packed = self._meta(
            command.key,
            _truth(command.value),
            *_maybe_expiry(command.touch),
            layout.field,
            layout.other_field,
            *_maybe_expiry(command.vivify),
            _number(command.new_cas),
            b"" if renewal is None else b"%.3f" % renewal,
            _truth(command.touch_first),
            _truth(not command.no_update),
        )
        return packed, 1

    def _read_meta_get(self, command: MetaGet, replies: Sequence[Any]) -> Result:
        fields = replies[0]
        if fields is None:
            return None
        if fields.__class__ is not list:
            return self._failed(fields)
        if command.plain:
            return self._read_plain_meta_get(fields)
        found = read_item((fields[0], fields[1], fields[3], fields[4]))
        if not isinstance(found, Item):
            return found
        size, ttl, old_ttl, idle = fields[2], *fields[5:8]
        standing = [bool(field) for field in fields[8:]]
        return MetaItem(
            found.value, size, found.flags, found.cas, _ttl(ttl), _ttl(old_ttl), idle, *standing
        )

    def _read_plain_meta_get(self, fields: Sequence[Any]) -> Result:
        found = read_item(fields[:4])
        if not isinstance(found, Item):
            return found
        stale, sent = fields[4] is not None, fields[5] is not None
        if found.cas == NO_CAS or (stale and not sent):
            self.needs_more = True
        return MetaItem(
            found.value, len(found.value), found.flags, found.cas, stale=stale, sent=sent
        )

    def _pack_invalidate(self, command: Invalidate) -> tuple[bytes, int]:
        packed = self._invalidate(
            command.key,
            _truth(command.stale),
            _truth(command.drop_value),
            *_maybe_expiry(command.exptime),
            _number(command.compare),
            _number(command.new_cas),
        )
        return packed, 1

    def _read_invalidate(self, command: Invalidate, replies: Sequence[Any]) -> Result:
        reply = replies[0]
        if reply.__class__ is int:
            return Outcome.OK
        return self._outcome(reply)

    # -- failures ----------------------------------------------------------------------------

    def _outcome(self, reply: Any) -> Result:
        return _OUTCOMES.get(reply) or self._failed(reply)

    def _failed(self, error: Any) -> Failed:
        """An error of Redis, as a client may see it: the code, and none of the arguments."""
        if not isinstance(error, RedisError):
            return Failed(Trouble.INTERNAL, "storage answered something unknown")
        text = str(error)
        match = _CODE.search(text)
        code = match[1] if match else text.split(" ", 1)[0][:32]
        known = _KNOWN_ERRORS.get(code)
        if known is _FORGOTTEN:
            self.needs_more = True
        if code in _DROP_ON:
            self._link.drop(f"it answers {code}")
        trouble = Trouble.UNAVAILABLE if code in _AWAY else Trouble.REFUSED
        return known or Failed(trouble, f"storage answered {code}")

    # -- rare things -------------------------------------------------------------------------

    async def send(self, payload: bytes, replies: int) -> Sequence[Any]:
        """Send packed commands; gives their replies, errors of Redis among them."""
        answer: Deferred[Sequence[Any]] = Deferred()

        def done(replies: Replies) -> None:
            if isinstance(replies, BackendError):
                answer.errback(replies)
            else:
                answer.callback(replies)

        self._link.send(payload, replies, done)
        return await answer

    async def _ask(self, *command: bytes) -> Any:
        """One command's reply; raises L{BackendError} where Redis answers with an error."""
        (reply,) = await self.send(pack_command(command), 1)
        if isinstance(reply, RedisError):
            failed = self._failed(reply)
            raise BackendError(failed.trouble, failed.message)
        return reply

    async def _execute_in_parts(self, commands: Sequence[Command]) -> list[Result]:
        """A batch with a flush or a dump in it: what comes before, that, what comes after."""
        results: list[Result] = []
        part: list[Command] = []
        for command in commands:
            if command.__class__ in self._steps:
                part.append(command)
                continue
            results += await self._execute_part(part)
            part = []
            try:
                match command:
                    case Flush():
                        results.append(await self._flush(command))
                    case Dump():
                        results.append(await self._dump(command.cursor))
                    case _:
                        raise TypeError(f"no such command: {command!r}")
            except BackendError as error:
                results.append(error.failed)
        return results + await self._execute_part(part)

    async def _execute_part(self, part: list[Command]) -> list[Result]:
        if not part:
            return []
        try:
            return await self.execute(part)
        except BackendError as error:
            return [error.failed] * len(part)

    # -- flushing ----------------------------------------------------------------------------
    #
    # A flush at once is SCAN and UNLINK over the prefix. A later one is noted in Redis as well
    # as in a timer, so that it happens even if this process ends before.

    @property
    def _flush_key(self) -> bytes:
        return FLUSH_AT + self._layout.prefix

    async def _flush(self, command: Flush) -> Result:
        self._cancel_flush_timer()
        when = flush_deadline(command.exptime, self._surroundings.now())
        if when is None:
            await self._ask(b"DEL", self._flush_key)
            await self._unlink_all()
        else:
            await self._ask(b"SET", self._flush_key, b"%.3f" % when)
            self._set_flush_timer(when)
        return Outcome.OK

    async def _unlink_all(self) -> None:
        cursor = b""
        while True:
            cursor, keys = await self._scan(cursor)
            if keys:
                await self._ask(b"UNLINK", *keys)
            if not cursor:
                return

    async def _scan(self, cursor: bytes) -> tuple[bytes, list[bytes]]:
        """Some keys in Redis that are items, and the cursor to go on with, C{b""} at the end."""
        pattern = self._layout.pattern
        step = b"%d" % _SCAN_STEP
        where = (b"MATCH", pattern, b"COUNT", step, *self._scan_more)
        reply = await self._ask(b"SCAN", cursor or b"0", *where)
        match reply:
            case [bytes() as cursor, list() as keys]:
                return (b"" if cursor == b"0" else cursor), keys
        raise _unexpected(reply)

    def _set_flush_timer(self, when: float) -> None:
        self._cancel_flush_timer()
        delay = max(0.0, when - self._surroundings.now())
        self._flush_timer = self._surroundings.reactor.callLater(delay, self._flush_is_due)

    def _cancel_flush_timer(self) -> None:
        if self._flush_timer is not None:
            if self._flush_timer.active():
                self._flush_timer.cancel()
            self._flush_timer = None

    def _flush_is_due(self) -> None:
        self._flush_timer = None
        Deferred.fromCoroutine(self._flush_noted()).addErrback(self._flush_failed)

    async def _flush_noted(self) -> None:
        """Do what is noted in Redis, if it is still noted and its time has come."""
        noted = await self._ask(b"GET", self._flush_key)
        if noted is None:
            return
        try:
            when = float(noted)
        except (TypeError, ValueError):
            raise _unexpected(noted) from None
        if when > self._surroundings.now():
            self._cancel_flush_timer()
            self._set_flush_timer(when)
        else:
            await self._unlink_all()
            await self._ask(b"DEL", self._flush_key)

    def _look_for_flush(self) -> None:
        """A connection is up: a flush may have been noted before, here or elsewhere."""
        Deferred.fromCoroutine(self._flush_noted()).addErrback(self._flush_failed)

    def _flush_failed(self, failure: Any) -> None:
        """The next connection looks for it again."""
        if not failure.check(BackendError):
            self._log.failure("Could not carry out a delayed flush_all", failure)

    # -- listing -----------------------------------------------------------------------------

    async def _dump(self, cursor: bytes) -> Page:
        cursor, names = await self._scan(cursor)
        keys = [name[len(self._layout.prefix) :] for name in names]
        if not keys:
            return Page([], cursor, self._surroundings.now())
        replies = await self._send_scripts([self._list(key) for key in keys], len(keys))
        # A key of another type, or one that is no item, has no place in the list.
        listed = [
            _read_listed(key, fields)
            for key, fields in zip(keys, replies, strict=True)
            if isinstance(fields, list)
        ]
        items = [item for item in listed if isinstance(item, Listed)]
        return Page(items, cursor, self._surroundings.now())

    def _pack_inspect(self, command: Inspect) -> tuple[bytes, int]:
        return self._list(command.key), 1

    def _read_inspect(self, command: Inspect, replies: Sequence[Any]) -> Result:
        fields = replies[0]
        if fields is None:
            return None
        if fields.__class__ is list:
            return _read_listed(command.key, fields)
        return self._failed(fields)

    async def _send_scripts(self, payload: list[bytes], expected: int) -> Sequence[Any]:
        """Commands with so many replies, behind the scripts in case Redis has forgotten them."""
        load = [pack_command((b"SCRIPT", b"LOAD", script.text)) for script in self._scripts]
        replies = await self.send(b"".join(load + payload), len(load) + expected)
        return replies[len(load) :]

    # -- statistics --------------------------------------------------------------------------

    def statistics(self) -> Deferred[Mapping[str, int]]:
        return Deferred.fromCoroutine(self._statistics())

    async def _statistics(self) -> Mapping[str, int]:
        """As of Redis's own INFO: of the whole server, but for the number of keys."""
        payload = b"".join(
            pack_command(command)
            for command in (
                (b"INFO", b"memory"),
                (b"INFO", b"stats"),
                (b"DBSIZE",),
                (b"EXISTS", CAS_COUNTER, self._flush_key, *SYSTEM_KEYS, *self._fills.keys),
            )
        )
        memory, counts, size, own = await self.send(payload, 4)
        facts = {**_read_info(memory), **_read_info(counts)}
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

    def keep_traffic(self, seen: Sequence[Seen], now: int) -> Deferred[None]:
        return Deferred.fromCoroutine(self._keep_traffic(seen, now))

    async def _keep_traffic(self, seen: Sequence[Seen], now: int) -> None:
        replies = await self.send(*pack_seen(seen, now))
        for reply in replies:
            if isinstance(reply, RedisError):
                failed = self._failed(reply)
                raise BackendError(failed.trouble, failed.message)
        for kind, size in zip(KINDS, replies[-len(KINDS) :], strict=True):
            if size > MOST:
                fields = await self._ask(b"HGETALL", key_of(kind))
                await self.send(*pack_forget(kind, oldest(fields, MOST * 4 // 5)))

    def traffic(self) -> Deferred[Inventory]:
        return Deferred.fromCoroutine(self._traffic())

    async def _traffic(self) -> Inventory:
        replies = await self.send(*pack_questions())
        for reply in replies:
            if isinstance(reply, RedisError):
                failed = self._failed(reply)
                raise BackendError(failed.trouble, failed.message)
        try:
            return read_answers(replies)
        except (TypeError, ValueError):
            raise BackendError(Trouble.UNREADABLE, "the inventory is damaged") from None

    def describe(self) -> Deferred[Mapping[str, str | int]]:
        return Deferred.fromCoroutine(self._describe())

    async def _describe(self) -> Mapping[str, str | int]:
        return read_facts(_read_info(await self._ask(b"INFO")))


class _Pipeline(Waiting):
    """A batch whose replies are on their way."""

    __slots__ = ("_answer", "_backend", "_commands")

    def __init__(
        self, backend: RedisBackend, commands: Sequence[Command], answer: Answer, replies: int
    ) -> None:
        self.expected = replies
        self.replies = []
        self._backend = backend
        self._commands = commands
        self._answer = answer

    def done(self, replies: Replies) -> None:
        """Read the replies, and answer."""
        if isinstance(replies, BackendError):
            self._answer(Failure(replies))
            return
        self._finish(self._backend.read(self._commands, replies))

    def _finish(self, results: list[Result]) -> None:
        backend = self._backend
        if backend.needs_more:
            backend.needs_more = False
            aftermath = _Aftermath(backend, self._commands, results)
            Deferred.fromCoroutine(aftermath.run()).addBoth(self._answer)
        else:
            self._answer(results)


class _Lone(_Pipeline):
    """A batch of one command, which most are."""

    __slots__ = ("_read",)

    def __init__(
        self,
        backend: RedisBackend,
        commands: Sequence[Command],
        answer: Answer,
        replies: int,
        read: Read,
    ) -> None:
        self.expected = replies
        self.replies = []
        self._backend = backend
        self._commands = commands
        self._answer = answer
        self._read = read

    def done(self, replies: Replies) -> None:
        """Read the reply, and answer."""
        if isinstance(replies, BackendError):
            self._answer(Failure(replies))
            return
        results = [self._read(self._commands[0], replies)]
        if self._backend.needs_more:
            self._finish(results)
        else:
            self._answer(results)


class _Aftermath:
    """
    What is left to do for a batch after its one round trip.

    Redis may have forgotten the scripts (SCRIPT FLUSH). They are sent again,
    and commands again after them, but never so that two of a client's commands
    change places: if a later change was made in the meantime (because somebody
    else had loaded the scripts between the two), the earlier one has failed,
    which is in order, since a command that failed may stand anywhere.
    """

    _ATTEMPTS = 3

    def __init__(
        self, backend: RedisBackend, commands: Sequence[Command], results: list[Result]
    ) -> None:
        self._backend = backend
        self._commands = commands
        self._results = results

    async def run(self) -> list[Result]:
        """The final results."""
        for _ in range(self._ATTEMPTS):
            if not any(map(_is_forgotten, self._results)):
                break
            await self._send_again()
        await self._complete_items()
        await self._remove_refused()
        return self._results

    async def _remove_refused(self) -> None:
        """Large sets that Redis had no memory for: their old items must not live on."""
        refused = set()
        for command, result in zip(self._commands, self._results, strict=True):
            if isinstance(command, Store):
                if result is _NOTHING_DONE:
                    refused.add(command.key)
                elif result.__class__ is Stored:
                    refused.discard(command.key)
        if refused:
            backend = self._backend
            payload = [backend._delete(key, b"") for key in refused]
            await backend._send_scripts(payload, len(payload))

    async def _send_again(self) -> None:
        first = self._first_to_repeat()
        if first is None:
            return
        backend = self._backend
        commands = self._commands[first:]
        packed = backend._pack(commands)
        assert packed is not None
        replies = await backend._send_scripts([packed[0]], packed[1])
        self._results[first:] = backend.read(commands, replies)
        backend.needs_more = False

    def _first_to_repeat(self) -> int | None:
        """Where to begin again: after the last change that was made, if any is left there."""
        begin = 0
        for index, (command, result) in enumerate(zip(self._commands, self._results, strict=True)):
            if not isinstance(command, Get) and not _is_forgotten(result):
                begin = index + 1
        for index in range(begin, len(self._commands)):
            if _is_forgotten(self._results[index]):
                return index
        return None

    async def _complete_items(self) -> None:
        """Tokens for items without one; and stale items read the short way may be won."""
        for command, result in zip(self._commands, self._results, strict=True):
            if isinstance(command, Get | GetAndTouch) and isinstance(result, list):
                for index, item in enumerate(result):
                    if isinstance(item, Item) and item.cas == NO_CAS:
                        key = command.keys[index]
                        result[index] = await self._backend.complete_item(key, item)
            elif isinstance(result, MetaItem):
                assert isinstance(command, MetaGet)
                await self._complete_meta_item(command, result)

    async def _complete_meta_item(self, command: MetaGet, item: MetaItem) -> None:
        backend = self._backend
        if item.cas == NO_CAS:
            plain = Item(item.value, item.flags, NO_CAS)
            assigned = await backend.complete_item(command.key, plain)
            item.cas = assigned.cas if isinstance(assigned, Item) else 0
        if command.plain and item.stale and not item.sent:
            packed = backend._win(command.key, b"%d" % item.cas)
            (won,) = await backend._send_scripts([packed], 1)
            item.won = won == 1
            item.sent = not item.won


def _expiry(exptime: int) -> tuple[bytes, bytes]:
    """The Redis command that gives an item this expiry, and its argument."""
    if exptime == 0:
        return b"PERSIST", b""
    if exptime < 0:
        return b"UNLINK", b""
    if exptime <= MAX_RELATIVE:
        return b"PEXPIRE", b"%d" % (exptime * 1000)
    return b"PEXPIREAT", b"%d" % (exptime * 1000)


def _maybe_expiry(exptime: int | None) -> tuple[bytes, bytes]:
    return (b"", b"") if exptime is None else _expiry(exptime)


def _is_plain(command: Store) -> bool:
    """A set that asks for nothing but to be stored."""
    return command.mode is StoreMode.SET and command.compare is None and command.new_cas is None


@lru_cache(1024)
def _flags_and_expiry(flags: int, exptime: int) -> bytes:
    """The last arguments of a set. Most clients use few different ones."""
    return bulks(b"%d" % flags, *_expiry(exptime))


def _with_turns(commands: Sequence[Command]) -> Sequence[Command]:
    """
    A batch in which something changes: whether a stale item is won has to be
    settled when it is read there, and not after the batch.
    """
    if not any(command.__class__ is MetaGet for command in commands) or all(
        command.__class__ in (MetaGet, Get) for command in commands
    ):
        return commands
    return [
        replace(command, standing=True, no_update=True)
        if isinstance(command, MetaGet) and command.plain
        else command
        for command in commands
    ]


def _is_forgotten(result: Result) -> bool:
    if result.__class__ is list:
        return any(found is _FORGOTTEN for found in result)
    return result is _FORGOTTEN


def _read_listed(key: bytes, fields: Sequence[Any]) -> Listed | Failed:
    size, flags, cas, left, idle, fetched = fields
    ttl = None if left < 0 else ceil(left / 1000)
    try:
        numbers = read_number(cas, 64), read_number(flags, 32)
    except ValueError:
        return UNREADABLE
    return Listed(key, ttl, idle, numbers[0], fetched == 1, size, numbers[1])


def _number(number: int | None) -> bytes:
    return b"" if number is None else b"%d" % number


def _truth(wanted: bool) -> bytes:
    return b"1" if wanted else b""


def _ttl(seconds: int) -> int | None:
    return None if seconds < 0 else seconds


def _read_info(reply: Any) -> dict[str, str]:
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _unexpected(reply: Any) -> BackendError:
    return BackendError(
        Trouble.INTERNAL, f"storage answered something unknown ({type(reply).__name__})"
    )
