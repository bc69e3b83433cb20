"""
C{warm:}, any other storage, filled from old memcacheds while clients use it.

C{warm:redis://host?from=memcached://old:11211} is C{redis://host}, but what is
not there is looked for in the old memcached, answered, and stored; and whatever
changes there changes in the old memcached too. So nobody begins with a cold
cache, nothing that was deleted comes back, and clients can go back to the old
memcached at any moment.

L{location} reads the URL. L{wire} speaks memcached's meta commands, L{node}
keeps a connection, L{old} joins several. L{pull} brings items over, L{echo}
says what a change means for the old side, L{backend} joins all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redcouch.interfaces import IStorageBackend, Surroundings


def make_backend(url: str, surroundings: Surroundings) -> IStorageBackend:
    """
    A backend that is not started yet.

    @raise redcouch.errors.ConfigurationError: the URL is wrong, or its storage
        cannot be filled.
    """
    from redcouch.backends.origin.backend import warm
    from redcouch.backends.origin.url import read_location
    from redcouch.backends.registry import make_backend as make_inner

    location = read_location(url)
    return warm(make_inner(location.storage, surroundings), location, surroundings)
