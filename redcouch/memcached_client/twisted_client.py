"""
One old memcached: its connection, kept up where it can be, and given up where
it is slow.

A memcached that is asked and says nothing for as long as the timeout, or answers
garbage, is away: its connection is dropped, everything asked of it fails at once,
and it is tried again after a pause that grows. While it is away, it costs nothing.
A connection that it closes while nobody waits (its C{idle_timeout}) is made again
at once, and who asks meanwhile waits for that: it is away only if that fails.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from redcouch.memcached_client.address import Address
from redcouch.memcached_client.protocol import (
    PROBE,
    STATS,
    WHO,
    GarbageError,
    PendingRequest,
    Reply,
    RequestQueue,
    authenticate,
    process_of,
    read_any,
    read_line,
)
from redcouch.process.clock import cancel
from redcouch.process.quiet_factory import QuietFactory

_CONNECT_SECONDS = 1.0

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

_GOOD = 10.0
"""Seconds after which a connection has been a good one, and pauses begin small again."""

_SETTLED = 0.5
"""Seconds after which a connection that is closed while nobody waits is made again at once."""

PORTION = 256 * 1024
"""Bytes of values that are asked for, or sent, together: what one timeout is meant for."""

_MOST_TIMEOUTS = 10
"""However steadily it sends: an answer takes no more than so many timeouts."""


GRACE = 1.0
"""
Seconds for which a memcached has answered again until what was on its way to it over a connection
that was given up has been done: as long as it stands still, that is not.
"""

_MOST_PENDING = 64 * 1024 * 1024
"""Bytes of questions without an answer: one that is so far behind is away."""


_IN_WORDS = {
    b"ERROR": "it does not speak the meta commands of memcached 1.6",
    b"CLIENT_ERROR authentication failure": "it refuses the password",
}
"""What it means that it answers a greeting like that."""


class AwayError(Exception):
    """The memcached is away. The text says why, in a few words."""


class _TimedRequest(PendingRequest):
    """A request, when it was sent, and the Deferred of its answer."""

    __slots__ = ("answer", "asked")

    def __init__(self, data: bytes, expected: int | None, asked: float) -> None:
        super().__init__(data, expected, read_line if expected is None else read_any)
        self.asked = asked
        self.answer: Deferred[list[Reply]] = Deferred()


class MemcachedClientProtocol(Protocol):
    """Questions and answers, in order, on one connection."""

    transport: Any

    def __init__(self, timeout: float, largest: int, clock: Any) -> None:
        self._timeout = timeout
        self._clock = clock
        self._queue: RequestQueue[_TimedRequest] = RequestQueue(largest)
        self._pending = 0
        self._timer: Any = None
        self._due = 0.0
        self._heard = 0.0
        self._why: str | None = None
        #: It was closed by the other side, and nobody waited.
        self.closed_idle = False
        #: Called once, with why it is over.
        self.on_end: Callable[[str], None] = lambda why: None

    def connectionMade(self) -> None:
        with suppress(OSError):  # a unix socket knows no such thing
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)

    def ask(self, request: bytes, expected: int | None) -> Deferred[list[Reply]]:
        """
        So many replies to a request; C{None} for lines up to one that says that it is the last.
        Fails with L{AwayError}.
        """
        if self._why is not None:
            return fail(AwayError(self._why))
        if self._queue.pending and self._pending + len(request) > _MOST_PENDING:
            self.end("it is too far behind")
            return fail(AwayError("it is too far behind"))
        timed = _TimedRequest(request, expected, self._clock.seconds())
        self._pending += len(request)
        self._queue.add(timed)
        self.transport.write(request)
        if self._timer is None:
            self._wait(self._timeout)
        return timed.answer

    def owes(self, asked: float) -> bool:
        """Whether the answer to a question from then, or from before, has not come yet."""
        pending = self._queue.pending
        return bool(pending) and pending[0].asked <= asked

    def dataReceived(self, data: bytes) -> None:
        self._heard = self._clock.seconds()
        try:
            for request in self._queue.receive(data):
                self._pending -= len(request.data)
                request.answer.callback([*request.replies])
        except GarbageError as error:
            self.end(str(error))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed_idle = not self._queue.pending
        self.end("it has closed the connection")

    def end(self, why: str) -> None:
        """Give up: whatever is unanswered fails."""
        if self._why is not None:
            return
        self._why = why
        cancel(self._timer)
        self.transport.abortConnection()
        self.on_end(why)
        while self._queue.pending:
            self._queue.pending.popleft().answer.errback(AwayError(why))

    # -- time --------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        self._due = self._clock.seconds() + seconds
        self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        """It may be time to give up, unless it was this process that was busy meanwhile."""
        self._timer = None
        if not self._queue.pending:
            return
        now = self._clock.seconds()
        asked = self._queue.pending[0].asked
        quiet = now - max(asked, self._heard)
        timeout = self._timeout * (1 + self._pending // PORTION)
        if now - asked >= timeout * _MOST_TIMEOUTS:
            self.end("it takes too long to answer")
        elif now - self._due > self._timeout / 4:
            self._wait(self._timeout)
        elif quiet >= timeout:
            self.end("it does not answer in time")
        else:
            self._wait(timeout - quiet)


class OriginNode:
    """
    An old memcached.

    @ivar up: it has answered, and can be asked; perhaps over a connection that is being made.
    """

    _log = Logger()

    def __init__(self, address: Address, timeout: float, largest: int, reactor: Any) -> None:
        """
        @param timeout: seconds in which it has to answer.
        @param largest: bytes of the largest value that it may have.
        """
        self.address = address
        self.up = False
        #: Called when it answers: at first, and whenever it has been away.
        self.on_up: Callable[[], None] = lambda: None
        self._timeout = timeout
        self._largest = largest
        self._reactor = reactor
        self._client: MemcachedClientProtocol | None = None
        self._trying: Deferred[None] | None = None
        self._next: Any = None
        self._pause = _FIRST_PAUSE
        self._since = 0.0
        self._process: str | None = None
        self._running = False
        #: When a connection was given up that owed an answer; C{None} once that is settled.
        self._given_up: float | None = None
        self._said_away = False
        self._early: list[tuple[bytes, int, Deferred[list[Reply]]]] = []

    @property
    def process(self) -> str | None:
        """By L{process_of}, which of its processes is asked; C{None} where that is not known."""
        return None if self._client is None else self._process

    @property
    def local_port(self) -> int | None:
        """From where it is asked; C{None} while it is not, or over a unix socket."""
        transport = None if self._client is None else self._client.transport
        return getattr(transport.getHost(), "port", None) if transport is not None else None

    def is_through(self, begin: float, end: float) -> bool:
        """Whether it has done, or never will do, what it was asked between these times."""
        if self._client is not None:
            if self._client.owes(end):
                return False
            if self._reactor.seconds() - self._since >= GRACE:
                self._given_up = None
        return self._given_up is None or self._given_up < begin

    async def start(self) -> None:
        """Begin to connect. Returns when the first attempt has come to an end, whichever."""
        self._running = True
        await self._connect()

    def stop(self) -> None:
        """Let go."""
        self._running = False
        cancel(self._next)
        if self._trying is not None:
            self._trying.cancel()
        if self._client is not None:
            self._client.end("the service ends")
        self._fail_early("the service ends")

    def ask(self, request: bytes, expected: int) -> Deferred[list[Reply]]:
        """So many replies to a request. Fails with L{AwayError}, at once while it is away."""
        if self._client is not None:
            return self._client.ask(request, expected)
        if not self.up:
            return fail(AwayError("it is away"))
        answer: Deferred[list[Reply]] = Deferred()
        self._early.append((request, expected, answer))
        return answer

    # -- connecting --------------------------------------------------------------------------

    def _connect(self) -> Deferred[None]:
        self._next = None
        trying = self._trying = Deferred.fromCoroutine(self._try())
        trying.addErrback(self._failed)
        return trying

    async def _try(self) -> None:
        client = MemcachedClientProtocol(self._timeout, self._largest, self._reactor)
        try:
            await self._endpoint().connect(QuietFactory(lambda: client))
        except CancelledError:
            raise
        except Exception as error:
            raise AwayError(f"it cannot be reached: {_in_short(error)}") from None
        try:
            await self._greet(client)
        except BaseException:
            client.end("it is not used")
            raise
        self._is_up(client)

    def _endpoint(self) -> Any:
        address = self.address
        timeout = max(_CONNECT_SECONDS, self._timeout)
        if address.socket is not None:
            return UNIXClientEndpoint(self._reactor, address.socket, timeout)
        return HostnameEndpoint(self._reactor, address.host, address.port, timeout)

    async def _greet(self, client: MemcachedClientProtocol) -> None:
        greetings = [(PROBE, b"MN")]
        if self.address.password is not None:
            secret = authenticate(self.address.username or "", self.address.password)
            (reply,) = await client.ask(WHO, 1)
            if reply.code == b"CLIENT_ERROR":
                greetings.insert(0, (secret, b"STORED"))
            elif reply.code != b"EN":
                raise AwayError(_in_words(reply))
        for request, expected in greetings:
            (reply,) = await client.ask(request, 1)
            if reply.code != expected:
                raise AwayError(_in_words(reply))
        told = [line.words for line in await client.ask(STATS, None) if len(line.words) == 2]
        stats = {
            name.decode(errors="replace"): value.decode(errors="replace") for name, value in told
        }
        if any(name.startswith("warm_") for name in stats):  # each would ask the other, for ever
            raise AwayError("it is a RedCouch whose storage is a warm: one, perhaps this itself")
        self._process = process_of(stats)

    def _is_up(self, client: MemcachedClientProtocol) -> None:
        self._trying = None
        self._client = client
        self._since = self._reactor.seconds()
        client.on_end = self._lost
        if not self.up:
            self.up = True
            self._log.info(
                "The old memcached {address} answers{again}",
                address=self.address.shown,
                again=" again" if self._said_away else "",
            )
            self._said_away = False
            self.on_up()
        early, self._early = self._early, []
        for request, expected, answer in early:
            if not answer.called:  # else nobody waits for it any more
                self.ask(request, expected).chainDeferred(answer)

    def _lost(self, why: str) -> None:
        client, self._client = self._client, None
        assert client is not None
        if not client.closed_idle:
            self._given_up = self._reactor.seconds()
        lasted = self._reactor.seconds() - self._since
        if lasted >= _GOOD:
            self._pause = _FIRST_PAUSE
        if client.closed_idle and lasted >= _SETTLED and self._running:
            self._connect()
        else:
            self._away(why)

    def _failed(self, failure: Failure) -> None:
        self._trying = None
        if failure.check(AwayError):
            self._away(failure.getErrorMessage())
        elif not failure.check(CancelledError):
            self._log.failure("Could not connect to an old memcached", failure)
            self._away("of a fault")

    def _fail_early(self, why: str) -> None:
        early, self._early = self._early, []
        for _, _, answer in early:
            answer.errback(AwayError(why))

    def _away(self, why: str) -> None:
        self.up = False
        if self._running:
            self._try_later(why)
        self._fail_early(why)

    def _try_later(self, why: str) -> None:
        if not self._said_away:
            self._said_away = True
            self._log.warn(
                "The old memcached {address} is away ({reason}): nothing is fetched from it",
                address=self.address.shown,
                reason=why,
            )
        self._next = self._reactor.callLater(self._pause, self._connect)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def _in_words(reply: Reply) -> str:
    said = "".join(filter(str.isprintable, reply.line.decode("ascii", "replace")))[:100]
    return _IN_WORDS.get(reply.line) or f"it says {said}"


def _in_short(error: Exception) -> str:
    """The last line of what went wrong, which with Twisted's errors is the whole of it."""
    lines = str(error).strip().rstrip(".").splitlines()
    return lines[-1] if lines else type(error).__name__
