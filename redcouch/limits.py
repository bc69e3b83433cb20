"""How much of anything a client may ask for, in one value."""

from __future__ import annotations

from dataclasses import dataclass

MAX_KEY = 250
"""Bytes in a key (memcached's KEY_MAX_LENGTH)."""

ITEM_OVERHEAD = 59
"""
Bytes that memcached 1.6 counts against its item size beside key, flags and
value: 48 of header, 8 of CAS token, a NUL after the key and CRLF after the
value. Counting the same way refuses the same values.
"""

FLAGS_OVERHEAD = 4
"""Bytes that memcached counts for client flags other than 0."""

HTTP_CONNECTIONS = 256
"""Clients of C{--http} at a time."""


def is_key(key: bytes) -> bool:
    """Whether a memcached can have an item of this key."""
    return 0 < len(key) <= MAX_KEY


@dataclass(frozen=True, slots=True)
class Limits:
    """
    @ivar max_item_size: bytes of an item, counted as memcached counts its -I.
    @ivar max_line: bytes of a line that is no C{get}; memcached gives up on a
        longer one when its end is not in sight.
    @ivar max_long_line: bytes of any line but a C{get}, with its LF and whether
        that is in sight or not: the size of memcached's read buffer.
    @ivar max_get_line: bytes of a C{get} line.
    @ivar keys_per_get: a longer list of keys is read in pieces of this many.
    @ivar flush: C{flush_all} is allowed (memcached's -F forbids it).
    @ivar dump: lists of the items are allowed (memcached's -X forbids them).
    @ivar discovery: clients are told which nodes to connect to (--advertise).
    @ivar batch: keys that go to the backend together, of one client; a single
        request may have C{keys_per_get}.
    @ivar turn: lines or frames of one client that are understood, or keys of a
        long line, before other clients have their turn.
    @ivar backlog: requests of one client that may wait behind the batch that
        is being performed; past it the client is not read from.
    @ivar backlog_bytes: the same in bytes of values.
    """

    max_item_size: int = 1024 * 1024
    max_line: int = 2048
    max_long_line: int = 16384
    max_get_line: int = 8 * 1024 * 1024
    keys_per_get: int = 128
    flush: bool = True
    dump: bool = True
    discovery: bool = False
    batch: int = 256
    turn: int = 64
    backlog: int = 512
    backlog_bytes: int = 1024 * 1024

    def value_room(self, key: bytes) -> int:
        """How long a value without flags may be for this key, in bytes."""
        return self.max_item_size - ITEM_OVERHEAD - len(key)

    def fits(self, key: bytes, flags: int, length: int) -> bool:
        """Whether memcached, with this item size, would take the value."""
        overhead = ITEM_OVERHEAD + FLAGS_OVERHEAD if flags else ITEM_OVERHEAD
        return length + overhead + len(key) <= self.max_item_size
