"""
The command line of C{twistd redcouch}, checked.

This module knows which options there are and which values they may have; it
makes nothing of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from redcouch import MEMCACHED_VERSION, __version__
from redcouch.backends.registry import schemes
from redcouch.handover.descriptors import POSSIBLE
from redcouch.handover.succession import PidFile, find, name_of
from redcouch.urls import DEFAULT_STORAGE, STORAGE_VARIABLE, read_host_port, read_size

DEFAULT_PORT = 11210

VERSION = f"{MEMCACHED_VERSION}-RedCouch-{__version__}"
"""One word that begins with three numbers: what client libraries can read."""

_SMALLEST_MEMORY = 16 * 1024 * 1024
_SMALLEST_ITEM = 1024
_LARGEST_ITEM = 1024 * 1024 * 1024
_MOST_WORKERS = 512


def _memory(text: str) -> int:
    size = read_size(text)
    if size is None or size < _SMALLEST_MEMORY:
        raise ValueError("has to be bytes, or a number with k, m or g, of at least 16m")
    return size


def _size(text: str) -> int:
    size = None if text.lower().endswith("g") else read_size(text)
    if size is None or not _SMALLEST_ITEM <= size <= _LARGEST_ITEM:
        raise ValueError("has to be bytes, or a number with k or m, from 1k to 1024m")
    return size


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise ValueError("has to be a whole number of at least 1")
    return int(text)


def _workers(text: str) -> int:
    if text == "auto":
        return min(_available_processors(), _MOST_WORKERS)
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= _MOST_WORKERS:
        raise ValueError(f"has to be auto, or a whole number from 1 to {_MOST_WORKERS}")
    return int(text)


def _available_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise ValueError("has to be a number of seconds, 0 or more")
    return seconds


def _one_line(text: str) -> str:
    if not text or any(ord(char) < 32 or ord(char) > 126 for char in text):
        raise ValueError("has to be a line of printable ASCII")
    return text


def _parameter(
    name: str,
    default: Any,
    text: str,
    read: Callable[[str], Any] = str,
    short: str | None = None,
) -> list[Any]:
    """An option with a value, as Twisted takes it; of one that is wrong it says which it is."""

    def read_option(value: str) -> Any:
        try:
            return read(value)
        except ValueError as error:
            raise UsageError(f"--{name} {value!r}: {error}") from None

    return [name, short, default, text, read_option]


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"has to be {' or '.join(words)}")
        return text

    return read


_ADDRESS = re.compile(r"(\[[^]]+\]|localhost|\*|[^:]*\.[^:]*|):([0-9]+)")


def _explain_address(text: str) -> None:
    """@raise ValueError: it is a host and a port, as other programs take them."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return
    host = match[1].strip("[]*")
    escaped = host.replace(":", "\\:")
    raise ValueError(
        f"is no endpoint; for a host and a port it is tcp:{match[2]}:interface={escaped}"
    )


def _http(text: str) -> str:
    if not is_number(text):
        _explain_address(text)
        return _one_line(text)
    if int(text) > 65535:
        raise ValueError("is no port number")
    return f"tcp:{text}:interface=127.0.0.1"


def is_number(port: str) -> bool:
    """Whether a --port is a number, and not an endpoint."""
    return port.isascii() and port.isdigit()


def is_tls(port: str) -> bool:
    """Whether a --port is an endpoint that speaks TLS by itself."""
    return port.startswith("ssl:")


def endpoint_of(port: str, interface: str) -> str:
    """The endpoint string of a --port."""
    if is_number(port):
        return f"tcp:{port}:interface={interface.replace(':', chr(92) + ':')}"
    return port


def endpoints_of(options: Mapping[str, Any]) -> list[str]:
    """Where to listen, as endpoint strings."""
    return [endpoint_of(port, options["interface"]) for port in options["ports"]]


_NEEDS = (
    ("tls-key", "tls-key", "tls-cert"),
    ("tls-client-ca", "tls-client-ca", "tls-cert"),
    ("client-names", "client-names", "http"),
    ("http-hosts", "http-host", "http"),
    ("http-auth", "http-auth", "http"),
    ("http-auth", "http-auth", "auth-file"),
)
"""Where an option stands, its name, and another one without which it has no effect."""


class Options(UsageOptions):
    """The command line of C{twistd redcouch}, checked."""

    synopsis = "[options]"
    longdesc = "The memcached protocols, served from Redis."

    optParameters = [  # noqa: RUF012 - Twisted's way
        _parameter(
            "interface",
            "127.0.0.1",
            "Address to listen on, for a --port that is a number. 0.0.0.0 is all of IPv4.",
            _one_line,
        ),
        _parameter(
            "storage",
            None,
            f"Storage URL. Default: the environment variable {STORAGE_VARIABLE}, "
            f"else {DEFAULT_STORAGE}. Schemes are listed below.",
            short="s",
        ),
        _parameter(
            "on-outage",
            "error",
            "What reads are told while the storage is away: error (SERVER_ERROR), or miss. "
            "Writes are told the error in any case.",
            _one_of("error", "miss"),
        ),
        _parameter(
            "max-connections",
            1024,
            "Clients at a time. One more is told so and closed.",
            _count,
            short="c",
        ),
        _parameter(
            "idle-timeout",
            0,
            "Seconds until a silent client is closed. 0 is never.",
            _seconds,
        ),
        _parameter(
            "max-item-size",
            "1m",
            "Largest item, in bytes or with k or m (1k to 1024m), counted as memcached counts "
            "it: value, key and about 60 bytes. In Redis up to 256m in hex, 512m with encoding=raw "
            "or layout=string.",
            _size,
            short="I",
        ),
        _parameter(
            "memory-limit",
            "256m",
            "What requests and replies of all clients may take, in bytes or with k, m or g (at "
            "least 16m). Past it, clients that ask for much wait until others have taken theirs. "
            "Of several workers, each has its share.",
            _memory,
        ),
        _parameter(
            "drain-timeout",
            10,
            "Seconds that clients have to finish when the service ends.",
            _seconds,
        ),
        _parameter(
            "workers",
            1,
            "Processes that serve the clients together, or auto for one per available CPU. "
            "With more than one, this process opens the ports and looks after the workers.",
            _workers,
            short="w",
        ),
        _parameter(
            "auth-file",
            None,
            "File of user:password lines (a password may be a bcrypt hash, as htpasswd -B makes "
            "it). Clients then have to authenticate: SASL PLAIN in the binary protocol, the "
            "first set in text. Read again on SIGHUP, as the files of certificates are. Default: "
            "nobody is asked.",
        ),
        _parameter(
            "tls-cert",
            None,
            "File of a certificate (PEM, with what leads to its authority): every --port that is "
            "a number then speaks TLS, 1.2 at least. Default: none does.",
        ),
        _parameter(
            "tls-key",
            None,
            "File of the key of --tls-cert. Default: it is in that file, too.",
        ),
        _parameter(
            "tls-client-ca",
            None,
            "File of authorities: only clients with a certificate of theirs are let in. "
            "Default: clients need none.",
        ),
        _parameter(
            "log-format",
            "text",
            "text, or json: one object a line, for machines that read the log.",
            _one_of("text", "json"),
        ),
        _parameter(
            "http",
            None,
            "Serve a status page, /metrics for Prometheus, /healthz and /readyz here: a port "
            "number, which is on 127.0.0.1 then, or a Twisted endpoint. Default: nowhere.",
            _http,
        ),
        _parameter(
            "client-names",
            None,
            "File of names for clients that the status page shows: lines with an address or a "
            "network, and a name behind it. Read again on SIGHUP. Default: they have none.",
        ),
        _parameter(
            "inventory-separator",
            ":",
            "What ends the part of a key that the inventory of traffic and stats detail name.",
            _one_line,
        ),
        _parameter(
            "version-string",
            None,
            f"What the version command says. Without it, client libraries are told {VERSION}, and "
            "a line that ends without CR, as people type it, what stands here. "
            f"[default: RedCouch {__version__}]",
            _one_line,
        ),
    ]

    optFlags = [  # noqa: RUF012 - Twisted's way
        ["no-flush", "F", "Refuse flush_all."],
        ["no-inventory", None, "Do not note in Redis who speaks memcached (redcouch traffic)."],
        [
            "reuse-port",
            None,
            "Let other processes listen on a --port that is a number, too (SO_REUSEPORT): a new "
            "one can serve before this one ends.",
        ],
        [
            "take-over",
            None,
            "Take ports and clients over from the RedCouch that has the same --port now, if there "
            "is one, once this one serves; the other one ends then (Linux). It is not found by a "
            "port 0 or systemd: alone.",
        ],
        ["http-auth", None, "Ask for a user and password of --auth-file before --http is shown."],
        ["no-dump", "X", "Refuse stats cachedump, lru_crawler metadump and mgdump."],
    ]

    #: twistd's own options, where they are there.
    parent: UsageOptions | None = None

    def __init__(self) -> None:
        super().__init__()
        self["ports"] = []
        self["http-hosts"] = []
        self["advertise"] = []

    @cached_property
    def pid_file(self) -> PidFile:
        """twistd's."""
        return PidFile(self.parent)

    def opt_http_host(self, name: str) -> None:
        """
        A name under which --http may be asked for, beside localhost, this
        machine's own name and all addresses; * is any. Others are refused, so
        that no web page can read it by way of a browser. May be given several
        times.
        """
        self["http-hosts"].append(name)

    def opt_advertise(self, node: str) -> None:
        """
        HOST:PORT of a node that discovery clients are told to connect to: config get
        cluster answers as ElastiCache and Memorystore do. May be given several times,
        in the order that clients shall see. Default: the command is not known.
        """
        try:
            read_host_port(node)
        except ValueError as error:
            raise UsageError(f"--advertise {node!r}: {error}") from None
        if node.lower() in map(str.lower, self["advertise"]):
            raise UsageError(f"--advertise {node!r}: is given twice")
        self["advertise"].append(node)

    def opt_port(self, port: str) -> None:
        """
        Where to listen: a number from 0 to 65535 (0 takes any free port), or a
        Twisted endpoint such as unix:/run/redcouch.sock or
        ssl:11211:privateKey=key.pem:certKey=cert.pem. May be given several
        times. [default: 11210]
        """
        if is_number(port) and int(port) > 65535:
            raise UsageError(f"--port: {port} is no port number")
        try:
            _explain_address(port)
        except ValueError as error:
            raise UsageError(f"--port {port}: {error}") from None
        self["ports"].append(port)

    opt_p = opt_port

    # Where Python leaves the blanks before a docstring's lines, Twisted prints them.
    for _option in (opt_http_host, opt_advertise, opt_port):
        _option.__doc__ = " ".join(str(_option.__doc__).split())

    def getUsage(self, width: int | None = None) -> str:
        known = sorted(schemes().items())
        column = 2 + max(len(scheme) for scheme, _ in known)
        urls = "".join(f"  {scheme + ':':<{column}}{summary}\n" for scheme, summary in known)
        usage: str = super().getUsage(width)
        return f"{usage}\nStorage URLs:\n{urls}"

    def parseOptions(self, options: Any = None) -> None:
        """Ends the process with one clear line where Twisted would print all its own options."""
        try:
            super().parseOptions(options)
        except UsageError as error:
            raise SystemExit(f"redcouch: {error}") from None

    def postOptions(self) -> None:
        if not self["ports"]:
            self["ports"] = [str(DEFAULT_PORT)]
        if self["storage"] is None:
            self["storage"] = os.environ.get(STORAGE_VARIABLE) or DEFAULT_STORAGE
        self._refuse_without_effect()
        if self["log-format"] == "json" and dict(self.parent or {}).get("syslog"):
            raise UsageError("--log-format json: not with --syslog, which has a form of its own")
        if self["take-over"]:
            self._prepare_to_take_over()
        if isinstance(self["max-item-size"], str):
            self["max-item-size"] = _size(self["max-item-size"])
        if isinstance(self["memory-limit"], str):
            self["memory-limit"] = _memory(self["memory-limit"])

    @property
    def service_users(self) -> Sequence[int]:
        """The user ids, beside our own and root's, as which this service may run."""
        user = dict(self.parent or {}).get("uid")
        return () if user is None else (user,)

    def _prepare_to_take_over(self) -> None:
        """twistd would refuse to start beside the process whose id is in the file."""
        if not POSSIBLE:
            raise UsageError("--take-over: this system cannot pass clients to another process")
        endpoints = endpoints_of(self)
        if not any(map(name_of, endpoints)):
            raise UsageError("--take-over: nobody can be found by a --port that is 0 or systemd:")
        predecessor = find(endpoints, self.service_users)
        if predecessor is not None:
            predecessor.close()
            self.pid_file.step_aside()

    def _refuse_without_effect(self) -> None:
        """Refuse an option that nothing would come of, without what it belongs to."""
        for name, option, needed in _NEEDS:
            if self[name] != self.defaults.get(name, []) and self[needed] is None:
                raise UsageError(f"--{option}: needs --{needed}")
        if not any(map(is_number, self["ports"])):
            for option in ("tls-cert", "reuse-port", "interface"):
                if self[option] != self.defaults[option]:
                    raise UsageError(f"--{option}: is for a --port that is a number")


FLAGS = [str(cast("list[Any]", flag)[0]) for flag in Options.optFlags]
"""The names of the options that are there or not."""
