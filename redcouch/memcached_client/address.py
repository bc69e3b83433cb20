"""Where a memcached is: its URL as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from redcouch.errors import ConfigurationError
from redcouch.urls import redact

DEFAULT_PORT = 11211


@dataclass(frozen=True, slots=True)
class Address:
    """
    @ivar shown: the URL, for people; without its password.
    @ivar socket: the path of its unix socket, in place of host and port.
    """

    shown: str
    host: str = ""
    port: int = 0
    socket: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def read_address(url: str) -> Address:
    """
    Understand C{memcached://[user:password@]host[:port]} and
    C{memcached://[user:password@]/path/to/socket}, percent-encoded where need be.

    @raise ConfigurationError: it is neither.
    """
    shown = redact(url)
    forms = f"{shown}: write memcached://host:port or memcached:///path/to/socket"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(forms) from None
    if parts.scheme.lower() != "memcached" or parts.query or parts.fragment or port == 0:
        raise ConfigurationError(forms)
    if (parts.username is None) != (parts.password is None):
        raise ConfigurationError(f"{shown}: write user:password@")
    username = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    path = unquote(parts.path)
    if not parts.hostname and port is None and path.strip("/"):
        return Address(shown, socket=path, username=username, password=password)
    if not parts.hostname or path.strip("/"):
        raise ConfigurationError(forms)
    host = unquote(parts.hostname)
    return Address(shown, host, port or DEFAULT_PORT, username=username, password=password)
