"""
What can come back for a command, in no dialect.

Like L{redcouch.commands}: slotted objects, immutable by convention.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeAlias


class Outcome(Enum):
    """How a command ended, where there is nothing more to say."""

    OK = "ok"
    NOT_STORED = "not stored"
    EXISTS = "exists"
    NOT_FOUND = "not found"
    DELETED = "deleted"
    NON_NUMERIC = "non-numeric"


class ErrorKind(Enum):
    """Why a backend could not do what it was asked."""

    UNAVAILABLE = "storage not available"
    OUT_OF_MEMORY = "out of memory"
    WRONG_TYPE = "wrong type"
    UNREADABLE = "unreadable"
    REFUSED = "refused"
    INTERNAL = "internal error"


class Item(NamedTuple):
    """
    A stored item: its value, its 32 bits of client flags, its CAS token.

    Wherever an item is given, a plain tuple of these three may be given: take
    it apart (C{value, flags, cas = item}) and do not rely on the names. There
    is one for each key of each C{get}, and nothing is made faster.
    """

    value: bytes
    flags: int
    cas: int


@dataclass(slots=True)
class Stored:
    """
    An item was stored and now carries this CAS token. C{size}: bytes of the
    value, where it is not the one that was sent (append, prepend).
    """

    cas: int
    size: int | None = None


@dataclass(slots=True)
class Number:
    """
    What an arithmetic command left behind. C{ttl}, if it was asked for:
    seconds to live before the command; C{None} for ever. C{created}: there was
    no item before.
    """

    value: int
    cas: int
    ttl: int | None = None
    created: bool = False


@dataclass(slots=True)
class Touched:
    """An item has a new expiry; these are its flags and its CAS token."""

    flags: int
    cas: int


@dataclass(slots=True)
class MetaItem:
    """
    An item and its standing.

    @ivar size: bytes of the value; C{value} is empty where it was not asked for.
    @ivar ttl: seconds to live before the command, rounded up; C{None} for ever.
    @ivar idle: seconds since it was last accessed.
    @ivar fetched: it had been read before.
    @ivar stale: it has been marked stale.
    @ivar sent: a reader before this one has won.
    @ivar won: this reader has won, and is to renew the item.
    @ivar created: there was no item before.
    """

    value: bytes
    size: int
    flags: int
    cas: int
    ttl: int | None = None
    idle: int = 0
    fetched: bool = False
    stale: bool = False
    sent: bool = False
    won: bool = False
    created: bool = False


@dataclass(slots=True)
class Listed:
    """
    An item as it is listed: everything but its value, of which it gives the
    size. C{ttl} is seconds to live, rounded up; C{None} for ever. C{stale}: it has been
    marked stale.
    """

    key: bytes
    ttl: int | None
    idle: int
    cas: int
    fetched: bool
    size: int
    flags: int
    stale: bool = False


@dataclass(slots=True)
class ListedPage:
    """
    Part of a dump, as of C{now} (UNIX time in seconds). C{cursor} asks for the
    next part; C{b""} at the end.
    """

    items: list[Listed]
    cursor: bytes
    now: float


@dataclass(slots=True)
class Failed:
    """
    The backend's failure to perform one command. Nothing is known to have
    changed. C{message} is one line that may be shown to a client: it holds no
    value, no password and no line break. C{undone}: it is known that nothing has.
    """

    kind: ErrorKind
    message: str
    undone: bool = field(default=False, compare=False)


def says_away(result: Any) -> bool:
    """Whether a command's result, or a key's, is that the storage could not be asked."""
    return result.__class__ is Failed and result.kind is ErrorKind.UNAVAILABLE


def is_no_item(result: Any) -> bool:
    """The same: that what is in the item's place can be read by no client."""
    unreadable = (ErrorKind.WRONG_TYPE, ErrorKind.UNREADABLE)
    return result.__class__ is Failed and result.kind in unreadable


#: An entry of a L{Get<redcouch.commands.Get>}'s result: an L{Item}, a failure, or a miss.
KeyResult: TypeAlias = tuple[bytes, int, int] | Failed | None

#: What L{IStorageBackend.execute<redcouch.interfaces.IStorageBackend.execute>}
#: answers for one command: C{list[KeyResult]}, L{Stored}, L{Number}, L{Outcome} or
#: L{Failed}. Each command's docstring says which.
Result: TypeAlias = Any
