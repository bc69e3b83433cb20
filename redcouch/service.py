"""
C{twistd redcouch}: its options, and the service that they describe.

Everything that works together is made here and handed down; nothing below
looks for a reactor, a clock or a setting by itself.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from redcouch import __version__
from redcouch.auth import Authenticator
from redcouch.backends.lookup import (
    DEFAULT_STORAGE,
    STORAGE_VARIABLE,
    factories,
    make_backend,
    redact,
)
from redcouch.backends.outage import MissesOnOutage
from redcouch.dialects.sniff import NAMES
from redcouch.errors import ConfigurationError, StartError
from redcouch.http.service import SeenService
from redcouch.interfaces import ILocalBackend, IStorageBackend, ITrafficBackend, Surroundings
from redcouch.ledger import Ledger, OwnLedger
from redcouch.limits import Limits
from redcouch.listening import listening_service
from redcouch.logs import JsonLog
from redcouch.meter import Meter
from redcouch.notify import Tell, nobody, notifier
from redcouch.report import Reporter, Settings
from redcouch.server import ConnectionFactory
from redcouch.session import Shared
from redcouch.stats import Counters
from redcouch.tls import over_tls, read_tls
from redcouch.tuning import allow_descriptors, settle
from redcouch.watch import OwnWatch, Watch
from redcouch.watcher import Watcher
from redcouch.workers.parent import Supervisor, listening_port

DEFAULT_PORT = 11210

_SIZE = re.compile(r"([0-9]+)([km]?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1024, "m": 1024 * 1024}
_SMALLEST_ITEM = 1024
_OTHER_DESCRIPTORS = 64
_LARGEST_ITEM = 1024 * 1024 * 1024
_MOST_WORKERS = 512


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _UNITS[match[2].lower()] if match else 0
    if not _SMALLEST_ITEM <= size <= _LARGEST_ITEM:
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


def _reader(option: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Reads an option's value; says which option it is where that is wrong."""

    def read_option(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise UsageError(f"--{option} {text!r}: {error}") from None

    return read_option


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"has to be {' or '.join(words)}")
        return text

    return read


def _http(text: str) -> str:
    if not _is_number(text):
        return _one_line(text)
    if int(text) > 65535:
        raise ValueError("is no port number")
    return f"tcp:{text}:interface=127.0.0.1"


def _is_number(port: str) -> bool:
    return port.isascii() and port.isdigit()


class Options(UsageOptions):
    """The command line of C{twistd redcouch}, checked."""

    synopsis = "[options]"
    longdesc = "The memcached protocols, served from Redis."

    optParameters = [  # noqa: RUF012 - Twisted's way
        [
            "interface",
            None,
            "127.0.0.1",
            "Address to listen on, for a --port that is a number. 0.0.0.0 is all of IPv4.",
            _reader("interface", _one_line),
        ],
        [
            "storage",
            "s",
            None,
            f"Storage URL. Default: the environment variable {STORAGE_VARIABLE}, "
            f"else {DEFAULT_STORAGE}. Schemes are listed below.",
        ],
        [
            "on-outage",
            None,
            "error",
            "What reads are told while the storage is away: error (SERVER_ERROR), or miss. "
            "Writes are told the error in any case.",
            _reader("on-outage", _one_of("error", "miss")),
        ],
        [
            "max-connections",
            "c",
            1024,
            "Clients at a time. One more is told so and closed.",
            _reader("max-connections", _count),
        ],
        [
            "idle-timeout",
            None,
            0,
            "Seconds until a silent client is closed. 0 is never.",
            _reader("idle-timeout", _seconds),
        ],
        [
            "max-item-size",
            "I",
            "1m",
            "Largest item, in bytes or with k or m (1k to 1024m), counted as memcached counts "
            "it: value, key and about 60 bytes.",
            _reader("max-item-size", _size),
        ],
        [
            "drain-timeout",
            None,
            10,
            "Seconds that clients have to finish when the service ends.",
            _reader("drain-timeout", _seconds),
        ],
        [
            "workers",
            "w",
            1,
            "Processes that serve the clients together, or auto for one per available CPU. "
            "With more than one, this process opens the ports and looks after the workers.",
            _reader("workers", _workers),
        ],
        [
            "auth-file",
            None,
            None,
            "File of user:password lines (a password may be a bcrypt hash, as htpasswd -B makes "
            "it). Clients then have to authenticate: SASL PLAIN in the binary protocol, the "
            "first set in text. Read again on SIGHUP. Default: nobody is asked.",
        ],
        [
            "tls-cert",
            None,
            None,
            "File of a certificate (PEM, with what leads to its authority): every --port that is "
            "a number then speaks TLS, 1.2 at least. Default: none does.",
        ],
        [
            "tls-key",
            None,
            None,
            "File of the key of --tls-cert. Default: it is in that file, too.",
        ],
        [
            "tls-client-ca",
            None,
            None,
            "File of authorities: only clients with a certificate of theirs are let in. "
            "Default: clients need none.",
        ],
        [
            "log-format",
            None,
            "text",
            "text, or json: one object a line, for machines that read the log.",
            _reader("log-format", _one_of("text", "json")),
        ],
        [
            "http",
            None,
            None,
            "Serve a status page, /metrics for Prometheus, /healthz and /readyz here: a port "
            "number, which is on 127.0.0.1 then, or a Twisted endpoint. Default: nowhere.",
            _reader("http", _http),
        ],
        [
            "inventory-separator",
            None,
            ":",
            "What ends the part of a key that the inventory of traffic names.",
            _reader("inventory-separator", _one_line),
        ],
        [
            "version-string",
            None,
            f"RedCouch {__version__}",
            "What the version command says. libmemcached wants a number such as 1.6.18.",
            _reader("version-string", _one_line),
        ],
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
        ["http-auth", None, "Ask for a user and password of --auth-file before --http is shown."],
        ["no-dump", "X", "Refuse stats cachedump, lru_crawler metadump and mgdump."],
    ]

    #: twistd's own options, where they are there.
    parent: UsageOptions | None = None

    def __init__(self) -> None:
        super().__init__()
        self["ports"] = []
        self["http-hosts"] = []

    def opt_http_host(self, name: str) -> None:
        """
        A name under which --http may be asked for, beside localhost, this
        machine's own name and all addresses; * is any. Others are refused, so
        that no web page can read it by way of a browser. May be given several
        times.
        """
        self["http-hosts"].append(name)

    def opt_port(self, port: str) -> None:
        """
        Where to listen: a number from 0 to 65535 (0 takes any free port), or a
        Twisted endpoint such as unix:/run/redcouch.sock or
        ssl:11211:privateKey=key.pem:certKey=cert.pem. May be given several
        times. [default: 11210]
        """
        if _is_number(port) and int(port) > 65535:
            raise UsageError(f"--port: {port} is no port number")
        self["ports"].append(port)

    opt_p = opt_port

    def getUsage(self, width: int | None = None) -> str:
        schemes = "".join(
            f"  {scheme + ':':<17}{plugin.summary}\n"
            for scheme, plugin in sorted(factories().items())
        )
        usage: str = super().getUsage(width)
        return f"{usage}\nStorage URLs:\n{schemes}"

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
        self._check_numbered_ports()
        if self["log-format"] == "json" and dict(self.parent or {}).get("syslog"):
            raise UsageError("--log-format json: not with --syslog, which has a form of its own")
        if self["http-auth"] and self["auth-file"] is None:
            raise UsageError("--http-auth: there is no --auth-file to find users in")
        if isinstance(self["max-item-size"], str):
            self["max-item-size"] = _size(self["max-item-size"])

    def _check_numbered_ports(self) -> None:
        """Refuse what would come to nothing."""
        if self["tls-cert"] is None:
            for option in ("tls-key", "tls-client-ca"):
                if self[option] is not None:
                    raise UsageError(f"--{option}: needs --tls-cert")
        if not any(map(_is_number, self["ports"])):
            for option in ("tls-cert", "reuse-port"):
                if self[option]:
                    raise UsageError(f"--{option}: is for a --port that is a number")


_FLAGS = [str(cast("list[Any]", flag)[0]) for flag in Options.optFlags]

Listen = Callable[[str, ConnectionFactory], IService]
"""Makes a service that listens where an endpoint string says."""


class RedCouchService(MultiService):
    """
    Starts the storage, then listens; stops listening, lets clients finish, and
    then stops the storage.
    """

    _log = Logger()

    def __init__(
        self,
        backend: IStorageBackend,
        factory: ConnectionFactory,
        endpoints: list[str],
        storage: str,
        drain_timeout: float,
        reactor: Any,
        listen: Listen = listening_service,
    ) -> None:
        super().__init__()
        self._backend = backend
        self._factory = factory
        self._endpoints = endpoints
        self._storage = storage
        self._drain_timeout = drain_timeout
        self._reactor = reactor
        self._listen = listen
        #: Whether this is the whole service, and not a worker in it.
        self.alone = True
        #: What a SIGHUP does.
        self.reload: Callable[[], None] | None = None
        #: Keeps the inventory of who speaks memcached.
        self.watcher: Watcher | None = None
        #: Tells the service manager how things stand.
        self.tell: Tell = nobody

    def privilegedStartService(self) -> None:
        try:
            for endpoint in self._endpoints:
                self._listen(endpoint, self._factory).setServiceParent(self)
            super().privilegedStartService()
        except CannotListenError as error:
            raise StartError(f"redcouch: {error}") from None
        except (ValueError, TypeError, OSError) as error:  # as endpoints complain of their strings
            raise StartError(f"redcouch: --port {endpoint}: {error}") from None

    def startService(self) -> None:
        super().startService()
        self._reactor.callWhenRunning(settle)
        self._reactor.callWhenRunning(lambda: self.tell("READY=1\nSTATUS=Serving"))
        if self.reload is not None:
            reload = self.reload
            signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(reload))
        if self.alone:
            self._log.info(
                "RedCouch {version} listens on {endpoints} and keeps items in {storage}; "
                "{workers} worker serves",
                version=__version__,
                endpoints=", ".join(self._endpoints),
                storage=redact(self._storage),
                workers=1,
            )
        if self.watcher is not None:
            self.watcher.start(self._factory.connections)
        self._backend.start().addErrback(
            lambda failure: self._log.failure("The storage could not start", failure)
        )

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.tell("STOPPING=1\nSTATUS=Letting clients finish")
        await super().stopService()
        drained = self._factory.drain()
        waiting = len(self._factory.connections)
        if waiting:
            self._log.info("Waiting for {waiting} clients to finish", waiting=waiting)
        timer = self._reactor.callLater(self._drain_timeout, self._factory.abort)
        await drained
        if timer.active():
            timer.cancel()
        if self.watcher is not None:
            await self.watcher.stop()
        await self._backend.stop()


@dataclass(frozen=True, slots=True)
class Role:
    """
    What depends on whether a process is the whole service or a worker in it.

    @ivar fail: ends the whole service, as
        L{Surroundings<redcouch.interfaces.Surroundings>} says.
    @ivar ledger: the books of the whole service; C{None} where those of this
        process are.
    @ivar users: who may come in, if that has been read from the file already.
    """

    fail: Callable[[str], None]
    listen: Listen = listening_service
    make_factory: Callable[[Shared, Any, int, float], ConnectionFactory] = ConnectionFactory
    ledger: Ledger | None = None
    users: dict[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Bridge:
    """What serves in one process."""

    service: RedCouchService
    ledger: OwnLedger
    authenticator: Authenticator | None
    watch: OwnWatch


def makeService(options: Options) -> MultiService:
    """Build the service that these options describe, and all that it needs."""
    service = _make_service(options)
    if options["log-format"] == "text":
        return service
    logged = JsonLog(options.parent or {})
    service.setServiceParent(logged)
    return logged


def _make_service(options: Options) -> MultiService:
    from twisted.internet import reactor

    _make_room(options["max-connections"])
    tell = notifier(os.environ)
    reactor.addSystemEventTrigger("before", "shutdown", _ignore_further_signals)
    if options["workers"] > 1:
        supervisor = _make_supervisor(options, reactor)
        supervisor.tell = tell
        return _shown(supervisor, supervisor.watch, options, supervisor.authenticator, reactor)
    listen = partial(listening_service, shared_ports=shared_ports(options))
    bridge = make_bridge(options, reactor, Role(_fail(reactor), listen))
    bridge.service.tell = tell
    if bridge.authenticator is not None:
        bridge.service.reload = bridge.authenticator.reload
    return _shown(bridge.service, bridge.watch, options, bridge.authenticator, reactor)


def _shown(
    service: MultiService,
    watch: Watch,
    options: Mapping[str, Any],
    authenticator: Authenticator | None,
    reactor: Any,
) -> MultiService:
    """The service, with the pages that show it where somebody wants them."""
    endpoint = options["http"]
    if endpoint is None:
        return service
    users = authenticator if options["http-auth"] else None
    flags = {name: bool(options[name]) for name in _FLAGS}
    shown = dict(options) | flags
    return SeenService(service, watch, shown, endpoint, users, reactor, _wall_clock())


def _ignore_further_signals() -> None:
    """The service ends already, and one does not end twice."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _make_room(clients: int) -> None:
    """For so many clients' sockets, and say so where the system does not give it."""
    allowed = allow_descriptors(clients + _OTHER_DESCRIPTORS)
    if allowed < clients + _OTHER_DESCRIPTORS:
        Logger().warn(
            "The system allows {allowed} open files (ulimit -n), too few for {clients} clients "
            "(--max-connections)",
            allowed=allowed,
            clients=clients,
        )


def make_bridge(options: Mapping[str, Any], reactor: Any, role: Role) -> Bridge:
    """Build what serves clients in this process."""
    limits = _limits(options)
    counters = Counters()
    meter = None if options["http"] is None else Meter(perf_counter)
    surroundings = Surroundings(reactor, limits, _wall_clock(), role.fail, meter)
    storage = _backend(options, surroundings)
    backend = storage
    if options["on-outage"] == "miss":
        backend = MissesOnOutage(backend)
    authenticator = _authenticator(options["auth-file"], counters, reactor, role.users)
    settings = Settings(
        port=next((int(port) for port in options["ports"] if _is_number(port)), 0),
        interface=options["interface"],
        max_connections=options["max-connections"],
        idle_timeout=options["idle-timeout"],
        version=options["version-string"],
        authentication=authenticator is not None,
        workers=options["workers"],
    )
    spoken = {name: Counters() for name in NAMES}
    own = OwnLedger(
        counters, lambda: factory.describe(), reactor, spoken, meter, surroundings.counts
    )
    ledger: Ledger = role.ledger or own
    reporter = Reporter(backend, ledger, limits, settings, reactor)
    shared = Shared(
        backend,
        counters,
        limits,
        options["version-string"].encode(),
        reporter.report,
        lambda: Deferred.fromCoroutine(ledger.reset()),
        None if authenticator is None else authenticator.check,
        spoken,
    )
    if meter is not None:
        shared.perform = meter.around(shared.perform)
    factory = role.make_factory(
        shared, reactor, options["max-connections"], options["idle-timeout"]
    )
    service = RedCouchService(
        backend,
        factory,
        _endpoints(options),
        options["storage"],
        options["drain-timeout"],
        reactor,
        _with_tls(options, role.listen),
    )
    if not options["no-inventory"] and ITrafficBackend.providedBy(storage):
        separator = options["inventory-separator"].encode()
        service.watcher = Watcher(storage, separator, _wall_clock(), reactor)
        factory.on_leave = service.watcher.leaves
    service.alone = role.ledger is None
    watch = OwnWatch(storage, ledger, factory.tally)
    return Bridge(service, own, authenticator, watch)


def _numbered_endpoints(options: Mapping[str, Any]) -> frozenset[str]:
    """Those that a --port has given as a number."""
    ports = filter(_is_number, options["ports"])
    return frozenset(_endpoint(port, options["interface"]) for port in ports)


def shared_ports(options: Mapping[str, Any]) -> frozenset[str]:
    """The endpoints on which other processes may listen as well."""
    return _numbered_endpoints(options) if options["reuse-port"] else frozenset()


def _with_tls(options: Mapping[str, Any], listen: Listen) -> Listen:
    """The same, with TLS where the options ask for it."""
    if options["tls-cert"] is None:
        return listen
    try:
        tls = read_tls(options["tls-cert"], options["tls-key"], options["tls-client-ca"])
    except ConfigurationError as error:
        raise SystemExit(f"redcouch: {error}") from None
    numbered = _numbered_endpoints(options)

    def listen_with_tls(endpoint: str, factory: ConnectionFactory) -> IService:
        return listen(endpoint, over_tls(tls, factory) if endpoint in numbered else factory)

    return listen_with_tls


def _make_supervisor(options: Mapping[str, Any], reactor: Any) -> Supervisor:
    """Build what looks after the workers. What they would refuse is refused here already."""
    fail = _fail(reactor)
    backend = _backend(options, Surroundings(reactor, _limits(options), _wall_clock(), fail))
    local = backend if ILocalBackend.providedBy(backend) else None
    if local is not None and local.shared_url is None:
        raise SystemExit(
            "redcouch: --workers: each worker would have items of its own in "
            f"{redact(options['storage'])}; use redis:// or embedded:, or one worker"
        )
    authenticator = _authenticator(options["auth-file"], Counters(), reactor)
    _with_tls(options, listening_service)  # which says so if the certificates are of no use
    listen = partial(listening_port, reactor=reactor, shared_ports=shared_ports(options))
    return Supervisor(
        dict(options), _endpoints(options), local, authenticator, reactor, fail, listen
    )


def _limits(options: Mapping[str, Any]) -> Limits:
    return Limits(
        max_item_size=options["max-item-size"],
        flush=not options["no-flush"],
        dump=not options["no-dump"],
    )


def _backend(options: Mapping[str, Any], surroundings: Surroundings) -> IStorageBackend:
    try:
        return make_backend(options["storage"], surroundings)
    except ConfigurationError as error:
        raise SystemExit(f"redcouch: --storage: {error}") from None


def _endpoints(options: Mapping[str, Any]) -> list[str]:
    return [_endpoint(port, options["interface"]) for port in options["ports"]]


def _authenticator(
    path: str | None,
    counters: Counters,
    reactor: Any,
    users: dict[bytes, bytes] | None = None,
) -> Authenticator | None:
    if path is None:
        return None
    try:
        return Authenticator(Path(path).absolute(), counters, reactor, users)
    except ConfigurationError as error:
        raise SystemExit(f"redcouch: --auth-file: {error}") from None


def _endpoint(port: str, interface: str) -> str:
    if _is_number(port):
        return f"tcp:{port}:interface={interface.replace(':', chr(92) + ':')}"
    return port


def _wall_clock() -> Callable[[], float]:
    import time

    return time.time


def _fail(reactor: Any) -> Callable[[str], None]:
    """End the whole service, with one line that says why and a status that is not 0."""

    def fail(reason: str) -> None:
        Logger().critical("RedCouch cannot go on: {reason}", reason=reason)
        print(f"redcouch: {reason}", file=sys.stderr)
        reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
        if reactor.running:
            with suppress(ReactorNotRunning):  # it is stopping already
                reactor.stop()
        else:
            reactor.callWhenRunning(reactor.stop)

    return fail
