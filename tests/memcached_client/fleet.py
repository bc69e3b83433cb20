"""Five real memcacheds as clients list them, and where each key has come to be."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from urllib.parse import unquote_to_bytes

from redcouch.memcached_client.rings import RingNode
from tests.support import servers
from tests.support.polling import eventually
from tests.support.servers import Memcached
from tests.support.wire import Wire, ask

DEFAULT_PORT = 11211


class Fleet:
    """@ivar names: the servers as host:port: two with a name or a port that some rings treat
    otherwise, three without."""

    def __init__(self, members: Sequence[Memcached], names: Sequence[str]) -> None:
        self._members = members
        self.names = names

    def nodes(self, weights: Sequence[int] = ()) -> list[RingNode]:
        """All of them, in order."""
        given = weights or [1] * len(self.names)
        return [RingNode(name, weight) for name, weight in zip(self.names, given, strict=True)]

    def empty(self) -> None:
        """Remove every key."""
        for member in self._members:
            assert ask(member.address, b"flush_all\r\n", b"\r\n") == b"OK\r\n"
            # What is flushed is listed until it is looked at.
            _crawled(member, b"lru_crawler crawl all\r\n", b"OK\r\n")

    def where(self) -> dict[bytes, set[int]]:
        """The ports, by their names, of the servers that have each key."""
        found: dict[bytes, set[int]] = {}
        for member, name in zip(self._members, self.names, strict=True):
            listed = _crawled(member, b"lru_crawler metadump hash\r\n", b"END\r\n")
            for line in listed.splitlines()[:-1]:
                key = unquote_to_bytes(line.split(b" ", 1)[0].removeprefix(b"key="))
                found.setdefault(key, set()).add(port_of(name))
        return found


def _crawled(member: Memcached, request: bytes, ending: bytes) -> bytes:
    """What a memcached's crawler says once it is not busy, for memcached itself say."""

    def is_whole(reply: bytes) -> bool:
        return reply.endswith(ending) or (reply.startswith(b"BUSY") and reply.endswith(b"\n"))

    def crawl() -> bytes:
        with Wire(member.address) as wire:
            told = wire.exchange(request, is_whole)
        return b"" if told is None or told.startswith(b"BUSY") else told

    return eventually(crawl)


def port_of(name: str) -> int:
    """What tells a server from the others, in whichever way its address is written."""
    return int(name.rpartition(":")[2])


@contextmanager
def fleet() -> Iterator[Fleet]:
    """The five, running and empty."""
    with ExitStack() as running:
        plain = [running.enter_context(servers.memcached("-m", "64")) for _ in range(4)]
        host = _host_with_free_default_port()
        default = running.enter_context(servers.memcached("-m", "64", "-l", f"{host}:11211"))
        names = [f"127.0.0.1:{member.port}" for member in plain]
        names[3] = f"localhost:{plain[3].port}"
        yield Fleet([*plain[:2], default, *plain[2:]], [*names[:2], f"{host}:11211", *names[2:]])


def _host_with_free_default_port() -> str:
    """A loopback address where nothing listens on memcached's port."""
    for _ in range(100):
        host = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(2, 254)}"
        with socket.socket() as probe:
            try:
                probe.bind((host, DEFAULT_PORT))
            except OSError:
                continue
            return host
    raise AssertionError("every loopback address has something on port 11211")
