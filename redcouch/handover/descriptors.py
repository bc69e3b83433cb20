"""
A conversation between two processes of one user, in which open descriptors can be passed.

Only Linux has all that this needs: abstract unix sockets, which go with their process, and
the credentials of whoever is at the other end.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any

from twisted.internet.interfaces import IFileDescriptorReceiver, IReadDescriptor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from redcouch.process.quiet_factory import QuietFactory
from redcouch.workers.channel import Channel, Respond

POSSIBLE = hasattr(socket, "SO_PEERCRED") and hasattr(os, "memfd_create")
"""Whether this system can do it."""

_ABSTRACT = "\0redcouch-"
_LONGEST_NAME = 90
_CREDENTIALS = struct.Struct("3i")

PATIENCE = 10.0
"""Seconds that the other process has to answer."""


def abstract_name(name: str) -> str:
    """The address of a unix socket that is in no file system. One has 108 bytes at most."""
    data = name.encode()
    return _ABSTRACT + (name if len(data) <= _LONGEST_NAME else sha256(data).hexdigest())


def private_name() -> str:
    """An address that nobody has."""
    return abstract_name(f"clients-{os.getpid()}-{secrets.token_hex(8)}")


def allowed_users(more: Collection[int] = ()) -> frozenset[int]:
    """The user ids of processes that may be trusted."""
    return frozenset((0, os.geteuid(), *more))


def peer_of(connected: Any) -> tuple[int, int]:
    """Process id and user id of the process at the other end of a unix socket."""
    size = _CREDENTIALS.size
    said = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _ = _CREDENTIALS.unpack(said)
    return pid, uid


@implementer(IFileDescriptorReceiver)
class DescriptorChannel(Channel):
    """
    A channel whose messages may come with descriptors, which whoever responds takes with
    L{take}, in the order in which they were given.
    """

    def __init__(
        self, responds: Mapping[str, Respond], lost: Callable[[], None], clock: Any
    ) -> None:
        super().__init__(responds, lost, clock)
        self._received: deque[int] = deque()

    def fileDescriptorReceived(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._received.append(descriptor)

    def take(self) -> int:
        """The next descriptor; the caller closes it."""
        return self._received.popleft()

    def give(self, descriptor: int) -> None:
        """Send a descriptor, which has to stay open until what is said next is answered."""
        self.transport.sendFileDescriptor(descriptor)  # type: ignore[union-attr]

    @property
    def peer(self) -> int:
        """The process id of the other end."""
        transport: Any = self.transport
        return peer_of(transport.socket)[0]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connected = 0  # before whoever asked hears of it, and gives to somebody
        while self._received:
            os.close(self._received.popleft())
        super().connectionLost(reason)


@implementer(IReadDescriptor)
class Listener:
    """Makes a channel for each process of an allowed user that calls at an abstract address."""

    def __init__(self, name: str, make: Callable[[], Protocol], reactor: Any) -> None:
        """@raise OSError: somebody else has the address."""
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(name)
        except OSError:
            self._socket.close()
            raise
        self._socket.listen()
        self._socket.setblocking(False)
        self._factory = QuietFactory(make)
        self._reactor = reactor
        reactor.addReader(self)

    def stop(self) -> None:
        """Answer nobody any more."""
        self._reactor.removeReader(self)
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "handover"

    def doRead(self) -> None:
        try:
            caller, _ = self._socket.accept()
        except OSError:  # it is gone, or we have no descriptor left
            return
        with caller:
            if peer_of(caller)[1] in allowed_users():
                caller.setblocking(False)
                self._reactor.adoptStreamConnection(caller.fileno(), caller.family, self._factory)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is done with us, since it stops."""
        self.stop()


def call(name: str, users: Collection[int]) -> socket.socket | None:
    """
    A blocking connection to whoever is at an abstract address; C{None} where nobody is, or
    one whose user is none of these.
    """
    caller = socket.socket(socket.AF_UNIX)
    try:
        caller.settimeout(PATIENCE)
        caller.connect(name)
        if peer_of(caller)[1] in users:
            return caller
    except OSError:
        pass
    caller.close()
    return None


def speak(caller: socket.socket, channel: Protocol, reactor: Any) -> None:
    """Let the reactor have a connection to another process."""
    with caller:
        caller.setblocking(False)
        reactor.adoptStreamConnection(
            caller.fileno(), socket.AF_UNIX, QuietFactory(lambda: channel)
        )


def connect(names: Sequence[str], reactor: Any) -> list[DescriptorChannel]:
    """Channels to those of these addresses at which there is somebody."""
    channels = []
    for name in names:
        caller = call(name, allowed_users())
        if caller is not None:
            channel = DescriptorChannel({}, lambda: None, reactor)  # who asks hears of an end
            speak(caller, channel, reactor)
            channels.append(channel)
    return channels
