"""What is noted of memcached traffic, before and after it is written down."""

from __future__ import annotations

from redcouch.backends.redis.usage_store import oldest, read_inventory
from redcouch.telemetry.usage import MOST, UsageSample, UsageSamples


def test_seconds() -> None:
    """A name counts once in each second in which it was seen."""
    notes = UsageSamples()
    for now in (10, 10, 11, 15):
        notes.add("client", b"a", now)
    notes.add("user", b"a", 12)
    assert set(notes.take()) == {
        UsageSample("client", b"a", 15, 3),
        UsageSample("user", b"a", 12, 1),
    }
    assert notes.take() == []


def test_bound() -> None:
    """However many names there are, so many of a kind are held, and of others as many."""
    notes = UsageSamples()
    for number in range(2 * MOST):
        notes.add("prefix", b"%d" % number, 1)
    notes.add("prefix", b"0", 2)
    notes.add("client", b"a", 1)
    taken = notes.take()
    assert len(taken) == MOST + 1
    assert UsageSample("prefix", b"0", 2, 2) in taken
    notes.add("prefix", b"new", 3)
    assert notes.take() == [UsageSample("prefix", b"new", 3, 1)]


def test_oldest() -> None:
    """Those seen longest ago are the ones to go."""
    fields = [b"a", b"5", b"b", b"20", b"c", b"3", b"d", b"100"]
    assert oldest(fields, 2) == [b"c", b"a"]
    assert oldest(fields, 9) == []


def test_read() -> None:
    """What stands in Redis, the latest first."""
    inventory = read_inventory(
        {b"since": b"5", b"looked": b"9"},
        {"client": {b"a": b"6", b"b": b"8"}, "user": {}},
        {"client": {b"a": b"3"}},
    )
    assert (inventory.since, inventory.looked) == (5, 9)
    assert list(inventory.of("client")) == [
        UsageSample("client", b"b", 8, 0),
        UsageSample("client", b"a", 6, 3),
    ]
    assert list(inventory.of("user")) == []
    assert read_inventory({}, {}, {}).since is None
