"""
A client of memcached as pure code: requests queued, bytes in, replies out. No I/O.

A request carries the function that reads its replies, and replies come in the order of
their requests. L{redcouch.memcached_client.twisted_client} and
L{redcouch.memcached_client.blocking_client} move the bytes.

From memcached's doc/protocol.txt, "Meta Commands": a reply is a line of a code and flags,
C{VA <size> <flags>*} with a block behind it. Where an item is asked for in classic text
or in binary (doc/protocol_binary), the reply is given as the same: C{VA} with C{f<flags>}
and C{k<key>}, or C{EN}.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from sys import maxsize
from typing import Generic, TypeAlias, TypeVar

from redcouch.limits import is_key

_LONGEST_LINE = 2048

LAST_SECOND = 2**31 - 1
"""The latest end of an item that every memcached understands, as UNIX time."""

_UNSPEAKABLE = bytes((*range(33), 127))
"""Blanks and control characters."""

_CODES = frozenset(b"HD EN NF NS EX VA MN ME OK STORED ERROR CLIENT_ERROR SERVER_ERROR".split())

_ENDS = frozenset(b"END EN ERROR CLIENT_ERROR SERVER_ERROR BADCLASS BUSY".split())
"""First words of the last line, where the answer is lines."""

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

    @property
    def line(self) -> bytes:
        """What it says, without the block."""
        return b" ".join([self.code, *self.words])

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

    @property
    def to_renew(self) -> int | None:
        """The token of a stale item that who has this reply is told to renew; else C{None}."""
        return (self.number(b"c") or 0) if b"W" in self.words else None


# -- reading ------------------------------------------------------------------------------------


class _IncompleteError(Exception):
    """What is to be read has not come whole."""


class ReplyBuffer:
    """
    What has come and is not read yet.

    Who reads a reply out of it reads from the reply's beginning each time that more has
    come: all but values is short.

    @ivar place: where the next to be read begins.
    """

    def __init__(self, largest: int) -> None:
        """@param largest: bytes of a value beyond which it is garbage."""
        self.data = bytearray()
        self.place = 0
        self.largest = largest

    def line(self) -> bytes:
        """The next line, without its end."""
        end = self.data.find(b"\n", self.place)
        if end < 0:
            if len(self.data) - self.place > _LONGEST_LINE:
                raise GarbageError("a line has no end")
            raise _IncompleteError
        line = bytes(self.data[self.place : end])
        self.place = end + 1
        return line.removesuffix(b"\r")

    def exactly(self, size: int) -> bytes:
        """The next so many bytes."""
        end = self.place + size
        if end > len(self.data):
            raise _IncompleteError
        block = bytes(self.data[self.place : end])
        self.place = end
        return block

    def value(self, size: bytes) -> bytes:
        """A block of the size that a line has told, and the end of the line behind it."""
        if not (size.isdigit() and len(size) < 20 and int(size) <= self.largest):
            raise GarbageError("a value is of no size that it could have")
        block = self.exactly(int(size) + 2)
        if not block.endswith(b"\r\n"):
            raise GarbageError("a value does not end where it should")
        return block[:-2]


Read: TypeAlias = Callable[[ReplyBuffer], Reply]
"""Reads one reply. Raises L{GarbageError}."""


def read_meta(buffer: ReplyBuffer) -> Reply:
    """The reply to a meta command, and any other of one line."""
    code, *words = buffer.line().split(b" ")
    if code not in _CODES:
        raise GarbageError("what came is no reply of a memcached")
    if code != b"VA":
        return Reply(code, words)
    return Reply(code, words[1:], buffer.value(words[0] if words else b""))


def read_text(buffer: ReplyBuffer) -> Reply:
    """The reply to C{get} or C{gets} of one key, as that to a meta command."""
    line = buffer.line()
    if line == b"END":
        return Reply(b"EN")
    words = line.split(b" ")
    if words[0] != b"VALUE" or len(words) < 4:
        return Reply(*_split(line))
    value = buffer.value(words[3])
    if buffer.line() != b"END":
        raise GarbageError("its answer to get does not end")
    token = [b"c" + word for word in words[4:5]]
    return Reply(b"VA", [b"f" + words[2], b"k" + words[1], *token], value)


def read_any(buffer: ReplyBuffer) -> Reply:
    """The reply to a meta command, or to a get in text, whichever it is."""
    begins = bytes(buffer.data[buffer.place : buffer.place + 6])
    if begins.startswith((b"VALUE ", b"END\r\n")):
        return read_text(buffer)
    return read_meta(buffer)


_HEADER = struct.Struct("!BBHBBHIIQ")
_REQUEST, _REPLY, _SET, _NOOP, _GET = 0x80, 0x81, 0x01, 0x0A, 0x0C
_FOUND, _NOT_FOUND = 0, 1


def read_binary(buffer: ReplyBuffer) -> Reply:
    """
    The reply to L{binary_get}, L{binary_store} or L{BINARY_PROBE}, as that to a meta command.
    """
    header = buffer.exactly(_HEADER.size)
    magic, opcode, key_length, extras, _, status, length, _, _ = _HEADER.unpack(header)
    if magic != _REPLY:
        raise GarbageError("it does not speak the binary protocol")
    if length > buffer.largest or extras + key_length > length:
        raise GarbageError("a value is of no size that it could have")
    body = buffer.exactly(length)
    if opcode == _NOOP:
        return Reply(b"MN")
    if status == _NOT_FOUND:
        return Reply(b"EN")
    if status != _FOUND:
        return Reply(*_split(body))
    if opcode == _SET:
        return Reply(b"HD")
    if extras != 4 or opcode != _GET:
        raise GarbageError("what came is no reply to a get")
    front = extras + key_length
    flags = b"f%d" % int.from_bytes(body[:extras])
    return Reply(b"VA", [flags, b"k" + body[extras:front]], body[front:])


def read_line(buffer: ReplyBuffer) -> Reply:
    """Any line, as its words."""
    return Reply(*_split(buffer.line()))


def _split(line: bytes) -> tuple[bytes, list[bytes]]:
    code, *words = line.split(b" ")
    return code, words


class PendingRequest:
    """
    A request whose answer is not whole yet.

    @ivar data: what is to be sent.
    @ivar replies: those that have come, and that nobody has taken.
    @ivar complete: whether these were the last.
    """

    __slots__ = ("_expected", "complete", "data", "read", "replies")

    def __init__(self, data: bytes, expected: int | None, read: Read = read_meta) -> None:
        """
        @param expected: how many replies there are to it; C{None} where they are lines up
            to one that says that it is the last.
        """
        self.data = data
        self.read = read
        self.replies: deque[Reply] = deque()
        self.complete = expected == 0
        self._expected = expected

    def add(self, reply: Reply) -> None:
        """Take the next reply."""
        self.replies.append(reply)
        if self._expected is None:
            self.complete = reply.code in _ENDS
        else:
            self._expected -= 1
            self.complete = not self._expected


Pending = TypeVar("Pending", bound=PendingRequest)


class RequestQueue(Generic[Pending]):
    """
    The requests of one connection that wait for their replies.

    @ivar pending: those, in their order.
    """

    def __init__(self, largest: int = maxsize) -> None:
        """@param largest: bytes of a value beyond which it is garbage."""
        self.pending: deque[Pending] = deque()
        self._buffer = ReplyBuffer(largest)

    def add(self, request: Pending) -> None:
        """A request is sent."""
        if not request.complete:
            self.pending.append(request)

    def receive(self, data: bytes) -> Iterator[Pending]:
        """
        Give the requests the replies that are whole by now. Gives those requests whose
        answer is complete, each before what follows is read.

        @raise GarbageError: some bytes are no reply.
        """
        buffer = self._buffer
        buffer.data += data
        while self.pending:
            request = self.pending[0]
            began = buffer.place
            try:
                request.add(request.read(buffer))
            except _IncompleteError:
                del buffer.data[:began]
                buffer.place = 0
                return
            if request.complete:
                self.pending.popleft()
                yield request
        if buffer.place < len(buffer.data):
            raise GarbageError("it speaks without being asked")
        buffer.data.clear()
        buffer.place = 0


# -- requests -----------------------------------------------------------------------------------


STATS = b"stats\r\n"


def process_of(stats: Mapping[str, str]) -> str | None:
    """
    Which process answers C{stats}: C{<id>.<UNIX time of its start>}; C{None} where it does not
    tell, or is a RedCouch, which has its items elsewhere. Another process has nothing of what
    this one had.
    """
    if "redcouch_version" in stats:
        return None
    told = [stats.get(name, "") for name in ("pid", "time", "uptime")]
    if not all(word.isascii() and word.isdigit() and len(word) < 12 for word in told):
        return None
    pid, now, uptime = map(int, told)
    return f"{pid}.{now - uptime}"


def is_plain(key: bytes) -> bool:
    """Whether a line of text can have this key in it."""
    return key.translate(None, _UNSPEAKABLE) == key


def name(key: bytes) -> bytes | None:
    """
    A key as meta commands name it, with the flag that says how; C{None} where
    they cannot, as it is too long, or would be in base64, or is empty.
    """
    if is_plain(key):
        return key if is_key(key) else None
    encoded = b64encode(key)
    return encoded + b" b" if is_key(encoded) else None


WHO = b"me redcouch:who\r\n"
"""Answered CLIENT_ERROR by who wants a password; others would keep it, as an item."""


def authenticate(username: str, password: str) -> bytes:
    """As memcached's -Y wants it: the first set carries user and password. STORED."""
    secret = f"{username} {password}".encode()
    return b"set auth 0 0 %d\r\n%b\r\n" % (len(secret), secret)


BINARY_PROBE = _HEADER.pack(_REQUEST, _NOOP, 0, 0, 0, 0, 0, 0, 0)
"""Answered MN by who speaks binary. See L{read_binary}."""


def binary_get(key: bytes) -> bytes:
    """An item, in binary, which can name any key. See L{read_binary}."""
    return _HEADER.pack(_REQUEST, _GET, len(key), 0, 0, 0, len(key), 0, 0) + key


def binary_store(key: bytes, value: bytes, flags: int, exptime: int) -> bytes:
    """HD, see L{read_binary}."""
    extras = struct.pack("!II", flags, exptime)
    length = len(extras) + len(key) + len(value)
    header = _HEADER.pack(_REQUEST, _SET, len(key), len(extras), 0, 0, length, 0, 0)
    return header + extras + key + value


def text_store(key: bytes, value: bytes, flags: int, exptime: int) -> bytes:
    """STORED."""
    return b"set %b %d %d %d\r\n%b\r\n" % (key, flags, exptime, len(value), value)


def look(named: bytes) -> bytes:
    """Whether there is an item, and how large. C{HD s<size> c<token>}, W as L{read}; or EN."""
    return b"mg %b s c\r\n" % named


def read(named: bytes) -> bytes:
    """
    An item: C{VA <size> f<flags> t<seconds to live, or -1> c<token>}, X if it is stale, and W if
    it is for who reads it now to renew it, see L{for_next_to_renew}; or EN.
    """
    return b"mg %b f t c v\r\n" % named


def lasting(exptime: int) -> bytes:
    """The flag for an expiry. Meta commands know none that binary ones may have beyond 31 bits."""
    return b"T%d" % min(exptime, LAST_SECOND)


def touch(named: bytes, exptime: int) -> bytes:
    """HD, or EN."""
    return b"mg %b %b\r\n" % (named, lasting(exptime))


def store(named: bytes, value: bytes, flags: int, exptime: int) -> bytes:
    """HD."""
    return _with_value(named, value, b"F%d %b" % (flags, lasting(exptime)))


def concatenate(named: bytes, value: bytes, before: bool) -> bytes:
    """Append, or prepend. HD, or NS where there is no item."""
    return _with_value(named, value, b"MP" if before else b"MA")


def _with_value(named: bytes, value: bytes, flags: bytes) -> bytes:
    key, space, how = named.partition(b" ")
    return b"ms %b %d%b %b\r\n%b\r\n" % (key, len(value), space + how, flags, value)


def for_next_to_renew(named: bytes, token: int, keeping: bool = True) -> bytes:
    """
    Who reads a stale item next is told to renew it, if it has this token. HD, NF or EX; and
    CLIENT_ERROR from 1.6.18, which gives it a new token, or does nothing.
    """
    kept = b" E%d" % token if keeping else b""
    return b"md %b I C%d%b\r\n" % (named, token, kept)


def count(named: bytes, delta: int, decrement: bool) -> bytes:
    """Add or take. VA with the number, or NF."""
    return b"ma %b %b D%d v\r\n" % (named, b"MD" if decrement else b"MI", delta)


def delete(named: bytes) -> bytes:
    """HD, or NF."""
    return b"md %b\r\n" % named


def flush(exptime: int) -> bytes:
    """OK."""
    return b"flush_all %d\r\n" % exptime if exptime else b"flush_all\r\n"


# -- requests as a client makes them, whose outcome is passed on --------------------------------


def get(key: bytes, named: bytes) -> bytes:
    """
    An item with its token, as clients of old ask for it: that somebody is to renew it, nobody is
    told by this. For L{read_any}: VA with f and c; or EN.
    """
    return b"gets %b\r\n" % key if is_plain(key) else b"mg %b f c v\r\n" % named


def get_and_touch(key: bytes, named: bytes, exptime: int) -> bytes:
    """The same, with a new expiry."""
    if is_plain(key):
        return b"gats %d %b\r\n" % (min(exptime, LAST_SECOND), key)
    return b"mg %b %b f c v\r\n" % (named, lasting(exptime))


def with_flags(verb: bytes, named: bytes, flags: Iterable[bytes]) -> bytes:
    """A meta command without a value."""
    return b"%b %b\r\n" % (verb, b" ".join([named, *flags]))


def store_with(named: bytes, value: bytes, flags: Iterable[bytes]) -> bytes:
    """C{ms} with any flags."""
    return _with_value(named, value, b" ".join(flags))


def inspect(named: bytes) -> bytes:
    """ME and what there is to know of an item; or EN."""
    return b"me %b\r\n" % named
