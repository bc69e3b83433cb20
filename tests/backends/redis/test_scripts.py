"""
Redis forgets the scripts: commands are done in order, or answered with an error. Time passes
between two scripts: that changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any
from urllib.parse import urlsplit

from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock

from redcouch.backends.memory import MemoryBackend
from redcouch.backends.redis import scripts
from redcouch.backends.redis.scripts import SCRIPTS
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Get,
    GetAndTouch,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from redcouch.errors import BackendError
from redcouch.interfaces import BackendContext
from redcouch.limits import Limits
from redcouch.results import (
    ErrorKind,
    Failed,
    Item,
    MetaItem,
    Number,
    Result,
    Stored,
    Touched,
)
from tests.backends.redis.case import SharedRedisCase
from tests.backends.redis.interleaver import Interleaver
from tests.support.results import named
from tests.support.servers import patient

reactor: Any = _reactor

BATCH: list[Command] = [
    Store(StoreMode.SET, b"k", b"1", 7),
    Get([b"k", b"n"]),
    Store(StoreMode.APPEND, b"k", b"2"),
    Arithmetic(b"n", 5, initial=1),
    GetAndTouch([b"k", b"n"], 500),
    Arithmetic(b"n", 5),
    Store(StoreMode.SET, b"k", b"3"),
    MetaGet(b"k", metadata=True, vivify=0),
    Store(StoreMode.PREPEND, b"k", b"4"),
    MetaGet(b"n"),
    Touch(b"n", 900),
    Get([b"n", b"k"], cas=True),
    Delete(b"n"),
]


def plain(result: Result) -> Any:
    """A result without tokens and times."""
    match result:
        case list():
            return [plain(found) for found in result]
        case Item() | MetaItem():
            return (result.value, result.flags)
        case Stored():
            return "stored"
        case Touched():
            return "touched"
        case Number():
            return result.value
        case Failed():
            return "failed"
    return result


def _unless_failed(seen: Any, expected: Any) -> Any:
    """What is expected of a result, of which some keys may have failed."""
    if not isinstance(seen, list):
        return expected
    return [
        "failed" if found == "failed" else other
        for found, other in zip(seen, expected, strict=True)
    ]


class ForgottenScriptTests(SharedRedisCase):
    """C{SCRIPT FLUSH}, at the worst moments."""

    async def test_between_batches(self) -> None:
        """Nobody notices that the scripts were gone, whatever is asked first."""
        for command in (*BATCH, Invalidate(b"k", stale=True)):
            await self.all(Store(StoreMode.SET, b"k", b"1"), Store(StoreMode.SET, b"n", b"1"))
            self.client.script_flush()
            result = await self.do(command)
            self.assertNotEqual(plain(result), "failed", command)

    async def test_reads_keep_nothing_from_being_repeated(self) -> None:
        """A read that needs no script, whichever it is, leaves the changes before it undone."""
        reads: list[Command] = [MetaGet(b"n"), Get([b"n"]), Get([b"n"], cas=True)]
        changes: list[Command] = [
            MetaGet(b"k", vivify=0),
            MetaGet(b"k", touch=500),
            Store(StoreMode.APPEND, b"k", b"2", vivify=0),
        ]
        for url in (self.url, f"{self.url}?layout=string"):
            await self.connect(url)
            for change in changes:
                for read in reads:
                    await self.all(Delete(b"n"), Store(StoreMode.SET, b"k", b"1"))
                    self.client.script_flush()
                    result, _, again = await self.all(change, read, change)
                    self.assertNotEqual(plain(result), "failed", (change, read))
                    self.assertNotEqual(plain(again), "failed", (change, read))

    async def test_away_in_the_middle(self) -> None:
        """Nobody says that nothing is done where Redis is gone before the rest is sent again."""
        storage: Any = self.storage
        link = storage._link
        self.client.script_flush()
        self.patch(link, "send", lambda payload, replies, done: done(link._unavailable()))
        large, small = Store(StoreMode.SET, b"k", b"v" * 10_000), Store(StoreMode.SET, b"n", b"v")
        error = await self.assertFailure(storage.execute([large, small]), BackendError)
        self.assertEqual(self.client.keys("rc:*"), [b"rc:k"])
        self.assertFalse(error.failed.undone)

    async def test_large_batch(self) -> None:
        """A pipeline of thousands is done in order, after its scripts are there again."""
        await self.set(b"")
        self.client.script_flush()
        commands: list[Command] = []
        for number in range(3000):
            commands.append(Store(StoreMode.SET, b"k", b"%d" % number))
            commands.append(Get([b"k"]))
        results = await self.all(*commands)
        seen = [found[0].value for found in results[1::2]]
        self.assertEqual(seen, [b"%d" % number for number in range(3000)])

    async def test_many_clients(self) -> None:
        """Batches that were under way at the same time are each done in order."""
        await self.set(b"")
        self.client.script_flush()
        pending = []
        for client in range(50):
            key = b"%d" % client
            pending.append(
                self.storage.execute(
                    [
                        Store(StoreMode.SET, key, b"1"),
                        Store(StoreMode.APPEND, key, b"2"),
                        Arithmetic(key, 1),
                        Get([key]),
                    ]
                )
            )
        for answer in pending:
            results = named(await answer)
            self.assertEqual([plain(result) for result in results[2:]], [13, [(b"13", 0)]])

    def load(self) -> None:
        """What another bridge does when it finds the scripts gone."""
        for script in SCRIPTS:
            self.client.script_load(script.text)

    async def through_interleaver(self) -> Interleaver:
        """A storage whose pipelines can be interrupted."""
        port = urlsplit(self.url).port
        assert port is not None
        interleaver = Interleaver(reactor, port)
        listening = reactor.listenTCP(0, interleaver, interface="127.0.0.1")
        await self.connect(f"redis://127.0.0.1:{listening.getHost().port}?timeout=30")
        self.addCleanup(listening.stopListening)
        await self.set(b"")
        return interleaver

    async def expected(self, results: list[Result]) -> list[Any]:
        """What memory makes of the commands that did not fail."""
        clock = Clock()
        memory = MemoryBackend(BackendContext(clock, Limits(), clock.seconds, print))
        seen = [plain(result) for result in results]
        made = [one for one, result in zip(BATCH, seen, strict=True) if result != "failed"]
        answers = iter(await memory.execute(made))
        return [
            "failed" if result == "failed" else _unless_failed(result, plain(next(answers)))
            for result in seen
        ]

    async def interrupted(
        self, interleaver: Interleaver, flush_at: set[int], load_at: set[int]
    ) -> list[Any]:
        """The batch's results, when scripts are lost and loaded between its commands."""
        self.load()
        self.client.delete("rc:k", "rc:n")
        count = -1

        def before(command: list[bytes]) -> None:
            nonlocal count
            count += 1
            if count in flush_at:
                self.client.script_flush()
            if count in load_at:
                self.load()

        interleaver.before = before
        results = await self.all(*BATCH)
        for result in results:
            for part in result if isinstance(result, list) else [result]:
                if isinstance(part, Failed):
                    self.assertIs(part.kind, ErrorKind.REFUSED)
        expected = await self.expected(results)
        self.assertEqual([plain(result) for result in results], expected)
        return expected

    async def test_token_that_is_none(self) -> None:
        """A native client leaves one between the read and the question for the token."""
        interleaver = await self.through_interleaver()

        def before(command: list[bytes]) -> None:
            if scripts.ASSIGN.sha in command:
                self.client.hset("rc:k", "c", "token")

        interleaver.before = before
        self.client.hset("rc:k", mapping={"v": "35", "f": 0})
        self.client.hdel("rc:k", "c")
        await self.set(b"fine", key=b"good")
        unreadable, fine = await self.do(Get([b"k", b"good"], cas=True))
        self.assert_failed(unreadable, ErrorKind.UNREADABLE)
        self.assertEqual(fine.value, b"fine")

    async def test_lost_in_the_middle(self) -> None:
        """Lost between any two commands of a pipeline, the rest is done after all."""
        interleaver = await self.through_interleaver()
        for position in range(len(BATCH) + 1):
            done = await self.interrupted(interleaver, {position}, set())
            self.assertNotIn("failed", done)

    async def test_loaded_by_somebody_else(self) -> None:
        """
        Lost and loaded again between any two commands of a pipeline: what was
        left out is done in its place or has failed, and never comes late.
        """
        interleaver = await self.through_interleaver()
        failed = 0
        for lost, found in combinations(range(len(BATCH) + 1), 2):
            done = await self.interrupted(interleaver, {lost}, {found})
            failed += "failed" in done
        self.assertGreater(failed, 0)

    async def test_lost_again_and_again(self) -> None:
        """Lost twice, during the second attempt as well, the rule is the same."""
        interleaver = await self.through_interleaver()
        later = range(len(BATCH) + len(SCRIPTS), 2 * len(BATCH) + len(SCRIPTS), 3)
        for lost in range(0, len(BATCH), 2):
            for again in later:
                await self.interrupted(interleaver, {lost, again}, set())
                await self.interrupted(interleaver, {lost, again}, {lost + 3, again + 2})

    async def test_lost_for_good(self) -> None:
        """A Redis that forgets faster than it is told answers errors, and not for ever none."""
        interleaver = await self.through_interleaver()

        def forget(command: list[bytes]) -> None:
            self.client.script_flush()

        interleaver.before = forget
        results = await self.all(*BATCH)
        changes = [result for result in results if not isinstance(result, list)]
        self.assertEqual({plain(result) for result in changes}, {"failed"})
        interleaver.before = lambda command: None
        await self.set(b"fine")
        self.assertEqual(await self.value(), b"fine")


_EXPIRES = b"""
redis.call('PEXPIRE', KEYS[1], 50)
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end
local came = now()
"""
_LASTS = b"""
while now() < came + 60 do end
return 1
"""


class ExpiryTests(SharedRedisCase):
    """An item expires between the scripts of a transaction, for which Redis 7.0 looks anew."""

    connects = False

    async def test_large_set(self) -> None:
        """A large value takes the place of an item whose time ends just then."""
        begin = scripts.BEGIN
        text = _EXPIRES + begin.text.replace(b"return 1\n", _LASTS)
        self.patch(scripts, "BEGIN", replace(begin, text=text))
        await self.connect(patient(self.url))
        for exptime in (0, 500):
            await self.set(b"old", exptime=500)
            await self.set(b"v" * 10_000, exptime=exptime)
            self.assertEqual(await self.value(), b"v" * 10_000)
            self.assertEqual(self.client.ttl("rc:k") > 0, exptime > 0)
