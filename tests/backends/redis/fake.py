"""What listens where a Redis should be, and answers as a test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis
from twisted.internet.protocol import Factory, Protocol


class FakeRedis(Protocol):
    """Answers each command with what the test says."""

    factory: FakeRedisFactory
    transport: Any

    def connectionMade(self) -> None:
        self.factory.connections.append(self)
        self.factory.made += 1
        self._reader = hiredis.Reader()
        if self.factory.greeting:
            self.transport.write(self.factory.greeting)

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            loading = [word.upper() for word in command[:2]] == [b"SCRIPT", b"LOAD"]
            answer = self.factory.prepare if loading else self.factory.answer
            self.factory.speaker = self
            self.transport.write(answer(command))

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.connections.remove(self)


def nothing(command: list[bytes]) -> bytes:
    """What a Redis without any keys answers."""
    if command[0] == b"HMGET":
        fields = len(command) - 2
        return b"*%d\r\n" % fields + b"$-1\r\n" * fields
    return b"$-1\r\n"


class FakeRedisFactory(Factory):
    """Something that listens where a Redis should be."""

    protocol: Any = FakeRedis
    noisy = False

    def __init__(self) -> None:
        self.connections: list[FakeRedis] = []
        self.speaker: FakeRedis | None = None  # whose command is answered
        self.made = 0
        self.greeting = b""
        self.prepare: Callable[[list[bytes]], bytes] = lambda command: b"$2\r\nok\r\n"
        self.answer: Callable[[list[bytes]], bytes] = nothing
