"""
Items in a Redis Cluster: C{redis+cluster://} and C{rediss+cluster://}.

L{slots} knows the slot of each key, L{topology} which master serves it,
L{router} sends there and asks again where the cluster says to. L{backend}
splits a batch and puts its results together, L{admin} does what concerns all
nodes. L{fills} fills in items from another cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redcouch.backends.redis.cluster.backend import ClusterBackend
    from redcouch.backends.redis.connection import RedisConnection
    from redcouch.backends.redis.script_codec import ScriptCodec
    from redcouch.backends.redis.url import RedisLocation
    from redcouch.interfaces import BackendContext


def make_cluster(
    location: RedisLocation,
    codec: ScriptCodec,
    context: BackendContext,
    reactor: Any,
    *make_link: Callable[..., RedisConnection],
) -> ClusterBackend:
    """The backend for a cluster, whose connections use this reactor, made as L{Router} has it."""
    from redcouch.backends.redis.cluster.backend import ClusterBackend
    from redcouch.backends.redis.cluster.router import Router
    from redcouch.backends.redis.scripts import CLUSTER_SCRIPTS

    router = Router(location, reactor, CLUSTER_SCRIPTS, context.counts, context.meter, *make_link)
    return ClusterBackend(router, codec, context)
