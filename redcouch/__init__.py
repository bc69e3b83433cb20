"""RedCouch: the memcached protocols, served from Redis."""

__version__ = "0.1.0"

MEMCACHED_VERSION = "1.6.38"
"""The release of memcached whose behaviour clients find here."""
