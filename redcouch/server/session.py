"""
One client's conversation: what waits, what is being performed, what is said.

Order is kept here, and for every backend alike. A client's requests are
performed in batches, one batch at a time; the next one gathers whatever
arrived meanwhile. So requests take effect in the order in which they came
without the backend doing anything for it, a client that pipelines pays for one
Deferred and one write per batch, and what one client has in flight is bounded.

The session sees no socket: it is given C{write} and C{finish}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from redcouch.commands import (
    Authenticate,
    Command,
    Dump,
    Noop,
    Quit,
    ResetStatistics,
    Statistics,
    Store,
    Version,
)
from redcouch.dialects.request import Request
from redcouch.errors import as_failed
from redcouch.interfaces import Answer, IStorageBackend, performer
from redcouch.limits import Limits
from redcouch.results import Failed, Result, Trouble
from redcouch.telemetry.counters import Counters, count

_INTERNAL = Failed(Trouble.INTERNAL, "internal error")

_FIRST_ROOM = 8
"""Keys in a client's first batch, while nobody knows how large its values are."""

_SMALL = 1024
"""Bytes of a value that may stay in memory after it has been stored."""

_LARGE = 2 * 1024 * 1024
"""Bytes that the replies to a batch should not exceed by much."""


@dataclass(slots=True)
class Shared:
    """
    What all conversations of a service have in common.

    @ivar report: gives the statistics of a group, as
        L{Statistics<redcouch.commands.Statistics>} says.
    @ivar reset: begins to count from zero.
    @ivar authenticate: tells whether user and password are right, given with
        the client's address; C{None} where nobody has to prove anything.
    @ivar spoken: where to count what is asked for in each dialect, by its
        name; what is in none of these is counted in C{counters}.
    """

    backend: IStorageBackend
    counters: Counters
    limits: Limits
    version: bytes
    report: Callable[[bytes], Deferred[list[tuple[bytes, bytes]] | None]]
    reset: Callable[[], Deferred[None]]
    authenticate: Callable[[bytes, bytes, str], Deferred[bool]] | None = None
    spoken: Mapping[str, Counters] = field(default_factory=dict)
    perform: Callable[[Sequence[Command], Answer], None] = field(init=False)

    def __post_init__(self) -> None:
        self.perform = performer(self.backend)


class Session:
    """
    @ivar finished: the conversation is over: nothing more is performed or said.
    """

    __slots__ = (
        "_advancing",
        "_batch",
        "_busy",
        "_client",
        "_counters",
        "_finish",
        "_held",
        "_on_proof",
        "_on_room",
        "_perform",
        "_queue",
        "_room",
        "_shared",
        "_was_crowded",
        "_write",
        "finished",
        "user",
    )

    _log = Logger()

    def __init__(
        self,
        shared: Shared,
        write: Callable[[bytes], None],
        finish: Callable[[], None],
        on_room: Callable[[], None],
        on_proof: Callable[[bool], None],
        client: str,
    ) -> None:
        """
        @param write: says bytes to the client.
        @param finish: ends the connection, after what has been said.
        @param on_room: called when a crowded session has room again.
        @param on_proof: called after the client has been told whether it has
            proved who it is.
        @param client: the client's address, for the log.
        """
        self._shared = shared
        self._write = write
        self._finish = finish
        self._on_room = on_room
        self._on_proof = on_proof
        self._client = client
        self._perform = shared.perform
        self._counters = shared.counters
        self._queue: deque[Request] = deque()
        self._batch: Sequence[Request] = ()
        self._busy = False
        self._advancing = False
        self._held = False
        self._was_crowded = False
        self._room = min(_FIRST_ROOM, shared.limits.batch)
        self.finished = False
        #: Who the client has proved to be.
        self.user: bytes | None = None

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is being performed."""
        return not self._busy and not self._queue

    @property
    def crowded(self) -> bool:
        """So much waits that the client should not be read from."""
        if len(self._queue) > self._shared.limits.backlog:
            self._was_crowded = True
            return True
        return False

    @property
    def last_command(self) -> Command | None:
        """
        What was asked for last; C{None} where nothing of the storage was, or a
        large value was stored, which is not kept.
        """
        return self._batch[-1].command if self._batch else None

    def speaks(self, dialect: str) -> None:
        """The client speaks a dialect of this name."""
        self._counters = self._shared.spoken.get(dialect, self._counters)

    def submit(self, requests: Sequence[Request]) -> bool:
        """
        Take requests, in order. They are performed as their turn comes. Whether
        the session is L{crowded} then.
        """
        if self.finished:
            return False
        if len(requests) == 1 and not (self._queue or self._busy or self._held):
            command = requests[0].command
            if not (command.local or command.alone):  # nearly always so: no need to queue
                self._busy = True
                self._batch = requests
                try:
                    self._perform((command,), self._on_answer)
                except Exception:
                    self._on_answer(Failure())
                return False
        self._queue.extend(requests)
        if not self._busy:
            self._advance()
        return self.crowded

    def end(self) -> None:
        """Finish, once everything submitted before is answered."""
        self.submit((Request(Quit(), _silence),))

    def hold(self) -> None:
        """Perform nothing more for now: the client does not take its replies."""
        self._held = True

    def release(self) -> None:
        """Go on after L{hold}."""
        self._held = False
        self._advance()

    def mute(self) -> None:
        """
        The client is gone. What it has asked for is still performed, unheard; but
        nothing is read any more that nobody will see.
        """
        self._write = self._finish = self._on_room = self._on_proof = _nothing
        self._queue = deque(one for one in self._queue if not one.command.reply_only)
        self.release()

    # -- performing --------------------------------------------------------------------------

    def _advance(self) -> None:
        if self._advancing:  # a batch was performed at once, inside the loop below
            return
        self._advancing = True
        try:
            while self._queue and not self._busy and not self._held:
                self._perform_next()
        except Exception:
            self._fault(Failure())
        self._advancing = False
        if self._was_crowded and not self.crowded:
            self._was_crowded = False
            self._on_room()

    def _perform_next(self) -> None:
        queue = self._queue
        if queue[0].command.alone:
            self._perform_alone(queue.popleft())
            return
        batch = self._batch = self._next_batch()
        commands = [request.command for request in batch if not request.command.local]
        if commands:
            self._busy = True
            try:
                self._perform(commands, self._on_answer)
            except Exception:
                self._on_answer(Failure())
        else:
            self._say(batch, iter(()))

    def _next_batch(self) -> list[Request]:
        """
        What can be performed together, up to so many keys: their values may be
        large, and are all held at once. How many depends on how large the
        replies to the last batch were.
        """
        queue = self._queue
        batch = [queue.popleft()]
        room = self._room - batch[0].command.weight
        while queue and not queue[0].command.alone:
            room -= queue[0].command.weight
            if room < 0:
                break
            batch.append(queue.popleft())
        return batch

    def _on_answer(self, results: list[Result] | Failure) -> None:
        batch = self._batch
        self._busy = False
        if batch[-1].command.__class__ is Store or len(batch) > 1:
            self._let_go(batch)
        try:
            if isinstance(results, Failure):
                results = [as_failed(results)] * sum(not one.command.local for one in batch)
                self._room = min(_FIRST_ROOM, self._room)  # too much may have been asked for
            if len(batch) == 1:
                request = batch[0]
                (result,) = results
                count(self._counters, request.command, result)
                reply = request.encode(result)
                if reply:
                    self._write(reply)
                if self._queue:
                    self._make_room(batch, len(reply))
            else:
                self._count(batch, results)
                self._say(batch, iter(results))
        except Exception:
            failure = Failure()
            with suppress(Exception):  # it may be the saying that failed
                self._say(batch, repeat(_INTERNAL))
            self._fault(failure)
        if self._queue or self._was_crowded:
            self._advance()

    def _count(self, batch: Sequence[Request], results: list[Result]) -> None:
        commands = [request.command for request in batch if not request.command.local]
        for command, result in zip(commands, results, strict=True):
            count(self._counters, command, result)

    def _say(self, batch: Sequence[Request], results: Iterator[Result]) -> None:
        """Say the replies of a whole batch in one write."""
        replies = [
            request.encode(self._known(request.command) if request.command.local else next(results))
            for request in batch
        ]
        reply = b"".join(replies)
        self._make_room(batch, len(reply))
        if reply:
            self._write(reply)

    def _let_go(self, batch: Sequence[Request]) -> None:
        """Of an answered batch, keep the last command for who looks, but no large value."""
        last = batch[-1].command
        large = isinstance(last, Store) and len(last.value) > _SMALL
        self._batch = () if large else batch[-1:]

    def _make_room(self, batch: Sequence[Request], size: int) -> None:
        """
        Choose how many keys the next batch may have, after replies of this size in
        bytes: at most twice as many, and not so many that they would be too large.
        """
        room = min(2 * self._room, self._shared.limits.batch)
        if size > _LARGE // 16:
            keys = sum(request.command.weight for request in batch)
            room = max(1, min(room, _LARGE * keys // size))
        self._room = room

    def _known(self, command: Command) -> Result:
        """The result of a command that nobody has to be asked about."""
        if command.__class__ is Noop:
            return None
        assert command.__class__ is Version
        return self._shared.version

    # -- requests that stand alone -----------------------------------------------------------

    def _perform_alone(self, request: Request) -> None:
        command = request.command
        if isinstance(command, Statistics):
            self._wait_for(self._shared.report(command.group), request)
        elif isinstance(command, Dump):
            page: Deferred[list[Result]] = Deferred()
            self._wait_for(page.addCallback(lambda results: results[0]), request)
            self._perform((command,), page.callback)
        elif isinstance(command, Authenticate):
            assert self._shared.authenticate is not None
            proof = self._shared.authenticate(command.user, command.password, self._client)
            self._wait_for(proof, request)
        elif isinstance(command, ResetStatistics):
            self._wait_for(self._shared.reset(), request)
        else:
            reply = request.encode(None)
            if reply:
                self._write(reply)
            self._stop()

    def _wait_for(self, result: Deferred[Any], request: Request) -> None:
        self._busy = True
        if request.command.__class__ is not Authenticate:  # where a failure lets nobody in
            result.addErrback(as_failed)
        result.addCallback(self._on_alone, request)
        result.addErrback(self._fault)

    def _on_alone(self, result: Result, request: Request) -> None:
        self._busy = False
        reply = request.encode(result)
        if reply:
            self._write(reply)
        if request.follow is not None and self._write is not _nothing:
            following = request.follow(result)
            if following is not None:
                self._queue.appendleft(following)
        elif isinstance(request.command, Authenticate):
            if result is True:
                self.user = request.command.user
            self._on_proof(result is True)
        self._advance()

    def _fault(self, failure: Failure) -> None:
        """A fault of ours: say so in the log once, and end this conversation."""
        self._log.failure("Could not answer a client", failure)
        self._busy = False
        self._stop()

    def _stop(self) -> None:
        self.finished = True
        self._was_crowded = False
        self._queue.clear()
        self._finish()


def _silence(_: Result) -> bytes:
    return b""


def _nothing(*_: object) -> None:
    pass
