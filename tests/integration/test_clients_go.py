"""What users of Go's gomemcache see."""

from __future__ import annotations

from pathlib import Path

from tests.integration.clients.programs import GO, HERE, run, seen
from tests.support.requirements import installed, needs
from tests.support.servers import Memcached, RedCouch


@needs("go", "go memcache")
def test_gomemcache(redcouch: RedCouch, memcached: Memcached, tmp_path: Path) -> None:
    """A Go program changes host and port: every value, count and error is as it was."""
    program = str(tmp_path / "gomemcache")
    run([installed("go"), "build", "-o", program, str(HERE / "gomemcache.go")], GO)
    miss = "memcache: cache miss"
    found = seen([program, str(redcouch.port)])
    assert found == seen([program, str(memcached.port)])
    assert found == {
        "set": "ok",
        "get": ["ok", True, 2**32 - 1],
        "missing": miss,
        "add": ["ok", "memcache: item not stored"],
        "get many": ["ok", True],
        "cas": ["ok", "memcache: compare-and-swap conflict"],
        "set counter": "ok",
        "count": ["18446744073709551615", 2, 0, "ok", miss],
        "over": "ok",
        "is over": miss,
        "delete": ["ok", miss],
        "too large": 'memcache: unexpected response line from "set": '
        '"SERVER_ERROR object too large for cache\\r\\n"',
        "goes on": "ok",
    }
