"""
Who may fill in what from another cache: the commands, and the rules of one process.

An item that was read elsewhere may have been changed or deleted here by the
time it is stored. So whoever fills in an item takes a lease on its key first,
reads, and stores only if the lease still holds; whoever changes the item
revokes leases on it first. And a key whose change did not reach the other cache
is denied, since what is there is out of date.

The commands are for storages that are an
L{IFillableBackend<redcouch.interfaces.IFillableBackend>}; no client can ask
them. The same rules stand in C{lease.lua} and C{fill.lua} for items in Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from itertools import islice
from typing import Any, ClassVar

from redcouch.commands import Command, Effect, OneKeyCommand
from redcouch.results import Listed, Outcome

MOST_DENIED = 100_000
"""Keys that are denied one by one; more deny all."""

LEASE_SECONDS = 30.0
"""How long a lease lasts that nobody uses."""

REMOVAL = b"/-"
"""In the name of a change that is a removal."""

LATE = b"/~"
"""In the name of a change that the other cache has not answered in time, and may do still."""

REPAIRED = b"repaired"
"""
In the place of a lease: it was denied until now. Nobody holds such a one; a lease that is taken
then begins with it.
"""


@dataclass(slots=True)
class TakeLease(OneKeyCommand):
    """
    Announce that the item of a key, which is not there, is going to be filled
    in from another cache. What is read there after this may be given to
    L{Fill}, which does nothing where the lease has been revoked meanwhile.

    The result is the lease, in bytes; C{None} where this key must not be
    filled in now; or the outcome NOT_STORED where none may be, for good.
    """

    key: bytes


@dataclass(slots=True)
class Fill(OneKeyCommand):
    """
    Store an item that was read elsewhere, if there is none and the lease still
    holds. The result is a L{Stored<redcouch.results.Stored>} or the outcome
    NOT_STORED.
    """

    key: bytes
    value: bytes
    flags: int
    exptime: int
    lease: bytes

    effect: ClassVar = Effect.CHANGE
    conditional: ClassVar = True


@dataclass(slots=True)
class RevokeLeases(Command):
    """
    Make leases on these keys void. The result is the outcome DELETED where one of the keys has
    just been allowed again (L{AllowFill}): whoever did that may have put an item into the other
    cache meanwhile. Else OK, and always where removals are noted (L{FillState}).
    """

    keys: Sequence[bytes] = field()  # required: the property of the same name is no default


@dataclass(slots=True)
class RevokeAllLeases(Command):
    """Make all leases void. The result is the outcome OK."""


@dataclass(slots=True)
class DenyFill(Command):
    """
    Never let these keys be filled in again. Too many keys deny all. The result
    is the outcome OK, or NOT_STORED where all are denied.
    """

    keys: Sequence[bytes] = field()


@dataclass(slots=True)
class DenyAllFills(Command):
    """Never let any key be filled in again. The result is the outcome NOT_STORED."""


@dataclass(slots=True)
class NoteLack(Command):
    """
    The other cache does not get something that the storage has, and that it should have
    (L{FillState}). The result is the outcome OK.
    """


@dataclass(slots=True)
class PauseFills(Command):
    """
    Let nothing be leased between these two UNIX times, in seconds, as all items are flushed then;
    what was leased before may be filled in until that is done. A later
    pause takes the place of an earlier one. The result is the outcome OK.
    """

    begin: float
    end: float


@dataclass(slots=True)
class CountDenied(Command):
    """Ask how many keys are denied. The result is that number; C{None} for all."""


@dataclass(slots=True)
class ListDenied(Command):
    """
    Ask for some of the keys that are denied, so many at most, and of which no change is L{LATE}.
    The result is a list of keys.
    """

    most: int


@dataclass(slots=True)
class AllowFill(OneKeyCommand):
    """
    Deny a key no longer, if its item still carries this CAS token (C{None}: if there is still no
    item). The result is the outcome OK, or NOT_STORED where it has changed.
    """

    key: bytes
    token: int | None


@dataclass(slots=True)
class BeginChanges(Command):
    """
    Note the keys of changes that begin, by the names of these, which begin with the member's
    and a slash. Those of a member that is gone are denied. The result is the outcome OK.
    """

    changes: Mapping[bytes, bytes]


@dataclass(slots=True)
class EndChanges(Command):
    """Both sides have these changes. The result is the outcome OK."""

    names: Sequence[bytes]


@dataclass(slots=True)
class Beat(Command):
    """
    Say that a member (one process that fills) is there, and ask how things stand. The result is
    a L{FillState}.

    @ivar about: what others may know of it.
    @ivar acknowledged: what it acknowledges, in one word.
    @ivar stage: the stage that it knows, to be kept where it has been lost; C{b""} for none.
    @ivar processes: of each other cache that answers it, by name, the process that does. Where it
        is another one than before, what it had is gone.
    @ivar denied: it knows of denied keys. Where these have been lost, all are denied.
    @ivar lacking: it knows that the other cache lacks something, or may, as it is not all there.
        That is so again where it has been lost.
    """

    member: bytes
    about: bytes
    acknowledged: bytes
    stage: bytes
    version: int
    processes: Mapping[bytes, bytes] = field(default_factory=dict)
    denied: bool = False
    lacking: bool = False


@dataclass(slots=True)
class Leave(Command):
    """A member is gone, with nothing left to do. The result is the outcome OK."""

    member: bytes


@dataclass(frozen=True, slots=True)
class FillState:
    """
    How things stand with filling.

    @ivar stage: which side is right; C{b""} where nobody has said.
    @ivar version: how often that has changed.
    @ivar next: the stage that is announced; C{b""} for none.
    @ivar holding: nothing may begin before that is decided.
    @ivar denied: how many keys are; C{None} for all.
    @ivar leads: the member that asks is the one that repairs.
    @ivar lacking: not all that the storage has is in the other cache, which is to have it.
    @ivar left: items that a sweep in this stage has left to bring over; C{None} before one.
    @ivar notes_removals: removals are to be noted before they begin, as changes are
        (L{BeginChanges}), with L{REMOVAL} in their names.
    @ivar senseless: where something made no sense, and counts as lost.
    @ivar noted: others see that the member that asks is there. Not where nothing can be
        written.
    """

    stage: bytes = b""
    version: int = 0
    next: bytes = b""
    holding: bool = False
    denied: int | None = 0
    leads: bool = False
    lacking: bool = False
    left: int | None = None
    notes_removals: bool = False
    senseless: Sequence[bytes] = ()
    noted: bool = True


def keys_of(kind: bytes, changing: Mapping[bytes, bytes]) -> set[bytes]:
    """Of the keys of changes, by their names, those whose change is a L{REMOVAL}, or L{LATE}."""
    return {key for name, key in changing.items() if kind in name}


class FillLeases:
    """The leases on the items of one process."""

    def __init__(self, now: Callable[[], float]) -> None:
        """@param now: gives the UNIX time in seconds."""
        self._now = now
        self._leases: dict[bytes, tuple[bytes, float]] = {}
        self._last = 0
        self._denied: set[bytes] = set()
        self._all_denied = False
        #: See L{BeginChanges}.
        self._changing: dict[bytes, bytes] = {}
        self._pause = (0.0, 0.0)
        #: Who repairs: the first member that was heard of.
        self._leader: bytes | None = None
        self._processes: dict[bytes, bytes] = {}
        self._lacking = False
        self.stage = b""

    def take(self, key: bytes) -> bytes | Outcome | None:
        """See L{TakeLease}."""
        if self._all_denied:
            return Outcome.NOT_STORED
        if not self._open(key):
            return None
        now = self._now()
        lease, until = self._leases.get(key, (b"", 0.0))
        if until <= now or lease == REPAIRED:
            self._forget_old(now)
            self._last += 1
            mark = REPAIRED + b" " if lease == REPAIRED and until > now else b""
            lease = b"%b%d" % (mark, self._last)
            self._leases[key] = lease, now + LEASE_SECONDS
        return lease

    def use(self, key: bytes, lease: bytes) -> bool:
        """Whether the lease still holds, which it then does no more."""
        held, until = self._leases.get(key, (b"", 0.0))
        if held != lease or until <= self._now() or not self._open(key):
            return False
        del self._leases[key]
        return True

    def revoke(self, keys: Sequence[bytes]) -> Outcome:
        """See L{RevokeLeases}."""
        found = [self._leases.pop(key, (b"", 0.0))[0] for key in keys]
        repaired = any(lease.startswith(REPAIRED) for lease in found)
        return Outcome.DELETED if repaired else Outcome.OK

    def revoke_all(self) -> Outcome:
        """See L{RevokeAllLeases}."""
        self._leases.clear()
        return Outcome.OK

    def deny(self, keys: Sequence[bytes]) -> Outcome:
        """See L{DenyFill}."""
        self._denied.update(keys)
        if self._all_denied or len(self._denied) > MOST_DENIED:
            return self.deny_all()
        return Outcome.OK

    def deny_all(self) -> Outcome:
        """See L{DenyAllFills}."""
        self._all_denied = True
        self._denied.clear()
        return Outcome.NOT_STORED

    def note_lack(self) -> Outcome:
        """See L{NoteLack}."""
        self._lacking = True
        return Outcome.OK

    def pause(self, begin: float, end: float) -> Outcome:
        """See L{PauseFills}."""
        self._pause = begin, end
        return Outcome.OK

    def count_denied(self) -> int | None:
        """See L{CountDenied}."""
        return None if self._all_denied else len(self._denied)

    def list_denied(self, most: int) -> list[bytes]:
        """See L{ListDenied}."""
        return [*islice(self._denied - keys_of(LATE, self._changing), most)]

    def begin_changes(self, changes: Mapping[bytes, bytes]) -> Outcome:
        """See L{BeginChanges}."""
        self._changing.update(changes)
        return Outcome.OK

    def end_changes(self, names: Sequence[bytes]) -> Outcome:
        """See L{EndChanges}."""
        for name in names:
            self._changing.pop(name, None)
        return Outcome.OK

    def allow(self, key: bytes) -> Outcome:
        """Deny a key no longer."""
        self._denied.discard(key)
        self._leases[key] = REPAIRED, self._now() + LEASE_SECONDS
        return Outcome.OK

    def beat(self, command: Beat) -> FillState:
        """See L{Beat}. The storage is one process's own, and so is the stage."""
        self._leader = self._leader or command.member
        known = {**self._processes, **command.processes}
        self._lacking |= not self._processes.items() <= known.items()
        self._processes = known
        leads = self._leader == command.member
        return FillState(self.stage, denied=self.count_denied(), leads=leads, lacking=self._lacking)

    def _open(self, key: bytes) -> bool:
        begin, end = self._pause
        paused = begin <= self._now() < end
        return not (self._all_denied or paused or key in self._denied)

    def _forget_old(self, now: float) -> None:
        """Leases are in the order of their ends."""
        while self._leases:
            key, (_, until) = next(iter(self._leases.items()))
            if until > now:
                return
            del self._leases[key]


async def _allow(backend: Any, command: AllowFill) -> Outcome:
    listed = backend.inspect(command.key)
    if isawaitable(listed):
        listed = await listed
    if (listed.cas if isinstance(listed, Listed) else None) != command.token:
        return Outcome.NOT_STORED
    allowed: Outcome = backend.leases.allow(command.key)
    return allowed


FILL_METHODS: Mapping[type[Command], Callable[[Any, Any], Any]] = {
    TakeLease: lambda backend, command: backend.leases.take(command.key),
    Fill: lambda backend, command: backend.fill(command),
    RevokeLeases: lambda backend, command: backend.leases.revoke(command.keys),
    RevokeAllLeases: lambda backend, command: backend.leases.revoke_all(),
    DenyFill: lambda backend, command: backend.leases.deny(command.keys),
    DenyAllFills: lambda backend, command: backend.leases.deny_all(),
    NoteLack: lambda backend, command: backend.leases.note_lack(),
    PauseFills: lambda backend, command: backend.leases.pause(command.begin, command.end),
    CountDenied: lambda backend, command: backend.leases.count_denied(),
    ListDenied: lambda backend, command: backend.leases.list_denied(command.most),
    AllowFill: _allow,
    BeginChanges: lambda backend, command: backend.leases.begin_changes(command.changes),
    EndChanges: lambda backend, command: backend.leases.end_changes(command.names),
    Beat: lambda backend, command: backend.leases.beat(command),
    Leave: lambda backend, command: Outcome.OK,
}
"""
What makes a L{PerCommandBackend<redcouch.backends.per_command.PerCommandBackend>} fillable,
beside its own C{methods}: it has C{leases}, a L{FillLeases}, and a method C{fill}.
"""
