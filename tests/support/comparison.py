"""
The same bytes to two servers, and what is left of their replies once that is
taken away which cannot be the same.

In what is sent, C{{cas:KEY}} stands for the token that the server gave last
for a key (C{{cas:KEY+1}} for the number after it), and C{{now+100}} for a UNIX
time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.support.frames import frame
from tests.support.wire import TEXT_ENDING, Address, Ending, Wire, whole

CLOSED = b"<CLOSED>"
"""Stands behind a reply where the server has closed."""

Cut = Callable[[bytes], Iterable[bytes]]
"""How what is sent is cut into pieces."""

NORMALISATIONS = (
    (rb"VERSION [^\r\n]*", b"VERSION <version>", "each says its own"),
    (rb"STAT [^\r\n]*\r\n", b"", "each counts for itself, and not the same things"),
)
"""Lines that differ: a pattern, what is compared instead, and why. CAS tokens are numbered."""

_CLOCK_ATTEMPTS = 10
_PLACEHOLDER = re.compile(rb"\{(?:cas:([^}+-]+)|now)([+-][0-9]+)?\}")
_PATTERNS = [(re.compile(pattern), instead) for pattern, instead, _ in NORMALISATIONS]
_BLOCK = re.compile(rb"VALUE [^ ]+ [0-9]+ ([0-9]+)|VA ([0-9]+)")
_TOKEN = re.compile(
    rb"(?P<before>VALUE (?P<key>[^ ]+) [0-9]+ [0-9]+ |(?:HD|VA|NS|EX|NF)\b[^\r\n]*? c)"
    rb"(?P<token>[0-9]+)(?=[ \r])"
)
_BINARY_ENDING = Ending(frame(0x0A, opaque=0xFEEDBEEF), frame(0x0A, opaque=0xFEEDBEEF, magic=0x81))


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a client sends. Each step is sent when the one before it has been answered."""

    steps: tuple[bytes, ...]
    binary: bool = False
    clock: bool = False
    """
    Whether the answers tell the time, or an item ends soon: a second may begin between two
    servers' answers, or a few while one stands still.
    """

    @classmethod
    def of(cls, text: bytes) -> Transcript:
        """
        One that is written without its steps: C{{then}} ends one, and so does a
        line that needs the token of a reply before it.
        """
        return cls(tuple(_steps(text)), clock=_ends_soon(text))

    @property
    def attempts(self) -> int:
        """How often a difference has to show before it counts."""
        return _CLOCK_ATTEMPTS if self.clock else 1

    def joined(self) -> Transcript:
        """The same without waiting for any answer, where no step needs one."""
        sent = b"".join(self.steps)
        return self if b"{cas:" in sent else Transcript((sent,), self.binary, self.clock)


_EXPTIME = re.compile(
    rb"^(?:(?:set|add|replace|append|prepend|cas) \S+ \S+|touch \S+|gats?|flush_all)"
    rb" ([+-]?[0-9]+)\b",
    re.MULTILINE,
)


def _ends_soon(text: bytes) -> bool:
    """Whether an item in it ends within a minute: memcached has 32 bits for an exptime."""
    return any(0 < int(exptime) % 2**32 < 60 for exptime in _EXPTIME.findall(text))


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
            end = reply.find(b"\n", place) + 1 or len(reply)
            line = reply[place:end]
            parts.append(self._line(line))
            place = end
            if block := _BLOCK.match(line):
                place += int(block[1] or block[2]) + 2
                parts.append(reply[end:place])
        return b"".join(parts)

    def hear_frames(self, reply: bytes) -> bytes:
        """The same for the binary protocol."""
        parts = []
        place = 0
        while len(reply) - place >= 24 and reply[place] == 0x81:
            end = place + 24 + int.from_bytes(reply[place + 8 : place + 12])
            token = reply[place + 16 : place + 24]
            parts += [reply[place : place + 16], self._number(token), reply[place + 24 : end]]
            place = end
        return b"".join([*parts, reply[place:]])

    def _line(self, line: bytes) -> bytes:
        for pattern, instead in _PATTERNS:
            line = pattern.sub(instead, line)
        if match := _TOKEN.match(line):
            if match["key"]:
                self._tokens[match["key"]] = match["token"]
            line = match["before"] + self._number(match["token"]) + line[match.end() :]
        return line

    def _number(self, token: bytes) -> bytes:
        """A token by the order in which it was first seen, so that equal ones stay equal."""
        if not token.strip(b"0") or not token.strip(b"\0"):
            return token  # which stands for none, in text or in binary
        return b"<token %d>" % self._numbers.setdefault(token, len(self._numbers))


class Conversation:
    """
    A server and a client, who connects again where the server closes. Use it in
    a C{with} statement.
    """

    def __init__(self, address: Address, binary: bool = False) -> None:
        self._address = address
        self._listener = Listener()
        self._ending = _BINARY_ENDING if binary else TEXT_ENDING
        self._hear = self._listener.hear_frames if binary else self._listener.hear
        self._wire = Wire(address)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def say(self, step: bytes, cut: Cut = whole) -> bytes:
        """What the server answers, made comparable; L{CLOSED} behind it if it then closes."""
        heard = self._wire.converse(cut(self._listener.fill(step)), self._ending)
        if not heard.closed:
            return self._hear(heard.reply)
        self._wire.close()
        self._wire = Wire(self._address)
        return self._hear(heard.reply) + CLOSED


class Subject:
    """A server that is asked for the same as another. Use it in a C{with} statement."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._control = Wire(address)
        self._known: dict[tuple[Transcript, Cut], bytes] = {}

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()

    def replies(self, transcript: Transcript, cut: Cut = whole) -> bytes:
        """
        What the server, emptied before, says to a transcript. It is asked once
        for one that does not depend on the clock.
        """
        if transcript.clock:
            return self._ask(transcript, cut)
        if (transcript, cut) not in self._known:
            self._known[transcript, cut] = self._ask(transcript, cut)
        return self._known[transcript, cut]

    def _ask(self, transcript: Transcript, cut: Cut) -> bytes:
        self._control.say([b"flush_all\r\n"], b"\r\n")
        with Conversation(self.address, transcript.binary) as conversation:
            return b"".join([conversation.say(step, cut) for step in transcript.steps])


def differences(
    memcached: Subject, redcouch: Subject, transcripts: Iterable[Transcript], cut: Cut = whole
) -> list[str]:
    """
    The transcripts that two servers answer differently, with both answers, for
    people. What the second one is sent comes in pieces.
    """
    different = []
    for transcript in transcripts:
        for _ in range(transcript.attempts):
            theirs, ours = memcached.replies(transcript), redcouch.replies(transcript, cut)
            if theirs == ours:
                break
        else:
            different.append(
                f"sent      {transcript.steps!r}\nmemcached {theirs!r}\nRedCouch  {ours!r}\n"
            )
    return different


def assert_alike(
    memcached: Subject, redcouch: Subject, transcripts: Iterable[Transcript], cut: Cut = whole
) -> None:
    """Fail with some of their L{differences}."""
    different = differences(memcached, redcouch, transcripts, cut)
    assert not different, f"{len(different)} differ, for example\n" + "\n".join(different[:5])


def _steps(text: bytes) -> Iterator[bytes]:
    for part in text.split(b"{then}"):
        lines: list[bytes] = []
        for line in part.splitlines(keepends=True):
            if b"{cas:" in line and lines:
                yield b"".join(lines)
                lines = []
            lines.append(line)
        yield b"".join(lines)
