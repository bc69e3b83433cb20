"""
Four libraries as one application uses them: the same keys, values and ring (CRC modulo the
number of servers, which all of them can).

Each has C{get}, C{gets} (value and token), C{set}, C{add}, C{delete}, C{incr} and C{cas}, of
bytes, and raises where a request fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import memcache
import pylibmc
from pymemcache.client.hash import HashClient

Servers = Sequence[tuple[str, int]]

SECONDS = 60.0
"""For which a client waits."""


class FleetClient(Protocol):
    """One client of one library."""

    def use(self, servers: Servers) -> None: ...
    def get(self, key: str) -> bytes | None: ...
    def gets(self, key: str) -> tuple[bytes, Any] | None: ...
    def set(self, key: str, value: bytes) -> None: ...
    def add(self, key: str, value: bytes) -> bool: ...
    def delete(self, key: str) -> bool: ...
    def incr(self, key: str) -> int: ...
    def cas(self, key: str, value: bytes, token: Any) -> bool: ...
    def close(self) -> None: ...


def _expect(done: object, what: str) -> None:
    if not done:
        raise RuntimeError(f"{what} was refused")


class Modula:
    """A ring for pymemcache, which has none that other libraries have."""

    def __init__(self) -> None:
        self._nodes: list[str] = []

    def add_node(self, node: str) -> None:
        self._nodes.append(node)

    def remove_node(self, node: str) -> None:
        self._nodes.remove(node)

    def get_node(self, key: str | bytes) -> str:
        raw = key.encode() if isinstance(key, str) else key
        return self._nodes[(crc32(raw) >> 16 & 0x7FFF) % len(self._nodes)]


class Library:
    """@ivar client: the library's own client; C{None} before the first L{use}."""

    client: Any = None

    def use(self, servers: Servers) -> None:
        """Use these from now on, with new connections."""
        if self.client is not None:
            self.close()
        self.client = self.make(servers)

    def make(self, servers: Servers) -> Any:
        """A new client."""
        raise NotImplementedError

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self.client.get(key)
        return value

    def gets(self, key: str) -> tuple[bytes, Any] | None:
        value, token = self.client.gets(key)
        return None if value is None else (value, token)

    def set(self, key: str, value: bytes) -> None:
        _expect(self.client.set(key, value), "set")

    def add(self, key: str, value: bytes) -> bool:
        return bool(self.client.add(key, value))

    def delete(self, key: str) -> bool:
        return bool(self.client.delete(key))

    def incr(self, key: str) -> int:
        return int(self.client.incr(key, 1))

    def cas(self, key: str, value: bytes, token: Any) -> bool:
        return bool(self.client.cas(key, value, token))

    def close(self) -> None:
        """Close the connections."""
        self.client.disconnect_all()


class Pymemcache(Library):
    """pymemcache."""

    def make(self, servers: Servers) -> Any:
        return HashClient(
            [*servers],
            hasher=Modula,
            timeout=SECONDS,
            connect_timeout=SECONDS,
            no_delay=True,
            default_noreply=False,
            retry_attempts=0,
        )

    def close(self) -> None:
        self.client.close()


class Pylibmc(Library):
    """
    pylibmc, which is libmemcached. Where other threads keep Python busy, its C{gets} says now
    and then of an item that there is none, of memcached's own too: of 1,400 eight times beside
    two threads that only count, and of 36,000 never where it is alone.
    """

    def make(self, servers: Servers) -> Any:
        behaviors = {
            "hash": "crc",
            "distribution": "modula",
            "cas": True,
            "tcp_nodelay": True,
            "receive_timeout": int(SECONDS * 1e6),
            "send_timeout": int(SECONDS * 1e6),
            "connect_timeout": int(SECONDS * 1e3),
            "_poll_timeout": int(SECONDS * 1e3),
        }
        addresses = [f"{host}:{port}" for host, port in servers]
        return pylibmc.Client(addresses, behaviors=behaviors)

    def cas(self, key: str, value: bytes, token: Any) -> bool:
        try:
            return bool(self.client.cas(key, value, token))
        except pylibmc.NotFound:
            return False


class PythonMemcached(Library):
    """python-memcached."""

    def make(self, servers: Servers) -> Any:
        return memcache.Client(
            [f"{host}:{port}" for host, port in servers],
            cache_cas=True,
            socket_timeout=SECONDS,
            dead_retry=1,
        )

    def _check(self) -> None:
        dead = [server for server in self.client.servers if server.deaduntil]
        if dead:
            raise RuntimeError(f"{dead[0]} does not answer")

    def get(self, key: str) -> bytes | None:
        value = self.client.get(key)
        self._check()
        return value.encode() if isinstance(value, str) else value

    def gets(self, key: str) -> tuple[bytes, Any] | None:
        self.client.cas_ids.clear()
        value = self.client.gets(key)
        self._check()
        if value is None:
            return None
        token = self.client.cas_ids[key.encode()]
        return (value.encode() if isinstance(value, str) else value), token

    def add(self, key: str, value: bytes) -> bool:
        done = bool(self.client.add(key, value))
        self._check()
        return done

    def delete(self, key: str) -> bool:
        done = bool(self.client.delete(key))
        self._check()
        return done

    def incr(self, key: str) -> int:
        return int(self.client.incr(key))

    def cas(self, key: str, value: bytes, token: Any) -> bool:
        self.client.cas_ids[key.encode()] = token
        done = bool(self.client.cas(key, value))
        self._check()
        return done


class OwnProcess:
    """
    A client in a process of its own, which is asked in lines of JSON, a verb and its words, and
    answers with what it says, or with what went wrong.
    """

    command: Sequence[str]

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _ask(self, verb: str, *words: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([verb, words]) + "\n")
        self._process.stdin.flush()
        said, trouble = json.loads(self._process.stdout.readline())
        if trouble is not None:
            raise RuntimeError(f"{verb}: {trouble}")
        return said

    def use(self, servers: Servers) -> None:
        self._ask("use", *servers)

    def get(self, key: str) -> bytes | None:
        said = self._ask("get", key)
        return None if said is None else str(said).encode()

    def gets(self, key: str) -> tuple[bytes, Any] | None:
        said = self._ask("gets", key)
        return None if said is None else (str(said[0]).encode(), said[1])

    def set(self, key: str, value: bytes) -> None:
        _expect(self._ask("set", key, value.decode()), "set")

    def add(self, key: str, value: bytes) -> bool:
        return bool(self._ask("add", key, value.decode()))

    def delete(self, key: str) -> bool:
        return bool(self._ask("delete", key))

    def incr(self, key: str) -> int:
        return int(self._ask("incr", key))

    def cas(self, key: str, value: bytes, token: Any) -> bool:
        return bool(self._ask("cas", key, value.decode(), token))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(SECONDS)
        self._process.stdout.close()


def serve(client: FleetClient) -> None:
    """Do what L{OwnProcess} asks for, until it asks no more."""
    for line in sys.stdin:
        verb, words = json.loads(line)
        if verb == "use":
            words = [[(host, port) for host, port in words]]
        elif verb in ("set", "add", "cas"):
            words[1] = words[1].encode()
        try:
            said, trouble = getattr(client, verb)(*words), None
            said = said if verb != "set" else True  # or it would have been refused
        except Exception as error:
            said, trouble = None, repr(error)
        match said:
            case bytes():
                said = said.decode()
            case bytes() as value, token:
                said = [value.decode(), token]
        print(json.dumps([said, trouble]), flush=True)


class PylibmcAlone(OwnProcess):
    """L{Pylibmc}, with no other thread beside it."""

    command = (sys.executable, __file__)


class PhpMemcached(OwnProcess):
    """php-memcached."""

    command = ("php", str(Path(__file__).with_name("fleet_client.php")))


LIBRARIES: dict[str, Any] = {
    "pymemcache": Pymemcache,
    "pylibmc": PylibmcAlone,
    "python-memcached": PythonMemcached,
    "php-memcached": PhpMemcached,
}

if __name__ == "__main__":
    serve(Pylibmc())
