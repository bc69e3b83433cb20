"""What is asked of Redis rarely enough to be awaited, one question after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from redcouch.backends.redis.connection import RedisConnection, Replies
from redcouch.backends.redis.replies import LOST, check, failed_by
from redcouch.backends.redis.resp import pack_command
from redcouch.backends.redis.scripts import Script
from redcouch.errors import BackendError


class Exchange:
    """Over the connection that requests take, and in order with them."""

    def __init__(self, link: RedisConnection, scripts: Sequence[Script] = ()) -> None:
        self.link = link
        self._load = [pack_command((b"SCRIPT", b"LOAD", script.text)) for script in scripts]

    async def send(self, payload: bytes, replies: int) -> Sequence[Any]:
        """
        Send packed commands; gives their replies, errors of Redis among them.

        @raise BackendError: there are none. It does not say that nothing is done: of what these
            commands belong to, others may have been before.
        """
        answered: Deferred[Replies] = Deferred()
        self.link.send(payload, replies, answered.callback)
        answer = await answered
        if isinstance(answer, BackendError):
            raise BackendError(answer.failed.kind, answer.failed.message)
        return answer

    async def ask(self, *command: bytes) -> Any:
        """One command's reply; raises L{BackendError} where Redis answers with an error as well."""
        (reply,) = await self.send(pack_command(command), 1)
        return check(reply)

    async def ask_all(self, commands: Sequence[tuple[bytes, ...]]) -> Sequence[Any]:
        """The replies to several commands, errors of Redis among them."""
        return await self.send(b"".join(map(pack_command, commands)), len(commands))

    async def send_behind_scripts(self, payload: bytes, replies: int) -> Sequence[Any]:
        """The same as C{send}, after telling Redis the scripts, which it has forgotten."""
        load = self._load
        return (await self.send(b"".join([*load, payload]), len(load) + replies))[len(load) :]

    async def run(self, calls: Sequence[bytes]) -> list[Any]:
        """
        The replies to calls of scripts, in two round trips at most. They must
        be so that their order does not matter: those for which Redis has
        forgotten the scripts are done after the others.
        """
        if not calls:
            return []
        replies = [*await self.send(b"".join(calls), len(calls))]
        lost = [place for place, reply in enumerate(replies) if _is_lost(reply)]
        if lost:
            payload = b"".join([calls[place] for place in lost])
            again = await self.send_behind_scripts(payload, len(lost))
            for place, reply in zip(lost, again, strict=True):
                replies[place] = reply
        return replies


def _is_lost(reply: Any) -> bool:
    """Whether a reply says that the script was not there."""
    return isinstance(reply, Exception) and failed_by(reply) is LOST
