"""
Items of one Redis in the bridge's own memory, with answers as if they were not:
C{?cache=64m}.

An ordinary cache near its reader is stale for a moment after each write. This one
is not, because of an order that Redis keeps (CLIENT TRACKING over RESP3): of each
key that was read over a connection, the next change is told over that connection,
before the reply to anything that is asked after the change. So for all C{get}s that
one turn of the reactor finds in memory, one PING goes to Redis, behind everything
else; what is still in memory when its reply comes is what Redis held after each of
these C{get}s had arrived.

L{table} holds the items, L{connection} asks Redis to tell and listens, L{backend}
is the layer that answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redcouch.backends.redis.script_codec import ScriptCodec
    from redcouch.backends.redis.url import RedisLocation
    from redcouch.interfaces import BackendContext, IStorageBackend


def make_cached(
    location: RedisLocation, codec: ScriptCodec, context: BackendContext
) -> IStorageBackend:
    """The Redis backend, with the layer around it."""
    from redcouch.backends.cached.backend import CachedBackend
    from redcouch.backends.cached.connection import TrackedLink
    from redcouch.backends.redis.backend import RedisBackend

    link = TrackedLink(location, context.reactor, codec.scripts, context.counts)
    link.meter = context.meter
    backend: IStorageBackend = CachedBackend(RedisBackend(link, codec, context), link, codec)
    return backend
