"""A short soak; REDCOUCH_SOAK_SECONDS makes it longer."""

from __future__ import annotations

import os

import pytest

from tests.reliability import soak
from tests.support.polling import PACE

pytestmark = pytest.mark.once

SECONDS = float(os.environ.get("REDCOUCH_SOAK_SECONDS", "15"))


@pytest.mark.timeout(SECONDS + 300)
def test_soak() -> None:
    """Whatever is done: no answer is wrong, and no acknowledged write is lost."""
    report = soak.run(SECONDS, PACE)
    assert report.wrong == [], str(report)
    assert report.acknowledged > 100, str(report)
    assert report.descriptors[-1] < report.descriptors[0] + soak.MORE_DESCRIPTORS, str(report)
