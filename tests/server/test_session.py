"""One client's conversation: the order of replies, and what may wait."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from redcouch.commands import (
    Authenticate,
    Command,
    Delete,
    Discard,
    Dump,
    Flush,
    Get,
    MetaGet,
    Noop,
    Quit,
    ResetStatistics,
    Statistics,
    Store,
    StoreMode,
    Version,
)
from redcouch.dialects.request import Request, answered
from redcouch.errors import BackendError
from redcouch.interfaces import Answer, IDirectBackend, IStorageBackend
from redcouch.limits import Limits
from redcouch.results import ErrorKind, Failed, Item, ListedPage, Outcome, Result, Stored
from redcouch.server.session import Session, Shared
from redcouch.telemetry.counters import Counters
from tests.support.storages import Direct, Idle, Prompt, Slow

Pairs = list[tuple[bytes, bytes]]


@implementer(IStorageBackend)
class Broken(Idle):
    """Does whatever a test gives it to do."""

    def __init__(self, execute: Callable[[Sequence[Command]], Any]) -> None:
        self.execute = execute


def always(results: list[Result], commands: Sequence[Command]) -> Deferred[list[Result]]:
    """The same results, whatever the commands."""
    return succeed(list(results))


def always_fails(fault: type[BaseException], commands: Sequence[Command]) -> Deferred[list[Result]]:
    """The same fault, whatever the commands."""
    return fail(fault())


class Client:
    """What a client hears from its session."""

    def __init__(self, backend: IStorageBackend, limits: Limits | None = None, **how: Any) -> None:
        self.heard = b""
        self.writes = 0
        self.finished = 0
        self.rooms = 0
        self.proofs: list[bool] = []
        self.reports: list[tuple[bytes, Deferred[Pairs | None]]] = []
        self.counters = Counters()
        how = {"report": self._report, "reset": self._reset} | how
        shared = Shared(backend, self.counters, limits or Limits(), b"1.2.3", **how)
        self.session = Session(
            shared, self._write, self._finish, self._on_room, self.proofs.append, "tcp:client:1"
        )

    def _write(self, data: bytes) -> None:
        assert not self.finished
        self.heard += data
        self.writes += 1

    def _finish(self) -> None:
        self.finished += 1

    def _on_room(self) -> None:
        assert not self.session.backlog_full
        self.rooms += 1

    def _report(self, group: bytes) -> Deferred[Pairs | None]:
        report: Deferred[Pairs | None] = Deferred()
        self.reports.append((group, report))
        return report

    def _reset(self) -> Deferred[None]:
        self.counters.reset()
        return succeed(None)

    def ask(self, *requests: Request) -> bool:
        """Submit these together."""
        return self.session.submit(requests)

    def get(self, *keys: bytes) -> bool:
        """Ask for some keys at once, one request each."""
        return self.ask(*map(get, keys))


def say(result: Result) -> bytes:
    """A reply in no dialect."""
    match result:
        case Failed():
            return b"SERVER_ERROR %b;" % result.message.encode()
        case [Item() as item]:
            return b"%b;" % item.value
        case list():
            return b"%d pairs;" % len(result)
        case bytes():
            return b"version %b;" % result
        case _:
            return b"%b;" % repr(result).encode()


def get(key: bytes) -> Request:
    """A request that is answered with its key."""
    return Request(Get((key,)), say)


def silent(key: bytes) -> Request:
    """The same for a client that wants no answer."""
    return Request(Get((key,)), lambda _: b"")


VERSION = Request(Version(), say)
STATS = Request(Statistics(b""), say)
RESET = Request(ResetStatistics(), lambda _: b"RESET;")
QUIT = Request(Quit(), lambda _: b"")
NOOP = answered(b"noop;")


def numbered(count: int) -> list[Request]:
    """So many requests, each with a key of its own."""
    return [get(b"%d" % number) for number in range(count)]


def deletions(count: int) -> list[Request]:
    """So many requests that change something."""
    return [Request(Delete(b"%d" % number), say) for number in range(count)]


def replies(count: int) -> bytes:
    """What they are answered."""
    return b"".join(b"%d;" % number for number in range(count))


class OrderTests(SynchronousTestCase):
    """Replies come in the order of requests."""

    def test_interfaces(self) -> None:
        """The storages that these tests use are storages."""
        verifyObject(IStorageBackend, Slow())
        verifyObject(IStorageBackend, Prompt())
        verifyObject(IDirectBackend, Direct())

    def test_one(self) -> None:
        """A request is performed at once, and answered when the storage answers."""
        backend = Slow()
        client = Client(backend)
        self.assertTrue(client.session.idle)
        client.get(b"a")
        self.assertFalse(client.session.idle)
        self.assertEqual((backend.seen, client.heard), ([[Get((b"a",))]], b""))
        backend.next().succeed()
        self.assertEqual(client.heard, b"a;")
        self.assertTrue(client.session.idle)

    def test_one_batch_in_flight(self) -> None:
        """What comes while a batch is performed makes up the next one."""
        backend = Slow()
        client = Client(backend)
        client.get(b"a", b"b")
        client.get(b"c")
        client.get(b"d", b"e")
        self.assertEqual(len(backend.seen), 1)
        backend.next().succeed()
        self.assertEqual(client.heard, b"a;b;")
        self.assertEqual([len(batch) for batch in backend.seen], [2, 3])
        backend.next().succeed()
        self.assertEqual(client.heard, b"a;b;c;d;e;")
        self.assertEqual(client.writes, 2)

    def test_bounded_batches(self) -> None:
        """A client that pipelines much does not keep the storage from others for long."""
        backend = Slow()
        client = Client(backend, Limits(batch=3))
        client.ask(*numbered(8))
        backend.answer_all()
        self.assertEqual([len(batch) for batch in backend.seen], [3, 3, 2])
        self.assertEqual(client.heard, replies(8))

    def test_batches_grow(self) -> None:
        """Nobody knows how large a client's values are: its batches begin small."""
        backend = Slow()
        client = Client(backend)
        sizes = [8, 16, 32, 64, 128, 256, 256, 10]
        client.ask(*numbered(sum(sizes)))
        backend.answer_all()
        self.assertEqual([len(batch) for batch in backend.seen], sizes)

    def test_large_replies(self) -> None:
        """Of values of a MiB, about two are held for a client at a time; then it grows again."""
        backend = Slow()
        client = Client(backend)
        large = b"x" * (1024 * 1024 - 1)  # with the end of its reply, a MiB
        client.ask(*[get(large)] * 72, *numbered(30))
        backend.answer_all()
        sizes = [8, *[2] * 32, 2, 4, 8, 16]
        self.assertEqual([len(batch) for batch in backend.seen], sizes)

    def test_batches_after_a_failure(self) -> None:
        """Where the storage has failed, perhaps of too much, less is asked for again."""
        backend = Slow()
        client = Client(backend)
        client.ask(*numbered(8 + 16 + 16 + 3))
        backend.next().succeed()
        backend.next().fail(BackendError(ErrorKind.UNAVAILABLE, "gone"))
        backend.answer_all()
        self.assertEqual([len(batch) for batch in backend.seen], [8, 16, 16, 3])

    def test_values_are_let_go(self) -> None:
        """
        What a client has asked for last, of what has keys, can be seen once, but no large value is
        kept for that.
        """
        backend = Slow()
        client = Client(backend)
        large = Store(StoreMode.SET, b"a", b"v" * 2000)
        for commands, last in (
            ([Get([b"a"])], Get([b"a"])),
            ([large], Store(StoreMode.SET, b"a", b"")),
            ([Noop()], Noop()),
            ([Get([b"a"]), Noop()], Get([b"a"])),
            ([Store(StoreMode.SET, b"a", b"v")], Store(StoreMode.SET, b"a", b"v")),
            ([large, Get([b"b"])], Get([b"b"])),
            ([Get([b"b"]), large], Store(StoreMode.SET, b"a", b"")),
        ):
            client.ask(*[Request(command, lambda _: b"") for command in commands])
            backend.answer_all()
            client.ask(Request(Noop(), lambda _: b""))  # as clients do that ask whether it lives
            self.assertEqual(client.session.take_command(), last)
            self.assertIsNone(client.session.take_command())

    def test_known_answers_wait_for_their_turn(self) -> None:
        """C{version} and errors come between the answers of the storage, which hears of neither."""
        backend = Slow()
        client = Client(backend)
        client.ask(VERSION, get(b"a"), NOOP, get(b"b"), VERSION)
        self.assertEqual(backend.seen, [[Get((b"a",)), Get((b"b",))]])
        self.assertEqual(client.heard, b"")
        backend.next().succeed()
        self.assertEqual(client.heard, b"version 1.2.3;a;noop;b;version 1.2.3;")
        self.assertEqual(client.writes, 1)

    def test_only_known_answers(self) -> None:
        """What needs no storage is answered though the storage has nothing to say."""
        backend = Slow()
        client = Client(backend)
        client.ask(VERSION)
        client.ask(NOOP, NOOP)
        self.assertEqual(client.heard, b"version 1.2.3;noop;noop;")
        self.assertEqual(backend.seen, [])

    def test_silence(self) -> None:
        """A client that wants no answer gets none, not even an empty one."""
        client = Client(Prompt())
        client.ask(silent(b"a"))
        client.ask(silent(b"a"), silent(b"b"))
        client.ask(answered(b""))
        self.assertEqual((client.heard, client.writes), (b"", 0))

    def test_backends_that_answer_at_once(self) -> None:
        """It makes no difference to a client how the storage answers."""
        for backend in (Prompt(), Direct()):
            client = Client(backend, Limits(batch=2))
            client.get(b"a")
            client.get(b"b", b"c", b"d")
            client.ask(QUIT)
            self.assertEqual((client.heard, client.finished), (b"a;b;c;d;", 1))

    def test_a_hundred_thousand(self) -> None:
        """A flood is answered however fast the storage is, without a flood on the stack."""
        count = 100_000
        for backend in (Prompt(), Direct()):
            client = Client(backend)
            client.ask(*numbered(count))
            self.assertEqual(client.heard, replies(count))

    def test_a_hundred_thousand_alone(self) -> None:
        """The same for requests that are performed one by one."""
        count = 100_000
        client = Client(Prompt(), report=lambda group: succeed([]))
        client.ask(*[STATS] * count)
        self.assertEqual(client.heard, b"0 pairs;" * count)


class Talk:
    """Random conversations of several clients over one storage."""

    def __init__(self, clients: int) -> None:
        self.backend = Slow()
        limits = Limits(batch=3, backlog=5)
        self.clients = [Client(self.backend, limits) for _ in range(clients)]
        self.expected = [b""] * clients
        self.number = 0

    def ask(self, who: int, kinds: list[str]) -> None:
        """Ask for something of each kind."""
        who %= len(self.clients)
        requests = []
        for kind in kinds:
            self.number += 1
            key = b"%d" % self.number
            match kind:
                case "get":
                    requests.append(get(key))
                    self.expected[who] += key + b";"
                case "silent":
                    requests.append(silent(key))
                case "stats":
                    requests.append(STATS)
                    self.expected[who] += b"1 pairs;"
                case "reset":
                    requests.append(RESET)
                    self.expected[who] += b"RESET;"
                case _:
                    requests.append(VERSION)
                    self.expected[who] += b"version 1.2.3;"
        if requests:
            self.clients[who].ask(*requests)

    def answer(self, which: int) -> None:
        """Answer some batch that waits, or finish some report."""
        reports = [client.reports for client in self.clients if client.reports]
        waiting = len(self.backend.waiting) + len(reports)
        if not waiting:
            return
        which %= waiting
        if which < len(self.backend.waiting):
            self.backend.waiting.pop(which).succeed()
        else:
            _, report = reports[which - len(self.backend.waiting)].pop(0)
            report.callback([(b"pid", b"1")])

    def check(self) -> None:
        """Each client has heard nothing that is not for it, and in order."""
        for client, expected in zip(self.clients, self.expected, strict=True):
            assert expected.startswith(client.heard)
        assert len(self.backend.waiting) <= len(self.clients)
        assert all(len(batch) <= 3 for batch in self.backend.seen)

    def finish(self) -> None:
        """Nothing is held any more and everything is answered."""
        for client in self.clients:
            client.session.release()
        while self.backend.waiting or any(client.reports for client in self.clients):
            self.answer(0)
        for client, expected in zip(self.clients, self.expected, strict=True):
            assert client.heard == expected
            assert client.session.idle
            assert not client.finished
            assert not client.session.backlog_full


KINDS = st.sampled_from(["get", "get", "get", "silent", "version", "stats", "reset"])
STEPS = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 2), st.lists(KINDS, max_size=8)),
    st.tuples(st.just("answer"), st.integers(0, 5)),
    st.tuples(st.just("pause"), st.integers(0, 2)),
    st.tuples(st.just("release"), st.integers(0, 2)),
)


@given(st.integers(1, 3), st.lists(STEPS, max_size=30))
def test_any_order_of_answers(clients: int, steps: list[tuple[Any, ...]]) -> None:
    """Whenever the storage answers whom, each client hears its replies in its own order."""
    talk = Talk(clients)
    backlog_full = [0] * clients
    for name, *arguments in steps:
        if name == "ask" or name == "answer":
            getattr(talk, name)(*arguments)
        else:
            getattr(talk.clients[arguments[0] % clients].session, name)()
        talk.check()
        for index, client in enumerate(talk.clients):
            backlog_full[index] += client.session.backlog_full
    talk.finish()
    for client, was_crowded in zip(talk.clients, backlog_full, strict=True):
        assert bool(client.rooms) == bool(was_crowded)


class FlowTests(SynchronousTestCase):
    """What may wait, and who is told when there is room again."""

    def setUp(self) -> None:
        self.backend = Slow()
        self.client = Client(self.backend, Limits(batch=2, backlog=3))

    def test_crowded(self) -> None:
        """A client is not read from while more of it waits than may, and then is again."""
        self.assertFalse(self.client.ask(*numbered(5)))
        self.assertTrue(self.client.get(b"x"))
        self.assertTrue(self.client.session.backlog_full)
        self.backend.next().succeed()
        self.assertEqual(self.client.rooms, 1)
        self.assertFalse(self.client.session.backlog_full)
        self.backend.answer_all()
        self.assertEqual(self.client.rooms, 1)
        self.assertEqual(self.client.heard, replies(5) + b"x;")

    def test_crowded_again(self) -> None:
        """And this any number of times."""
        for turn in range(1, 5):
            self.assertTrue(self.client.ask(*numbered(10)))
            self.backend.answer_all()
            self.assertEqual(self.client.rooms, turn)

    def test_one_more_request_while_busy(self) -> None:
        """A single request does not get past those that wait."""
        self.client.get(b"a")
        self.client.get(b"b")
        self.assertEqual(len(self.backend.seen), 1)
        self.backend.answer_all()
        self.assertEqual(self.client.heard, b"a;b;")

    def test_room_behind_statistics(self) -> None:
        """A crowd of requests that no storage performs makes room as any other does."""
        for behind in (VERSION, STATS, RESET):
            client = Client(self.backend, Limits(backlog=3))
            self.assertTrue(client.ask(STATS, *[behind] * 9))
            while client.reports:
                self.assertEqual(client.rooms, 0 if client.session.backlog_full else 1)
                client.reports.pop(0)[1].callback([])
            self.assertEqual(client.rooms, 1)
            self.assertTrue(client.session.idle)

    def test_room_behind_a_list(self) -> None:
        """So does a list of items with a crowd behind it."""
        client = Client(self.backend, Limits(backlog=3))
        self.assertTrue(client.ask(Request(Dump(), say), *[VERSION] * 9))
        self.backend.next().answer.callback([Outcome.OK])
        self.assertEqual(client.rooms, 1)

    def test_room_after_release(self) -> None:
        """And so does a crowd that waited for the client to read."""
        self.client.session.pause()
        self.assertTrue(self.client.ask(*[VERSION] * 9))
        self.assertEqual(self.client.rooms, 0)
        self.client.session.release()
        self.assertEqual(self.client.rooms, 1)

    def test_hold(self) -> None:
        """While a client does not read, nothing more is performed; what is, is answered."""
        self.client.ask(*numbered(3))
        self.client.session.pause()
        self.backend.next().succeed()
        self.client.get(b"a")
        self.assertEqual(self.client.heard, replies(2))
        self.assertEqual(len(self.backend.seen), 1)
        self.client.session.release()
        self.backend.answer_all()
        self.assertEqual(self.client.heard, replies(3) + b"a;")

    def test_held_at_rest(self) -> None:
        """A request of a client that does not read waits, even if it is the only one."""
        self.client.session.pause()
        self.client.get(b"a")
        self.assertEqual(self.backend.seen, [])
        self.client.session.release()
        self.assertEqual(len(self.backend.seen), 1)

    def test_held_from_within_a_reply(self) -> None:
        """A send buffer that runs full stops the conversation right there."""
        client = Client(Prompt(), Limits(batch=2, backlog=3))
        write = client._write

        def write_and_hold(data: bytes) -> None:
            write(data)
            client.session.pause()

        client.session._write = write_and_hold
        self.assertTrue(client.ask(*numbered(10)))
        self.assertEqual(client.heard, replies(2))
        client.session.release()
        self.assertEqual(client.heard, replies(4))


class EndTests(SynchronousTestCase):
    """How conversations end."""

    def setUp(self) -> None:
        self.backend = Slow()
        self.client = Client(self.backend)

    def test_quit(self) -> None:
        """C{quit} ends it when all before is answered; what follows is not performed."""
        self.client.ask(get(b"a"), QUIT, get(b"b"))
        self.assertEqual(self.client.finished, 0)
        self.backend.next().succeed()
        self.assertEqual((self.client.heard, self.client.finished), (b"a;", 1))
        self.assertEqual(len(self.backend.seen), 1)
        self.assertTrue(self.client.session.finished)
        self.assertFalse(self.client.get(b"c"))
        self.client.session.end()
        self.assertEqual(len(self.backend.seen), 1)
        self.assertEqual(self.client.finished, 1)

    def test_quit_with_an_answer(self) -> None:
        """In the binary protocol it is answered before the connection ends."""
        self.client.ask(Request(Quit(), lambda _: b"bye;"))
        self.assertEqual((self.client.heard, self.client.finished), (b"bye;", 1))

    def test_quit_behind_a_crowd(self) -> None:
        """Nobody waits for room in a conversation that is over."""
        client = Client(self.backend, Limits(backlog=3))
        self.assertTrue(client.ask(get(b"a"), *[QUIT] * 9))
        self.backend.next().succeed()
        self.assertEqual((client.finished, client.rooms), (1, 0))
        self.assertFalse(client.session.backlog_full)

    def test_end(self) -> None:
        """The end that a service asks for comes after all that the client has asked for."""
        self.client.get(b"a")
        self.client.get(b"b")
        self.client.session.end()
        self.backend.answer_all()
        self.assertEqual((self.client.heard, self.client.finished), (b"a;b;", 1))

    def test_end_at_rest(self) -> None:
        """An idle client is let go at once."""
        self.client.session.end()
        self.assertEqual(self.client.finished, 1)

    def test_mute(self) -> None:
        """What a client has asked for is done, though it has gone before it was answered."""
        self.client.ask(*deletions(2))
        self.client.ask(*deletions(1))
        self.client.session.detach_client()
        self.backend.answer_all()
        self.assertEqual(self.backend.seen, [[Delete(b"0"), Delete(b"1")], [Delete(b"0")]])
        self.assertEqual((self.client.heard, self.client.finished), (b"", 0))

    def test_mute_while_held(self) -> None:
        """Even if it had not read for a while."""
        self.client.session.pause()
        self.client.ask(*deletions(2))
        self.client.session.detach_client()
        self.backend.answer_all()
        self.assertEqual(len(self.backend.seen[0]), 2)

    def test_nothing_is_read_for_nobody(self) -> None:
        """What only reads is left out then, but not what also writes."""
        self.client.session.pause()
        self.client.ask(*numbered(2), Request(MetaGet(b"m"), say), *deletions(1))
        self.client.ask(Request(MetaGet(b"t", touch=60), say), *numbered(2))
        self.client.session.detach_client()
        self.backend.answer_all()
        self.assertEqual(self.backend.seen, [[Delete(b"0"), MetaGet(b"t", touch=60)]])

    def test_mute_and_quit(self) -> None:
        """A client that says C{quit} and goes is not closed once more."""
        self.client.ask(get(b"a"), QUIT)
        self.client.session.detach_client()
        self.backend.answer_all()
        self.assertEqual(self.client.finished, 0)
        self.assertTrue(self.client.session.finished)


class AloneTests(SynchronousTestCase):
    """Requests that are not performed together with others."""

    def setUp(self) -> None:
        self.backend = Slow()
        self.client = Client(self.backend)

    def test_statistics_keep_their_place(self) -> None:
        """C{stats} counts what was asked before it, and nothing that was asked after."""
        self.client.ask(get(b"a"), STATS, get(b"b"))
        self.assertEqual((len(self.backend.seen), self.client.reports), (1, []))
        self.backend.next().succeed()
        self.assertEqual(self.client.counters.cmd_get, 1)
        ((group, report),) = self.client.reports
        self.assertEqual((group, len(self.backend.seen)), (b"", 1))
        report.callback([(b"pid", b"1")])
        self.backend.next().succeed()
        self.assertEqual(self.client.heard, b"a;1 pairs;b;")

    def test_statistics_at_once(self) -> None:
        """They may be there at once, too."""
        client = Client(Prompt(), report=lambda group: succeed([]))
        client.ask(get(b"a"), STATS, get(b"b"), STATS)
        self.assertEqual(client.heard, b"a;0 pairs;b;0 pairs;")

    def test_statistics_without_an_answer(self) -> None:
        """What is to be silent is silent."""
        self.client.ask(Request(Statistics(b"x"), lambda _: b""), get(b"a"))
        self.client.reports.pop()[1].callback(None)
        self.assertEqual((self.client.writes, len(self.backend.seen)), (0, 1))

    def test_statistics_of_a_storage_in_trouble(self) -> None:
        """What the storage cannot say is a server error, and no end."""
        self.client.ask(STATS, get(b"a"))
        trouble = BackendError(ErrorKind.UNAVAILABLE, "storage not available")
        self.client.reports.pop()[1].errback(trouble)
        self.backend.answer_all()
        self.assertEqual(self.client.heard, b"SERVER_ERROR storage not available;a;")

    def test_statistics_fault(self) -> None:
        """A fault of ours is in the log, and ends the conversation."""
        self.client.ask(STATS, get(b"a"))
        self.client.reports.pop()[1].errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.client.finished, self.backend.seen), (1, []))

    def test_reset(self) -> None:
        """C{stats reset} sets to zero what was counted before it."""
        self.client.ask(get(b"a"), RESET)
        self.backend.next().succeed()
        self.assertEqual(self.client.heard, b"a;RESET;")
        self.assertEqual(self.client.counters.cmd_get, 0)

    def dump(self, cursor: bytes = b"") -> Request:
        def next_page(page: ListedPage) -> Request | None:
            return self.dump(page.cursor) if page.cursor else None

        return Request(Dump(cursor), lambda page: b"page %b;" % cursor, next_page)

    def test_list_in_pages(self) -> None:
        """A list of items comes page by page, before what was asked after it."""
        self.client.ask(get(b"a"), self.dump(), get(b"b"))
        self.backend.next().succeed()
        self.backend.next().answer.callback([ListedPage([], b"1", 0.0)])
        self.assertEqual(self.client.heard, b"a;page ;")
        self.backend.next().answer.callback([ListedPage([], b"", 0.0)])
        self.backend.next().succeed()
        self.assertEqual(self.client.heard, b"a;page ;page 1;b;")
        self.assertEqual(self.backend.seen[1:3], [[Dump(b"")], [Dump(b"1")]])

    def test_list_that_nobody_reads(self) -> None:
        """The next page is not fetched while the client does not take this one."""
        self.client.ask(self.dump())
        self.client.session.pause()
        self.backend.next().answer.callback([ListedPage([], b"1", 0.0)])
        self.assertEqual(self.backend.waiting, [])
        self.client.session.release()
        self.assertEqual(len(self.backend.waiting), 1)

    def test_list_for_nobody(self) -> None:
        """Nor at all once the client is gone."""
        self.client.ask(self.dump())
        self.client.session.detach_client()
        self.backend.next().answer.callback([ListedPage([], b"1", 0.0)])
        self.assertEqual(self.backend.waiting, [])

    def test_list_of_a_storage_in_trouble(self) -> None:
        """A storage that cannot list says so, and the conversation goes on."""
        self.client.ask(Request(Dump(), say), get(b"a"))
        self.backend.next().fail(BackendError(ErrorKind.REFUSED, "no lists"))
        self.backend.answer_all()
        self.assertEqual(self.client.heard, b"SERVER_ERROR no lists;a;")

    def test_list_fault(self) -> None:
        """A storage that answers nothing at all is a fault."""
        self.client.ask(Request(Dump(), say))
        self.backend.next().answer.callback([])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.client.finished, 1)

    def test_authentication(self) -> None:
        """A client hears whether it is let in, and then what waits is understood."""
        proof: Deferred[bool] = Deferred()
        asked = []

        def check(user: bytes, password: bytes, client: str) -> Deferred[bool]:
            asked.append((user, password, client))
            return proof

        client = Client(self.backend, authenticate=check)
        client.ask(Request(Authenticate(b"user", b"pass"), say))
        self.assertEqual(asked, [(b"user", b"pass", "tcp:client:1")])
        self.assertEqual((client.heard, client.proofs), (b"", []))
        proof.callback(True)
        self.assertEqual((client.heard, client.proofs), (b"True;", [True]))
        self.assertEqual(client.session.user, b"user")
        client.ask(Request(Authenticate(None), say))
        self.assertEqual((client.heard, client.proofs), (b"True;False;", [True, False]))
        self.assertEqual((client.session.user, len(asked)), (None, 1))


class TroubleTests(SynchronousTestCase):
    """The storage's faults, and ours."""

    def test_batch_fails(self) -> None:
        """Where the storage is away, each request is told so, and the client stays."""
        backend = Slow()
        client = Client(backend)
        client.ask(get(b"a"), VERSION, silent(b"b"), get(b"c"))
        backend.next().fail(BackendError(ErrorKind.UNAVAILABLE, "away"))
        self.assertEqual(client.heard, b"SERVER_ERROR away;version 1.2.3;SERVER_ERROR away;")
        client.get(b"d")
        backend.next().fail(BackendError(ErrorKind.UNAVAILABLE, "away"))
        self.assertTrue(client.heard.endswith(b";SERVER_ERROR away;"))
        client.get(b"e")
        backend.next().succeed()
        self.assertTrue(client.heard.endswith(b";e;"))
        self.assertEqual(client.counters.storage_errors, 4)
        self.assertEqual(client.finished, 0)

    def test_raises_at_once(self) -> None:
        """A storage may also raise what it would have failed with."""

        def refuse(commands: Sequence[Command]) -> Any:
            raise BackendError(ErrorKind.REFUSED, "no")

        client = Client(Broken(refuse))
        client.get(b"a")
        client.get(b"b", b"c")
        self.assertEqual(client.heard, b"SERVER_ERROR no;" * 3)

    def assert_fault(
        self, client: Client, requests: list[Request], fault: type[BaseException]
    ) -> None:
        """The client is told in general terms, the log in detail, once; and that is the end."""
        client.ask(*requests)
        self.assertEqual(len(self.flushLoggedErrors(fault)), 1)
        self.assertEqual(client.heard, b"SERVER_ERROR internal error;" * len(requests))
        self.assertEqual(client.finished, 1)
        self.assertTrue(client.session.finished)
        client.get(b"later")
        self.assertEqual(client.finished, 1)

    def test_fails_oddly(self) -> None:
        """Any other failure of a storage is a fault."""
        for requests in (numbered(1), numbered(3)):
            failing = Client(Broken(lambda commands: fail(ZeroDivisionError("secret"))))
            self.assert_fault(failing, requests, ZeroDivisionError)
            raising = Client(Broken(lambda commands: int("secret")))
            self.assert_fault(raising, requests, ValueError)

    def test_fails_by_no_exception(self) -> None:
        """So is what Python does not call an Exception, as asyncio's cancellation."""
        for fault in (CancelledError, SystemExit):
            for requests in (numbered(1), numbered(3)):
                client = Client(Broken(partial(always_fails, fault)))
                self.assert_fault(client, requests, fault)

    def test_wrong_number_of_results(self) -> None:
        """So are too few results, or too many."""
        for wrong in (0, 2, 4):
            results: list[Result] = [[None]] * wrong
            for requests in (numbered(1), numbered(3)):
                client = Client(Broken(partial(always, results)))
                self.assert_fault(client, requests, ValueError)

    def test_results_of_the_wrong_kind(self) -> None:
        """And results that cannot be counted or said."""
        for requests in (numbered(1), numbered(2)):
            client = Client(Broken(lambda commands: succeed([5] * len(commands))))
            self.assert_fault(client, requests, TypeError)

    def test_cannot_be_said(self) -> None:
        """Where not even the error can be said, the connection ends all the same."""

        def encode(result: Result) -> bytes:
            raise ZeroDivisionError

        for requests in ([Request(Get((b"a",)), encode)], [Request(Flush(), encode), get(b"b")]):
            client = Client(Prompt())
            client.ask(*requests)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertEqual((client.heard, client.finished), (b"", 1))

    def test_known_answer_that_cannot_be_said(self) -> None:
        """The same for a request that needs no storage, wherever it stands."""

        def encode(result: Result) -> bytes:
            raise ZeroDivisionError

        for command in (Noop(), Quit()):
            for first in ([], [get(b"a")]):
                backend = Slow()
                client = Client(backend, Limits(batch=1))
                client.ask(*first, Request(command, encode), get(b"b"))
                backend.answer_all()
                self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
                self.assertEqual(client.heard, b"a;" if first else b"")
                self.assertEqual(client.finished, 1)
                self.assertTrue(client.session.idle)

    def test_fault_behind_which_others_wait(self) -> None:
        """What was asked after it is not performed."""
        backend = Slow()
        client = Client(backend, Limits(batch=1, backlog=1))
        self.assertTrue(client.ask(*numbered(5)))
        backend.next().fail(ZeroDivisionError())
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual((len(backend.seen), client.finished, client.rooms), (1, 1, 0))

    def test_fault_for_nobody(self) -> None:
        """A fault is in the log though the client is gone."""
        backend = Slow()
        client = Client(backend)
        client.get(b"a")
        client.session.detach_client()
        backend.next().fail(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(client.heard, b"")

    def test_direct_failures(self) -> None:
        """A storage without Deferreds fails in the same ways, or raises."""

        @implementer(IDirectBackend)
        class Failing(Direct):
            failure = Failure(BackendError(ErrorKind.UNAVAILABLE, "away"))

            def perform(self, commands: Sequence[Command], answer: Answer) -> None:
                answer(self.failure)

        client = Client(Failing())
        client.get(b"a")
        client.get(b"b", b"c")
        self.assertEqual(client.heard, b"SERVER_ERROR away;" * 3)
        Failing.failure = Failure(ZeroDivisionError())
        self.assert_fault(Client(Failing()), numbered(2), ZeroDivisionError)

        @implementer(IDirectBackend)
        class Raising(Direct):
            def perform(self, commands: Sequence[Command], answer: Answer) -> None:
                raise ZeroDivisionError

        for requests in (numbered(1), numbered(3)):
            self.assert_fault(Client(Raising()), requests, ZeroDivisionError)

    def test_counted(self) -> None:
        """All that is answered is counted, alone or in a batch."""

        def execute(commands: Sequence[Command]) -> Any:
            return succeed([Stored(1) if isinstance(one, Store) else None for one in commands])

        client = Client(Broken(execute))
        store = Request(Store(StoreMode.SET, b"a", b""), lambda _: b"")
        client.ask(store)
        client.ask(store, VERSION, Request(Discard(b"a"), lambda _: b""), store)
        self.assertEqual(client.counters.cmd_set, 3)
