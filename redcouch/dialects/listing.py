"""
Lists of the items, as tools ask for them: C{stats cachedump}, C{lru_crawler
metadump} and C{mgdump}.

They come in pages, each a request that the one before it leads to: so a list
of any length takes no more memory than a page, and goes no faster than the
client reads. All items are in slab class 1, as far as a bridge knows.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from urllib.parse import quote_from_bytes

from redcouch.commands import Dump
from redcouch.dialects.block import Parsed, server_error
from redcouch.dialects.request import Request, answered
from redcouch.limits import FLAGS_OVERHEAD, ITEM_OVERHEAD, Limits
from redcouch.numbers import unsigned_32
from redcouch.results import Failed, Listed, ListedPage

_CLASSES = 64
_MOST_CACHEDUMP = 2 * 1024 * 1024
"""Bytes at which memcached's C{stats cachedump} stops."""

_BAD_LINE = b"CLIENT_ERROR bad command line\r\n"
_BAD_CLASS = b"BADCLASS invalid class id\r\n"


@dataclass
class _Listing:
    """
    One answer, page by page.

    @ivar left: how many items may still be listed.
    @ivar room: how many bytes of them.
    """

    _say: Callable[[Listed, float], bytes]
    _end: bytes
    left: float = inf
    room: float = inf
    _over: bool = False

    def request(self, cursor: bytes = b"") -> Request:
        """The request for the page at this cursor."""
        return Request(Dump(cursor), self._encode, self._follow)

    def _encode(self, page: ListedPage | Failed) -> bytes:
        if isinstance(page, Failed):
            self._over = True
            return server_error(page)
        lines = []
        for item in page.items:
            line = self._say(item, page.now)
            if self.left < 1 or len(line) > self.room:
                self._over = True
                break
            if line:
                self.left -= 1
                self.room -= len(line)
                lines.append(line)
        if self._over or not page.cursor:
            self._over = True
            lines.append(self._end)
        return b"".join(lines)

    def _follow(self, page: ListedPage) -> Request | None:
        return None if self._over else self.request(page.cursor)


def item_size(item: Listed) -> int:
    """Bytes that memcached would count for the item."""
    flags = FLAGS_OVERHEAD if item.flags else 0
    return ITEM_OVERHEAD + len(item.key) + flags + item.size


def _is_printable(key: bytes) -> bool:
    return all(32 < code < 127 or code > 127 for code in key)


def _metadump_line(item: Listed, now: float) -> bytes:
    return b"key=%b exp=%d la=%d cas=%d fetch=%b cls=1 size=%d flags=%d\n" % (
        quote_from_bytes(item.key, safe="~").encode(),
        -1 if item.ttl is None else int(now) + item.ttl,
        int(now) - item.idle,
        item.cas,
        b"yes" if item.fetched else b"no",
        item_size(item),
        item.flags,
    )


def _mgdump_line(item: Listed, now: float) -> bytes:
    if _is_printable(item.key):
        return b"mg %b\r\n" % item.key
    return b"mg %b b\r\n" % b64encode(item.key)


def _cachedump_line(item: Listed, now: float) -> bytes:
    """A key that would break the line has no place in this list; memcached leaves it out too."""
    if not _is_printable(item.key):
        return b""
    expires = 0 if item.ttl is None else int(now) + item.ttl
    return b"ITEM %b [%d b; %d s]\r\n" % (item.key, item.size, expires)


def parse_cachedump(tokens: list[bytes], limits: Limits) -> Parsed:
    """C{stats cachedump <class> <most>}: 0 for all, up to 2 MiB of lines."""
    if not limits.dump:
        return answered(b"CLIENT_ERROR stats cachedump not allowed\r\n")
    if len(tokens) < 4:
        return answered(_BAD_LINE)
    wanted, most = unsigned_32(tokens[2]), unsigned_32(tokens[3])
    if wanted is None or most is None:
        return answered(b"CLIENT_ERROR bad command line format\r\n")
    if wanted >= _CLASSES:
        return answered(b"CLIENT_ERROR Illegal slab id\r\n")
    if wanted != 1:
        return answered(b"END\r\n")
    end = b"END\r\n"
    room = _MOST_CACHEDUMP - len(end) - 1
    return _Listing(_cachedump_line, end, most or inf, room).request()


def parse_crawl(tokens: list[bytes], limits: Limits) -> Parsed:
    """C{lru_crawler metadump|mgdump <all|hash|classes>}."""
    classes = tokens[2]
    say, end, what = _CRAWLS[tokens[1]]
    if not limits.dump:
        return answered(b"ERROR %b not allowed\r\n" % what)
    if classes not in (b"all", b"hash"):
        wanted = [unsigned_32(word) for word in classes.split(b",") if word]
        if not wanted or not all(one is not None and 1 <= one < _CLASSES for one in wanted):
            return answered(_BAD_CLASS)
        if 1 not in wanted:
            return answered(end)
    return _Listing(say, end).request()


_CRAWLS = {
    b"metadump": (_metadump_line, b"END\r\n", b"metadump"),
    b"mgdump": (_mgdump_line, b"EN\r\n", b"key dump"),
}
