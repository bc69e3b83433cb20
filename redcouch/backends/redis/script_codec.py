"""
Commands as calls of scripts on one item, and the scripts' replies as results.

What the two layouts have in common: their scripts have the same names, take the
same arguments and answer alike. L{HashCodec<redcouch.backends.redis.hash_codec.HashCodec>}
and L{StringCodec<redcouch.backends.redis.string_codec.StringCodec>} add what each
does in a faster way.

A codec packs each command alone: C{command.keys} are the keys that its bytes
are about, and no packed command has keys of several items, but for reads of
many items, which can be split by key. It sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import ceil
from typing import Any, ClassVar

from redcouch.backends.redis.fill_leases import FillCodec, ItemFillCodec, read_ok
from redcouch.backends.redis.layout import (
    ADVERTISED,
    CAS_COUNTER,
    FLUSH_AT,
    NO_CAS,
    UNREADABLE,
    Layout,
    read_flags,
    read_item,
    read_number,
)
from redcouch.backends.redis.replies import (
    LOST,
    Pack,
    Packed,
    Question,
    Reader,
    Unfinished,
    failed_by,
    read_outcome,
    unless_lost,
)
from redcouch.backends.redis.resp import pack_script
from redcouch.backends.redis.script_arguments import (
    pack_expiry,
    pack_expiry_if,
    pack_number,
    pack_truth,
)
from redcouch.backends.redis.scripts import Script
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Get,
    GetAndTouch,
    Inspect,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from redcouch.expiry import seconds_left
from redcouch.interfaces import BackendContext
from redcouch.limits import FLAGS_OVERHEAD
from redcouch.results import (
    ErrorKind,
    Failed,
    Item,
    KeyResult,
    Listed,
    MetaItem,
    Number,
    Outcome,
    Result,
    Stored,
    Touched,
)

_HALF = 10**10

MORE_TO_SAY = Failed(ErrorKind.UNREADABLE, "more than an item and its token")
"""Stands, where items are read to be kept, for one that has to be read with all there is to it."""


class ScriptCodec:
    """
    @ivar packers: how each command is packed. A command that is not here (a
        flush) is not for one round trip.
    @ivar packers_among_changes: the same in a batch that changes something: a
        read has to find there what is so at its turn.
    @ivar system_keys: the keys that are no items and may be there for long.
    """

    scripts: ClassVar[tuple[Script, ...]]

    def __init__(self, layout: Layout, context: BackendContext) -> None:
        self.layout = layout
        self._limits = context.limits
        self._now = context.now
        self._store_if = self._template("store", 8)
        self._concat = self._template("concat", 10)
        self._arithmetic = self._template("arithmetic", 12)
        self._meta = self._template("meta", 11)
        self._invalidate = self._template("invalidate", 7)
        #: Asks for an item as L{read_listed} takes it.
        self.pack_inspection = self._template("list", 0)
        self._touch = self._template("touch", 2)
        self._gat = self._template("gat", 2)
        self._delete = self._template("delete", 1)
        self._probe = self._template("probe", 1)
        fills: FillCodec | ItemFillCodec
        if layout.cluster:
            fills = ItemFillCodec(layout)
        else:
            fills = FillCodec(layout, self.script, context.now)
        self.flush_key = FLUSH_AT + layout.prefix
        self.advertised_key = ADVERTISED + layout.prefix
        self.system_keys = (CAS_COUNTER, self.flush_key, self.advertised_key, *fills.keys)
        self.packers: dict[type[Command], Pack] = {
            GetAndTouch: self._pack_get_and_touch,
            Store: self._pack_store,
            Arithmetic: self._pack_arithmetic,
            Delete: self._pack_delete,
            Discard: lambda command: (self.pack_removal(command.key), 1, read_deleted),
            Touch: self._pack_touch,
            MetaGet: self._pack_meta_get,
            Invalidate: self._pack_invalidate,
            Inspect: lambda command: (self.pack_inspection(command.key), 1, read_inspected),
            **fills.packers,
        }
        self.packers_among_changes: Mapping[type[Command], Pack] = self.packers

    def script(self, name: str) -> Script:
        """The script of this name."""
        return next(script for script in self.scripts if script.name == name)

    def _template(self, name: str, arguments: int) -> Callable[..., bytes]:
        """A function from an item's key and this many arguments to a call of a script."""
        layout = self.layout
        return pack_script(layout.prefixes, layout.shared_keys, self.script(name), arguments)

    def pack(
        self, commands: Sequence[Command]
    ) -> tuple[bytes, int, list[tuple[int, Reader]]] | None:
        """
        A batch as one payload, the number of its replies, and how many of them
        belong to each command and what reads them. C{None} where something in
        it is not for one round trip.
        """
        packers: Mapping[type[Command], Pack] = self.packers
        for command in commands:
            if not command.reply_only:
                packers = self.packers_among_changes
                break
        payloads = []
        readers = []
        expected = 0
        for command in commands:
            pack = packers.get(command.__class__)
            if pack is None:
                return None
            payload, replies, read = pack(command)
            payloads.append(payload)
            readers.append((replies, read))
            expected += replies
        return b"".join(payloads), expected, readers

    # -- reading items -----------------------------------------------------------------------

    def _pack_get_and_touch(self, command: GetAndTouch) -> Packed:
        expiry = pack_expiry(command.exptime)
        keys = command.keys
        payload = b"".join([self._gat(key, *expiry) for key in keys])
        return payload, len(keys), self._read_items

    def _read_items(
        self, command: Get | GetAndTouch, replies: Sequence[Any]
    ) -> list[KeyResult] | Unfinished:
        """Items with the fields v, r, f, c each."""
        wanted = command.cas
        found: list[KeyResult] = []
        questions: list[Question] = []
        lost = False
        for fields in replies:
            item = read_found(fields)
            if isinstance(item, Item):
                if not wanted:
                    item = Item(item.value, item.flags, 0)
                elif item.cas == NO_CAS:
                    give = partial(self._give_token, found, len(found))
                    questions.append((self.pack_token(command.keys[len(found)], item), give))
            elif item is LOST:
                lost = True
            found.append(item)
        return Unfinished(found, questions) if lost or questions else found

    def _give_token(self, found: list[KeyResult], place: int, reply: Any) -> None:
        """Complete an item that was read and had no token yet."""
        item = found[place]
        assert isinstance(item, Item)
        found[place] = self.read_token(item, reply)

    def pack_kept(self, keys: Sequence[bytes]) -> Packed:
        """
        Read items to keep them. The result is as a L{Get}'s with tokens, but C{NO_CAS}
        stays where there is none, and L{MORE_TO_SAY} stands for an item that is marked (stale,
        or that somebody has won) and for one that cannot be read.
        """
        raise NotImplementedError

    def pack_token(self, key: bytes, item: Item) -> bytes:
        """Ask for the token of an item that was read without one; there is one then."""
        raise NotImplementedError

    def read_token(self, item: Item, reply: Any) -> KeyResult:
        """What comes of that: an item with its token, or why there is none."""
        raise NotImplementedError

    # -- writing -----------------------------------------------------------------------------

    def _pack_store(self, command: Store) -> Packed:
        layout = self.layout
        value = layout.encode(command.value)
        mode = command.mode
        if command.appends:
            return self._pack_concat(command, value), 1, read_stored
        how = mode.value.encode()
        if command.compare is not None and mode is not StoreMode.ADD:
            how = b"stale" if command.invalidate else b"cas"
        payload = self._store_if(
            command.key,
            layout.field,
            value,
            b"%d" % command.flags,
            *pack_expiry(command.exptime),
            how,
            pack_number(command.compare),
            pack_number(command.new_cas),
        )
        return payload, 1, read_stored

    def _pack_concat(self, command: Store, piece: bytes) -> bytes:
        return self._concat(
            command.key,
            self.layout.field,
            piece,
            command.mode.value.encode(),
            b"%d" % self._limits.value_room(command.key),
            b"%d" % FLAGS_OVERHEAD,
            pack_number(command.compare),
            pack_number(command.new_cas),
            *pack_expiry_if(command.vivify),
            b"%d" % command.flags,
        )

    def _pack_arithmetic(self, command: Arithmetic) -> Packed:
        payload = self._arithmetic(
            command.key,
            b"decr" if command.decrement else b"incr",
            *(b"%d" % half for half in divmod(command.delta, _HALF)),
            pack_number(command.compare),
            pack_number(command.initial),
            self.layout.field,
            *pack_expiry(command.exptime),
            pack_number(command.new_cas),
            *pack_expiry_if(command.touch),
            pack_truth(command.ttl),
        )
        return payload, 1, _read_arithmetic

    def _pack_delete(self, command: Delete) -> Packed:
        return self._delete(command.key, pack_number(command.compare)), 1, read_deleted

    def pack_removal(self, key: bytes) -> bytes:
        """Remove an item, whatever it is."""
        return self._delete(key, b"")

    def _pack_touch(self, command: Touch) -> Packed:
        return self._touch(command.key, *pack_expiry(command.exptime)), 1, _read_touch

    # -- metadata ----------------------------------------------------------------------------

    def _pack_meta_get(self, command: MetaGet) -> Packed:
        layout = self.layout
        renewal = None
        if command.recache is not None:
            renewal = seconds_left(command.recache, self._now())
        payload = self._meta(
            command.key,
            pack_truth(command.value),
            *pack_expiry_if(command.touch),
            layout.field,
            *pack_expiry_if(command.vivify),
            pack_number(command.new_cas),
            b"" if renewal is None else b"%.3f" % renewal,
            pack_truth(command.touch_first),
            pack_truth(not (command.no_update or command.plain)),
            pack_truth(command.cas),
        )
        return payload, 1, _read_meta_get

    def _pack_invalidate(self, command: Invalidate) -> Packed:
        payload = self._invalidate(
            command.key,
            pack_truth(command.stale),
            pack_truth(command.drop_value),
            *pack_expiry_if(command.exptime),
            pack_number(command.compare),
            pack_number(command.new_cas),
            b"%d" % command.flags,
        )
        return payload, 1, read_ok

    def pack_probe(self, key: bytes) -> bytes:
        """Try a read and a write of an item that no client can name; nothing stays of them."""
        return self._probe(key, self.layout.field)


# -- readers of replies --------------------------------------------------------------------------


def read_found(fields: Any) -> KeyResult:
    """One item's fields, whatever they are."""
    return read_item(fields) if fields.__class__ is list else failed_by(fields)


def read_stored(command: Command, replies: Sequence[Any]) -> Result:
    """What a script that stores answers: the token, or the token and the size."""
    reply = replies[0]
    if reply.__class__ is int:
        return Stored(reply)
    if reply.__class__ is bytes and reply.isdigit():
        return Stored(int(reply))
    if reply.__class__ is list:
        return Stored(int(reply[0]), reply[1])
    return read_outcome(reply)


def _read_arithmetic(command: Arithmetic, replies: Sequence[Any]) -> Result:
    reply = replies[0]
    if reply.__class__ is list:
        number, cas, ttl, created = reply
        return Number(int(number), int(cas), _ttl(ttl), created == 1)
    return read_outcome(reply)


def read_deleted(command: Command, replies: Sequence[Any]) -> Result:
    """What the script that removes answers."""
    reply = replies[0]
    return Outcome.DELETED if reply.__class__ is int else read_outcome(reply)


def _read_touch(command: Touch, replies: Sequence[Any]) -> Result:
    reply = replies[0]
    if reply.__class__ is list:
        try:
            return Touched(read_flags(reply[0]), read_number(reply[1], 64))
        except ValueError:
            return UNREADABLE
    return read_outcome(reply)


def _read_meta_get(command: MetaGet, replies: Sequence[Any]) -> Result:
    fields = replies[0]
    if fields is None:
        return None
    if fields.__class__ is not list:
        return unless_lost(failed_by(fields))
    found = read_item((fields[0], fields[1], fields[3], fields[4]))
    if not isinstance(found, Item):
        return found
    size = len(found.value) if command.value else fields[2]
    ttl, idle = fields[5:7]
    marks = [bool(field) for field in fields[7:]]
    return MetaItem(found.value, size, found.flags, found.cas, _ttl(ttl), idle, *marks)


def read_inspected(command: Inspect, replies: Sequence[Any]) -> Result:
    """What the script that lists answers, for one key."""
    fields = replies[0]
    if fields is None:
        return None
    if fields.__class__ is list:
        return read_listed(command.key, fields)
    return unless_lost(failed_by(fields))


def read_listed(key: bytes, fields: Sequence[Any]) -> Listed | Failed:
    """An item as it is listed."""
    size, flags, cas, left, idle, fetched, stale = fields
    ttl = None if left < 0 else ceil(left / 1000)
    try:
        numbers = read_number(cas, 64), read_flags(flags)
    except ValueError:
        return UNREADABLE
    return Listed(key, ttl, idle, numbers[0], fetched == 1, size, numbers[1], stale == 1)


def _ttl(seconds: int) -> int | None:
    return None if seconds < 0 else seconds
