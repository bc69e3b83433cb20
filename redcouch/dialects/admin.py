"""
The verbs of the text dialect for who looks after a cache: line to request.

A bridge has no slabs, no LRU and no memory of its own. Where it has nothing to do, the
answer is in words that memcached itself has for a server where the thing is switched off
or cannot be done.
"""

from __future__ import annotations

from functools import partial

from redcouch.commands import Discover, LimitMemory, ResetStatistics, Statistics
from redcouch.dialects import listing
from redcouch.dialects.block import (
    BAD_LINE,
    ERROR,
    Parse,
    Parsed,
    is_noreply,
    reply_line,
    server_error,
)
from redcouch.dialects.request import DISCOVERY_KEY, Request, answered, silent
from redcouch.limits import Limits
from redcouch.numbers import unsigned_32
from redcouch.results import Failed


def _encode_statistics(result: list[tuple[bytes, bytes]] | Failed | None) -> bytes:
    if result is None:
        return ERROR
    if isinstance(result, Failed):
        return server_error(result)
    return b"".join(b"STAT %b %b\r\n" % pair for pair in result) + b"END\r\n"


def _parse_stats(tokens: list[bytes], limits: Limits) -> Parsed:
    group = tokens[1] if len(tokens) > 1 else b""
    if group == b"reset":
        return Request(ResetStatistics(), lambda _: b"RESET\r\n")
    if group == b"detail":
        return _parse_stats_detail(tokens)
    if group == b"cachedump":
        return listing.parse_cachedump(tokens, limits)
    return Request(Statistics(group), _encode_statistics)


def _parse_verbosity(tokens: list[bytes], limits: Limits) -> Parsed:
    if len(tokens) not in (2, 3):
        return answered(ERROR)
    noreply = is_noreply(tokens)
    known = unsigned_32(tokens[1]) is not None
    return reply_line(b"OK\r\n" if known else BAD_LINE, noreply)


def _parse_stats_detail(tokens: list[bytes]) -> Parsed:
    word = tokens[2] if len(tokens) > 2 else b""
    if word not in (b"on", b"off", b"dump"):
        return answered(b"CLIENT_ERROR usage: stats detail on|off|dump\r\n")
    return Request(Statistics(b"detail " + word), _encode_detail)


def _encode_detail(result: list[tuple[bytes, bytes]] | Failed) -> bytes:
    if isinstance(result, Failed):
        return server_error(result)
    return b"".join(value for _, value in result) or b"OK\r\n"


def _parse_shutdown(tokens: list[bytes], limits: Limits) -> Parsed:
    return answered(b"ERROR: shutdown not enabled\r\n")


def _parse_cache_memlimit(tokens: list[bytes], limits: Limits) -> Parsed:
    if len(tokens) not in (2, 3):
        return answered(ERROR)
    noreply = is_noreply(tokens)
    megabytes = unsigned_32(tokens[1])
    if megabytes is None:
        return reply_line(ERROR, noreply)
    if megabytes < 8:
        text = b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"
    elif megabytes > 1000000000:
        text = b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n"
    else:
        return Request(LimitMemory(megabytes), silent if noreply else _encode_limited)
    return reply_line(text, noreply)


def _encode_limited(result: bool | Failed) -> bytes:
    if result is True:
        return b"OK\r\n"
    return b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n"


def _parse_slabs(tokens: list[bytes], limits: Limits) -> Parsed:
    if len(tokens) == 4 and tokens[1] == b"reassign":
        return answered(b"CLIENT_ERROR slab reassignment disabled\r\n")
    if len(tokens) >= 3 and tokens[1] == b"automove" and tokens[2] != b"ratio":
        level = unsigned_32(tokens[2])
        text = BAD_LINE if level is None else b"OK\r\n" if level == 0 else ERROR
        return reply_line(text, is_noreply(tokens))
    return answered(ERROR)


def _parse_lru(tokens: list[bytes], limits: Limits) -> Parsed:
    return reply_line(ERROR, len(tokens) > 1 and is_noreply(tokens))


def _parse_lru_crawler(tokens: list[bytes], limits: Limits) -> Parsed:
    word = tokens[1] if len(tokens) > 1 else b""
    if len(tokens) == 3 and word == b"crawl":
        return answered(b"CLIENT_ERROR lru crawler disabled\r\n")
    if len(tokens) == 3 and word in (b"metadump", b"mgdump"):
        return listing.parse_crawl(tokens, limits)
    if len(tokens) == 2 and word == b"enable":
        return answered(b"ERROR failed to start lru crawler thread\r\n")
    if len(tokens) == 2 and word == b"disable":
        return answered(b"OK\r\n")
    return answered(ERROR)


def _parse_watch(tokens: list[bytes], limits: Limits) -> Parsed:
    return reply_line(b"CLIENT_ERROR watch commands not allowed\r\n", is_noreply(tokens))


def _encode_nodes(name: bytes, result: bytes | Failed) -> bytes:
    if isinstance(result, Failed):
        return server_error(result)
    return b"%b 0 %d\r\n%b\r\nEND\r\n" % (name, len(result), result)


def _parse_config(tokens: list[bytes], limits: Limits) -> Parsed:
    if not limits.discovery or len(tokens) != 3 or tokens[1] != b"get":
        return answered(ERROR)
    if tokens[2] != b"cluster":
        return answered(b"END\r\n")
    return Request(Discover(), partial(_encode_nodes, b"CONFIG cluster"))


def get_nodes() -> Request:
    """C{get} of L{DISCOVERY_KEY}."""
    return Request(Discover(), partial(_encode_nodes, b"VALUE " + DISCOVERY_KEY))


VERBS: dict[bytes, Parse] = {
    b"config": _parse_config,
    b"verbosity": _parse_verbosity,
    b"stats": _parse_stats,
    b"shutdown": _parse_shutdown,
    b"cache_memlimit": _parse_cache_memlimit,
    b"slabs": _parse_slabs,
    b"lru": _parse_lru,
    b"lru_crawler": _parse_lru_crawler,
    b"watch": _parse_watch,
}
