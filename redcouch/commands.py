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

What other rooms have to know of every command (its keys, whether it reads or
changes, ...) is stated here once, as the properties of L{Command}: a class says
where it differs. A new command is one class here; each room that handles all
commands asks these properties, and names none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from typing import Any, ClassVar


class StoreMode(Enum):
    """How a L{Store} treats an item that exists, or does not."""

    SET = "set"
    ADD = "add"
    REPLACE = "replace"
    APPEND = "append"
    PREPEND = "prepend"


class Effect(Enum):
    """What becomes of the items that a command is about."""

    NONE = "none of them is looked at"
    READ = "they stay as they are"
    CHANGE = "they get another value, or another expiry"
    REMOVE = "they are removed, or are to be renewed"
    FLUSH = "all items are removed"


class Command:
    """
    Anything a client can ask. The properties are true of a command in all
    rooms; those that few ask for may be computed.
    """

    __slots__ = ()

    #: Answered by the session itself and never shown to a backend.
    local: ClassVar[bool] = False

    #: Not performed together with others, but when all before it are answered.
    exclusive: ClassVar[bool] = False

    @property
    def keys(self) -> Sequence[bytes]:
        """The clients' keys that it is about, in order."""
        return ()

    @property
    def size(self) -> int:
        """How many bytes the value has that it carries."""
        return 0

    #: Its result holds the values of its items.
    tells_values: ClassVar[bool] = False

    @property
    def effect(self) -> Effect:
        """What becomes of the items; for a change, see L{new_exptime} as well."""
        return Effect.NONE

    @property
    def new_exptime(self) -> int | None:
        """The expiry that an item which is there gets by it; C{None} where it keeps its own."""
        return None

    @property
    def reply_only(self) -> bool:
        """Nothing comes of it but its reply: without its client, it need not be performed."""
        return False

    @property
    def conditional(self) -> bool:
        """What comes of it depends on the item that is there."""
        return False

    @property
    def creates(self) -> bool:
        """If it succeeds, there is an item after it, whatever was there before."""
        return False

    def miss(self) -> Any:
        """
        Its result where there are no items, if that is a matter of course for
        whoever asks. Gives C{NotImplemented} for a command that does more than
        to read and renew: its failure must not look like a result.
        """
        return NotImplemented


class OneKeyCommand(Command):
    """A command about the item of one key."""

    __slots__ = ()
    key: bytes

    @property
    def keys(self) -> Sequence[bytes]:
        return (self.key,)


class ManyKeysCommand(Command):
    """A command that reads the items of many keys; its result is a list."""

    __slots__ = ()
    tells_values: ClassVar[bool] = True

    def miss(self) -> Any:
        return [None] * len(self.keys)


@dataclass(slots=True)
class Get(ManyKeysCommand):
    """
    Read some items. The result is a list, one entry for each key in order:
    an L{Item<redcouch.results.Item>}, C{None} for a miss, or a
    L{Failed<redcouch.results.Failed>} for a key that could not be read.

    With C{cas} false the backend may leave the items' CAS tokens at 0.
    """

    keys: Sequence[bytes] = field()  # required: the property of the same name is no default
    cas: bool = False

    effect: ClassVar = Effect.READ
    reply_only: ClassVar = True
    conditional: ClassVar = True


@dataclass(slots=True)
class GetAndTouch(ManyKeysCommand):
    """Read some items and give each that exists a new expiry. Results as for L{Get}."""

    keys: Sequence[bytes] = field()
    exptime: int = field()
    cas: bool = False

    effect: ClassVar = Effect.CHANGE
    conditional: ClassVar = True

    @property
    def new_exptime(self) -> int | None:
        return self.exptime


@dataclass(slots=True)
class Store(OneKeyCommand):
    """
    Write one item.

    SET and REPLACE with C{compare} are memcached's C{cas}: NOT_FOUND where
    there is no item, EXISTS where its token differs or is 0. APPEND and PREPEND keep
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

    effect: ClassVar = Effect.CHANGE

    @property
    def size(self) -> int:
        return len(self.value)

    @property
    def appends(self) -> bool:
        """The value is put to the one that is there, which keeps all else."""
        return self.mode is StoreMode.APPEND or self.mode is StoreMode.PREPEND

    @property
    def plain(self) -> bool:
        """A set that asks for nothing but to be stored."""
        return self.mode is StoreMode.SET and self.compare is None and self.new_cas is None

    @property
    def new_exptime(self) -> int | None:
        return None if self.appends else self.exptime

    @property
    def conditional(self) -> bool:
        return self.mode is not StoreMode.SET or self.compare is not None

    @property
    def creates(self) -> bool:
        if self.mode is StoreMode.SET:
            return self.compare is None
        return self.mode is StoreMode.ADD or self.vivify is not None


@dataclass(slots=True)
class Arithmetic(OneKeyCommand):
    """
    Add to or take from an unsigned 64-bit decimal number. Addition wraps at
    2**64, subtraction stops at 0.

    Without an item, C{initial} (where it is not C{None}) is stored with
    C{exptime} and is the result; otherwise the outcome is NOT_FOUND.

    C{touch} is a new expiry for an item that is there. C{new_cas} as for
    L{Store}. With C{ttl} the result says how long the item had to live.

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

    effect: ClassVar = Effect.CHANGE
    conditional: ClassVar = True

    @property
    def new_exptime(self) -> int | None:
        return self.touch

    @property
    def creates(self) -> bool:
        return self.initial is not None


@dataclass(slots=True)
class Delete(OneKeyCommand):
    """
    Remove an item. The result is the outcome DELETED, NOT_FOUND or EXISTS, which counts as a miss
    or not (C{exists_is_miss}).
    """

    key: bytes
    compare: int | None = None
    exists_is_miss: bool = field(default=True, compare=False)

    effect: ClassVar = Effect.REMOVE

    @property
    def conditional(self) -> bool:
        return self.compare is not None


@dataclass(slots=True)
class Invalidate(OneKeyCommand):
    """
    Change an item's standing without giving it a value.

    With C{drop_value} it becomes an empty item with C{flags}, as if just
    stored. With C{stale} it is marked stale, and the next reader wins the right
    to renew it. Either way C{exptime}, unless C{None}, becomes its expiry, and
    it carries a new token (C{new_cas} as for L{Store}).

    The result is the outcome OK, NOT_FOUND or EXISTS.
    """

    key: bytes
    stale: bool
    drop_value: bool = False
    exptime: int | None = None
    compare: int | None = None
    new_cas: int | None = None
    flags: int = 0

    effect: ClassVar = Effect.REMOVE
    conditional: ClassVar = True


@dataclass(slots=True)
class MetaGet(OneKeyCommand):
    """
    Read one item with what is known about it, and perhaps change its standing.

    C{touch} is a new expiry; C{vivify} the expiry of an empty item to create
    where there is none; C{recache} an exptime: an item that ends before it is
    to be renewed by one client. At most one reader of an item that is stale,
    due, or just created is told that it has won.

    C{value} asks for the value, and not just its size; C{metadata} for the
    time to live, the last access and whether it has been read (what is not
    asked for may be left out). C{touch_first}: C{recache} looks at the expiry
    that C{touch} gives. C{no_update}: the read does not count as one.

    The result is a L{MetaItem<redcouch.results.MetaItem>}, or C{None}.
    """

    key: bytes
    value: bool = True
    cas: bool = False
    metadata: bool = False
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
            and not self.metadata
            and self.touch is None
            and self.vivify is None
            and self.recache is None
        )

    conditional: ClassVar = True
    tells_values: ClassVar[bool] = True

    @property
    def effect(self) -> Effect:
        reads = self.touch is None and self.vivify is None
        return Effect.READ if reads else Effect.CHANGE

    @property
    def new_exptime(self) -> int | None:
        return self.touch

    @property
    def reply_only(self) -> bool:
        return self.touch is None and self.vivify is None and self.recache is None

    @property
    def creates(self) -> bool:
        return self.vivify is not None

    def miss(self) -> Any:
        return None if self.vivify is None else NotImplemented


@dataclass(slots=True)
class Touch(OneKeyCommand):
    """
    Give an item a new expiry. The result is a
    L{Touched<redcouch.results.Touched>} or the outcome NOT_FOUND.
    """

    key: bytes
    exptime: int

    effect: ClassVar = Effect.CHANGE
    conditional: ClassVar = True

    @property
    def new_exptime(self) -> int | None:
        return self.exptime


@dataclass(slots=True)
class Discard(OneKeyCommand):
    """
    Remove what an item held, since the value that should have replaced it was
    refused. Not a request of a client's; its result is never shown to one.
    """

    key: bytes

    effect: ClassVar = Effect.REMOVE


@dataclass(slots=True)
class Flush(Command):
    """
    Remove every item, at once or (see L{redcouch.expiry.flush_deadline}) at
    C{exptime}. A later flush takes the place
    of one that still waits. The result is the outcome OK.
    """

    exptime: int = 0

    effect: ClassVar = Effect.FLUSH


@dataclass(slots=True)
class Inspect(OneKeyCommand):
    """
    Look at an item without reading it. The result is a
    L{Listed<redcouch.results.Listed>}, or C{None}.
    """

    key: bytes

    effect: ClassVar = Effect.READ
    reply_only: ClassVar = True
    conditional: ClassVar = True


@dataclass(slots=True)
class Dump(Command):
    """
    List some of the items, going on from C{cursor} (C{b""} to begin). The
    result is a L{ListedPage<redcouch.results.ListedPage>}. Items that come or go meanwhile
    may or may not be listed; the others are, at least once.
    """

    cursor: bytes = b""
    exclusive: ClassVar[bool] = True


@dataclass(slots=True)
class Noop(Command):
    """
    Asks for nothing but its turn: the reply is known already.

    @ivar too_large: a value was too large to be stored, as it is of a L{Discard}.
    """

    too_large: bool = False
    local: ClassVar[bool] = True


@dataclass(slots=True)
class Version(Command):
    """
    Ask for the version string. The result is that string, in bytes.

    @ivar typed: a person asks, who wants to read a name. A program wants a number.
    """

    typed: bool = False
    local: ClassVar[bool] = True


class ServiceCommand(Command):
    """A command about the service itself, or about its client."""

    __slots__ = ()
    local: ClassVar[bool] = True
    exclusive: ClassVar[bool] = True


@dataclass(slots=True)
class Statistics(ServiceCommand):
    """
    Ask for statistics: C{group} is C{b""} for the general ones, or memcached's
    word for a group (C{b"settings"}). The result is a list of (name, value)
    pairs of bytes, or C{None} where there is no such group.
    """

    group: bytes = b""


@dataclass(slots=True)
class Discover(ServiceCommand):
    """Ask for the nodes to connect to. The result is their list, in bytes."""


@dataclass(slots=True)
class ResetStatistics(ServiceCommand):
    """Set the counters back to zero. The result is C{None}."""


@dataclass(slots=True)
class LimitMemory(ServiceCommand):
    """
    Set how much memory the items may take. The result is whether that is so now:
    where the memory is not the service's own, it is not.
    """

    megabytes: int


@dataclass(slots=True)
class Authenticate(ServiceCommand):
    """
    Prove who the client is. The result is whether it has. Bytes as the client
    sent them; nothing about them is certain. With no user it proves nothing, and
    the client is nobody from then on.
    """

    user: bytes | None
    password: bytes = b""


@dataclass(slots=True)
class Quit(ServiceCommand):
    """End the conversation once everything before is answered."""


def verb(kind: type[Command]) -> str:
    """How operators are told of a kind of command: C{get}, C{store}, C{metaget}, ..."""
    return kind.__name__.lower()


def _kinds(base: type[Command]) -> set[type[Command]]:
    return {base}.union(*map(_kinds, base.__subclasses__()))


VERBS = frozenset(verb(kind) for kind in _kinds(Command) if is_dataclass(kind))
"""All there are that a client can ask."""
