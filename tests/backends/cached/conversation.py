"""The cache over a connection on whose other end a test sits, in place of Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hiredis
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from redcouch.backends.registry import make_backend
from redcouch.commands import Command, Get
from redcouch.interfaces import BackendContext, IStorageBackend
from redcouch.limits import Limits

NOW = 1000.0

PONG = b"+PONG\r\n"

_PREPARATION = {
    b"HELLO": b"*0\r\n",
    b"INFO": b"$0\r\n\r\n",
    b"SCRIPT": b"+OK\r\n",
    b"EVALSHA": b":0\r\n",
    b"CLIENT": b"+OK\r\n",
    b"PTTL": b":-2\r\n",
    b"TOUCH": b":0\r\n",
    b"PING": PONG,
}
"""Redis's replies while a connection is prepared."""


def item(value: bytes, left: int = -1) -> bytes:
    """The replies to HMGET and PTTL."""
    return item_of(value) + b":%d\r\n" % left


def item_of(value: bytes) -> bytes:
    """The reply to HMGET of v, r, f, c, s and w, where the token is 5."""
    return fields_of(value.hex().encode(), None, b"0", b"5", None, None)


def fields_of(*fields: bytes | None) -> bytes:
    """The reply to HMGET that has these fields."""
    texts = [
        b"$-1\r\n" if text is None else b"$%d\r\n%b\r\n" % (len(text), text) for text in fields
    ]
    return b"*%d\r\n%b" % (len(fields), b"".join(texts))


MISS = fields_of(*[None] * 6) + b":-2\r\n"


def bulk(text: str) -> bytes:
    """A reply that is one text."""
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


def changed(*keys: bytes) -> bytes:
    """What Redis says when items have changed."""
    names = b"".join(b"$%d\r\nrc:%b\r\n" % (3 + len(key), key) for key in keys)
    return b">2\r\n$10\r\ninvalidate\r\n*%d\r\n%b" % (len(keys), names)


EMPTIED = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
"""What Redis says after FLUSHALL."""


class Conversation:
    """
    @ivar counts: what is counted.
    """

    def __init__(
        self,
        parameters: str = "cache=1m",
        refused: Mapping[str, bytes] | None = None,
        memory: str = "maxmemory:0",
    ) -> None:
        """
        @param refused: replies to commands of the preparation, by their names.
        @param memory: what Redis says of its memory.
        """
        self.memory = memory
        self.reactor = Clock()
        self.reactor.advance(NOW)
        self._refused = {name.encode(): reply for name, reply in (refused or {}).items()}
        context = BackendContext(self.reactor, Limits(), self.reactor.seconds, print)
        self.counts = context.counts
        url = f"redis+unix:///nowhere?{parameters}"
        self.storage: IStorageBackend = make_backend(url, context)
        # Neither the clock of this process nor a reactor that connects is asked: tests do both.
        inside: Any = self.storage
        read = inside._read
        read.func.__self__._now = self.reactor.seconds
        (self._link,) = read.args
        self._factory = self._link._factory
        self.connect()

    def connect(self) -> None:
        """A connection, prepared, over which C{get}s that have waited for it find C{w}."""
        self._protocol = self._factory.buildProtocol(None)
        self._transport = StringTransport()
        self._transport.bufferSize = 65536  # type: ignore[attr-defined]
        self._transport.abortConnection = self.lose  # type: ignore[method-assign]
        self._reader = hiredis.Reader()
        self._protocol.makeConnection(self._transport)
        while commands := self.sent():
            for name, *words in commands:
                usual = _PREPARATION.get(name, item_of(b"w"))
                if words == [b"memory"]:
                    usual = bulk(self.memory)
                self.say(self._refused.get(name) or usual)

    def tick(self) -> None:
        """Let a second pass, with what is done once a second."""
        self.reactor.advance(1)
        self._link._check_time()

    def lose(self) -> None:
        """Lose the connection."""
        self._protocol.connectionLost(Failure(ConnectionLost()))

    def sent(self) -> list[list[bytes]]:
        """What Redis has been sent since the last time, with the turn of the reactor ended."""
        self.reactor.advance(0)
        self._reader.feed(self._transport.value())
        self._transport.clear()
        commands = []
        while (command := self._reader.gets()) is not False:
            commands.append(command)
        return commands

    def names(self) -> list[bytes]:
        """The names of the commands alone."""
        return [name for name, *_ in self.sent()]

    def say(self, *replies: bytes) -> None:
        """Let Redis say this."""
        self._protocol.dataReceived(b"".join(replies))

    def ask(self, *commands: Command) -> list[Any]:
        """A list that is filled with a batch's results when there are any."""
        results: list[Any] = []

        def answer(said: Any) -> None:
            results.extend([said] if isinstance(said, Failure) else said)

        perform: Any = self.storage
        perform.perform(commands, answer)
        return results

    def get(self, *keys: bytes) -> list[Any]:
        """The same of one get."""
        return self.ask(Get(keys))

    def fill(self, key: bytes = b"k", value: bytes = b"v", left: int = -1) -> None:
        """Have an item in memory."""
        results = self.get(key)
        self.sent()
        self.say(item(value, left))
        assert values(results) == [[value]], results


def values(results: Sequence[Any]) -> list[Any]:
    """The values of items in results."""
    return [[found and found[0] for found in result] for result in results]
