"""
Who may fill in what from another cache, as plain rules.

An item that was read elsewhere may have been changed or deleted here by the
time it is stored. So whoever fills in an item claims its key first, reads, and
stores only if the claim still holds; whoever changes the item revokes claims on
it first. And a key whose change did not reach the other cache is barred, since
what is there is out of date.

The same rules stand in C{claim.lua} and C{fill.lua} for items in Redis.
"""

from __future__ import annotations

from collections.abc import Callable

from redcouch.commands import Bar, Pause, Revoke
from redcouch.results import Outcome

MOST_BARRED = 100_000
"""Keys that are barred one by one; more bar all."""

CLAIM_SECONDS = 30.0
"""How long a claim lasts that nobody uses."""


class Claims:
    """The claims on the items of one process."""

    def __init__(self, now: Callable[[], float]) -> None:
        """@param now: gives the UNIX time in seconds."""
        self._now = now
        self._claims: dict[bytes, tuple[bytes, float]] = {}
        self._last = 0
        self._barred: set[bytes] = set()
        self._all_barred = False
        self._pause = (0.0, 0.0)

    def claim(self, key: bytes) -> bytes | Outcome | None:
        """See L{redcouch.commands.Claim}."""
        if self._all_barred:
            return Outcome.NOT_STORED
        if not self._open(key):
            return None
        now = self._now()
        claim, until = self._claims.get(key, (b"", 0.0))
        if until <= now:
            self._forget_old(now)
            self._last += 1
            claim = b"%d" % self._last
            self._claims[key] = claim, now + CLAIM_SECONDS
        return claim

    def use(self, key: bytes, claim: bytes) -> bool:
        """Whether the claim still holds, which it then does no more."""
        held, until = self._claims.get(key, (b"", 0.0))
        if held != claim or until <= self._now() or not self._open(key):
            return False
        del self._claims[key]
        return True

    def revoke(self, command: Revoke) -> Outcome:
        """See L{redcouch.commands.Revoke}."""
        if command.keys is None:
            self._claims.clear()
        else:
            for key in command.keys:
                self._claims.pop(key, None)
        return Outcome.OK

    def bar(self, command: Bar) -> Outcome:
        """See L{redcouch.commands.Bar}."""
        if command.keys is not None:
            self._barred.update(command.keys)
        if command.keys is None or len(self._barred) > MOST_BARRED:
            self._all_barred = True
            self._barred.clear()
        return Outcome.NOT_STORED if self._all_barred else Outcome.OK

    def pause(self, command: Pause) -> Outcome:
        """See L{redcouch.commands.Pause}."""
        self._pause = command.begin, command.end
        return Outcome.OK

    def barred(self) -> int | None:
        """See L{redcouch.commands.Barred}."""
        return None if self._all_barred else len(self._barred)

    def _open(self, key: bytes) -> bool:
        begin, end = self._pause
        paused = begin <= self._now() < end
        return not (self._all_barred or paused or key in self._barred)

    def _forget_old(self, now: float) -> None:
        """Claims are in the order of their ends."""
        while self._claims:
            key, (_, until) = next(iter(self._claims.items()))
            if until > now:
                return
            del self._claims[key]
