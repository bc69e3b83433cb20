"""
Commands as requests to the memcached that is right, and its replies as their results: pure
functions.

Its tokens, flags, times to live and marks of stale items are given as they are. What its
version does not know it refuses, and so is the client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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
from redcouch.limits import ITEM_OVERHEAD
from redcouch.memcached_client import protocol as wire
from redcouch.memcached_client.protocol import Reply
from redcouch.results import (
    ErrorKind,
    Failed,
    Item,
    Listed,
    MetaItem,
    Number,
    Outcome,
    Result,
    Stored,
    Touched,
)

SILENT = Failed(ErrorKind.UNAVAILABLE, "old memcached does not answer")
"""The result where it does not answer in time: it may have been done, or not."""


def request_for(command: Any, key: bytes, named: bytes) -> bytes:
    """What it is asked for a command, about one of its keys; one reply."""
    return _REQUESTS[command.__class__](command, key, named)


def result_of(command: Any, key: bytes, reply: Reply | None) -> Result:
    """What its reply means. For a command of several keys, that of the one."""
    if reply is None:
        return SILENT if command.miss() is NotImplemented else None
    if reply.code in (b"CLIENT_ERROR", b"SERVER_ERROR", b"ERROR"):
        return refusal(reply)
    return _RESULTS[command.__class__](command, key, reply)


def refusal(reply: Reply) -> Result:
    """What it means that it refuses."""
    if b"non-numeric" in reply.line:
        return Outcome.NON_NUMERIC
    words = reply.line.partition(b" ")[2].decode("ascii", "replace")
    text = "".join(char for char in words if char.isprintable())
    if "out of memory" in text.lower() or "too large" in text:
        return Failed(ErrorKind.OUT_OF_MEMORY, text)
    return Failed(ErrorKind.REFUSED, f"old memcached refuses: {text or 'it knows no such command'}")


def _if_given(letter: bytes, number: int | None) -> list[bytes]:
    return [] if number is None else [b"%b%d" % (letter, number)]


def _lasting(exptime: int | None) -> list[bytes]:
    return [] if exptime is None else [wire.lasting(exptime)]


# -- requests ------------------------------------------------------------------------------------

_MODES = {
    StoreMode.SET: b"MS",
    StoreMode.ADD: b"ME",
    StoreMode.REPLACE: b"MR",
    StoreMode.APPEND: b"MA",
    StoreMode.PREPEND: b"MP",
}


def _store(command: Store, key: bytes, named: bytes) -> bytes:
    flags = [
        b"c",
        _MODES[command.mode],
        *_if_given(b"F", command.flags),
        *_lasting(command.new_exptime),
        *_if_given(b"C", command.compare),
        *_if_given(b"E", command.new_cas),
        *_if_given(b"N", command.vivify),
        *([b"I"] if command.invalidate else []),
    ]
    return wire.store_with(named, command.value, flags)


def _arithmetic(command: Arithmetic, key: bytes, named: bytes) -> bytes:
    flags = [b"v", b"c", b"t", b"D%d" % command.delta, b"MD" if command.decrement else b"MI"]
    flags += _lasting(command.touch)  # before N, or it would be a new item's as well
    if command.initial is not None:
        flags += [b"N" + wire.lasting(command.exptime)[1:], b"J%d" % command.initial]
    flags += _if_given(b"C", command.compare)
    return wire.with_flags(b"ma", named, flags + _if_given(b"E", command.new_cas))


def _invalidate(command: Invalidate, key: bytes, named: bytes) -> bytes:
    flags = [b"I"] if command.stale else []
    if command.drop_value:
        flags += [b"x", *_if_given(b"F", command.flags or None)]
    flags += _lasting(command.exptime) + _if_given(b"C", command.compare)
    return wire.with_flags(b"md", named, flags + _if_given(b"E", command.new_cas))


def _meta_get(command: MetaGet, key: bytes, named: bytes) -> bytes:
    flags = [b"s", b"f", b"c"]
    flags += [b"v"] if command.value else []
    flags += [b"t", b"h", b"l"] if command.metadata else []
    flags += [b"u"] if command.no_update else []
    touch, recache = _lasting(command.touch), _if_given(b"R", command.recache)
    flags += touch + recache if command.touch_first else recache + touch
    flags += _if_given(b"N", command.vivify) + _if_given(b"E", command.new_cas)
    return wire.with_flags(b"mg", named, flags)


_REQUESTS: Mapping[type[Command], Callable[[Any, bytes, bytes], bytes]] = {
    Get: lambda command, key, named: wire.get(key, named),
    GetAndTouch: lambda command, key, named: wire.get_and_touch(key, named, command.exptime),
    Store: _store,
    Arithmetic: _arithmetic,
    Delete: lambda command, key, named: wire.with_flags(
        b"md", named, _if_given(b"C", command.compare)
    ),
    Invalidate: _invalidate,
    MetaGet: _meta_get,
    Touch: lambda command, key, named: wire.with_flags(
        b"mg", named, [wire.lasting(command.exptime), b"f", b"c"]
    ),
    Discard: lambda command, key, named: wire.delete(named),
    Inspect: lambda command, key, named: wire.inspect(named),
}

KINDS = frozenset(_REQUESTS)
"""The commands that are passed on."""

# -- results -------------------------------------------------------------------------------------

_STORE_OUTCOMES = {
    b"NS": Outcome.NOT_STORED,
    b"EX": Outcome.EXISTS,
    b"NF": Outcome.NOT_FOUND,
}


def _number(reply: Reply, letter: bytes) -> int:
    return reply.number(letter) or 0


def _ttl(reply: Reply) -> int | None:
    left = reply.number(b"t")
    return None if left is None or left < 0 else left


def _item(command: Command, key: bytes, reply: Reply) -> Result:
    if reply.value is None:
        return None
    return Item(reply.value, _number(reply, b"f"), _number(reply, b"c"))


def _stored(command: Store, key: bytes, reply: Reply) -> Result:
    return _STORE_OUTCOMES.get(reply.code) or Stored(_number(reply, b"c"))


def _counted(command: Arithmetic, key: bytes, reply: Reply) -> Result:
    if reply.value is None:
        return _STORE_OUTCOMES.get(reply.code, Outcome.NOT_STORED)
    value = int(reply.value)
    # Which of the two it was, memcached does not say.
    created = value == command.initial
    return Number(value, _number(reply, b"c"), _ttl(reply), created)


def _meta_item(command: MetaGet, key: bytes, reply: Reply) -> Result:
    if reply.code == b"EN":
        return None
    size, won, stale = _number(reply, b"s"), b"W" in reply.words, b"X" in reply.words
    return MetaItem(
        reply.value or b"",
        size,
        _number(reply, b"f"),
        _number(reply, b"c"),
        ttl=_ttl(reply),
        idle=_number(reply, b"l"),
        fetched=reply.number(b"h") == 1,
        stale=stale,
        sent=b"Z" in reply.words,
        won=won,
        created=won and not stale and not size and command.vivify is not None,
    )


def _touched(command: Touch, key: bytes, reply: Reply) -> Result:
    if reply.code != b"HD":
        return Outcome.NOT_FOUND
    return Touched(_number(reply, b"f"), _number(reply, b"c"))


def _done(outcome: Outcome) -> Callable[[Command, bytes, Reply], Result]:
    """Reads the reply to a command that has this outcome where it is done."""
    outcomes = {b"HD": outcome, b"EX": Outcome.EXISTS}
    return lambda command, key, reply: outcomes.get(reply.code, Outcome.NOT_FOUND)


def _inspected(command: Inspect, key: bytes, reply: Reply) -> Result:
    if reply.code != b"ME":
        return None
    told = dict(word.split(b"=", 1) for word in reply.words if b"=" in word)
    left = int(told.get(b"exp", b"-1"))
    return Listed(
        key,
        None if left == -1 else abs(left),  # 1.6 has had it below 0 for a while
        int(told.get(b"la", b"0")),
        int(told.get(b"cas", b"0")),
        told.get(b"fetch") == b"yes",
        int(told.get(b"size", b"0")) - ITEM_OVERHEAD - len(key),
        0,
    )


_RESULTS: Mapping[type[Command], Callable[[Any, bytes, Reply], Result]] = {
    Get: _item,
    GetAndTouch: _item,
    Store: _stored,
    Arithmetic: _counted,
    Delete: _done(Outcome.DELETED),
    Invalidate: _done(Outcome.OK),
    MetaGet: _meta_item,
    Touch: _touched,
    Discard: _done(Outcome.DELETED),
    Inspect: _inspected,
}
