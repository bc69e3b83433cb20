"""
The dialects of a client that has yet to prove who it is.

In text the first C{set} carries user and password, as memcached's
protocol.txt has it under "Authentication"; in binary there is SASL PLAIN.
Until then C{version}, C{mn} or Noop and C{quit} are answered, and nothing else.
"""

from __future__ import annotations

from functools import partial

from redcouch.commands import Authenticate
from redcouch.dialects import classic, meta
from redcouch.dialects.binary import BinaryDialect, Frame, Opcode, Status, answer, error, refuse
from redcouch.dialects.block import DataBlock
from redcouch.dialects.request import MUCH, Dialect, Request, answered
from redcouch.dialects.text import TextDialect
from redcouch.limits import Limits
from redcouch.numbers import unsigned_32

_MAX_SECRET = 1024
"""Bytes of user and password together."""

_UNAUTHENTICATED = b"CLIENT_ERROR unauthenticated\r\n"
_BAD_END = b"CLIENT_ERROR bad command line termination\r\n"
_BAD_FORM = b"CLIENT_ERROR bad authentication token format\r\n"
_FAILURE = b"CLIENT_ERROR authentication failure\r\n"

#: What is answered before.
_VERBS = {name: (classic.VERBS | meta.VERBS)[name] for name in (b"version", b"quit", b"mn")}
_TYPED_VERBS = {**_VERBS, b"version": classic.TYPED_VERBS[b"version"]}


def _say_text(proven: bool) -> bytes:
    return b"STORED\r\n" if proven else _FAILURE


class TextAuth(TextDialect):
    """
    Waits for C{set <anything> <anything> <anything> <bytes>} and C{user password}: lines and
    blocks end as ever, but few lines are understood, and none may be a long one.
    """

    #: What has come behind an attempt to authenticate.
    _behind = b""

    def receive(self, data: bytes) -> list[Request]:
        """The requests that these bytes complete, up to an attempt to authenticate."""
        requests: list[Request] = []
        self.feed(data)
        if self.waiting:
            self.pending = False
        elif len(data) <= MUCH:
            self._read_on(requests)
        return requests

    def authenticated(self, proven: bool) -> tuple[Dialect, bytes]:
        """Let the client in, or hear its next attempt."""
        self.waiting = False
        rest, self._behind = self._behind + self._rest(), b""
        return TextDialect(self._limits) if proven else self, rest

    def _rest(self) -> bytes:
        """What has come and is not understood, which is here no more."""
        rest = self._buffer.take_exactly(self._buffer.size)
        assert rest is not None
        return rest

    def _mind_the_end(self) -> None:
        self.broken = self._buffer.size > self._limits.max_line

    def _read_line(self, line: bytes, requests: list[Request]) -> None:
        read = line.rstrip(b"\r").partition(b"\0")[0]  # so far memcached reads it
        tokens = [token for token in read.split(b" ") if token]
        verb = tokens[0] if tokens else b""
        verbs = _VERBS if line.endswith(b"\r") else _TYPED_VERBS
        if verb in verbs:
            parsed = verbs[verb](tokens, self._limits)
            assert isinstance(parsed, Request)
            requests.append(parsed)
            return
        size = unsigned_32(tokens[4]) if verb == b"set" and len(tokens) > 4 else None
        if size is None:
            requests.append(answered(_UNAUTHENTICATED))
        elif size > _MAX_SECRET:
            requests.append(answered(_BAD_FORM))
            self._swallow = size + 2
        else:
            self._block = DataBlock(size, self._read_secret, answered(_BAD_END))
            self._line = line

    def _read_secret(self, block: bytes) -> Request:
        tokens = [token for token in block.partition(b"\0")[0].split(b" ") if token]
        if len(tokens) < 2:
            return answered(_BAD_FORM)
        self.waiting = True
        self._behind = self._rest()  # so that nothing of it is read before that is answered
        return Request(Authenticate(tokens[0], tokens[1]), _say_text)


_LIST_MECHANISMS, _AUTH, _STEP = 0x20, 0x21, 0x22
_NOOP, _VERSION, _QUIT, _QUIT_QUIETLY = 0x0A, 0x0B, 0x07, 0x17
_BEFORE = {_LIST_MECHANISMS, _AUTH, _STEP, _NOOP, _VERSION, _QUIT, _QUIT_QUIETLY}


def _say_binary(frame: Frame, proven: bool) -> bytes:
    return answer(frame, value=b"Authenticated") if proven else error(frame, Status.AUTH_ERROR)


class BinaryAuth(BinaryDialect):
    """
    Offers SASL PLAIN (RFC 4616), also to a client that is in already: by whatever it asks of
    SASL then it is out, until it has proved anew who it is.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._open = False
        self._opcodes = self._opcodes | {
            _LIST_MECHANISMS: Opcode(self._list_mechanisms, key=False),
            _AUTH: Opcode(self._read_plain, value=True),
            _STEP: Opcode(self._refuse_sasl, value=True),  # PLAIN has one step, and AUTH was it
        }

    def authenticated(self, proven: bool) -> tuple[Dialect, bytes]:
        """Let the client in, or hear its next attempt."""
        self._open = proven
        self.waiting = False
        return self, b""

    def _read_body(self, frame: Frame, requests: list[Request]) -> None:
        if self._open or frame.opcode in _BEFORE:
            super()._read_body(frame, requests)
        else:
            requests.append(refuse(frame))
            self.broken = True

    def _fits(self, frame: Frame) -> bool:
        if frame.opcode in (_AUTH, _STEP):
            return frame.length <= _MAX_SECRET
        return super()._fits(frame)

    def _read_plain(self, frame: Frame) -> Request:
        parts = frame.value.split(b"\0")
        if frame.key != b"PLAIN" or len(parts) != 3:
            return self._refuse_sasl(frame)
        self.waiting = True
        _, user, password = parts
        return Request(Authenticate(user, password), partial(_say_binary, frame))

    def _refuse_sasl(self, frame: Frame) -> Request:
        return self._forget_user(error(frame, Status.AUTH_ERROR))

    def _list_mechanisms(self, frame: Frame) -> Request:
        return self._forget_user(answer(frame, value=b"PLAIN"))

    def _forget_user(self, reply: bytes) -> Request:
        self.waiting = True
        return Request(Authenticate(None), lambda _: reply)
