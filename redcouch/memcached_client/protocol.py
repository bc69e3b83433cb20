"""
memcached's meta commands, as bytes to send and replies to read; no I/O.

From memcached's doc/protocol.txt, "Meta Commands": a reply is a line of a code
and flags, C{VA <size> <flags>*} with a block behind it. Replies come in the
order of their requests.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field

from redcouch.limits import MAX_KEY

_LONGEST_LINE = 2048

_UNSPEAKABLE = bytes((*range(33), 127))
"""Blanks and control characters."""

_CODES = frozenset(b"HD EN NF NS EX VA MN OK STORED ERROR CLIENT_ERROR SERVER_ERROR".split())

PROBE = b"mn\r\n"
"""Answered MN where the meta commands are as they have been since early in memcached 1.6."""


class GarbageError(Exception):
    """What came is no reply."""


@dataclass(slots=True)
class Reply:
    """
    @ivar code: its first word.
    @ivar words: the others.
    @ivar value: the block; C{None} where there is none.
    """

    code: bytes
    words: list[bytes] = field(default_factory=list)
    value: bytes | None = None

    def flag(self, letter: bytes) -> bytes | None:
        """What a flag says; C{None} where it is not there."""
        for word in self.words:
            if word.startswith(letter):
                return word[1:]
        return None

    def number(self, letter: bytes) -> int | None:
        """The same for a flag that is a number; C{None} where it is none."""
        try:
            return int(self.flag(letter) or b"")
        except ValueError:
            return None


class ReplyReader:
    """Replies out of a stream of bytes."""

    def __init__(self, largest: int) -> None:
        """@param largest: bytes of a value beyond which it is garbage."""
        self._largest = largest
        self._data = bytearray()
        self._searched = 0
        self._head: Reply | None = None
        self._size = 0

    def feed(self, data: bytes) -> list[Reply]:
        """
        The replies that are whole by now.

        @raise GarbageError: some bytes are no reply.
        """
        self._data += data
        replies = []
        while (reply := self._next()) is not None:
            replies.append(reply)
        return replies

    def _next(self) -> Reply | None:
        head = self._head
        if head is None:
            line = self._take_line()
            if line is None:
                return None
            head = self._read_head(line)
            if head.code != b"VA":
                return head
            self._head = head
        if len(self._data) < self._size + 2:
            return None
        if self._data[self._size : self._size + 2] != b"\r\n":
            raise GarbageError("a value does not end where it should")
        head.value = bytes(self._data[: self._size])
        del self._data[: self._size + 2]
        self._head = None
        return head

    def _take_line(self) -> bytes | None:
        end = self._data.find(b"\r\n", self._searched)
        if end < 0:
            if len(self._data) > _LONGEST_LINE:
                raise GarbageError("a line has no end")
            self._searched = max(0, len(self._data) - 1)
            return None
        self._searched = 0
        line = bytes(self._data[:end])
        del self._data[: end + 2]
        return line

    def _read_head(self, line: bytes) -> Reply:
        code, *words = line.split(b" ")
        if code not in _CODES:
            raise GarbageError("what came is no reply of a memcached")
        if code != b"VA":
            return Reply(code, words)
        size = words[0] if words else b""
        if not size.isdigit() or int(size) > self._largest:
            raise GarbageError("a value is of no size that it could have")
        self._size = int(size)
        return Reply(code, words[1:])


def is_plain(key: bytes) -> bool:
    """Whether a line of text can have this key in it."""
    return key.translate(None, _UNSPEAKABLE) == key


def name(key: bytes) -> bytes | None:
    """
    A key as meta commands name it, with the flag that says how; C{None} where
    they cannot, as it would be too long in base64.
    """
    if is_plain(key):
        return key
    encoded = b64encode(key)
    return encoded + b" b" if len(encoded) <= MAX_KEY else None


def authenticate(username: str, password: str) -> bytes:
    """As memcached's -Y wants it: the first set carries user and password. STORED."""
    secret = f"{username} {password}".encode()
    return b"set auth 0 0 %d\r\n%b\r\n" % (len(secret), secret)


def look(named: bytes) -> bytes:
    """Whether there is an item, and how large. C{HD s<size>}, or EN."""
    return b"mg %b s\r\n" % named


def read(named: bytes) -> bytes:
    """An item: C{VA <size> f<flags> t<seconds to live, or -1>}, X if it is stale; or EN."""
    return b"mg %b f t v\r\n" % named


def touch(named: bytes, exptime: int) -> bytes:
    """HD, or EN."""
    return b"mg %b T%d\r\n" % (named, exptime)


def store(named: bytes, value: bytes, flags: int, exptime: int) -> bytes:
    """HD."""
    return _with_value(named, value, b"F%d T%d" % (flags, exptime))


def concatenate(named: bytes, value: bytes, before: bool) -> bytes:
    """Append, or prepend. HD, or NS where there is no item."""
    return _with_value(named, value, b"MP" if before else b"MA")


def _with_value(named: bytes, value: bytes, flags: bytes) -> bytes:
    key, space, how = named.partition(b" ")
    return b"ms %b %d%b %b\r\n%b\r\n" % (key, len(value), space + how, flags, value)


def count(named: bytes, delta: int, decrement: bool) -> bytes:
    """Add or take. VA with the number, or NF."""
    return b"ma %b %b D%d v\r\n" % (named, b"MD" if decrement else b"MI", delta)


def delete(named: bytes) -> bytes:
    """HD, or NF."""
    return b"md %b\r\n" % named


def flush(exptime: int) -> bytes:
    """OK."""
    return b"flush_all %d\r\n" % exptime if exptime else b"flush_all\r\n"
