"""
Which side is right, followed by all processes together.

The stage stands in the storage. Each process (a member) asks for it a few times a second, and
says with that what it acknowledges. L{redcouch.cli.stage} changes it in three steps, each
of which all members have to acknowledge: the next stage is announced, and members ask
more often; they hold, and begin nothing new until what they have begun is done; then the
change counts, and they go on. So nothing is done by one stage while something is done by
another.

A member that has not heard from the storage for L{LEASE} seconds does not know the stage,
and serves nobody. By the time that it counts as gone, it has stopped. While the
storage takes no writes, nobody sees that a member is there, and would wait for it: then that is
L{UNNOTED_LEASE} seconds.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from redcouch.backends.fill_leases import Beat, FillState, Leave
from redcouch.backends.origin.fetch import Execute
from redcouch.errors import BackendError
from redcouch.interfaces import Answer
from redcouch.process.clock import LAST_WORDS, cancel, for_at_most
from redcouch.results import ErrorKind, Failed, Result

LEASE = 5.0
"""Seconds for which a member knows the stage."""

UNNOTED_LEASE = 0.5
"""The same where nobody sees the member: less than it takes to announce a stage."""

LOOK_EVERY = 0.25
LOOK_SOON = 0.02
"""Seconds between two looks; the second while something is going on."""


SENSELESS = "What stands at {what} in Redis makes no sense, and counts as lost"
"""Said once, by the service and by each command."""

_FAULT = "the stage cannot be learned: the log says why"


class Stage(Enum):
    """Which side is right."""

    ORIGIN_FIRST = "origin-first"
    REDIS_FIRST = "redis-first"
    REDIS_ONLY = "redis-only"

    @property
    def number(self) -> int:
        """From 1, in the order of a migration."""
        return [*Stage].index(self) + 1


DEFAULT = Stage.REDIS_FIRST

ATTENTIVE, HELD = "+", "="
"""Behind the version that a member knows: it has heard of the next one; it holds."""


class StageFollower:
    """
    What one process knows of the stage.

    @ivar member: its name among all, new with each start.
    @ivar stage: C{None} before anything is known.
    @ivar state: what the storage has said last.
    """

    _log = Logger()

    def __init__(
        self,
        ask: Execute,
        about: Callable[[], dict[str, Any]],
        processes: Callable[[], dict[bytes, bytes]],
        on_look: Callable[[FillState], None],
        clock: Any,
    ) -> None:
        """
        @param ask: performs commands on the storage.
        @param about: what others may know of this member.
        @param processes: see L{Beat}.
        @param on_look: told what the storage says each time.
        """
        place = f"{socket.gethostname()}:{os.getpid()}"
        self.member = f"{place}:{token_hex(3)}".encode()
        self.stage: Stage | None = None
        self.state = FillState()
        self._place = place
        self._ask = ask
        self._about = about
        self._processes = processes
        self._on_look = on_look
        self._clock = clock
        #: Until when the stage is known; in the past while nothing may begin.
        self._until = -1.0
        self._under_way = 0
        self._waiting: list[tuple[Callable[[], None], Answer]] = []
        self._trouble: Failure | None = None
        #: What was wrong when it was looked last, and has been said.
        self._told: Sequence[bytes] = ()
        self._timer: Any = None
        self._looking = False
        self._running = False

    # -- what is begun -------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether something may begin."""
        return bool(self._until > self._clock.seconds())

    @property
    def refusal(self) -> str:
        """Why nothing may begin; empty where something may, or will in a moment."""
        return "" if self.is_open or self._trouble is None else str(self._trouble.value)

    def wait(self, begin: Callable[[], None], answer: Answer) -> None:
        """Begin when it is open. Where the storage cannot be asked, that is the answer."""
        if self._trouble is not None:
            answer(self._trouble)
            return
        self._waiting.append((begin, answer))
        if not self._looking and self._running:
            self._look_now()

    def counted(self, answer: Answer) -> Answer:
        """The same; until it is called, something is under way."""
        self._under_way += 1

        def done(results: list[Result] | Failure) -> None:
            self.done()
            answer(results)

        return done

    def begun(self) -> None:
        """Something else is under way, until L{done}."""
        self._under_way += 1

    def done(self) -> None:
        """It is done."""
        self._under_way -= 1
        if self.state.holding and not self._under_way and not self._looking:
            self._look_now()

    # -- looking -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look."""
        self._running = True
        self._look_now()

    def look_soon(self) -> None:
        """There is something to be seen to."""
        timer = self._timer
        if timer is None or not timer.active():
            return
        if timer.getTime() - self._clock.seconds() > LOOK_SOON:
            timer.reset(LOOK_SOON)

    async def stop(self, unfinished: bool) -> None:
        """Look no more, and say so, unless something is left that others have to see to."""
        self._running = False
        cancel(self._timer)
        self._let_go(Failure(BackendError(ErrorKind.UNAVAILABLE, "the service ends")))
        if not unfinished:
            with suppress(BackendError):  # it counts as gone in a while
                await for_at_most(LAST_WORDS, self._ask([Leave(self.member)]), self._clock)

    def _look_now(self) -> None:
        if not self._running:
            return
        cancel(self._timer)
        self._looking = True
        looked = Deferred.fromCoroutine(self._look())
        looked.addErrback(lambda failure: self._log.failure("Could not look", failure))

    async def _look(self) -> None:
        began, before = self._clock.seconds(), self._trouble
        try:
            (said,) = await self._ask([self._beat()])
            if isinstance(said, Failed):
                self._tell("The stage is not known: {what}", [said.message.encode()])
                raise BackendError(said.kind, said.message)
            self._trouble = None
            self._take(said, began)
        except BackendError:
            self._trouble = Failure()
        except Exception:
            if before is None or str(before.value) != _FAULT:
                self._log.failure("Could not look")
            self._trouble = Failure(BackendError(ErrorKind.INTERNAL, _FAULT))
        finally:
            self._looking = False
        if self._trouble is not None and not self.is_open:
            self._let_go(self._trouble)
        if self._running:
            busy = self._trouble or self.state.next or self.state.denied
            self._timer = self._clock.callLater(LOOK_SOON if busy else LOOK_EVERY, self._look_now)

    def _beat(self) -> Beat:
        about = {"name": self._place, **self._about()}
        stage = b"" if self.stage is None else self.stage.value.encode()
        acknowledged = f"{self.state.version}{self._mark}".encode()
        told = json.dumps(about).encode()
        processes = self._processes()
        state = self.state
        may_lose = state.stage != b""  # before there is one, none can be lost
        denied = may_lose and state.denied != 0
        lacking = may_lose and (state.lacking or 0 in about.get("up", ()))
        version = state.version
        return Beat(self.member, told, acknowledged, stage, version, processes, denied, lacking)

    @property
    def _mark(self) -> str:
        if not self.state.next:
            return ""
        return HELD if self.state.holding and not self._under_way else ATTENTIVE

    def _take(self, state: FillState, began: float) -> None:
        self._tell(SENSELESS, state.senseless)
        stage = Stage(state.stage.decode()) if state.stage else self.stage or DEFAULT
        if self.stage not in (None, stage):
            self._log.info("The stage is {stage} now", stage=stage.value)
        before, self.state, self.stage = self.state, state, stage
        self._on_look(state)
        if state.holding:
            self._until = -1.0
            if not before.holding and not self._under_way:
                self._clock.callLater(0, self._look_now)
            return
        self._until = began + (LEASE if state.noted else UNNOTED_LEASE)
        while self._waiting and self.is_open:
            begin, _ = self._waiting.pop(0)
            begin()

    def _tell(self, text: str, whats: Sequence[bytes]) -> None:
        for what in whats:
            if what not in self._told:
                self._log.error(text, what=what.decode("utf-8", "backslashreplace"))
        self._told = whats

    def _let_go(self, failure: Failure) -> None:
        waiting, self._waiting = self._waiting, []
        for _, answer in waiting:
            answer(failure)
