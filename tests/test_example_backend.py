"""
The example of a storage backend of one's own, under the contract of all storages.

That it can be installed and chosen is in L{tests.test_packages}.
"""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from redcouch.commands import Arithmetic, Flush, Get, Store, StoreMode
from redcouch.errors import BackendError, ConfigurationError
from redcouch.interfaces import BackendContext, ILocalBackend, IStorageBackend
from redcouch.results import Item
from tests.contract import contract
from tests.contract.contract import START

_EXAMPLE = Path(__file__).parent.parent / "examples/redcouch-example"


def _load(path: Path) -> ModuleType:
    """The package in a file, which is not installed here."""
    spec = importlib.util.spec_from_file_location("redcouch_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _new_path(test: TestCase) -> str:
    """A path where nothing is yet."""
    folder = tempfile.mkdtemp(prefix="redcouch-tests-")
    test.addCleanup(shutil.rmtree, folder)
    return f"{folder}/items.sqlite3"


example: Any = _load(_EXAMPLE / "redcouch_example/__init__.py")


class ExampleContract(contract.StorageContract):
    """Items in SQLite, by a clock that the tests move."""

    def build(self) -> IStorageBackend:
        self.clock = Clock()
        context = BackendContext(self.clock, contract.LIMITS, self.now, self.fail)
        self.backend = example.make_backend(self.url(), context)
        storage: IStorageBackend = self.backend
        return storage

    def url(self) -> str:
        return "example:"

    def now(self) -> float:
        return START + self.clock.seconds()

    async def elapse(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def left(self, key: bytes) -> float | None:
        query = "SELECT ends FROM items WHERE key = ?"
        (ends,) = self.backend._database.execute(query, (key,)).fetchone()
        return None if ends is None else ends - self.now()


class ExampleFileContract(ExampleContract):
    """The same in a file."""

    def url(self) -> str:
        return f"example:{_new_path(self)}"


class FileTests(TestCase):
    """What a file is good for."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.path = _new_path(self)
        self.clock = Clock()

    def open(self) -> Any:
        """A backend on the file, as a process of its own would have it."""
        context = BackendContext(self.clock, contract.LIMITS, self.clock.seconds, self.fail)
        backend = example.make_backend(f"example:{self.path}", context)
        self.addCleanup(backend.stop)
        return backend

    async def test_it_stays(self) -> None:
        """Items, their largest tokens and a flush that waits outlast the process."""
        backend = self.open()
        token = 2**64 - 1
        await backend.execute([Store(StoreMode.SET, b"k", b"v", 7, new_cas=token), Flush(1000)])
        await backend.stop()
        backend = self.open()
        assert await backend.execute([Get([b"k"], cas=True)]) == [[Item(b"v", 7, token)]]
        self.clock.advance(1000)
        assert await backend.execute([Get([b"k"])]) == [[None]]

    async def test_two_processes(self) -> None:
        """Two services on one file count together, and give no token twice."""
        one, other = self.open(), self.open()
        verifyObject(ILocalBackend, one)
        assert one.shared_url == f"example:{self.path}"
        tokens = set()
        for backend in (one, other, one, other):
            (number,) = await backend.execute([Arithmetic(b"n", 1, initial=1)])
            tokens.add(number.cas)
        assert number.value == 4
        assert len(tokens) == 4

    async def test_it_is_locked(self) -> None:
        """While somebody else keeps the file locked, a client is told that, and nothing breaks."""
        backend = self.open()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        with self.assertRaisesRegex(BackendError, "locked"):
            await backend.execute([Get([b"k"])])
        with self.assertRaisesRegex(BackendError, "locked"):
            await backend.statistics()
        other.execute("COMMIT")
        assert await backend.execute([Get([b"k"])]) == [[None]]

    async def test_it_is_no_database(self) -> None:
        """A file of another kind is refused with one line."""
        Path(self.path).write_bytes(b"not a database, but long enough to be read as one" * 100)
        with self.assertRaisesRegex(ConfigurationError, "not a database"):
            self.open()

    async def test_memory_is_not_shared(self) -> None:
        """Workers are refused where each would have items of its own."""
        context = BackendContext(self.clock, contract.LIMITS, self.clock.seconds, self.fail)
        backend = example.make_backend("example:", context)
        self.addCleanup(backend.stop)
        assert backend.shared_url is None
