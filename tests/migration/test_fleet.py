"""A fleet moves to Redis and back, in a short form of the trial."""

from __future__ import annotations

import pytest

from tests.support.requirements import needs

pytestmark = pytest.mark.once


# python-memcached closes the connections of a thread when the thread is gone, or never.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@needs("memcached", "pylibmc", "php", "php memcached")
def test_nothing_is_wrong() -> None:
    """Clients of four libraries see nothing wrong on the way through all stages and back."""
    from tests.migration.fleet import go, table, wrong

    phases = go(seconds=15, rate=150, rounds=1)
    examples = [one for phase in phases for one in phase.examples]
    assert not wrong(phases), f"{table(phases)}\n{examples}"
    assert len({phase.name for phase in phases if phase.operations}) >= 7
