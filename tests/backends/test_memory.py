"""Items in memory: what the contract does not say already."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from redcouch.backends.memory import MemoryBackend
from redcouch.backends.registry import make_backend
from redcouch.commands import Command, Flush, Get, Store, StoreMode
from redcouch.errors import ConfigurationError
from redcouch.interfaces import BackendContext
from redcouch.limits import Limits
from redcouch.results import Outcome, Result


class MemoryTests(SynchronousTestCase):
    """The C{memory:} storage."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.context = BackendContext(self.clock, Limits(), self.clock.seconds, self.fail)
        self.storage = MemoryBackend(self.context)

    def all(self, commands: Iterable[Command]) -> list[Result]:
        return self.successResultOf(self.storage.execute(list(commands)))

    def count(self) -> int:
        return self.successResultOf(self.storage.statistics())["curr_items"]

    def test_url(self) -> None:
        """The URL is just the scheme, with or without slashes, in any case."""
        for url in ("memory:", "memory://", "MEMORY:"):
            self.assertIsInstance(make_backend(url, self.context), MemoryBackend)
        for url in ("memory://host", "memory:?size=1", "memory:x"):
            with self.assertRaisesRegex(ConfigurationError, "nothing behind the colon"):
                make_backend(url, self.context)

    def test_statistics(self) -> None:
        """Items that are over do not count."""
        self.all([Store(StoreMode.SET, b"a", b"123"), Store(StoreMode.SET, b"b", b"45", 0, 10)])
        statistics = self.successResultOf(self.storage.statistics())
        self.assertEqual(statistics, {"curr_items": 2, "bytes": 5})
        self.clock.advance(10)
        statistics = self.successResultOf(self.storage.statistics())
        self.assertEqual(statistics, {"curr_items": 1, "bytes": 3})

    def test_statistics_after_a_delayed_flush(self) -> None:
        """Nor do items that a flush has taken since anybody last looked."""
        self.all([Store(StoreMode.SET, b"a", b"1"), Store(StoreMode.SET, b"b", b"2"), Flush(10)])
        self.assertEqual(self.count(), 2)
        self.clock.advance(10)
        self.assertEqual(self.count(), 0)

    def test_no_timers(self) -> None:
        """Nothing is left running, whatever has an expiry or waits for a flush."""
        results = self.all([Store(StoreMode.SET, b"a", b"1", 0, 10), Flush(20), Get([b"a"])])
        self.assertIs(results[1], Outcome.OK)
        self.successResultOf(self.storage.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
