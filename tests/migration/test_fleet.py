"""A fleet moves to Redis and back, in a short form of the trial."""

from __future__ import annotations

import pytest

from tests.support.requirements import needs

pytestmark = pytest.mark.once


# python-memcached closes the connections of a thread when the thread is gone, or never.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@needs("memcached", "pylibmc", "php", "php memcached")
@pytest.mark.parametrize("on_cluster", [False, True])
def test_nothing_is_wrong(on_cluster: bool) -> None:
    """
    Clients of four libraries see nothing wrong on the way through all stages and back, to one
    Redis or to a cluster whose slots move meanwhile.
    """
    from tests.migration.fleet import go, table, wrong

    phases = go(seconds=8, rate=150, rounds=1, on_cluster=on_cluster)
    examples = [one for phase in phases for one in phase.examples]
    assert not wrong(phases), f"{table(phases)}\n{examples}"
    assert len({phase.name for phase in phases if phase.operations}) >= 7
