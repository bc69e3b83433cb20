"""
The layout in Redis: which key an item has, and what its fields mean.

Other tools and native clients read it, so it is fixed. An item of key C{K} is
the hash C{<prefix>K} with

 - C{v}: the value, as lower-case hex (encoding C{hex}), or
 - C{r}: the value, as it is (encoding C{raw}),
 - C{f}: the client flags, 32 bits unsigned, decimal; missing means 0,
 - C{c}: the CAS token, decimal; missing until a client asks for it,
 - C{s}, C{w}: bookkeeping of stale items, usually missing,
 - C{l}, alone, on a cluster: there is no item, and one is being filled in,

and the hash's own time to live. Reading takes C{v} or C{r}, C{v} where a native
client has left both; hex may be upper case and hold white space.
"""

from __future__ import annotations

import re
from binascii import hexlify, unhexlify
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import ClassVar

from redcouch.errors import ConfigurationError
from redcouch.results import ErrorKind, Failed, Item

SYSTEM_PREFIX = b"redcouch:sys:"
"""Before every key that is not an item."""

CAS_COUNTER = SYSTEM_PREFIX + b"cas_counter"
"""Where the last CAS token given is kept."""

FLUSH_AT = SYSTEM_PREFIX + b"flush_at:"
"""Before the item prefix: when a delayed flush of these items is due, in UNIX time."""

ADVERTISED = SYSTEM_PREFIX + b"advertised:"
"""Before the item prefix: the lists of nodes that discovery clients have been told."""

SIDE = SYSTEM_PREFIX + b"item:"
"""Before the key of an item that is a plain string: its flags and token."""

LEASE = b"l"
"""On a cluster, the field of an item's hash with the lease on what is going to be there."""

_DIGEST = 20
"""Hex digits of a value's SHA-1 that stand in its side key."""

UNREADABLE = Failed(ErrorKind.UNREADABLE, "item in Redis is not readable")
"""In the place of an item whose fields cannot be understood."""

NO_CAS = -1
"""The C{cas} of an item that was read with its token but has none yet."""


@dataclass(frozen=True, slots=True)
class Layout:
    """
    @ivar prefix: stands before every item's key; not empty, and apart from
        L{SYSTEM_PREFIX}.
    @ivar raw: values are written as they are, and not in hex.
    @ivar cluster: Redis is a cluster.
    """

    prefix: bytes = b"rc:"
    raw: bool = False
    cluster: bool = False

    def __post_init__(self) -> None:
        if not self.prefix:
            raise ConfigurationError("prefix: must not be empty, or flush_all would empty Redis")
        if SYSTEM_PREFIX.startswith(self.prefix) or self.prefix.startswith(SYSTEM_PREFIX):
            raise ConfigurationError(
                f"prefix: must not run into {SYSTEM_PREFIX.decode()}, which holds the CAS counter"
            )

    @property
    def shared_keys(self) -> tuple[bytes, ...]:
        """
        The keys beside the item's that its scripts are given. None on a cluster: while
        a slot moves, no script can have two keys.
        """
        return () if self.cluster else (CAS_COUNTER,)

    @property
    def field(self) -> bytes:
        """The field that a write fills."""
        return b"r" if self.raw else b"v"

    def encode(self, value: bytes) -> bytes:
        """A value as L{field} holds it."""
        return value if self.raw else hexlify(value)

    @property
    def pattern(self) -> bytes:
        """The glob that SCAN takes for all items, and nothing else."""
        return re.sub(rb"[\\*?\[\]]", rb"\\\g<0>", self.prefix) + b"*"

    #: What SCAN is told besides.
    scan_options: ClassVar[tuple[bytes, ...]] = ()

    @property
    def may_flush(self) -> bool:
        """Whether a flush knows which keys are meant."""
        return True

    def is_item(self, redis_key: bytes) -> bool:
        """Whether a key that SCAN has found is an item's."""
        return True

    def keys_of_item(self, redis_key: bytes) -> tuple[bytes, ...]:
        """All keys that are to go with the item at this one."""
        return (redis_key,)

    def script_keys(self, redis_key: bytes) -> tuple[bytes, ...]:
        """What scripts on the item at this one are given as their keys."""
        own, *beside = self.keys_of_item(redis_key)
        return (own, *self.shared_keys, *beside)

    @property
    def prefixes(self) -> tuple[bytes, ...]:
        """What stands before a client's key in each of an item's keys; its value's is first."""
        return (self.prefix,)

    def key_of(self, redis_key: bytes) -> bytes:
        """The client's key of the item that a key of Redis is a part of."""
        return redis_key.removeprefix(self.prefix)


@dataclass(frozen=True, slots=True)
class StringLayout(Layout):
    """
    Items as plain strings under the clients' own keys, see
    L{redcouch.backends.redis.string_codec}. The prefix may be empty.

    @ivar flush_all: a flush may remove every string of the database, where
        there is no prefix.
    """

    prefix: bytes = b""
    raw: bool = True
    flush_all: bool = False

    scan_options: ClassVar[tuple[bytes, ...]] = (b"TYPE", b"string")

    def __post_init__(self) -> None:
        if self.prefix:
            Layout.__post_init__(self)

    @property
    def may_flush(self) -> bool:
        return self.flush_all or bool(self.prefix)

    def is_item(self, redis_key: bytes) -> bool:
        return not redis_key.startswith(SYSTEM_PREFIX)

    def keys_of_item(self, redis_key: bytes) -> tuple[bytes, ...]:
        return redis_key, SIDE + redis_key

    @property
    def prefixes(self) -> tuple[bytes, ...]:
        return self.prefix, SIDE + self.prefix

    def key_of(self, redis_key: bytes) -> bytes:
        return redis_key.removeprefix(SIDE).removeprefix(self.prefix)


def read_item(fields: Sequence[bytes | None]) -> Item | Failed | None:
    """
    The fields C{v}, C{r}, C{f} and (if asked for) C{c} as an item. C{None}
    where there is none, L{Failed} where they cannot be understood.
    """
    value = fields[0]
    if value is None:
        value = fields[1]
        if value is None:
            return None
    else:
        try:
            value = unhexlify(value)
        except ValueError:
            value = _read_loose_hex(value)
            if value is None:
                return UNREADABLE
    flags = fields[2]
    try:
        number = 0 if flags == b"0" else read_flags(flags)
        if len(fields) == 3:
            return Item(value, number, 0)
        cas = fields[3]
        return Item(value, number, NO_CAS if cas is None else read_number(cas, 64))
    except ValueError:
        return UNREADABLE


def belongs(line: bytes, value: bytes) -> bool:
    """Whether what stands at a side key was written with this value: it begins with its digest."""
    return line[:_DIGEST] == sha1(value, usedforsecurity=False).hexdigest()[:_DIGEST].encode()


def read_string(value: bytes, line: bytes | None) -> Item:
    """
    A plain string and what stands at its side key, as an item. Flags and token
    count only where they belong to this value; there is no token otherwise.
    """
    if line is not None and belongs(line, value):
        try:
            _, flags, token = line.split(b" ")
            token = token.rstrip(b"swh")
            cas = NO_CAS if token == b"-" else read_number(token, 64)
            return Item(value, read_number(flags, 32), cas)
        except ValueError:
            pass  # nothing of our own
    return Item(value, 0, NO_CAS)


def read_flags(field: bytes | None) -> int:
    """The field C{f}: missing or empty is 0. Raises ValueError for what is no flags."""
    return read_number(field, 32) if field else 0


def read_number(field: bytes, bits: int) -> int:
    """A decimal number of so many bits. Raises ValueError for anything else."""
    if not field.isdigit() or (number := int(field)) >> bits:
        raise ValueError
    return number


def _read_loose_hex(value: bytes) -> bytes | None:
    """Hex as people write it: C{xxd -p} breaks lines."""
    try:
        return unhexlify(b"".join(value.split()))
    except ValueError:
        return None
