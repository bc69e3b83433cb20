"""Where a memcached is: its URL as a value."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from redcouch.errors import ConfigurationError

DEFAULT_PORT = 11211


@dataclass(frozen=True, slots=True)
class Address:
    """
    @ivar shown: the URL, for people.
    @ivar socket: the path of its unix socket, in place of host and port.
    """

    shown: str
    host: str = ""
    port: int = 0
    socket: str | None = None


def read_address(url: str) -> Address:
    """
    Understand C{memcached://host[:port]} and C{memcached:///path/to/socket}.

    @raise ConfigurationError: it is neither.
    """
    forms = f"{url}: write memcached://host:port or memcached:///path/to/socket"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(forms) from None
    if parts.scheme.lower() != "memcached" or parts.query or parts.fragment or port == 0:
        raise ConfigurationError(forms)
    if "@" in parts.netloc:
        raise ConfigurationError(f"{parts.scheme}://{parts.hostname}: passwords are not supported")
    if not parts.netloc and parts.path.strip("/"):
        return Address(url, socket=unquote(parts.path))
    if not parts.hostname or parts.path.strip("/"):
        raise ConfigurationError(forms)
    return Address(url, unquote(parts.hostname), port or DEFAULT_PORT)
