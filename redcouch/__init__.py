"""RedCouch: the memcached protocols, served from Redis."""

__version__ = "0.1.0"
