"""
What a client can ask, in no dialect.

A dialect turns bytes into these; a backend performs them. They are plain
slotted objects, immutable by convention (a frozen dataclass costs four times
as much to make, and one is made for each request).

`exptime` is always memcached's own number, as the client sent it: 0 for never,
negative for at once, up to 30 days relative, an absolute UNIX time beyond.
L{redcouch.expiry} turns it into a deadline where the command is performed.

`compare` is the CAS token that the item must carry for the command to take
effect; C{None} asks for no comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class StoreMode(Enum):
    """How a L{Store} treats an item that exists, or does not."""

    SET = "set"
    ADD = "add"
    REPLACE = "replace"
    APPEND = "append"
    PREPEND = "prepend"


class Command:
    """Anything a client can ask."""

    __slots__ = ()

    #: Answered by the session itself and never shown to a backend.
    local: ClassVar[bool] = False

    #: Not performed together with others, but when all before it are answered.
    alone: ClassVar[bool] = False


@dataclass(slots=True)
class Get(Command):
    """
    Read some items. The result is a list, one entry for each key in order:
    an L{Item<redcouch.results.Item>}, C{None} for a miss, or a
    L{Failed<redcouch.results.Failed>} for a key that could not be read.

    With C{cas} false the backend may leave the items' CAS tokens at 0.
    """

    keys: Sequence[bytes]
    cas: bool = False


@dataclass(slots=True)
class GetAndTouch(Command):
    """Read some items and give each that exists a new expiry. Results as for L{Get}."""

    keys: Sequence[bytes]
    exptime: int
    cas: bool = False


@dataclass(slots=True)
class Store(Command):
    """
    Write one item.

    SET and REPLACE with C{compare} are memcached's C{cas}: NOT_FOUND where
    there is no item, EXISTS where its token differs. APPEND and PREPEND keep
    the item's flags and expiry, and use neither C{flags} nor C{exptime}; with
    C{vivify} (an exptime) they create an item that is not there.

    C{new_cas} is the token that the item is to carry, in place of a fresh one.
    With C{invalidate}, a C{compare} that is lower than the item's token stores
    the value all the same, marked stale, and keeps the expiry.

    The result is a L{Stored<redcouch.results.Stored>} or the
    L{Outcome<redcouch.results.Outcome>} NOT_STORED, EXISTS or NOT_FOUND.
    """

    mode: StoreMode
    key: bytes
    value: bytes
    flags: int = 0
    exptime: int = 0
    compare: int | None = None
    new_cas: int | None = None
    invalidate: bool = False
    vivify: int | None = None


@dataclass(slots=True)
class Arithmetic(Command):
    """
    Add to or take from an unsigned 64-bit decimal number. Addition wraps at
    2**64, subtraction stops at 0.

    Without an item, C{initial} (where it is not C{None}) is stored with
    C{exptime} and is the result; otherwise the outcome is NOT_FOUND.

    C{touch} is a new expiry for an item that is there. C{new_cas} as for
    L{Store}. With C{ttl} the result says how long the item has to live.

    The result is a L{Number<redcouch.results.Number>} or the outcome
    NOT_FOUND, EXISTS (C{compare} differs) or NON_NUMERIC.
    """

    key: bytes
    delta: int
    decrement: bool = False
    initial: int | None = None
    exptime: int = 0
    compare: int | None = None
    touch: int | None = None
    new_cas: int | None = None
    ttl: bool = False


@dataclass(slots=True)
class Delete(Command):
    """Remove an item. The result is the outcome DELETED, NOT_FOUND or EXISTS."""

    key: bytes
    compare: int | None = None


@dataclass(slots=True)
class Invalidate(Command):
    """
    Change an item's standing without giving it a value.

    With C{stale} it is marked stale, the next reader wins the right to renew
    it, and C{exptime}, unless C{None}, becomes its expiry. With C{drop_value}
    its value is emptied and its flags are 0. Either way it carries a new token
    (C{new_cas} as for L{Store}).

    The result is the outcome OK, NOT_FOUND or EXISTS.
    """

    key: bytes
    stale: bool
    drop_value: bool = False
    exptime: int | None = None
    compare: int | None = None
    new_cas: int | None = None


@dataclass(slots=True)
class MetaGet(Command):
    """
    Read one item with what is known about it, and perhaps change its standing.

    C{touch} is a new expiry; C{vivify} the expiry of an empty item to create
    where there is none; C{recache} an exptime: an item that ends before it is
    to be renewed by one client. At most one reader of an item that is stale,
    due, or just created is told that it has won.

    C{value} asks for the value, and not just its size; C{standing} for the
    time to live, the last access and whether it has been read (what is not
    asked for may be left out). C{touch_first}: C{recache} looks at the expiry
    that C{touch} gives. C{no_update}: the read does not count as one.

    The result is a L{MetaItem<redcouch.results.MetaItem>}, or C{None}.
    """

    key: bytes
    value: bool = True
    cas: bool = False
    standing: bool = False
    touch: int | None = None
    vivify: int | None = None
    recache: int | None = None
    touch_first: bool = False
    no_update: bool = False
    new_cas: int | None = None

    @property
    def plain(self) -> bool:
        """Nothing but the item itself is asked for, and nothing changes."""
        return (
            self.value
            and not self.standing
            and self.touch is None
            and self.vivify is None
            and self.recache is None
        )


@dataclass(slots=True)
class Touch(Command):
    """
    Give an item a new expiry. The result is a
    L{Touched<redcouch.results.Touched>} or the outcome NOT_FOUND.
    """

    key: bytes
    exptime: int


@dataclass(slots=True)
class Discard(Command):
    """
    Remove what an item held, since the value that should have replaced it was
    refused. Not a request of a client's; its result is never shown to one.
    """

    key: bytes


@dataclass(slots=True)
class Flush(Command):
    """
    Remove every item, at once or (see L{redcouch.expiry.flush_deadline}) at
    C{exptime}. A later flush takes the place
    of one that still waits. The result is the outcome OK.
    """

    exptime: int = 0


@dataclass(slots=True)
class Inspect(Command):
    """
    Look at an item without reading it. The result is a
    L{Listed<redcouch.results.Listed>}, or C{None}.
    """

    key: bytes


@dataclass(slots=True)
class Dump(Command):
    """
    List some of the items, going on from C{cursor} (C{b""} to begin). The
    result is a L{Page<redcouch.results.Page>}. Items that come or go meanwhile
    may or may not be listed; the others are, at least once.
    """

    cursor: bytes = b""
    alone: ClassVar[bool] = True


@dataclass(slots=True)
class Claim(Command):
    """
    Announce that the item of a key, which is not there, is going to be filled
    in from another cache. What is read there after this may be given to
    L{Fill}, which does nothing where the claim has been revoked meanwhile.

    Not a request of a client's, like the others down to L{Barred}; for
    storages that are an L{IFillableBackend<redcouch.interfaces.IFillableBackend>}.

    The result is the claim, in bytes; C{None} where this key must not be
    filled in now; or the outcome NOT_STORED where none may be, for good.
    """

    key: bytes


@dataclass(slots=True)
class Fill(Command):
    """
    Store an item that was read elsewhere, if there is none and the claim still
    holds. The result is a L{Stored<redcouch.results.Stored>} or the outcome
    NOT_STORED.
    """

    key: bytes
    value: bytes
    flags: int
    exptime: int
    claim: bytes


@dataclass(slots=True)
class Revoke(Command):
    """
    Make claims on these keys void; with C{None}, all claims. The result is the
    outcome OK.
    """

    keys: Sequence[bytes] | None


@dataclass(slots=True)
class Bar(Command):
    """
    Never let these keys be filled in again; with C{None}, none at all. Too
    many keys bar all. The result is the outcome OK, or NOT_STORED where all
    are barred.
    """

    keys: Sequence[bytes] | None


@dataclass(slots=True)
class Pause(Command):
    """
    Let nothing be filled in between these two UNIX times, in seconds. A later
    pause takes the place of an earlier one. The result is the outcome OK.
    """

    begin: float
    end: float


@dataclass(slots=True)
class Barred(Command):
    """Ask how many keys are barred. The result is that number; C{None} for all."""


@dataclass(slots=True)
class Noop(Command):
    """Asks for nothing but its turn: the reply is known already."""

    local: ClassVar[bool] = True


@dataclass(slots=True)
class Version(Command):
    """Ask for the version string. The result is that string, in bytes."""

    local: ClassVar[bool] = True


@dataclass(slots=True)
class Statistics(Command):
    """
    Ask for statistics: C{group} is C{b""} for the general ones, or memcached's
    word for a group (C{b"settings"}). The result is a list of (name, value)
    pairs of bytes, or C{None} where there is no such group.
    """

    group: bytes = b""
    local: ClassVar[bool] = True
    alone: ClassVar[bool] = True


@dataclass(slots=True)
class ResetStatistics(Command):
    """Set the counters back to zero. The result is C{None}."""

    local: ClassVar[bool] = True
    alone: ClassVar[bool] = True


@dataclass(slots=True)
class Authenticate(Command):
    """
    Prove who the client is. The result is whether it has. Bytes as the client
    sent them; nothing about them is certain.
    """

    user: bytes
    password: bytes
    local: ClassVar[bool] = True
    alone: ClassVar[bool] = True


@dataclass(slots=True)
class Quit(Command):
    """End the conversation once everything before is answered."""

    local: ClassVar[bool] = True
    alone: ClassVar[bool] = True


def verb(kind: type[Command]) -> str:
    """How operators are told of a kind of command: C{get}, C{store}, C{metaget}, ..."""
    return kind.__name__.lower()


VERBS = frozenset(map(verb, Command.__subclasses__()))
"""All there are."""
