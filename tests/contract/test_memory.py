"""The contract on items in memory."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from redcouch.backends.memory import MemoryBackend
from redcouch.interfaces import BackendContext, IStorageBackend
from tests.contract import contract
from tests.contract.contract import START


@pytest.mark.everywhere
class MemoryContract(contract.StorageContract):
    """Items in memory, by a clock that the tests move."""

    def build(self) -> IStorageBackend:
        self.clock = Clock()
        context = BackendContext(self.clock, contract.LIMITS, self.now, self.fail)
        self.memory = MemoryBackend(context)
        storage: IStorageBackend = self.memory
        return storage

    def now(self) -> float:
        return START + self.clock.seconds()

    async def elapse(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def left(self, key: bytes) -> float | None:
        deadline = self.memory._entries[key].deadline
        return None if deadline is None else deadline - self.now()
