"""
The connection to Redis: made, prepared, kept, and shared by all clients.

The only file that imports txredisapi. From there come the connection factory
with its reconnecting, authentication, database selection and Sentinel. Added
here is the path that requests take: bytes packed by the caller, all that one
reactor turn brings joined into one write, replies read by hiredis and counted
off to the callers in order. No Deferred and no timer belongs to a single
request.

Not every command needs a Redis that answers: while there is none, callers are
told so at once. Only the very first attempt is waited for, so that a client
that connects in the first moments of a service finds it working.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import islice
from typing import Any, ClassVar

import hiredis
import txredisapi
from OpenSSL.SSL import Error as TLSError
from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure

from redcouch.backends.redis.endpoints import endpoint, explain, why_unreadable
from redcouch.backends.redis.layout import CAS_COUNTER
from redcouch.backends.redis.master_search import MasterSearch
from redcouch.backends.redis.opinion import Opinion
from redcouch.backends.redis.replies import UNFIT, error_code
from redcouch.backends.redis.scripts import FRESH, Script
from redcouch.backends.redis.sentinel import NoMasterError, Sentinels
from redcouch.backends.redis.server_info import CLIENT_NAME, read_greeting, read_info, why_unfit
from redcouch.backends.redis.url import MAYBE_TLS, NO_TLS, RedisLocation, show
from redcouch.errors import BackendError
from redcouch.interfaces import Health
from redcouch.results import ErrorKind
from redcouch.server.direct_writer import direct_writer, untaken
from redcouch.telemetry.latency import Meter

RedisError = txredisapi.ResponseError
"""What stands in the place of a reply where Redis answered with an error."""

Replies = Sequence[Any] | BackendError
"""What a caller is given: its replies in order, or why there are none."""


class _QuietClientService(ClientService):
    """Keeps to itself that it tries again: the operator is told once, by L{RedisConnection}."""

    _log = Logger(observer=LogPublisher())


txredisapi.ClientService = _QuietClientService


_NOT_YET = object()
"""What the reader gives while a reply is not complete. No reply is equal to it."""

_SMALL = 64 * 1024
_LARGE = 1024 * 1024
"""Bytes received at a time, and kept room for: small replies, and large values."""


_ADVICE = {
    "NOAUTH": "--storage has its password, as in redis://:password@host",
    "WRONGPASS": "--storage has the right user and password",
    "DB index is out of range": "--storage names a database that it has",
    "NOPERM": "its user may do what docs/storage.md lists",
    "RedCouch needs": "it is upgraded, or --storage names another",
    "node of a cluster": "--storage names the cluster",
    "EVALSHA": "it allows that, or --storage names another",
}
"""Until when Redis refuses, by a word of its reason."""

_TRIALS = (("EVALSHA", "0" * 40, 0), ("MULTI",), ("EXEC",))
"""Commands that change nothing, with which it is tried whether they are there."""

_NO_MASTER = frozenset({"READONLY", "MASTERDOWN"})
"""Error codes of a replica; reads may go on."""

_GOOD = 1.0
"""Seconds after which a connection has been a good one."""

_REASONS = 8
"""Different reasons of one outage that are told: in turn, they may go on without an end."""

_CALM = 60.0
"""Seconds after which the loss of a connection is news, though the last one was lost so, too."""

_BEAT = 0.1
"""
Seconds between two looks behind Sentinel whether this process has stood still: twice that is
less than passes from the first word of a failover until the replica is promoted.
"""

_TOGETHER = 16
"""
Payloads that go to Redis in one write, even if the turn of the reactor brings
more: so Redis begins on the first while the others are still being read.
"""


class State(Enum):
    """Where a link is in its life. In the first two, callers wait for the attempt that is made."""

    FIRST_ATTEMPT = "connecting"
    RECONNECTING = "connecting again"
    UP = "connected"
    DOWN = "not reachable"
    STOPPED = "stopped"


_AWAITING = (State.FIRST_ATTEMPT, State.RECONNECTING)
"""States in which callers wait for the attempt that is made."""


class Waiting:
    """
    Somebody whose replies are on their way: C{expected} in all, C{replies} so
    far.
    """

    __slots__ = ("expected", "replies", "sent_at")

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.replies: list[Any] = []
        self.sent_at = 0.0

    def done(self, replies: Replies) -> None:
        """Be given the replies, or the reason why there are none."""
        raise NotImplementedError


class _Caller(Waiting):
    """Somebody who left a function to call."""

    __slots__ = ("_call",)

    def __init__(self, expected: int, call: Callable[[Replies], None]) -> None:
        super().__init__(expected)
        self._call = call

    def done(self, replies: Replies) -> None:
        self._call(replies)


class RedisConnectionProtocol(txredisapi.RedisProtocol):  # type: ignore[misc]
    """
    One connection. While it is prepared, replies go txredisapi's way; after
    that, they go to those who wait in C{waiting}.

    @ivar role: C{master} or C{replica}; empty where it does not say.
    @ivar made_at: when the connection was ready.
    """

    _log = Logger()

    link: RedisConnection
    waiting: deque[Waiting]
    heard_at: float
    role = ""
    made_at = 0.0
    #: Why this connection is of no use, once that is known.
    fault: Failure | None = None
    #: With what error Redis has begun, as it does to one client too many before it closes.
    _refusal: Failure | None = None
    #: Who was first to be answered when last looked, and how much Redis had yet to take.
    _first: Waiting | None = None
    _untaken = 0

    def connectionMade(self) -> None:
        self.waiting = deque()
        self.heard_at = 0.0
        self.write = direct_writer(self.transport)
        self._reader = hiredis.Reader(
            protocolError=txredisapi.InvalidData, replyError=self._error, notEnoughData=_NOT_YET
        )
        self._reader.setmaxbuf(_LARGE)
        #: Gives the next reply.
        self._gets: Callable[[], Any] = self._reader.gets
        if self.link.location.socket is None:
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)  # a Redis that vanished is noticed without traffic
        prepared = Deferred.fromCoroutine(self._prepare())
        prepared.addTimeout(self.link.location.timeout, self.link.reactor, _say_that_it_is_late)
        prepared.addCallbacks(lambda _: self._hand_out(), self._not_prepared)

    async def _prepare(self) -> None:
        """In two round trips, where there are no pages of keys to look through."""
        location = self.link.location
        opening: list[tuple[Any, ...]] = []
        if location.password is not None:
            user = (location.username,) if location.username else ()
            opening.append(("AUTH", *user, location.password))
        if location.database:
            opening.append(("SELECT", location.database))
        if location.master is not None:
            opening.append(("ROLE",))
        *opened, greeting = await self._ask(*opening, ("HELLO", "2", "SETNAME", CLIENT_NAME))
        _refuse_errors(opened)
        if location.master is not None and opened[-1][0] != b"master":
            raise RedisError("this Redis is no master (any more)")
        await self._check_version(greeting)
        loads = [("SCRIPT", "LOAD", script.text) for script in self.link.scripts]
        looks = [_look(b"0")] if FRESH in self.link.scripts else []
        replies = await self._ask(*loads, *_TRIALS, *looks)
        _refuse_errors(replies[: len(loads)])
        _check_commands(replies[len(loads) :])
        if looks:
            await self._look_for_items(replies[-1])
        if self.link.check_cluster is not None:
            self.link.check_cluster(*await self._ask(("CLUSTER", "SLOTS")))

    async def _check_version(self, greeting: Any) -> None:
        """
        Learn the version and the role, and refuse what is unfit. A Redis
        that tells nobody its version is taken for recent.
        """
        if isinstance(greeting, RedisError) and str(greeting).startswith("NOAUTH"):
            raise greeting
        facts = read_greeting(greeting)
        if "version" not in facts:
            facts = read_info((await self._ask(("INFO", "server")))[0])
        self.role = facts.get("role", "")
        if why := why_unfit(facts, self.link.location.cluster):
            raise RedisError(why)

    async def _look_for_items(self, cursor: Any) -> None:
        """
        Let tokens count from 1 where there are no items among many other keys. With
        more keys than can be looked at in a moment, they count from the clock.
        """
        end = self.link.reactor.seconds() + self.link.location.timeout / 2
        while isinstance(cursor, bytes) and self.link.reactor.seconds() < end:
            (cursor,) = await self._ask(_look(cursor))

    async def _ask(self, *commands: Sequence[Any]) -> list[Any]:
        """The replies to commands that are sent in one go; an error of Redis is a reply too."""
        asked = [self.execute_command(*command) for command in commands]
        answers = await DeferredList(asked, consumeErrors=True)
        for succeeded, answer in answers:
            if not succeeded and not answer.check(RedisError):
                answer.raiseException()
        return [answer if succeeded else answer.value for succeeded, answer in answers]

    def _hand_out(self) -> None:
        super().connectionMade()  # without password and database: says that we are ready
        self.made_at = self.link.reactor.seconds()
        self.link.on_up(self)

    def _not_prepared(self, failure: Failure) -> None:
        location, fault = self.link.location, self.fault
        if self.heard_at or location.socket is not None:
            advice = ""
        elif location.tls:
            advice = "" if fault is not None else NO_TLS
        else:
            cut = fault is not None and fault.check(ConnectionLost, ConnectionDone)
            advice = MAYBE_TLS if cut and not self.link.times_connected else ""
        if advice:
            fault = Failure(RedisError(f"{explain(fault or failure)}. {advice}"))
        self.link.on_attempt_failed(fault or failure)
        self.transport.abortConnection()

    def silent_for(self, now: float) -> float:
        """
        Seconds for which somebody has waited and nothing was heard. A large value that is
        being sent is heard as long as Redis takes more of it.
        """
        first, left = self.waiting[0], untaken(self.transport)
        if first is not self._first or left < self._untaken:
            if first is self._first:
                self.heard_at = now
            self._first, self._untaken = first, left  # the least: what comes behind is not heard
        return now - max(first.sent_at, self.heard_at)

    def give_up(self, why: str) -> None:
        """Close the connection at once; whoever waits on it is told."""
        self.fault = self.fault or Failure(RedisError(why))
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        self.fault = self.fault or (not self.made_at and self._refusal) or reason
        self.link.on_lost(self, self.fault)
        super().connectionLost(reason)

    def _error(self, text: str) -> Exception:
        """
        An error of Redis, in the place of a reply. Where it says that this
        Redis is not the right one, the link is told.
        """
        error: Exception = RedisError(text)
        code = error_code(text)
        if code in UNFIT and self.fault is None and self.link.is_in_use(self):
            self.link.refused(code)
        return error

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        transport = self.transport
        if len(data) == transport.bufferSize:  # there is more: take more of it at a time
            transport.bufferSize = min(_LARGE, 2 * transport.bufferSize)
        elif transport.bufferSize > _SMALL and len(data) < _SMALL:
            transport.bufferSize = _SMALL
        reader = self._reader
        if not self.heard_at and data.startswith(b"-"):
            said = data[1:].partition(b"\r\n")[0].decode("utf-8", "replace")
            self._refusal = Failure(RedisError(said))
        self.heard_at = self.link.reactor.seconds()
        reader.feed(data)
        try:
            if self.waiting:
                meter = self.link.meter
                if meter is not None:  # one of those that this answers stands for all
                    meter.round_trips.observe(self.heard_at - self.waiting[0].sent_at)
                self._deliver(self._gets)
            else:
                while (reply := self._gets()) is not _NOT_YET:
                    self._take_alone(reply)
        except txredisapi.InvalidData:
            self.give_up(why_unreadable(data))

    def _deliver(self, gets: Callable[[], Any]) -> None:
        """Count replies off to those who wait, in order."""
        waiting = self.waiting
        while waiting:
            first = waiting[0]
            replies = first.replies
            expected = first.expected
            if expected == 1:
                reply = gets()
                if reply is _NOT_YET:
                    return
                replies.append(reply)
            else:
                replies.extend(islice(iter(gets, _NOT_YET), expected - len(replies)))
                if len(replies) < expected:
                    return
            waiting.popleft()
            try:
                first.done(replies)
            except Exception:  # which reply belongs to whom is certain no more
                self._log.failure("Could not understand a reply of Redis")
                self.transport.abortConnection()
                first.done(BackendError(ErrorKind.INTERNAL, "storage answered something unknown"))
                return
        if gets() is not _NOT_YET:
            raise txredisapi.InvalidData("a reply to nothing")

    def _take_alone(self, reply: Any) -> None:
        """A reply that no request waits for: a part of the preparation, or a fault."""
        if self.link.is_in_use(self):
            raise txredisapi.InvalidData("a reply to nothing")
        self.replyReceived(reply)


def _look(cursor: bytes) -> tuple[Any, ...]:
    """The command that looks through a page of keys for items, see L{FRESH}."""
    return ("EVALSHA", FRESH.sha, 2, CAS_COUNTER, CAS_COUNTER, cursor)


def _refuse_errors(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply


def _check_commands(replies: Sequence[Any]) -> None:
    """
    Refuse a Redis that does not run scripts: nothing could be stored. And one without transactions:
    a large set would be told as failed when it is not, or leave the connection in its middle.
    """
    for (name, *_), said in zip(_TRIALS, replies, strict=False):
        words = str(said).partition(", with args")[0] if isinstance(said, RedisError) else ""
        if "unknown command" in words or "NOPERM" in words:
            raise RedisError(f"it does not let RedCouch use {name} ({words})")


class RedisConnectionFactory(txredisapi.RedisFactory):  # type: ignore[misc]
    """
    Connects, and connects again within a second of Redis coming back; at once
    where a good connection was lost.
    """

    initialDelay = 0.05
    factor = 1.6
    maxDelay = 1.0

    def __init__(self, link: RedisConnection) -> None:
        super().__init__(
            uuid=None, dbid=None, poolsize=1, isLazy=True, charset=None, convertNumbers=False
        )
        self.link = link
        self.protocol = link.protocol

    def buildProtocol(self, addr: Any) -> RedisConnectionProtocol:
        protocol: RedisConnectionProtocol = super().buildProtocol(addr)
        protocol.link = self.link
        self.link.newest = protocol
        return protocol

    def retryDelay(self, attempt: int) -> float:
        """Seconds to wait before an attempt."""
        if attempt <= 1 and self.link.was_good:
            return 0.0
        delay: float = super().retryDelay(attempt)
        return delay

    def addConnection(self, connection: RedisConnectionProtocol) -> None:
        super().addConnection(connection)
        # Nobody takes connections from the queue: left there, each would be kept for ever.
        self.connectionQueue.pending.clear()


class RedisConnection:
    """
    A connection to one Redis that is made again whenever it is lost.

    @cvar protocol: what its connections are.
    @ivar state: see L{State}.
    @ivar times_connected: how many connections there were by now.
    """

    protocol: ClassVar[type[RedisConnectionProtocol]] = RedisConnectionProtocol

    _log = Logger()

    def __init__(self, location: RedisLocation, reactor: Any, scripts: Sequence[Script]) -> None:
        """
        @param scripts: what Redis has to know before the connection is used.
        @raise ConfigurationError: the location's certificates cannot be used.
        """
        self.location = location
        self.reactor = reactor
        self.scripts = scripts
        self.state = State.FIRST_ATTEMPT
        self.times_connected = 0
        self._endpoint = _endpoint(location, reactor)
        self._factory = RedisConnectionFactory(self)
        self._sentinels: Sentinels | None = None
        #: What the sentinels said when the connection was made, or tried.
        self._chosen: Opinion | None = None
        self._protocol: RedisConnectionProtocol | None = None
        #: The connection that was made last, which may not be prepared yet.
        self.newest: RedisConnectionProtocol | None = None
        #: The connection lost last was in use for a while: the next is tried at once.
        self.was_good = False
        self._reason = "not tried yet"
        #: What the log has as reasons, and whether it has that this happens again and again.
        self._told: set[str] = set()
        self._is_news = True
        self._again_told = False
        self._connected_told = False
        self._was_up = False
        self._search: MasterSearch | None = None
        self._early: list[tuple[bytes, Waiting]] = []
        self._outgoing: list[bytes] = []
        self._turn = 0.0
        #: Whether nothing is sent until the sentinels have named the master again.
        self._unsure = False
        self._pause = min(1.0, location.timeout / 4)
        #: Since when the first attempt is under way, and this process runs.
        self._began_at = 0.0
        self._looked_at = 0.0
        self._watch = LoopingCall(self._check_time)
        self._beat_at = 0.0
        self._beat = LoopingCall(self._on_beat)
        self._watch.clock = self._beat.clock = reactor
        #: Called each time a connection is ready.
        self.when_up: Callable[[], None] = lambda: None
        #: In a cluster, is given what a node says to CLUSTER SLOTS before its connection is ready;
        #: raises L{RedisError} where that is not to be used.
        self.check_cluster: Callable[[Any], None] | None = None
        #: Is told how long Redis takes, and of connections.
        self.meter: Meter | None = None

    # -- life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, and go on connecting."""
        self._began_at = self.reactor.seconds()
        if self._endpoint is None:
            self._sentinels = Sentinels(self.location, self.reactor, self._sentinels_say)
            self._sentinels.start()
            self._beat.start(_BEAT)
        self._factory.startConnecting(self._endpoint or _MasterEndpoint(self))
        self._looked_at = self.reactor.seconds()
        self._watch.start(self._pause, now=False)
        self._mind_next_attempt()

    def stop(self) -> Deferred[None]:
        """Disconnect for good."""
        self.state = State.STOPPED
        for timer in (self._watch, self._beat):
            if timer.running:
                timer.stop()
        self._release_early(BackendError(ErrorKind.UNAVAILABLE, "shutting down"))
        self._end_search()
        if self._sentinels is not None:
            self._sentinels.stop()
        stopped: Deferred[None] = self._factory.disconnect()
        return stopped.addCallback(lambda _: None)

    @property
    def idle(self) -> bool:
        """Whether nobody waits for a reply."""
        return not self._early and (self._protocol is None or not self._protocol.waiting)

    def health(self) -> Health:
        """Whether commands reach Redis now, or are going to as soon as it is connected again."""
        if self.state in (State.UP, State.RECONNECTING):
            return Health(True)
        return Health(False, f"Redis at {self.location.shown}: {self._reason}")

    def _mind_next_attempt(self) -> None:
        """Learn of the first failure of the attempts that are under way."""
        if self.state is State.STOPPED:
            return
        for slot in self._factory.slots:
            attempt = slot.service.whenConnected(failAfterFailures=1)
            attempt.addCallbacks(lambda _: None, self._attempt_failed)

    def _attempt_failed(self, failure: Failure) -> None:
        """Let the attempt be over for Twisted before anybody is told, who may stop this."""
        self.reactor.callLater(0, self.on_attempt_failed, failure)

    def on_up(self, protocol: RedisConnectionProtocol) -> None:
        """A connection is prepared."""
        self._sentinels_say()
        if self.state is State.STOPPED or protocol.fault is not None:
            return
        self._protocol = protocol
        self.state = State.UP
        self.times_connected += 1
        if self._search is not None and protocol.role != "replica":
            self._end_search()
            self._connected_told = False
        if self.meter is not None:
            self.meter.reconnections += self._was_up
        self._was_up = True
        if not self._connected_told:
            self._connected_told = True
            self._log.info(
                "Connected to Redis at {location}{role}",
                location=self._where(),
                role=", a replica" if protocol.role == "replica" else "",
            )
        self._submit_early()
        self.when_up()

    def _where(self) -> str:
        if self._chosen is None:
            return self.location.shown
        return f"{self.location.shown} ({show(self._chosen.address)})"

    def on_attempt_failed(self, failure: Failure) -> None:
        """An attempt to connect, or to prepare the connection, has failed."""
        if self.state is State.STOPPED:
            return
        self.was_good = False
        self._note_reason(failure, news=self._connected_told)
        self._go_down(_advise(failure))

    def _note_reason(self, failure: Failure, news: bool) -> None:
        """Note why Redis is not there; what it says itself, and has not said before, is news."""
        self._reason = explain(failure)
        if self._chosen is not None and not failure.check(NoMasterError):
            self._reason = f"{show(self._chosen.address)}: {self._reason}"
        if news:
            self._told.clear()
        if failure.check(RedisError, TLSError) and len(self._told) < _REASONS:
            self._is_news = self._reason not in self._told
        else:
            self._is_news = not self._told

    def is_in_use(self, protocol: RedisConnectionProtocol) -> bool:
        """Whether requests go over this connection."""
        return protocol is self._protocol

    def on_lost(self, protocol: RedisConnectionProtocol, reason: Failure) -> None:
        """
        A connection is gone. Everybody who waited on it is told. Where nobody
        did, as when Redis closes what is idle, another is made before anybody
        complains.
        """
        if protocol is self._protocol:
            self._leave_protocol()
            lasted = self.reactor.seconds() - protocol.made_at
            self.was_good = lasted >= _GOOD
            if self.state is not State.STOPPED:
                self._note_reason(reason, news=lasted >= _CALM)
                if protocol.waiting:
                    self._go_down(_advise(reason))
                else:
                    self.state = State.RECONNECTING
        self.reactor.callLater(0, self._mind_next_attempt)  # when this one is over for txredisapi
        error = BackendError(ErrorKind.UNAVAILABLE, "storage connection lost")
        while protocol.waiting:
            protocol.waiting.popleft().done(error)

    def _go_down(self, advice: str) -> None:
        self.state = State.DOWN
        if self._is_news:
            self._told.add(self._reason)
            self._connected_told = self._again_told = False
            self._log.error(
                "Cannot reach Redis at {location}: {reason}. Clients are answered SERVER_ERROR "
                "until {advice}. Trying again.",
                location=self.location.shown,
                reason=self._reason,
                advice=advice,
            )
        elif self._connected_told and not self._again_told:
            self._again_told = True
            self._log.warn(
                "The connection to Redis at {location} is lost again and again: {reason}. Redis's "
                "own log may say why. No more is said of that until one has lasted for a minute",
                location=self.location.shown,
                reason=self._reason,
            )
        self._release_early(self._unavailable())

    def _unavailable(self) -> BackendError:
        return BackendError(ErrorKind.UNAVAILABLE, "storage not reachable", undone=True)

    def _take_early(self) -> list[tuple[bytes, Waiting]]:
        early, self._early = self._early, []
        return early

    def _leave_protocol(self) -> None:
        """What is to be sent, and whether it may be, is no matter of the next connection's."""
        self._protocol = None
        self._unsure = False
        self._outgoing.clear()

    def _submit_early(self) -> None:
        for payload, waiting in self._take_early():
            self.submit(payload, waiting)

    def _release_early(self, error: BackendError) -> None:
        for _, waiting in self._take_early():
            waiting.done(error)

    def drop(self, reason: str) -> None:
        """Give this connection up and make another."""
        if self._protocol is not None:
            self._protocol.give_up(reason)

    # -- the master --------------------------------------------------------------------------

    def find_master(self) -> Deferred[Opinion]:
        """The master by what the sentinels say; fails with L{NoMasterError}."""
        assert self._sentinels is not None
        return self._sentinels.find().addCallback(self._choose)

    def _choose(self, opinion: Opinion) -> Opinion:
        self._chosen = opinion
        return opinion

    def _sentinels_say(self) -> None:
        """Leave a master that is none any more, or is about to be none."""
        sentinels, chosen, protocol = self._sentinels, self._chosen, self.newest
        if sentinels is None or chosen is None or protocol is None or protocol.fault is not None:
            return
        believed = sentinels.believed()
        if not believed or (believed[0].epoch < chosen.epoch and not sentinels.all_know):
            return
        others = [opinion.address for opinion in believed]
        if chosen.address not in others:
            self._leave(protocol, f"the sentinels name {show(others[0])} the master")
        elif sentinels.is_replacing():
            self._leave(protocol, "the sentinels are replacing it")
        else:
            self._chosen = believed[others.index(chosen.address)]

    def _leave(self, protocol: RedisConnectionProtocol, why: str) -> None:
        """Give a connection up, without a word of an outage: callers wait for the next one."""
        if protocol is self._protocol:
            self._log.warn(
                "Leaving {location}: {reason}. Clients wait for the next master",
                location=self._where(),
                reason=why,
            )
            self._leave_protocol()
            self._told.clear()
            self._connected_told = False
            self.was_good = True
            self.state = State.RECONNECTING
        protocol.give_up(why)

    def refused(self, code: str) -> None:
        """
        Redis answers so to a command. A replica is asked on, as reads may go
        on; the master is looked for with growing pauses. What shuts RedCouch
        out, and a master under Sentinel that is none any more, is left at once.
        """
        if code not in _NO_MASTER or self._endpoint is None:
            self.drop(f"it answers {code}")
        elif self._search is None and self._protocol is not None:
            self._log.error(
                "Redis at {location} is no master: it answers {code}. {who} answered SERVER_ERROR. "
                "Looking for the master there",
                location=self.location.shown,
                code=code,
                who="Reads go on, writes are" if code == "READONLY" else "Clients are",
            )
            self._search = MasterSearch(
                self.location, self._endpoint, self.reactor, self._master_found
            )

    def _master_found(self) -> None:
        """Make the connection anew, which is to lead to the master. The search ends if it does."""
        if self._protocol is not None:
            self._leave(self._protocol, "there is a master now")

    def _end_search(self) -> None:
        if self._search is not None:
            self._search.stop()
            self._search = None

    # -- time --------------------------------------------------------------------------------

    def _check_time(self) -> None:
        now, looked_at = self.reactor.seconds(), self._looked_at
        self._looked_at = now
        if now - looked_at > 2 * self._pause:
            self._began_at = now
            return  # it was this process that stood still: see first what has come meanwhile
        protocol = self._protocol
        timeout = self.location.timeout
        if protocol is not None and protocol.waiting and protocol.silent_for(now) > timeout:
            self.drop(f"no answer for {timeout:g} s")
        phases = 2 if self._sentinels is None else 3  # to find it, to connect, to prepare
        longest = phases * max(1.0, timeout)  # no attempt takes longer, but to look a name up may
        since = self._early[0][1].sent_at if self._early and not self._unsure else now
        if self.state is State.FIRST_ATTEMPT:  # for its end, a cluster waits as well
            since = self._began_at
        if now - since > longest:
            reason = (
                f"no connection within {longest:g} s: it may be that its name is looked up slowly"
            )
            self.on_attempt_failed(Failure(RedisError(reason)))

    def _on_beat(self) -> None:
        self._make_sure()
        self._beat_at = self.reactor.seconds()

    def _make_sure(self) -> None:
        """
        Where this process has stood still, the master may have been replaced meanwhile, and
        acknowledge all the same: nothing is sent before the sentinels have named it again. If
        all of them were away before, nobody is waited for.
        """
        if self._sentinels is None or self._protocol is None or self._unsure:
            return
        stood_still = self.reactor.seconds() - self._beat_at > 2 * _BEAT
        if stood_still and self._sentinels.believed():
            self._unsure = True
            self._sentinels.find().addBoth(self._named_again)

    def _named_again(self, _: Opinion | Failure) -> None:
        """Go on, also where no sentinel can be asked; unless the connection has been left."""
        self._sentinels_say()
        if self._unsure:
            self._unsure = False
            self._flush()
            self._submit_early()

    # -- the path of requests ----------------------------------------------------------------

    def send(self, payload: bytes, replies: int, done: Callable[[Replies], None]) -> None:
        """
        Send packed commands that together have this many replies. C{done} is
        given the replies, or the reason why there are none; it may be called
        before this returns.
        """
        self.submit(payload, _Caller(replies, done))

    def submit(self, payload: bytes, waiting: Waiting) -> None:
        """The same for a caller who is an object."""
        if not waiting.expected:
            waiting.done(waiting.replies)
            return
        if not self._turn:
            self.begin_turn()
        protocol = self._protocol
        waiting.sent_at = self._turn
        if protocol is None or self._unsure:
            if self._unsure or self.state in _AWAITING:
                self._early.append((payload, waiting))
            else:
                waiting.done(self._unavailable())
            return
        outgoing = self._outgoing
        outgoing.append(payload)
        protocol.waiting.append(waiting)
        if len(outgoing) == _TOGETHER:
            self._flush()

    def begin_turn(self) -> None:
        """Something is to be sent in this turn of the reactor."""
        self._turn = self.reactor.seconds()
        self.reactor.callLater(0, self._end_turn)
        self._make_sure()

    def _end_turn(self) -> None:
        self._turn = 0.0
        self._flush()

    def _flush(self) -> None:
        """Write what this turn of the reactor has brought, of all clients together."""
        self._make_sure()  # it may be in this turn that we stood still
        if self._outgoing and self._protocol is not None and not self._unsure:
            payload = b"".join(self._outgoing)
            self._outgoing.clear()
            self._protocol.write(payload)


class _MasterEndpoint:
    """Asks the sentinels where the master is, each time before connecting."""

    def __init__(self, link: RedisConnection) -> None:
        self._link = link

    def connect(self, protocol_factory: Any) -> Deferred[Any]:
        """See L{IStreamClientEndpoint}."""

        def connect(opinion: Opinion) -> Deferred[Any]:
            link = self._link
            place = endpoint(opinion.address, link.location, link.reactor)
            return place.connect(protocol_factory)

        return self._link.find_master().addCallback(connect)


def _endpoint(location: RedisLocation, reactor: Any) -> IStreamClientEndpoint | None:
    """How to get there; C{None} where sentinels have to be asked."""
    if location.socket is not None:
        return UNIXClientEndpoint(reactor, location.socket, max(1.0, location.timeout))
    first = endpoint(location.addresses[0], location, reactor)  # its certificates can be used
    return first if location.master is None else None


def _say_that_it_is_late(_: Any, timeout: float) -> None:
    """Give a connection up that was not prepared in time."""
    raise RedisError(f"no answer for {timeout:g} s")


def _advise(failure: Failure) -> str:
    """Until what clients are answered SERVER_ERROR, as the end of a sentence."""
    text = str(failure.value)
    for word, advice in _ADVICE.items():
        if word in text:
            return advice
    if failure.check(RedisError, NoMasterError, TLSError):
        return "that changes"
    return "it is there; start it, or name another with --storage"
