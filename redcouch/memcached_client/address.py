"""Where memcacheds are: their URLs as values, and which of them has a key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from redcouch.errors import ConfigurationError
from redcouch.memcached_client.rings import (
    ONE_NODE,
    SCHEMES,
    Ring,
    RingNode,
    make_ring,
    read_member,
    read_ring,
)
from redcouch.urls import redact

DEFAULT_PORT = 11211


@dataclass(frozen=True, slots=True)
class Address:
    """
    @ivar shown: the URL, for people; without its password.
    @ivar socket: the path of its unix socket, in place of host and port.
    @ivar alias: the name that clients have for it, where that is another one.
    """

    shown: str
    host: str = ""
    port: int = 0
    socket: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    alias: str | None = None
    weight: int = 1

    @property
    def ring_node(self) -> RingNode:
        """What it is to its clients' ring."""
        name = self.alias or self.socket or f"{self.host}:{self.port}"
        return RingNode(name, self.weight)


def read_address(url: str) -> Address:
    """
    Understand C{memcached://[user:password@]host[:port]} and
    C{memcached://[user:password@]/path/to/socket}, percent-encoded where need be; behind
    it, C{?} and what L{read_member} reads.

    @raise ConfigurationError: it is neither.
    """
    shown = redact(url).partition("?")[0]
    forms = f"{shown}: write memcached://host:port or memcached:///path/to/socket"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(forms) from None
    if parts.scheme.lower() != "memcached" or parts.fragment or port == 0:
        raise ConfigurationError(forms)
    if (parts.username is None) != (parts.password is None):
        raise ConfigurationError(f"{shown}: write user:password@")
    username = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    path = unquote(parts.path)
    try:
        alias, weight = read_member(parts.query)
    except ConfigurationError as error:
        raise ConfigurationError(f"{shown}: {error}") from None
    if not parts.hostname and port is None and path.strip("/"):
        return Address(shown, "", 0, path, username, password, alias, weight)
    if not parts.hostname or path.strip("/"):
        raise ConfigurationError(forms)
    # In the case in which it is written, which parts.hostname has not: the clients' ring hashes it.
    host = unquote(re.sub(r":\d*$", "", parts.netloc.rpartition("@")[2]).strip("[]"))
    try:
        host.encode("idna")
    except UnicodeError:  # it can be none, as a..b
        raise ConfigurationError(forms) from None
    return Address(shown, host, port or DEFAULT_PORT, None, username, password, alias, weight)


def ring_of(addresses: Sequence[Address], scheme: str | None) -> Ring:
    """
    Which of these has a key.

    @param scheme: as L{read_ring} reads it; there has to be one where there are several.
    @raise ConfigurationError: there is none, or it does not go with these.
    """
    if scheme is not None:
        return make_ring(read_ring(scheme), [address.ring_node for address in addresses])
    if len(addresses) > 1:
        raise ConfigurationError(
            "of several memcacheds, each has a part of the keys: say by which ring the clients "
            "divide them (ring=SCHEME in a URL, --ring SCHEME for a command; docs/rings.md); "
            f"the schemes are {', '.join(SCHEMES)}"
        )
    for address in addresses:
        if address.alias is not None or address.weight != 1:
            raise ConfigurationError(
                f"{address.shown}: as= and weight= belong to a ring, see ring="
            )
    return ONE_NODE
