"""What operators see of the cache."""

from __future__ import annotations

import pytest

from redcouch.backends.cached.table import OVERHEAD
from tests.http.pages import fetch, metrics
from tests.support import servers
from tests.support.polling import eventually
from tests.support.servers import RedisServer
from tests.support.wire import Address, ask

pytestmark = pytest.mark.everywhere


def stats(address: Address) -> dict[str, int]:
    """What C{stats} says of the cache."""
    said = ask(address, b"stats\r\n", b"END\r\n").decode().splitlines()
    words = [line.split() for line in said if line.startswith("STAT cache_")]
    return {name: int(value) for _, name, value in words}


def test_counts(any_redis: RedisServer) -> None:
    """stats, metrics and the page agree; a reset leaves what is held now. Of workers, the sum."""
    url = f"{any_redis.url}/9?cache=1m"
    with servers.redcouch(url, "--http", "0", "--workers", "2") as server:
        assert ask(server.address, b"set k 0 0 1\r\nv\r\n", b"\r\n") == b"STORED\r\n"

        def hits() -> int:
            ask(server.address, b"get k\r\n" * 2, b"END\r\n")
            return stats(server.address)["cache_hits"]

        eventually(hits)

        def told() -> dict[str, int]:
            """What all three say, once no worker is late with its share."""
            seen = stats(server.address)
            scraped = metrics(server)
            shown = fetch(server, "/api/status").json()
            assert shown["warm"] is None
            agreed = all(
                scraped[f"redcouch_{name}{'' if name == 'cache_bytes' else '_total'}"]
                == shown["cache"][name]
                == count
                for name, count in seen.items()
            )
            return seen if agreed else {}

        seen = eventually(told)
        item = OVERHEAD + len(b"kkkVALUE k 0 1\r\nv\r\n")
        assert seen["cache_bytes"] % item == 0 < seen["cache_bytes"]
        assert ask(server.address, b"stats reset\r\n", b"\r\n") == b"RESET\r\n"
        left = {**dict.fromkeys(seen, 0), "cache_bytes": seen["cache_bytes"]}
        eventually(lambda: stats(server.address) == left)


def test_nothing_without_a_cache(any_redis: RedisServer) -> None:
    """Where there is none, nobody speaks of one."""
    with servers.redcouch(any_redis.url + "/9", "--http", "0") as server:
        assert stats(server.address) == {}
        assert fetch(server, "/api/status").json()["cache"] is None
        assert not [name for name in metrics(server) if "_cache_" in name]
