"""
The Twisted edge: connections that come and go, and how much each may hold.

Bytes go from here to a dialect, requests to a session; nothing is understood
here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from math import inf
from typing import Any

from OpenSSL.SSL import Error as TLSError
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from redcouch.dialects.detect import dialect_name, dialect_of
from redcouch.dialects.request import Dialect
from redcouch.process.quiet_factory import QuietFactory
from redcouch.server.alarm import Alarm
from redcouch.server.direct_writer import (
    direct_writer,
    socket_transport,
    take_unsent,
    unsent,
    untaken,
)
from redcouch.server.epoll_reader import MOST, EpollReader, is_plain
from redcouch.server.hangups import Hangups, end_now
from redcouch.server.run_queue import RunQueue
from redcouch.server.session import Session, Shared
from redcouch.server.transit import Transit
from redcouch.telemetry.client_names import UNIX, plain_host

_TLS_HANDSHAKE = b"\x16\x03"
"""What a client that speaks TLS begins with."""

HandOver = Callable[["Connection"], None]
"""Takes a client for which nothing is under way to another process."""

_LET_GO = 2.0
"""Seconds after which a client that was refused is gone in any case."""

_MOST_REFUSED = 32
"""Clients that are being refused; beyond that they are not even told."""

_STUCK = 60.0
"""Seconds for which a client may take nothing while others wait for the memory."""

_LOOK_AT_LAST = 0.01
"""Seconds between two looks whether a client's system has all, when the service ends."""

_REFUSAL = b"ERROR Too many open connections\r\n"
"""What memcached says to a client beyond its -c."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class Connection(Protocol):
    """
    One client.

    It is not read from while too much of it waits (the session is crowded, or
    what it has sent needs more than one turn to be understood) or while it does
    not take its replies (the transport, for which this is the producer, has
    asked to pause).
    """

    factory: ConnectionFactory
    transport: Any

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._counters = shared.counters
        self._dialect: Dialect | None = None
        self._closing = False
        #: The client does not take its replies just now.
        self.write_paused = False
        self._half_closed = False
        self._draining = False
        self._gone = False
        self._queued = False
        #: Which of the service's clients it was.
        self.number = 0
        #: Heard from since the last look (L{ConnectionFactory.sweep}).
        self.heard = True
        self.quiet_since = 0.0
        #: Heard from since the watcher has looked.
        self.spoke = False
        self.dialect_name = ""

        self._hand_over: HandOver | None = None
        #: How it stood in the process that it comes from.
        self.transit: Transit | None = None

    def connectionMade(self) -> None:
        self._send = direct_writer(self.transport)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self.session = Session(
            self._shared,
            self._write,
            self.close,
            self._read_on,
            self._on_authenticated,
            self.address,
        )
        self.transport.registerProducer(self, True)
        self._reading = self.factory.epoll_reader.reading(self.transport)
        self.factory.opened(self)
        if self.transit is not None:
            self._go_on(self.transit)
            self.transit = None

    @property
    def host(self) -> str:
        """The client's address without its port."""
        peer = self.transport.getPeer()
        return plain_host(peer.host) if isinstance(peer, IPv4Address | IPv6Address) else UNIX

    @property
    def address(self) -> str:
        """Where the client is, as memcached's C{stats conns} has it."""
        peer = self.transport.getPeer()
        if isinstance(peer, IPv4Address | IPv6Address):
            host = f"[{peer.host}]" if isinstance(peer, IPv6Address) else peer.host
            return f"{peer.type.lower()}:{host}:{peer.port}"
        return UNIX

    def _write(self, data: bytes) -> None:
        self._counters.bytes_written += len(data)
        self._send(data)

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        self.heard = self.spoke = True
        self._counters.bytes_read += len(data)
        dialect = self._dialect
        if dialect is None:
            dialect = self._speak(dialect_name(data))
            if data.startswith(_TLS_HANDSHAKE):
                self.factory.misfits.say(
                    self.address, "it speaks TLS to a port that does not (see --tls-cert)"
                )
        if dialect.pending:
            dialect.feed(data)
            self._reading.pause()
        else:
            backlog_full = self.session.submit(dialect.receive(data))
            if backlog_full or dialect.pending or dialect.waiting or dialect.broken:
                self._wait(dialect, backlog_full)
                if dialect.pending and len(data) >= MOST:  # there will be more
                    self._reading.pause()

    def _speak(self, name: str) -> Dialect:
        """Understand the client in the dialect of this name from now on."""
        guarded = self._shared.authenticate is not None
        dialect = self._dialect = dialect_of(name, self._shared.limits, guarded)
        self.dialect_name = name
        self.session.set_dialect(name)
        return dialect

    def _wait(self, dialect: Dialect, backlog_full: bool) -> None:
        """What was handed on, or could not be, may have to be waited for, or with."""
        if dialect.broken:
            self.drain()
        elif dialect.pending:
            self._await_turn()
        elif backlog_full or dialect.waiting:
            self._reading.pause()

    def _await_turn(self) -> None:
        """There is more to understand: do so when nothing of this client waits any more."""
        if not self._queued and (self._gone or self.session.wants_more()):
            self._queued = True
            self.factory.run_queue.add(self)

    def take_turn(self) -> None:
        """See L{Runner<redcouch.server.run_queue.Runner>}."""
        self._queued = False
        dialect = self._dialect
        if dialect is None or self._closing:
            return
        self._wait(dialect, self.session.submit(dialect.receive(b"")))
        if dialect.pending:
            self._reading.pause()
        else:
            self._end_if_asked()
            self._read_on()

    def _on_authenticated(self, proven: bool) -> None:
        """The client knows whether it is let in: understand what it sent meanwhile."""
        assert self._dialect is not None
        self._dialect, rest = self._dialect.authenticated(proven)
        if self._closing:
            self._dialect.feed(rest)
            return
        self._wait(self._dialect, self.session.submit(self._dialect.receive(rest)))
        if not self._dialect.waiting:
            self._end_if_asked()
            self._read_on()

    @property
    def closing(self) -> bool:
        """Nothing more is heard from this client."""
        return self._closing or self._draining

    def drain(self, hand_over: HandOver | None = None) -> None:
        """
        Listen to no more; answer what was asked, then close.

        @param hand_over: takes the client instead, where it can go on in another process:
            it has not ended the conversation itself, and nothing encrypts it.
        """
        self._draining = True
        self._hand_over = hand_over if is_plain(self.transport) else None
        self._reading.pause()
        self._end_if_asked()

    def _end_if_asked(self) -> None:
        """End, if nothing more is to come of this client and all is understood that has come."""
        dialect = self._dialect
        if self._closing or (dialect is not None and dialect.pending):
            return
        waits = dialect is not None and dialect.waiting
        if self._draining or (self._half_closed and not waits):
            self._closing = True
            if self._hand_over is None or self._half_closed or (dialect and dialect.broken):
                self.session.end()
            else:
                self.session.leave()

    def close(self) -> None:
        """Close, after what has been written; or let the client go on in another process."""
        self._closing = True
        self._reading.stop()
        self.transport.unregisterProducer()
        if self.session.left and self._hand_over is not None:
            self._hand_over(self)
        else:
            self._close_when_taken()

    def _close_when_taken(self) -> None:
        """
        Close. When the service ends, not before the client's system has all that was written: to
        close while something of the client is unread would throw it away. Nor is it waited for
        then that a client says by TLS, too, that it ends.
        """
        transport = self.transport
        plain: Any = socket_transport(transport)
        ending = self.factory.ending and plain is not None and ITCPTransport.providedBy(transport)
        if not ending or plain is not transport:
            transport.loseConnection()
        if ending and not untaken(transport):
            plain.loseConnection()
        elif ending and plain.connected:
            self.factory.reactor.callLater(_LOOK_AT_LAST, self._close_when_taken)

    # -- going on in another process -----------------------------------------------------------

    def pack(self) -> Transit:
        """What is known of the client. Nothing is read or sent any more."""
        unread, skip = (b"", 0) if self._dialect is None else self._dialect.suspend()
        unsent = take_unsent(self.transport)
        return Transit(self.dialect_name, self.session.user, skip, unread, unsent)

    def fileno(self) -> int:
        """The descriptor of its socket."""
        descriptor: int = self.transport.fileno()
        return descriptor

    def keep(self, transit: Transit) -> None:
        """Nobody has taken the client: close, as without a successor."""
        if self.transport.connected:
            self._send(transit.unsent)
            self.transport.loseConnection()

    def let_go(self) -> None:
        """Another process has the client: close the socket here, and only here."""
        self.transport._shouldShutdown = False
        end_now(self.transport)

    def _go_on(self, transit: Transit) -> None:
        """Go on as the process before would have."""
        self.session.user = transit.user
        if transit.unsent:
            self._send(transit.unsent)
        if not transit.dialect:
            return
        dialect = self._speak(transit.dialect)
        if transit.user is not None:
            dialect, _ = dialect.authenticated(True)
        dialect.skip(transit.skip)
        self._dialect = dialect
        if transit.unread:
            self._wait(dialect, self.session.submit(dialect.receive(transit.unread)))

    def look_whether_gone(self) -> None:
        """
        Hear what the client has said last, if the system knows that it says no
        more, and end at once where nothing is left to be done for it.
        """
        for _ in range(2):
            self._reading.read()
        if self.session.finished and not unsent(self.transport):
            end_now(self.transport)

    def abort(self) -> None:
        """Close now."""
        self._closing = True
        self.transport.abortConnection()

    def _read_on(self) -> None:
        """Read again, unless something is in the way; understand first what there is."""
        dialect = self._dialect
        if dialect is not None and dialect.pending:
            self._await_turn()
        elif not (
            self.write_paused
            or self._half_closed
            or self._draining
            or self.session.backlog_full
            or (dialect is not None and dialect.waiting)
        ):
            self._reading.resume()

    # -- IHalfCloseableProtocol: `printf ... | nc` closes its side before it reads ------------

    def readConnectionLost(self) -> None:
        self._half_closed = True
        self._end_if_asked()

    def writeConnectionLost(self) -> None:
        """Nothing that we write ends without the connection ending."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        if self._dialect is None and isinstance(reason.value, TLSError):
            self.factory.misfits.say(self.address, _explain_tls(reason.value))
        self._reading.stop()
        self.session.detach_client()
        if self._dialect is not None and self._dialect.pending:
            self._await_turn()
        self.factory.closed(self)

    # -- IPushProducer: the transport says when the client does not take its replies ----------

    def pauseProducing(self) -> None:
        self.write_paused = True
        self.session.pause(unsent(self.transport))
        self._reading.pause()
        self.factory.paused(self)

    def resumeProducing(self) -> None:
        self.write_paused = False
        self.session.release()
        self._read_on()

    def stopProducing(self) -> None:
        """The connection is being lost; C{connectionLost} follows."""


def _explain_tls(error: TLSError) -> str:
    """Why a client could not agree with us to speak TLS."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = ", ".join(str(reason[-1]) for reason in reasons) or "no reason was given"
    return f"TLS could not begin: {words} (a client that speaks no TLS does this, too)"


class Misfits:
    """Tells the operator of clients that do not fit the port, but not of each of many."""

    _log = Logger()

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._alarms: dict[str, Alarm] = {}

    def say(self, client: str, what: str) -> None:
        """A client could not be understood; said once until it is quiet for a minute."""
        alarm = self._alarms.setdefault(what, Alarm(self._clock, quiet=60.0))
        if alarm.raise_():
            self._log.warn("No client for this port is {client}: {what}", client=client, what=what)

    def stop(self) -> None:
        """Nobody listens any more."""
        for alarm in self._alarms.values():
            alarm.stop()


class Refusal(Protocol):
    """
    A client beyond the allowed number: told so, and let go, soon in any case: one that speaks TLS
    might never say its part.
    """

    transport: Any

    def __init__(self, others: set[Refusal], reactor: Any) -> None:
        """@param others: those that have not gone yet."""
        self._others = others
        self._reactor = reactor

    def connectionMade(self) -> None:
        self._others.add(self)
        self._end = self._reactor.callLater(_LET_GO, self.transport.abortConnection)
        if len(self._others) > _MOST_REFUSED:
            self.transport.abortConnection()
        else:
            self.transport.write(_REFUSAL)
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._others.discard(self)
        if self._end.active():
            self._end.cancel()


CountAll = Callable[[int], int]
"""Is told how many clients this process has; gives how many the whole service has."""


def only_ours(clients: int) -> int:
    """For a process that is the whole service."""
    return clients


class ConnectionFactory(Factory):
    """Makes a L{Connection} for each client, up to so many at a time."""

    _log = Logger()
    noisy = False

    def __init__(
        self,
        shared: Shared,
        reactor: Any,
        max_connections: int,
        idle_timeout: float,
        count_all: CountAll = only_ours,
    ) -> None:
        """
        @param max_connections: one more is told so and closed.
        @param idle_timeout: seconds after which a silent client is closed; 0 for never.
        """
        self._shared = shared
        self.reactor = reactor
        self.epoll_reader = EpollReader(reactor)
        self.run_queue = RunQueue(reactor)
        self._max_connections = max_connections
        self._idle_timeout = idle_timeout
        self._count_all = count_all
        self._full = Alarm(
            reactor,
            lambda: self.client_count() < max_connections * 0.9,
            lambda: self._log.info("Accepting clients again"),
        )
        self._refusals: set[Refusal] = set()
        #: Who does not take its replies: what of them is left to take, and since when that is so.
        self._paused: dict[Connection, tuple[int, float]] = {}
        self._look_at_paused = LoopingCall(self._end_paused)
        self._look_at_paused.clock = reactor
        self._hangups = Hangups()
        self._leaving: set[Connection] = set()
        self.misfits = Misfits(reactor)
        self._draining: Deferred[None] | None = None
        self.connections: set[Connection] = set()
        self._numbers = count(1)
        #: Is told of each client that is gone.
        self.on_leave: Callable[[Connection], None] = lambda _: None
        self._sweeper = LoopingCall(self.sweep)
        self._sweeper.clock = reactor

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        if self.client_count() >= self._max_connections:
            self._make_room()
            if self.client_count() >= self._max_connections:
                self._shared.counters.rejected_connections += 1
                self._say_full()
                return Refusal(self._refusals, self.reactor)
        connection = Connection(self._shared)
        connection.factory = self
        return connection

    @property
    def ending(self) -> bool:
        """Whether the service lets its clients finish."""
        return self._draining is not None

    def client_count(self) -> int:
        """How many clients the service has, of those that it may have."""
        return self._count_all(self.staying)

    def _say_full(self) -> None:
        if self._full.raise_():
            self._log.error(
                "All {most} connections (--max-connections) are in use: refusing further clients",
                most=self._max_connections,
            )

    def _make_room(self) -> None:
        """Notice of every client that is gone that it is, before anybody is refused."""
        for connection in self._hangups.find():
            connection.look_whether_gone()
            if connection.closing and connection in self.connections:
                self._leaving.add(connection)  # as soon as it has its last answers

    @property
    def staying(self) -> int:
        """How many clients are here and not known to be about to go."""
        return len(self.connections) - len(self._leaving)

    def stopFactory(self) -> None:
        self._full.stop()
        for refusal in list(self._refusals):
            refusal.transport.abortConnection()
        self.misfits.stop()

    def opened(self, connection: Connection) -> None:
        """A client is here."""
        counters = self._shared.counters
        counters.curr_connections += 1
        counters.total_connections += connection.transit is None  # else let in before
        connection.number = next(self._numbers)
        self.connections.add(connection)
        self._count_all(self.staying)
        self._hangups.watch(connection.transport, connection)
        connection.quiet_since = self.reactor.seconds()
        if self._idle_timeout and not self._sweeper.running:
            self._sweeper.start(min(1.0, self._idle_timeout / 4), now=False)

    def closed(self, connection: Connection) -> None:
        """A client is gone."""
        self.on_leave(connection)
        self._shared.counters.curr_connections -= 1
        self.connections.discard(connection)
        self._leaving.discard(connection)
        self._count_all(self.staying)
        self._hangups.forget(connection)
        self._not_paused(connection)
        if not self.connections:
            if self._sweeper.running:
                self._sweeper.stop()
            if self._draining is not None:
                self._draining.callback(None)
                self._draining = None

    def describe(self) -> list[tuple[str, str]]:
        """Each client's address, by a number that is its own."""
        return [(str(connection.number), connection.address) for connection in self.connections]

    def count_clients(self) -> tuple[int, int]:
        """How many clients there are, and how many of them wait for an answer."""
        waiting = sum(not connection.session.idle for connection in self.connections)
        return len(self.connections), waiting

    def sweep(self) -> None:
        """Close the clients that have been silent for too long."""
        now = self.reactor.seconds()
        for connection in list(self.connections):
            if connection.heard or connection.write_paused or not connection.session.idle:
                connection.heard = False
                connection.quiet_since = now
            elif now - connection.quiet_since >= self._idle_timeout:
                self._kick(connection)

    def _kick(self, connection: Connection) -> None:
        """Close a silent client; now, if it does not even let itself be closed."""
        if connection.closing:
            connection.abort()
        else:
            self._shared.counters.idle_kicks += 1
            connection.quiet_since = self.reactor.seconds()
            connection.drain()

    def paused(self, connection: Connection) -> None:
        """A client does not take its replies."""
        self._paused[connection] = (-1, self.reactor.seconds())
        if not self._look_at_paused.running:
            self._look_at_paused.start(1.0, now=False)

    def _end_paused(self) -> None:
        """
        Close those of them who have taken nothing for the idle timeout, or for so long that others
        need the memory.
        """
        now = self.reactor.seconds()
        limit = self._idle_timeout or inf
        if self._shared.admission.short:
            limit = min(limit, _STUCK)
        for connection, (left, since) in list(self._paused.items()):
            if not connection.write_paused:
                self._not_paused(connection)
            elif (still := untaken(connection.transport)) != left:
                self._paused[connection] = still, now
            elif now - since >= limit:
                self._shared.counters.idle_kicks += 1
                connection.abort()

    def _not_paused(self, connection: Connection) -> None:
        self._paused.pop(connection, None)
        if not self._paused and self._look_at_paused.running:
            self._look_at_paused.stop()

    def adopt(self, client: socket.socket, transit: Transit) -> None:
        """Go on with a client of another process, however many there are."""
        connection = Connection(self._shared)
        connection.factory = self
        connection.transit = transit
        with suppress(OSError):  # it is gone
            factory = QuietFactory(lambda: connection)
            self.reactor.adoptStreamConnection(client.fileno(), client.family, factory)

    def drain(self, hand_over: HandOver | None = None) -> Deferred[None]:
        """
        Let every client finish what it has asked for. Fires when all are gone.

        @param hand_over: see L{Connection.drain}.
        """
        drained: Deferred[None] = Deferred()
        if not self.connections:
            drained.callback(None)
            return drained
        self._draining = drained
        for connection in list(self.connections):
            connection.drain(hand_over)
        return drained

    def abort(self) -> None:
        """Close every client now."""
        for connection in list(self.connections):
            connection.abort()
