"""How long things take: buckets, quantiles, and which batches are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from redcouch.telemetry.latency import BOUNDS, Distribution, Meter


def of(*seconds: float) -> Distribution:
    """A distribution of these."""
    distribution = Distribution()
    for one in seconds:
        distribution.observe(one)
    return distribution


def test_buckets() -> None:
    """A bound belongs to the bucket below it; what takes longest has one of its own."""
    distribution = of(0.0, BOUNDS[0], BOUNDS[0] + 1e-9, BOUNDS[-1], 100.0)
    assert distribution.counts[:2] == [2, 1]
    assert distribution.counts[-2:] == [1, 1]
    assert sum(distribution.counts) == 5


def test_a_clock_that_is_set_back() -> None:
    """It makes nothing negative."""
    distribution = of(-5.0)
    assert distribution.counts[0] == 1
    assert distribution.seconds == 0


def test_quantiles() -> None:
    """They lie within the bucket that holds them."""
    assert Distribution().quantile(0.5) is None
    assert of(0.004).quantile(0.5) == pytest.approx(0.004)  # the middle of 3 to 5 ms
    mixed = of(*[0.004] * 98, 0.15, 0.15)
    assert 0.003 <= (mixed.quantile(0.5) or 0) <= 0.005
    assert 0.1 < (mixed.quantile(0.99) or 0) <= 0.2
    assert of(60.0).quantile(0.5) == BOUNDS[-1]


def test_since() -> None:
    """What was noted meanwhile; after a reset, all that there is."""
    before = of(0.004)
    after = of(0.004, 0.15)
    assert after.since(before).counts == of(0.15).counts
    assert after.since(before).seconds == pytest.approx(0.15)
    assert of(0.15).since(before).counts == of(0.15).counts


def test_add_and_reset() -> None:
    """Two processes' together are those of both."""
    distribution = of(0.004)
    distribution.add(of(0.004, 3.0))
    assert distribution.counts == of(0.004, 0.004, 3.0).counts
    assert distribution.seconds == pytest.approx(3.008)
    distribution.reset()
    assert distribution == Distribution()


def test_some_batches_are_measured() -> None:
    """One in seven, at distances that do not repeat soon, until its replies are given."""
    now = [0.0]
    asked: list[Callable[[Any], None]] = []

    def perform(commands: Sequence[Any], answer: Callable[[Any], None]) -> None:
        asked.append(answer)

    meter = Meter(lambda: now[0])
    measured = meter.around(perform)
    answers: list[str] = []
    marked = []
    for number in range(70):
        measured((), answers.append)
        if asked[-1] != answers.append:
            marked.append(number)
    assert len(marked) == 10
    assert {later - earlier for earlier, later in pairwise(marked)} == {
        5,
        6,
        7,
        8,
        9,
    }
    assert sum(meter.requests.counts) == 0
    now[0] = 0.004
    for answer in asked:
        answer("yes")
    assert answers == ["yes"] * 70
    assert meter.requests.counts == of(*[0.004] * 10).counts
