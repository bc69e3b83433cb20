"""Which Redis, and how to get in: a storage URL as a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, unquote

from redcouch.backends.redis.layout import Layout, StringLayout
from redcouch.errors import ConfigurationError
from redcouch.urls import read_hosts, read_parameters, read_seconds, read_size, redact, split_url

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
DEFAULT_TIMEOUT = 1.0

_COMMON = ("prefix", "encoding", "layout", "flush", "timeout")
_TLS = ("ca", "cert", "key")
_SENTINEL = ("sentinel_user", "sentinel_password", "cache")
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "redis": ("cache",),
    "rediss": (*_TLS, "cache"),
    "redis+unix": ("db", "cache"),
    "redis+sentinel": _SENTINEL,
    "rediss+sentinel": (*_TLS, *_SENTINEL),
    "redis+cluster": ("map", "cache"),
    "rediss+cluster": (*_TLS, "map", "tls_name", "cache"),
}
"""What each scheme takes beside what all take."""

LEAST_CACHE = 2**19

NO_TLS = "If it speaks no TLS, write redis in place of rediss"
MAYBE_TLS = "If it speaks TLS, write rediss in place of redis"
ONLY_TLS = "it speaks TLS: write rediss in place of redis"
NO_REDIS = "it does not answer as a Redis does"
NO_SUCH_MASTER = "knows no master named {}"
"""What the service and its commands say of what they find there."""

_Place = tuple[str, int | None]
"""A host, and one of its ports or all of them."""


@dataclass(frozen=True, slots=True)
class RedisLocation:
    """
    @ivar shown: the URL as it may be logged.
    @ivar addresses: host and port of the Redis, of each sentinel, or of some nodes of a cluster.
    @ivar socket: the unix socket, in place of addresses.
    @ivar master: the name that the sentinels know the Redis by.
    @ivar cluster: it is a Redis Cluster.
    @ivar reached_at: where nodes of a cluster are reached, by what they call themselves: host and
        port, or no port for all of a host.
    @ivar tls_name: the name that certificates have to be for, in place of the host.
    @ivar timeout: seconds in which Redis has to answer.
    @ivar cache: bytes of items that each process keeps in its own memory; 0 for none.
    """

    shown: str
    addresses: tuple[tuple[str, int], ...] = ()
    socket: str | None = None
    master: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_user: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    tls_name: str | None = None
    cluster: bool = False
    reached_at: tuple[tuple[_Place, _Place], ...] = ()
    timeout: float = DEFAULT_TIMEOUT
    cache: int = 0
    layout: Layout = Layout()  # noqa: RUF009 - it is frozen


def show(address: tuple[str, int]) -> str:
    """An address as it is written: an IPv6 one has brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tls_fault(words: str) -> str:
    """What is wrong with TLS. Of a certificate, or in an alert, only who speaks it can be told."""
    spoken = "certificate" in words or "alert" in words
    return f"TLS: {words}" if spoken else f"TLS: {words}. {NO_TLS}"


def why_no_master(said: Iterable[str], away: Iterable[str]) -> str:
    """Why no sentinel has named a master: what was said, or else why none of them answers."""
    if reasons := "; ".join(dict.fromkeys(said)):
        return f"sentinel {reasons}"
    return f"no sentinel can be reached: {'; '.join(dict.fromkeys(away))}"


def read_location(url: str, shown: str = "") -> RedisLocation:
    """
    Understand one of

     - C{redis://[[user]:password@]host[:port][/database]}, C{rediss://} for TLS,
     - C{redis+unix://[[user]:password@]/path/to/socket?db=0},
     - C{redis+sentinel://[[user]:password@]host[:port],.../master[/database]},
       C{rediss+sentinel://} for TLS to the sentinels and to Redis,
     - C{redis+cluster://[[user]:password@]host[:port],...}, C{rediss+cluster://} for TLS

    with parameters C{prefix}, C{encoding}, C{layout}, C{flush}, C{timeout}, C{cache};
    C{ca}, C{cert}, C{key} for TLS; C{sentinel_user}, C{sentinel_password}; C{map} for a
    cluster, and C{tls_name} for one with TLS. Percent-encoding is undone everywhere.

    @raise ConfigurationError: it is none of these.
    """
    shown = shown or redact(url)
    parts = split_url(url)
    scheme = parts.scheme.lower()
    known = _COMMON + _PARAMETERS.get(scheme, ())
    cluster = scheme.endswith("+cluster")
    _check_escapes(url, parts, shown)
    given = {
        name: value.decode("utf-8", "surrogateescape")
        for name, value in read_parameters(parts.query, known, url).items()
    }
    userinfo, _, hosts = parts.netloc.rpartition("@")
    username, colon, password = userinfo.partition(":")
    if userinfo and not colon:
        raise ConfigurationError(f"{shown}: write user:password@ or :password@")
    common = RedisLocation(
        shown=shown,
        username=unquote(username) or None,
        password=unquote(password) if colon else None,
        timeout=read_seconds("timeout", given.get("timeout", str(DEFAULT_TIMEOUT)), 3600, shown),
        cache=_read_cache(given.get("cache"), shown),
        layout=_read_layout(given, cluster),
        tls=scheme.startswith("rediss"),
        ca=_read_file(given.get("ca"), shown),
        certificate=_read_file(given.get("cert"), shown),
        key=_read_file(given.get("key"), shown),
    )
    if common.key is not None and common.certificate is None:
        raise ConfigurationError(f"{shown}: key: write cert= too")
    path = [unquote(part) for part in parts.path.split("/")[1:]]
    if scheme == "redis+unix":
        return _unix(parts, hosts, given, common)
    if scheme.endswith("+sentinel"):
        if not path or not path[0] or len(path) > 2:
            raise ConfigurationError(f"{shown}: name the master: {scheme}://host,host/master")
        if "sentinel_user" in given and "sentinel_password" not in given:
            raise ConfigurationError(f"{shown}: sentinel_user: write sentinel_password= too")
        _check_text("".join(given.get(name, "") for name in _SENTINEL), shown)
        return replace(
            common,
            addresses=_read_addresses(hosts, DEFAULT_SENTINEL_PORT, shown),
            master=path[0],
            database=_read_database(path[1] if len(path) > 1 else "", shown),
            sentinel_user=given.get("sentinel_user"),
            sentinel_password=given.get("sentinel_password"),
        )
    addresses = _read_addresses(hosts, DEFAULT_PORT, shown)
    database = path[0] if path else ""
    if cluster:
        if len(path) > 1 or database not in ("", "0"):
            raise ConfigurationError(f"{shown}: a cluster has no database but 0")
        common = replace(
            common,
            cluster=True,
            reached_at=_read_map(given.get("map"), shown),
            tls_name=given.get("tls_name"),
        )
    elif len(addresses) > 1 or len(path) > 1:
        raise ConfigurationError(f"{shown}: write {scheme}://host:port/database")
    return replace(common, addresses=addresses, database=_read_database(database, shown))


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
    _check_text(unquote(parts.netloc, errors="surrogateescape"), shown)


def _check_text(text: str, shown: str) -> None:
    try:
        text.encode()
    except UnicodeError:
        raise ConfigurationError(f"{shown}: user, password and hosts have to be UTF-8") from None


def _unix(
    parts: SplitResult, hosts: str, given: dict[str, str], common: RedisLocation
) -> RedisLocation:
    if hosts or not parts.path:
        raise ConfigurationError(f"{common.shown}: write redis+unix:///path/to/socket")
    database = _read_database(given.get("db", ""), common.shown)
    socket = unquote(parts.path, errors="surrogateescape")
    return replace(common, socket=socket, database=database)


def _read_addresses(hosts: str, default_port: int, shown: str) -> tuple[tuple[str, int], ...]:
    try:
        addresses = read_hosts(hosts, default_port)
    except ValueError as error:
        raise ConfigurationError(f"{shown}: cannot read its hosts: {error}") from None
    return tuple((host or "127.0.0.1", port) for host, port in addresses)


def _read_map(text: str | None, shown: str) -> tuple[tuple[_Place, _Place], ...]:
    """C{old=new,...}, each side C{host:port}, or both a host alone."""
    known = []
    for pair in text.split(",") if text else []:
        try:
            old, new = map(_read_place, pair.split("="))
            if (old[1] is None) != (new[1] is None):
                raise ValueError
        except ValueError:
            raise ConfigurationError(
                f"{shown}: map: {pair!r} is no host:port=host:port or host=host"
            ) from None
        known.append((old, new))
    return tuple(known)


def _read_place(text: str) -> _Place:
    ((host, port),) = read_hosts(text, DEFAULT_PORT)
    if not host:
        raise ValueError
    return host, port if text.rpartition(":")[2].isdigit() else None


def _read_database(text: str, shown: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"{shown}: {redact(text)!r} is no database number")
    return int(text)


def _read_cache(text: str | None, shown: str) -> int:
    if text is None:
        return 0
    size = read_size(text)
    if size is None or size < LEAST_CACHE:
        raise ConfigurationError(
            f"{shown}: cache has to be bytes, or a number with k, m or g, of at least 512k"
        )
    return size


def _read_layout(given: dict[str, str], cluster: bool) -> Layout:
    layout = given.get("layout", "hash")
    if layout == "string":
        if cluster:
            raise ConfigurationError(
                "layout: string is for one Redis; a cluster takes the hash layout only"
            )
        return _read_string_layout(given)
    if layout != "hash":
        raise ConfigurationError(f"layout: {layout!r} is neither hash nor string")
    if "flush" in given:
        raise ConfigurationError("flush: is for layout=string")
    encoding = given.get("encoding", "hex")
    if encoding not in ("hex", "raw"):
        raise ConfigurationError(f"encoding: {encoding!r} is neither hex nor raw")
    prefix = given.get("prefix", "rc:").encode("utf-8", "surrogateescape")
    return Layout(prefix=prefix, raw=encoding == "raw", cluster=cluster)


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
