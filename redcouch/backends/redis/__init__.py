"""
Items as Redis hashes.

C{redis://}, C{rediss://} (TLS), C{redis+unix://} and C{redis+sentinel://}:
L{location} reads the URL, L{link} keeps the connection, L{schema} knows the
layout, L{wire} packs it, L{backend} performs commands, C{scripts/} holds what
has to happen in one step. L{strings} is the other layout, in which items are plain strings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redcouch.interfaces import IStorageBackend, Surroundings


def make_backend(url: str, surroundings: Surroundings) -> IStorageBackend:
    """The backend for one of the URLs above; raises L{ConfigurationError}."""
    from redcouch.backends.redis.backend import RedisBackend
    from redcouch.backends.redis.connection import Link
    from redcouch.backends.redis.layout import StringLayout
    from redcouch.backends.redis.scripts import SCRIPTS
    from redcouch.backends.redis.string_codec import make_string_backend
    from redcouch.backends.redis.url import read_location

    location = read_location(url)
    if isinstance(location.layout, StringLayout):
        return make_string_backend(location, surroundings)
    link = Link(location, surroundings.reactor, SCRIPTS)
    link.meter = surroundings.meter
    backend: IStorageBackend = RedisBackend(link, location.layout, surroundings)
    return backend
