"""What the verbs of the text dialect have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from redcouch.dialects.key_list import KeyList
from redcouch.dialects.request import Request
from redcouch.limits import Limits
from redcouch.results import Failed, Trouble


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
    if failed.trouble is Trouble.OUT_OF_MEMORY:
        return b"SERVER_ERROR out of memory storing object\r\n"
    return b"SERVER_ERROR %b\r\n" % failed.message.encode()
