"""
What is left to do for a batch after its one round trip, where reading the
replies has left results L{Unfinished}.

Redis may have forgotten the scripts (SCRIPT FLUSH). They are sent again, and
commands again after them, but never so that two of a client's commands change
places: if a later change was made in the meantime (because somebody else had
loaded the scripts between the two), the earlier one has failed, which is in
order, since a command that failed may stand anywhere. Then the questions that
are left are asked: those of all commands together. Last, what a refused large
set should have replaced is removed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from redcouch.backends.redis.exchange import Exchange
from redcouch.backends.redis.replies import LOST, NOTHING_DONE, Reader, Unfinished
from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.commands import Command, MetaGet
from redcouch.errors import BackendError
from redcouch.results import MetaItem, Result, Stored

_ATTEMPTS = 3

Read = list[Any]
"""Results, some of them L{Unfinished}."""


def read_batch(
    commands: Sequence[Command], readers: Sequence[tuple[int, Reader]], replies: Sequence[Any]
) -> tuple[Read, bool]:
    """What each command's replies say, and whether some result is L{Unfinished}."""
    results: Read = []
    unfinished = False
    at = 0
    for command, (count, read) in zip(commands, readers, strict=True):
        after = at + count
        result = read(command, replies[at:after])
        if result.__class__ is Unfinished:
            unfinished = True
        results.append(result)
        at = after
    return results, unfinished


Run: TypeAlias = Callable[[Sequence[bytes]], Awaitable[Sequence[Any]]]
"""Gives the replies to calls of scripts whose order does not matter. Raises L{BackendError}."""


class Completion:
    """Asks what is left to ask of a batch, and removes what must not live on."""

    def __init__(self, run: Run, codec: ScriptCodec) -> None:
        self._run = run
        self._codec = codec

    async def complete(self, commands: Sequence[Command], read: Read) -> list[Result]:
        """
        The final results.

        @raise BackendError: a refused item could not be removed.
        """
        await self._ask_more(read)
        results = [so_far(one) for one in read]
        await self._remove_refused(commands, results)
        return results

    async def _ask_more(self, read: Read) -> None:
        questions = [
            question for one in read if one.__class__ is Unfinished for question in one.questions
        ]
        while questions:
            replies: Sequence[Any]
            try:
                replies = await self._run([payload for payload, _ in questions])
            except BackendError as error:  # what has been read is true all the same
                replies = [error] * len(questions)
            further = [answer(reply) for (_, answer), reply in zip(questions, replies, strict=True)]
            questions = [question for question in further if question is not None]

    async def _remove_refused(self, commands: Sequence[Command], results: list[Result]) -> None:
        """Large sets that Redis had no memory for: their old items must not live on."""
        refused: set[bytes] = set()
        for command, result in zip(commands, results, strict=True):
            if result is NOTHING_DONE:
                refused.update(command.keys)
            elif result.__class__ is Stored:
                refused.difference_update(command.keys)
        await self._run([*map(self._codec.pack_removal, refused)])


class Recovery(Completion):
    """Finishes batches over one exchange."""

    def __init__(self, exchange: Exchange, codec: ScriptCodec) -> None:
        super().__init__(exchange.run, codec)
        self._exchange = exchange

    async def finish(self, commands: Sequence[Command], read: Read) -> list[Result]:
        """
        The final results.

        @raise BackendError: Redis could not be asked again.
        """
        for _ in range(_ATTEMPTS):
            first = first_to_repeat(commands, read, [*map(_is_lost, read)])
            if first is None:
                break
            read[first:] = await self._repeat(commands[first:])
        return await self.complete(commands, read)

    async def _repeat(self, commands: Sequence[Command]) -> Read:
        packed = self._codec.pack(commands)
        assert packed is not None  # they have been packed before
        payload, expected, readers = packed
        replies = await self._exchange.send_behind_scripts(payload, expected)
        return read_batch(commands, readers, replies)[0]


def first_to_repeat(commands: Sequence[Command], read: Read, undone: Sequence[bool]) -> int | None:
    """Where to begin again: after the last change that was made, if any is left undone there."""
    begin = 0
    for index, (command, one) in enumerate(zip(commands, read, strict=True)):
        if not undone[index] and not _may_be_read_again(command, so_far(one)):
            begin = index + 1
    return next((index for index in range(begin, len(read)) if undone[index]), None)


def _is_lost(one: Any) -> bool:
    if one.__class__ is not Unfinished:
        return False
    result = one.result
    return LOST in result if result.__class__ is list else result is LOST


def _may_be_read_again(command: Command, result: Result) -> bool:
    """Whether a command has changed nothing, not even who is the first to have read an item."""
    if not command.reply_only:
        return False
    if isinstance(command, MetaGet) and isinstance(result, MetaItem):
        return not result.won and (command.plain or command.no_update)
    return True


def so_far(one: Any) -> Result:
    """What is known of a result by now."""
    return one.result if one.__class__ is Unfinished else one
