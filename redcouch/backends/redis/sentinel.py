"""
Which Redis is the master, by what its sentinels say.

Each sentinel is asked every second, and at once when any of them announces
something about the master (C{+switch-master} and the like): an announcement is
only a reason to ask again. The sentinel with the highest configuration epoch is
believed, as sentinels believe each other.

A master that the sentinels are about to replace is no longer one to write to:
what it acknowledges after its replica was promoted is lost. So it is left from
the moment in which a failover begins, but for no longer than
L{LONGEST_FAILOVER}: a failover may also come to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import hiredis
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from redcouch.backends.redis.endpoints import endpoint, explain, why_unreadable
from redcouch.backends.redis.opinion import (
    BEING_REPLACED,
    QUESTIONS,
    HostAndPort,
    Opinion,
    believed,
    read_opinion,
    why_none,
)
from redcouch.backends.redis.resp import pack_command
from redcouch.backends.redis.url import RedisLocation, show, why_no_master
from redcouch.process.clock import cancel
from redcouch.process.quiet_factory import QuietFactory

ASK_AGAIN = 1.0
"""Seconds after which each sentinel is asked again."""

LONGEST_FAILOVER = 10.0
"""Seconds for which a master that is being replaced is left alone."""

_STRAGGLERS = 0.1
"""Seconds that slower sentinels have once one has answered."""


class NoMasterError(Exception):
    """There is no master to connect to. The text says why, on one line."""


class Sentinels:
    """
    The sentinels of a location, asked all the time between L{start} and L{stop}.
    """

    def __init__(
        self, location: RedisLocation, reactor: Any, on_change: Callable[[], None]
    ) -> None:
        """@param on_change: called after each answer of a sentinel, and each failure."""
        assert location.master is not None
        self.name = location.master
        self.location = location
        given = (location.sentinel_user, location.sentinel_password)
        self.credentials = [word.encode() for word in given if word is not None]
        self.reactor = reactor
        self._on_change = on_change
        self._all = [_Sentinel(self, address) for address in location.addresses]
        self._searches: list[_Search] = []
        self._replacing_since: float | None = None
        self._timer = LoopingCall(self.ask)
        self._timer.clock = reactor

    def start(self) -> None:
        """Connect to each of them, and go on asking."""
        self._timer.start(ASK_AGAIN)

    def stop(self) -> None:
        """Let go of all of them; whoever still searches is told so."""
        if self._timer.running:
            self._timer.stop()
        for sentinel in self._all:
            sentinel.disconnect()
        for search in list(self._searches):
            search.fail("shutting down")

    def ask(self) -> None:
        """Ask all of them now."""
        for sentinel in self._all:
            sentinel.ask()

    def find(self) -> Deferred[Opinion]:
        """
        The master by what all who answer say now. Waits for the end of a
        failover that is under way. Fails with L{NoMasterError}, within the
        location's timeout.
        """
        search = _Search(self, self._all)
        self._searches.append(search)
        search.found.addBoth(self._end_search, search)
        self.ask()
        return search.found

    def _end_search(self, result: Any, search: _Search) -> Any:
        self._searches.remove(search)
        return result

    def believed(self) -> Sequence[Opinion]:
        """The opinions to believe; none where nobody answers."""
        return believed(one.opinion for one in self._all)

    @property
    def all_know(self) -> bool:
        """
        Whether there are several and each has an opinion: what all have forgotten counts no more,
        while one alone may be another than before, or behind.
        """
        return len(self._all) > 1 and all(one.opinion is not None for one in self._all)

    def is_replacing(self) -> bool:
        """Whether the master is to be left alone, since a failover has begun."""
        since = self._replacing_since
        return since is not None and self.reactor.seconds() - since < LONGEST_FAILOVER

    def why_none(self) -> str:
        """Why there is no master to connect to, on one line."""
        if self.is_replacing():
            return BEING_REPLACED.format(self.name)
        said = [one.complaint for one in self._all if one.answers]
        return why_no_master(said, [one.complaint for one in self._all])

    def heard(self, sentinel: _Sentinel) -> None:
        """A sentinel has answered, or failed."""
        if not any(opinion.replacing for opinion in self.believed()):
            self._replacing_since = None
        elif self._replacing_since is None:
            self._replacing_since = self.reactor.seconds()
        for search in list(self._searches):
            search.heard(sentinel)
        self._on_change()


class _Search:
    """Somebody who waits for a master."""

    def __init__(self, sentinels: Sentinels, missing: Sequence[_Sentinel]) -> None:
        self.found: Deferred[Opinion] = Deferred(lambda _: self._cancel_timers())
        self._sentinels = sentinels
        self._missing = set(missing)
        later = sentinels.reactor.callLater
        self._timers = [later(sentinels.location.timeout, self._give_up)]
        self._later = later

    def heard(self, sentinel: _Sentinel) -> None:
        """One more has answered, or failed."""
        self._missing.discard(sentinel)
        if not self._missing:
            self._decide()
        elif sentinel.opinion is not None and len(self._timers) == 1:
            self._timers.append(self._later(_STRAGGLERS, self._all_heard))

    def fail(self, why: str) -> None:
        """There is no master."""
        if not self.found.called:
            self._cancel_timers()
            self.found.errback(NoMasterError(why))

    def _all_heard(self) -> None:
        self._missing.clear()
        self._decide()

    def _decide(self) -> None:
        sentinels = self._sentinels
        if sentinels.is_replacing():
            return
        believed = sentinels.believed()
        if not believed:
            self.fail(sentinels.why_none())
        elif not self.found.called:
            self._cancel_timers()
            self.found.callback(believed[0])

    def _give_up(self) -> None:
        self._missing.clear()
        self._decide()
        self.fail(self._sentinels.why_none())

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            cancel(timer)


class _Sentinel:
    """
    One sentinel: a connection to ask it, and one on which it announces.

    @ivar opinion: what it last said; C{None} where it knows no master, or is away.
    @ivar complaint: why it has no opinion.
    @ivar answers: whether it answers at all.
    """

    def __init__(self, sentinels: Sentinels, address: HostAndPort) -> None:
        self.opinion: Opinion | None = None
        self.answers = False
        self._shown = show(address)
        self.complaint = f"{self._shown} has not answered"
        self._sentinels = sentinels
        self._endpoint = endpoint(address, sentinels.location, sentinels.reactor)
        self._connecting: list[Deferred[Any]] = []
        self._asking: Conversation | None = None
        self._listening: Conversation | None = None
        self._replies: list[Any] = []
        self._asked_at: float | None = None
        self._ask_again = False

    def ask(self) -> None:
        """Ask it, and connect before that where it has to be."""
        if self._asking is None:
            if not self._connecting:
                self._connect()
            return
        if self._asked_at is None:
            self._send_question()
            return
        self._ask_again = True
        timeout = self._sentinels.location.timeout
        if self._sentinels.reactor.seconds() - self._asked_at > timeout:
            self._fail(f"no answer for {timeout:g} s")

    def disconnect(self) -> None:
        """Let go of it."""
        attempts, self._connecting = self._connecting, []
        for attempt in attempts:
            attempt.cancel()
        for conversation in (self._asking, self._listening):
            if conversation is not None:
                conversation.end()
        self._asking = self._listening = self._asked_at = None

    # -- connecting --------------------------------------------------------------------------

    def _connect(self) -> None:
        for heard, ready in (
            (self._heard_reply, self._asking_made),
            (self._heard_announcement, self._listening_made),
        ):
            make = partial(Conversation, heard, self._lost)
            attempt = self._endpoint.connect(QuietFactory(make))
            self._connecting.append(attempt)
            attempt.addBoth(self._over, attempt)
            attempt.addCallbacks(ready, self._not_connected)

    def _over(self, result: Any, attempt: Deferred[Any]) -> Any:
        if attempt not in self._connecting:  # given up: what it says to that is no reason
            return Failure(CancelledError())
        self._connecting.remove(attempt)
        return result

    def _asking_made(self, conversation: Conversation) -> None:
        self._asking = conversation
        self._send_question()

    def _listening_made(self, conversation: Conversation) -> None:
        self._listening = conversation
        self._authenticate(conversation)
        conversation.send(b"PSUBSCRIBE", b"*")

    def _authenticate(self, conversation: Conversation) -> None:
        if self._sentinels.credentials:
            conversation.send(b"AUTH", *self._sentinels.credentials)

    def _not_connected(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._fail(explain(failure))

    def _lost(self, conversation: Conversation, failure: Failure) -> None:
        if conversation in (self._asking, self._listening):
            self._fail(explain(failure))

    def _fail(self, why: str) -> None:
        """It is away; it is tried again when it is asked again."""
        self.opinion, self.answers = None, False
        self.complaint = f"{self._shown}: {why}"
        self.disconnect()
        self._sentinels.heard(self)

    # -- asking ------------------------------------------------------------------------------

    def _send_question(self) -> None:
        assert self._asking is not None
        self._asked_at, self._ask_again = self._sentinels.reactor.seconds(), False
        self._replies = []
        name = self._sentinels.name.encode("utf-8", "surrogateescape")
        self._authenticate(self._asking)
        for question in QUESTIONS:
            self._asking.send(b"SENTINEL", question, name)

    def _heard_reply(self, reply: Any) -> None:
        self._replies.append(reply)
        if len(self._replies) < 2 + bool(self._sentinels.credentials):
            return
        self._asked_at = None
        self.answers = True
        try:
            for reply in self._replies[-2:]:
                if isinstance(reply, hiredis.ReplyError):
                    raise reply
            self.opinion = read_opinion(*self._replies[-2:])
        except (hiredis.ReplyError, ValueError, TypeError, KeyError) as error:
            self.opinion = None
            self.complaint = f"{self._shown} {why_none(self._sentinels.name, error)}"
        if self._ask_again:
            self._send_question()
        self._sentinels.heard(self)

    def _heard_announcement(self, reply: Any) -> None:
        """Something has happened; it may be to our master."""
        if isinstance(reply, list) and reply[:1] == [b"pmessage"]:
            name = self._sentinels.name.encode("utf-8", "surrogateescape")
            if name in reply[-1].split():
                self._sentinels.ask()


class Conversation(Protocol):
    """Commands, and whatever is said to them, over a connection of its own."""

    transport: Any

    def __init__(
        self, heard: Callable[[Any], None], lost: Callable[[Conversation, Failure], None]
    ) -> None:
        self._heard = heard
        self._lost = lost
        self._reader = hiredis.Reader()

    def connectionMade(self) -> None:
        with suppress(AttributeError, OSError):  # a unix socket knows no such thing
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)

    def send(self, *command: bytes) -> None:
        """Send a command."""
        self.transport.write(pack_command(command))

    def end(self) -> None:
        """Close the connection at once; nothing more is heard."""
        self._heard = lambda reply: None
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._heard(reply)
        except hiredis.ProtocolError:
            self._lost(self, Failure(NoMasterError(why_unreadable(data))))
            self.end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost(self, reason)
