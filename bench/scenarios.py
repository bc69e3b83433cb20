"""What is measured: each kind of load by name, with the goal set for it where there is one."""

from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from bench.names import (
    CACHED,
    CLUSTER,
    MEMCACHED,
    ORIGIN_FIRST,
    REDCOUCH,
    REDIS_FIRST,
    TWEMPROXY,
    TWEMPROXY_3,
    USUAL,
)

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


class Figure(Enum):
    """What of a peer is compared with the same of another."""

    THROUGHPUT = "throughput"
    SERVER_CPU = "server CPU"
    BACKEND_CPU = "backend CPU"


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio that a peer is meant to reach beside another: throughput at least, CPU at most."""

    peer: str
    base: str
    figure: Figure
    ratio: float

    def met(self, reached: float) -> bool:
        """Whether this ratio reaches it."""
        if self.figure is Figure.THROUGHPUT:
            return reached >= self.ratio
        return reached <= self.ratio


def _goals(
    peer: str,
    to_twemproxy: float | None = None,
    to_memcached: float | None = None,
    cpu_to_twemproxy: float | None = None,
) -> tuple[Goal, ...]:
    wanted = (
        (TWEMPROXY, Figure.THROUGHPUT, to_twemproxy),
        (MEMCACHED, Figure.THROUGHPUT, to_memcached),
        (TWEMPROXY, Figure.SERVER_CPU, cpu_to_twemproxy),
    )
    return tuple(Goal(peer, base, figure, ratio) for base, figure, ratio in wanted if ratio)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load.

    `set_share` is the part of the commands that store. `keys_per_get` above one makes every read a
    multi-get. `depth` is how many requests a connection sends before it waits for the answers.
    `overwrite` is the part of the stores that hit an existing key, which bounds the memory that
    large values take. `shared_keys` are asked for by all connections, by Zipf's law; without them
    each connection has keys of its own. `cache` bounds the memory of the peer that has a cache.
    `writes_per_second` is how many of the shared keys a native client stores meanwhile, past the
    peer. `beside_heavy` has another client ask for much at the same time.
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
    shared_keys: int = 0
    cache: str = "64m"
    writes_per_second: int = 0
    beside_heavy: bool = False
    peers: tuple[str, ...] = USUAL
    goals: tuple[Goal, ...] = ()

    def peers_among(self, named: tuple[str, ...] | None) -> tuple[str, ...]:
        """Its peers where none are named, else those named.

        None at all where it is there for certain peers and these are not among those named.
        """
        if named is None:
            return self.peers
        special = set(self.peers) - set(USUAL)
        return named if not special or special & set(named) else ()


def _values(
    size: int,
    label: str,
    overwrite: float,
    hex_goals: tuple[Goal, ...] = (),
    raw_goals: tuple[Goal, ...] = (),
) -> tuple[Scenario, ...]:
    """The 90/10 load with values of one size, in both encodings."""
    return tuple(
        Scenario(
            f"value-{label}-{encoding.value}",
            f"get/set 90/10, {label} values, {encoding.value}",
            value_size=size,
            encoding=encoding,
            overwrite=overwrite,
            goals=goals,
        )
        for encoding, goals in ((Encoding.HEX, hex_goals), (Encoding.RAW, raw_goals))
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
        goals=_goals(REDCOUCH, 0.5),
    )


def _zipf(
    name: str,
    title: str,
    cache: str = "64m",
    writes_per_second: int = 0,
    goals: tuple[Goal, ...] = (),
) -> Scenario:
    """Gets of 100,000 keys that all connections share."""
    return Scenario(
        name,
        f"get, 100 B, Zipf over 100,000 keys, {title}",
        tool=Tool.CLIENT,
        set_share=0.0,
        shared_keys=100_000,
        cache=cache,
        writes_per_second=writes_per_second,
        goals=goals,
    )


_KIBIBYTE = _goals(REDCOUCH, 0.9, 0.45, 1.5)
_LARGE_HEX = _goals(REDCOUCH, 0.5) + _goals(CACHED, 0.8)
_REDIS_CPU = (Goal(CACHED, REDCOUCH, Figure.BACKEND_CPU, 0.2),)
_WITH_CLUSTER = (REDCOUCH, CLUSTER, TWEMPROXY_3)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("getset-1", "get/set 90/10, 100 B, 1 connection", connections=1),
    Scenario(
        "getset-50",
        "get/set 90/10, 100 B, 50 connections",
        goals=_goals(REDCOUCH, 1.0, 0.5, 1.3) + _goals(CACHED, 1.2, 0.6),
    ),
    Scenario(
        "getset-500",
        "get/set 90/10, 100 B, 500 connections",
        connections=500,
        goals=_goals(REDCOUCH, 0.95, 0.5, 1.3),
    ),
    Scenario("get-only", "100 % get, 100 B, 50 connections", set_share=0.0),
    Scenario(
        "even", "get/set 50/50, 100 B, 50 connections", set_share=0.5, goals=_goals(REDCOUCH, 0.95)
    ),
    Scenario("pipeline-8", "get/set 90/10, 100 B, 8 requests in flight", Tool.CLIENT, depth=8),
    Scenario("pipeline-32", "get/set 90/10, 100 B, 32 requests in flight", Tool.CLIENT, depth=32),
    Scenario(
        "mget-20",
        "multi-get of 20 keys, 100 B",
        set_share=0.0,
        keys_per_get=20,
        goals=_goals(REDCOUCH, 0.8, 0.45, 1.6) + _goals(CACHED, 1.5, 1.0),
    ),
    Scenario(
        "mget-100",
        "multi-get of 100 keys, 100 B",
        set_share=0.0,
        keys_per_get=100,
        goals=_goals(REDCOUCH, 0.7, 0.45, 1.6) + _goals(CACHED, 2.0, 1.5),
    ),
    Scenario("mget-20-mixed", "multi-get of 20 keys, one set per 9 keys", keys_per_get=20),
    *_values(KIB, "1k", 0.0, _KIBIBYTE, _KIBIBYTE),
    *_values(16 * KIB, "16k", 0.9, _LARGE_HEX, _goals(REDCOUCH, 0.85)),
    *_values(100 * KIB, "100k", 0.9),
    _mebibyte("set", 1.0),
    _mebibyte("get", 0.0),
    Scenario(
        "binary-50",
        "binary get/set 90/10, 100 B, 50 connections",
        binary=True,
        goals=_goals(REDCOUCH, to_memcached=0.45),
    ),
    Scenario(
        "sequential",
        "one client, one request at a time",
        Tool.CLIENT,
        connections=1,
        goals=_goals(REDCOUCH, 0.8),
    ),
    Scenario(
        "beside-heavy",
        "the same beside a client with 8 multi-gets of 100 keys in flight",
        Tool.CLIENT,
        connections=1,
        beside_heavy=True,
    ),
    # The memory that gives these rates for items that count as 692 bytes.
    _zipf("zipf-50", "half of them hits", "800k"),
    _zipf("zipf-90", "90 % hits", "30m", goals=_REDIS_CPU),
    _zipf("zipf-99", "99 % hits", "61m"),
    _zipf("invalidate-100", "a native client stores 100/s", writes_per_second=100),
    _zipf("invalidate-10000", "a native client stores 10,000/s", writes_per_second=10_000),
    Scenario("cluster-50", "get/set 90/10, 100 B, 50 connections, a cluster", peers=_WITH_CLUSTER),
    Scenario(
        "cluster-mget-20",
        "multi-get of 20 keys, 100 B, a cluster",
        set_share=0.0,
        keys_per_get=20,
        peers=_WITH_CLUSTER,
    ),
    Scenario(
        "cluster-mget-100",
        "multi-get of 100 keys, 100 B, a cluster",
        set_share=0.0,
        keys_per_get=100,
        peers=_WITH_CLUSTER,
    ),
    Scenario(
        "warm-50",
        "get/set 90/10, 100 B, 50 connections, an old memcached beside Redis",
        peers=(TWEMPROXY, REDCOUCH, ORIGIN_FIRST, REDIS_FIRST),
    ),
)

QUICK = ("getset-50", "pipeline-8", "mget-20", "value-1k-hex", "sequential")

WITH_GOALS = tuple(scenario.name for scenario in SCENARIOS if scenario.goals)


def select(patterns: list[str]) -> list[Scenario]:
    """The scenarios whose name matches one of the patterns, in the order of the table.

    Raises ValueError for a pattern that matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(scenario.name, pattern) for scenario in SCENARIOS):
            raise ValueError(f"no scenario is called {pattern!r}")
    return [s for s in SCENARIOS if any(fnmatchcase(s.name, pattern) for pattern in patterns)]
