"""
Items from a memcached, many in one go: by meta get, by text get, by binary get.

C{mg <key> v f t c u} tells the time to live; C{u} leaves the item's place among those to be
evicted, and its mark of having been read, as they are. The other gets tell no time to
live: there it is what the list of keys said.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from zlib import crc32

from redcouch.memcached_client.blocking_client import BlockingClient, show
from redcouch.memcached_client.key_listing import NEVER, UNKNOWN, ListedKey
from redcouch.memcached_client.protocol import (
    Read,
    Reply,
    binary_get,
    for_next_to_renew,
    is_plain,
    name,
    read_binary,
    read_meta,
    read_text,
)


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


ReadOutcome: TypeAlias = Copy | Fault | None
"""What was found for a key: C{None} where there is no such item any more."""


#: What memcached answers to other questions, or with an item.
_ANSWERS = frozenset(b"VA VALUE HD NF NS EX MN OK STORED".split())

_MOST = 2**32 - 1
"""The most that flags can be, and seconds to live."""


class Getter(NamedTuple):
    """
    A way to ask for an item.

    @ivar request: makes the request for a key.
    @ivar read: reads the reply to it.
    """

    request: Callable[[bytes], bytes]
    read: Read


META = Getter(lambda key: _meta_get(key, _token(key) + b" v f t c u"), read_meta)
"""For keys that are plain or short enough."""

TEXT = Getter(lambda key: b"get %b\r\n" % key, read_text)
"""For keys that are plain."""

BINARY = Getter(binary_get, read_binary)
"""For any keys."""


def _leave_to_renew(connection: BlockingClient, tokens: Mapping[bytes, int | None]) -> None:
    """Let clients renew those, by key, of which C{to_renew} says that we are to."""
    won = [(name(key) or b"", token) for key, token in tokens.items() if token is not None]
    for keeping in (True, False):
        if not won:
            return
        request = b"".join(for_next_to_renew(*one, keeping) for one in won)
        pairs = zip(won, connection.ask(request, len(won)), strict=True)
        won = [one for one, reply in pairs if reply.code == b"CLIENT_ERROR"]


def read_items(
    connection: BlockingClient, getter: Getter, entries: Sequence[ListedKey], now: float
) -> Iterator[ReadOutcome]:
    """
    What is found for each entry in turn, as it arrives: so what waits for the caller waits
    in the socket.

    @param now: memcached's own clock, in UNIX time.
    @raise ServerError: as all of L{BlockingClient}; and where the reply is none to this request,
        or says of the item what cannot be.
    """
    request = b"".join(getter.request(entry.key) for entry in entries)
    replies = connection.ask(request, len(entries), getter.read)
    tokens: dict[bytes, int | None] = {}
    for entry, reply in zip(entries, replies, strict=True):
        if not _is_about(reply, entry.key):
            raise connection.fault(f"answered another question than it was asked: {show(reply)}")
        try:
            yield _outcome(reply, entry, now)
        except ValueError:
            raise connection.fault(f"says what cannot be of an item: {show(reply)}") from None
        tokens[entry.key] = reply.to_renew
    _leave_to_renew(connection, tokens)


def probe(connection: BlockingClient, keys: Sequence[bytes]) -> Iterator[bool]:
    """Whether the items are there, by meta commands."""
    request = b"".join(_meta_get(key, b"c u") for key in keys)
    tokens: dict[bytes, int | None] = {}
    for key, reply in zip(keys, connection.ask(request, len(keys)), strict=True):
        tokens[key] = reply.to_renew
        yield reply.code != b"EN"
    _leave_to_renew(connection, tokens)


def _token(key: bytes) -> bytes:
    """
    The flag that makes a reply tell which key it is about: the key itself where that is plain.
    Another one memcached may put into the line as it is, with line ends in it.
    """
    return b"k" if is_plain(key) else b"O%08x" % crc32(key)


def _meta_get(key: bytes, flags: bytes) -> bytes:
    named = name(key)
    assert named is not None, "for plain and short keys only"
    return b"mg %b %b\r\n" % (named, flags)


def _is_about(reply: Reply, key: bytes) -> bool:
    """
    Whether a reply can be the one to a question for this key: an item that tells it, a
    miss that tells it or none, or an error.
    """
    if reply.code not in (b"VA", b"EN"):
        return reply.code not in _ANSWERS
    told = reply.flag(b"k")
    if told is None:
        silent = reply.code == b"EN" and reply.flag(b"O") is None
        return silent or _token(key) in reply.words
    if b"b" not in reply.words:
        return told == key
    try:
        return b64decode(told, validate=True) == key
    except ValueError:
        return False


def _number(told: bytes | None, most: int) -> int:
    if told is None or not told.isdigit() or len(told) > 10 or int(told) > most:
        raise ValueError("no such number")
    return int(told)


def _outcome(reply: Reply, entry: ListedKey, now: float) -> ReadOutcome:
    if reply.code == b"EN" or b"X" in reply.words:  # marked stale
        return None
    if reply.value is None:
        return Fault("memcached said " + show(reply))
    told = reply.flag(b"t")
    ttl = NEVER if told == b"-1" else None if told is None else _number(told, _MOST)
    if ttl is None:
        if entry.expires == UNKNOWN:
            return Fault("memcached tells no time to live for such a key")
        ttl = NEVER if entry.expires == NEVER else max(0, round(entry.expires - now))
    flags = _number(reply.flag(b"f"), _MOST)
    if ttl == NEVER:
        return Copy(reply.value, flags, None)
    return Copy(reply.value, flags, ttl) if ttl > 0 else None
