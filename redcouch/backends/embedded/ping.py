"""Asking a private Redis whether it answers, and little else."""

from __future__ import annotations

from typing import Any, TypeAlias

from hiredis import ReplyError
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.python.failure import Failure

from redcouch.backends.redis.sentinel import Conversation
from redcouch.process.clock import cancel
from redcouch.process.quiet_factory import QuietFactory

Command: TypeAlias = tuple[bytes, ...]

PING: Command = (b"PING",)

LONGEST_WAIT = 5.0
"""Seconds for an answer; one that takes longer counts as none."""


async def ask(reactor: Any, socket: str, *commands: Command) -> Any:
    """
    The reply to the last of these commands, over a connection of its own, once that is closed; an
    error of Redis is one. C{None} where there is no answer.
    """
    replies: list[Any] = []

    def heard(reply: Any) -> None:
        replies.append(reply)
        if len(replies) == len(commands):
            conversation.end()

    def over(_: Conversation, why: Failure) -> None:
        if not answer.called:
            answer.callback(replies[-1] if len(replies) == len(commands) else None)

    conversation = Conversation(heard, over)
    answer: Deferred[Any] = Deferred(lambda _: conversation.end())
    try:
        await UNIXClientEndpoint(reactor, socket).connect(QuietFactory(lambda: conversation))
    except ConnectError:
        return None
    giving_up = reactor.callLater(LONGEST_WAIT, conversation.end)
    for command in commands:
        conversation.send(*command)
    try:
        return await answer
    finally:
        cancel(giving_up)


def is_there(reply: Any) -> bool:
    """Whether a Redis that says this to a PING serves, be it only who has a password."""
    return reply == b"PONG" or (isinstance(reply, ReplyError) and str(reply).startswith("NOAUTH"))


def is_loading(reply: Any) -> bool:
    """Whether a Redis that says this is still reading its file."""
    return isinstance(reply, ReplyError) and str(reply).startswith("LOADING")
