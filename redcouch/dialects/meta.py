"""
The meta commands of the text dialect: flags to command, result to the flags asked for.

Flags and errors follow memcached 1.6.38 (proto_text.c), measured against one,
but for two: base64 keys are said as they were asked for, and C{mn} gives an
opaque back.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from string import ascii_letters, digits

from redcouch.commands import (
    Arithmetic,
    Delete,
    Discard,
    Inspect,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
)
from redcouch.dialects.block import (
    BAD_LINE,
    ERROR,
    NON_NUMERIC,
    TOO_LARGE,
    DataBlock,
    Parse,
    Parsed,
    Refused,
    server_error,
)
from redcouch.dialects.listing import item_size
from redcouch.dialects.request import Request, answered
from redcouch.expiry import seconds_left
from redcouch.limits import MAX_KEY, Limits
from redcouch.numbers import signed_32, unsigned_32, unsigned_64
from redcouch.results import Failed, Listed, MetaItem, Number, Outcome, Result, Stored

_MAX_TOKENS = 18
"""Tokens behind the verb; MFLAG_MAX_OPT_LENGTH counts the verb and an end mark too."""

_MAX_OPAQUE = 32
_MAX_LENGTH = 2**31 - 1 - 2

_BAD_CHUNK = b"CLIENT_ERROR bad data chunk\r\n"
_BAD_TOKEN = b"CLIENT_ERROR bad token in command line format\r\n"
_BAD_KEY = b"CLIENT_ERROR error decoding key\r\n"
_BAD_FLAGS = b"CLIENT_ERROR invalid or duplicate flag\r\n"
_OPAQUE_TOO_LONG = b"CLIENT_ERROR opaque token too long\r\n"


class _FlagsError(Exception):
    """The flags cannot be understood; the argument is what the client is told."""


@dataclass(slots=True)
class _Flags:
    """
    What the flags of one request say.

    @ivar asked: the flags as they stood, first byte of each, with the whole
        token: what is given back keeps this order.
    @ivar numbers: the numbers that flags carry, by flag.
    """

    key: bytes
    asked: list[tuple[int, bytes]] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    mode: bytes = b""

    def has(self, flag: bytes) -> bool:
        return flag[0] in self.seen

    def number(self, flag: bytes) -> int | None:
        return self.numbers.get(flag[0])

    def before(self, first: bytes, second: bytes) -> bool:
        """Whether one flag stands before the other."""
        for code, _ in self.asked:
            if code == first[0]:
                return True
            if code == second[0]:
                return False
        return False


#: Flags that stand by themselves. P and L are for proxies, and say nothing to a server.
_BARE = frozenset(b"ktcfsvhluqIxPLO")

#: Flags that carry a number, how it is read, and what is said where it cannot be
#: (nothing of F, where memcached says what it says of the rest of the line).
_NUMBERS: dict[int, tuple[Callable[[bytes], int | None], bytes]] = {
    ord("N"): (signed_32, _BAD_TOKEN),
    ord("T"): (signed_32, _BAD_TOKEN),
    ord("R"): (signed_32, _BAD_TOKEN),
    ord("F"): (unsigned_32, b""),
    ord("C"): (unsigned_64, _BAD_TOKEN),
    ord("E"): (unsigned_64, _BAD_TOKEN),
    ord("J"): (unsigned_64, b"CLIENT_ERROR invalid numeric initial value\r\n"),
    ord("D"): (unsigned_64, b"CLIENT_ERROR invalid numeric delta value\r\n"),
}


def _read_flags(key: bytes, tokens: list[bytes]) -> _Flags:
    """
    Understand the flags behind a key. An unknown or repeated one ends the
    reading; otherwise the last complaint is the one that is said.
    """
    flags = _Flags(key)
    complaint = b""
    for token in tokens:
        code = token[0]
        if code >= 127 or code in flags.seen:
            raise _FlagsError(b"CLIENT_ERROR duplicate flag\r\n")
        flags.seen.add(code)
        flags.asked.append((code, token))
        if code in _NUMBERS:
            read, problem = _NUMBERS[code]
            number = read(token[1:])
            if number is None:
                complaint = problem or complaint or BAD_LINE
            else:
                flags.numbers[code] = number
        elif code == 77:  # M
            if len(token) != 2:
                complaint = b"CLIENT_ERROR incorrect length for M token\r\n"
            flags.mode = token[1:]
        elif code == 98:  # b
            flags.key = _decode_key(key)
            if not flags.key:
                complaint = _BAD_KEY
        elif code not in _BARE:
            raise _FlagsError(b"CLIENT_ERROR invalid flag\r\n")
    if complaint:
        raise _FlagsError(complaint)
    return flags


def _check_opaque(flags: _Flags) -> None:
    """Said last, of a request that is fine but for this."""
    for code, token in flags.asked:
        if code == 79 and len(token) > _MAX_OPAQUE:  # O
            raise _FlagsError(_OPAQUE_TOO_LONG)


_NOT_BASE64 = bytes(set(range(256)) - set(ascii_letters.encode() + digits.encode() + b"+/="))


def _decode_key(key: bytes) -> bytes:
    """
    A base64 key, decoded; empty where it is none. As in memcached, other
    characters are passed over, what is left has to be fours, and the first four
    with a = in it is the last that counts.
    """
    code = key.translate(None, _NOT_BASE64)
    if len(code) % 4:
        return b""
    if b"=" in code:
        code = code[: code.index(b"=") // 4 * 4 + 4]
    padding = code[-4:].count(b"=")
    if padding > 2:
        return b""
    decoded = b64decode(code.replace(b"=", b"A"))
    return decoded[: len(decoded) - padding]


# -- saying it ---------------------------------------------------------------------------------


def _key_and_opaque(flags: _Flags, code: int, token: bytes) -> bytes:
    """The flags that every reply gives back."""
    if code == 79:  # O
        return b" " + token
    if code == 107:  # k
        return b" k%b b" % b64encode(flags.key) if flags.has(b"b") else b" k" + flags.key
    return b""


def _line(status: bytes, flags: _Flags) -> bytes:
    """A reply with nothing but the status, key and opaque."""
    given = [_key_and_opaque(flags, code, token) for code, token in flags.asked]
    return b"%b%b\r\n" % (status, b"".join(given))


def _seconds(ttl: int | None) -> int:
    return -1 if ttl is None else ttl


def _given(exptime: int) -> int | None:
    """
    Seconds to live of an item that was given this C{exptime} a moment ago; C{None} for ever.
    0 is what is over at once (where memcached counts below 0, and wraps).
    """
    left = seconds_left(exptime, time.time())
    return None if left is None else ceil(left)


#: What mg gives back for a flag that asks for something about the item.
_SAY: dict[int, Callable[[MetaItem], bytes]] = {
    ord("s"): lambda item: b" s%d" % item.size,
    ord("c"): lambda item: b" c%d" % item.cas,
    ord("f"): lambda item: b" f%d" % item.flags,
    ord("l"): lambda item: b" l%d" % item.idle,
    ord("h"): lambda item: b" h1" if item.fetched else b" h0",
}


def _encode_get(flags: _Flags, result: MetaItem | Failed | None) -> bytes:
    if result is None:
        return b"" if flags.has(b"q") else _line(b"EN", flags)
    if isinstance(result, Failed):
        return server_error(result)
    parts = [b"VA %d" % result.size if flags.has(b"v") else b"HD"]
    ttl = result.ttl
    for code, token in flags.asked:
        say = _SAY.get(code)
        if say is not None:
            parts.append(say(result))
        elif code == 116:  # t: as it was before a T or N that stands behind
            parts.append(b" t%d" % _seconds(ttl))
        elif code == 84 or (code == 78 and result.created):  # T, N
            ttl = _given(flags.numbers[code])
        else:
            parts.append(_key_and_opaque(flags, code, token))
    if result.sent:
        parts.append(b" Z")
    if result.stale:
        parts.append(b" X")
    if result.won:
        parts.append(b" W")
    parts.append(b"\r\n")
    if flags.has(b"v"):
        parts.append(result.value)
        parts.append(b"\r\n")
    return b"".join(parts)


_STORE_STATUS = {
    Outcome.NOT_STORED: b"NS",
    Outcome.EXISTS: b"EX",
    Outcome.NOT_FOUND: b"NF",
}


def _encode_store(flags: _Flags, length: int, result: Result) -> bytes:
    if isinstance(result, Failed):
        return server_error(result)
    stored = isinstance(result, Stored)
    if stored and flags.has(b"q"):
        return b""
    cas = result.cas if stored else 0
    parts = [b"HD" if stored else _STORE_STATUS[result]]
    for code, token in flags.asked:
        if code == 99:  # c
            parts.append(b" c%d" % cas)
        elif code == 115:  # s
            size = result.size if stored else None
            parts.append(b" s%d" % (length if size is None else size))
        else:
            parts.append(_key_and_opaque(flags, code, token))
    parts.append(b"\r\n")
    return b"".join(parts)


_DELETE_STATUS = {
    Outcome.OK: b"HD",
    Outcome.DELETED: b"HD",
    Outcome.NOT_FOUND: b"NF",
    Outcome.EXISTS: b"EX",
}


def _encode_delete(flags: _Flags, result: Outcome | Failed) -> bytes:
    if isinstance(result, Failed):
        return server_error(result)
    status = _DELETE_STATUS[result]
    if status == b"HD" and flags.has(b"q"):
        return b""
    return _line(status, flags)


def _encode_arithmetic(flags: _Flags, result: Result) -> bytes:
    if isinstance(result, Failed):
        return server_error(result)
    if result is Outcome.NON_NUMERIC:
        return NON_NUMERIC
    if not isinstance(result, Number):
        return _line(_STORE_STATUS[result], flags)
    if flags.has(b"q") and not result.created:  # as memcached has it
        return b""
    number = b"%d" % result.value
    parts = [b"VA %d" % len(number) if flags.has(b"v") else b"HD"]
    ttl = result.ttl
    for code, token in flags.asked:
        match chr(code):
            case "t":
                parts.append(b" t%d" % _seconds(ttl))
            case "c":
                parts.append(b" c%d" % result.cas)
            case "T" | "N" if code == 84 or result.created:
                ttl = _given(flags.numbers[code])
            case _:
                parts.append(_key_and_opaque(flags, code, token))
    parts.append(b"\r\n")
    if flags.has(b"v"):
        parts.append(number + b"\r\n")
    return b"".join(parts)


def _encode_inspection(shown: bytes, result: Listed | Failed | None) -> bytes:
    if result is None:
        return b"EN\r\n"
    if isinstance(result, Failed):
        return server_error(result)
    return b"ME %b exp=%d la=%d cas=%d fetch=%b cls=1 size=%d\r\n" % (
        shown,
        _seconds(result.ttl),
        result.idle,
        result.cas,
        b"yes" if result.fetched else b"no",
        item_size(result),
    )


# -- reading it --------------------------------------------------------------------------------


def _checked(tokens: list[bytes], too_many: bytes, bad_flags: bytes | None) -> _Flags:
    """
    The flags of a line, or an error to say; C{bad_flags} where memcached says
    the same for everything that is wrong with them.
    """
    if len(tokens) < 2:
        raise _FlagsError(ERROR)
    if len(tokens[1]) > MAX_KEY:
        raise _FlagsError(BAD_LINE)
    if len(tokens) - 1 > _MAX_TOKENS:
        raise _FlagsError(too_many)
    try:
        return _read_flags(tokens[1], tokens[2:])
    except _FlagsError as error:
        raise _FlagsError(bad_flags or error.args[0]) from None


_TOO_MANY = b"CLIENT_ERROR options flags too long\r\n"


def _exptime_of_new(flags: _Flags) -> int | None:
    """The expiry of an item made by N: T has the last word where it stands behind."""
    vivify = flags.number(b"N")
    if vivify is not None and flags.has(b"T") and flags.before(b"N", b"T"):
        return flags.number(b"T")
    return vivify


def _parse_get(tokens: list[bytes], limits: Limits) -> Parsed:
    try:
        flags = _checked(tokens, b"CLIENT_ERROR options flags are too long\r\n", None)
        _check_opaque(flags)
    except _FlagsError as error:
        return answered(error.args[0])
    seen = flags.seen
    command = MetaGet(
        flags.key,
        value=118 in seen,
        cas=99 in seen,
        metadata=bool(seen & _STANDING),
        touch=flags.number(b"T"),
        vivify=_exptime_of_new(flags),
        recache=flags.number(b"R"),
        touch_first=flags.before(b"T", b"R"),
        no_update=117 in seen,
        new_cas=flags.number(b"E"),
    )
    return Request(command, partial(_encode_get, flags))


_STANDING = frozenset(b"tlh")

_STORE_MODES = {
    b"": StoreMode.SET,
    b"S": StoreMode.SET,
    b"E": StoreMode.ADD,
    b"A": StoreMode.APPEND,
    b"P": StoreMode.PREPEND,
    b"R": StoreMode.REPLACE,
}


def _parse_set(tokens: list[bytes], limits: Limits) -> Parsed:
    if len(tokens) < 2:
        return answered(ERROR)
    if len(tokens) == 2 or len(tokens[1]) > MAX_KEY:
        return answered(BAD_LINE)
    if len(tokens) - 1 > _MAX_TOKENS:
        return answered(_TOO_MANY)
    length = signed_32(tokens[2])
    if length is None or not 0 <= length <= _MAX_LENGTH:
        return answered(BAD_LINE)
    try:
        flags = _read_flags(tokens[1], tokens[3:])
        mode = _STORE_MODES.get(flags.mode)
        if mode is None:
            raise _FlagsError(b"CLIENT_ERROR invalid mode for ms M token\r\n")
        _check_opaque(flags)
    except _FlagsError as error:
        return Refused(answered(error.args[0]), length + 2)
    client_flags = flags.number(b"F") or 0
    if not limits.fits(flags.key, client_flags, length):
        return Refused(Request(Discard(flags.key), lambda _: TOO_LARGE), length + 2)
    concatenates = mode is StoreMode.APPEND or mode is StoreMode.PREPEND
    compare = flags.number(b"C")
    if mode is StoreMode.ADD or (concatenates and compare == 0):
        compare = None

    def complete(value: bytes) -> Request:
        command = Store(
            mode,
            flags.key,
            value,
            client_flags,
            flags.number(b"T") or 0,
            compare,
            new_cas=flags.number(b"E") or None,
            invalidate=flags.has(b"I"),
            vivify=flags.number(b"N") if concatenates else None,
        )
        return Request(command, partial(_encode_store, flags, length))

    return DataBlock(length, complete, answered(_BAD_CHUNK))


def _parse_delete(tokens: list[bytes], limits: Limits) -> Parsed:
    try:
        flags = _checked(tokens, _TOO_MANY, _BAD_FLAGS)
        _check_opaque(flags)
    except _FlagsError as error:
        return answered(error.args[0])
    compare = flags.number(b"C")
    stale, drop_value = flags.has(b"I"), flags.has(b"x")
    if stale or drop_value:
        exptime = flags.number(b"T")
        if drop_value and exptime is None:
            exptime = 0  # an empty item takes its place, as if just stored
        client_flags = flags.number(b"F") or 0
        command: Invalidate | Delete = Invalidate(
            flags.key, stale, drop_value, exptime, compare, flags.number(b"E"), client_flags
        )
    else:
        command = Delete(flags.key, compare)
    return Request(command, partial(_encode_delete, flags))


_ARITHMETIC_MODES = {b"": False, b"I": False, b"+": False, b"D": True, b"-": True}


def _parse_arithmetic(tokens: list[bytes], limits: Limits) -> Parsed:
    try:
        flags = _checked(tokens, _TOO_MANY, _BAD_FLAGS)
        decrement = _ARITHMETIC_MODES.get(flags.mode)
        if decrement is None:
            raise _FlagsError(b"CLIENT_ERROR invalid mode for ma M token\r\n")
        _check_opaque(flags)
    except _FlagsError as error:
        return answered(error.args[0])
    delta = flags.number(b"D")
    vivify = _exptime_of_new(flags)
    command = Arithmetic(
        flags.key,
        1 if delta is None else delta,
        decrement,
        initial=None if vivify is None else flags.number(b"J") or 0,
        exptime=vivify or 0,
        compare=flags.number(b"C") or None,
        touch=flags.number(b"T"),
        new_cas=flags.number(b"E"),
        ttl=flags.has(b"t"),
    )
    return Request(command, partial(_encode_arithmetic, flags))


def _parse_noop(tokens: list[bytes], limits: Limits) -> Parsed:
    """C{mn}. memcached ignores what follows it; other bridges give an opaque back."""
    opaque = next((token for token in tokens[1:] if token[:1] == b"O"), None)
    return answered(b"MN\r\n" if opaque is None else b"MN %b\r\n" % opaque[:_MAX_OPAQUE])


def _parse_inspect(tokens: list[bytes], limits: Limits) -> Parsed:
    if len(tokens) < 2 or len(tokens[1]) > MAX_KEY:
        return answered(BAD_LINE)
    key = shown = tokens[1]
    if len(tokens) > 2 and tokens[2] == b"b":
        key = _decode_key(shown)
        if not key:
            return answered(BAD_LINE)
        shown = b64encode(key)
    return Request(Inspect(key), partial(_encode_inspection, shown))


#: The meta verbs. memcached takes no other two letters that begin with m.
VERBS: dict[bytes, Parse] = {
    b"mg": _parse_get,
    b"ms": _parse_set,
    b"md": _parse_delete,
    b"ma": _parse_arithmetic,
    b"mn": _parse_noop,
    b"me": _parse_inspect,
}
