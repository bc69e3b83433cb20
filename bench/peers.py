"""The servers that are compared, and how each is started."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.names import (
    CACHED,
    CLUSTER,
    MEMCACHED,
    ORIGIN_FIRST,
    REDCOUCH,
    REDIS_FIRST,
    TWEMPROXY,
    TWEMPROXY_3,
)
from bench.processes import (
    LOOPBACK,
    Processes,
    Running,
    StartError,
    ask,
    free_port,
    wait_for_answer,
)
from bench.scenarios import Encoding
from bench.tools import PACKAGES, find, require

_NODES = 3
"""Masters of the cluster, and memcacheds behind twemproxy-3."""

_SLOTS = 16384

_MEMORY_MIB = 2048
_CONNECTIONS = 2048
_FLUSH_SECONDS = 60.0
# A value of 1 MiB is an item of a little more.
_LARGEST_ITEM = "2m"

_TWEMPROXY_CONFIG = """\
bench:
  listen: {host}:{port}
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: false
  preconnect: true
  backlog: 1024
  servers:
{servers}
"""


@dataclass(frozen=True, slots=True)
class Placement:
    """The CPU core of the server under test, and of all else; None leaves it to the kernel."""

    server: int | None = None
    others: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a peer needs to know to start."""

    processes: Processes
    placement: Placement
    encoding: Encoding
    cache: str
    redcouch_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that runs, with the processes behind it, and a way to empty it.

    `storage` is what bench.writer has to know to store past the server, where it can: the protocol
    and the address of what is behind it.
    """

    name: str
    port: int
    server: Running
    backends: tuple[Running, ...]
    flush: Callable[[], None]
    storage: tuple[str, str] | None = None

    def processes(self) -> tuple[Running, ...]:
        """The server, then what is behind it."""
        return (self.server, *self.backends)

    def cache_counts(self) -> tuple[int, int] | None:
        """Keys answered from a cache and keys that were not, so far; None where there is none."""
        if self.name != CACHED:
            return None
        said = ask((LOOPBACK, self.port), b"stats\r\n", b"END\r\n").decode().splitlines()
        counts = {words[1]: words[2] for line in said if len(words := line.split(None, 2)) == 3}
        return int(counts["cache_hits"]), int(counts["cache_misses"])

    def speaks_binary(self) -> bool:
        """Whether a binary no-op gets a binary answer."""
        noop = b"\x80\x0a" + bytes(22)
        try:
            return ask((LOOPBACK, self.port), noop, b"\x81").startswith(b"\x81\x0a")
        except OSError:
            return False


def _start_memcached(plan: Plan, name: str, cpu: int | None) -> tuple[Running, int]:
    port = free_port()
    command = [require("memcached"), "-t", "1", "-l", LOOPBACK, "-p", str(port), "-U", "0"]
    command += ["-m", str(_MEMORY_MIB), "-c", str(_CONNECTIONS), "-I", _LARGEST_ITEM]
    if os.geteuid() == 0:
        command += ["-u", "nobody"]
    running = plan.processes.start(name, command, cpu)
    _wait_until_serving(running, port)
    return running, port


def _wait_until_serving(running: Running, port: int) -> None:
    """Until a value can be stored, so that no load meets a server that is still connecting."""
    wait_for_answer(running, (LOOPBACK, port), b"set bench 0 1 1\r\nx\r\n", b"STORED\r\n")


def _flush_memcached(port: int) -> None:
    if ask((LOOPBACK, port), b"flush_all\r\n", b"OK\r\n", _FLUSH_SECONDS) != b"OK\r\n":
        raise RuntimeError("memcached did not flush")


def _flush_redis(address: tuple[str, int] | str) -> None:
    if ask(address, b"FLUSHALL\r\n", b"+OK\r\n") != b"+OK\r\n":
        raise RuntimeError("Redis did not flush")


def start_memcached(plan: Plan) -> Peer:
    """memcached with one worker thread."""
    server, port = _start_memcached(plan, MEMCACHED, plan.placement.server)
    storage = ("memcached", f"{LOOPBACK}:{port}")
    return Peer(MEMCACHED, port, server, (), lambda: _flush_memcached(port), storage)


def start_twemproxy(plan: Plan, name: str = TWEMPROXY, count: int = 1) -> Peer:
    """twemproxy in front of memcacheds of its own."""
    others = plan.placement.others
    started = [_start_memcached(plan, f"{name}-memcached-{n}", others) for n in range(count)]
    ports = [backend_port for _, backend_port in started]
    folder, port = plan.processes.folder, free_port()
    config = folder / f"{name}.yml"
    servers = "\n".join(f"    - {LOOPBACK}:{backend_port}:1" for backend_port in ports)
    config.write_text(_TWEMPROXY_CONFIG.format(host=LOOPBACK, port=port, servers=servers))
    # Its statistics listen on every interface unless told otherwise.
    command = [require("nutcracker"), "-c", str(config), "-a", LOOPBACK, "-s", str(free_port())]
    command += ["-v", "4", "-p", str(folder / f"{name}.pid"), "-o", "/dev/stderr"]
    server = plan.processes.start(name, command, plan.placement.server)
    _wait_until_serving(server, port)
    backends = tuple(running for running, _ in started)
    storage = ("memcached", f"{LOOPBACK}:{ports[0]}") if count == 1 else None
    return Peer(name, port, server, backends, lambda: _each(_flush_memcached, ports), storage)


def start_twemproxy_3(plan: Plan) -> Peer:
    """twemproxy in front of three memcacheds."""
    return start_twemproxy(plan, TWEMPROXY_3, _NODES)


def _each(flush: Callable[[Any], None], places: Sequence[Any]) -> None:
    for place in places:
        flush(place)


def _start_redis(plan: Plan, name: str) -> tuple[Running, str]:
    path = str(plan.processes.folder / f"{name}.sock")
    command = [require("redis-server"), "--port", "0", "--unixsocket", path]
    command += ["--unixsocketperm", "700", "--save", "", "--appendonly", "no"]
    command += ["--hash-max-ziplist-value", "1024"]  # as docs/operations.md advises
    running = plan.processes.start(name, command, plan.placement.others)
    wait_for_answer(running, path, b"PING\r\n", b"+PONG\r\n")
    return running, path


def _storage_url(plan: Plan, path: str) -> str:
    return f"redis+unix://{path}?db=0&encoding={plan.encoding.value}"


def start_redcouch(plan: Plan, name: str = REDCOUCH, parameters: str = "") -> Peer:
    """RedCouch in front of a Redis of its own, on a unix socket."""
    backend, path = _start_redis(plan, f"{name}-redis")
    server, port = _start_redcouch(plan, name, _storage_url(plan, path) + parameters)
    return Peer(name, port, server, (backend,), lambda: _flush_redis(path), ("redis", path))


def start_cached(plan: Plan) -> Peer:
    """The same with a cache in its memory."""
    return start_redcouch(plan, CACHED, f"&cache={plan.cache}")


def start_warm(plan: Plan, stage: str) -> Peer:
    """RedCouch in front of a Redis and of the memcached that it replaces, in one of the stages."""
    name = f"{REDCOUCH}-{stage}"
    redis, path = _start_redis(plan, f"{name}-redis")
    memcached, origin = _start_memcached(plan, f"{name}-memcached", plan.placement.others)
    url = f"warm:{_storage_url(plan, path)}&from=memcached://{LOOPBACK}:{origin}"
    if stage == "origin-first":  # the other one is where a storage begins
        command = [_beside_python("redcouch"), "stage", stage, "--storage", url]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        if said.returncode:
            raise StartError(f"{name} did not start: {said.stderr.strip()}")
    server, port = _start_redcouch(plan, name, url)
    # FLUSHALL would remove the stage as well.
    return Peer(name, port, server, (redis, memcached), lambda: _flush_memcached(port))


def _start_redcouch(plan: Plan, name: str, url: str) -> tuple[Running, int]:
    port = free_port()
    command = [_beside_python("twistd"), "-n", "--pidfile=", "redcouch", "--port", str(port)]
    command += ["--storage", url, "--max-item-size", _LARGEST_ITEM]
    command += ["--max-connections", str(_CONNECTIONS), *plan.redcouch_options]
    server = plan.processes.start(name, command, plan.placement.server)
    _wait_until_serving(server, port)
    return server, port


def start_cluster(plan: Plan) -> Peer:
    """RedCouch in front of a Redis Cluster of three masters."""
    masters, ports = [], []
    for number in range(_NODES):
        name, port = f"{CLUSTER}-redis-{number}", free_port()
        command = [require("redis-server"), "--port", str(port), "--bind", LOOPBACK]
        command += ["--save", "", "--appendonly", "no", "--hash-max-ziplist-value", "1024"]
        command += ["--cluster-enabled", "yes", "--cluster-config-file", f"{name}.conf"]
        command += ["--cluster-port", str(free_port())]
        running = plan.processes.start(name, command, plan.placement.others)
        wait_for_answer(running, (LOOPBACK, port), b"PING\r\n", b"+PONG\r\n")
        bus = int(command[-1])
        first, last = _SLOTS * number // _NODES, _SLOTS * (number + 1) // _NODES - 1
        ask((LOOPBACK, port), b"CLUSTER ADDSLOTSRANGE %d %d\r\n" % (first, last), b"OK\r\n")
        masters.append(running)
        ports.append(port)
        meeting = f"CLUSTER MEET {LOOPBACK} {port} {bus}\r\n".encode()
        ask((LOOPBACK, ports[0]), meeting, b"OK\r\n")
    places = [(LOOPBACK, port) for port in ports]
    for running, place in zip(masters, places, strict=True):
        wait_for_answer(running, place, b"CLUSTER INFO\r\n", b"cluster_state:ok")
    hosts = ",".join(f"{LOOPBACK}:{port}" for port in ports)
    url = f"redis+cluster://{hosts}?encoding={plan.encoding.value}"
    server, port = _start_redcouch(plan, CLUSTER, url)
    return Peer(CLUSTER, port, server, tuple(masters), lambda: _each(_flush_redis, places))


def _beside_python(program: str) -> str:
    return str(Path(sys.executable).parent / program)


@cache
def _redcouch_trouble() -> str | None:
    """Why `twistd redcouch` cannot run here: the last line it says, or None."""
    twistd = _beside_python("twistd")
    if not Path(twistd).exists():
        return "twistd is not installed beside this Python"
    tried = subprocess.run(
        [twistd, "redcouch", "--help"], capture_output=True, text=True, check=False, cwd="/"
    )
    if tried.returncode == 0:
        return None
    return (tried.stderr or tried.stdout).strip().splitlines()[-1]


def trouble(name: str) -> str | None:
    """Why a peer cannot be measured here, in one line, or None."""
    for tool in _NEEDS[name]:
        if find(tool) is None:
            return f"{tool} is not installed (Debian package {PACKAGES[tool]})"
    return _redcouch_trouble() if name.startswith(REDCOUCH) else None


_NEEDS = {
    MEMCACHED: ("memcached",),
    TWEMPROXY: ("nutcracker", "memcached"),
    REDCOUCH: ("redis-server",),
    CACHED: ("redis-server",),
    CLUSTER: ("redis-server",),
    TWEMPROXY_3: ("nutcracker", "memcached"),
    ORIGIN_FIRST: ("redis-server", "memcached"),
    REDIS_FIRST: ("redis-server", "memcached"),
}
STARTERS: dict[str, Callable[[Plan], Peer]] = {
    MEMCACHED: start_memcached,
    TWEMPROXY: start_twemproxy,
    REDCOUCH: start_redcouch,
    CACHED: start_cached,
    CLUSTER: start_cluster,
    TWEMPROXY_3: start_twemproxy_3,
    ORIGIN_FIRST: lambda plan: start_warm(plan, "origin-first"),
    REDIS_FIRST: lambda plan: start_warm(plan, "redis-first"),
}
