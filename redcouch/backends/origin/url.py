"""What is filled from where: a C{warm:} URL as a value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from redcouch.errors import ConfigurationError
from redcouch.memcached_client.address import Address, read_address, ring_of
from redcouch.memcached_client.rings import ONE_NODE, PARAMETERS, Ring
from redcouch.urls import read_seconds, redact

SCHEME = "warm:"

DEFAULT_TIMEOUT = 0.1

_OWN = ("from", "from-timeout", "ring")
_OF_NODE = ("as", "weight")

Part: TypeAlias = tuple[str, str, str]
"""A parameter of a URL: name, equals sign, value."""


@dataclass(frozen=True, slots=True)
class OriginLocation:
    """
    @ivar storage: the storage's own URL.
    @ivar parameters: what a storage's URL needs behind it to be a C{warm:} one again.
    @ivar nodes: the old memcacheds.
    @ivar timeout: seconds in which they have to answer.
    @ivar ring: which of them has a key.
    """

    storage: str
    parameters: str
    nodes: tuple[Address, ...]
    timeout: float = DEFAULT_TIMEOUT
    ring: Ring = ONE_NODE

    def around(self, storage: str) -> str:
        """The C{warm:} URL for another way to the same storage."""
        return f"{SCHEME}{storage}{'&' if '?' in storage else '?'}{self.parameters}"


def read_location(url: str) -> OriginLocation:
    """
    Understand C{warm:STORAGE?from=memcached://...}, where STORAGE is a storage
    URL with or without parameters of its own. C{from} may be given several
    times, each followed by C{as} and C{weight}; then C{ring} says which of them has a key.
    C{ring}, its parameters, and C{from-timeout} may be given once.

    @raise ConfigurationError: it is no such URL.
    """
    shown = redact(url)
    storage, _, query = url[len(SCHEME) :].partition("?")
    own, others = _divided(query)
    nodes: list[str] = []
    for name, _, value in own:
        if name == "from":
            nodes.append(value)
        elif name in _OF_NODE:
            nodes[-1] += f"{'&' if '?' in nodes[-1] else '?'}{name}={value}"
    timeouts = [value for name, _, value in own if name == "from-timeout"]
    rings = [value for name, _, value in own if name == "ring"]
    if not nodes:
        raise ConfigurationError(f"{shown}: say from where: warm:redis://host?from=memcached://old")
    if len(set(nodes)) < len(nodes) or len(timeouts) > 1 or len(rings) > 1:
        raise ConfigurationError(f"{shown}: gives the same parameter twice")
    if storage.lower().startswith(SCHEME):
        raise ConfigurationError(f"{shown}: has warm: twice; give from twice")
    addresses = tuple(map(read_address, nodes))
    ring = [*rings, *("".join(part) for part in own if part[0] in PARAMETERS)]
    return OriginLocation(
        storage + ("?" + _join(others) if others else ""),
        _join(own),
        addresses,
        read_seconds("from-timeout", timeouts[0], 60, shown) if timeouts else DEFAULT_TIMEOUT,
        ring_of(addresses, "&".join(ring) if ring else None),
    )


def _divided(query: str) -> tuple[list[Part], list[Part]]:
    """
    The parameters that belong to C{warm:}, and those of the storage. What may
    stand behind a node or with a ring does so only where there is one.
    """
    parts = [part.partition("=") for part in query.split("&")] if query else []
    own_names = {*_OWN, *(PARAMETERS if any(name == "ring" for name, _, _ in parts) else ())}
    own: list[Part] = []
    others: list[Part] = []
    for part in parts:
        if part[0] == "from":
            own_names |= {*_OF_NODE}
        (own if part[0] in own_names else others).append(part)
    return own, others


def storage_of(url: str) -> str:
    """
    The URL of the storage itself: without C{warm:} and what belongs to it.

    @raise ConfigurationError: it begins with C{warm:} and is no such URL.
    """
    return read_location(url).storage if url.lower().startswith(SCHEME) else url


def _join(parts: Iterable[Part]) -> str:
    return "&".join(map("".join, parts))
