"""A proxy before Redis that lets something happen between two commands of a pipeline."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from twisted.internet.protocol import ClientCreator, Factory, Protocol


class _ToRedis(Protocol):
    """Hands one command at a time to Redis, and its reply back."""

    transport: Any
    client: _FromClient

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._reader = hiredis.Reader()

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        self.client.transport.write(data)
        if self._reader.gets() is not False:
            self.client.answered()

    def connectionLost(self, reason: Any = None) -> None:
        self.client.transport.abortConnection()


class _FromClient(Protocol):
    """Takes a pipeline apart."""

    transport: Any
    factory: Interleaver

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._reader = hiredis.Reader()
        self._commands: deque[list[bytes]] = deque()
        self._waiting = True
        self._redis: _ToRedis | None = None
        connected = self.factory.connect()
        connected.addCallback(self._connected)

    def _connected(self, redis: _ToRedis) -> None:
        redis.client = self
        self._redis = redis
        self.answered()

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            self._commands.append(command)
        if not self._waiting:
            self.answered()

    def answered(self) -> None:
        """Redis has nothing to do: send the next command, if there is one."""
        self._waiting = bool(self._commands)
        if self._waiting:
            assert self._redis is not None
            command = self._commands.popleft()
            self.factory.before(command)
            packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]
            self._redis.transport.write(packed)

    def connectionLost(self, reason: Any = None) -> None:
        if self._redis is not None:
            self._redis.transport.loseConnection()


class Interleaver(Factory):
    """
    @ivar before: called with each command before Redis sees it, once all
        commands before it are answered.
    """

    protocol: Any = _FromClient
    noisy = False

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self._port = port
        self.before: Callable[[list[bytes]], None] = lambda command: None

    def connect(self) -> Any:
        """A connection to Redis."""
        creator = ClientCreator(self._reactor, _ToRedis)
        return creator.connectTCP("127.0.0.1", self._port)
