"""A backend of one method per command, as somebody else would write it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from redcouch.backends.per_command import PerCommandBackend
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Dump,
    Flush,
    Get,
    GetAndTouch,
    Inspect,
    Invalidate,
    MetaGet,
    Noop,
    Store,
    StoreMode,
    Touch,
)
from redcouch.errors import BackendError
from redcouch.interfaces import Health, IStorageBackend
from redcouch.results import (
    ErrorKind,
    Failed,
    Item,
    Listed,
    MetaItem,
    Number,
    Outcome,
    Stored,
    Touched,
)

BROKEN = BackendError(ErrorKind.REFUSED, "not this one")


class Recorder(PerCommandBackend):
    """
    Notes what it is asked, and answers in all the ways that a method may:
    at once, with a coroutine, with a Deferred that has fired or that fires
    later, and with a failure of each kind.
    """

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.later: Deferred[Outcome] = Deferred()
        self.untouchable: BackendError | None = None

    async def get(self, key: bytes) -> Item | None:
        self.asked.append(("get", key))
        if key == b"broken":
            raise BROKEN
        return None if key == b"none" else Item(b"<%b>" % key, 1, 2)

    def store(self, command: Store) -> Any:
        self.asked.append(command)
        if command.key == b"broken":
            raise BROKEN
        if command.key == b"broken later":
            return fail(BROKEN)
        return succeed(Stored(7))

    def delete(self, command: Delete) -> Any:
        self.asked.append(command)
        return self.later

    def touch(self, key: bytes, exptime: int) -> Any:
        self.asked.append(("touch", key, exptime))
        if self.untouchable is not None:
            raise self.untouchable
        return Touched(1, 2)

    def arithmetic(self, command: Arithmetic) -> Any:
        self.asked.append(command)
        if command.delta == 0:
            raise ZeroDivisionError
        return Number(5, 8)

    def flush(self, exptime: int) -> Any:
        self.asked.append(("flush", exptime))
        return Outcome.OK


class PerCommandTests(SynchronousTestCase):
    """What the base class makes of a batch."""

    def setUp(self) -> None:
        self.recorder = Recorder()
        self.storage: IStorageBackend = self.recorder

    def all(self, *commands: Command) -> list[Any]:
        return self.successResultOf(self.storage.execute(commands))

    def test_interface(self) -> None:
        """A subclass is a whole storage."""
        verifyClass(IStorageBackend, Recorder)
        verifyObject(IStorageBackend, self.recorder)

    def test_defaults(self) -> None:
        """What a subclass leaves out has a sensible answer."""
        self.assertIsNone(self.successResultOf(self.storage.start()))
        self.assertEqual(self.storage.health(), Health(True))
        self.assertEqual(self.successResultOf(self.storage.statistics()), {})
        self.assertIsNone(self.successResultOf(self.storage.stop()))

    def test_each_method(self) -> None:
        """Each command becomes a call of its method, in order, however the method answers."""
        self.recorder.later.callback(Outcome.DELETED)
        store = Store(StoreMode.ADD, b"k", b"v", 3)
        count = Arithmetic(b"k", 1)
        results = self.all(store, count, Touch(b"k", 9), Delete(b"k"), Flush(5))
        expected = [Stored(7), Number(5, 8), Touched(1, 2), Outcome.DELETED, Outcome.OK]
        self.assertEqual(results, expected)
        asked = [store, count, ("touch", b"k", 9), Delete(b"k"), ("flush", 5)]
        self.assertEqual(self.recorder.asked, asked)

    def test_discard(self) -> None:
        """An item whose next value was refused is deleted like any other."""
        self.recorder.later.callback(Outcome.NOT_FOUND)
        self.all(Discard(b"k"))
        self.assertEqual(self.recorder.asked, [Delete(b"k")])

    def test_get(self) -> None:
        """Many keys are read one by one; one that cannot be read harms no other."""
        (found,) = self.all(Get([b"a", b"broken", b"none", b"a"]))
        self.assertEqual(found, [Item(b"<a>", 1, 2), BROKEN.failed, None, Item(b"<a>", 1, 2)])

    def test_plain_tuples(self) -> None:
        """An item may be a plain tuple, whatever is made of it."""
        self.recorder.get = lambda key: (b"v", 1, 2)  # type: ignore[method-assign,assignment,return-value]
        found = self.all(Get([b"k"]), MetaGet(b"k"), Inspect(b"k"))
        listed = Listed(b"k", None, 0, 2, False, 1, 1)
        self.assertEqual(found, [[(b"v", 1, 2)], MetaItem(b"v", 1, 1, 2), listed])

    def test_get_and_touch(self) -> None:
        """What is found is touched, and what is not is left alone."""
        (found,) = self.all(GetAndTouch([b"a", b"none"], 9))
        self.assertEqual(found, [Item(b"<a>", 1, 2), None])
        asked = [("get", b"a"), ("touch", b"a", 9), ("get", b"none")]
        self.assertEqual(self.recorder.asked, asked)

    def test_get_and_touch_of_an_unreadable_item(self) -> None:
        """An item that cannot be read is not touched either."""
        (found,) = self.all(GetAndTouch([b"broken"], 9))
        self.assertEqual(found, [BROKEN.failed])
        self.assertEqual(self.recorder.asked, [("get", b"broken")])

    def test_get_and_touch_of_an_untouchable_item(self) -> None:
        """A new expiry that could not be given is not passed over in silence."""
        self.recorder.untouchable = BROKEN
        (found,) = self.all(GetAndTouch([b"a"], 9))
        self.assertEqual(found, [BROKEN.failed])

    def test_one_after_the_other(self) -> None:
        """A command waits for the one before it."""
        answer = self.storage.execute([Delete(b"k"), Flush()])
        self.assertEqual(self.recorder.asked, [Delete(b"k")])
        self.recorder.later.callback(Outcome.DELETED)
        self.assertEqual(self.successResultOf(answer), [Outcome.DELETED, Outcome.OK])

    def test_failure_of_one(self) -> None:
        """A command that fails, now or later, fails alone."""
        results = self.all(
            Store(StoreMode.SET, b"broken", b"v"),
            Store(StoreMode.SET, b"broken later", b"v"),
            Store(StoreMode.SET, b"k", b"v"),
        )
        self.assertEqual(results, [BROKEN.failed, BROKEN.failed, Stored(7)])

    def test_fault(self) -> None:
        """Any other exception is a fault, and fails the batch for the session to log."""
        answer = self.storage.execute([Flush(), Arithmetic(b"k", 0)])
        self.failureResultOf(answer, ZeroDivisionError)

    def test_unknown_command(self) -> None:
        """A command that is not for a storage is a fault."""
        self.failureResultOf(self.storage.execute([Noop()]))

    def test_missing_method(self) -> None:
        """A storage without a method that every storage needs says so, as a fault."""
        for command in (
            Get([b"k"]),
            Store(StoreMode.SET, b"k", b"v"),
            Delete(b"k"),
            Touch(b"k", 0),
            Arithmetic(b"k", 1),
            Flush(),
        ):
            answer = PerCommandBackend().execute([command])
            self.failureResultOf(answer, NotImplementedError)

    def test_simple_meta_get(self) -> None:
        """C{mg} works on a storage that has only a plain get."""
        (found, missing) = self.all(MetaGet(b"k"), MetaGet(b"none"))
        self.assertEqual(found, MetaItem(b"<k>", 3, 1, 2))
        self.assertIsNone(missing)

    def test_meta_get_touches(self) -> None:
        """C{mg} with a new expiry touches what it finds."""
        self.all(MetaGet(b"k", touch=9), MetaGet(b"none", touch=9))
        asked = [("get", b"k"), ("touch", b"k", 9), ("get", b"none")]
        self.assertEqual(self.recorder.asked, asked)

    def test_beyond_a_simple_storage(self) -> None:
        """What a simple storage cannot do is refused, command by command."""
        results = self.all(Invalidate(b"k", stale=True), Dump(), Flush())
        self.assertEqual(results[2], Outcome.OK)
        for result in results[:2]:
            self.assertIsInstance(result, Failed)
            self.assertIs(result.kind, ErrorKind.REFUSED)
