"""
Items as Redis hashes: the commands that most clients send, without a script or
with as little of one as can be.

A C{get} is HMGET, for each key one template filled in. A plain C{set} is the
shortest script; of a large value, a transaction. A meta get that asks for the
item alone is HMGET too.
"""

from __future__ import annotations

from binascii import hexlify, unhexlify
from collections.abc import Sequence
from functools import lru_cache, partial
from hashlib import sha1
from typing import Any

from redcouch.backends.redis import scripts
from redcouch.backends.redis.layout import NO_CAS, Layout, read_item
from redcouch.backends.redis.replies import (
    NO_ROOM,
    NOTHING_DONE,
    Packed,
    Question,
    Unfinished,
    failed_by,
)
from redcouch.backends.redis.resp import (
    LARGE_REPLIES,
    bulks,
    pack_hmget,
    pack_large_store,
    pack_store,
)
from redcouch.backends.redis.script_arguments import pack_expiry
from redcouch.backends.redis.script_codec import MORE_TO_SAY, ScriptCodec, read_found, read_stored
from redcouch.commands import Command, Get, MetaGet, Store
from redcouch.interfaces import BackendContext
from redcouch.results import Item, KeyResult, MetaItem, Result

_LARGE = 8192
"""Bytes of a value from which a set is a transaction (L{pack_large_store})."""

#: Flags as Redis has them, as numbers: those that clients use, and nothing to be checked.
_USUAL_FLAGS = {b"%d" % number: number for number in range(256)}


class HashCodec(ScriptCodec):
    """See the module."""

    scripts = scripts.SCRIPTS

    def __init__(self, layout: Layout, context: BackendContext) -> None:
        super().__init__(layout, context)
        prefix = layout.prefix
        self._hmget = pack_hmget(prefix, (b"v", b"r", b"f"))
        self._hmget_cas = pack_hmget(prefix, (b"v", b"r", b"f", b"c"))
        self._hmget_meta = pack_hmget(prefix, (b"v", b"r", b"f", b"c", b"s", b"w"))
        self._set = pack_store(prefix, layout.shared_keys, scripts.SET, layout.field)
        large = (scripts.BEGIN, scripts.SETTLE)
        self._set_large = pack_large_store(prefix, layout.shared_keys, large, layout.field)
        self._assign = self._template("assign", 2)
        self._win = self._template("win", 1)
        self.packers[Get] = self._pack_get
        self.packers_among_changes = {**self.packers, MetaGet: super()._pack_meta_get}

    def _pack_get(self, command: Get) -> Packed:
        keys = command.keys
        if command.cas:
            return self._hmget_cas(keys), len(keys), self._read_items
        return self._hmget(keys), len(keys), _read_get

    def pack_kept(self, keys: Sequence[bytes]) -> Packed:
        """See L{ScriptCodec}."""
        return self._hmget_meta(keys), len(keys), _read_kept

    def pack_token(self, key: bytes, item: Item) -> bytes:
        """See L{ScriptCodec}."""
        digests = [
            sha1(seen, usedforsecurity=False).hexdigest().encode()
            for seen in (hexlify(item.value), item.value)
        ]
        return self._assign(key, *digests)

    def read_token(self, item: Item, reply: Any) -> KeyResult:
        """See L{ScriptCodec}."""
        if reply.__class__ is bytes:
            return Item(item.value, item.flags, int(reply))
        return failed_by(reply)

    def _pack_store(self, command: Store) -> Packed:
        if not command.plain:
            return super()._pack_store(command)
        value = self.layout.encode(command.value)
        rest = _pack_flags_and_expiry(command.flags, command.exptime)
        if len(command.value) >= _LARGE:
            return self._set_large(command.key, value, rest), LARGE_REPLIES, _read_large_store
        return self._set(command.key, value, rest), 1, read_stored

    def _pack_meta_get(self, command: MetaGet) -> Packed:
        if command.plain:
            return self._hmget_meta((command.key,)), 1, self._read_plain_meta_get
        return super()._pack_meta_get(command)

    def _read_plain_meta_get(self, command: MetaGet, replies: Sequence[Any]) -> Result:
        fields = replies[0]
        if fields.__class__ is not list:
            return failed_by(fields)
        found = read_item(fields[:4])
        if not isinstance(found, Item):
            return found
        value, flags, cas = found
        stale, sent = fields[4] is not None, fields[5] is not None
        token = 0 if cas == NO_CAS else cas
        item = MetaItem(value, len(value), flags, token, stale=stale, sent=sent)
        if cas == NO_CAS and (command.cas or (stale and not sent)):
            give = partial(self._give_meta_token, command.key, item)
            return Unfinished(item, [(self.pack_token(command.key, found), give)])
        question = self._ask_to_win(command.key, item)
        return item if question is None else Unfinished(item, [question])

    def _give_meta_token(self, key: bytes, item: MetaItem, reply: Any) -> Question | None:
        item.cas = int(reply) if reply.__class__ is bytes else 0
        return self._ask_to_win(key, item)

    def _ask_to_win(self, key: bytes, item: MetaItem) -> Question | None:
        """A stale item is renewed by the first client that reads it."""
        if not item.stale or item.sent:
            return None
        return self._win(key, b"%d" % item.cas), partial(_tell_who_wins, item)


def _tell_who_wins(item: MetaItem, reply: Any) -> None:
    item.won = reply == 1
    item.sent = not item.won


def _read_get(command: Get, replies: Sequence[Any]) -> list[KeyResult]:
    """Items with the fields v, r, f each."""
    found: list[KeyResult] = []
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
        add(read_found(fields))
    return found


def _read_kept(command: Command, replies: Sequence[Any]) -> list[KeyResult]:
    """Items with the fields v, r, f, c, s, w each."""
    return [
        read_item(fields[:4])
        if fields.__class__ is list and fields[4:] == [None, None]
        # What is marked, or cannot be read.
        else MORE_TO_SAY
        for fields in replies
    ]


def _read_large_store(command: Store, replies: Sequence[Any]) -> Result:
    """The replies to a transaction: its last, or the error because of which nothing is done."""
    match replies:
        case [_, _, _, _, [_, _, reply]]:
            return read_stored(command, (reply,))
    refused = next((reply for reply in replies if isinstance(reply, Exception)), None)
    failed = failed_by(refused)
    return Unfinished(NOTHING_DONE) if failed is NO_ROOM else failed


@lru_cache(1024)
def _pack_flags_and_expiry(flags: int, exptime: int) -> bytes:
    """The last arguments of a set. Most clients use few different ones."""
    return bulks(b"%d" % flags, *pack_expiry(exptime))
