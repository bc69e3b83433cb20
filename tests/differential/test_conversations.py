"""
The same bytes to real memcacheds and to RedCouch: the answers are equal, byte
for byte, but for what stands in C{differences.py}.
"""

from __future__ import annotations

import pytest

from tests.differential.conftest import Start
from tests.differential.transcripts import ALL, NEWER, STEPWISE
from tests.support.comparison import Subject, assert_alike
from tests.support.requirements import needs
from tests.support.servers import MEMCACHED_VERSIONS


@pytest.mark.parametrize("group", ALL)
def test_whole(group: str, theirs: Subject, each_of_ours: Subject) -> None:
    """A client sees no difference."""
    assert_alike(theirs, each_of_ours, ALL[group])


@needs(f"memcached {MEMCACHED_VERSIONS[-1]}")
@pytest.mark.parametrize("group", NEWER)
def test_newer(group: str, memcached_of: Start, each_of_ours: Subject) -> None:
    """Nor does one that says what only the newer memcached knows."""
    assert_alike(memcached_of(MEMCACHED_VERSIONS[-1]), each_of_ours, NEWER[group])


@pytest.mark.parametrize("group", STEPWISE)
def test_joined(group: str, theirs: Subject, ours: Subject) -> None:
    """Nor does one that waits for no answer where the others do."""
    assert_alike(theirs, ours, [each.joined() for each in STEPWISE[group]])
