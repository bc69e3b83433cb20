"""
The same bytes to two servers, and what is left of their replies once that is
taken away which cannot be the same.

In what is sent, C{{cas:KEY}} stands for the token that the server gave last
for a key (C{{cas:KEY+1}} for the number after it), and C{{now+100}} for a UNIX
time. A token is known only when the reply that carries it has been read, so a
line that uses one is sent when all before it is answered. C{{then}} asks for
that too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator

from tests.support.wire import TEXT_ENDING, Address, Wire, whole

CLOSED = b"<CLOSED>"
"""Stands behind a reply where the server has closed."""

Cut = Callable[[bytes], Iterable[bytes]]
"""How what is sent is cut into pieces."""

NORMALISATIONS = (
    (rb"VERSION [^\r\n]*", b"VERSION <version>", "each says its own"),
    (rb"STAT [^\r\n]*\r\n", b"", "each counts for itself, and not the same things"),
)
"""Lines that differ: a pattern, what is compared instead, and why. CAS tokens are numbered."""

_PLACEHOLDER = re.compile(rb"\{(?:cas:([^}+-]+)|now)([+-][0-9]+)?\}")
_PATTERNS = [(re.compile(pattern), instead) for pattern, instead, _ in NORMALISATIONS]
_VALUE = re.compile(rb"(VALUE ([^ ]+) [0-9]+ ([0-9]+))(?: ([0-9]+))?\r\n")


class Listener:
    """One server's side of a conversation: what it has said, made comparable."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._tokens: dict[bytes, bytes] = {}

    def fill(self, template: bytes) -> bytes:
        """What to send to this server."""

        def value(match: re.Match[bytes]) -> bytes:
            key, change = match.groups(b"0")
            base = int(time.time()) if key == b"0" else int(self._tokens.get(key, b"0"))
            return b"%d" % (base + int(change))

        return _PLACEHOLDER.sub(value, template)

    def hear(self, reply: bytes) -> bytes:
        """The reply, without what cannot be the same. Values are left as they are."""
        parts = []
        place = 0
        while place < len(reply):
            value = _VALUE.match(reply, place)
            if value is None:
                end = reply.find(b"\n", place) + 1 or len(reply)
                parts.append(self._line(reply[place:end]))
            else:
                end = value.end() + int(value[3]) + 2
                parts.append(value[1] + self._token(value[2], value[4]) + b"\r\n")
                parts.append(reply[value.end() : end])
            place = end
        return b"".join(parts)

    def _line(self, line: bytes) -> bytes:
        for pattern, instead in _PATTERNS:
            line = pattern.sub(instead, line)
        return line

    def _token(self, key: bytes, token: bytes | None) -> bytes:
        """A token by the order in which it was first seen, so that equal ones stay equal."""
        if token is None:
            return b""
        self._tokens[key] = token
        return b" <token %d>" % self._numbers.setdefault(token, len(self._numbers))


def steps(transcript: bytes) -> Iterator[bytes]:
    """The parts of a transcript that can be sent without knowing the reply to the one before."""
    for part in transcript.split(b"{then}"):
        lines: list[bytes] = []
        for line in part.splitlines(keepends=True):
            if b"{cas:" in line and lines:
                yield b"".join(lines)
                lines = []
            lines.append(line)
        yield b"".join(lines)


def replies(address: Address, transcript: bytes, cut: Cut = whole) -> bytes:
    """What a server says to a transcript, on one connection, made comparable."""
    listener = Listener()
    said = []
    with Wire(address) as wire:
        for step in steps(transcript):
            heard = wire.converse(cut(listener.fill(step)), TEXT_ENDING)
            said.append(listener.hear(heard.reply))
            if heard.closed:
                said.append(CLOSED)
                break
    return b"".join(said)
