"""How warm a storage has become: counters, and a word in the log when it is warm enough."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_LOOK_EVERY = 600.0

_ENOUGH_READS = 1000
"""Keys that have to be read in that time for a judgement."""

_COLD_SHARE = 0.01


class Progress:
    """Counts for one process, into a dict that L{redcouch.telemetry.snapshot} sums up."""

    _log = Logger()

    def __init__(self, counts: dict[str, int], storage: str, clock: Any) -> None:
        """
        @param counts: where to count.
        @param storage: the storage's URL as it may be logged.
        """
        self._counts = counts
        for name in ("warm_hits", "warm_pulled", "warm_misses", "warm_errors"):
            counts[name] = 0
        self._storage = storage
        self._before = dict(counts)
        self._said = False
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to look."""
        self._loop.start(_LOOK_EVERY, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def found(self, hits: int, misses: int) -> None:
        """So many keys were read that the storage had, and that neither side had."""
        self._counts["warm_hits"] += hits
        self._counts["warm_misses"] += misses

    def fetched(self, items: int) -> None:
        """So many items were brought over."""
        self._counts["warm_pulled"] += items

    def error(self) -> None:
        """An old memcached has not answered."""
        self._counts["warm_errors"] += 1

    def _look(self) -> None:
        now = dict(self._counts)
        hits = now["warm_hits"] - self._before["warm_hits"]
        fetched = now["warm_pulled"] - self._before["warm_pulled"]
        self._before = now
        enough = fetched >= 0 and hits + fetched >= _ENOUGH_READS
        if enough and fetched < _COLD_SHARE * (hits + fetched) and not self._said:
            self._said = True
            self._log.info(
                "Of {all} items read in ten minutes, {fetched} came from the old memcached: "
                "--storage {storage} will do now",
                all=hits + fetched,
                fetched=fetched,
                storage=self._storage,
            )
