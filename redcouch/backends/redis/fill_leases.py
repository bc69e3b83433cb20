"""
Filling in items from another cache, in Redis: L{redcouch.backends.fill_leases} for all
processes that share the items.

Three kinds of keys, each with the item prefix behind it so that storages that
share a Redis stay apart: C{redcouch:sys:warm_state:<prefix>}, a hash;
C{redcouch:sys:warm_barred:<prefix>}, the set of denied keys; and
C{redcouch:sys:warm_claim:<prefix>K}, the lease on an item while it is filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redcouch.backends.fill_leases import (
    LEASE_SECONDS,
    MOST_DENIED,
    CountDenied,
    DenyAllFills,
    DenyFill,
    Fill,
    PauseFills,
    RevokeAllLeases,
    RevokeLeases,
    TakeLease,
)
from redcouch.backends.redis.layout import CAS_COUNTER, FILL, Layout, StringLayout
from redcouch.backends.redis.resp import pack_command
from redcouch.backends.redis.scripts import Script
from redcouch.commands import Command
from redcouch.results import Outcome, Result, Stored

Expiry = Callable[[int], tuple[bytes, bytes]]
"""From an exptime to an expiry command and its argument."""

Steps = dict[type[Command], tuple[Callable[[Any], tuple[bytes, int]], Callable[[Any, Any], Result]]]
"""How each command is packed, and how its replies are read."""


class FillCodec:
    """
    Packs and reads these commands for one layout.

    @ivar keys: the keys that are there all the time.
    """

    def __init__(
        self,
        layout: Layout,
        scripts: tuple[Script, Script, Script],
        now: Callable[[], float],
        expiry: Expiry,
        outcome: Callable[[Any], Result],
    ) -> None:
        """
        @param scripts: LEASE, FILL and DENY of the layout.
        @param now: gives the UNIX time in seconds.
        @param outcome: reads a reply that says how a command ended.
        """
        self._layout = layout
        self._lease, self._fill, self._deny = (script.sha for script in scripts)
        self._now = now
        self._expiry = expiry
        self._outcome = outcome
        self._state = FILL + b"_state:" + layout.prefix
        self._denied = FILL + b"_barred:" + layout.prefix
        self.keys = (self._state, self._denied)

    @property
    def steps(self) -> Steps:
        """How each of these commands is packed and read."""
        return {
            TakeLease: (self._pack_lease, self._read_lease),
            Fill: (self._pack_fill, self._read_fill),
            RevokeLeases: (self._pack_revoke, self._read_ok),
            RevokeAllLeases: (self._pack_revoke_all, self._read_ok),
            DenyFill: (self._pack_deny, self._read_ok),
            DenyAllFills: (self._pack_deny_all, self._read_denied),
            PauseFills: (self._pack_pause, self._read_ok),
            CountDenied: (self._pack_count, self._read_count),
        }

    def _lease_key(self, key: bytes) -> bytes:
        return FILL + b"_claim:" + self._layout.prefix + key

    def _pack_script(self, sha: bytes, key: bytes, *arguments: bytes) -> tuple[bytes, int]:
        item = self._layout.prefix + key
        keys = [item, CAS_COUNTER]
        if isinstance(self._layout, StringLayout):
            keys.append(self._layout.side_key(item))
        keys += [self._lease_key(key), *self.keys]
        now = b"%.3f" % self._now()
        return _pack(b"EVALSHA", sha, b"%d" % len(keys), *keys, key, now, *arguments)

    def _pack_lease(self, command: TakeLease) -> tuple[bytes, int]:
        return self._pack_script(self._lease, command.key, b"%d" % (LEASE_SECONDS * 1000))

    def _read_lease(self, command: TakeLease, replies: Sequence[Any]) -> Result:
        reply = replies[0]
        if isinstance(reply, bytes) and b":" in reply:
            return reply
        outcome = self._outcome(reply)
        return None if outcome is Outcome.NOT_FOUND else outcome

    def _pack_fill(self, command: Fill) -> tuple[bytes, int]:
        layout = self._layout
        return self._pack_script(
            self._fill,
            command.key,
            command.lease,
            layout.field,
            layout.other_field,
            layout.encode(command.value),
            b"%d" % command.flags,
            *self._expiry(command.exptime),
        )

    def _read_fill(self, command: Fill, replies: Sequence[Any]) -> Result:
        reply = replies[0]
        if isinstance(reply, bytes) and reply.isdigit():
            return Stored(int(reply))
        return self._outcome(reply)

    def _pack_revoke(self, command: RevokeLeases) -> tuple[bytes, int]:
        return _pack(b"UNLINK", *map(self._lease_key, command.keys))

    def _pack_revoke_all(self, command: RevokeAllLeases) -> tuple[bytes, int]:
        return _pack(b"HINCRBY", self._state, b"epoch", b"1")

    def _pack_deny(self, command: DenyFill) -> tuple[bytes, int]:
        most = b"%d" % MOST_DENIED
        return _pack(b"EVALSHA", self._deny, b"2", *self.keys, most, *command.keys)

    def _pack_deny_all(self, command: DenyAllFills) -> tuple[bytes, int]:
        return _pack(b"HSET", self._state, b"all", b"1")

    def _pack_pause(self, command: PauseFills) -> tuple[bytes, int]:
        begin, end = b"%.3f" % command.begin, b"%.3f" % command.end
        return _pack(b"HSET", self._state, b"from", begin, b"until", end)

    def _read_ok(self, command: Command, replies: Sequence[Any]) -> Result:
        reply = replies[0]
        return Outcome.OK if isinstance(reply, int) else self._outcome(reply)

    def _read_denied(self, command: Command, replies: Sequence[Any]) -> Result:
        result = self._read_ok(command, replies)
        return Outcome.NOT_STORED if result is Outcome.OK else result

    def _pack_count(self, command: CountDenied) -> tuple[bytes, int]:
        return _pack(b"HMGET", self._state, b"all", b"keys")

    def _read_count(self, command: CountDenied, replies: Sequence[Any]) -> Result:
        match replies[0]:
            case [None, None]:
                return 0
            case [None, bytes() as keys] if keys.isdigit():
                return int(keys)
            case [bytes(), _]:
                return None
        return self._outcome(replies[0])


def _pack(*command: bytes) -> tuple[bytes, int]:
    return pack_command(command), 1
