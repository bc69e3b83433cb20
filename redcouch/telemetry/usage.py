"""
Who still speaks memcached: the inventory that tells when the bridge can go.

This is what is noted; L{redcouch.telemetry.usage_recorder} looks, and a backend that can
(L{redcouch.interfaces.ITrafficBackend}) keeps it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote_from_bytes, unquote_to_bytes

KINDS = ("application", "client", "user", "prefix", "command", "dialect")
"""
What one client uses (L{name_application}); address without port; authenticated user; key up to
the separator; verb; protocol.
"""

SEPARATOR = "separator"
"""What is noted besides: where the prefixes end."""

LAPSE = 3.0
"""Seconds after which a process that has noted nothing does not count as one that watches."""

_SAFE = "/:;,@+=!$&()*|[]<>"

MOST = 1000
"""Names of each kind that are kept; past it, those seen longest ago go."""

LEFT_OUT = b"\nleft out"
"""Stands for all of a kind that are not kept: of them, too, it is noted when one was seen last."""


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


def name_application(host: str, user: bytes | None, prefix: bytes) -> bytes:
    """An address, its user and a prefix of keys, as one name: percent-encoded, blanks between."""
    parts = (host.encode(), b"" if user is None else user, prefix)
    return " ".join(quote_from_bytes(part, safe=_SAFE) for part in parts).encode()


def read_application(name: bytes) -> tuple[bytes, bytes, bytes]:
    """Address, user and prefix, as L{name_application} has put them together."""
    host, user, prefix, *_ = (*map(unquote_to_bytes, name.split(b" ")), b"", b"", b"")
    return host, user, prefix


@dataclass(slots=True)
class UsageSamples:
    """What has been seen since it was last written down; bounded as the inventory is."""

    _seen: dict[tuple[str, bytes], list[int]] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, name: bytes, now: int) -> None:
        """It has just been seen. Beyond L{MOST} new names of a kind, others are L{LEFT_OUT}."""
        note = self._note(kind, name)
        if note[0] != now:
            note[0] = now
            note[1] += 1

    def _note(self, kind: str, name: bytes) -> list[int]:
        if (kind, name) not in self._seen:
            name = name if self._counts[kind] < MOST else LEFT_OUT
            self._counts[kind] += 1
        return self._seen.setdefault((kind, name), [0, 0])

    def take(self) -> list[UsageSample]:
        """
        Everything noted. It is forgotten then, but for the second in which each name was
        seen, as that has been counted.
        """
        seen = self._seen
        newest = max((last for last, _ in seen.values()), default=0)
        self._seen = {where: [last, 0] for where, (last, _) in seen.items() if last == newest}
        self._counts = Counter(kind for kind, _ in self._seen)
        return [UsageSample(*where, *note) for where, note in seen.items() if note[1]]

    def put_back(self, taken: Iterable[UsageSample]) -> None:
        """What was taken has not been written down."""
        for one in taken:
            note = self._note(one.kind, one.name)
            note[:] = max(note[0], one.last), note[1] + one.seconds


@dataclass(frozen=True, slots=True)
class Usage:
    """
    What is known of the traffic. Times are UNIX times in seconds, by the storage's clock.

    @ivar since: from when on at least one process has watched at every moment;
        C{None} where nobody has watched yet.
    @ivar looked: until when.
    @ivar gap: when nobody had, the last time before: from when, until when; C{None} where
        that is not known.
    @ivar recorded: from when on there is a record of each kind; none, of those that have none.
    @ivar seen: everything seen, the latest first.
    @ivar left_out: when one was seen last that is not in C{seen}, of each kind of which there
        were too many.
    @ivar senseless: keys of the storage where something was passed over that makes no sense.
    """

    since: float | None
    looked: float | None
    gap: tuple[float, float] | None
    recorded: Mapping[str, int]
    seen: list[UsageSample]
    left_out: Mapping[str, int] = field(default_factory=dict)
    senseless: Sequence[bytes] = ()

    def of(self, kind: str) -> Iterator[UsageSample]:
        """What has been seen of one kind."""
        return (one for one in self.seen if one.kind == kind)
