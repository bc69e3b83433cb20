"""What people call the clients: names for addresses and networks, from a file."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TypeAlias

from redcouch.errors import ConfigurationError

Network: TypeAlias = IPv4Network | IPv6Network

UNIX = "unix"
"""The name of all clients that come by unix sockets."""

_REMEMBERED = 4096
"""Clients whose names are not looked up again: an open page asks for hundreds every few seconds."""


def plain_host(host: str) -> str:
    """An address as people write it: that of IPv4, where a port for both tells it as IPv6."""
    mapped = ipaddress.IPv6Address(host).ipv4_mapped if host.startswith("::ffff:") else None
    return host if mapped is None else str(mapped)


class ClientNames:
    """Names by address; of a network in another, the smaller one counts."""

    def __init__(self, path: Path | None = None) -> None:
        """
        @param path: the file; without one, nobody has a name.
        @raise ConfigurationError: it cannot be used.
        """
        self._path = path
        self._names = [] if path is None else read_names(path)
        #: What a client is called; nothing where it has no name.
        self.of = lru_cache(_REMEMBERED)(self._look_up)

    def reload(self) -> str:
        """
        Read the file again; tells what was read.

        @raise ConfigurationError: it cannot be used. The names stay as they are.
        """
        assert self._path is not None
        self._names = read_names(self._path)
        self.of.cache_clear()
        return f"{len(self._names)} names of clients from {self._path}"

    def _look_up(self, host: str) -> str:
        try:
            address = ipaddress.ip_address(plain_host(host))
        except ValueError:
            return ""
        return next((name for network, name in self._names if address in network), "")


def read_names(path: Path) -> list[tuple[Network, str]]:
    """
    The lines C{ADDRESS NAME} or C{NETWORK NAME} of a file, the smallest networks first. Empty
    lines, and those that begin with C{#}, say nothing.

    @raise ConfigurationError: it cannot be read, or says something else.
    """
    names = []
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"{path}: {why}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split(maxsplit=1)
        try:
            network = ipaddress.ip_network(words[0])
            names.append((network, words[1].strip()))
        except (ValueError, IndexError):
            raise ConfigurationError(
                f"{path}, line {number}: write an address or a network, and a name behind it"
            ) from None
    return sorted(names, key=lambda one: one[0].num_addresses)
