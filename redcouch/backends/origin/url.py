"""What is filled from where: a C{warm:} URL as a value."""

from __future__ import annotations

from dataclasses import dataclass

from redcouch.errors import ConfigurationError
from redcouch.memcached_client.address import Address, read_address
from redcouch.urls import redact

SCHEME = "warm:"

DEFAULT_TIMEOUT = 0.1

_OWN = ("from", "from-timeout")


@dataclass(frozen=True, slots=True)
class Location:
    """
    @ivar storage: the storage's own URL.
    @ivar parameters: what a storage's URL needs behind it to be a C{warm:} one again.
    @ivar nodes: the old memcacheds.
    @ivar timeout: seconds in which they have to answer.
    """

    storage: str
    parameters: str
    nodes: tuple[Address, ...]
    timeout: float = DEFAULT_TIMEOUT

    def around(self, storage: str) -> str:
        """The C{warm:} URL for another way to the same storage."""
        return f"{SCHEME}{storage}{'&' if '?' in storage else '?'}{self.parameters}"


def read_location(url: str) -> Location:
    """
    Understand C{warm:STORAGE?from=memcached://...}, where STORAGE is a storage
    URL with or without parameters of its own; C{from} may be given several
    times, C{from-timeout} once.

    @raise ConfigurationError: it is no such URL.
    """
    shown = redact(url)
    storage, _, query = url[len(SCHEME) :].partition("?")
    parts = [part.partition("=") for part in query.split("&")] if query else []
    own = [part for part in parts if part[0] in _OWN]
    others = [part for part in parts if part[0] not in _OWN]
    nodes = [value for name, _, value in own if name == "from"]
    timeouts = [value for name, _, value in own if name == "from-timeout"]
    if not nodes:
        raise ConfigurationError(f"{shown}: say from where: warm:redis://host?from=memcached://old")
    if len(set(nodes)) < len(nodes) or len(timeouts) > 1:
        raise ConfigurationError(f"{shown}: gives the same parameter twice")
    if storage.lower().startswith(SCHEME):
        raise ConfigurationError(f"{shown}: has warm: twice; give from twice")
    return Location(
        storage + ("?" + _join(others) if others else ""),
        _join(own),
        tuple(map(read_address, nodes)),
        _read_timeout(timeouts[0], shown) if timeouts else DEFAULT_TIMEOUT,
    )


def storage_of(url: str) -> str:
    """
    The URL of the storage itself: without C{warm:} and what belongs to it.

    @raise ConfigurationError: it begins with C{warm:} and is no such URL.
    """
    return read_location(url).storage if url.lower().startswith(SCHEME) else url


def _join(parts: list[tuple[str, str, str]]) -> str:
    return "&".join(map("".join, parts))


def _read_timeout(text: str, shown: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.01 <= seconds <= 60:
        raise ConfigurationError(f"{shown}: from-timeout has to be seconds, from 0.01 to 60")
    return seconds
