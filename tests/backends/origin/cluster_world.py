"""
The same for a cluster: real scripts in a real Redis, each of which is a step of its own, as it is
where every key is on another node.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hiredis
from twisted.internet.defer import Deferred
from zope.interface import implementer

from redcouch.backends.redis import make_codec
from redcouch.backends.redis.cluster.fills import ClusterFills, FillRecords
from redcouch.backends.redis.fill_leases import DropLease, FillKeys
from redcouch.backends.redis.layout import Layout
from redcouch.backends.redis.recovery import Completion, read_batch
from redcouch.backends.redis.resp import pack_command
from redcouch.backends.redis.scripts import CLUSTER_SCRIPTS
from redcouch.commands import Command, Flush, Get, Inspect
from redcouch.interfaces import BackendContext, Health, IFillableBackend
from redcouch.results import Outcome, Result
from tests.backends.origin.world import World

_LAYOUT = Layout(cluster=True)


class BlockingRedis:
    """A connection on which everything is done at once."""

    def __init__(self, path: Path) -> None:
        #: Whose items it is about now.
        self.user: object = None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._reader = hiredis.Reader()
        for script in CLUSTER_SCRIPTS:
            self.ask(b"SCRIPT", b"LOAD", script.text)

    def close(self) -> None:
        self._socket.close()

    def send(self, payload: bytes, count: int) -> list[Any]:
        """The replies to packed commands."""
        self._socket.sendall(payload)
        replies: list[Any] = []
        while len(replies) < count:
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(65536))
            else:
                replies.append(reply)
        return replies

    def ask(self, *command: bytes) -> Any:
        """The reply to one command."""
        (reply,) = self.send(pack_command(command), 1)
        return reply


class SharedCluster:
    """Items in Redis, empty."""

    notes_removals = True

    def __init__(self, redis: BlockingRedis, context: BackendContext) -> None:
        self._redis = redis
        self._codec = make_codec(_LAYOUT, context)
        redis.user = self
        redis.ask(b"FLUSHALL")

    def for_worker(self, world: World, number: int) -> StagedCluster:
        return StagedCluster(world, self, number)

    def value(self, key: bytes) -> bytes | None:
        value = self.ask(b"HGET", _LAYOUT.prefix + key, b"v")
        return None if value is None else bytes.fromhex(value.decode())

    def evict(self, key: bytes) -> None:
        self.ask(b"DEL", _LAYOUT.prefix + key)

    def count_denied(self) -> int | None:
        denied: int = self.ask(b"HLEN", FillKeys.of(_LAYOUT).denied)
        return max(0, denied - 1)

    def ask(self, *command: bytes) -> Any:
        """
        The reply to a command. None for a world that has been left: what its coroutines do at
        their end, whenever they are collected, is no matter of the next world's.
        """
        return self._redis.ask(*command) if self._redis.user is self else None

    def perform(self, command: Command) -> Any:
        """The result of a command about an item, or all."""
        if isinstance(command, Flush):
            for key in self.ask(b"KEYS", b"rc:*"):
                self.ask(b"UNLINK", key)
            return Outcome.OK
        packed = self._codec.pack([command])
        assert packed is not None
        payload, count, readers = packed
        read, _ = read_batch([command], readers, self._redis.send(payload, count))
        completed = Completion(self.run, self._codec).complete([command], read)
        try:
            completed.send(None)
        except StopIteration as ended:
            return ended.value[0]
        raise AssertionError("it waits for something")

    async def run(self, calls: Sequence[bytes]) -> Sequence[Any]:
        """See L{redcouch.backends.redis.recovery.Run}."""
        return [self._redis.send(call, 1)[0] for call in calls]


@implementer(IFillableBackend)
class StagedCluster:
    """The cluster as one worker reaches it."""

    def __init__(self, world: World, shared: SharedCluster, number: int) -> None:
        self._world = world
        self._shared = shared
        self._number = number
        records = FillRecords(self.ask_all, _LAYOUT)
        self._fills = ClusterFills(
            self._perform, records, self._drop_all_leases, world._context().now
        )

    def start(self) -> Deferred[None]:
        started: Deferred[None] = Deferred()
        started.callback(None)
        return started

    def stop(self) -> Deferred[None]:
        return self.start()

    def statistics(self) -> Deferred[Mapping[str, int]]:
        raise NotImplementedError

    def health(self) -> Health:
        return Health(True)

    def execute(self, commands: Sequence[Command]) -> Deferred[list[Result]]:
        """See L{redcouch.interfaces.IStorageBackend}."""
        return Deferred.fromCoroutine(self._fills.execute(commands))

    async def _perform(self, commands: Sequence[Command]) -> list[Result]:
        """In one step, as there is one key."""
        reads = all(isinstance(command, Get | Inspect) for command in commands)
        where = "item reads" if reads else "item"
        results: list[Result] = await self._step(
            where, lambda: [*map(self._shared.perform, commands)]
        )
        return results

    async def _drop_all_leases(self) -> None:
        def drop() -> None:
            for key in self._shared.ask(b"KEYS", b"rc:*"):
                self._shared.perform(DropLease(key.removeprefix(b"rc:")))

        await self._step("item", drop)

    async def ask_all(self, commands: Sequence[tuple[bytes, ...]]) -> Sequence[Any]:
        """See L{redcouch.backends.redis.cluster.fills.AskEach}."""
        return [await self._ask_one(command) for command in commands]

    async def _ask_one(self, command: tuple[bytes, ...]) -> Any:
        key = command[3 if command[0].startswith(b"EVAL") else 1]
        if command[0] == b"HDEL" and key == FillKeys.of(_LAYOUT).changing:  # for which nobody waits
            return self._shared.ask(*command)
        where = "item" if key.startswith(_LAYOUT.prefix) else key.decode()
        where += " reads" if command[0] in (b"HMGET", b"HGETALL", b"HGET", b"HLEN") else ""
        return await self._step(where, lambda: self._shared.ask(*command))

    def _step(self, where: str, what: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self._world.add((where, self._number), lambda arrives, answers: answer.callback(what()))
        return answer
