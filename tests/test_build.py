"""The layers of a storage, as the options ask for them."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any
from unittest import mock

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from redcouch.backends.embedded.backend import EmbeddedBackend
from redcouch.backends.memory import MemoryBackend
from redcouch.backends.miss_on_outage import MissesOnOutage
from redcouch.backends.origin.backend import OriginBackend
from redcouch.backends.redis.backend import RedisBackend
from redcouch.backends.self_report import SelfReport
from redcouch.build import Role, Storage, make_bridge, make_storage, make_supervisor
from redcouch.commands import Get, Store, StoreMode
from redcouch.http.collect import StatusCollector
from redcouch.interfaces import BackendContext, IDirectBackend, ITrafficBackend
from redcouch.limits import Limits
from redcouch.options import Options
from redcouch.process.reload import Reload
from redcouch.results import Result

OLD = "from=memcached://127.0.0.1:1"


def made(url: str, on_outage: str = "error") -> Storage:
    context = BackendContext(reactor, Limits(), lambda: 0.0, print)
    options = {"storage": url, "on-outage": on_outage, "take-over": False}
    return make_storage(options, context)


def layers_of(storage: Storage) -> list[type]:
    """Of what classes it is made, from the outside to the inside."""
    found: list[type] = []
    layer: Any = storage.outermost
    while layer is not storage.innermost:
        found.append(type(layer))
        layer = layer._inner
    return [*found, type(layer)]


@pytest.mark.parametrize(
    ("url", "on_outage", "layers"),
    [
        ("memory:", "error", [MemoryBackend]),
        ("redis://h", "miss", [MissesOnOutage, RedisBackend]),
        (f"warm:redis://h?{OLD}", "error", [OriginBackend, RedisBackend]),
        (f"WARM:redis://h?{OLD}", "miss", [MissesOnOutage, OriginBackend, RedisBackend]),
        (f"warm:embedded:?{OLD}", "miss", [MissesOnOutage, OriginBackend, EmbeddedBackend]),
    ],
)
def test_order(url: str, on_outage: str, layers: list[type]) -> None:
    """Old memcacheds are asked before an outage becomes a miss."""
    storage = made(url, on_outage)
    assert layers_of(storage) == layers
    is_redis = layers[-1] is not MemoryBackend
    assert ITrafficBackend.providedBy(storage.outermost) == is_redis


def test_url_around() -> None:
    """Another way to the innermost storage gets the same layers."""
    around = made(f"warm:embedded:?prefix=x&{OLD}", "miss").url_around
    assert around("redis+unix:///s?prefix=x") == f"warm:redis+unix:///s?prefix=x&{OLD}"
    assert made("embedded:").url_around("redis+unix:///s") == "redis+unix:///s"


def test_workers_have_the_layers() -> None:
    """
    Where workers serve, the parent runs the storage and nothing around it: those who ask
    old memcacheds are the workers.
    """
    options = Options()
    options.parseOptions(["--workers", "2", "--storage", f"warm:embedded:?prefix=x&{OLD}"])
    parent = make_supervisor(options, Clock(), print, Reload(), {})
    assert isinstance(parent._storage, SelfReport)
    assert isinstance(parent._storage._inner, EmbeddedBackend)
    url = parent._worker_options["storage"]
    assert url == f"warm:{parent._storage.shared_url}&{OLD}"
    options.parseOptions(["--storage", f"warm:memory:?{OLD}"])
    with pytest.raises(SystemExit, match="items of its own"):
        make_supervisor(options, Clock(), print, Reload(), {})


class FaultyTests(SynchronousTestCase):
    """A storage with faults of its own in what it tells beside the items."""

    def test_the_rest_is_told(self) -> None:
        """Clients and the pages see everything else, and the log has it once."""
        options = Options()
        options.parseOptions(["--storage", "memory:", "--http", "0"])
        bridge = make_bridge(options, Clock(), Role(print, mock.Mock(), Reload()))
        for name in ("statistics", "health"):
            self.patch(MemoryBackend, name, mock.Mock(side_effect=ZeroDivisionError))
        report: Any = bridge.factory._shared.report(b"")
        self.assertIn(b"uptime", dict(self.successResultOf(report)))
        view = self.successResultOf(
            Deferred.fromCoroutine(StatusCollector(bridge.status_source).full_view())
        )
        self.assertEqual(view.statistics, {})
        self.assertEqual(view.trouble, "a fault of the storage in health()")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)


class EmbeddedTests(TestCase):
    """A whole storage in one process."""

    async def test_no_deferred_for_a_batch(self) -> None:
        """The embedded Redis is asked as any other: sessions make no Deferred for a batch."""
        directory = tempfile.mkdtemp(prefix="rc-", dir="/tmp")
        self.addCleanup(shutil.rmtree, directory)
        storage = made(f"embedded://{directory}/data", "miss")
        backend: Any = storage.outermost
        embedded: Any = storage.innermost
        assert IDirectBackend.providedBy(storage.innermost)
        self.patch(embedded._inner, "execute", None)  # which nobody calls
        await backend.start()
        await self.answer(backend, [Store(StoreMode.SET, b"k", b"v")])
        results = await self.answer(backend, [Get([b"k"]), Get([b"nothing"])])
        assert results == [[(b"v", 0, 0)], [None]]
        await backend.stop()

    def answer(self, backend: Any, commands: list[Any]) -> Deferred[list[Result]]:
        answered: Deferred[list[Result]] = Deferred()
        backend.perform(commands, answered.callback)
        return answered
