"""
Everything that the status page shows, as JSON. Keys, clients and users are
what somebody else chose: they are text, and the page shows them as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from redcouch import __version__
from redcouch.backends.origin.rollback import why_not_back
from redcouch.backends.origin.stages import Stage
from redcouch.http.collect import View
from redcouch.http.history import History
from redcouch.http.metrics import outcomes
from redcouch.http.migration_phase import Signs, phase
from redcouch.telemetry.client_names import ClientNames
from redcouch.telemetry.latency import Distribution
from redcouch.urls import redact

_MOST_CLIENTS = 500
"""Connected clients that are listed; how many more there are is said."""

_WATCHING = ("noop", "version", "statistics", "resetstatistics", "quit")
"""Commands of the inventory by which nobody uses an item."""

_SECRET = re.compile(r"pass|secret|token", re.IGNORECASE)


def settings(options: Mapping[str, Any]) -> list[dict[str, str]]:
    """The options in force, without what is secret. A flag is a C{bool}."""
    return [
        {"name": f"--{_FULL.get(name, name)}", "value": _shown(name, value)}
        for name, value in sorted(options.items())
    ]


_FULL = {"ports": "port", "http-hosts": "http-host"}


def _shown(name: str, value: Any) -> str:
    if _SECRET.search(name):
        return "***"
    if name == "storage":
        return redact(str(value))
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def status(
    view: View,
    history: History,
    options: Mapping[str, Any],
    clients: list[dict[str, str]],
    now: float,
    draining: bool,
) -> dict[str, Any]:
    """The whole status, fit for JSON."""
    snapshot = view.snapshot
    counters = snapshot.counters
    natives = view.facts.get("natives")
    if isinstance(natives, int):
        history.natives = natives  # which counts while the storage cannot be asked
    signs = _signs(view, history, options, now)
    return {
        "version": __version__,
        "now": now,
        "uptime": snapshot.uptime,
        "ready": not (draining or view.trouble),
        "reason": "draining" if draining else view.trouble,
        "phase": asdict(phase(signs)),
        "rates": None if history.last is None else asdict(history.last),
        "connections": {
            "now": counters.curr_connections,
            "limit": options["max-connections"],
            "accepted": counters.total_connections,
            "rejected": counters.rejected_connections,
            "received": counters.bytes_read,
            "sent": counters.bytes_written,
        },
        "commands": [
            {"dialect": dialect, "command": command, "outcome": outcome, "count": number}
            for dialect, spoken in sorted(snapshot.spoken.items())
            for command, outcome, number in outcomes(spoken)
            if number
        ],
        "requests": _quantiles(snapshot.requests),
        "storage": {
            "url": redact(options["storage"]),
            "reconnections": snapshot.reconnections,
            "round_trips": _quantiles(snapshot.round_trips),
            "facts": dict(view.facts),
            "statistics": dict(view.statistics),
        },
        "warm": _read_through(view),
        "cache": _named(view, "cache_") or None,
        "cluster": _named(view, "cluster_") or None,
        "workers": [
            {
                "number": place.number,
                "restarts": place.restarts,
                "glance": None if place.worker_status is None else asdict(place.worker_status),
                "usage": None if used is None else asdict(used),
            }
            for place, used in view.places
        ],
        "traffic": dict(view.traffic),
        "clients": clients[:_MOST_CLIENTS],
        "clients_left_out": max(0, len(clients) - _MOST_CLIENTS),
        "settings": settings(options),
    }


def with_names(told: dict[str, Any], names: ClientNames) -> dict[str, Any]:
    """The status, with what clients are called (C{called}) wherever one is told."""
    for row in told["traffic"].get("client", ()):
        row["called"] = names.of(row["name"])
    for row in told["traffic"].get("application", ()):
        row["called"] = names.of(row["address"])
    for row in told["clients"]:  # as tcp:192.0.2.1:40000, or with an IPv6 address in brackets
        row["called"] = names.of(row["address"].partition(":")[2].rpartition(":")[0].strip("[]"))
    return told


def _read_through(view: View) -> dict[str, Any] | None:
    """What is known of filling the storage from an old memcached; C{None} where it is not."""
    if not view.snapshot.filled:
        return None
    said = view.statistics
    states = {name: said.get(name) for name in ("warm_barred", "warm_ended", "warm_left")}
    stage = [None, *Stage][said.get("warm_stage", 0)]
    pending = None if said.get("warm_ended") else said.get("warm_barred", 0)
    away, lacking = said.get("warm_old_away", 0), bool(said.get("warm_lacking"))
    return {
        "share": view.snapshot.warm,
        **_named(view, "warm_"),
        **states,
        "stage": None if stage is None else stage.value,
        "no_way_back": None if stage is None else why_not_back(stage, pending, away, lacking),
    }


def _named(view: View, prefix: str) -> dict[str, int]:
    """What the storage's backend has counted under such names."""
    counts = view.snapshot.storage
    return {name: count for name, count in counts.items() if name.startswith(prefix)}


def _signs(view: View, history: History, options: Mapping[str, Any], now: float) -> Signs:
    last, watched = history.last_traffic, view.snapshot.uptime
    if view.traffic.get("since") is not None:  # which goes back further, and knows of others
        looked = view.traffic["looked"]
        recorded = view.traffic["recorded"].get("command", looked)
        watched = max(0.0, looked - max(view.traffic["since"], recorded))
        used = (one for one in view.traffic["command"] if one["name"] not in _WATCHING)
        last = max((last or 0.0, *(one["last"] for one in used))) or None
    said = view.statistics
    return Signs(
        clients=view.snapshot.counters.curr_connections,
        quiet=None if last is None else max(0.0, now - last),
        watched=watched,
        natives=history.natives,
        reachable=bool(view.facts) or not view.trouble,
        trouble=view.trouble,
        in_redis=bool(view.facts),  # others tell none
        items=said.get("curr_items"),
        strings="layout=string" in options["storage"],
        filled=view.snapshot.filled,
        onward=_onward(said),
        warm=view.snapshot.warm,
    )


def _onward(said: Mapping[str, int]) -> str:
    """The command that brings a C{warm:} storage to its next stage; nothing after the last."""
    stage = said.get("warm_stage")
    if stage == Stage.REDIS_ONLY.number or said.get("warm_ended"):
        return ""
    if stage == Stage.ORIGIN_FIRST.number:
        return "redcouch stage redis-first"
    return "redcouch sweep" if said.get("warm_left") != 0 else "redcouch stage redis-only"


def _quantiles(distribution: Distribution) -> dict[str, float | None]:
    """In milliseconds, of all since the start."""
    return {
        name: None if (seconds := distribution.quantile(share)) is None else seconds * 1000
        for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
