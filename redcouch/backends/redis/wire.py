"""
Commands as Redis reads them (RESP), packed fast.

A request spends more time here than it seems: a generic packer looks at each
argument's type and joins many small pieces. These templates are filled with
one C{%} each. hiredis packs what is rare.
"""

from __future__ import annotations

from collections.abc import Callable

import hiredis

from redcouch.backends.redis.schema import CAS_COUNTER
from redcouch.backends.redis.scripts import Script


def bulk(argument: bytes) -> bytes:
    """One argument."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def pack_command(arguments: tuple[bytes, ...]) -> bytes:
    """Any command, by the long way."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]
    return packed


def _escape(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")


def pack_hmget(prefix: bytes, fields: tuple[bytes, ...]) -> Callable[[bytes], bytes]:
    """A function from an item's key (without prefix) to HMGET of these fields."""
    length = len(prefix)
    template = (
        b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(fields))
        + b"$%d\r\n"
        + _escape(prefix)
        + b"%b\r\n"
        + _escape(b"".join(map(bulk, fields)))
    )

    def pack(key: bytes) -> bytes:
        return template % (length + len(key), key)

    return pack


def pack_script(prefix: bytes, script: Script, arguments: int) -> Callable[..., bytes]:
    """
    A function from an item's key (without prefix) and this many arguments to
    EVALSHA of a script on that item and the CAS counter.
    """
    length = len(prefix)
    template = (
        b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n2\r\n" % (5 + arguments, script.sha)
        + b"$%d\r\n"
        + _escape(prefix)
        + b"%b\r\n"
        + _escape(bulk(CAS_COUNTER))
        + b"$%d\r\n%b\r\n" * arguments
    )

    def pack(key: bytes, *given: bytes) -> bytes:
        sized = [length + len(key), key]
        for argument in given:
            sized.append(len(argument))
            sized.append(argument)
        return template % tuple(sized)

    return pack
