"""
Items from a memcached, many in one go: by meta get, by text get, by binary get.

Each reader is given a connection of its own and the entries to ask for, and gives what it finds
for each in turn, as it arrives. So what waits for the caller waits in the sockets.

From memcached's doc/protocol.txt: C{mg <key> v f t u} answers C{VA <size> f<flags> t<seconds>}
and the value, or C{EN}; C{u} leaves the item's place among those to be evicted, and its mark of
having been read, as they are; C{b} says that the key is base64. Other gets tell no time to
live: there it is what the list of keys said. The binary protocol is in doc/protocol_binary.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from redcouch.memcached_client.blocking_client import Connection
from redcouch.memcached_client.key_listing import NEVER, UNKNOWN, Entry
from redcouch.memcached_client.protocol import name


@dataclass(frozen=True, slots=True)
class Copy:
    """
    An item as it was read.

    @ivar ttl: seconds to live; C{None} for ever.
    """

    value: bytes
    flags: int
    ttl: int | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an item could not be read."""

    reason: str


Outcome: TypeAlias = Copy | Fault | None
"""What was found for a key: C{None} where there is no such item any more."""

Reader: TypeAlias = Callable[[Connection, Sequence[Entry], float], Iterator[Outcome]]
"""Gives what it finds for each entry; the number is memcached's own clock, in UNIX time."""


# -- meta --------------------------------------------------------------------------------------


def read_meta(connection: Connection, entries: Sequence[Entry], now: float) -> Iterator[Outcome]:
    """For keys that are plain or short enough."""
    connection.send(b"".join(_meta_request(entry.key, b"v f t u") for entry in entries))
    for _ in entries:
        yield _read_meta_reply(connection)


def probe_meta(connection: Connection, entries: Sequence[Entry]) -> Iterator[bool]:
    """Whether the items are there; for the same keys."""
    connection.send(b"".join(_meta_request(entry.key, b"u") for entry in entries))
    for _ in entries:
        yield connection.read_line() != b"EN"


def _meta_request(key: bytes, flags: bytes) -> bytes:
    named = name(key)
    assert named is not None, "for plain and short keys only"
    return b"mg %b %b\r\n" % (named, flags)


def _read_meta_reply(connection: Connection) -> Outcome:
    line = connection.read_line()
    if line == b"EN":
        return None
    code, _, rest = line.partition(b" ")
    if code != b"VA":
        return Fault(_said(line))
    size, *fields = rest.split()
    value = connection.read_exactly(int(size) + 2)[:-2]
    told = {field[:1]: int(field[1:]) for field in fields if field[:1] in (b"f", b"t")}
    ttl = told.get(b"t", NEVER)
    if ttl == NEVER:
        return Copy(value, told.get(b"f", 0), None)
    return Copy(value, told.get(b"f", 0), ttl) if ttl > 0 else None


# -- text --------------------------------------------------------------------------------------


def read_text(connection: Connection, entries: Sequence[Entry], now: float) -> Iterator[Outcome]:
    """For keys that are plain."""
    connection.send(b"".join(b"get %b\r\n" % entry.key for entry in entries))
    for entry in entries:
        yield _read_text_reply(connection, entry, now)


def _read_text_reply(connection: Connection, entry: Entry, now: float) -> Outcome:
    line = connection.read_line()
    if line == b"END":
        return None
    words = line.split()
    if words[:1] != [b"VALUE"] or len(words) < 4:
        return Fault(_said(line))
    value = connection.read_exactly(int(words[3]) + 2)[:-2]
    if connection.read_line() != b"END":
        raise connection.trouble("cannot read its answer to get")
    return _with_listed_ttl(value, int(words[2]), entry, now)


# -- binary ------------------------------------------------------------------------------------

_HEADER = struct.Struct("!BBHBBHIIQ")
_REQUEST, _REPLY, _GET = 0x80, 0x81, 0x00
_FOUND, _NOT_FOUND = 0, 1


def read_binary(connection: Connection, entries: Sequence[Entry], now: float) -> Iterator[Outcome]:
    """For any keys."""
    connection.send(
        b"".join(
            _HEADER.pack(_REQUEST, _GET, len(entry.key), 0, 0, 0, len(entry.key), 0, 0) + entry.key
            for entry in entries
        )
    )
    for entry in entries:
        yield _read_binary_reply(connection, entry, now)


def _read_binary_reply(connection: Connection, entry: Entry, now: float) -> Outcome:
    header = connection.read_exactly(_HEADER.size)
    magic, _, key_length, extras, _, status, length, _, _ = _HEADER.unpack(header)
    if magic != _REPLY:
        raise connection.trouble("does not speak the binary protocol")
    body = connection.read_exactly(length)
    if status == _NOT_FOUND:
        return None
    if status != _FOUND:
        return Fault(_said(body))
    flags = int.from_bytes(body[:4]) if extras == 4 else 0
    return _with_listed_ttl(body[extras + key_length :], flags, entry, now)


def _with_listed_ttl(value: bytes, flags: int, entry: Entry, now: float) -> Outcome:
    if entry.expires == NEVER:
        return Copy(value, flags, None)
    if entry.expires == UNKNOWN:
        return Fault("memcached tells no time to live for such a key")
    left = round(entry.expires - now)
    return Copy(value, flags, left) if left > 0 else None


def _said(line: bytes) -> str:
    return "memcached said " + line[:80].decode(errors="replace")
