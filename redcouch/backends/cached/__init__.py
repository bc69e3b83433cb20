"""
Items of a Redis, or of each master of a cluster, in the bridge's own memory, with answers as
if they were not: C{?cache=64m}.

An ordinary cache near its reader is stale for a moment after each write. This one
is not, because of an order that Redis keeps (CLIENT TRACKING over RESP3): of each
key that was read over a connection, the next change is told over that connection,
before the reply to anything that is asked after the change. So for all C{get}s that
one turn of the reactor finds in memory, one PING goes to Redis, behind everything
else; what has not been told to be changed when its reply comes is what Redis held after
each of these C{get}s had arrived.

L{table} holds the items, L{connection} asks Redis to tell and listens, L{reader} reads
from one or the other, L{backend} is the layer that answers.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redcouch.backends.redis.script_codec import ScriptCodec
    from redcouch.backends.redis.url import RedisLocation
    from redcouch.interfaces import BackendContext, IStorageBackend


def make_cached(
    location: RedisLocation, codec: ScriptCodec, context: BackendContext, reactor: Any
) -> IStorageBackend:
    """The backend for a Redis or a cluster, with the layer around it; see L{make_cluster}."""
    from redcouch.backends.cached.backend import CachedBackend, ClusterReader
    from redcouch.backends.cached.connection import COUNTS, TrackedLink
    from redcouch.backends.cached.reader import CachedReader
    from redcouch.backends.cached.table import Room
    from redcouch.backends.redis.backend import RedisBackend
    from redcouch.backends.redis.cluster import make_cluster

    context.counts.update(dict.fromkeys(COUNTS, 0))
    make_link = partial(TrackedLink, room=Room(location.cache, context.counts))
    reader = CachedReader(codec, context.counts, of_nodes=location.cluster)
    inner: IStorageBackend
    if location.cluster:
        inner = cluster = make_cluster(location, codec, context, reactor, make_link)
        read = ClusterReader(reader, cluster.router, codec.layout).read
    else:
        link = make_link(location, reactor, codec.scripts)
        link.meter = context.meter
        inner = RedisBackend(link, codec, context)
        read = partial(reader.read, link)
    return CachedBackend(inner, read)
