"""
Filling in items from another cache, in a cluster: L{redcouch.backends.fill_leases} where no
script can have two keys.

The lease on an item is a field of the item's own hash, so that each script that changes the item
makes it void in the same step, as do a flush and a native C{DEL}. What else decides whether an
item may be filled in stands under keys of its own: the state, and the keys that are denied. It is
looked at when the lease is there already. Whoever forbids it does these two the other way round:
writes it down, then takes the lease away. So of two who are at it at the same time, either the one
that fills in sees that it must not, or the other one finds the lease.

The same order protects the stage. A member writes down that it is there, then reads the stage;
whoever changes that announces it, then reads who is there. A denial is over only if it is still
the one that was seen before the item was repaired: each has a name of its own. And an item
whose removal has been noted, which is done before it is removed on either side, is not said to be
repaired: who repairs writes to the other side, then reads these notes, then looks whether the item
is still what it was. So where both are at an item, either the removal comes behind that on the
other side, or it has been seen, or the item has gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from secrets import token_hex
from typing import Any, NamedTuple, TypeAlias

from redcouch.backends.fill_leases import (
    FILL_METHODS,
    LATE,
    MOST_DENIED,
    REMOVAL,
    AllowFill,
    Beat,
    CountDenied,
    DenyAllFills,
    DenyFill,
    EndChanges,
    Fill,
    FillState,
    ListDenied,
    RevokeAllLeases,
    RevokeLeases,
    TakeLease,
    keys_of,
)
from redcouch.backends.redis.fill_leases import (
    DropLease,
    FillKeys,
    PlaceLease,
    is_paused,
    noting,
    to_put_back,
)
from redcouch.backends.redis.layout import LEASE, Layout
from redcouch.backends.redis.replies import check, flat, is_wrong_type, read_hash
from redcouch.backends.redis.scripts import (
    DENIALS_ADD,
    DENIALS_REMOVE,
    MEMBER_BEAT,
    STATE_BEAT,
    Script,
    write,
)
from redcouch.commands import Command, Inspect
from redcouch.errors import BackendError
from redcouch.results import ErrorKind, Failed, Listed, Outcome, Result, is_no_item

_NAME = b""
"""The field of the denied keys' hash with a name of its own: no client's key."""

_TOGETHER = 1000
"""Keys that one command is about at most."""


AskEach: TypeAlias = Callable[[Sequence[tuple[bytes, ...]]], Awaitable[Sequence[Any]]]
"""
Gives the replies to several commands, errors of Redis among them, from whichever node serves the
key that each is about. Raises L{BackendError} where there are none.
"""


class Denials(NamedTuple):
    """
    What the state says of the denied keys.

    @ivar all: all keys are denied.
    @ivar name: which hash of them counts; empty for any.
    """

    all: bool
    name: bytes


class FillRecords:
    """
    What all who fill in items of a cluster know together. Each method takes its steps one after
    the other; what Redis refuses is raised as a L{BackendError}.
    """

    def __init__(self, ask_each: AskEach, layout: Layout) -> None:
        self._ask_each = ask_each
        self._layout = layout
        self._keys = FillKeys.of(layout)
        self._state, self._denied, self._members, self._changing = self._keys

    async def ask(self, *command: bytes) -> Any:
        """One command's reply."""
        (reply,) = await self.ask_all([command])
        return reply

    async def ask_all(self, commands: Sequence[tuple[bytes, ...]]) -> list[Any]:
        """The replies to several, in no order."""
        return [check(reply) for reply in await self._ask_each(commands)]

    async def _run(self, script: Script, key: bytes, *arguments: bytes) -> Any:
        return await self.ask(b"EVALSHA", script.sha, b"1", key, *arguments)

    # -- denying -------------------------------------------------------------------------------

    async def closed(self, keys: Sequence[bytes], now: float) -> list[Outcome | None]:
        """
        Why each of these keys must not be filled in: NOT_STORED (none may be), NOT_FOUND (not
        now); C{None} if it may.

        @param now: UNIX time in seconds.
        """
        names = (b"all", b"denials", b"from", b"until", b"stage")
        everything, name, begin, end, stage = await self.ask(b"HMGET", self._state, *names)
        there, *denials = await self.ask(b"HMGET", self._denied, _NAME, *keys)
        if everything or (name and name != there):
            return [Outcome.NOT_STORED] * len(keys)
        if is_paused(begin, end, now) or stage == b"redis-only":
            return [Outcome.NOT_FOUND] * len(keys)
        return [None if denial is None else Outcome.NOT_FOUND for denial in denials]

    async def deny(self, keys: Sequence[bytes]) -> Outcome:
        """See L{DenyFill}."""
        many = 0
        for begin in range(0, len(keys), _TOGETHER):
            some = keys[begin : begin + _TOGETHER]
            names = token_hex(8).encode(), token_hex(8).encode()
            name, many = await self._run(DENIALS_ADD, self._denied, *names, *some)
        known = await self._denials()
        if not known.name:
            await self.ask(*write(self._state, b"HSETNX", b"denials", name))
            known = await self._denials()
        done = known.name == name and not known.all and many <= MOST_DENIED
        if not done:
            await self.deny_all()
            await self.ask(b"UNLINK", self._denied)
        await self.drop_leases(keys)
        return Outcome.OK if done else Outcome.NOT_STORED

    async def deny_all(self) -> None:
        """Deny all keys. Leases are as they were."""
        await self.ask(*write(self._state, b"HSET", b"all", b"1"))

    async def drop_leases(self, keys: Sequence[bytes]) -> None:
        """Make leases on these keys void."""
        prefix = self._layout.prefix
        for begin in range(0, len(keys), _TOGETHER):
            some = keys[begin : begin + _TOGETHER]
            for reply in await self._ask_each([(b"HDEL", prefix + k, LEASE) for k in some]):
                if not is_wrong_type(reply):  # there, no lease can be
                    check(reply)

    async def _denials(self) -> Denials:
        everything, name = await self.ask(b"HMGET", self._state, b"all", b"denials")
        return Denials(everything is not None, name or b"")

    async def count(self, known: Denials | None = None) -> int | None:
        """See L{CountDenied}."""
        if known is None:
            known = await self._denials()
        if known.all:
            return None
        # In no order: nobody takes the name away while the state has it.
        name, many = await self.ask_all([(b"HGET", self._denied, _NAME), (b"HLEN", self._denied)])
        return None if known.name not in (b"", name) else max(0, many - 1)

    async def list_denied(self, most: int) -> dict[bytes, bytes]:
        """Some of those that are denied and of which no change is late, with the denial of each."""
        told = await self.ask(b"HRANDFIELD", self._denied, b"%d" % (most + 1), b"WITHVALUES")
        late = await self.being_changed(LATE)
        return {key: why for key, why in _without_name(told).items() if key not in late}

    async def all_denied(self) -> dict[bytes, bytes]:
        """All of them."""
        return _without_name(await self.ask(b"HGETALL", self._denied))

    async def allow(self, denials: Sequence[tuple[bytes, bytes]]) -> list[bool]:
        """Whether each of these keys is denied no longer, as this denial of it was the last."""
        done: list[bool] = []
        for begin in range(0, len(denials), _TOGETHER):
            words = [word for pair in denials[begin : begin + _TOGETHER] for word in pair]
            done += map(bool, await self._run(DENIALS_REMOVE, self._denied, *words))
        return done

    async def being_changed(self, kind: bytes) -> set[bytes]:
        """The keys whose items somebody is changing in this way."""
        return keys_of(kind, read_hash(await self.ask(b"HGETALL", self._changing)))

    # -- members -------------------------------------------------------------------------------

    async def beat(self, command: Beat) -> FillState:
        """See L{Beat}. First it is written down that the member is there."""
        said = (command.member, command.acknowledged, command.about)
        dropped = await self._drop_senseless()
        _, gone, nobody, noted = await self._run(MEMBER_BEAT, self._members, *said)
        if gone:
            with suppress(BackendError):  # the next beat does it
                await self.see_to_gone()
        version = b"%d" % command.version
        lost = to_put_back(command)
        known = (command.member, command.stage, version, lost, *flat(command.processes))
        stage, now, following, *numbers, everything, name = await self._run(
            STATE_BEAT, self._state, *known
        )
        holding, leads, lacking, left, senseless = numbers
        many = await self.count(Denials(everything == 1, name))
        return FillState(
            stage,
            now,
            following,
            holding == 1,
            many,
            leads == 1,
            lacking == 1,
            None if left < 0 else left,
            True,
            [*dropped, *nobody, *senseless],
            noted == 1,
        )

    async def _drop_senseless(self) -> list[bytes]:
        """Drop what is of another type than it should be, as if Redis had evicted it."""
        keys = (self._denied, self._members, self._changing)
        sizes = await self._ask_each([(b"HLEN", key) for key in keys])
        dropped = [key for key, size in zip(keys, sizes, strict=True) if is_wrong_type(size)]
        for key in dropped:
            await self.ask(b"UNLINK", key)
        return dropped

    async def see_to_gone(self) -> list[bytes]:
        """
        Deny what members that are gone have left undone, and forget them. Who began a change had
        been there before: so the changes are read first. Gives what made no sense.
        """
        dropped = await self._drop_senseless()
        doing = read_hash(await self.ask(b"HGETALL", self._changing))
        living, gone, nobody, _ = await self._run(MEMBER_BEAT, self._members, b"", b"", b"")
        left = {name: key for name, key in doing.items() if name.rpartition(b"/")[0] not in living}
        if left:
            await self.deny([*dict.fromkeys(left.values())])
            await self.note(EndChanges([*left]))
        if gone:
            await self._run(MEMBER_BEAT, self._members, b"", b"", b"", *gone)
        return [*dropped, *nobody]

    async def note(self, command: Command) -> None:
        """See L{noting}."""
        await self.ask(*noting(command, self._keys))


@dataclass
class ClusterFills:
    """
    Performs batches that have commands of L{redcouch.backends.fill_leases} in them: what is
    about items in one go, and the rest step by step, before or behind that.

    @ivar _perform: performs commands about items.
    @ivar _drop_all_leases: makes every lease void.
    @ivar _now: gives the UNIX time in seconds.
    @ivar _listed: the denials of the keys that were listed last.
    """

    _perform: Callable[[Sequence[Command]], Awaitable[list[Result]]]
    _records: FillRecords
    _drop_all_leases: Callable[[], Awaitable[None]]
    _now: Callable[[], float]
    _listed: dict[bytes, bytes] = field(default_factory=dict, init=False)

    async def execute(self, commands: Sequence[Command]) -> list[Result]:
        """
        The results.

        @raise BackendError: what all know together cannot be reached.
        """
        results: list[Result] = []
        for kind, group in groupby(commands, _alone):
            some = [*group]
            if kind is None:
                results += await self._about_items(some)
            elif kind is AllowFill:
                results += await self._if_possible(self._allow(some), len(some))
            else:
                for command in some:
                    results += await self._if_possible(self._about_all(command), 1)
        return results

    async def _if_possible(self, doing: Awaitable[list[Result]], count: int) -> list[Result]:
        """What a node refuses, as for lack of memory, is a result; that it is away is not."""
        try:
            return await doing
        except BackendError as error:
            if error.failed.kind is ErrorKind.UNAVAILABLE:
                raise
            return [error.failed] * count

    async def _about_items(self, commands: Sequence[Command]) -> list[Result]:
        items: list[Command] = []
        places: list[int] = []
        for place, command in enumerate(commands):
            if isinstance(command, RevokeLeases):
                items += map(DropLease, command.keys)
                places += [place] * len(command.keys)
                continue
            if isinstance(command, TakeLease):
                command = PlaceLease(command.key, token_hex(8).encode())
            items.append(command)
            places.append(place)
        results: list[Result] = [Outcome.OK] * len(commands)
        for at, result in zip(places, await self._perform(items) if items else [], strict=True):
            revoked = isinstance(commands[at], RevokeLeases)
            if not revoked or (isinstance(result, Failed) and not is_no_item(result)):
                results[at] = result
        leases = {
            at: command.key
            for at, command in enumerate(commands)
            if isinstance(command, TakeLease) and isinstance(results[at], bytes)
        }
        if leases:
            told = self._if_possible(self._closed([*leases.values()]), len(leases))
            for at, why in zip(leases, await told, strict=True):
                if why is not None:
                    results[at] = None if why is Outcome.NOT_FOUND else why
        return results

    async def _closed(self, keys: Sequence[bytes]) -> list[Result]:
        closed = await self._records.closed(keys, self._now())
        if vain := [key for key, why in zip(keys, closed, strict=True) if why is not None]:
            await self._records.drop_leases(vain)
        return [*closed]

    async def _allow(self, commands: Sequence[Any]) -> list[Result]:
        removed = await self._records.being_changed(REMOVAL)
        there = await self._perform([Inspect(command.key) for command in commands])
        results: list[Result] = [Outcome.NOT_STORED] * len(commands)
        denials: dict[int, tuple[bytes, bytes]] = {}
        for place, (command, item) in enumerate(zip(commands, there, strict=True)):
            token = item.cas if isinstance(item, Listed) else None
            known = self._listed.get(command.key)
            unclear = isinstance(item, Failed) and not is_no_item(item)
            if command.key in removed or unclear or known is None:
                continue
            if token == command.token:
                denials[place] = command.key, known
        for place, done in zip(
            denials, await self._records.allow([*denials.values()]), strict=True
        ):
            if done:
                results[place] = Outcome.OK
        return results

    async def _about_all(self, command: Command) -> list[Result]:
        records = self._records
        match command:
            case RevokeAllLeases():
                await self._drop_all_leases()
            case DenyFill():
                return [await records.deny(command.keys)]
            case DenyAllFills():
                await records.deny_all()
                await self._drop_all_leases()
                return [Outcome.NOT_STORED]
            case CountDenied():
                return [await records.count()]
            case ListDenied():
                self._listed = await records.list_denied(command.most)
                return [[*self._listed]]
            case Beat():
                return [await records.beat(command)]
            case _:
                await records.note(command)
        return [Outcome.OK]


_ALONE = FILL_METHODS.keys() - {TakeLease, Fill, RevokeLeases}
"""Commands that are not about items, or in several steps."""


def _alone(command: Command) -> type[Command] | None:
    return command.__class__ if command.__class__ in _ALONE else None


def _without_name(reply: Any) -> dict[bytes, bytes]:
    return {key: denial for key, denial in read_hash(reply).items() if key != _NAME}
