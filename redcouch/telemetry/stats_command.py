"""
The answers to C{stats}: what is counted here and what the storage knows,
under the names that memcached gives them.

What a bridge cannot know is left out, never made up. The storage is asked at
most once a second, however many monitors there are.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from redcouch import __version__
from redcouch.errors import BackendError
from redcouch.interfaces import IStorageBackend
from redcouch.limits import Limits
from redcouch.telemetry.prefixes import dump
from redcouch.telemetry.snapshot import StatsSnapshot, StatsSource

Pairs = list[tuple[bytes, bytes]]

_FRESH_FOR = 1.0
_POINTER_BITS = struct.calcsize("P") * 8


@dataclass(frozen=True, slots=True)
class Settings:
    """
    The settings of a service that C{stats settings} shows, beside its limits.

    @ivar workers: processes that serve.
    @ivar separator: what ends the prefix of a key.
    @ivar tls: some port speaks TLS.
    @ivar listening: the addresses of the listening sockets, as memcached writes them.
    """

    port: int
    interface: str
    max_connections: int
    idle_timeout: float
    version: str
    authentication: bool
    workers: int = 1
    separator: str = ":"
    tls: bool = False
    listening: Sequence[str] = ()


def _yes(so: bool) -> str:
    return "yes" if so else "no"


def _known(storage: Mapping[str, int], **names: str) -> list[tuple[str, object]]:
    """What the storage has said, under other names of memcached's."""
    return [(there, storage[here]) for there, here in names.items() if here in storage]


def _read_through(snapshot: StatsSnapshot) -> list[tuple[str, object]]:
    """Of the items read, what the storage had itself, where others are filled in."""
    warm = snapshot.warm
    return [] if warm is None else [("warm_percent", f"{100 * warm:.1f}")]


class Reporter:
    """Knows every group of statistics."""

    def __init__(
        self,
        backend: IStorageBackend,
        stats_source: StatsSource,
        limits: Limits,
        settings: Settings,
        clock: Any,
    ) -> None:
        """@param clock: the reactor."""
        self._backend = backend
        self._stats_source = stats_source
        self._limits = limits
        self._settings = settings
        self._clock = clock
        self._storage: Mapping[str, int] = {}
        self._storage_seen: float | None = None
        #: Who waits for what the storage is being asked; C{None} while it is not.
        self._waiting: list[Deferred[None]] | None = None
        self._groups: dict[bytes, Callable[[], Awaitable[list[tuple[str, object]]]]] = {
            b"": self._general,
            b"settings": self._all_settings,
            b"items": self._items,
            b"slabs": self._slabs,
            b"sizes": self._sizes,
            b"conns": self._conns,
            b"detail on": partial(self._detail, True),
            b"detail off": partial(self._detail, False),
            b"detail dump": self._detail_dump,
        }

    def report(self, group: bytes) -> Deferred[Pairs | None]:
        """The statistics of a group, or C{None} where there is no such group."""
        return Deferred.fromCoroutine(self._report(group))

    async def _report(self, group: bytes) -> Pairs | None:
        answer = self._groups.get(group)
        if answer is None:
            return None
        return [(name.encode(), str(value).encode("latin-1")) for name, value in await answer()]

    async def _ask_storage(self) -> Mapping[str, int]:
        """What the storage said a second ago at most; nothing, if it cannot be asked."""
        now = self._clock.seconds()
        if self._waiting is not None:
            answered: Deferred[None] = Deferred()
            self._waiting.append(answered)
            await answered
        elif self._storage_seen is None or now - self._storage_seen >= _FRESH_FOR:
            self._waiting = []
            try:
                self._storage = await self._backend.statistics()
            except BackendError:
                self._storage = {}
            finally:
                self._storage_seen = self._clock.seconds()
                waiting, self._waiting = self._waiting, None
                for one in waiting:
                    one.callback(None)
        return self._storage

    async def _general(self) -> list[tuple[str, object]]:
        snapshot = await self._stats_source.snapshot()
        counters = snapshot.counters
        head: list[tuple[str, object]] = [
            ("pid", snapshot.pid),
            ("uptime", int(snapshot.uptime)),
            ("time", int(time.time())),
            # Prometheus' exporter takes a service for down that gives a line of four words.
            ("version", self._settings.version.replace(" ", "-")),
            ("redcouch_version", __version__),
            ("pointer_size", _POINTER_BITS),
            ("rusage_user", f"{snapshot.user:.6f}"),
            ("rusage_system", f"{snapshot.system:.6f}"),
            ("max_connections", self._settings.max_connections),
        ]
        counted = [(field.name, getattr(counters, field.name)) for field in fields(counters)]
        storage = await self._ask_storage()
        tail: list[tuple[str, object]] = [
            ("accepting_conns", 1),
            ("listen_disabled_num", 0),  # clients beyond the limit are told so, not left waiting
            ("conn_yields", 0),
            ("connection_structures", counters.curr_connections),  # none is kept for later
            ("threads", self._settings.workers),
        ]
        own = {**storage, **snapshot.storage}
        return head + counted + tail + sorted(own.items()) + _read_through(snapshot)

    async def _all_settings(self) -> list[tuple[str, object]]:
        settings = self._settings
        return [
            *_known(await self._ask_storage(), maxbytes="limit_maxbytes"),
            ("maxconns", settings.max_connections),
            ("tcpport", settings.port),
            ("inter", settings.interface),
            ("udpport", 0),  # there is none
            ("verbosity", 0),  # whatever verbosity is told
            ("stat_key_prefix", settings.separator),
            ("evictions", "on"),
            ("cas_enabled", "yes"),
            ("idle_timeout", math.ceil(settings.idle_timeout)),  # 0 is never
            ("item_size_max", self._limits.max_item_size),
            ("num_threads", settings.workers),
            ("client_flags_size", 4),
            ("shutdown_command", "no"),
            ("track_sizes", "no"),
            ("ssl_enabled", _yes(settings.tls)),
            ("lru_crawler", "no"),
            ("flush_enabled", _yes(self._limits.flush)),
            ("dump_enabled", _yes(self._limits.dump)),
            ("binding_protocol", "auto-negotiate"),
            ("auth_enabled_sasl", _yes(settings.authentication)),
            ("auth_enabled_ascii", _yes(settings.authentication)),
        ]

    async def _items(self) -> list[tuple[str, object]]:
        """All items are in one class, as far as a bridge knows."""
        known = _known(await self._ask_storage(), number="curr_items", evicted="evictions")
        return [(f"items:1:{name}", value) for name, value in known]

    async def _slabs(self) -> list[tuple[str, object]]:
        known = _known(await self._ask_storage(), total_malloced="bytes")
        return [("active_slabs", 0), *known]

    async def _detail(self, on: bool) -> list[tuple[str, object]]:
        await self._stats_source.detail(on)
        return []

    async def _detail_dump(self) -> list[tuple[str, object]]:
        """As in memcached's binary protocol: one value that is the whole text."""
        return [("detailed", dump((await self._stats_source.snapshot()).prefixes))]

    async def _sizes(self) -> list[tuple[str, object]]:
        return [("sizes_status", "disabled")]

    async def _conns(self) -> list[tuple[str, object]]:
        """The listening sockets first, then the clients, whose numbers go on from there."""
        found: list[tuple[str, object]] = []
        listening = self._settings.listening
        for number, address in enumerate(listening, 1):
            found += [(f"{number}:addr", address), (f"{number}:state", "conn_listening")]
        for client, address in await self._stats_source.clients():
            found.append((f"{int(client) + len(listening)}:addr", address))
        return found
