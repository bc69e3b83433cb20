"""What is measured: each kind of load by name, with the goal set for it where there is one."""

from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

KIB = 1024
MIB = 1024 * KIB


class Tool(Enum):
    """The program that makes the load."""

    MEMCASLAP = "memcaslap"
    CLIENT = "bench.client"


class Encoding(Enum):
    """How RedCouch keeps values in Redis. The other peers have one way only."""

    HEX = "hex"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Goal:
    """Ratios RedCouch is meant to reach: the throughputs at least, the CPU at most."""

    to_twemproxy: float | None = None
    to_memcached: float | None = None
    cpu_to_twemproxy: float | None = None


NO_GOAL = Goal()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load.

    `set_share` is the part of the commands that store. `keys_per_get` above one makes every read a
    multi-get. `depth` is how many requests a connection sends before it waits for the answers.
    `overwrite` is the part of the stores that hit an existing key, which bounds the memory that
    large values take.
    """

    name: str
    title: str
    tool: Tool = Tool.MEMCASLAP
    connections: int = 50
    value_size: int = 100
    set_share: float = 0.1
    keys_per_get: int = 1
    depth: int = 1
    binary: bool = False
    encoding: Encoding = Encoding.HEX
    overwrite: float = 0.0
    goal: Goal = NO_GOAL


def _values(size: int, label: str, overwrite: float, goal: Goal = NO_GOAL) -> tuple[Scenario, ...]:
    """The 90/10 load with values of one size, in both encodings."""
    return tuple(
        Scenario(
            f"value-{label}-{encoding.value}",
            f"get/set 90/10, {label} values, {encoding.value}",
            value_size=size,
            encoding=encoding,
            overwrite=overwrite,
            goal=goal,
        )
        for encoding in Encoding
    )


def _mebibyte(direction: str, set_share: float) -> Scenario:
    """One connection that moves values of 1 MiB one way, one after the other."""
    return Scenario(
        f"{direction}-1m-raw",
        f"{direction} of 1 MiB values, one connection, raw",
        tool=Tool.CLIENT,
        connections=1,
        value_size=MIB,
        set_share=set_share,
        encoding=Encoding.RAW,
        goal=Goal(to_twemproxy=0.5),
    )


_SMALL = Goal(to_twemproxy=1.0, to_memcached=0.5, cpu_to_twemproxy=1.3)
_MULTI_GET = Goal(to_twemproxy=0.8, to_memcached=0.45, cpu_to_twemproxy=1.6)
_KIBIBYTE = Goal(to_twemproxy=0.9, to_memcached=0.45, cpu_to_twemproxy=1.5)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("getset-1", "get/set 90/10, 100 B, 1 connection", connections=1),
    Scenario("getset-50", "get/set 90/10, 100 B, 50 connections", goal=_SMALL),
    Scenario("getset-500", "get/set 90/10, 100 B, 500 connections", connections=500, goal=_SMALL),
    Scenario("get-only", "100 % get, 100 B, 50 connections", set_share=0.0),
    Scenario("even", "get/set 50/50, 100 B, 50 connections", set_share=0.5),
    Scenario("pipeline-8", "get/set 90/10, 100 B, 8 requests in flight", Tool.CLIENT, depth=8),
    Scenario("pipeline-32", "get/set 90/10, 100 B, 32 requests in flight", Tool.CLIENT, depth=32),
    Scenario(
        "mget-20", "multi-get of 20 keys, 100 B", set_share=0.0, keys_per_get=20, goal=_MULTI_GET
    ),
    Scenario(
        "mget-100", "multi-get of 100 keys, 100 B", set_share=0.0, keys_per_get=100, goal=_MULTI_GET
    ),
    Scenario("mget-20-mixed", "multi-get of 20 keys, one set per 9 keys", keys_per_get=20),
    *_values(KIB, "1k", 0.0, _KIBIBYTE),
    *_values(16 * KIB, "16k", 0.9),
    *_values(100 * KIB, "100k", 0.9),
    _mebibyte("set", 1.0),
    _mebibyte("get", 0.0),
    Scenario(
        "binary-50",
        "binary get/set 90/10, 100 B, 50 connections",
        binary=True,
        goal=Goal(to_memcached=0.45),
    ),
    Scenario("sequential", "one client, one request at a time", Tool.CLIENT, connections=1),
)

QUICK = ("getset-50", "pipeline-8", "mget-20", "value-1k-hex", "sequential")


def select(patterns: list[str]) -> list[Scenario]:
    """The scenarios whose name matches one of the patterns, in the order of the table.

    Raises ValueError for a pattern that matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(scenario.name, pattern) for scenario in SCENARIOS):
            raise ValueError(f"no scenario is called {pattern!r}")
    return [s for s in SCENARIOS if any(fnmatchcase(s.name, pattern) for pattern in patterns)]
