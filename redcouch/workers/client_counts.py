"""
How many clients each worker has, in a few bytes of memory that all share.

Each worker writes its own number and reads the others', as often as it likes
and without asking anybody. So C{--max-connections} is one limit for the whole
service, and clients can be shared out evenly.
"""

from __future__ import annotations

import mmap
import os
import tempfile

_ABSENT = -1
_SIZE = 8


def make_memory(workers: int) -> int:
    """A descriptor of common memory for so many workers, of which none is there yet."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("redcouch-crowd")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, workers * _SIZE)
    client_counts = ClientCounts(descriptor, workers)
    for number in range(workers):
        client_counts.leave(number)
    return descriptor


class ClientCounts:
    """The numbers of clients, as seen by the parent or by one worker."""

    def __init__(self, descriptor: int, workers: int, most: float = float("inf")) -> None:
        """@param most: clients that all may have together."""
        self._most = most
        # Aligned 64-bit integers, each written by one process: no lock is needed.
        self._counts = memoryview(mmap.mmap(descriptor, workers * _SIZE)).cast("q")

    def set(self, number: int, clients: int) -> None:
        """The worker of this number, from 0, is there and has so many."""
        self._counts[number] = clients

    def leave(self, number: int) -> int:
        """That worker is gone; gives how many clients it had."""
        clients = self._counts[number]
        self._counts[number] = _ABSENT
        return max(clients, 0)

    def total(self) -> int:
        """How many clients all have."""
        return sum(count for count in self._counts if count > 0)

    def is_full(self) -> bool:
        """Whether all have as many as they may."""
        return self.total() >= self._most

    def is_ahead(self, number: int) -> bool:
        """Whether some other worker has fewer clients than this one, by more than one."""
        mine = self._counts[number]
        return any(_ABSENT < count < mine - 1 for count in self._counts)
