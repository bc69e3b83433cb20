"""
The binary dialect: 24 bytes of header, then extras, key and value.

Which lengths are taken, which error leaves the connection open and what quiet
opcodes keep to themselves follow memcached 1.6.18 (proto_bin.c), measured
against one. Where a frame is refused, its body is skipped, not kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial

from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Discover,
    Flush,
    Get,
    GetAndTouch,
    Noop,
    Quit,
    ResetStatistics,
    Statistics,
    Store,
    StoreMode,
    Touch,
    Version,
)
from redcouch.dialects.request import DISCOVERY_KEY, MUCH, Dialect, Request, answered
from redcouch.limits import MAX_KEY, Limits
from redcouch.results import ErrorKind, Failed, Number, Outcome, Result, Stored, Touched
from redcouch.value_lines import Lines

MAGIC_REQUEST = 0x80
MAGIC_RESPONSE = 0x81

_HEADER = struct.Struct(">BBHBBHIIQ")
_STORE_EXTRAS = struct.Struct(">II")
_COUNT_EXTRAS = struct.Struct(">QQI")
_EXPTIME = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")
_HEADER_LENGTH = _HEADER.size

_DO_NOT_CREATE = 0xFFFFFFFF
"""The exptime of an Increment that must not make an item."""

_SASL = 0x20
"""The first opcode of SASL, behind all that store."""


class Status(IntEnum):
    """Status codes of an answer."""

    OK = 0x0000
    NOT_FOUND = 0x0001
    EXISTS = 0x0002
    TOO_LARGE = 0x0003
    INVALID = 0x0004
    NOT_STORED = 0x0005
    NON_NUMERIC = 0x0006
    AUTH_ERROR = 0x0020
    UNKNOWN_COMMAND = 0x0081
    OUT_OF_MEMORY = 0x0082
    INTERNAL = 0x0084
    TEMPORARY = 0x0086


_TEXTS = {
    Status.NOT_FOUND: b"Not found",
    Status.EXISTS: b"Data exists for key.",
    Status.TOO_LARGE: b"Too large.",
    Status.INVALID: b"Invalid arguments",
    Status.NOT_STORED: b"Not stored.",
    Status.NON_NUMERIC: b"Non-numeric server-side value for incr or decr",
    Status.AUTH_ERROR: b"Auth failure.",
    Status.UNKNOWN_COMMAND: b"Unknown command",
    Status.OUT_OF_MEMORY: b"Out of memory",
}


@dataclass(slots=True)
class Frame:
    """
    A request's header, and the bytes behind it as far as they are here.

    @ivar length: bytes of the value, those behind extras and key.
    @ivar opaque: given back as it came.
    """

    opcode: int
    opaque: int
    cas: int
    length: int
    extras: bytes
    key: bytes
    value: bytes = b""


def answer(
    frame: Frame,
    status: int = Status.OK,
    extras: bytes = b"",
    key: bytes = b"",
    value: bytes = b"",
    cas: int = 0,
) -> bytes:
    """A frame that answers another."""
    length = len(extras) + len(key) + len(value)
    header = _HEADER.pack(
        MAGIC_RESPONSE,
        frame.opcode,
        len(key),
        len(extras),
        0,
        status,
        length,
        frame.opaque,
        cas & 0xFFFFFFFFFFFFFFFF,
    )
    return b"".join((header, extras, key, value)) if length else header


def error(frame: Frame, status: Status) -> bytes:
    """A frame that says what was wrong, in memcached's words."""
    return answer(frame, status, value=_TEXTS[status])


_OUTCOME_STATUS = {
    Outcome.NOT_STORED: Status.NOT_STORED,
    Outcome.EXISTS: Status.EXISTS,
    Outcome.NOT_FOUND: Status.NOT_FOUND,
    Outcome.NON_NUMERIC: Status.NON_NUMERIC,
}


def _failure(frame: Frame, failed: Failed | Outcome) -> bytes:
    """
    Why something was not done. A backend's failure never looks like a hit, a miss or a
    success.
    """
    if isinstance(failed, Outcome):
        return error(frame, _OUTCOME_STATUS[failed])
    if failed.kind is ErrorKind.OUT_OF_MEMORY:
        return error(frame, Status.OUT_OF_MEMORY)
    away = failed.kind is ErrorKind.UNAVAILABLE
    status = Status.TEMPORARY if away else Status.INTERNAL
    return answer(frame, status, value=failed.message.encode())


def refuse(frame: Frame) -> Request:
    """The request whose answer is that its client may not ask this."""
    return answered(error(frame, Status.AUTH_ERROR))


# -- saying it ---------------------------------------------------------------------------------


def _say_item(frame: Frame, quiet: bool, with_key: bool, result: Result) -> bytes:
    found = result[0] if result.__class__ is list or result.__class__ is Lines else result
    if found is None:
        if quiet:
            return b""
        if with_key:
            return answer(frame, Status.NOT_FOUND, key=frame.key)
        return error(frame, Status.NOT_FOUND)
    if found.__class__ is Failed:
        return _failure(frame, found)
    value, flags, cas = found  # type: ignore[misc]
    return answer(frame, 0, _EXPTIME.pack(flags), frame.key if with_key else b"", value, cas)


#: What memcached says of an add and a replace that stored nothing.
_NOT_STORED_STATUS = {StoreMode.ADD: Status.EXISTS, StoreMode.REPLACE: Status.NOT_FOUND}


def _say_stored(frame: Frame, quiet: bool, mode: StoreMode, result: Result) -> bytes:
    if result.__class__ is Stored:
        return b"" if quiet else answer(frame, cas=result.cas)
    if result is Outcome.NOT_STORED and mode in _NOT_STORED_STATUS:
        return error(frame, _NOT_STORED_STATUS[mode])
    return _failure(frame, result)


def _say_number(frame: Frame, quiet: bool, result: Result) -> bytes:
    if result.__class__ is Number:
        return b"" if quiet else answer(frame, value=_NUMBER.pack(result.value), cas=result.cas)
    return _failure(frame, result)


def _say_touched(frame: Frame, result: Result) -> bytes:
    if result.__class__ is Touched:
        return answer(frame, extras=_EXPTIME.pack(result.flags), cas=result.cas)
    return _failure(frame, result)


def _say_done(frame: Frame, quiet: bool, result: Result) -> bytes:
    """Success with nothing to add: delete, flush."""
    if result is Outcome.OK or result is Outcome.DELETED:
        return b"" if quiet else answer(frame)
    return _failure(frame, result)


def _say_statistics(frame: Frame, result: list[tuple[bytes, bytes]] | Failed | None) -> bytes:
    """One packet for each, and an empty one at the end."""
    if result is None:
        return error(frame, Status.NOT_FOUND)
    if isinstance(result, Failed):
        return _failure(frame, result)
    packets = [answer(frame, key=name, value=value) for name, value in result]
    return b"".join(packets) + answer(frame)


# -- reading it --------------------------------------------------------------------------------


def _read_get(frame: Frame, quiet: bool, with_key: bool) -> Request:
    return Request(Get((frame.key,), cas=True), partial(_say_item, frame, quiet, with_key))


def _read_gat(frame: Frame, quiet: bool, with_key: bool) -> Request:
    exptime = _EXPTIME.unpack(frame.extras)[0]
    command = GetAndTouch((frame.key,), exptime, cas=True)
    return Request(command, partial(_say_item, frame, quiet, with_key))


def _read_touch(frame: Frame, quiet: bool) -> Request:
    exptime = _EXPTIME.unpack(frame.extras)[0]
    return Request(Touch(frame.key, exptime), partial(_say_touched, frame))


def _read_store(frame: Frame, quiet: bool, mode: StoreMode) -> Request:
    """With a token to compare, memcached makes no difference between set, add and replace."""
    flags, exptime = _STORE_EXTRAS.unpack(frame.extras)
    compare = frame.cas or None
    if compare is not None:
        mode = StoreMode.SET
    command = Store(mode, frame.key, frame.value, flags, exptime, compare)
    return Request(command, partial(_say_stored, frame, quiet, mode))


def _read_concat(frame: Frame, quiet: bool, mode: StoreMode) -> Request:
    command = Store(mode, frame.key, frame.value, compare=frame.cas or None)
    return Request(command, partial(_say_stored, frame, quiet, mode))


def _read_count(frame: Frame, quiet: bool, decrement: bool) -> Request:
    delta, initial, exptime = _COUNT_EXTRAS.unpack(frame.extras)
    create = exptime != _DO_NOT_CREATE
    command = Arithmetic(
        frame.key,
        delta,
        decrement,
        initial=initial if create else None,
        exptime=exptime if create else 0,
        compare=frame.cas or None,
    )
    return Request(command, partial(_say_number, frame, quiet))


def _read_delete(frame: Frame, quiet: bool) -> Request:
    command = Delete(frame.key, frame.cas or None, exists_is_miss=False)
    return Request(command, partial(_say_done, frame, quiet))


def _read_flush(frame: Frame, quiet: bool) -> Request:
    exptime = _EXPTIME.unpack(frame.extras)[0] if frame.extras else 0
    return Request(Flush(exptime), partial(_say_done, frame, quiet))


def _read_unknown(frame: Frame) -> Request:
    return answered(error(frame, Status.UNKNOWN_COMMAND))


def _read_noop(frame: Frame, quiet: bool) -> Request:
    return answered(answer(frame))


def _read_version(frame: Frame, quiet: bool) -> Request:
    return Request(Version(), lambda version: answer(frame, value=version))


def _read_quit(frame: Frame, quiet: bool) -> Request:
    reply = b"" if quiet else answer(frame)
    return Request(Quit(), lambda _: reply)


_BEGINNINGS = (b"settings", b"detail dump", b"detail on", b"detail off")


def _read_stat(frame: Frame, quiet: bool) -> Request:
    if frame.key.startswith(b"reset"):
        return Request(ResetStatistics(), lambda _: answer(frame))
    # Of these, memcached minds no more than the beginning.
    group = next((one for one in _BEGINNINGS if frame.key.startswith(one)), frame.key)
    command: Command = Statistics(group)
    return Request(command, partial(_say_statistics, frame))


@dataclass(frozen=True, slots=True)
class Opcode:
    """
    How one opcode is read.

    @ivar extras: the lengths of extras that it takes.
    @ivar key: whether it has a key: always, never, or C{None} for as it likes.
    @ivar value: whether it has a value.
    @ivar drop: a value that is too large takes the item with it.
    """

    read: Callable[[Frame], Request]
    extras: tuple[int, ...] = (0,)
    key: bool | None = True
    value: bool = False
    drop: bool = False

    def takes(self, extras: int, key: int, value: int) -> bool:
        """Whether these lengths are right for it."""
        return (
            extras in self.extras
            and (self.key is None or bool(key) == self.key)
            and (self.value or not value)
        )


def _opcodes() -> dict[int, Opcode]:
    """Every opcode that is known, loud and quiet."""
    table: dict[int, Opcode] = {}

    def add(loud: int, quiet: int | None, read: Callable[..., Request], **how: object) -> None:
        table[loud] = Opcode(partial(read, quiet=False), **how)  # type: ignore[arg-type]
        if quiet is not None:
            table[quiet] = Opcode(partial(read, quiet=True), **how)  # type: ignore[arg-type]

    add(0x00, 0x09, partial(_read_get, with_key=False))
    add(0x0C, 0x0D, partial(_read_get, with_key=True))
    store = {"extras": (8,), "value": True}
    add(0x01, 0x11, partial(_read_store, mode=StoreMode.SET), drop=True, **store)
    add(0x02, 0x12, partial(_read_store, mode=StoreMode.ADD), **store)
    add(0x03, 0x13, partial(_read_store, mode=StoreMode.REPLACE), **store)
    add(0x04, 0x14, _read_delete)
    add(0x05, 0x15, partial(_read_count, decrement=False), extras=(20,))
    add(0x06, 0x16, partial(_read_count, decrement=True), extras=(20,))
    add(0x07, 0x17, _read_quit, key=False)
    add(0x08, 0x18, _read_flush, extras=(0, 4), key=False)
    add(0x0A, None, _read_noop, key=False)
    add(0x0B, None, _read_version, key=False)
    add(0x0E, 0x19, partial(_read_concat, mode=StoreMode.APPEND), value=True)
    add(0x0F, 0x1A, partial(_read_concat, mode=StoreMode.PREPEND), value=True)
    add(0x10, None, _read_stat, key=None)
    add(0x1B, None, _read_noop, extras=(4,), key=False)  # verbosity, which memcached 1.6 has not
    add(0x1C, None, _read_touch, extras=(4,))
    add(0x1D, 0x1E, partial(_read_gat, with_key=False), extras=(4,))
    add(0x23, 0x24, partial(_read_gat, with_key=True), extras=(4,))
    # SASL, where nobody is asked for a password.
    table[_SASL] = Opcode(_read_unknown, key=False)
    table[0x21] = table[0x22] = Opcode(_read_unknown, value=True)
    return table


_OPCODES = _opcodes()


def _say_nodes(frame: Frame, result: bytes | Failed) -> bytes:
    if isinstance(result, Failed):
        return _failure(frame, result)
    key = frame.key if frame.opcode == 0x0C else b""
    return answer(frame, 0, _EXPTIME.pack(0), key, result)


def _read_config(frame: Frame) -> Request:
    if frame.key != b"cluster":
        return answered(error(frame, Status.NOT_FOUND))
    return Request(Discover(), partial(_say_nodes, frame))


def _read_get_or_nodes(frame: Frame, with_key: bool) -> Request:
    if frame.key == DISCOVERY_KEY:
        return Request(Discover(), partial(_say_nodes, frame))
    return _read_get(frame, False, with_key)


#: ElastiCache's opcode for C{config get}, and the loud gets, which know the older key.
_DISCOVERY = {
    0x60: Opcode(_read_config),
    0x00: Opcode(partial(_read_get_or_nodes, with_key=False)),
    0x0C: Opcode(partial(_read_get_or_nodes, with_key=True)),
}

#: As memcached -F has it.
_NO_FLUSH = {opcode: Opcode(refuse, extras=(0, 4), key=False) for opcode in (0x08, 0x18)}


class BinaryDialect(Dialect):
    """One client's frames, as requests."""

    __slots__ = ("_frame", "_opcodes", "_read")

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._opcodes = _OPCODES if limits.flush else _OPCODES | _NO_FLUSH
        if limits.discovery:
            self._opcodes = self._opcodes | _DISCOVERY
        self._frame: Frame | None = None
        self._read: Callable[[Frame], Request] = _read_unknown

    def suspend(self) -> tuple[bytes, int]:
        """The beginning of a frame."""
        frame, front = self._frame, b""
        if frame is not None:
            body = len(frame.extras) + len(frame.key) + frame.length
            lengths = len(frame.key), len(frame.extras)
            front = _HEADER.pack(
                MAGIC_REQUEST, frame.opcode, *lengths, 0, 0, body, frame.opaque, frame.cas
            )
            front += frame.extras + frame.key
        return front + self._buffer.rest(), self._swallow

    def receive(self, data: bytes) -> list[Request]:
        """The requests that these bytes complete, in order, as many as one turn allows."""
        requests: list[Request] = []
        buffer = self._buffer
        if len(data) > MUCH and not self._is_one(data):
            self.feed(data)
            return requests
        buffer.feed(data)
        most = self._limits.turn
        self.pending = False
        while not (self.broken or self.waiting):
            if len(requests) >= most:
                self.pending = buffer.size > 0
                break
            if self._swallow:
                self._swallow -= buffer.skip(self._swallow)
                if self._swallow:
                    break
            elif self._frame is not None:
                value = buffer.take_exactly(self._frame.length)
                if value is None:
                    break
                self._frame.value = value
                requests.append(self._read(self._frame))
                self._frame = None
            elif not self._read_frame(requests):
                break
        return requests

    def feed(self, data: bytes) -> None:
        """Keep these bytes until the client has its turn."""
        self._buffer.feed(data)
        self.pending = self._frame is None or self._buffer.size >= self._frame.length

    def _is_one(self, data: bytes) -> bool:
        """Whether this is one frame and nothing else."""
        body = int.from_bytes(data[8:12], "big")
        return not (self._buffer.size or self._frame) and body == len(data) - _HEADER_LENGTH

    def _read_frame(self, requests: list[Request]) -> bool:
        """Take the front of a frame, all but its value; whether it was there."""
        buffer = self._buffer
        header = buffer.peek(_HEADER_LENGTH)
        if len(header) < _HEADER_LENGTH:
            return False
        if header[0] != MAGIC_REQUEST:
            self.broken = True
            return True
        _, opcode, key_length, extras_length, _, _, body, opaque, cas = _HEADER.unpack(header)
        front = extras_length + key_length
        if buffer.size < _HEADER_LENGTH + front:
            return False
        buffer.skip(_HEADER_LENGTH)
        if front > body:
            frame = Frame(opcode, opaque, cas, 0, b"", b"")
            requests.append(answered(error(frame, Status.UNKNOWN_COMMAND)))
            self.broken = True
            return True
        extras = buffer.take_exactly(extras_length)
        key = buffer.take_exactly(key_length)
        assert extras is not None
        assert key is not None
        frame = Frame(opcode, opaque, cas, body - front, extras, key)
        self._read_body(frame, requests)
        return True

    def _read_body(self, frame: Frame, requests: list[Request]) -> None:
        known = self._opcodes.get(frame.opcode)
        if len(frame.key) > MAX_KEY or (
            known and not known.takes(len(frame.extras), len(frame.key), frame.length)
        ):
            requests.append(answered(error(frame, Status.INVALID)))
            self.broken = True
        elif known is None or known.read is _read_unknown:
            requests.append(_read_unknown(frame))
            self._swallow = frame.length
        elif not known.value:
            requests.append(known.read(frame))
        elif self._fits(frame):
            self._frame = frame
            self._read = known.read
        else:
            reply = error(frame, Status.TOO_LARGE)
            stores = frame.opcode < _SASL
            command = Discard(frame.key) if known.drop else Noop(too_large=stores)
            requests.append(Request(command, lambda _: reply))
            self._swallow = frame.length

    def _fits(self, frame: Frame) -> bool:
        flags = _STORE_EXTRAS.unpack(frame.extras)[0] if frame.extras else 0
        return self._limits.fits(frame.key, flags, frame.length)
