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
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from redcouch.commands import (
    Authenticate,
    Command,
    Discover,
    Dump,
    Get,
    LimitMemory,
    Noop,
    Quit,
    ResetStatistics,
    Statistics,
    Store,
    Version,
)
from redcouch.dialects.request import Request, silent
from redcouch.errors import as_failed
from redcouch.interfaces import IStorageBackend, performer
from redcouch.limits import Limits
from redcouch.results import ErrorKind, Failed, Result
from redcouch.server.admission import Admission, Charge
from redcouch.telemetry.counters import Counters, count
from redcouch.telemetry.latency import Perform

_INTERNAL = Failed(ErrorKind.INTERNAL, "internal error")

_FIRST_ROOM = 8
"""Keys in a client's first batch, while nobody knows how large its values are."""

_SMALL = 1024
"""Bytes of a value that may stay in memory after it has been stored."""

_LARGE = 2 * 1024 * 1024
"""Bytes that the replies to a batch, or its values, should not exceed by much."""

_UNKNOWN = 64 * 1024
"""Bytes that a value is taken to have while the client has seen none."""

_AS_READS = 4
"""Keys that could be read in the time that any command takes that is no plain read."""

_LIGHT = 64 * 1024
_LIGHT_KEYS = 32
"""Bytes and keys with which a batch goes to the storage uncounted (L{Admission})."""


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
    @ivar admission: how much may be under way to the storage.
    @ivar limit_memory: gives the storage so many bytes of memory; tells whether it could.
        C{None} where nobody can.
    @ivar discover: gives the list of nodes that clients are told, as
        L{Discover<redcouch.commands.Discover>} says; C{None} where none is advertised.
    @ivar typed_version: what people are told in place of C{version}; C{None}
        for the same.
    """

    backend: IStorageBackend
    counters: Counters
    limits: Limits
    version: bytes
    report: Callable[[bytes], Deferred[list[tuple[bytes, bytes]] | None]]
    reset: Callable[[], Deferred[None]]
    authenticate: Callable[[bytes, bytes, str], Deferred[bool]] | None = None
    spoken: Mapping[str, Counters] = field(default_factory=dict)
    admission: Admission = field(default_factory=Admission)
    limit_memory: Callable[[int], Deferred[bool]] | None = None
    typed_version: bytes | None = None
    discover: Callable[[], Deferred[bytes]] | None = None
    perform: Perform = field(init=False)

    def __post_init__(self) -> None:
        self.perform = performer(self.backend)

    def switch(self, other: Perform) -> Callable[[bool], None]:
        """A function that lets all requests take another way than now, or this one again."""
        ways = {False: self.perform, True: other}

        def switch(on: bool) -> None:
            self.perform = ways[on]

        return switch


class Session:
    """
    @ivar finished: the conversation is over: nothing more is performed or said.
    """

    __slots__ = (
        "_admission",
        "_advancing",
        "_batch",
        "_busy",
        "_charge",
        "_client",
        "_counters",
        "_finish",
        "_light_keys",
        "_on_authenticated",
        "_on_room",
        "_paused",
        "_per_key",
        "_queue",
        "_queued_bytes",
        "_reads",
        "_room",
        "_shared",
        "_unsent",
        "_wanted",
        "_was_backlog_full",
        "_write",
        "finished",
        "left",
        "user",
    )

    _log = Logger()

    def __init__(
        self,
        shared: Shared,
        write: Callable[[bytes], None],
        finish: Callable[[], None],
        on_room: Callable[[], None],
        on_authenticated: Callable[[bool], None],
        client: str,
    ) -> None:
        """
        @param write: says bytes to the client.
        @param finish: ends the connection, after what has been said.
        @param on_room: called when a crowded session has room again, or one of
            whom more was L{wanted<wants_more>} has nothing waiting.
        @param on_authenticated: called after the client has been told whether it has
            proved who it is.
        @param client: the client's address, for the log.
        """
        self._shared = shared
        self._write = write
        self._finish = finish
        self._on_room = on_room
        self._on_authenticated = on_authenticated
        self._client = client
        self._counters = shared.counters
        self._queue: deque[Request] = deque()
        self._batch: Sequence[Request] = ()
        self._busy = False
        self._advancing = False
        self._paused = False
        self._was_backlog_full = False
        self._wanted = False
        self._admission = shared.admission
        self._charge: Charge | None = None
        self._unsent = 0
        self._queued_bytes = 0
        self._reads = 0
        #: Bytes that a key has brought, as far as anything has.
        self._per_key: int | None = None
        #: How many keys the client may ask for without being counted.
        self._light_keys = 0
        self._room = min(_FIRST_ROOM, shared.limits.batch)
        self.finished = False
        #: It has ended by L{leave}.
        self.left = False
        #: Who the client has proved to be.
        self.user: bytes | None = None

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is being performed."""
        return not self._busy and not self._queue

    @property
    def backlog_full(self) -> bool:
        """So much waits that the client should not be read from."""
        limits = self._shared.limits
        if len(self._queue) > limits.backlog or self._queued_bytes > limits.backlog_bytes:
            self._was_backlog_full = True
            return True
        return False

    def wants_more(self) -> bool:
        """
        Whether nothing waits, so that more requests should be understood if
        there are any. Where something does, C{on_room} is called when it is gone.
        """
        self._wanted = bool(self._queue)
        return not self._wanted

    def take_command(self) -> Command | None:
        """
        What was asked for last since this was called, of what has keys if any had; C{None} where
        nothing was.
        """
        last = _last_with_keys(self._batch).command if self._batch else None
        if not self._busy:
            self._batch = ()
        return last

    def set_dialect(self, dialect: str) -> None:
        """The client speaks a dialect of this name."""
        self._counters = self._shared.spoken.get(dialect, self._counters)

    def submit(self, requests: Sequence[Request]) -> bool:
        """
        Take requests, in order. They are performed as their turn comes. Whether
        the session is L{backlog_full} then.
        """
        if self.finished or not requests:
            return False
        if len(requests) == 1 and not (self._queue or self._busy or self._paused):
            command = requests[0].command
            # Nearly always so: no need to queue, and too little to count.
            if command.tells_values:
                light = len(command.keys) <= self._light_keys
            else:
                light = not (command.local or command.exclusive) and command.size <= _LIGHT
            if light:
                self._busy = True
                self._batch = requests
                try:
                    self._shared.perform((command,), self._on_answer)
                except Exception:
                    self._on_answer(Failure())
                return False
        if self._write is _nothing:
            requests = [one for one in requests if not one.command.reply_only]
        self._queue.extend(requests)
        for request in requests:
            command = request.command
            if command.__class__ is Store:  # of which alone a size is to be expected
                self._queued_bytes += command.size
        if not self._busy:
            self._advance()
        return self.backlog_full

    def end(self) -> None:
        """Finish, once everything submitted before is answered."""
        self.submit((Request(Quit(), silent),))

    def leave(self) -> None:
        """The same, of a client that goes on in another process."""
        self.submit((_LEAVE,))

    def pause(self, unsent: int = 0) -> None:
        """Perform nothing more for now: the client does not take its replies, so many bytes."""
        self._paused = True
        self._admission.pause(unsent - self._unsent)
        self._unsent = unsent

    def release(self) -> None:
        """Go on after L{pause}."""
        self._paused = False
        if self._unsent:
            self._admission.free(0, self._unsent)
            self._unsent = 0
        self._advance()

    def detach_client(self) -> None:
        """
        The client is gone. What it has asked for is still performed, unheard; but
        nothing is read any more that nobody will see.
        """
        self._write = self._finish = self._on_room = self._on_authenticated = _nothing
        self._queue = deque(one for one in self._queue if not one.command.reply_only)
        self._queued_bytes = sum(request.command.size for request in self._queue)
        self.release()

    # -- performing --------------------------------------------------------------------------

    def _advance(self) -> None:
        if self._advancing:  # a batch was performed at once, inside the loop below
            return
        self._advancing = True
        try:
            while self._queue and not self._busy and not self._paused:
                self._perform_next()
        except Exception:
            self._fault(Failure())
        self._advancing = False
        if (self._was_backlog_full and not self.backlog_full) or (self._wanted and not self._queue):
            self._was_backlog_full = self._wanted = False
            self._on_room()

    def _perform_next(self) -> None:
        queue = self._queue
        if queue[0].command.exclusive:
            self._perform_exclusive(queue.popleft())
            return
        batch, work, reads, size = self._next_batch()
        if not work:
            self._batch = self._batch or batch
            self._say(batch, iter(()))
            return
        self._batch = batch
        self._busy = True
        self._reads = reads
        size += reads * (_UNKNOWN if self._per_key is None else self._per_key)
        if work > _LIGHT_KEYS or size > _LIGHT or reads > self._light_keys:
            new = reads == 1 and len(batch) == 1 and self._per_key is None
            self._charge = Charge(self, work, size, new)
            if not self._admission.admits(self._charge):
                return
        self.go()

    def go(self) -> None:
        """Perform the batch that was made last."""
        commands = [one.command for one in self._batch if not one.command.local]
        try:
            self._shared.perform(commands, self._on_answer)
        except Exception:
            self._on_answer(Failure())

    def _next_batch(self) -> tuple[list[Request], int, int, int]:
        """
        What can be performed together, up to so many keys: their values may be
        large, and are all held at once. How many depends on how large the
        replies to the last batch were.

        Gives as well how long that takes, in keys that could be read meanwhile;
        how many are read; and how many bytes of values it carries.
        """
        queue = self._queue
        batch: list[Request] = []
        room = self._room
        if self._admission.full and self._per_key is None:
            room = 1  # of which it may go at once
        work = reads = size = 0
        while queue:
            command = queue[0].command
            keys = cost = carried = 0
            if command.tells_values:
                keys = len(command.keys)
                cost = keys if command.__class__ is Get else max(keys, _AS_READS)
            elif not command.local:
                cost, carried = _AS_READS, command.size
            room -= keys or 1
            if batch and (room < 0 or size + carried > _LARGE or command.exclusive):
                break
            work += cost
            reads += keys
            size += carried
            batch.append(queue.popleft())
        self._queued_bytes -= size
        return batch, work, reads, size

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
                if self._queue or self._charge is not None or len(reply) > _LIGHT:
                    self._learn(batch, len(reply))
            else:
                self._count(batch, results)
                self._say(batch, iter(results))
        except BaseException:  # asyncio's CancelledError is no Exception
            failure = Failure()
            with suppress(Exception):  # it may be the saying that failed
                self._say(batch, repeat(_INTERNAL))
            self._fault(failure)
        charge = self._charge
        if charge is not None:
            self._charge = None
            self._admission.free(charge.work, charge.size)
        if self._queue or self._was_backlog_full or self._wanted:
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
        self._learn(batch, len(reply))
        if reply:
            self._write(reply)

    def _let_go(self, batch: Sequence[Request]) -> None:
        """Of an answered batch, keep the last command for who looks, but no large value."""
        last = batch[-1]
        if last.command.__class__ is not Store:
            last = _last_with_keys(batch)
        command = last.command
        if command.__class__ is Store and len(command.value) > _SMALL:
            last = Request(replace(command, value=b""), last.encode)
        self._batch = (last,)

    def _learn(self, batch: Sequence[Request], size: int) -> None:
        """
        Choose how many keys the next batch may have, after replies of this size in
        bytes: at most twice as many, and not so many that they would be too large.
        """
        room = min(2 * self._room, self._shared.limits.batch)
        if size > _LARGE // 16:
            keys = sum(len(request.command.keys) or 1 for request in batch)
            room = max(1, min(room, _LARGE * keys // size))
        self._room = room
        reads = len(batch[0].command.keys) if len(batch) == 1 else self._reads
        if reads and (len(batch) > 1 or batch[0].command.tells_values):
            self._per_key = max(size // reads, (self._per_key or 0) // 2)
            self._light_keys = min(_LIGHT_KEYS, _LIGHT // max(1, self._per_key))

    def _known(self, command: Command) -> Result:
        """The result of a command that nobody has to be asked about."""
        if isinstance(command, Noop):
            self._counters.store_too_large += command.too_large
            return None
        assert isinstance(command, Version)
        if command.typed and self._shared.typed_version is not None:
            return self._shared.typed_version
        return self._shared.version

    # -- requests that stand alone -----------------------------------------------------------

    def _perform_exclusive(self, request: Request) -> None:
        command = request.command
        if isinstance(command, Statistics):
            self._wait_for(self._shared.report(command.group), request)
        elif isinstance(command, Dump):
            page: Deferred[list[Result]] = Deferred()
            self._wait_for(page.addCallback(lambda results: results[0]), request)
            self._shared.perform((command,), page.callback)
        elif isinstance(command, Authenticate):
            authenticate, user = self._shared.authenticate, command.user
            assert authenticate is not None
            if user is None:
                self._wait_for(succeed(False), request)
            else:
                self._wait_for(authenticate(user, command.password, self._client), request)
        elif isinstance(command, LimitMemory):
            limit = self._shared.limit_memory
            size = command.megabytes * 1024 * 1024
            self._wait_for(succeed(False) if limit is None else limit(size), request)
        elif isinstance(command, Discover):
            assert self._shared.discover is not None
            self._wait_for(self._shared.discover(), request)
        elif isinstance(command, ResetStatistics):
            self._wait_for(self._shared.reset(), request)
        else:
            reply = request.encode(None)
            if reply:
                self._write(reply)
            self.left = request is _LEAVE
            self._stop()

    def _wait_for(self, result: Deferred[Any], request: Request) -> None:
        self._busy = True
        if request.command.__class__ is not Authenticate:  # where a failure lets nobody in
            result.addErrback(as_failed)
        result.addCallback(self._on_exclusive, request)
        result.addErrback(self._fault)

    def _on_exclusive(self, result: Result, request: Request) -> None:
        self._busy = False
        reply = request.encode(result)
        if reply:
            self._write(reply)
        if request.next_page is not None and self._write is not _nothing:
            following = request.next_page(result)
            if following is not None:
                self._queue.appendleft(following)
        elif isinstance(request.command, Authenticate):
            self.user = request.command.user if result is True else None
            self._on_authenticated(result is True)
        self._advance()

    def _fault(self, failure: Failure) -> None:
        """A fault of ours: say so in the log once, and end this conversation."""
        self._log.failure("Could not answer a client", failure)
        self._busy = False
        self._stop()

    def _stop(self) -> None:
        self.finished = True
        self._was_backlog_full = self._wanted = False
        self._queue.clear()
        self._queued_bytes = 0
        self._finish()


def _last_with_keys(batch: Sequence[Request]) -> Request:
    """The last request that has keys; the last one where none has."""
    last = batch[-1]
    if last.command.keys:
        return last
    return next((one for one in reversed(batch) if one.command.keys), last)


_LEAVE = Request(Quit(), silent)


def _nothing(*_: object) -> None:
    pass
