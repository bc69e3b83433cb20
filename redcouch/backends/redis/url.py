"""Which Redis, and how to get in: a storage URL as a value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, unquote

from redcouch.backends.redis.layout import Layout, StringLayout
from redcouch.errors import ConfigurationError
from redcouch.urls import read_hosts, read_parameters, read_size, redact, split_url

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
DEFAULT_TIMEOUT = 1.0

_COMMON = ("prefix", "encoding", "layout", "flush", "timeout")
_TLS = ("ca", "cert", "key")
_ONE_REDIS = ("redis", "rediss", "redis+unix", "redis+sentinel")
"""Schemes of a storage that is one Redis at a time, whose items may be cached."""

LEAST_CACHE = 2**20


@dataclass(frozen=True, slots=True)
class Location:
    """
    @ivar shown: the URL as it may be logged.
    @ivar addresses: host and port of the Redis, or of each sentinel.
    @ivar socket: the unix socket, in place of addresses.
    @ivar master: the name that the sentinels know the Redis by.
    @ivar timeout: seconds in which Redis has to answer.
    @ivar cache: bytes of items that each process keeps in its own memory; 0 for none.
    """

    shown: str
    addresses: tuple[tuple[str, int], ...] = ()
    socket: str | None = None
    master: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    timeout: float = DEFAULT_TIMEOUT
    cache: int = 0
    layout: Layout = Layout()  # noqa: RUF009 - it is frozen


def read_location(url: str) -> Location:
    """
    Understand one of

     - C{redis://[[user]:password@]host[:port][/database]}, C{rediss://} for TLS,
     - C{redis+unix://[[user]:password@]/path/to/socket?db=0},
     - C{redis+sentinel://[[user]:password@]host[:port],.../master[/database]}

    with parameters C{prefix}, C{encoding}, C{layout}, C{flush}, C{timeout}, C{cache};
    C{ca}, C{cert}, C{key} for TLS; C{sentinel_password}. Percent-encoding is undone everywhere.

    @raise ConfigurationError: it is none of these.
    """
    shown = redact(url)
    parts = split_url(url)
    scheme = parts.scheme.lower()
    known: tuple[str, ...] = _COMMON
    if scheme == "rediss":
        known += _TLS
    elif scheme == "redis+unix":
        known += ("db",)
    elif scheme == "redis+sentinel":
        known += ("sentinel_password",)
    if scheme in _ONE_REDIS:
        known += ("cache",)
    _check_escapes(url, parts, shown)
    given = {
        name: value.decode("utf-8", "surrogateescape")
        for name, value in read_parameters(parts.query, known, url).items()
    }
    userinfo, _, hosts = parts.netloc.rpartition("@")
    username, colon, password = userinfo.partition(":")
    if userinfo and not colon:
        raise ConfigurationError(f"{shown}: write user:password@ or :password@")
    common = Location(
        shown=shown,
        username=unquote(username) or None,
        password=unquote(password) if colon else None,
        timeout=_read_timeout(given.get("timeout"), shown),
        cache=_read_cache(given.get("cache"), shown),
        layout=_read_layout(given),
    )
    path = [unquote(part) for part in parts.path.split("/")[1:]]
    if scheme == "redis+unix":
        return _unix(parts, hosts, given, common)
    if scheme == "redis+sentinel":
        if not path or not path[0] or len(path) > 2:
            raise ConfigurationError(f"{shown}: name the master: redis+sentinel://host,host/master")
        return replace(
            common,
            addresses=_read_addresses(hosts, DEFAULT_SENTINEL_PORT, shown),
            master=path[0],
            database=_read_database(path[1] if len(path) > 1 else "", shown),
            sentinel_password=given.get("sentinel_password"),
        )
    addresses = _read_addresses(hosts, DEFAULT_PORT, shown)
    if len(addresses) > 1 or len(path) > 1:
        raise ConfigurationError(f"{shown}: write {scheme}://host:port/database")
    return replace(
        common,
        addresses=addresses,
        database=_read_database(path[0] if path else "", shown),
        tls=scheme == "rediss",
        ca=_read_file(given.get("ca"), shown),
        certificate=_read_file(given.get("cert"), shown),
        key=_read_file(given.get("key"), shown),
    )


def _check_escapes(url: str, parts: SplitResult, shown: str) -> None:
    """Refuse what a password's own / ? # and @ make of a URL, without showing it."""
    beyond = parts.query + (parts.path if parts.netloc else "")
    if parts.fragment or "@" in beyond:
        raise ConfigurationError(
            f"{shown}: write / as %2F, ? as %3F, # as %23 and @ as %40 where they are text"
        )
    if parts.path and not url.partition(":")[2].startswith("//"):
        raise ConfigurationError(
            f"{shown}: write {parts.scheme}:// and what follows it, with two slashes"
        )


def _unix(parts: SplitResult, hosts: str, given: dict[str, str], common: Location) -> Location:
    if hosts or not parts.path:
        raise ConfigurationError(f"{common.shown}: write redis+unix:///path/to/socket")
    database = _read_database(given.get("db", ""), common.shown)
    return replace(common, socket=unquote(parts.path), database=database)


def _read_addresses(hosts: str, default_port: int, shown: str) -> tuple[tuple[str, int], ...]:
    try:
        addresses = read_hosts(hosts, default_port)
    except ValueError as error:
        raise ConfigurationError(f"{shown}: cannot read its hosts: {error}") from None
    return tuple((host or "127.0.0.1", port) for host, port in addresses)


def _read_database(text: str, shown: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"{shown}: {text!r} is no database number")
    return int(text)


def _read_timeout(text: str | None, shown: str) -> float:
    if text is None:
        return DEFAULT_TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.01 <= seconds <= 3600:
        raise ConfigurationError(f"{shown}: timeout has to be seconds, from 0.01 to 3600")
    return seconds


def _read_cache(text: str | None, shown: str) -> int:
    if text is None:
        return 0
    size = read_size(text)
    if size is None or size < LEAST_CACHE:
        raise ConfigurationError(
            f"{shown}: cache has to be bytes, or a number with k, m or g, of at least 1m"
        )
    return size


def _read_layout(given: dict[str, str]) -> Layout:
    layout = given.get("layout", "hash")
    if layout == "string":
        return _read_string_layout(given)
    if layout != "hash":
        raise ConfigurationError(f"layout: {layout!r} is neither hash nor string")
    if "flush" in given:
        raise ConfigurationError("flush: is for layout=string")
    encoding = given.get("encoding", "hex")
    if encoding not in ("hex", "raw"):
        raise ConfigurationError(f"encoding: {encoding!r} is neither hex nor raw")
    prefix = given.get("prefix", "rc:").encode("utf-8", "surrogateescape")
    return Layout(prefix=prefix, raw=encoding == "raw")


def _read_string_layout(given: dict[str, str]) -> Layout:
    if "encoding" in given:
        raise ConfigurationError("encoding: with layout=string values are written as they are")
    flush = given.get("flush", "prefix")
    if flush not in ("prefix", "all"):
        raise ConfigurationError(f"flush: {flush!r} is neither prefix nor all")
    prefix = given.get("prefix", "").encode("utf-8", "surrogateescape")
    return StringLayout(prefix=prefix, raw=True, flush_all=flush == "all")


def _read_file(text: str | None, shown: str) -> Path | None:
    if text is None:
        return None
    path = Path(text)
    if not path.is_file():
        raise ConfigurationError(f"{shown}: there is no file {text}")
    return path
