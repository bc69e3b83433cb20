"""Numbers as C and memcached read them, with the C library itself as the judge."""

from __future__ import annotations

import ctypes

TWO_32 = 1 << 32
TWO_63 = 1 << 63
TWO_64 = 1 << 64

BLANKS = b" \t\n\v\f\r"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.strtoull.restype = ctypes.c_ulonglong
_libc.strtoll.restype = ctypes.c_longlong


def _call(function: str, text: bytes) -> int | None:
    """What strtoull or strtoll says, C{None} where memcached takes no notice of it."""
    start = ctypes.create_string_buffer(text)
    end = ctypes.c_char_p()
    ctypes.set_errno(0)
    number: int = getattr(_libc, function)(start, ctypes.byref(end), 10)
    rest = end.value or b""
    if ctypes.get_errno() or len(rest) == len(text.partition(b"\0")[0]):
        return None
    return number if not rest or rest[:1] in BLANKS else None


def strtoull(text: bytes) -> int | None:
    """memcached's safe_strtoull, which reads counters and deltas."""
    number = _call("strtoull", text)
    if number is not None and number >= TWO_63 and b"-" in text.partition(b"\0")[0]:
        return None
    return number


def strtoll(text: bytes) -> int | None:
    """A signed number, over all 64 bits."""
    return _call("strtoll", text)


def counted(value: bytes, delta: int, decrement: bool) -> tuple[int, bytes] | None:
    """
    What incr or decr makes of a value: the number, and the bytes that are left
    in the item. C{None} for a value that is no number.
    """
    number = strtoull(value)
    if number is None:
        return None
    number = max(0, number - delta) if decrement else (number + delta) % TWO_64
    return number, (b"%d" % number).ljust(len(value))
