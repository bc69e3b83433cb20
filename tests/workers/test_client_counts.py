"""The numbers of clients that all workers see."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from redcouch.workers.client_counts import ClientCounts, make_memory


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = make_memory(3)
    yield descriptor
    os.close(descriptor)


def test_common(memory: int) -> None:
    """What one writes the others read."""
    one, other = ClientCounts(memory, 3), ClientCounts(memory, 3)
    assert other.total() == 0
    one.set(0, 5)
    other.set(2, 7)
    assert one.total() == other.total() == 12
    assert one.leave(2) == 7
    assert other.total() == 5
    assert one.leave(2) == 0


def test_ahead(memory: int) -> None:
    """Who has two more than another is ahead. Workers that are not there do not count."""
    client_counts = ClientCounts(memory, 3)
    client_counts.set(0, 9)
    assert not client_counts.is_ahead(0)
    client_counts.set(1, 8)
    assert not client_counts.is_ahead(0)
    client_counts.set(1, 7)
    assert client_counts.is_ahead(0)
    assert not client_counts.is_ahead(1)
    client_counts.leave(1)
    assert not client_counts.is_ahead(0)
