"""What is said to a service, and what it counts."""

from __future__ import annotations

from tests.support.servers import Memcached, RedCouch
from tests.support.wire import ask


def stats(bridge: RedCouch) -> dict[str, int]:
    """What it counts; but not the percentage."""
    lines = ask(bridge.address, b"stats\r\n", b"END\r\n").decode().splitlines()[:-1]
    pairs = (line.split()[1:] for line in lines)
    return {
        name: int(value) for name, value in pairs if name.startswith("warm_") and value.isdigit()
    }


def say(server: Memcached | RedCouch, request: bytes, until: bytes = b"\r\n") -> bytes:
    return ask(server.address, request, until)
