"""What the page about warm starts says is so."""

from __future__ import annotations

import re
from pathlib import Path

import redis

from redcouch.backends.fill_leases import MOST_DENIED
from tests.support.documents import quoted, rows, section
from tests.support.servers import RedCouch
from tests.support.wire import ask

_PAGE = Path(__file__).parents[3] / "docs/warm-start.md"


def test_statistics(warm: RedCouch) -> None:
    """The table has every name that begins so, and what is there after a sweep."""
    ask(warm.address, b"set a 0 0 1\r\nx\r\nget a\r\n", b"END\r\n")
    said = ask(warm.address, b"stats\r\n", b"END\r\n").decode()
    told = [name for row in rows(section(_PAGE, "How warm it is")) for name in quoted(row[0])]
    assert sorted(told) == sorted(["warm_left", *re.findall(r"^STAT (warm_\S+)", said, re.M)])


def test_keys(warm: RedCouch, redis_client: redis.Redis) -> None:
    """The keys to delete are those that are there."""
    page = _PAGE.read_text()
    told = re.findall(r"redcouch:sys:warm_\w+:", page)
    assert ask(warm.address, b"flush_all\r\n", b"\r\n") == b"OK\r\n"
    there = list(redis_client.scan_iter(match="redcouch:sys:warm_*"))
    assert there
    assert all(any(key.startswith(name.encode()) for name in told) for key in there)
    assert f"{MOST_DENIED:,} such keys" in page
