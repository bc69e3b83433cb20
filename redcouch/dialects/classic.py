"""
The classic verbs of the text dialect: line to command, result to reply.

Which token counts and numbers are taken, which error is said, and what
C{noreply} silences follow memcached 1.6 (proto_text.c), measured against one.
"""

from __future__ import annotations

from functools import partial

from redcouch.commands import (
    Arithmetic,
    Delete,
    Discard,
    Flush,
    Get,
    GetAndTouch,
    Noop,
    Quit,
    Store,
    StoreMode,
    Touch,
    Version,
)
from redcouch.dialects import admin
from redcouch.dialects.block import (
    BAD_LINE,
    ERROR,
    NON_NUMERIC,
    TOO_LARGE,
    DataBlock,
    Parse,
    Parsed,
    Refused,
    is_noreply,
    reply_line,
    server_error,
)
from redcouch.dialects.key_list import Ask, KeyList, has_long_word, next_word, skip_blanks
from redcouch.dialects.request import DISCOVERY_KEY, Request, answered, silent
from redcouch.limits import MAX_KEY, Limits
from redcouch.numbers import signed_32, unsigned_32, unsigned_64
from redcouch.results import Failed, KeyResult, Number, Outcome, Result, Stored, Touched
from redcouch.value_lines import ENDS, Lines

_MAX_LENGTH = 2**31 - 1 - 2

_BAD_CHUNK = answered(b"CLIENT_ERROR bad data chunk\r\n")
_NOTHING = answered(b"")
_BAD_EXPTIME = b"CLIENT_ERROR invalid exptime argument\r\n"
_BAD_DELTA = b"CLIENT_ERROR invalid numeric delta argument\r\n"
_BAD_DELETE = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"


# -- saying it ---------------------------------------------------------------------------------


def _encode_one(key: bytes, result: Result) -> bytes:
    """C{get} with one key: by far the most frequent reply, so one format for all of it."""
    if result.__class__ is Lines:
        block: bytes = result.blocks[0]
        return block + b"END\r\n"
    item = result[0] if result.__class__ is list else result
    if item is None:
        return b"END\r\n"
    if item.__class__ is Failed:
        return server_error(item)
    value, flags, _ = item
    size = len(value)
    end = b" %d %d\r\n" % (flags, size) if flags or size >= 2048 else ENDS[size]
    return b"".join((b"VALUE ", key, end, value, b"\r\nEND\r\n"))


class _KeyListReply:
    """
    The reply to a line of many keys, which may be performed in several pieces.

    A key that cannot be read takes nothing from the others: their values are
    said, and the error stands where END would.
    """

    __slots__ = ("_cas", "_error")

    def __init__(self, cas: bool) -> None:
        self._cas = cas
        self._error = b""

    def piece(
        self, keys: list[bytes], last: bool, result: Lines | list[KeyResult] | Failed
    ) -> bytes:
        if isinstance(result, Lines) and not self._cas:
            end = self._error or b"END\r\n" if last else b""
            return b"".join((*result.blocks, end))
        if isinstance(result, Failed):
            self._error = server_error(result)
            return self._error if last else b""
        pieces: list[bytes] = []
        for key, item in zip(keys, result, strict=True):
            if item is None:
                continue
            if item.__class__ is Failed:
                self._error = server_error(item)
                continue
            value, flags, cas = item  # type: ignore[misc]
            size = len(value)
            if self._cas:
                pieces += (b"VALUE ", key, b" %d %d %d\r\n" % (flags, size, cas), value, b"\r\n")
            else:
                end = b" %d %d\r\n" % (flags, size) if flags or size >= 2048 else ENDS[size]
                pieces += (b"VALUE ", key, end, value, b"\r\n")
        if last:
            pieces.append(self._error or b"END\r\n")
        return b"".join(pieces)


_STORE_REPLIES = {
    Outcome.NOT_STORED: b"NOT_STORED\r\n",
    Outcome.EXISTS: b"EXISTS\r\n",
    Outcome.NOT_FOUND: b"NOT_FOUND\r\n",
}


def _encode_store(result: Result) -> bytes:
    if result.__class__ is Stored:
        return b"STORED\r\n"
    if result.__class__ is Failed:
        return server_error(result)
    return _STORE_REPLIES[result]


_OUTCOME_REPLIES = {
    Outcome.OK: b"OK\r\n",
    Outcome.DELETED: b"DELETED\r\n",
    Outcome.NOT_FOUND: b"NOT_FOUND\r\n",
    Outcome.NON_NUMERIC: NON_NUMERIC,
}


def _encode_outcome(result: Result) -> bytes:
    if result.__class__ is Failed:
        return server_error(result)
    return _OUTCOME_REPLIES[result]


def _encode_touched(result: Result) -> bytes:
    return b"TOUCHED\r\n" if result.__class__ is Touched else _encode_outcome(result)


def _encode_number(result: Result) -> bytes:
    if result.__class__ is Number:
        return b"%d\r\n" % result.value
    return _encode_outcome(result)


def _encode_version(result: bytes) -> bytes:
    return b"VERSION %b\r\n" % result


# -- reading it --------------------------------------------------------------------------------


def get_one(key: bytes) -> Request:
    """C{get} of one key, which is in order."""
    return Request(Get((key,)), partial(_encode_one, key))


def _parse_get(tokens: list[bytes], limits: Limits) -> Parsed:
    if len(tokens) == 2:
        key = tokens[1]
        if key == DISCOVERY_KEY and limits.discovery:
            return admin.get_nodes()
        return answered(BAD_LINE) if len(key) > MAX_KEY else get_one(key)
    if len(tokens) < 2:
        return answered(ERROR)
    return _read_keys(tokens[1:], limits, False, Get)


def _parse_gets(tokens: list[bytes], limits: Limits) -> Parsed:
    if len(tokens) < 2:
        return answered(ERROR)
    return _read_keys(tokens[1:], limits, True, partial(Get, cas=True))


def _parse_gat(tokens: list[bytes], limits: Limits, cas: bool) -> Parsed:
    if len(tokens) < 2:
        return answered(ERROR)
    exptime = signed_32(tokens[1])
    if exptime is None:
        return answered(_BAD_EXPTIME)
    if len(tokens) == 2:
        return answered(b"END\r\n")
    command = partial(GetAndTouch, exptime=exptime, cas=cas)
    return _read_keys(tokens[2:], limits, cas, command)


def _read_keys(keys: list[bytes], limits: Limits, cas: bool, command: Ask) -> Parsed:
    if max(map(len, keys)) > MAX_KEY:
        return answered(BAD_LINE)
    if len(keys) > limits.keys_per_get:
        return KeyList(b" ".join(keys), 0, command, _KeyListReply(cas).piece)
    return Request(command(keys), partial(_KeyListReply(cas).piece, keys, True))


#: How the lines are read that may list very many keys.
_KEY_LISTS: dict[bytes, tuple[bool, type[Get] | type[GetAndTouch]]] = {
    b"get": (False, Get),
    b"gets": (True, Get),
    b"gat": (False, GetAndTouch),
    b"gats": (True, GetAndTouch),
}


def read_long_key_list(line: bytes) -> KeyList | Request | None:
    """
    What a long line means, if it lists keys; C{None} where it is another one,
    or has few words and many blanks.
    """
    line = line.rstrip(b" ")
    place = skip_blanks(line, 0)
    verb, place = next_word(line, place)
    if verb not in _KEY_LISTS or place == len(line):
        return None
    cas, kind = _KEY_LISTS[verb]
    command: Ask = partial(Get, cas=cas)
    if kind is GetAndTouch:
        word, place = next_word(line, place)
        exptime = signed_32(word)
        if exptime is None or place == len(line):
            return None
        command = partial(GetAndTouch, exptime=exptime, cas=cas)
    if has_long_word(line, place):
        return answered(BAD_LINE)
    return KeyList(line, place, command, _KeyListReply(cas).piece)


def _parse_store(tokens: list[bytes], limits: Limits, mode: StoreMode) -> Parsed:
    if len(tokens) not in (5, 6):
        return answered(ERROR)
    return _read_store(tokens, limits, mode, is_noreply(tokens), None)


def _parse_concat(tokens: list[bytes], limits: Limits, mode: StoreMode) -> Parsed:
    """
    C{append} and C{prepend}. Beside memcached's form, which carries flags and
    an exptime that mean nothing, C{append <key> <bytes>} is taken: other
    bridges document it so, and memcached has no such line.
    """
    if len(tokens) == 3:
        tokens = [tokens[0], tokens[1], b"0", b"0", tokens[2]]
    return _parse_store(tokens, limits, mode)


def _parse_cas(tokens: list[bytes], limits: Limits) -> Parsed:
    if len(tokens) not in (6, 7):
        return answered(ERROR)
    noreply = is_noreply(tokens)
    compare = unsigned_64(tokens[5])
    if compare is None:
        return reply_line(BAD_LINE, noreply)
    return _read_store(tokens, limits, StoreMode.SET, noreply, compare)


def _read_store(
    tokens: list[bytes], limits: Limits, mode: StoreMode, noreply: bool, compare: int | None
) -> Parsed:
    key = tokens[1]
    flags = unsigned_32(tokens[2])
    exptime = signed_32(tokens[3])
    length = signed_32(tokens[4])
    if (
        len(key) > MAX_KEY
        or flags is None
        or exptime is None
        or length is None
        or not 0 <= length <= _MAX_LENGTH
    ):
        return reply_line(BAD_LINE, noreply)
    if not limits.fits(key, flags, length):
        return _refuse(key, length, noreply, drop=mode is StoreMode.SET and compare is None)
    return DataBlock(
        length,
        lambda value: Request(
            Store(mode, key, value, flags, exptime, compare),
            silent if noreply else _encode_store,
        ),
        _NOTHING if noreply else _BAD_CHUNK,
    )


def _refuse(key: bytes, length: int, noreply: bool, drop: bool) -> Refused:
    """Too large. A refused C{set} takes the old item with it, so that no stale value lives on."""
    reply = b"" if noreply else TOO_LARGE
    command = Discard(key) if drop else Noop(too_large=True)
    return Refused(Request(command, lambda _: reply), length + 2)


def _parse_arithmetic(tokens: list[bytes], limits: Limits, decrement: bool) -> Parsed:
    if len(tokens) not in (3, 4):
        return answered(ERROR)
    noreply = is_noreply(tokens)
    if len(tokens[1]) > MAX_KEY:
        return reply_line(BAD_LINE, noreply)
    delta = unsigned_64(tokens[2])
    if delta is None:
        return reply_line(_BAD_DELTA, noreply)
    command = Arithmetic(tokens[1], delta, decrement)
    return Request(command, silent if noreply else _encode_number)


def _parse_delete(tokens: list[bytes], limits: Limits) -> Parsed:
    count = len(tokens)
    if not 2 <= count <= 4:
        return answered(ERROR)
    noreply = False
    if count > 2:
        holds_zero = tokens[2] == b"0"
        noreply = is_noreply(tokens)
        if not ((count == 3 and (holds_zero or noreply)) or (holds_zero and noreply)):
            return reply_line(_BAD_DELETE, noreply)
    if len(tokens[1]) > MAX_KEY:
        return reply_line(BAD_LINE, noreply)
    return Request(Delete(tokens[1]), silent if noreply else _encode_outcome)


def _parse_touch(tokens: list[bytes], limits: Limits) -> Parsed:
    if len(tokens) not in (3, 4):
        return answered(ERROR)
    noreply = is_noreply(tokens)
    if len(tokens[1]) > MAX_KEY:
        return reply_line(BAD_LINE, noreply)
    exptime = signed_32(tokens[2])
    if exptime is None:
        return reply_line(_BAD_EXPTIME, noreply)
    return Request(Touch(tokens[1], exptime), silent if noreply else _encode_touched)


def _parse_flush_all(tokens: list[bytes], limits: Limits) -> Parsed:
    if len(tokens) > 3:
        return answered(ERROR)
    noreply = is_noreply(tokens)
    if not limits.flush:
        return reply_line(b"CLIENT_ERROR flush_all not allowed\r\n", noreply)
    exptime = 0 if len(tokens) == (2 if noreply else 1) else signed_32(tokens[1])
    if exptime is None:
        return reply_line(_BAD_EXPTIME, noreply)
    return Request(Flush(max(exptime, 0)), silent if noreply else _encode_outcome)


def _parse_version(tokens: list[bytes], limits: Limits, typed: bool = False) -> Parsed:
    return Request(Version(typed), _encode_version)


def _parse_quit(tokens: list[bytes], limits: Limits) -> Parsed:
    return Request(Quit(), silent)


#: Every verb of the dialect, beside the meta commands. (C{bget} is memcached's too.)
VERBS: dict[bytes, Parse] = {
    b"get": _parse_get,
    b"gets": _parse_gets,
    b"bget": _parse_get,
    b"gat": partial(_parse_gat, cas=False),
    b"gats": partial(_parse_gat, cas=True),
    b"set": partial(_parse_store, mode=StoreMode.SET),
    b"add": partial(_parse_store, mode=StoreMode.ADD),
    b"replace": partial(_parse_store, mode=StoreMode.REPLACE),
    b"append": partial(_parse_concat, mode=StoreMode.APPEND),
    b"prepend": partial(_parse_concat, mode=StoreMode.PREPEND),
    b"cas": _parse_cas,
    b"incr": partial(_parse_arithmetic, decrement=False),
    b"decr": partial(_parse_arithmetic, decrement=True),
    b"delete": _parse_delete,
    b"touch": _parse_touch,
    b"flush_all": _parse_flush_all,
    b"version": _parse_version,
    b"quit": _parse_quit,
    **admin.VERBS,
}

#: The same in a line that ends with a bare LF, as people type it. Client libraries send CRLF.
TYPED_VERBS: dict[bytes, Parse] = {**VERBS, b"version": partial(_parse_version, typed=True)}
