"""
Everything counted, as Prometheus reads it.

Nothing is counted for its sake: it reads at each scrape what is counted
anyway. No label has a value that a client could choose, so there are as many
series as there are workers, commands, dialects and outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from redcouch import __version__
from redcouch.commands import VERBS
from redcouch.http.collect import View
from redcouch.telemetry.counters import Counters
from redcouch.telemetry.latency import BOUNDS, Distribution

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Which counter says how often a command ended how. A C{cas} is a set with a token.
_COMMANDS = {
    "get": {"hit": "get_hits", "miss": "get_misses", "error": "get_errors"},
    "set": {
        "not_stored": "set_not_stored",
        "error": "set_errors",
        "too_large": "store_too_large",
    },
    "cas": {"stored": "cas_hits", "exists": "cas_badval", "miss": "cas_misses"},
    "delete": {"hit": "delete_hits", "miss": "delete_misses", "error": "delete_errors"},
    "incr": {"hit": "incr_hits", "miss": "incr_misses", "error": "incr_errors"},
    "decr": {"hit": "decr_hits", "miss": "decr_misses", "error": "decr_errors"},
    "touch": {"hit": "touch_hits", "miss": "touch_misses", "error": "touch_errors"},
    "flush": {"ok": "cmd_flush", "error": "flush_errors"},
}


def outcomes(counters: Counters) -> Iterator[tuple[str, str, int]]:
    """Each command, how it may end, and how often it did."""
    tokens = counters.cas_hits + counters.cas_badval + counters.cas_misses
    yield "set", "stored", counters.cmd_set - tokens - counters.set_not_stored
    for command, names in _COMMANDS.items():
        for outcome, name in names.items():
            yield command, outcome, getattr(counters, name)


def exposition(view: View, limit: int, draining: bool = False) -> bytes:
    """
    The text of one scrape.

    @param limit: of connections.
    @param draining: the service lets its last clients finish.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collected(view, limit, draining))
    return generate_latest(registry)


class _Collected(Collector):
    """Gives what has been seen already."""

    def __init__(self, view: View, limit: int, draining: bool) -> None:
        self._view = view
        self._limit = limit
        self._draining = draining

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        counters = self._view.snapshot.counters
        yield InfoMetricFamily(
            "redcouch_build", "The version, as a label.", {"version": __version__}
        )
        yield GaugeMetricFamily(
            "redcouch_ready",
            "1 if clients can be served, 0 if not.",
            int(not (self._draining or self._view.trouble)),
        )
        yield self._commands()
        yield from self._times()
        yield from self._connections(counters)
        yield from self._workers()
        yield from self._storage()
        yield from self._traffic()

    def _commands(self) -> Metric:
        family = CounterMetricFamily(
            "redcouch_commands",
            "Commands answered; each key of a get counts. Meta commands are in dialect text.",
            labels=("dialect", "command", "outcome"),
        )
        for dialect, counters in sorted(self._view.snapshot.spoken.items()):
            for command, outcome, number in outcomes(counters):
                family.add_metric((dialect, command, outcome), number)
        return family

    def _times(self) -> Iterator[Metric]:
        snapshot = self._view.snapshot
        yield _histogram(
            "redcouch_request_duration_seconds",
            "From when a batch of requests goes to the storage until its replies are written; "
            "one batch in seven is measured.",
            snapshot.requests,
        )
        yield _histogram(
            "redcouch_storage_round_trip_seconds",
            "From when the storage is asked until it answers, once for each read from it.",
            snapshot.round_trips,
        )
        yield CounterMetricFamily(
            "redcouch_storage_reconnections",
            "Connections to the storage that were made again.",
            snapshot.reconnections,
        )

    def _connections(self, counters: Counters) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "redcouch_connections", "Clients connected.", counters.curr_connections
        )
        yield GaugeMetricFamily("redcouch_connections_limit", "Clients that may be.", self._limit)
        yield CounterMetricFamily(
            "redcouch_connections_accepted", "Clients let in.", counters.total_connections
        )
        yield CounterMetricFamily(
            "redcouch_connections_rejected",
            "Clients refused because there were too many.",
            counters.rejected_connections,
        )
        yield CounterMetricFamily(
            "redcouch_connections_idle_closed", "Clients closed as silent.", counters.idle_kicks
        )
        yield CounterMetricFamily("redcouch_received_bytes", "From clients.", counters.bytes_read)
        yield CounterMetricFamily("redcouch_sent_bytes", "To clients.", counters.bytes_written)
        family = CounterMetricFamily(
            "redcouch_authentications", "Attempts of clients to authenticate.", labels=("outcome",)
        )
        family.add_metric(("success",), max(0, counters.auth_cmds - counters.auth_errors))
        family.add_metric(("failure",), counters.auth_errors)
        yield family

    def _workers(self) -> Iterator[Metric]:
        families = {name: _of_workers(name) for name in _WORKERS}
        for place, usage in self._view.places:
            status = place.worker_status
            figures: dict[str, float] = {"worker_up": status is not None}
            figures["worker_restarts"] = place.restarts
            if status is not None:
                figures["storage_up"] = status.ready
                figures["worker_connections"] = status.connections
                figures["in_flight"] = status.in_flight
            if usage is not None:
                figures["worker_cpu_seconds"] = usage.cpu
                figures["worker_resident_memory_bytes"] = usage.memory
                figures["worker_open_fds"] = usage.files
            for name, figure in figures.items():
                families[name].add_metric((str(place.number),), figure)
        yield from families.values()

    def _storage(self) -> Iterator[Metric]:
        """Nothing where it cannot be asked: a zero would look like an empty Redis."""
        for there, (name, documentation) in STORAGE.items():
            if there in self._view.statistics:
                make = CounterMetricFamily if there in _COUNTED else GaugeMetricFamily
                yield make(f"redcouch_{name}", documentation, self._view.statistics[there])
        for there, documentation in (WARM | CLUSTER | CACHE).items():
            if there in self._view.snapshot.storage:
                make = GaugeMetricFamily if there == "cache_bytes" else CounterMetricFamily
                yield make(f"redcouch_{there}", documentation, self._view.snapshot.storage[there])

    def _traffic(self) -> Iterator[Metric]:
        """The inventory, where one is kept, without what clients chose: verbs and numbers."""
        traffic = self._view.traffic
        if traffic.get("since") is None:
            return
        yield GaugeMetricFamily(
            "redcouch_inventory_since_timestamp_seconds",
            "UNIX time from which on it has been noted, without a gap, who speaks memcached.",
            traffic["since"],
        )
        last = GaugeMetricFamily(
            "redcouch_inventory_last_seen_timestamp_seconds",
            "UNIX time at which a command was last seen, through any bridge on this storage.",
            labels=("command",),
        )
        for one in traffic["command"]:
            if one["name"] in VERBS:
                last.add_metric((one["name"],), one["last"])
        yield last
        names = GaugeMetricFamily(
            "redcouch_inventory_names",
            "Names that the inventory has: clients, users and prefixes of keys.",
            labels=("kind",),
        )
        for kind in ("client", "user", "prefix"):
            names.add_metric((kind,), traffic["known"].get(kind, 0))
        yield names


_WORKERS = {
    "worker_up": "1 if it answers.",
    "worker_restarts": "Times that it was started again.",
    "storage_up": "1 if the worker reaches the storage and can serve from it.",
    "worker_connections": "Clients connected to it.",
    "in_flight": "Clients whose requests are being answered.",
    "worker_cpu_seconds": "CPU time, user and system.",
    "worker_resident_memory_bytes": "Resident memory.",
    "worker_open_fds": "Open file descriptors.",
}
"""What is told of each worker, by its number."""

_COUNTED_OF_WORKERS = ("worker_restarts", "worker_cpu_seconds")

STORAGE = {
    "curr_items": ("storage_items", "Keys in the database of the items."),
    "bytes": ("storage_memory_bytes", "Memory the storage uses."),
    "limit_maxbytes": ("storage_memory_limit_bytes", "Memory the storage may use."),
    "evictions": ("storage_evicted", "Keys that the storage evicted for want of memory."),
    "reclaimed": ("storage_expired", "Keys that the storage removed as expired."),
    "cluster_masters": ("cluster_masters", "Masters of the cluster that serve slots."),
    "cluster_masters_down": ("cluster_masters_down", "Those of them that cannot be asked."),
    "cluster_slots_unserved": ("cluster_slots_unserved", "Slots that no node serves."),
    "warm_barred": (
        "warm_barred",
        "Keys that are never fetched, as the old memcached may have them out of date.",
    ),
    "warm_stage": ("warm_stage", "1 for origin-first, 2 for redis-first, 3 for redis-only."),
    "warm_left": (
        "warm_left",
        "Items that the last sweep in this stage has left to bring over; nothing before one.",
    ),
    "warm_ended": ("warm_ended", "1 if nothing is fetched from the old memcached any more."),
}
"""What the storage's statistics tell, under which name."""

_COUNTED = ("evictions", "reclaimed")
"""What of that is counted up, and not as it is now."""

CLUSTER = {
    "cluster_redirections": "Requests that a node of the cluster sent to another one.",
    "cluster_repetitions": "Requests sent again because a node could not serve them yet.",
    "cluster_refreshes": "Times that the cluster was asked which node serves which slots.",
}

WARM = {
    "warm_hits": "Keys read that the storage had, with an old memcached behind it.",
    "warm_pulled": "Items brought over from the old memcached.",
    "warm_misses": "Keys read that neither had.",
    "warm_errors": "Requests that the old memcached did not answer.",
}


CACHE = {
    "cache_hits": "Keys read that were answered from the processes' own memory.",
    "cache_misses": "Keys read of which the storage was asked, with a cache.",
    "cache_invalidations": "Items dropped from memory because they had changed.",
    "cache_bytes": "Bytes that the items in the processes' own memory take.",
}


def _of_workers(name: str) -> CounterMetricFamily | GaugeMetricFamily:
    make = CounterMetricFamily if name in _COUNTED_OF_WORKERS else GaugeMetricFamily
    return make(f"redcouch_{name}", _WORKERS[name], labels=("worker",))


def _histogram(name: str, documentation: str, distribution: Distribution) -> Metric:
    buckets = []
    total = 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), distribution.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return HistogramMetricFamily(name, documentation, buckets, sum_value=distribution.seconds)
