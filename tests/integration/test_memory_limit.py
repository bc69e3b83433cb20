"""C{cache_memlimit}: the private Redis takes so much memory; elsewhere it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.integration import monitors
from tests.support import servers
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import ask

_MIB = 1024 * 1024


@pytest.mark.parametrize("workers", [1, 2])
def test_embedded(workers: int, tmp_path: Path) -> None:
    """Statistics say so, and what was used least is evicted; nothing else is asked of anybody."""
    storage = f"embedded://{tmp_path}/items"
    with servers.redcouch(storage, "--workers", str(workers)) as server:
        for size in (64, 16):
            assert ask(server.address, b"cache_memlimit %d\r\n" % size, b"\r\n") == b"OK\r\n"
            private = redis.Redis(unix_socket_path=f"{tmp_path}/items/redis.sock")
            assert private.config_get("maxmemory*")["maxmemory"] == str(size * _MIB)
            assert private.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
            private.close()
        refused = ask(server.address, b"cache_memlimit 7\r\n", b"\r\n")
        assert refused.startswith(b"MEMLIMIT_TOO_SMALL ")
        silent = ask(server.address, b"cache_memlimit 32 noreply\r\nmn\r\n", b"MN\r\n")
        assert silent == b"MN\r\n"


def test_elsewhere(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """A Redis that is not RedCouch's own stays as it is."""
    before = monitors.text(redcouch.address)["limit_maxbytes"]
    said = ask(redcouch.address, b"cache_memlimit 64\r\n", b"\r\n")
    assert said == b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n"
    with any_redis.client() as client:
        assert client.config_get("maxmemory")["maxmemory"] == "0"
    assert monitors.text(redcouch.address)["limit_maxbytes"] == before
