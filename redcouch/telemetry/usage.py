"""
Who still speaks memcached: the inventory that tells when the bridge can go.

This is what is noted; L{redcouch.telemetry.usage_recorder} looks, and a backend that can
(L{redcouch.interfaces.ITrafficBackend}) keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

KINDS = ("client", "user", "prefix", "command", "dialect")
"""Address without port; authenticated user; key up to the separator; verb; protocol."""

MOST = 1000
"""Names of each kind that are kept; past it, those seen longest ago go."""


@dataclass(frozen=True, slots=True)
class UsageSample:
    """
    One name of the inventory.

    @ivar last: when it was last seen, UNIX time in seconds.
    @ivar seconds: in how many seconds it was seen, summed over processes.
    """

    kind: str
    name: bytes
    last: int
    seconds: int


@dataclass(slots=True)
class UsageSamples:
    """What has been seen since it was last written down; bounded as the inventory is."""

    _seen: dict[tuple[str, bytes], list[int]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, name: bytes, now: int) -> None:
        """It has just been seen. Beyond L{MOST} new names of a kind, others are left out."""
        note = self._seen.get((kind, name))
        if note is None:
            if self._counts.get(kind, 0) >= MOST:
                return
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._seen[kind, name] = [now, 1]
        elif note[0] != now:
            note[0] = now
            note[1] += 1

    def take(self) -> list[UsageSample]:
        """Everything noted, which is then forgotten."""
        taken = [UsageSample(*where, *note) for where, note in self._seen.items()]
        self._seen = {}
        self._counts = {}
        return taken


@dataclass(frozen=True, slots=True)
class Usage:
    """
    What is known of the traffic.

    @ivar since: when the first look was taken (UNIX time in seconds); C{None}
        where nobody has looked yet.
    @ivar looked: when the last was.
    @ivar seen: everything seen, the latest first.
    """

    since: int | None
    looked: int | None
    seen: list[UsageSample]

    def of(self, kind: str) -> Iterator[UsageSample]:
        """What has been seen of one kind."""
        return (one for one in self.seen if one.kind == kind)
