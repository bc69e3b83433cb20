"""What each monitor of memcached shows of RedCouch, in its default settings."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bmemcached
import pytest

from redcouch import __version__
from redcouch.options import VERSION
from tests.integration import monitors
from tests.integration.clients.programs import run
from tests.integration.monitors import Stats
from tests.support import servers
from tests.support.requirements import installed, needs
from tests.support.servers import LOOPBACK, RedCouch, RedisServer
from tests.support.wire import Wire, ask

MONITORS = (
    monitors.datadog,
    monitors.telegraf,
    monitors.netdata,
    monitors.opentelemetry,
    monitors.munin,
    monitors.libmemcached,
)


@pytest.fixture(scope="module")
def watched(any_redis: RedisServer) -> Iterator[RedCouch]:
    """One that has been used a little: 3 hits and 1 miss, and 2 items."""
    with servers.redcouch(any_redis.url) as server:
        ask(server.address, b"flush_all\r\nstats reset\r\n", b"RESET\r\n")
        with Wire(server.address) as wire:
            wire.say([b"set a 0 0 1\r\nx\r\nset b 0 0 1\r\ny\r\n"], b"STORED\r\nSTORED\r\n")
            wire.say([b"get a b\r\nget a\r\nget c\r\nmn\r\n"], b"MN\r\n")
        yield server


def test_prometheus(watched: RedCouch) -> None:
    """memcached_exporter says memcached_up 1, and has every metric that a bridge can know."""
    shown = monitors.prometheus(watched.address)
    assert (shown["get_hits"], shown["get_misses"], shown["set"]) == (3, 1, 2)
    assert shown["maxconns"] == 1024
    assert shown["slab 1 number"] == shown["curr_items"]


@pytest.mark.parametrize("monitor", MONITORS, ids=lambda monitor: monitor.__name__)
@pytest.mark.parametrize("ask", [monitors.text, monitors.binary], ids=["text", "binary"])
def test_each_monitor(
    watched: RedCouch,
    ask: Callable[..., Stats],
    monitor: Callable[[Stats], dict[str, float]],
) -> None:
    """Each monitor finds each of its keys, and each is what it should be."""
    shown = monitor(ask(watched.address))
    assert shown["cmd_set"] == 2
    assert shown.get("get_hits", 3) == 3
    assert shown["curr_connections"] >= 1


def test_datadog_through_its_client(watched: RedCouch) -> None:
    """Datadog asks in binary, through python-binary-memcached, and gets its ratios."""
    name = f"{LOOPBACK}:{watched.port}"
    client: Any = bmemcached.Client((name,), socket_timeout=10)
    raw = client.stats()[name]
    client.disconnect_all()
    shown = monitors.datadog({key: value.decode() for key, value in raw.items()})
    assert shown["get_hit_percent"] == 75
    assert 0 < shown["fill_percent"] < 100


@pytest.mark.parametrize("group", ["", "settings", "items", "slabs", "sizes", "conns"])
def test_text_and_binary_say_the_same(watched: RedCouch, group: str) -> None:
    """A group has the same names in both protocols, in lines and packets that all readers take."""
    in_text = monitors.text(watched.address, group)
    in_binary = monitors.binary(watched.address, group)
    if group == "conns":
        assert in_text
        assert in_binary
        for shown in (in_text, in_binary):
            assert shown["1:addr"] == f"tcp:127.0.0.1:{watched.port}"
            assert shown["1:state"] == "conn_listening"
            clients = {key: value for key, value in shown.items() if not key.startswith("1:")}
            assert clients
            for key, value in clients.items():
                assert re.fullmatch(r"\d+:addr", key)
                assert re.fullmatch(r"tcp:127\.0\.0\.1:\d+", value)
    else:
        assert list(in_text) == list(in_binary)


@needs("munin", "perl", "perl memcached")
def test_munin(watched: RedCouch, tmp_path: Path) -> None:
    """Debian's own plugin for Munin draws its three graphs."""
    plugin = installed("munin")
    where = {"host": LOOPBACK, "port": str(watched.port)}
    shown: dict[str, str] = {}
    for graph in ("bytes", "counters", "rates"):
        link = tmp_path / f"memcached_{graph}"
        link.symlink_to(plugin)
        printed = run([installed("perl"), str(link)], where)
        shown |= dict(re.findall(r"^(\w+)\.value (\d+)$", printed, re.MULTILINE))
        assert "graph_title Memcached" in run([installed("perl"), str(link), "config"], where)
    assert shown["memcache_cache_hits"] == "3"
    assert shown["memcache_cache_misses"] == "1"
    assert shown["memcache_cmd_set"] == "2"
    assert int(shown["memcache_bytes_read"]) > 0
    assert int(shown["memcache_curr_connections"]) >= 1


@needs("netdata")
def test_netdata(watched: RedCouch, tmp_path: Path) -> None:
    """Debian's own plugin for Netdata finds RedCouch and fills every chart."""
    plugin = installed("netdata")
    (tmp_path / "python.d").mkdir()
    job = f"bridge:\n  host: {LOOPBACK}\n  port: {watched.port}\n"
    (tmp_path / "python.d" / "memcached.conf").write_text(job)
    places = {f"NETDATA_{place}_DIR": str(tmp_path) for place in ("LIB", "LOCK", "USER_CONFIG")}
    places["NETDATA_STOCK_CONFIG_DIR"] = "/usr/lib/netdata/conf.d"
    process = subprocess.Popen(
        ["/usr/bin/python3", plugin, "1", "memcached"],
        env={**os.environ, **places},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "run_time" in line and line.startswith("SET"):
                break
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    printed = "".join(lines)
    shown = dict(re.findall(r"^SET '(\w+)' = (\d+)$", printed, re.MULTILINE))
    assert (shown["get_hits"], shown["get_misses"], shown["cmd_set"]) == ("3", "1", "2")
    assert {"used", "avail", "reclaimed", "evictions", "touch_hits", "decr_misses"} < set(shown)


@needs("memcstat")
def test_memcstat(any_redis: RedisServer) -> None:
    """libmemcached's memcstat prints every statistic: the version is one that it can read."""
    program = installed("memcstat")
    with servers.redcouch(any_redis.url) as server:
        for options in ([], ["--binary"]):
            printed = run([program, f"--servers={LOOPBACK}:{server.port}", *options])
            shown = dict(re.findall(r"^\s+(\w+): (\S+)$", printed, re.MULTILINE))
            assert shown["version"] == VERSION, printed
            assert shown["redcouch_version"] == __version__
            assert shown["pid"] == str(server.pid)


def test_a_version_of_ones_own(any_redis: RedisServer) -> None:
    """Whatever the version is said to be, no line has four words."""
    with servers.redcouch(any_redis.url, "--version-string", "my own cache 1.0") as server:
        assert monitors.text(server.address)["version"] == "my-own-cache-1.0"
        assert ask(server.address, b"version\r\n", b"\r\n") == b"VERSION my own cache 1.0\r\n"


def test_statistics_while_redis_is_away() -> None:
    """
    A monitor still sees RedCouch, and every count of its own; what only Redis knows is
    left out, not said to be 0.
    """
    with servers.redis_server() as redis, servers.redcouch(redis.url) as server:
        redis.stop()
        ask(server.address, b"get a\r\n", b"\r\n")
        stats = monitors.text(server.address)
        assert not {"curr_items", "bytes", "evictions", "limit_maxbytes"} & set(stats)
        assert int(stats["storage_errors"]) > 0
        assert monitors.text(server.address, "settings")["maxconns"] == "1024"
        assert monitors.text(server.address, "items") == {}
