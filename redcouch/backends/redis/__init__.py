"""
Items in Redis.

C{redis://}, C{rediss://} (TLS), C{redis+unix://}, C{redis+sentinel://} (or C{rediss+}), and a
L{cluster}: L{url} reads the URL, L{connection} keeps the connection, L{layout}
knows how items stand in Redis. A codec packs commands and reads their replies
(L{hash_codec}, L{string_codec}, and L{script_codec} for what they have in
common), L{backend} performs them, L{recovery} finishes what one round trip has
not, L{admin} does what concerns all items, and C{scripts/} holds what has to
happen in one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redcouch.errors import ConfigurationError

if TYPE_CHECKING:
    from redcouch.backends.redis.layout import Layout
    from redcouch.backends.redis.script_codec import ScriptCodec
    from redcouch.interfaces import BackendContext, IStorageBackend

_LARGEST = 512 * 1024 * 1024
"""Bytes that Redis takes in one value (proto-max-bulk-len); for more it closes the connection."""


def make_backend(url: str, context: BackendContext) -> IStorageBackend:
    """The backend for one of the URLs above; raises L{ConfigurationError}."""
    from redcouch.backends.redis.backend import RedisBackend
    from redcouch.backends.redis.connection import RedisConnection
    from redcouch.backends.redis.url import read_location

    location = read_location(url)
    codec = make_codec(location.layout, context)
    if location.cache:
        from redcouch.backends.cached import make_cached

        return make_cached(location, codec, context, context.reactor)
    if location.cluster:
        from redcouch.backends.redis.cluster import make_cluster

        return make_cluster(location, codec, context, context.reactor)
    link = RedisConnection(location, context.reactor, codec.scripts)
    link.meter = context.meter
    return RedisBackend(link, codec, context)


def make_codec(layout: Layout, context: BackendContext) -> ScriptCodec:
    """
    What packs and reads commands on items of this layout.

    @raise ConfigurationError: Redis does not take items as large as clients may send.
    """
    from redcouch.backends.redis.hash_codec import HashCodec
    from redcouch.backends.redis.layout import StringLayout
    from redcouch.backends.redis.string_codec import StringCodec

    if context.limits.max_item_size > (_LARGEST if layout.raw else _LARGEST // 2):
        raise ConfigurationError(
            "Redis takes items up to 256m in hex, 512m with encoding=raw: lower --max-item-size"
        )
    if isinstance(layout, StringLayout):
        return StringCodec(layout, context)
    return HashCodec(layout, context)
