"""What differs from a real memcached is as it is documented, and goes no further."""

from __future__ import annotations

import pytest

from tests.differential.conftest import Start
from tests.differential.differences import DIFFERENCES, Difference
from tests.support.comparison import Subject, Transcript
from tests.support.requirements import needs
from tests.support.servers import MEMCACHED_VERSIONS


@needs(*(f"memcached {version}" for version in MEMCACHED_VERSIONS))
@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.sent[-40:])
def test_difference(difference: Difference, memcached_of: Start, each_of_ours: Subject) -> None:
    """Where a client does see a difference, it is this one and no other."""
    transcript = Transcript.of(difference.sent)
    for version, said in zip(MEMCACHED_VERSIONS, difference.memcached, strict=True):
        _check(memcached_of(version).replies(transcript), said)
    _check(each_of_ours.replies(transcript), difference.redcouch)


def _check(replies: bytes, said: bytes) -> None:
    beginning, open_end, _ = said.partition(b"...")
    assert (replies[: len(beginning)] if open_end else replies) == beginning
