"""
The list of a memcached's keys.

It is written to a temporary file as fast as memcached gives it, for two reasons:
memcached's crawler does nothing else meanwhile, and no list has to fit into memory.

From memcached's doc/protocol.txt, "LRU_Crawler": C{lru_crawler metadump hash|all} gives lines
C{key=<percent-encoded> exp=<UNIX time, or -1> ...} up to C{END}; C{mgdump} gives C{mg <key>},
or C{mg <base64> b} for a key that text cannot say, up to C{EN}. C{hash} walks the hash table;
C{all} walks the lists by which items are evicted, and can miss one that changes lists meanwhile.
"""

from __future__ import annotations

import re
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from tempfile import TemporaryFile
from urllib.parse import quote_from_bytes, unquote_to_bytes

from redcouch.limits import is_key
from redcouch.memcached_client.blocking_client import BlockingClient, show
from redcouch.memcached_client.protocol import Reply

NEVER = -1
UNKNOWN = -2

BUSY_SECONDS = 60.0
"""How long to wait for a crawler that works for somebody else."""

_BUSY_PAUSE = 0.5

_EXPIRY = re.compile(rb"-1|[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class ListedKey:
    """
    @ivar expires: UNIX time by memcached's clock, L{NEVER}, or L{UNKNOWN}.
    """

    key: bytes
    expires: int


class ListedKeys:
    """Keys in a temporary file. Use it in a C{with} statement."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._count = 0

    def __enter__(self) -> ListedKeys:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def rewind(self) -> None:
        """Write what is not written yet, and go to the first."""
        self._file.seek(0)

    def add(self, entry: ListedKey) -> None:
        self._file.write(b"%d %s\n" % (entry.expires, quote_from_bytes(entry.key).encode()))
        self._count += 1

    def __iter__(self) -> Iterator[ListedKey]:
        self.rewind()
        for line in self._file:
            expires, _, key = line.rstrip(b"\n").partition(b" ")
            yield ListedKey(unquote_to_bytes(key), int(expires))


@dataclass(frozen=True, slots=True)
class _Form:
    """A way to ask for the list, and to read it."""

    request: bytes
    end: bytes
    read: Callable[[Reply], ListedKey | None]


def _read_metadump(reply: Reply) -> ListedKey | None:
    fields = dict(word.partition(b"=")[::2] for word in (reply.code, *reply.words))
    expires = fields.get(b"exp", b"")
    if _EXPIRY.fullmatch(expires) is None:
        return None
    return _entry(unquote_to_bytes(fields.get(b"key", b"")), int(expires))


def _entry(key: bytes, expires: int) -> ListedKey | None:
    return ListedKey(key, expires) if is_key(key) else None


def _read_mgdump(reply: Reply) -> ListedKey | None:
    try:
        match reply.code, *reply.words:
            case [b"mg", key]:
                return _entry(key, UNKNOWN)
            case [b"mg", key, b"b"]:
                return _entry(b64decode(key, validate=True), UNKNOWN)
    except ValueError:
        pass
    return None


_FORMS = (
    _Form(b"lru_crawler metadump hash", b"END", _read_metadump),
    _Form(b"lru_crawler metadump all", b"END", _read_metadump),
    _Form(b"lru_crawler mgdump hash", b"EN", _read_mgdump),
    _Form(b"lru_crawler mgdump all", b"EN", _read_mgdump),
)

_REFUSALS = frozenset((b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR", b"BADCLASS", b"BUSY"))


def list_keys(connection: BlockingClient, stopped: Callable[[], bool]) -> ListedKeys:
    """
    Every key that memcached has, for the caller to close. What is left out of a
    list that is stopped is not in it.

    @raise ServerError: memcached gives no such list, or breaks off.
    """
    refusal = ""
    for form in _FORMS:
        first, lines = _ask(connection, form.request, stopped)
        if first.code not in _REFUSALS:
            try:
                return _read(connection, form, chain([first], lines), stopped)
            except OSError as error:  # not of the connection, whose errors are faults
                raise connection.fault(
                    f"no room for the list of its keys (TMPDIR): {error}"
                ) from None
        refusal = show(first)
    raise connection.fault(f"gives no list of its keys (lru_crawler metadump): {refusal}")


def _ask(
    connection: BlockingClient, request: bytes, stopped: Callable[[], bool]
) -> tuple[Reply, Iterator[Reply]]:
    """The first line of the answer, and the others, once the crawler has time."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        lines = connection.ask_lines(request)
        first = next(lines)
        if first.code != b"BUSY" or stopped() or time.monotonic() > deadline:
            return first, lines
        time.sleep(_BUSY_PAUSE)


def _read(
    connection: BlockingClient, form: _Form, lines: Iterable[Reply], stopped: Callable[[], bool]
) -> ListedKeys:
    keys = ListedKeys()
    try:
        for reply in lines:
            entry = form.read(reply)
            if entry is not None:
                keys.add(entry)
            elif reply.code != b"OK" and reply.line != form.end:  # some begin with OK
                raise connection.fault(f"cannot read the list of its keys: {show(reply)}")
            if stopped():
                break
        keys.rewind()
    except BaseException:
        keys.__exit__()
        raise
    return keys
