"""A client is answered the same however the network cuts what it says."""

from __future__ import annotations

import pytest

from tests.differential.transcripts import CLASSIC, NEWER, STEPWISE
from tests.support.comparison import Subject, Transcript, assert_alike
from tests.support.wire import bytewise, slices

_LONG = 1500
"""Bytes from which on a transcript is not cut into single ones."""

_LONGEST_LINE = 2048
"""memcached and RedCouch give up on a longer one where it comes in pieces."""


def _cuttable(transcript: Transcript) -> bool:
    lines = b"".join(transcript.steps).split(b"\n")
    return max(map(len, lines)) <= _LONGEST_LINE


_CUT = CLASSIC | {
    group: [each.joined() for each in transcripts]
    for group, transcripts in (STEPWISE | NEWER).items()
    if all(map(_cuttable, transcripts))
}


@pytest.mark.parametrize("group", _CUT)
def test_in_pieces(group: str, ours: Subject) -> None:
    """It is answered as if it had come whole."""
    for transcript in _CUT[group]:
        short = sum(map(len, transcript.steps)) < _LONG
        assert_alike(ours, ours, [transcript], bytewise if short else slices)
