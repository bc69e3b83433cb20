"""Clients take turns."""

from __future__ import annotations

from twisted.internet.task import Clock

from redcouch.server.run_queue import SLICE, RunQueue


class Slow:
    """Needs some turns, each as long as half of what a turn of the reactor has."""

    def __init__(self, queue: RunQueue, clock: Clock, turns: int, done: list[str], name: str):
        self._queue, self._clock = queue, clock
        self._turns = turns
        self._done = done
        self._name = name

    def take_turn(self) -> None:
        self._done.append(self._name)
        self._clock.rightNow += SLICE / 2
        self._turns -= 1
        if self._turns:
            self._queue.add(self)


def test_rounds() -> None:
    """Everybody has a turn before anybody has another, and the reactor its own in between."""
    clock = Clock()
    queue = RunQueue(clock)
    done: list[str] = []
    for name, turns in (("a", 3), ("b", 1), ("c", 2)):
        queue.add(Slow(queue, clock, turns, done, name))
    assert done == [], "nobody has it at once"
    rounds = []
    while clock.calls:
        clock.calls.pop(0).func()
        rounds.append("".join(done))
        done.clear()
    assert rounds == ["ab", "ca", "ca"]
