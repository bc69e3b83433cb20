"""
A client's way from one process to another: its socket, and what is known of it.

That is the dialect, the user, bytes that have come and are not understood yet, and bytes of
replies that the client has not taken yet. Both kinds of bytes travel in an anonymous file,
so it does not matter how many there are.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from redcouch.handover.descriptors import (
    PATIENCE,
    DescriptorChannel,
    Listener,
    connect,
    private_name,
)
from redcouch.server.connection import Connection, ConnectionFactory
from redcouch.server.transit import Transit
from redcouch.workers.channel import Unanswered

_AT_ONCE = 16
"""Clients that are under way to another process."""


class Giver:
    """Gives the clients of this process to others."""

    _log = Logger()

    def __init__(self, adopters: Sequence[str], reactor: Any) -> None:
        """@param adopters: the addresses at which processes adopt clients."""
        self._channels = connect(adopters, reactor)
        self._waiting: deque[Connection] = deque()
        self._under_way = 0
        self._turn = 0
        self.given = 0

    def __bool__(self) -> bool:
        """Whether there is anybody who adopts them."""
        return bool(self._channels)

    def __call__(self, connection: Connection) -> None:
        """Give one client, for which nothing is under way. It is closed where nobody takes it."""
        self._waiting.append(connection)
        if self._under_way < _AT_ONCE:
            Deferred.fromCoroutine(self._give_all())

    async def _give_all(self) -> None:
        """
        Give whoever waits, one after another: each takes descriptors while it is under way, of
        which there may be few left.
        """
        self._under_way += 1
        while self._waiting:
            connection = self._waiting.popleft()
            if connection.transport.connected:
                try:
                    await self._give(connection, connection.pack())
                except Exception:
                    self._log.failure("Could not give a client")
        self._under_way -= 1

    async def _give(self, connection: Connection, transit: Transit) -> None:
        try:
            await self._ask(connection, transit)
        except Unanswered:
            connection.keep(transit)
        except Exception:
            connection.keep(transit)
            raise
        else:
            self.given += 1
            connection.let_go()

    async def _ask(self, connection: Connection, transit: Transit) -> None:
        """Raises L{Unanswered} where nobody takes it."""
        channels = [channel for channel in self._channels if channel.connected]
        if not channels:
            raise Unanswered("nobody is left")
        self._turn += 1
        channel = channels[self._turn % len(channels)]
        data = transit.unread + transit.unsent
        descriptors = [os.dup(connection.fileno())]
        try:
            if data:
                descriptors.append(os.memfd_create("redcouch-client"))
                with open(descriptors[-1], "wb", closefd=False) as file:
                    file.write(data)
            for descriptor in descriptors:
                channel.give(descriptor)
            await channel.ask("client", [transit.described(), bool(data)], seconds=PATIENCE)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def stop(self) -> None:
        """There is nobody left to give."""
        for channel in self._channels:
            transport: Any = channel.transport
            transport.loseConnection()


class Adopter:
    """Takes the clients that other processes give."""

    def __init__(self, factory: ConnectionFactory, reactor: Any) -> None:
        self._factory = factory
        self._reactor = reactor
        self._listener: Listener | None = None

    def start(self) -> str:
        """Begin; gives the address."""
        if self._listener is None:
            self._listener = Listener(private_name(), self._channel, self._reactor)
        return self._listener.name

    def stop(self) -> None:
        """Adopt no more."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    def _channel(self) -> DescriptorChannel:
        channel = DescriptorChannel(
            {"client": lambda what: self._adopt(channel, what)}, lambda: None, self._reactor
        )
        return channel

    def _adopt(self, channel: DescriptorChannel, what: tuple[dict[str, Any], bool]) -> bool:
        described, has_data = what
        with socket.socket(fileno=channel.take()) as client:
            data = b""
            if has_data:
                with open(channel.take(), "rb") as file:
                    file.seek(0)
                    data = file.read()
            self._factory.adopt(client, Transit.read(described, data))
        return True
