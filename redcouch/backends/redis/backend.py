"""
L{IStorageBackend} over one Redis: a batch becomes one pipeline.

A codec packs the commands and reads their replies, the link sends and counts
off. What a batch needs beyond one round trip is rare: L{Recovery} does it where
reading says so, and a flush or a dump is L{RedisAdmin}'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from redcouch.backends.redis.admin import RedisAdmin
from redcouch.backends.redis.base import BaseBackend
from redcouch.backends.redis.connection import RedisConnection, Replies, Waiting
from redcouch.backends.redis.exchange import Exchange
from redcouch.backends.redis.recovery import Read, Recovery, read_batch
from redcouch.backends.redis.replies import Reader, Unfinished
from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.commands import Command
from redcouch.errors import BackendError
from redcouch.interfaces import Answer, BackendContext


class RedisBackend(BaseBackend):
    """See the module."""

    def __init__(self, link: RedisConnection, codec: ScriptCodec, context: BackendContext) -> None:
        exchange = Exchange(link, codec.scripts)
        admin = RedisAdmin(exchange, codec, context)
        super().__init__(link, codec, exchange, admin)
        self._link = link
        self._recovery = Recovery(exchange, codec)

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend}."""
        if len(commands) == 1:
            pack = self._packers.get(commands[0].__class__)
            if pack is not None:
                payload, replies, read = pack(commands[0])
                self._link.submit(payload, _Lone(self, commands, answer, replies, read))
                return
        else:
            packed = self._codec.pack(commands)
            if packed is not None:
                payload, replies, readers = packed
                self._link.submit(payload, _Batch(self, commands, answer, replies, readers))
                return
        self._perform_in_parts(commands, answer)

    def finish(self, commands: Sequence[Command], read: Read, answer: Answer) -> None:
        """Answer with results of which some are unfinished."""
        Deferred.fromCoroutine(self._recovery.finish(commands, read)).addBoth(answer)


class _Pending(Waiting):
    """Commands whose replies are on their way."""

    __slots__ = ("_answer", "_backend", "_commands", "_read")

    def __init__(
        self,
        backend: RedisBackend,
        commands: Sequence[Command],
        answer: Answer,
        replies: int,
        read: Reader | Sequence[tuple[int, Reader]],
    ) -> None:
        self.expected = replies
        self.replies = []
        self._backend = backend
        self._commands = commands
        self._answer = answer
        self._read = read


class _Lone(_Pending):
    """A batch of one command, which most are."""

    __slots__ = ()
    _read: Reader

    def done(self, replies: Replies) -> None:
        """Read the replies, and answer."""
        if isinstance(replies, BackendError):
            self._answer(Failure(replies))
            return
        result = self._read(self._commands[0], replies)
        if result.__class__ is Unfinished:
            self._backend.finish(self._commands, [result], self._answer)
        else:
            self._answer([result])


class _Batch(_Pending):
    """A batch of several."""

    __slots__ = ()
    _read: Sequence[tuple[int, Reader]]

    def done(self, replies: Replies) -> None:
        """Read the replies, and answer."""
        if isinstance(replies, BackendError):
            self._answer(Failure(replies))
            return
        read, unfinished = read_batch(self._commands, self._read, replies)
        if unfinished:
            self._backend.finish(self._commands, read, self._answer)
        else:
            self._answer(read)
