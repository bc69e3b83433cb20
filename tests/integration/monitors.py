"""
How the monitors of memcached read its statistics, as strictly as each does.

Each reader gives what it would show, and raises L{DownError} where the monitor
would take the service for down or an answer for damaged.
"""

from __future__ import annotations

import re

from tests.support import frames
from tests.support.wire import Address, Wire

Stats = dict[str, str]


class DownError(AssertionError):
    """A monitor would raise an alarm."""


def text(address: Address, group: str = "") -> Stats:
    """Lines of exactly C{STAT name value}, then C{END}: what each monitor's reader takes."""
    with Wire(address) as wire:
        reply = wire.say([f"stats {group}".rstrip().encode() + b"\r\n"], b"END\r\n").reply
    lines = reply.decode("ascii").split("\r\n")
    if lines[-2:] != ["END", ""]:
        raise DownError(f"no END: {lines[-1]}")
    found: Stats = {}
    for line in lines[:-2]:
        words = line.split(" ")
        if len(words) != 3 or words[0] != "STAT" or not all(words):
            raise DownError(f"unexpected stats line format: {line}")
        if words[1] in found:
            raise DownError(f"twice: {words[1]}")
        found[words[1]] = words[2]
    return found


def binary(address: Address, group: str = "") -> Stats:
    """One packet with key and value for each, then an empty one."""
    end = frames.reply(0x10)
    with Wire(address) as wire:
        reply = wire.say([frames.frame(0x10, group.encode())], end).reply
    found: Stats = {}
    while len(reply) > len(end):
        magic, opcode, name, extras, _, status, body, opaque, _ = frames.HEADER.unpack(reply[:24])
        if (magic, opcode, extras, status, opaque) != (0x81, 0x10, 0, 0, frames.OPAQUE) or not name:
            raise DownError(f"unexpected packet {reply[:24]!r}")
        found[reply[24 : 24 + name].decode()] = reply[24 + name : 24 + body].decode()
        reply = reply[24 + body :]
    if reply != end:
        raise DownError("no empty packet at the end")
    return found


def _number(stats: Stats, key: str) -> float:
    try:
        return float(stats[key])
    except ValueError:
        raise DownError(f"{key} is no number: {stats[key]}") from None


def _time(stats: Stats, key: str) -> float:
    """Seconds and microseconds, each read by itself."""
    parts = stats[key].split(".")
    if len(parts) != 2 or len(parts[1]) != 6:
        raise DownError(f"{key} is no time: {stats[key]}")
    return int(parts[0]) + int(parts[1]) / 1e6


def need(stats: Stats, *keys: str) -> dict[str, float]:
    """These keys, all of which must be there, as numbers."""
    missing = [key for key in keys if key not in stats]
    if missing:
        raise DownError(f"missing: {missing}")
    return {key: _number(stats, key) for key in keys}


def both(*operations: str) -> list[str]:
    return [f"{one}_{how}" for one in operations for how in ("hits", "misses")]


def prometheus(address: Address) -> dict[str, float]:
    """
    memcached_exporter: C{memcached_up} is 0 if a line has other than three words, a
    number is none, a time is none, C{cmd_set} comes without the three of cas, or
    C{stats settings} is not answered. Keys that are not there are passed over, so those
    that a bridge knows are asked for here.
    """
    stats = text(address)
    shown = need(
        stats,
        *both("get", "delete", "incr", "decr", "cas", "touch"),
        *("uptime", "time", "cas_badval", "cmd_flush", "cmd_set", "bytes", "limit_maxbytes"),
        *("curr_items", "total_items", "bytes_read", "bytes_written", "curr_connections"),
        *("total_connections", "rejected_connections", "conn_yields", "listen_disabled_num"),
        *("evictions", "reclaimed", "store_too_large", "store_no_memory", "accepting_conns"),
    )
    shown["set"] = shown["cmd_set"] - sum(
        shown[key] for key in ("cas_misses", "cas_hits", "cas_badval")
    )
    shown["rusage_user"] = _time(stats, "rusage_user")
    shown["rusage_system"] = _time(stats, "rusage_system")
    settings = text(address, "settings")
    shown |= need(settings, "maxconns")
    if settings.get("lru_crawler") == "yes":
        need(settings, "lru_crawler_sleep", "lru_crawler_tocrawl", "hot_lru_pct", "warm_lru_pct")
    for key, value in text(address, "items").items():
        match = re.fullmatch(r"items:(\d+):(\w+)", key)
        if match is None:
            raise DownError(f"an item class that is none: {key}")
        shown[f"slab {match[1]} {match[2]}"] = float(value)
    slabs = text(address, "slabs")
    shown |= need(slabs, "total_malloced")
    if any(":" in key for key in slabs):
        raise DownError("a slab class would need all of its counts")
    return shown


def datadog(stats: Stats) -> dict[str, float]:
    """
    The check mcache: an empty answer is a failure; of what is there it makes ratios,
    which need limit_maxbytes, cmd_get and curr_items to divide by.
    """
    shown = need(
        stats,
        *("total_items", "curr_items", "limit_maxbytes", "uptime", "bytes", "curr_connections"),
        *("max_connections", "connection_structures", "threads", "pointer_size"),
        *("rusage_user", "rusage_system", "cmd_get", "cmd_set", "cmd_flush"),
        *both("get", "delete", "cas"),
        *("cas_badval", "evictions", "bytes_read", "bytes_written", "total_connections"),
        "listen_disabled_num",
    )
    if shown["limit_maxbytes"] <= 0:
        raise DownError("nothing to fill")
    shown["fill_percent"] = 100 * shown["bytes"] / shown["limit_maxbytes"]
    gets = shown["cmd_get"]
    shown["get_hit_percent"] = 100 * shown["get_hits"] / gets if gets else 0.0
    return shown


def telegraf(stats: Stats) -> dict[str, float]:
    """The input memcached: integers, of which it sends those that it finds."""
    shown = need(
        stats,
        *("accepting_conns", "bytes", "bytes_read", "bytes_written", *both("cas", "decr")),
        *("cas_badval", "cmd_flush", "cmd_get", "cmd_set", "cmd_touch", "conn_yields"),
        *("connection_structures", "curr_connections", "curr_items", *both("delete")),
        *("evictions", *both("get", "incr", "touch"), "limit_maxbytes", "listen_disabled_num"),
        *("reclaimed", "threads", "total_connections", "total_items", "uptime"),
    )
    for key in shown:
        if not stats[key].isdigit():
            raise DownError(f"no integer: {key} {stats[key]}")
    return shown


def netdata(stats: Stats) -> dict[str, float]:
    """The dimensions of its charts."""
    shown = need(
        stats,
        *("limit_maxbytes", "bytes", "bytes_read", "bytes_written", "cmd_get", "cmd_set"),
        *("cmd_touch", "curr_connections", "curr_items", "evictions", "reclaimed"),
        *both("cas", "decr", "delete", "incr", "get", "touch"),
        *("cas_badval", "rejected_connections", "total_connections", "total_items"),
    )
    shown["avail"] = shown["limit_maxbytes"] - shown["bytes"]
    if shown["avail"] < 0:
        raise DownError("fuller than full")
    return shown


def opentelemetry(stats: Stats) -> dict[str, float]:
    """The memcachedreceiver."""
    return need(
        stats,
        *("bytes", "curr_connections", "total_connections", "cmd_get", "cmd_set", "cmd_flush"),
        *("cmd_touch", "curr_items", "threads", "evictions", "bytes_read", "bytes_written"),
        *both("get", "incr", "decr"),
        *("rusage_user", "rusage_system"),
    )


def munin(stats: Stats) -> dict[str, float]:
    """The graphs of memcached_."""
    return need(
        stats,
        *(*both("get"), "cmd_get", "cmd_set", "total_items", "total_connections"),
        *("bytes_read", "bytes_written", "curr_items", "curr_connections", "bytes"),
    )


def libmemcached(stats: Stats) -> dict[str, float]:
    """
    The fields of C{memcached_stat_st}: all but the version are numbers; the version is
    cut to 23 bytes, and a time is read up to its point.
    """
    if not 0 < len(stats["version"]) < 24:
        raise DownError("no version")
    return need(
        stats,
        *("pid", "uptime", "time", "pointer_size", "rusage_user", "rusage_system"),
        *("curr_items", "total_items", "bytes", "curr_connections", "total_connections"),
        *("connection_structures", "cmd_get", "cmd_set", *both("get"), "evictions"),
        *("bytes_read", "bytes_written", "limit_maxbytes", "threads"),
    )
