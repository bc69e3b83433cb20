"""What the URLs of storages and memcacheds have in common: parameters, and passwords."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from urllib.parse import SplitResult, parse_qsl, unquote, unquote_to_bytes, urlsplit

from redcouch.errors import ConfigurationError

DEFAULT_STORAGE = "redis://127.0.0.1:6379/0"
STORAGE_VARIABLE = "REDCOUCH_STORAGE"

_AUTHORITY = re.compile(r"([^:/?#]*:)?//([^/?#]*)(.*)", re.DOTALL)
_HOST = re.compile(
    r"(?:\[(?P<ipv6>[^][]+)\]|(?P<name>[^][:@/?#]*))(?::(?P<port>[0-9]*))?", re.ASCII
)
_NODE = re.compile(r"(?:\[([^][]+)\]|([a-z0-9_.-]+)):([0-9]{1,5})", re.ASCII | re.IGNORECASE)
_LABELS = re.compile(r"(?!.*\.\.)[^.-][^.]{0,62}(\.[^.]{1,63})*\.?")
_BEGINNING = re.compile(r"(warm:)?([a-z0-9+.-]*(:|(?=//)))?[/\\]*", re.IGNORECASE)
_PASSWORD_PARAMETER = re.compile(r"([?&][a-z_-]*password=)[^&]*", re.IGNORECASE)


_SIZE = re.compile(r"([0-9]{1,18})([kmg]?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def redact(url: str) -> str:
    """The URL as it may be shown: with C{***} for each password."""
    if url.lower().startswith("warm:"):  # which has URLs in its parameters
        first, *others = re.split("(?<=[?&]from=)", url, flags=re.IGNORECASE)
        return _redact_one(first) + "".join(
            _redact_one(other) if "//" in other else "***" for other in others
        )
    return _redact_one(url)


def _redact_one(url: str) -> str:
    """Also where it is none, for want of a slash or of the scheme."""
    rest = _BEGINNING.sub("", url, count=1)
    beginning = url.removesuffix(rest)
    end = _end_of_password(rest)
    if end >= 0 and (":" in rest[:end] or not beginning.endswith("///")):  # or it is a path
        user, colon, _ = rest[:end].partition(":")
        rest = (f"{user}:***" if colon else "***") + rest[end:]
    return _PASSWORD_PARAMETER.sub(r"\1***", beginning + rest)


def _end_of_password(rest: str) -> int:
    """
    Where the @ behind user and password is, or -1. A password in which / ? or
    @ is not escaped makes no URL, but it is a password all the same: so with a
    colon it is the very last @, and without one it is that of the user.
    """
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    return rest.rfind("@") if ":" in authority else authority.rfind("@")


def split_url(url: str) -> SplitResult:
    """
    The parts of a URL whose C{netloc} may be a list of hosts. C{urlsplit} itself
    refuses some lists with IPv6 addresses, others on each Python.
    """
    found = _AUTHORITY.fullmatch(url)
    if found is None:
        return urlsplit(url)
    scheme, authority, rest = found.groups(default="")
    return urlsplit(f"{scheme}//{rest}")._replace(netloc=authority)


def read_hosts(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    """
    Host and port of each of C{host[:port],...}. A host is a name, an IPv4 address, an
    IPv6 address in brackets, or empty; percent-encoding is undone.

    @raise ValueError: one is none. The text names it.
    """
    return tuple(_read_host(one, default_port) for one in text.split(","))


def _read_host(text: str, default_port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    port = int(found["port"] or default_port) if found else 0
    if not found or not 0 < port < 65536:
        raise ValueError(f"{text!r} is no host:port")
    address = unquote(found["name"] if found["ipv6"] is None else found["ipv6"]).lower()
    try:
        address.encode("idna") if found["ipv6"] is None else IPv6Address(address)  # as in DNS
    except ValueError:
        raise ValueError(f"{text!r} is no host:port") from None
    return address, port


def read_host_port(text: str) -> tuple[str, int]:
    """
    Host and port of C{HOST:PORT}; an IPv6 address stands in brackets.

    @raise ValueError: it is none, or nobody could connect there.
    """
    match = _NODE.fullmatch(text)
    if match is None or not 0 < int(match[3]) < 65536:
        raise ValueError("has to be HOST:PORT, with an IPv6 address in brackets")
    host = match[1] or match[2]
    if match[1] or re.fullmatch(r"[0-9.]+", host):
        try:
            address = ip_address(host)
        except ValueError:
            raise ValueError(f"{host} is no IP address") from None
        if (address.version == 6) != bool(match[1]):
            raise ValueError(f"{host} is no IPv6 address")
        if address.is_unspecified or address.is_multicast:
            raise ValueError(f"{host} is no address that clients could connect to")
        return str(address), int(match[3])
    if len(host) > 253 or not _LABELS.fullmatch(host):
        raise ValueError(f"{host} is no host name")
    return host, int(match[3])


def read_parameters(query: str, known: Iterable[str], url: str) -> dict[str, bytes]:
    """
    The parameters behind the C{?} of a storage URL.

    @raise ConfigurationError: one is not known, or is given twice.
    """
    parameters: dict[str, bytes] = {}
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), encoding="latin-1"
        )
    except ValueError:
        raise ConfigurationError(f"cannot read the parameters of {redact(url)}") from None
    known = sorted(known)
    for name, _ in pairs:
        if name not in known:
            raise ConfigurationError(
                f"{redact(url)} has an unknown parameter {name!r}; known are {', '.join(known)}"
            )
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        if name in parameters:
            raise ConfigurationError(f"{redact(url)} gives {name!r} twice")
        parameters[name] = unquote_to_bytes(value.encode(errors="surrogateescape"))
    return parameters


def read_seconds(name: str, text: str, most: int, shown: str) -> float:
    """
    The seconds that a parameter says.

    @raise ConfigurationError: it says none, or they are too few or too many.
    """
    with suppress(ValueError):
        if 0.01 <= (seconds := float(text)) <= most:
            return seconds
    raise ConfigurationError(f"{shown}: {name} has to be seconds, from 0.01 to {most}")


def read_size(text: str) -> int | None:
    """
    Bytes from C{256m} and the like; k, m and g count by 1024, as memcached's do. C{None} for
    what is no size.
    """
    match = _SIZE.fullmatch(text)
    return int(match[1]) * _UNITS[match[2].lower()] if match else None
