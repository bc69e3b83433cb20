"""What an operator wants to know about a Redis, out of what it says of itself in INFO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def read_info(reply: Any) -> dict[str, str]:
    """The fields of INFO; none where the reply is something else."""
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
