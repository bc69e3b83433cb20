"""
The composition root: what the options describe, made and put together.

Everything that works together is made here and handed down; nothing below
looks for a reactor, a clock or a setting by itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.protocols.tls import TLSMemoryBIOFactory

from redcouch import __version__
from redcouch.backends.miss_on_outage import MissesOnOutage
from redcouch.backends.origin.backend import warm
from redcouch.backends.origin.url import SCHEME, read_location
from redcouch.backends.registry import make_backend
from redcouch.backends.self_report import SelfReport
from redcouch.dialects.detect import NAMES
from redcouch.errors import ConfigurationError
from redcouch.handover.succession import Inherited
from redcouch.interfaces import (
    BackendContext,
    IBoundedBackend,
    ILocalBackend,
    IStorageBackend,
    ITrafficBackend,
)
from redcouch.limits import Limits
from redcouch.options import VERSION, endpoint_of, endpoints_of, is_number, is_tls
from redcouch.process.reload import Reload
from redcouch.server.admission import Admission
from redcouch.server.connection import ConnectionFactory, CountAll, only_ours
from redcouch.server.discovery import Discovery
from redcouch.server.passwords import Authenticator
from redcouch.server.session import Shared
from redcouch.server.tls import Contents, ServerTLS
from redcouch.telemetry.counters import CountedUp, Counters
from redcouch.telemetry.latency import Meter
from redcouch.telemetry.prefixes import PrefixCounts
from redcouch.telemetry.service_status import OwnStatus
from redcouch.telemetry.snapshot import OwnStats, StatsSource
from redcouch.telemetry.stats_command import Reporter, Settings
from redcouch.telemetry.usage_recorder import UsageRecorder
from redcouch.telemetry.write_probe import WriteProbe
from redcouch.urls import redact
from redcouch.workers.supervisor import Supervisor, listening_port

Listen = Callable[[str, ConnectionFactory], IService]
"""Makes a service that listens where an endpoint string says."""


@dataclass(frozen=True, slots=True)
class Role:
    """
    What depends on whether a process is the whole service or a worker in it.

    @ivar fail: ends the whole service, as
        L{BackendContext<redcouch.interfaces.BackendContext>} says.
    @ivar count_all: counts the clients of the whole service.
    @ivar stats_source: the books of the whole service; C{None} where those of this
        process are.
    @ivar count_up: see L{BackendContext<redcouch.interfaces.BackendContext>}.
    @ivar limit_memory: asks who started the storage to bound its memory.
    @ivar users: who may come in, if that has been read from the file already.
    @ivar certificates: what stands in the files of certificates, if that has been read already.
    @ivar reload: is given what can be read again.
    """

    fail: Callable[[str], None]
    listen: Listen
    reload: Reload
    count_all: CountAll = only_ours
    stats_source: StatsSource | None = None
    users: dict[bytes, bytes] | None = None
    limit_memory: Callable[[int], Deferred[bool]] | None = None
    certificates: Contents | None = None
    count_up: Callable[..., Any] = field(default_factory=lambda: CountedUp().take)


@dataclass(frozen=True, slots=True)
class Bridge:
    """
    What serves clients in one process.

    @ivar usage_recorder: notes in the storage who speaks memcached; C{None} where nobody wants it.
    @ivar fail: ends the whole service.
    """

    backend: IStorageBackend
    factory: ConnectionFactory
    listen: Listen
    stats_source: OwnStats
    authenticator: Authenticator | None
    tls: ServerTLS | None
    status_source: OwnStatus
    usage_recorder: UsageRecorder | None
    fail: Callable[[str], None]


def make_bridge(options: Mapping[str, Any], reactor: Any, role: Role) -> Bridge:
    """Build what serves clients in this process."""
    limits = _limits(options)
    counters = Counters()
    meter = None if options["http"] is None else Meter(perf_counter)
    context = BackendContext(reactor, limits, time.time, role.fail, meter, count_up=role.count_up)
    storage = make_storage(options, context)
    backend = storage.outermost
    report = SelfReport(backend, reactor)
    authenticator = _authenticator(options["auth-file"], counters, reactor, role.reload, role.users)
    version = options["version-string"] or VERSION
    settings = Settings(
        port=next((int(port) for port in options["ports"] if is_number(port)), 0),
        interface=options["interface"],
        max_connections=options["max-connections"],
        idle_timeout=options["idle-timeout"],
        version=version,
        authentication=authenticator is not None,
        workers=options["workers"],
        separator=options["inventory-separator"],
        listening=listening_addresses(options),
        tls=options["tls-cert"] is not None or any(map(is_tls, options["ports"])),
    )
    prefixes = PrefixCounts(options["inventory-separator"].encode())
    spoken = {name: Counters() for name in NAMES}
    own = OwnStats(
        counters, lambda: factory.describe(), reactor, spoken, meter, context.counts, prefixes
    )
    stats_source: StatsSource = role.stats_source or own
    reporter = Reporter(report, stats_source, limits, settings, reactor)
    discover = None
    if options["advertise"]:
        discover = Discovery(options["advertise"], backend, time.time, reactor)
    shared = Shared(
        backend,
        counters,
        limits,
        version.encode(),
        reporter.report,
        lambda: Deferred.fromCoroutine(stats_source.reset()),
        None if authenticator is None else authenticator.check,
        spoken,
        Admission(options["memory-limit"] // options["workers"]),
        discover=discover,
        typed_version=(options["version-string"] or f"RedCouch {__version__}").encode(),
    )
    if IBoundedBackend.providedBy(backend):
        shared.limit_memory = backend.limit_memory
    elif role.limit_memory is not None:
        shared.limit_memory = role.limit_memory
    if meter is not None:
        shared.perform = meter.around(shared.perform)
    prefixes.switch = shared.switch(prefixes.around(shared.perform))
    factory = ConnectionFactory(
        shared, reactor, options["max-connections"], options["idle-timeout"], role.count_all
    )
    usage_recorder = None
    if not options["no-inventory"] and ITrafficBackend.providedBy(backend):
        separator = options["inventory-separator"].encode()
        usage_recorder = UsageRecorder(report, separator, time.time, reactor)
        factory.on_leave = usage_recorder.leaves
    write_probe = WriteProbe(report, reactor)
    status_source = OwnStatus(report, stats_source, factory.count_clients, write_probe)
    tls = _tls(options, role.reload, role.certificates)
    listen = role.listen if tls is None else _with_tls(options, tls, role.listen)
    return Bridge(
        report,
        factory,
        listen,
        own,
        authenticator,
        tls,
        status_source,
        usage_recorder,
        role.fail,
    )


def _numbered_endpoints(options: Mapping[str, Any]) -> frozenset[str]:
    """Those that a --port has given as a number."""
    ports = filter(is_number, options["ports"])
    return frozenset(endpoint_of(port, options["interface"]) for port in ports)


def shared_ports(options: Mapping[str, Any]) -> frozenset[str]:
    """The endpoints on which other processes may listen as well."""
    return _numbered_endpoints(options) if options["reuse-port"] else frozenset()


def _tls(
    options: Mapping[str, Any], reload: Reload, contents: Contents | None = None
) -> ServerTLS | None:
    if options["tls-cert"] is None:
        return None
    try:
        tls = ServerTLS(options, contents)
    except ConfigurationError as error:
        raise SystemExit(f"redcouch: {error}") from None
    reload.add("The certificates", tls.reload)
    return tls


def _with_tls(options: Mapping[str, Any], tls: ServerTLS, listen: Listen) -> Listen:
    """The same, with TLS on ports that are numbers."""
    numbered = _numbered_endpoints(options)

    def listen_with_tls(endpoint: str, factory: Any) -> IService:
        if endpoint in numbered:
            factory = TLSMemoryBIOFactory(tls, False, factory)
        return listen(endpoint, factory)

    return listen_with_tls


def make_supervisor(
    options: Mapping[str, Any],
    reactor: Any,
    fail: Callable[[str], None],
    reload: Reload,
    inherited: Inherited,
) -> Supervisor:
    """Build what looks after the workers. What they would refuse is refused here already."""
    storage = make_storage(options, BackendContext(reactor, _limits(options), time.time, fail))
    local: SelfReport | None = None
    workers_url = options["storage"]
    if ILocalBackend.providedBy(storage.innermost):
        local = SelfReport(storage.innermost, reactor)
        if local.shared_url is None:
            raise SystemExit(
                "redcouch: --workers: each worker would have items of its own in "
                f"{redact(options['storage'])}; use redis:// or embedded:, or one worker"
            )
        workers_url = storage.url_around(local.shared_url)
    authenticator = _authenticator(options["auth-file"], Counters(), reactor, reload)
    tls = _tls(options, reload)
    listen = partial(
        listening_port,
        reactor=reactor,
        shared_ports=shared_ports(options),
        reload=reload,
        inherited=inherited,
    )
    return Supervisor(
        dict(options),
        endpoints_of(options),
        local,
        authenticator,
        tls,
        reload,
        reactor,
        fail,
        listen,
        workers_url,
    )


def _limits(options: Mapping[str, Any]) -> Limits:
    return Limits(
        max_item_size=options["max-item-size"],
        flush=not options["no-flush"],
        dump=not options["no-dump"],
        discovery=bool(options["advertise"]),
    )


@dataclass(frozen=True, slots=True)
class Storage:
    """
    A storage with its layers.

    @ivar innermost: where the items live.
    @ivar outermost: what sessions ask.
    @ivar url_around: makes the URL of the same layers around another way to the innermost.
    """

    innermost: IStorageBackend
    outermost: IStorageBackend
    url_around: Callable[[str], str]


def make_storage(options: Mapping[str, Any], context: BackendContext) -> Storage:
    """The storage that the options ask for, not started yet, and the layers around it."""
    try:
        storage = _make_storage(options["storage"], options["on-outage"], context)
    except ConfigurationError as error:
        raise SystemExit(f"redcouch: --storage: {error}") from None
    if options["take-over"] and ILocalBackend.providedBy(storage.innermost):
        raise SystemExit(
            f"redcouch: --take-over: the items of {redact(options['storage'])} end with the "
            "process that has them"
        )
    return storage


def _make_storage(url: str, on_outage: str, context: BackendContext) -> Storage:
    """
    Layers go from the inside to the outside, and none knows what is around it: what
    is read from old memcacheds is kept by the storage, and a miss takes the place of an
    outage only after those have been asked.
    """
    around: Callable[[str], str] = str
    if url.lower().startswith(SCHEME):
        location = read_location(url)
        around = location.around
        innermost = make_backend(location.storage, context)
        outermost: IStorageBackend = warm(innermost, location, context)
    else:
        innermost = outermost = make_backend(url, context)
    if on_outage == "miss":
        outermost = MissesOnOutage(outermost)
    return Storage(innermost, outermost, around)


def _authenticator(
    path: str | None,
    counters: Counters,
    reactor: Any,
    reload: Reload,
    users: dict[bytes, bytes] | None = None,
) -> Authenticator | None:
    if path is None:
        return None
    try:
        authenticator = Authenticator(Path(path).absolute(), counters, reactor, users)
    except ConfigurationError as error:
        raise SystemExit(f"redcouch: --auth-file: {error}") from None
    reload.add("The users", authenticator.reload)
    return authenticator


def listening_addresses(options: Mapping[str, Any]) -> list[str]:
    """
    Where it listens, as C{stats conns} says it. A socket that comes from elsewhere, or
    whose port the system chooses, is left out.
    """
    found = []
    for endpoint in endpoints_of(options):
        kind, *words = re.split(r"(?<!\\):", endpoint)
        named = dict(word.partition("=")[::2] for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        place = plain[0] if plain else named.get("port", named.get("address", ""))
        host = named.get("interface", "").replace("\\:", ":")
        if kind == "unix" and place:
            found.append(f"unix:{place}")
        elif kind in ("tcp", "tcp4", "tcp6", "ssl") and place not in ("", "0"):
            ipv6 = ":" in host or kind == "tcp6"
            found.append(
                f"tcp6:[{host or '::'}]:{place}" if ipv6 else f"tcp:{host or '0.0.0.0'}:{place}"
            )
    return found
