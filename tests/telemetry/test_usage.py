"""What is noted of memcached traffic, before and after it is written down."""

from __future__ import annotations

import pytest

from redcouch.backends.redis.usage_store import (
    RECORDED,
    ROOT,
    key_of,
    oldest,
    read_inventory,
    seconds_key_of,
    unbroken,
)
from redcouch.telemetry.usage import (
    LEFT_OUT,
    MOST,
    UsageSample,
    UsageSamples,
    name_application,
    read_application,
)


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
    """However many names there are, so many of a kind are held; the others are held as one."""
    notes = UsageSamples()
    for number in range(2 * MOST):
        notes.add("prefix", b"%d" % number, 1)
    notes.add("prefix", b"0", 2)
    notes.add("client", b"a", 1)
    taken = notes.take()
    assert len(taken) == MOST + 2
    left_out = UsageSample("prefix", LEFT_OUT, 1, 1)
    assert {UsageSample("prefix", b"0", 2, 2), left_out} < {*taken}
    notes.add("prefix", b"new", 3)
    new = UsageSample("prefix", b"new", 3, 1)
    assert notes.take() == [new]
    notes.put_back([*taken, new])
    assert UsageSample("prefix", LEFT_OUT, 1, 2) in notes.take()


def test_looked_at_often() -> None:
    """A second counts once, though it is written down in between."""
    notes = UsageSamples()
    notes.add("client", b"a", 10)
    assert notes.take() == [UsageSample("client", b"a", 10, 1)]
    notes.add("client", b"a", 10)
    assert notes.take() == []
    notes.add("client", b"a", 11)
    assert notes.take() == [UsageSample("client", b"a", 11, 1)]


def test_put_back() -> None:
    """What could not be written down is there the next time, with what has come since."""
    notes = UsageSamples()
    notes.add("client", b"a", 10)
    notes.add("client", b"b", 10)
    taken = notes.take()
    notes.add("client", b"a", 12)
    notes.put_back(taken)
    assert set(notes.take()) == {
        UsageSample("client", b"a", 12, 2),
        UsageSample("client", b"b", 10, 1),
    }


def test_oldest() -> None:
    """Those seen longest ago are the ones to go."""
    fields = {b"a": b"5", b"b": b"20", b"c": b"3", b"d": b"100"}
    assert oldest(fields, 2) == [b"c", b"a"]
    assert oldest(fields, 9) == []


def test_read() -> None:
    """What stands in Redis, the latest first."""
    inventory = read_inventory(
        {
            ROOT: {b"one": b"5000 9500"},
            key_of("client"): {b"a": b"6", b"b": b"8", RECORDED: b"4", LEFT_OUT: b"5"},
            seconds_key_of("client"): {b"a": b"3"},
        }
    )
    assert (inventory.since, inventory.looked, inventory.gap) == (5, 9.5, None)
    assert list(inventory.of("client")) == [
        UsageSample("client", b"b", 8, 0),
        UsageSample("client", b"a", 6, 3),
    ]
    assert (inventory.recorded, inventory.left_out) == ({"client": 4}, {"client": 5})
    assert list(inventory.of("user")) == []
    assert read_inventory({}).since is None


@pytest.mark.parametrize(
    ("stretches", "found"),
    [
        ([], (None, None, None)),
        ([(1, 9)], (1, 9, None)),
        ([(1, 4), (6, 9)], (6, 9, (4, 6))),
        ([(1, 4), (4, 9)], (1, 9, None)),
        ([(6, 9), (1, 4), (3, 7)], (1, 9, None)),  # three, each beginning before the last ends
        ([(1, 9), (5, 6)], (1, 9, None)),
        ([(1, 2), (3, 4), (5, 9)], (5, 9, (4, 5))),  # the last gap counts
        ([(5, 6), (4, 9), (1, 3.5)], (4, 9, (3.5, 4))),
    ],
)
def test_unbroken(
    stretches: list[tuple[float, float]],
    found: tuple[float | None, float | None, tuple[float, float] | None],
) -> None:
    """Several processes together have watched as long as one of them did at every moment."""
    assert unbroken(stretches) == found


@pytest.mark.parametrize(
    ("host", "user", "prefix"),
    [
        ("192.0.2.1", b"ann", b"session:"),
        ("2001:db8::1", b"", b""),
        ("unix", b"with blank", b"a b\x00\xff%20:"),
    ],
)
def test_applications(host: str, user: bytes, prefix: bytes) -> None:
    """Address, user and prefix come back out of their common name, whatever they contain."""
    assert read_application(name_application(host, user, prefix)) == (host.encode(), user, prefix)
    assert read_application(b"") == (b"", b"", b"")
