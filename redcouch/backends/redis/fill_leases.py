"""
Filling in items from another cache, in Redis: L{redcouch.backends.fill_leases} for all
processes that share the items.

Five kinds of keys, each with the item prefix behind it so that storages that
share a Redis stay apart: C{redcouch:sys:warm_state:<prefix>}, a hash, with the stage;
C{redcouch:sys:warm_barred:<prefix>}, the set of denied keys;
C{redcouch:sys:warm_members:<prefix>} and C{redcouch:sys:warm_changing:<prefix>}, hashes of the
processes that fill and of what they are changing; and
C{redcouch:sys:warm_claim:<prefix>K}, the lease on an item while it is filled in. A cluster has
C{{warm}} in the place of C{warm}, and its own way: L{redcouch.backends.redis.cluster.fills}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redcouch.backends.fill_leases import (
    LATE,
    LEASE_SECONDS,
    MOST_DENIED,
    AllowFill,
    Beat,
    BeginChanges,
    CountDenied,
    DenyAllFills,
    DenyFill,
    EndChanges,
    Fill,
    FillState,
    Leave,
    ListDenied,
    NoteLack,
    PauseFills,
    RevokeAllLeases,
    RevokeLeases,
    TakeLease,
    keys_of,
)
from redcouch.backends.redis import scripts
from redcouch.backends.redis.layout import LEASE, SYSTEM_PREFIX, Layout
from redcouch.backends.redis.replies import Pack, Packed, Reader, flat, read_hash, read_outcome
from redcouch.backends.redis.resp import pack_command
from redcouch.backends.redis.script_arguments import pack_expiry
from redcouch.backends.redis.scripts import Script, write
from redcouch.commands import Command, OneKeyCommand
from redcouch.results import Outcome, Result, Stored


def _root(layout: Layout) -> bytes:
    """Begins these keys. Those of a cluster are in one slot, so that one master is enough."""
    return SYSTEM_PREFIX + (b"{warm}" if layout.cluster else b"warm")


class FillKeys(NamedTuple):
    """
    The keys that are there all the time.

    @ivar state: how things stand.
    @ivar denied: the keys that are denied.
    @ivar members: the processes that fill.
    @ivar changing: the changes that they are at.
    """

    state: bytes
    denied: bytes
    members: bytes
    changing: bytes

    @classmethod
    def of(cls, layout: Layout) -> FillKeys:
        """Those of a storage's items."""
        names = (b"_state:", b"_barred:", b"_members:", b"_changing:")
        return cls(*(_root(layout) + name + layout.prefix for name in names))

    def of_script(self, layout: Layout, key: bytes) -> tuple[bytes, ...]:
        """What scripts that fill in an item are given as their keys."""
        item = layout.script_keys(layout.prefix + key)
        return (*item, lease_key(layout, key), self.state, self.denied)


def lease_key(layout: Layout, key: bytes) -> bytes:
    """The lease on an item; of a cluster's, it is elsewhere."""
    return _root(layout) + b"_claim:" + layout.prefix + key


def is_paused(begin: bytes | None, end: bytes | None, now: float) -> bool:
    """Whether nothing may be brought over now; for good, where one of these makes no sense."""
    try:
        return not (begin is end is None or now < float(begin or "x") or now >= float(end or "x"))
    except ValueError:
        return True


def noting(command: Command, keys: FillKeys) -> tuple[bytes, ...]:
    """How Redis is asked to note what a command says that is about no item, on a cluster too."""
    match command:
        case NoteLack():
            return write(keys.state, b"HINCRBY", b"returning", b"1")
        case PauseFills(begin, end):
            moments = b"from", b"%.3f" % begin, b"until", b"%.3f" % end
            return write(keys.state, b"HSET", *moments)
        case BeginChanges(changes):
            return write(keys.changing, b"HSET", *flat(changes))
        case EndChanges(names):
            return (b"HDEL", keys.changing, *names)
        case Leave(member):
            return (b"HDEL", keys.members, member)
    raise TypeError(f"no such command: {command!r}")


_NOTES = (NoteLack, PauseFills, BeginChanges, EndChanges, Leave)


class FillCodec:
    """
    Packs and reads these commands for one layout.

    @ivar packers: how each command is packed.
    @ivar keys: see L{FillKeys}.
    """

    def __init__(
        self, layout: Layout, script: Callable[[str], Script], now: Callable[[], float]
    ) -> None:
        """
        @param script: gives the layout's script of a name.
        @param now: gives the UNIX time in seconds.
        """
        self._layout = layout
        self._lease, self._fill, self._deny, self._allow, self._beat = (
            script(name).sha for name in ("lease", "fill", "deny", "allow", "beat")
        )
        self._now = now
        self.keys = FillKeys.of(layout)
        self._state, self._denied, self._members, self._changing = self.keys
        self.packers: dict[type[Command], Pack] = {
            TakeLease: self._pack_lease,
            Fill: self._pack_fill,
            RevokeLeases: self._pack_revoke,
            RevokeAllLeases: _always(read_ok, *write(self._state, b"HINCRBY", b"epoch", b"1")),
            DenyFill: self._pack_deny,
            DenyAllFills: _always(_read_all_denied, *write(self._state, b"HSET", b"all", b"1")),
            CountDenied: _always(_read_count, b"HMGET", self._state, b"all", b"keys"),
            ListDenied: self._pack_list,
            AllowFill: self._pack_allow,
            Beat: self._pack_beat,
            **dict.fromkeys(_NOTES, self._pack_note),
        }

    def _call(self, sha: bytes, key: bytes, *arguments: bytes) -> bytes:
        keys = self.keys.of_script(self._layout, key)
        now = b"%.3f" % self._now()
        return pack_command((b"EVALSHA", sha, b"%d" % len(keys), *keys, key, now, *arguments))

    def _pack_lease(self, command: TakeLease) -> Packed:
        milliseconds = b"%d" % (LEASE_SECONDS * 1000)
        return self._call(self._lease, command.key, milliseconds), 1, _read_lease

    def _pack_fill(self, command: Fill) -> Packed:
        payload = self._call(self._fill, command.key, *fill_arguments(self._layout, command))
        return payload, 1, _read_fill

    def _pack_revoke(self, command: RevokeLeases) -> Packed:
        leases = [lease_key(self._layout, key) for key in command.keys]
        count = b"%d" % len(leases)
        return pack_command((b"EVALSHA", scripts.REVOKE.sha, count, *leases)), 1, _read_revoked

    def _pack_deny(self, command: DenyFill) -> Packed:
        most = b"%d" % MOST_DENIED
        packed = pack_command((b"EVALSHA", self._deny, b"2", *self.keys[:2], most, *command.keys))
        return packed, 1, read_ok

    def _pack_list(self, command: ListDenied) -> Packed:
        some = pack_command((b"SRANDMEMBER", self._denied, b"%d" % command.most))
        return some + pack_command((b"HGETALL", self._changing)), 2, _read_list

    def _pack_allow(self, command: AllowFill) -> Packed:
        token = b"" if command.token is None else b"%d" % command.token
        milliseconds = b"%d" % (LEASE_SECONDS * 1000)
        return self._call(self._allow, command.key, token, milliseconds), 1, read_ok

    def _pack_note(self, command: Command) -> Packed:
        return pack_command(noting(command, self.keys)), 1, read_ok

    def _pack_beat(self, command: Beat) -> Packed:
        most, version = b"%d" % MOST_DENIED, b"%d" % command.version
        known = command.stage, version, to_put_back(command)
        said = (command.member, command.acknowledged, command.about, *known)
        processes = flat(command.processes)
        packed = pack_command((b"EVALSHA", self._beat, b"4", *self.keys, most, *said, *processes))
        return packed, 1, _read_state


def to_put_back(command: Beat) -> bytes:
    """The field of the state that is to be set where all of that has been lost; empty for none."""
    if command.denied:
        return b"all"
    return b"returning" if command.lacking else b""


def _always(read: Reader, *words: bytes) -> Pack:
    """Packs each such command as these words."""
    packed = pack_command(words), 1, read
    return lambda command: packed


def fill_arguments(layout: Layout, command: Fill) -> tuple[bytes, ...]:
    """What a script is given that fills in an item."""
    return (
        command.lease,
        layout.field,
        layout.encode(command.value),
        b"%d" % command.flags,
        *pack_expiry(command.exptime),
    )


@dataclass(slots=True)
class PlaceLease(OneKeyCommand):
    """On a cluster: put a lease, or find one, in an item's place. The result is the lease."""

    key: bytes
    lease: bytes


@dataclass(slots=True)
class DropLease(OneKeyCommand):
    """On a cluster: take it away. The result is the outcome OK."""

    key: bytes


class ItemFillCodec:
    """
    Packs and reads, for a cluster, what is done about an item that is filled in by its key alone.

    @ivar packers: see L{FillCodec}.
    @ivar keys: see L{FillCodec}.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.keys = FillKeys.of(layout)
        self.packers: dict[type[Command], Pack] = {
            PlaceLease: self._pack_place,
            Fill: self._pack_fill,
            DropLease: self._pack_drop,
        }

    def _call(self, script: Script, key: bytes, *arguments: bytes) -> bytes:
        return pack_command((b"EVALSHA", script.sha, b"1", self._layout.prefix + key, *arguments))

    def _pack_place(self, command: PlaceLease) -> Packed:
        lasts = b"%d" % (LEASE_SECONDS * 1000)
        return self._call(scripts.ITEM_LEASE, command.key, command.lease, lasts), 1, _read_placed

    def _pack_fill(self, command: Fill) -> Packed:
        arguments = fill_arguments(self._layout, command)
        return self._call(scripts.ITEM_FILL, command.key, *arguments), 1, _read_fill

    def _pack_drop(self, command: DropLease) -> Packed:
        return pack_command((b"HDEL", self._layout.prefix + command.key, LEASE)), 1, read_ok


def _read_placed(command: PlaceLease, replies: Sequence[Any]) -> Result:
    reply = replies[0]
    return reply if isinstance(reply, bytes) else read_outcome(reply)


def _read_lease(command: TakeLease, replies: Sequence[Any]) -> Result:
    reply = replies[0]
    if isinstance(reply, bytes) and b":" in reply:
        return reply
    outcome = read_outcome(reply)
    return None if outcome is Outcome.NOT_FOUND else outcome


def _read_fill(command: Fill, replies: Sequence[Any]) -> Result:
    reply = replies[0]
    if isinstance(reply, bytes) and reply.isdigit():
        return Stored(int(reply))
    return read_outcome(reply)


def read_ok(command: Command, replies: Sequence[Any]) -> Result:
    """What a script answers that gives a number where it is done."""
    return Outcome.OK if isinstance(replies[0], int) else read_outcome(replies[0])


def _read_revoked(command: RevokeLeases, replies: Sequence[Any]) -> Result:
    result = read_ok(command, replies)
    return Outcome.DELETED if result is Outcome.OK and replies[0] else result


def _read_all_denied(command: DenyAllFills, replies: Sequence[Any]) -> Result:
    result = read_ok(command, replies)
    return Outcome.NOT_STORED if result is Outcome.OK else result


def _read_count(command: CountDenied, replies: Sequence[Any]) -> Result:
    match replies[0]:
        case [None, None]:
            return 0
        case [None, bytes() as keys] if keys.isdigit():
            return int(keys)
        case [_, _]:
            return None
    return read_outcome(replies[0])


def _read_list(command: ListDenied, replies: Sequence[Any]) -> Result:
    denied, changing = replies
    if isinstance(denied, list) and isinstance(changing, list | dict):
        return [*{*denied}.difference(keys_of(LATE, read_hash(changing)))]
    return read_outcome(changing if isinstance(denied, list) else denied)


def _read_state(command: Beat, replies: Sequence[Any]) -> Result:
    match replies[0]:
        case [bytes() as stage, int() as version, bytes() as following, *numbers]:
            holding, denied, leads, lacking, left, senseless, noted = numbers
            return FillState(
                stage,
                version,
                following,
                holding == 1,
                None if denied < 0 else denied,
                leads == 1,
                lacking == 1,
                None if left < 0 else left,
                senseless=senseless,
                noted=noted == 1,
            )
    return read_outcome(replies[0])
