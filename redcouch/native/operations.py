"""
What can be done to an item, as a script with its arguments and a way to read the
reply. Nothing here speaks to Redis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from redcouch.backends.redis import scripts
from redcouch.backends.redis.layout import (
    SYSTEM_PREFIX,
    Layout,
    StringLayout,
    read_item,
    read_number,
)
from redcouch.backends.redis.script_arguments import pack_number
from redcouch.backends.redis.scripts import Script
from redcouch.backends.redis.scripts import strings as string_scripts
from redcouch.errors import ConfigurationError
from redcouch.limits import FLAGS_OVERHEAD
from redcouch.results import Failed

T = TypeVar("T")

_HALF = 10**10
_ROOM = 2**29  # what Redis takes as one string
_LONGEST = 2**53  # milliseconds: what scripts can reckon with, and Redis takes
_REFUSED = (b"NS", b"NF", b"EX")


class UnreadableItemError(ValueError):
    """What is at an item's key is no value, flags or token that RedCouch could have read."""


class Found(NamedTuple):
    """An item. C{ttl} is in seconds, rounded up; C{None} for ever."""

    value: bytes
    flags: int
    cas: int
    ttl: int | None


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A script to run with these keys and arguments, and what its reply means."""

    script: Script
    keys: tuple[bytes, ...]
    arguments: tuple[bytes, ...]
    read: Callable[[Any], T]


class Operations:
    """Makes the L{Call}s for the items of one layout."""

    def __init__(
        self, prefix: str | bytes | None, encoding: str, layout: str, cluster: bool = False
    ) -> None:
        if encoding not in ("hex", "raw") or layout not in ("hash", "string"):
            raise ConfigurationError("encoding is hex or raw; layout is hash or string")
        strings = layout == "string"
        given = _bytes(("" if strings else "rc:") if prefix is None else prefix)
        if strings and cluster:
            raise ConfigurationError("layout: string is for one Redis")
        self._layout = StringLayout(given) if strings else Layout(given, encoding == "raw", cluster)
        self._scripts: Any = string_scripts if strings else scripts

    def _call(
        self, name: str, key: str | bytes, arguments: tuple[bytes, ...], read: Callable[[Any], T]
    ) -> Call[T]:
        item = self._layout.prefix + _bytes(key)
        if item.startswith(SYSTEM_PREFIX):
            raise ValueError(f"keys that begin with {SYSTEM_PREFIX.decode()} are RedCouch's own")
        keys = self._layout.script_keys(item)
        return Call(getattr(self._scripts, name), keys, arguments, read)

    def get(self, key: str | bytes) -> Call[bytes | None]:
        """Read a value."""
        return self._call("READ", key, (b"",), _read_value)

    def gets(self, key: str | bytes) -> Call[Found | None]:
        """Read a value with all that is known about it."""
        arguments = (b"1", *(b"",) * 2, self._layout.field, *(b"",) * 6, b"1", b"1")
        return self._call("META", key, arguments, _read_found)

    def store(
        self,
        mode: str,
        key: str | bytes,
        value: str | bytes,
        ttl: float | None,
        flags: int,
        compare: int | None = None,
    ) -> Call[int | None]:
        """Write a value, under the condition that the mode is."""
        if not 0 <= flags < 1 << 32:
            raise ValueError("flags are 32 bits, unsigned")
        layout = self._layout
        arguments = (
            layout.field,
            layout.encode(_bytes(value)),
            b"%d" % flags,
            *_expiry(ttl),
            mode.encode(),
            pack_number(compare),
            b"",
        )
        return self._call("STORE", key, arguments, _read_token)

    def concat(self, mode: str, key: str | bytes, piece: str | bytes) -> Call[int | None]:
        """Add to a value, behind or before it."""
        layout = self._layout
        arguments = (
            layout.field,
            layout.encode(_bytes(piece)),
            mode.encode(),
            b"%d" % _ROOM,
            b"%d" % FLAGS_OVERHEAD,
            *(b"",) * 4,
        )
        return self._call("CONCAT", key, arguments, _read_token)

    def delete(self, key: str | bytes, compare: int | None) -> Call[bool]:
        """Remove an item."""
        return self._call("DELETE", key, (pack_number(compare),), lambda reply: reply == 1)

    def touch(self, key: str | bytes, ttl: float | None) -> Call[bool]:
        """Give an item a new time to live."""
        return self._call("TOUCH", key, _expiry(ttl), lambda reply: reply != b"NF")

    def arithmetic(
        self, mode: str, key: str | bytes, delta: int, initial: int | None, ttl: float | None
    ) -> Call[int | None]:
        """Count."""
        for number in (delta, initial or 0):
            if not 0 <= number < 1 << 64:
                raise ValueError("numbers are 64 bits, unsigned")
        arguments = (
            mode.encode(),
            *(b"%d" % half for half in divmod(delta, _HALF)),
            b"",
            pack_number(initial),
            self._layout.field,
            *_expiry(ttl),
            *(b"",) * 4,
        )
        return self._call("ARITHMETIC", key, arguments, _read_counted)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _expiry(ttl: float | None) -> tuple[bytes, bytes]:
    if ttl is None:
        return b"PERSIST", b""
    milliseconds = int(ttl * 1000)
    if milliseconds > _LONGEST:
        raise ValueError("no item lives so long")
    return (b"PEXPIRE", b"%d" % milliseconds) if milliseconds > 0 else (b"UNLINK", b"")


# -- replies -----------------------------------------------------------------------------------


def _read_value(reply: Any) -> bytes | None:
    item = read_item(reply)
    if isinstance(item, Failed):
        raise UnreadableItemError(item.message)
    return None if item is None else item.value


def _read_found(reply: Any) -> Found | None:
    if reply is None:
        return None
    item = read_item((reply[0], reply[1], reply[3], reply[4]))
    if item is None or isinstance(item, Failed):
        raise UnreadableItemError("item in Redis is not readable")
    return Found(*item, None if reply[5] < 0 else reply[5])


def _read_token(reply: Any) -> int | None:
    if reply in _REFUSED:
        return None
    return read_number(reply[0] if isinstance(reply, list) else reply, 64)


def _read_counted(reply: Any) -> int | None:
    if reply == b"NN":
        raise UnreadableItemError("item is not a number")
    return None if reply == b"NF" else int(reply[0])
