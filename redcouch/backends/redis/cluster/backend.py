"""
L{IStorageBackend} over a cluster: a batch is split by slot into one pipeline for
each master, and its results are put together in order, whichever answers first.

Commands on one key keep their order, through redirections too: where a later
change of the key was done, an earlier one that was not is not repeated but has
failed. Commands on different keys may be done in either order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from redcouch.backends.fill_leases import FILL_METHODS
from redcouch.backends.redis.base import BaseBackend
from redcouch.backends.redis.cluster.admin import ClusterAdmin
from redcouch.backends.redis.cluster.asking import SlotExchange, run_for_slot
from redcouch.backends.redis.cluster.fills import ClusterFills, FillRecords
from redcouch.backends.redis.cluster.router import NOTHING_SENT, Errand, Router
from redcouch.backends.redis.cluster.slots import ItemSlots
from redcouch.backends.redis.connection import RedisConnection, RedisError, Replies, Waiting
from redcouch.backends.redis.recovery import Completion, Read, first_to_repeat
from redcouch.backends.redis.replies import Packed, Reader, Unfinished, error_code
from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.commands import Command, ManyKeysCommand
from redcouch.errors import BackendError
from redcouch.interfaces import Answer, BackendContext
from redcouch.results import ErrorKind, Failed


class ClusterBackend(BaseBackend):
    """See the module."""

    def __init__(self, router: Router, codec: ScriptCodec, context: BackendContext) -> None:
        exchange = SlotExchange(router)
        admin = ClusterAdmin(router, exchange, codec, context)
        super().__init__(router, codec, exchange, admin)
        self.router = router
        self._table = router.table
        self._slots = ItemSlots(codec.layout.prefix)
        records = FillRecords(exchange.ask_all, codec.layout)
        self._fills = ClusterFills(self.execute, records, admin.drop_all_leases, context.now)

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend}."""
        if len(commands) == 1:
            pack = self._packers.get(commands[0].__class__)
            keys = commands[0].keys
            if pack is not None and len(keys) == 1:
                link = self._table[self._slots.of(keys[0])]
                if link is not None:
                    packed = pack(commands[0])
                    link.submit(packed[0], _Lone(self, commands, answer, packed, link))
                    return
        if all(command.__class__ in self._packers for command in commands):
            self._split(commands, answer)
        elif any(command.__class__ in FILL_METHODS for command in commands):
            Deferred.fromCoroutine(self._fills.execute(commands)).addBoth(answer)
        else:
            self._perform_in_parts(commands, answer)

    def _split(self, commands: Sequence[Command], answer: Answer) -> None:
        """Give each master its part."""
        if self.router.is_early:
            self.router.first_attempt().addCallback(lambda _: self.perform(commands, answer))
            return
        pack = self._packers_for(commands)
        table, slots = self._table, self._slots
        batch = _Batch(answer, len(commands))
        parts: dict[RedisConnection | None, _Part] = {}
        for place, command in enumerate(commands):
            keys = command.keys
            if len(keys) == 1:
                link = table[slots.of(keys[0])]
                part = parts.get(link) or parts.setdefault(link, _Part(self, batch, link))
                part.add(command, pack[command.__class__](command), place, None)
                continue
            batch.results[place] = [None] * len(keys)
            places: dict[RedisConnection | None, list[int]] = {}
            for position, slot in enumerate(slots.of_all(keys)):
                places.setdefault(table[slot], []).append(position)
            for link, positions in places.items():
                some = _about(command, [keys[position] for position in positions])
                part = parts.get(link) or parts.setdefault(link, _Part(self, batch, link))
                part.add(some, pack[command.__class__](some), place, positions)
        batch.missing = len(parts)
        if not parts:
            answer(batch.results)
        for link, part in parts.items():
            if link is None:
                self.recover(part, None)
            else:
                link.submit(b"".join(part.payloads), part)

    def _packers_for(self, commands: Sequence[Command]) -> Mapping[type[Command], Any]:
        for command in commands:
            if not command.reply_only:
                return self._codec.packers_among_changes
        return self._packers

    def recover(self, part: _Part, replies: Sequence[Any] | None) -> None:
        """Repeat what a part of a batch has not done (C{None}: all of it), and finish it."""
        by_key: dict[bytes, list[_Piece]] = {}
        for piece in part.pieces(self.router, replies):
            by_key.setdefault(piece.key, []).append(piece)
        finished = gatherResults(
            [
                Deferred.fromCoroutine(self._finish_key(part.batch, key, pieces))
                for key, pieces in by_key.items()
            ],
            consumeErrors=True,
        )
        finished.addCallbacks(lambda _: part.batch.part_done(), part.batch.fail)

    async def _finish_key(self, batch: _Batch, key: bytes, pieces: list[_Piece]) -> None:
        """All commands of a part on one key, in order."""
        commands = [piece.command for piece in pieces]

        def first() -> int | None:
            undone = [piece.undone != "" for piece in pieces]
            if not any(undone):
                return None
            return first_to_repeat(commands, [piece.read() for piece in pieces], undone)

        slot = self._slots.of(key)
        packers = self._packers_for(commands)
        for piece in pieces:
            piece.payload, piece.expected, _ = packers[piece.command.__class__](piece.command)
        await self.router.settle(slot, pieces, first)
        run = partial(run_for_slot, self.router, slot)
        read: Read = [piece.read() for piece in pieces]
        try:
            results = await Completion(run, self._codec).complete(commands, read)
        except BackendError as error:  # other keys of the batch are still seen to
            results = [piece.result_of(error.failed) for piece in pieces]
        for piece, result in zip(pieces, results, strict=True):
            batch.fill(piece.place, piece.position, result)


class _Piece(Errand):
    """A command on one key, and where its result belongs."""

    __slots__ = ("_read", "command", "key", "place", "position")

    def __init__(
        self,
        command: Command,
        read: Reader,
        place: int,
        position: int | None,
        replies: Replies,
        asked: tuple[str, int],
    ) -> None:
        super().__init__(b"", 0, replies, asked)
        self.command = command
        self.key = command.keys[0]
        self.place = place
        self.position = position
        self._read = read

    def read(self) -> Any:
        """The result, perhaps an L{Unfinished} one; a failure where nothing was done."""
        if isinstance(self.replies, BackendError):
            failed = self.replies.failed
        elif why := self.undone:
            failed = Failed(ErrorKind.UNAVAILABLE, f"storage answered {error_code(why)}", True)
        else:
            return self._read(self.command, self.replies)
        return self.result_of(failed)

    def result_of(self, failed: Failed) -> Any:
        """What its command gives that has failed."""
        return [failed] if isinstance(self.command, ManyKeysCommand) else failed


class _Batch:
    """
    What one client has asked.

    @ivar missing: how many parts are not done yet.
    """

    __slots__ = ("_answer", "missing", "results")

    def __init__(self, answer: Answer, commands: int) -> None:
        self._answer: Answer | None = answer
        self.results: list[Any] = [None] * commands
        self.missing = 0

    def fill(self, place: int, position: int | None, result: Any) -> None:
        """Put a result where it belongs: a command's, or one of its keys'."""
        if position is None:
            self.results[place] = result
        else:
            self.results[place][position] = result[0]

    def part_done(self) -> None:
        """Answer, if this was the last part."""
        self.missing -= 1
        if not self.missing and self._answer is not None:
            self._answer(self.results)

    def fail(self, failure: Failure) -> None:
        """Answer with the first failure that there was."""
        answer, self._answer = self._answer, None
        if answer is not None:
            first: Any = failure.value
            answer(first.subFailure)


class _Part(Waiting):
    """What one master does of a batch."""

    __slots__ = ("_backend", "_entries", "_link", "batch", "payloads")

    def __init__(
        self, backend: ClusterBackend, batch: _Batch, link: RedisConnection | None
    ) -> None:
        super().__init__(0)
        self.batch = batch
        self.payloads: list[bytes] = []
        self._backend = backend
        self._link = link
        self._entries: list[tuple[Command, int, Reader, int, Sequence[int] | None]] = []

    def add(
        self, command: Command, packed: Packed, place: int, positions: Sequence[int] | None
    ) -> None:
        """One command, or the keys of it at these positions."""
        payload, expected, read = packed
        self.payloads.append(payload)
        self.expected += expected
        self._entries.append((command, expected, read, place, positions))

    def done(self, replies: Replies) -> None:
        """Read the replies, and note the results."""
        if not isinstance(replies, BackendError) and RedisError in map(type, replies):
            self._backend.recover(self, replies)
            return
        batch = self.batch
        at = 0
        read: list[tuple[Any, int, Sequence[int] | None]] = []
        for command, expected, reader, place, positions in self._entries:
            if isinstance(replies, BackendError):
                result: Any = replies.failed
                if isinstance(command, ManyKeysCommand):
                    result = [result] * len(command.keys)
            else:
                result = reader(command, replies[at : at + expected])
                at += expected
                if result.__class__ is Unfinished:
                    self._backend.recover(self, replies)
                    return
            read.append((result, place, positions))
        for result, place, positions in read:
            if positions is None:
                batch.results[place] = result
            else:
                into = batch.results[place]
                for position, one in zip(positions, result, strict=True):
                    into[position] = one
        batch.part_done()

    def pieces(self, router: Router, replies: Sequence[Any] | None) -> list[_Piece]:
        """Its commands key by key, with the replies to each; C{None}: nothing has been sent."""
        asked = ("", 0) if self._link is None else router.address_of(self._link)
        pieces = []
        at = 0
        for command, expected, read, place, positions in self._entries:
            keys = command.keys
            each = expected // len(keys)
            for number, key in enumerate(keys):
                one = command if len(keys) == 1 else _about(command, [key])
                position = None if positions is None else positions[number]
                said = NOTHING_SENT if replies is None else replies[at : at + each]
                at += each
                pieces.append(_Piece(one, read, place, position, said, asked))
        return pieces


class _Lone(Waiting):
    """A batch of one command on one key, which most are. It ends as it would beside others."""

    __slots__ = ("_answer", "_backend", "_commands", "_link", "_packed")

    def __init__(
        self,
        backend: ClusterBackend,
        commands: Sequence[Command],
        answer: Answer,
        packed: Packed,
        link: RedisConnection,
    ) -> None:
        self.expected = packed[1]
        self.replies = []
        self._backend = backend
        self._commands = commands
        self._answer = answer
        self._packed = packed
        self._link = link

    def done(self, replies: Replies) -> None:
        """Read the replies, and answer."""
        command = self._commands[0]
        if not isinstance(replies, BackendError) and replies[-1].__class__ is not RedisError:
            result = self._packed[2](command, replies)
            if result.__class__ is not Unfinished:
                self._answer([result])
                return
        batch = _Batch(self._answer, 1)
        batch.missing = 1
        part = _Part(self._backend, batch, self._link)
        part.add(command, self._packed, 0, None)
        part.done(replies)


def _about(command: Any, keys: list[bytes]) -> Command:
    """The same command about some of its keys."""
    some: Command = replace(command, keys=keys)
    return some
