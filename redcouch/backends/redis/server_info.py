"""What a Redis says of itself in INFO and HELLO: for operators, and whether it is recent enough."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

OLDEST = (6, 2)
"""The oldest Redis that RedCouch works with."""

_OF_CLUSTER = (
    "it is a node of a cluster, and has some of the items only: write redis+cluster, or over TLS "
    "rediss+cluster"
)

_TEXTS = {"version": "redis_version", "role": "role", "policy": "maxmemory_policy"}
_NUMBERS = {
    "uptime": "uptime_in_seconds",
    "replicas": "connected_slaves",
    "memory": "used_memory",
    "memory_limit": "maxmemory",
    "memory_peak": "used_memory_peak",
    "evicted": "evicted_keys",
    "expired": "expired_keys",
    "clients": "connected_clients",
    "operations": "instantaneous_ops_per_sec",
}


def read_facts(info: Mapping[str, str]) -> dict[str, str | int]:
    """
    The facts that L{IDescribedBackend<redcouch.interfaces.IDescribedBackend>}
    names, from the fields of INFO. What is missing there is missing here.
    """
    facts: dict[str, str | int] = {"kind": "Redis"}
    facts.update((name, info[there]) for name, there in _TEXTS.items() if there in info)
    facts.update(
        (name, int(info[there]))
        for name, there in _NUMBERS.items()
        if info.get(there, "").isdigit()
    )
    if "valkey_version" in info:  # which says it is a Redis 7.2 for the sake of its clients
        facts |= {"kind": "Valkey", "version": info["valkey_version"]}
    return facts


CLIENT_NAME = "redcouch"
"""What the service and its commands call their connections."""


def read_natives(reply: Any) -> dict[str, str | int]:
    """
    How many connections are native clients', from CLIENT LIST: none of RedCouch's own, of
    replicas, masters, monitors (flags) or sentinels (by the names they give themselves). Nothing
    where the reply is something else, as the user may not ask.
    """
    if not isinstance(reply, bytes):
        return {}
    natives = 0
    for line in reply.decode("utf-8", "replace").splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split(" "))
        name = fields.get("name", "")
        others = name == CLIENT_NAME or name.startswith("sentinel-")
        natives += not (others or set("MSO") & set(fields.get("flags", "")))
    return {"natives": natives}


def read_lag(info: Mapping[str, str]) -> int | None:
    """
    By how many bytes the replica that is furthest behind is behind its master; C{None} where
    there is none.
    """
    own = info.get("master_repl_offset", "0")
    offsets = [
        found[1]
        for name, value in info.items()
        if re.fullmatch(r"slave\d+", name) and (found := re.search(r"\boffset=(\d+)", value))
    ]
    return max((int(own) - int(one) for one in offsets), default=None)


def read_info(reply: Any) -> dict[str, str]:
    """The fields of INFO; none where the reply is something else. Those of HELLO are there too."""
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    info = {name: value for name, colon, value in lines if colon}
    for name in {"redis_version", "redis_mode"} & info.keys():
        info[name.removeprefix("redis_")] = info[name]
    return info


def read_greeting(reply: Any) -> dict[str, str]:
    """The fields of HELLO that are text; none where the reply is something else."""
    if not isinstance(reply, list) or len(reply) % 2:
        return {}
    pairs = zip(reply[::2], reply[1::2], strict=True)
    return {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for name, value in pairs
        if isinstance(name, bytes) and isinstance(value, bytes)
    }


def why_unfit(facts: Mapping[str, str], cluster: bool) -> str | None:
    """
    Why a Redis of C{version} and C{mode} cannot be used; C{None} where it can, or says neither.

    @param cluster: it is asked as a part of one.
    """
    if facts.get("mode") == "cluster" and not cluster:
        return _OF_CLUSTER
    found = re.match(r"(\d+)\.(\d+)", facts.get("version", ""))
    if found is None or (int(found[1]), int(found[2])) >= OLDEST:
        return None
    return f"it is Redis {facts['version']}; RedCouch needs {OLDEST[0]}.{OLDEST[1]} or later"
