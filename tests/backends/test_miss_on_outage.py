"""C{--on-outage}: what reads and writes are told while the storage is away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, implementer
from zope.interface.verify import verifyObject

from redcouch.backends.miss_on_outage import MissesOnOutage
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Get,
    GetAndTouch,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from redcouch.errors import BackendError
from redcouch.interfaces import Health, IDirectBackend, IStorageBackend
from redcouch.results import ErrorKind, Failed, Outcome, Result
from tests.support import servers
from tests.support.polling import eventually
from tests.support.wire import ask

pytestmark = pytest.mark.once

AWAY = Failed(ErrorKind.UNAVAILABLE, "storage not reachable")
FULL = Failed(ErrorKind.OUT_OF_MEMORY, "full")

READS: list[tuple[Command, Result]] = [
    (Get([b"a", b"b"]), [None, None]),
    (GetAndTouch([b"a"], 5), [None]),
    (MetaGet(b"a"), None),
    (MetaGet(b"a", touch=5), None),
]

WRITES: list[Command] = [
    MetaGet(b"a", vivify=5),
    Store(StoreMode.SET, b"a", b"v"),
    Arithmetic(b"a", 1),
    Delete(b"a"),
    Touch(b"a", 5),
]


@implementer(IStorageBackend)
class Canned:
    """Answers whatever it is told to answer."""

    def __init__(self, answer: Deferred[Any]) -> None:
        self._answer = answer

    def start(self) -> Deferred[None]:
        return succeed(None)

    stop = start

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        return self._answer

    def health(self) -> Health:
        return Health(False, "away")

    def statistics(self) -> Deferred[Mapping[str, int]]:
        return succeed({})


class MissesOnOutageTests(SynchronousTestCase):
    """Between a session and a storage that is away."""

    def results(self, answer: Deferred[Any], *commands: Command) -> list[Result]:
        """What the session is told."""
        storage = MissesOnOutage(Canned(answer))
        return self.successResultOf(storage.execute(commands))

    def test_interface(self) -> None:
        """It is a backend like any other, and hands on what is not its business."""
        storage = MissesOnOutage(Canned(succeed([])))
        verifyObject(IDirectBackend, storage)
        self.assertEqual(storage.health(), Health(False, "away"))

    def test_batch(self) -> None:
        """Where the whole batch has failed, reads miss, and writes are told so."""
        commands = [command for command, _ in READS] + WRITES
        failed = fail(BackendError(AWAY.kind, AWAY.message))
        expected = [missed for _, missed in READS] + [AWAY] * len(WRITES)
        self.assertEqual(self.results(failed, *commands), expected)

    def test_single_failures(self) -> None:
        """The same where each command has failed by itself, or a key of it."""
        commands = [command for command, _ in READS] + WRITES
        results: list[Result] = [[AWAY, (b"v", 1, 2)], AWAY, AWAY, AWAY] + [AWAY] * len(WRITES)
        expected = [[None, (b"v", 1, 2)], [None], None, None] + [AWAY] * len(WRITES)
        self.assertEqual(self.results(succeed(results), *commands), expected)

    def test_other_failures(self) -> None:
        """What has nothing to do with an outage stays what it is."""
        results: list[Result] = [[FULL, None], FULL, FULL, Outcome.DELETED]
        commands = [Get([b"a", b"b"]), Get([b"a"]), MetaGet(b"a"), Delete(b"a")]
        self.assertEqual(self.results(succeed(list(results)), *commands), results)

    def test_fault(self) -> None:
        """A fault in the backend stays a fault."""
        storage = MissesOnOutage(Canned(fail(ZeroDivisionError())))
        self.failureResultOf(storage.execute([Get([b"a"])]), ZeroDivisionError)

    def test_not_a_result_for_each_command(self) -> None:
        """So is an answer that does not fit: the client is told, and does not wait for ever."""
        for results, fault in (([], ValueError), ([None, None], ValueError), (None, TypeError)):
            storage = MissesOnOutage(Canned(succeed(results)))
            self.failureResultOf(storage.execute([Get([b"a"])]), fault)
            direct: Any = mock.Mock()
            directlyProvides(direct, IDirectBackend)
            waiting = MissesOnOutage(direct).execute([Get([b"a"])])
            direct.perform.call_args.args[1](results)
            self.failureResultOf(waiting, fault)


#: What a client says, and what it is told while Redis is away with C{--on-outage=miss}.
TOLD = [
    (b"get k\r\n", b"END\r\n"),
    (b"gets k other\r\n", b"END\r\n"),
    (b"gat 5 k\r\n", b"END\r\n"),
    (b"mg k v\r\n", b"EN\r\n"),
    (b"set k 0 0 1\r\nx\r\n", b"SERVER_ERROR storage not reachable\r\n"),
    (b"delete k\r\n", b"SERVER_ERROR storage not reachable\r\n"),
    (b"incr k 1\r\n", b"SERVER_ERROR storage not reachable\r\n"),
    (b"mg k v N30\r\n", b"SERVER_ERROR storage not reachable\r\n"),
]


def assert_told(bridge: servers.RedCouch, said: bytes, told: bytes) -> None:
    eventually(lambda: ask(bridge.address, said, b"\r\n") == told)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_service(workers: str) -> None:
    """A client of the whole service: misses while Redis is away, hits before and after."""
    with servers.redis_server(*servers.LASTING) as redis:
        options = ("--on-outage", "miss", "--workers", workers)
        with servers.redcouch(redis.url, *options) as bridge:
            assert ask(bridge.address, b"set k 0 0 1\r\nv\r\n", b"\r\n") == b"STORED\r\n"
            redis.kill()
            for said, told in TOLD:  # one of two workers may be told of it a moment later
                assert_told(bridge, said, told)
            redis.start()
            hit = b"VALUE k 0 1\r\nv\r\nEND\r\n"
            eventually(lambda: ask(bridge.address, b"get k\r\n", b"END\r\n") == hit)
