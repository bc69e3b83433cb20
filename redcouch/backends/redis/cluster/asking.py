"""What is asked of the nodes of a cluster rarely enough to be awaited."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from redcouch.backends.redis.cluster.router import Errand, Router
from redcouch.backends.redis.cluster.slots import slot_of
from redcouch.backends.redis.cluster.topology import Address
from redcouch.backends.redis.connection import RedisConnection
from redcouch.backends.redis.exchange import Exchange
from redcouch.backends.redis.replies import check
from redcouch.backends.redis.resp import pack_command
from redcouch.errors import BackendError

Call = tuple[int, bytes]
"""A packed command, behind the slot that it is for."""


class SlotExchange:
    """Asks whichever node serves the key that stands behind a command's name."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def ask(self, *command: bytes) -> Any:
        """One command's reply; raises L{BackendError} where there is none, or an error."""
        (reply,) = await self.ask_all([command])
        return check(reply)

    async def ask_all(self, commands: Sequence[tuple[bytes, ...]]) -> Sequence[Any]:
        """
        The replies to several commands, errors of Redis among them. Those on one node
        are done in their order. (Of EVAL and EVALSHA, the key stands behind the script.)

        @raise BackendError: one has none.
        """
        keys = [command[3 if command[0].startswith(b"EVAL") else 1] for command in commands]
        calls = [
            (slot_of(key), pack_command(command))
            for key, command in zip(keys, commands, strict=True)
        ]
        return await call_all(self._router, calls)


async def run_for_slot(router: Router, slot: int, calls: Sequence[bytes]) -> Sequence[Any]:
    """See L{Run<redcouch.backends.redis.recovery.Run>}: on items of one slot."""
    try:
        return await call_all(router, [(slot, call) for call in calls])
    except BackendError as error:  # what came before may have been done
        raise BackendError(error.failed.kind, error.failed.message) from None


async def call_all(router: Router, calls: Sequence[Call]) -> Sequence[Any]:
    """
    The replies to packed commands with one reply each, errors of Redis among them.

    @raise BackendError: one has none.
    """
    found = []
    for one in await _at_once(router.ask(*call) for call in calls):
        if isinstance(one, BackendError):
            raise one
        found.append(one[0])
    return found


async def _at_once(
    questions: Iterable[Coroutine[Any, Any, Sequence[Any]]],
) -> list[Sequence[Any] | BackendError]:
    """The replies to several questions that do not wait for each other, or why there are none."""

    def error(failure: Failure) -> BackendError:
        failure.trap(BackendError)
        why: BackendError = failure.value  # type: ignore[assignment]
        return why

    asked = [Deferred.fromCoroutine(question).addErrback(error) for question in questions]
    return await gatherResults(asked, consumeErrors=True)


async def ask_masters(
    router: Router, commands: Callable[[RedisConnection], Sequence[tuple[bytes, ...]]]
) -> dict[Address, Sequence[Any] | BackendError]:
    """
    The replies of every master, or why there are none, in the order of their addresses.

    @param commands: gives what one of them is asked.
    """
    masters = router.masters
    answers = await _at_once(Exchange(link).ask_all(commands(link)) for _, link in masters)
    return {address: one for (address, _), one in zip(masters, answers, strict=True)}


async def call_on(router: Router, link: RedisConnection, calls: Sequence[Call]) -> Sequence[Any]:
    """The same for commands that this node is most likely the right one for."""
    if not calls:
        return []
    replies = [*await Exchange(link).send(b"".join([call for _, call in calls]), len(calls))]
    again = [place for place, reply in enumerate(replies) if Errand(b"", 1, (reply,)).undone]
    repeated = await call_all(router, [calls[place] for place in again])
    for place, reply in zip(again, repeated, strict=True):
        replies[place] = reply
    return replies
