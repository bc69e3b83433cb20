"""What the verbs of the text dialect have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from redcouch.dialects.key_list import KeyList
from redcouch.dialects.request import Request, answered
from redcouch.limits import Limits
from redcouch.results import ErrorKind, Failed

ERROR = b"ERROR\r\n"
BAD_LINE = b"CLIENT_ERROR bad command line format\r\n"
NON_NUMERIC = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"


@dataclass(slots=True)
class DataBlock:
    """
    The line is followed by a value and CRLF.

    @ivar length: bytes of the value.
    @ivar complete: makes the request, once the value is here.
    @ivar bad_chunk: the request instead, if no CRLF stands behind the value.
    """

    length: int
    complete: Callable[[bytes], Request]
    bad_chunk: Request


@dataclass(slots=True)
class Refused:
    """The line is refused, and C{swallow} bytes behind it belong to it."""

    request: Request
    swallow: int


Parsed: TypeAlias = Request | DataBlock | Refused | KeyList
Parse: TypeAlias = Callable[[list[bytes], Limits], Parsed]
"""What a verb's tokens (the verb itself among them) mean."""


def server_error(failed: Failed) -> bytes:
    """A backend's failure, in memcached's words where it has some."""
    if failed.kind is ErrorKind.OUT_OF_MEMORY:
        return b"SERVER_ERROR out of memory storing object\r\n"
    # What a storage of one's own says may be another library's words, of several lines.
    return b"SERVER_ERROR %b\r\n" % " ".join(failed.message.split()).encode()


def reply_line(text: bytes, noreply: bool = False) -> Request:
    """A line that is answered already."""
    return answered(b"" if noreply else text)


def is_noreply(tokens: list[bytes]) -> bool:
    """memcached takes the last word for it, whichever place that has (set_noreply_maybe)."""
    return tokens[-1] == b"noreply"
