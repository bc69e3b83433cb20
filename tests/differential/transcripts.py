"""Every transcript, by what it is about."""

from __future__ import annotations

from tests.differential.binary import BINARY
from tests.differential.classic import CLASSIC
from tests.differential.meta import META, NEWER

__all__ = ["ALL", "CLASSIC", "NEWER", "STEPWISE"]

STEPWISE = {
    f"{dialect}: {name}": transcripts
    for dialect, groups in (("meta", META), ("binary", BINARY))
    for name, transcripts in groups.items()
}
ALL = CLASSIC | STEPWISE
