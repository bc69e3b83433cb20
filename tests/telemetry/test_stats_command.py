"""The answers to C{stats}, and how often the storage is asked for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from redcouch.errors import BackendError
from redcouch.interfaces import IStorageBackend
from redcouch.limits import Limits
from redcouch.results import ErrorKind
from redcouch.telemetry.counters import Counters
from redcouch.telemetry.snapshot import OwnStats
from redcouch.telemetry.stats_command import Reporter, Settings
from tests.support.storages import Prompt

Statistics = dict[bytes, bytes]


@implementer(IStorageBackend)
class Storage(Prompt):
    """A storage that knows something about itself, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Any = lambda: succeed(
            {"curr_items": 3, "bytes": 500, "limit_maxbytes": 1000, "evictions": 7}
        )

    def statistics(self) -> Deferred[Mapping[str, int]]:
        self.asked += 1
        answer: Deferred[Mapping[str, int]] = self.answer()
        return answer


class ReportTests(SynchronousTestCase):
    """What C{stats} says."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.storage = Storage()
        self.counters = Counters(cmd_get=5, curr_connections=2)
        self.clients = [("1", "tcp:10.0.0.9:4321"), ("7", "unix")]
        self.reporter = self.make(Settings(11210, "127.0.0.1", 1024, 0.5, "1.2.3", False))

    def make(self, settings: Settings, limits: Limits | None = None) -> Reporter:
        stats_source = OwnStats(self.counters, lambda: self.clients, self.clock)
        return Reporter(self.storage, stats_source, limits or Limits(), settings, self.clock)

    def stats(self, group: bytes = b"", reporter: Reporter | None = None) -> Statistics:
        pairs = self.successResultOf((reporter or self.reporter).report(group))
        return self.unique(pairs)

    def unique(self, pairs: list[tuple[bytes, bytes]] | None) -> Statistics:
        assert pairs is not None
        self.assertEqual(len({name for name, _ in pairs}), len(pairs))
        return dict(pairs)

    def test_general(self) -> None:
        """C{stats} shows the process, the counters and what the storage knows."""
        self.clock.advance(61.5)
        stats = self.stats()
        self.assertEqual(stats[b"uptime"], b"61")
        self.assertEqual(stats[b"version"], b"1.2.3")
        self.assertEqual(stats[b"cmd_get"], b"5")
        self.assertEqual(stats[b"cmd_set"], b"0")
        self.assertEqual(stats[b"curr_connections"], b"2")
        self.assertEqual(stats[b"max_connections"], b"1024")
        self.assertEqual(stats[b"curr_items"], b"3")
        self.assertEqual(stats[b"limit_maxbytes"], b"1000")
        self.assertEqual(stats[b"threads"], b"1")
        for number in (b"pid", b"time", b"pointer_size"):
            self.assertTrue(stats[number].isdigit())
        for seconds in (b"rusage_user", b"rusage_system"):
            self.assertRegex(stats[seconds].decode(), r"^\d+\.\d{6}$")

    def test_settings(self) -> None:
        """C{stats settings} shows the options, in memcached's words."""
        stats = self.stats(b"settings")
        self.assertEqual(stats[b"maxconns"], b"1024")
        self.assertEqual(stats[b"tcpport"], b"11210")
        self.assertEqual(stats[b"inter"], b"127.0.0.1")
        self.assertEqual(stats[b"item_size_max"], b"1048576")
        self.assertEqual(stats[b"idle_timeout"], b"1")
        self.assertEqual(stats[b"maxbytes"], b"1000")
        self.assertEqual(stats[b"flush_enabled"], b"yes")
        self.assertEqual(stats[b"dump_enabled"], b"yes")
        self.assertEqual(stats[b"auth_enabled_ascii"], b"no")
        self.assertEqual(stats[b"num_threads"], b"1")

    def test_other_settings(self) -> None:
        """What the operator has forbidden, or asks for, is shown so."""
        settings = Settings(0, "::1", 5, 60.0, "1.2.3", True, 4)
        reporter = self.make(settings, Limits(4096, flush=False, dump=False))
        stats = self.stats(b"settings", reporter)
        self.assertEqual(stats[b"flush_enabled"], b"no")
        self.assertEqual(stats[b"dump_enabled"], b"no")
        self.assertEqual(stats[b"auth_enabled_sasl"], b"yes")
        self.assertEqual(stats[b"item_size_max"], b"4096")
        self.assertEqual(stats[b"num_threads"], b"4")
        self.assertEqual(stats[b"idle_timeout"], b"60")

    def test_groups(self) -> None:
        """The other groups say what a bridge can know."""
        self.assertEqual(self.stats(b"items"), {b"items:1:number": b"3", b"items:1:evicted": b"7"})
        self.assertEqual(self.stats(b"slabs"), {b"active_slabs": b"0", b"total_malloced": b"500"})
        self.assertEqual(self.stats(b"sizes"), {b"sizes_status": b"disabled"})
        self.assertEqual(
            self.stats(b"conns"), {b"1:addr": b"tcp:10.0.0.9:4321", b"7:addr": b"unix"}
        )

    def test_no_such_group(self) -> None:
        """There are no others."""
        for group in (b"foo", b"SETTINGS", b"settings "):
            self.assertIsNone(self.successResultOf(self.reporter.report(group)))

    def test_storage_that_knows_nothing(self) -> None:
        """What the storage does not know is left out."""
        self.storage.answer = lambda: succeed({})
        self.assertNotIn(b"curr_items", self.stats())
        self.assertEqual(self.stats(b"items"), {})
        self.assertEqual(self.stats(b"slabs"), {b"active_slabs": b"0"})
        self.assertNotIn(b"maxbytes", self.stats(b"settings"))

    def test_storage_away(self) -> None:
        """C{stats} answers though the storage cannot."""
        self.assertIn(b"curr_items", self.stats())
        self.clock.advance(1)
        self.storage.answer = lambda: fail(BackendError(ErrorKind.UNAVAILABLE, "away"))
        stats = self.stats()
        self.assertNotIn(b"curr_items", stats)
        self.assertEqual(stats[b"cmd_get"], b"5")

    def test_asked_once_a_second(self) -> None:
        """However many monitors there are, the storage is asked once a second."""
        for _ in range(100):
            self.stats()
            self.stats(b"items")
        self.assertEqual(self.storage.asked, 1)
        self.clock.advance(0.9)
        self.stats()
        self.assertEqual(self.storage.asked, 1)
        self.clock.advance(0.1)
        self.stats()
        self.assertEqual(self.storage.asked, 2)

    def test_groups_without_the_storage(self) -> None:
        """What has nothing to do with the storage does not ask it."""
        self.stats(b"conns")
        self.stats(b"sizes")
        self.assertEqual(self.storage.asked, 0)

    def test_slow_storage(self) -> None:
        """While it thinks, others wait for the same answer: what it said last may be old."""
        self.stats()
        self.clock.advance(3600)
        slow: Deferred[Mapping[str, int]] = Deferred()
        self.storage.answer = lambda: slow
        reports = [self.reporter.report(b"items") for _ in range(3)]
        for report in reports:
            self.assertNoResult(report)
        slow.callback({"curr_items": 4})
        for report in reports:
            pairs = self.unique(self.successResultOf(report))
            self.assertEqual(pairs, {b"items:1:number": b"4"})
        self.assertEqual(self.storage.asked, 2)

    def test_fault(self) -> None:
        """A storage that fails in any other way is a fault of ours."""
        self.storage.answer = lambda: fail(ZeroDivisionError())
        self.failureResultOf(self.reporter.report(b""), ZeroDivisionError)
