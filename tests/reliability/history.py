"""
Whether what many clients were told of one item can have come about one step at a time.

A history is linearizable if each operation can be given a moment between its beginning
and its end so that, done in the order of these moments, each gives what its client was
told (Herlihy and Wing, 1990). The search is the one of Wing and Gong (1993): take any
operation that no other one has to precede, see whether its answer fits, go on; and never
look twice at the same set of operations that have led to the same state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

State = bytes | None
"""The value of the item, C{None} where there is none. No value is ever written twice."""

Step = Callable[[State], tuple[bool, State]]
"""Whether the answer fits this state, and the state after it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """
    @ivar end: when it was answered; infinity where nobody knows whether it has
        been done, or will be.
    """

    name: str
    begin: float
    end: float
    step: Step

    @property
    def certain(self) -> bool:
        """Whether it was done."""
        return self.end < math.inf


def is_linearizable(operations: Sequence[Operation], state: State = None) -> bool:
    """Whether these can have been done one after the other, from this state on."""
    ordered = sorted(operations, key=lambda operation: operation.begin)
    certain = sum(1 << place for place, one in enumerate(ordered) if one.certain)
    seen = {(0, state)}
    open_ = [(0, state)]
    while open_:
        done, state = open_.pop()
        if done & certain == certain:
            return True
        for place in _next(ordered, done):
            fits, after = ordered[place].step(state)
            reached = (done | 1 << place, after)
            if fits and reached not in seen:
                seen.add(reached)
                open_.append(reached)
    return False


def _next(ordered: Sequence[Operation], done: int) -> Iterator[int]:
    """The operations that began before any that is left had to be over."""
    left = [place for place in range(len(ordered)) if not done >> place & 1]
    first_end = min(ordered[place].end for place in left)
    for place in left:
        if ordered[place].begin > first_end:
            break
        yield place


# -- the operations of memcached -----------------------------------------------------------------


def get(found: State) -> Step:
    """A read that has found a value, or none."""
    return lambda state: (state == found, state)


def set_(value: bytes) -> Step:
    """STORED."""
    return lambda state: (True, value)


def add(value: bytes, stored: bool) -> Step:
    """STORED if there was no item, NOT_STORED if there was one."""
    return lambda state: ((state is None) == stored, value if state is None else state)


def append(more: bytes, stored: bool) -> Step:
    """STORED if there was an item, NOT_STORED if there was none."""
    return lambda state: ((state is not None) == stored, None if state is None else state + more)


def delete(deleted: bool) -> Step:
    """DELETED if there was an item, NOT_FOUND if there was none."""
    return lambda state: ((state is not None) == deleted, None)


def incr(said: bytes) -> Step:
    """
    The number that is one more than the item's, NOT_FOUND if there was none, and
    CLIENT_ERROR if it was no number.
    """

    def step(state: State) -> tuple[bool, State]:
        after = incremented(state)
        if state is None:
            return said == b"NOT_FOUND", None
        if after == state:
            return said.startswith(b"CLIENT_ERROR"), state
        return said == after, after

    return step


def incremented(state: State) -> State:
    """A number that is one more; all else stays as it is."""
    return b"%d" % (int(state) + 1) if state is not None and state.isdigit() else state


def cas(expected: State, value: bytes, said: bytes) -> Step:
    """
    STORED if the item still was the one whose token was given, EXISTS if it was
    another, NOT_FOUND if there was none.
    """

    def step(state: State) -> tuple[bool, State]:
        if state is None:
            return said == b"NOT_FOUND", None
        if state == expected:
            return said == b"STORED", value
        return said == b"EXISTS", state

    return step


def perhaps(step: Callable[[State], State]) -> Step:
    """One whose answer nobody has heard; to be given an end at infinity."""
    return lambda state: (True, step(state))
