"""What an C{embedded:} or C{embedded+cluster:} URL says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, quote_from_bytes, unquote_to_bytes

from redcouch.errors import ConfigurationError
from redcouch.urls import read_parameters, read_size, split_url

FOR_REDIS = ("prefix", "encoding", "layout", "flush", "timeout", "cache")
"""Parameters that belong to the Redis backend, and are handed on as they are."""

KNOWN = ("server", "maxmemory", *FOR_REDIS)

CLUSTER = "embedded+cluster"
"""The scheme for three masters."""

LEAST_MEMORY = 8 * 2**20
"""An empty redis-server holds 1 to 2 MiB: with less than this, little else would fit."""


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """
    @ivar directory: where the items are kept; C{None} for a temporary place.
    @ivar cluster: three masters are to be started, and not one Redis.
    @ivar server: the redis-server binary; C{None} to look for one.
    @ivar maxmemory: bytes that Redis may hold; C{None} for no limit.
    @ivar for_redis: parameters for the Redis backend.
    """

    directory: str | None = None
    cluster: bool = False
    server: str | None = None
    maxmemory: int | None = None
    for_redis: tuple[tuple[str, bytes], ...] = ()

    def redis_url(self, socket: str) -> str:
        """The URL under which the Redis backend finds the server."""
        return "redis+unix://" + quote(os.fsencode(socket)) + self._query

    def cluster_url(self, address: str) -> str:
        """The URL of the masters, of which C{address} has user, password, hosts and ports."""
        return f"redis+cluster://{address}{self._query}"

    @property
    def _query(self) -> str:
        query = "&".join(f"{name}={quote_from_bytes(value)}" for name, value in self.for_redis)
        return query and "?" + query


def parse(url: str) -> EmbeddedOptions:
    """
    Read a URL.

    @raise ConfigurationError: it is wrong.
    """
    parts = split_url(url)
    parameters = read_parameters(parts.query, KNOWN, url)
    server = parameters.get("server")
    maxmemory = parameters.get("maxmemory")
    return EmbeddedOptions(
        directory=_directory(parts),
        cluster=parts.scheme.lower() == CLUSTER,
        server=None if server is None else os.fsdecode(server),
        maxmemory=None if maxmemory is None else parse_memory(os.fsdecode(maxmemory)),
        for_redis=tuple((name, parameters[name]) for name in FOR_REDIS if name in parameters),
    )


def _directory(parts: SplitResult) -> str | None:
    if parts.netloc:
        raise ConfigurationError(
            f"embedded://{parts.netloc}{parts.path}: a directory is written with three slashes, "
            "as in embedded:///some/dir"
        )
    if parts.fragment:
        raise ConfigurationError("embedded: a # in the URL is written %23")
    path = os.fsdecode(unquote_to_bytes(parts.path))
    if not path:
        return None
    if not path.startswith("/") or "\0" in path:
        raise ConfigurationError(
            f"embedded:{parts.path}: the directory must be an absolute path, "
            "as in embedded:///some/dir"
        )
    return path


def parse_memory(text: str) -> int:
    """Bytes from what L{read_size} reads, if they are enough."""
    size = read_size(text)
    if size is None:
        raise ConfigurationError(
            f"embedded: maxmemory={text} is not a size; write it in bytes, or as 512k, 256m or 2g"
        )
    if size < LEAST_MEMORY:
        raise ConfigurationError(
            f"embedded: maxmemory={text} is too little for Redis to work in; give it 8m or more"
        )
    return size
