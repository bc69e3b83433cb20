"""
Whether a master has come up where a replica was connected to.

The address of the storage may lead somewhere else by now (a name, a virtual
address), or the replica has been promoted: both show in a connection made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from redcouch.backends.redis.sentinel import Conversation
from redcouch.backends.redis.server_info import read_greeting
from redcouch.backends.redis.url import RedisLocation
from redcouch.process.clock import cancel
from redcouch.process.quiet_factory import QuietFactory

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
"""Seconds between two looks; growing."""


class MasterSearch:
    """
    Looks again and again, from now on until L{stop}: also after it has found a master, as a
    connection made then may lead to a replica again.
    """

    def __init__(
        self,
        location: RedisLocation,
        endpoint: IStreamClientEndpoint,
        reactor: Any,
        on_found: Callable[[], None],
    ) -> None:
        self._location = location
        self._endpoint = endpoint
        self._reactor = reactor
        self._on_found = on_found
        self._pause = _FIRST_PAUSE
        self._attempt: Deferred[Any] | None = None
        self._conversation: Conversation | None = None
        self._next = reactor.callLater(self._pause, self._look)

    def stop(self) -> None:
        """Look no more."""
        cancel(self._next)
        if self._attempt is not None:
            self._attempt.cancel()
        self._hang_up()

    def _look(self) -> None:
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._next = self._reactor.callLater(self._pause, self._look)
        self._hang_up()
        if self._attempt is None:
            conversation = Conversation(self._heard, lambda one, why: None)
            self._attempt = self._endpoint.connect(QuietFactory(lambda: conversation))
            self._attempt.addBoth(self._connected, conversation)

    def _connected(self, result: Any, conversation: Conversation) -> None:
        self._attempt = None
        if isinstance(result, Failure):  # the next look is another attempt
            return
        self._conversation = conversation
        location = self._location
        if location.password is not None:
            user = () if location.username is None else (location.username.encode(),)
            conversation.send(b"AUTH", *user, location.password.encode())
        conversation.send(b"HELLO", b"2")
        conversation.send(b"ROLE")

    def _heard(self, reply: Any) -> None:
        role = read_greeting(reply).get("role")
        if role is None and isinstance(reply, list) and reply and isinstance(reply[0], bytes):
            role = reply[0].decode("ascii", "replace")
        if role is not None:
            self._hang_up()
        if role == "master":
            self._on_found()

    def _hang_up(self) -> None:
        if self._conversation is not None:
            self._conversation.end()
            self._conversation = None
