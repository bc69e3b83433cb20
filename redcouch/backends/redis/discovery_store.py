"""
How the number of the list of advertised nodes stands in Redis.

A hash, C{redcouch:sys:advertised:<prefix>}: C{base} is the time (UNIX, in seconds) at which
the first list was written, and C{1}, C{2}, ... are the lists that there have been. The number
of the N-th is C{base + N}: so it counts up by one, and goes on counting up where the hash was
lost. Each field is written once, by whoever comes first: so all who write at once agree.
"""

from __future__ import annotations

from typing import Any

from redcouch.backends.redis.replies import read_hash, unexpected
from redcouch.backends.redis.scripts import write
from redcouch.backends.redis.usage_store import Asks

_BASE = b"base"


async def list_version(asks: Asks, key: bytes, nodes: bytes, now: int) -> int:
    """
    The number of this list, which becomes the last one if it is not. Raises
    L{BackendError<redcouch.errors.BackendError>}.
    """
    await asks.ask(*write(key, b"HSETNX", _BASE, b"%d" % now))
    while True:
        base, lists = _read(await asks.ask(b"HGETALL", key))
        last = max(lists, default=0)
        if lists.get(last) == nodes:
            return base + last
        await asks.ask(*write(key, b"HSETNX", b"%d" % (last + 1), nodes))
        earlier = [b"%d" % place for place in lists if place < last]
        if earlier:
            await asks.ask(b"HDEL", key, *earlier)


def _read(reply: Any) -> tuple[int, dict[int, bytes]]:
    """The base, and the lists by their place. Raises L{BackendError}."""
    fields = read_hash(reply)
    try:
        base = int(fields.pop(_BASE))
        return base, {int(place): nodes for place, nodes in fields.items()}
    except (KeyError, ValueError):
        raise unexpected(reply) from None
