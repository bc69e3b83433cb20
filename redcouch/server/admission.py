"""
How much may be under way to the storage and back, of all clients together.

The storage answers in order, so what others have asked for is waited for: that
is why batches of many keys or large values go to it a few at a time. And all
that has been asked for is held in memory until the clients have taken it: that
is why those who ask for the most wait while there is too much of it. Whoever
asks for little passes at once and is not even counted.

How large a value is shows when it is there. What a client's last values had is
taken for granted for its next; of one that has asked for none yet, little is
asked for at first.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

_PLENTY = 256 * 1024 * 1024

KEYS_AT_A_TIME = 512
"""Keys that are under way in batches that are counted. A few KiB count as one key."""

_BYTES_OF_A_KEY = 8192


class Batch(Protocol):
    """Somebody who wants to go to the storage."""

    def go(self) -> None:
        """It is your turn."""


class Charge:
    """
    What one batch costs.

    @ivar work: keys, or what takes as long as they.
    @ivar size: bytes, as far as anybody knows.
    @ivar small: it asks for one key, so that it may go even if memory is short.
    """

    __slots__ = ("batch", "size", "small", "work")

    def __init__(self, batch: Batch, keys: int, size: int, small: bool) -> None:
        self.batch = batch
        self.work = min(keys + size // _BYTES_OF_A_KEY, KEYS_AT_A_TIME // 2)
        self.size = size
        self.small = small


class Admission:
    """
    Lets batches go, in the order in which they come; those of one key first.

    @ivar held: bytes that are under way, or that clients have not taken yet.
    """

    def __init__(self, memory_limit: int = _PLENTY) -> None:
        self.held = 0
        self._memory_limit = memory_limit
        self._work = 0
        self._small: deque[Charge] = deque()
        self._others: deque[Charge] = deque()
        #: Who waits for memory and not for a turn.
        self._large: deque[Charge] = deque()
        self._admitting = False
        self._look_again = False

    @property
    def full(self) -> bool:
        """Whether whoever asks for much has to wait for others to take what they have asked for."""
        return self.held >= self._memory_limit

    @property
    def short(self) -> bool:
        """Whether somebody waits for others to take what they have asked for."""
        return bool(self._large)

    def admits(self, charge: Charge) -> bool:
        """Whether it may go now. Otherwise it is told when it may."""
        queue = self._small if charge.small else self._others
        if not queue and self._has_turn(charge):
            if self._has_memory(charge):
                self._take(charge)
                return True
            queue = self._large
        queue.append(charge)
        return False

    def free(self, work: int, size: int) -> None:
        """A batch is answered, or a client has taken what it has asked for."""
        self._work -= work
        self.held -= size
        if self._small or self._others or (self._large and size):
            self._admit()

    def pause(self, size: int) -> None:
        """A client does not take so many bytes just now."""
        self.held += size

    def _has_turn(self, charge: Charge) -> bool:
        return not self._work or self._work + charge.work <= KEYS_AT_A_TIME

    def _has_memory(self, charge: Charge) -> bool:
        return charge.small or not self.held or self.held + charge.size <= self._memory_limit

    def _take(self, charge: Charge) -> None:
        self._work += charge.work
        self.held += charge.size

    def _admit(self) -> None:
        """Let go who can."""
        self._look_again = True
        if self._admitting:  # somebody was answered at once, inside the loop below
            return
        self._admitting = True
        try:
            while self._look_again:
                self._look_again = False
                for queue in (self._small, self._large, self._others):
                    self._admit_from(queue)
        finally:
            self._admitting = False

    def _admit_from(self, queue: deque[Charge]) -> None:
        """Those for whom there is a turn and no memory wait with the large ones."""
        for _ in range(len(queue)):
            if not self._has_turn(queue[0]):
                break
            charge = queue.popleft()
            if self._has_memory(charge):
                self._take(charge)
                charge.batch.go()
            else:
                self._large.append(charge)
