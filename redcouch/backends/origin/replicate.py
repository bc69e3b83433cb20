"""
What commands mean for the old side: pure functions.

The old side may lack what is here, but must not have anything else. So a change
is repeated there, and where the answer shows that it has not come out the same,
the item is removed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
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
from redcouch.expiry import seconds_left
from redcouch.memcached_client import protocol as wire
from redcouch.memcached_client.protocol import Reply
from redcouch.results import Failed, MetaItem, Number, Outcome, Result, Stored, Touched


class Kind(Enum):
    """How a command is performed on two sides."""

    READ = auto()
    CHANGE = auto()
    REMOVAL = auto()
    FLUSH = auto()
    OTHER = auto()


def kind_of(command: Command, now: float) -> Kind:
    """What sort of command this is, at this UNIX time."""
    match command:
        case Get() | Inspect() | MetaGet(touch=None, vivify=None):
            return Kind.READ
        case Delete() | Discard() | Invalidate():
            return Kind.REMOVAL
        case Flush():
            return Kind.FLUSH
        case Store(mode=StoreMode.APPEND | StoreMode.PREPEND):
            return Kind.CHANGE
        case Store() | Touch() | GetAndTouch():
            return Kind.REMOVAL if _is_over(command.exptime, now) else Kind.CHANGE
        case Arithmetic() | MetaGet():
            return Kind.REMOVAL if _is_over(command.touch, now) else Kind.CHANGE
    return Kind.OTHER


def _is_over(exptime: int | None, now: float) -> bool:
    return exptime is not None and seconds_left(exptime, now) == 0.0


def keys_of(command: Any) -> Sequence[bytes]:
    """The keys that a command is about, which is of one of the first three kinds."""
    if isinstance(command, Get | GetAndTouch):
        return command.keys
    return (command.key,)


def asks_for_item(command: Command) -> bool:
    """Whether what becomes of a command depends on the item that is there."""
    match command:
        case Store():
            return command.mode is not StoreMode.SET or command.compare is not None
        case Delete():
            return command.compare is not None
        case Discard():
            return False
    return True


def leaves_item(command: Command) -> bool:
    """Whether there is an item after this change in any case, whatever was there before."""
    match command:
        case Store(mode=StoreMode.SET):
            return command.compare is None
        case Store():
            return command.mode is StoreMode.ADD or command.vivify is not None
        case MetaGet():
            return command.vivify is not None
        case Arithmetic():
            return command.initial is not None
    return False


def missed(command: Command, result: Result) -> Iterator[bytes]:
    """The keys for which a command that leaves no item in any case has found none."""
    if isinstance(command, Get | GetAndTouch):
        if isinstance(result, list):
            pairs = zip(command.keys, result, strict=True)
            yield from (key for key, found in pairs if found is None)
    elif result in (None, Outcome.NOT_FOUND, Outcome.NOT_STORED):
        yield from keys_of(command)


@dataclass(frozen=True, slots=True)
class Echo:
    """
    A change, as the old side is told of it.

    @ivar agrees: whether the answer shows that both sides are now alike, or
        that there is no item on the old one.
    @ivar token: the CAS token that the item has here if nobody has changed it
        since; C{None} where the change gives it no new one.
    @ivar sure: where the answer agrees, nobody has changed it between.
    """

    key: bytes
    request: bytes
    agrees: Callable[[Reply], bool]
    token: int | None = None
    sure: bool = False


def echoes(commands: Iterable[Command], results: Iterable[Result]) -> list[Echo]:
    """What changes mean for the old side, in their order."""
    return [
        echo
        for command, result in zip(commands, results, strict=True)
        for place, key in enumerate(keys_of(command))
        if (named := wire.name(key)) is not None
        for echo in _echo(command, _part(result, place), key, named)
    ]


def _part(result: Result, place: int) -> Result:
    """Of the result for several keys, that of one."""
    return result[place] if isinstance(result, list) else result


def _echo(command: Command, result: Result, key: bytes, named: bytes) -> Iterator[Echo]:
    match command, result:
        case _, Failed():  # nobody knows what has become of it
            yield Echo(key, wire.delete(named), _is_gone)
        case Store(), Stored():
            yield _echo_of_store(command, result, named)
        case Arithmetic(), Number():
            yield from _echo_of_arithmetic(command, result, named)
        case (Touch(exptime=exptime), Touched()) | (GetAndTouch(exptime=exptime), tuple()):
            yield Echo(key, wire.touch(named, exptime), _is_touched)
        case MetaGet(touch=int() as exptime), MetaItem():
            yield Echo(key, wire.touch(named, exptime), _is_touched)


def _echo_of_store(command: Store, stored: Stored, named: bytes) -> Echo:
    key, mode = command.key, command.mode
    if command.invalidate:  # it may be marked stale
        return Echo(key, wire.delete(named), _is_gone)
    if mode is StoreMode.APPEND or mode is StoreMode.PREPEND:
        request = wire.concatenate(named, command.value, mode is StoreMode.PREPEND)
        return Echo(key, request, _is_longer, stored.cas)
    request = wire.store(named, command.value, command.flags, command.exptime)
    return Echo(key, request, _is_stored, stored.cas)


def _echo_of_arithmetic(command: Arithmetic, number: Number, named: bytes) -> Iterator[Echo]:
    text = b"%d" % number.value
    if number.created:
        request = wire.store(named, text, 0, command.exptime)
        yield Echo(command.key, request, _is_stored, number.cas)
        return
    request = wire.count(named, command.delta, command.decrement)
    yield Echo(
        command.key,
        request,
        lambda reply: reply.code == b"NF" or reply.value == text,
        number.cas,
        sure=True,
    )
    if command.touch is not None:  # by itself: ma, where it makes a new item, forgets it
        yield Echo(command.key, wire.touch(named, command.touch), _is_touched)


def _is_gone(reply: Reply) -> bool:
    return reply.code in (b"HD", b"NF")


def _is_touched(reply: Reply) -> bool:
    return reply.code in (b"HD", b"EN")


def _is_stored(reply: Reply) -> bool:
    return reply.code == b"HD"


def _is_longer(reply: Reply) -> bool:
    return reply.code in (b"HD", b"NS")
