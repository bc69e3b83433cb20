"""
The stage in which the old side is right: some clients still speak to it themselves.

Every command goes to the memcached that owns its key, and its outcome is what the client is
told. The storage follows: it has, of each key, what the owner has or nothing, as far as
clients come this way.

 - Before a change, its item is removed in the storage, and a lease is taken on it. What has come
   out is filled in by that lease. Where somebody else has changed the item meanwhile, the lease
   is void, and nobody knows which of the two came last there: it is removed once more.
 - A read is compared with what the storage has; where that is another item, it is brought over
   anew.

Nothing is read from the storage in this stage: so what clients change on the old side alone does
no harm. Before the storage is right, L{redcouch.cli.stage} compares the two.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from redcouch.backends.fill_leases import (
    Fill,
    NoteLack,
    RevokeLeases,
    TakeLease,
)
from redcouch.backends.origin.fetch import Execute, Fetcher
from redcouch.backends.origin.relay import KINDS, SILENT, refusal, request_for, result_of
from redcouch.backends.origin.replicate import from_now, notes_of_flush
from redcouch.commands import (
    Command,
    Delete,
    Discard,
    Effect,
    Flush,
    Get,
    GetAndTouch,
    Invalidate,
    MetaGet,
    Store,
)
from redcouch.errors import BackendError
from redcouch.memcached_client import protocol as wire
from redcouch.memcached_client.pool import OriginItem, OriginPool
from redcouch.memcached_client.protocol import Reply
from redcouch.memcached_client.time_budget import TimeBudget
from redcouch.results import Failed, MetaItem, Outcome, Result, Stored, says_away
from redcouch.value_lines import Lines

_GONE = (Delete, Discard, Invalidate)
"""After these there is no item, or one that is marked stale."""


@dataclass
class OriginFirst:
    """
    Performs commands in that stage.

    @ivar _ask: performs commands on the storage.
    @ivar _fetch: brings items over.
    @ivar _make_budget: gives what one request may wait for the old side.
    @ivar _found: told how many keys were read that the storage had as well, and how many
        neither side had.
    @ivar _now: gives the UNIX time in seconds.
    """

    _ask: Execute
    _old: OriginPool
    _fetch: Fetcher
    _make_budget: Callable[[], TimeBudget]
    _found: Callable[[int, int], None]
    _now: Callable[[], float]

    async def perform(self, commands: Sequence[Command]) -> list[Result]:
        """See L{IStorageBackend.execute<redcouch.interfaces.IStorageBackend.execute>}."""
        results: list[Result] = []
        for way, run in _runs(commands):
            try:
                results += await self._ways[way](self, run, self._make_budget())
            except BackendError as error:
                results += [error.failed] * len(run)
        return results

    async def _pass_on(self, run: Sequence[Command], time_budget: TimeBudget) -> list[Result]:
        """What no memcached is asked: lists of keys, and keys that its text cannot say."""
        if any(command.keys and command.effect is not Effect.READ for command in run):
            (noted,) = await self._ask([NoteLack()])
            if isinstance(noted, Failed):
                return [noted] * len(run)
        return await self._ask(run)

    async def _tell(
        self, run: Sequence[Command], time_budget: TimeBudget, also: Mapping[bytes, bytes] = {}
    ) -> tuple[list[Result], dict[bytes, Reply | None], set[bytes]]:
        """
        The results of commands; the replies to what is asked C{also}, by key, right after the
        command about it; the keys of which nobody has answered.
        """
        told: list[tuple[bytes, bytes]] = []
        for command in run:
            for key in command.keys:
                told.append((key, request_for(command, key, wire.name(key) or b"")))
                if key in also:
                    told.append((key, also[key]))
        replies = iter(await self._old.tell(told, time_budget))
        results: list[Result] = []
        extra: dict[bytes, Reply | None] = {}
        not_told: list[tuple[bytes, Reply | None]] = []
        silent: set[bytes] = set()
        for command in run:
            parts = []
            for key in command.keys:
                reply = next(replies)
                if not isinstance(command, MetaGet):
                    not_told.append((key, reply))
                if reply is None:
                    silent.add(key)
                parts.append(result_of(command, key, reply))
                if key in also:
                    extra[key] = next(replies)
            results.append(parts if isinstance(command, Get | GetAndTouch) else parts[0])
        await self._old.leave_to_renew([*not_told, *extra.items()], time_budget)
        return results, extra, silent

    # -- reading -----------------------------------------------------------------------------

    async def _read(self, run: Sequence[Command], time_budget: TimeBudget) -> list[Result]:
        keys = list(dict.fromkeys(key for command in run for key in command.keys))
        kept: Deferred[Any] = Deferred.fromCoroutine(_as_one(self._ask([Get(keys)])))
        results, _, silent = await self._tell(run, time_budget)
        (items,) = await kept
        if isinstance(items, Failed):
            raise BackendError(items.kind, items.message)
        there = {
            key: item
            for key, item in zip(keys, items, strict=True)
            if key not in silent and not says_away(item)
        }
        with suppress(BackendError):  # what it cannot be given, it does not need in this stage
            await self._follow(run, results, there, time_budget)
        return results

    async def _follow(
        self,
        run: Sequence[Command],
        results: Sequence[Result],
        kept: Mapping[bytes, Any],
        time_budget: TimeBudget,
    ) -> None:
        """The storage gets what was read, where it has something else."""
        wrong: set[bytes] = set()
        lacking: dict[bytes, int] = {}
        read = misses = 0
        for key, here in _read_items(run, results):
            read += 1
            misses += here is None or key not in kept
            if key not in kept or (here is not None and _is_same(here, kept[key])):
                continue  # nobody knows, or it is right
            if kept[key] is not None:
                wrong.add(key)
            if here is not None and not (isinstance(here, MetaItem) and here.stale):
                lacking[key] = here.size if isinstance(here, MetaItem) else len(here[0])
        self._found(read - misses - len(lacking), misses)
        if wrong:
            await self._ask([RevokeLeases([*wrong]), *map(Discard, wrong)])
        if lacking:
            await self._fetch.pull_found(lacking, time_budget)

    # -- changing ----------------------------------------------------------------------------

    async def _change(self, run: Sequence[Command], time_budget: TimeBudget) -> list[Result]:
        keys = [key for command in run for key in command.keys]
        leased = [key for command in run if not isinstance(command, _GONE) for key in command.keys]
        leases: dict[bytes, Any] = {}
        if leased:
            before = [RevokeLeases(keys), *map(Discard, keys), *map(TakeLease, leased)]
            done = await self._ask(before)
            leases = dict(zip(leased, done[-len(leased) :], strict=True))
            away = {
                key: result
                for key, result in zip(keys, done[1 : 1 + len(keys)], strict=True)
                if says_away(result)
            }
            if away:  # of a cluster, one node may be
                return await self._change_some(run, away, time_budget)
        also = {
            key: wire.read(wire.name(key) or b"")
            for command in run
            if not isinstance(command, _GONE) and not _tells_value(command)
            for key in command.keys
        }
        results, read, _ = await self._tell(run, time_budget, also)
        fills = [
            Fill(key, item.value, item.flags, item.exptime, lease)
            for key, item in self._outcomes(run, results, read)
            if isinstance(lease := leases.get(key), bytes)
        ]
        filled: set[bytes] = set()
        if fills:
            for fill, result in zip(fills, await self._ask(fills), strict=True):
                if isinstance(result, Stored):
                    filled.add(fill.key)
        doubtful = [key for key in keys if key not in filled]
        if doubtful:
            await self._ask([RevokeLeases(doubtful), *map(Discard, doubtful)])
        return results

    async def _change_some(
        self, run: Sequence[Command], away: Mapping[bytes, Any], time_budget: TimeBudget
    ) -> list[Result]:
        """The same, but for those that the storage cannot be asked about: these fail."""
        possible = [command for command in run if away.keys().isdisjoint(command.keys)]
        made = iter(await self._change(possible, time_budget) if possible else [])
        results: list[Result] = []
        for command in run:
            failed = next((away[key] for key in command.keys if key in away), None)
            if failed is None:
                results.append(next(made))
            elif isinstance(command, GetAndTouch):
                results.append([failed] * len(command.keys))
            else:
                results.append(failed)
        return results

    def _outcomes(
        self,
        run: Sequence[Any],
        results: Sequence[Result],
        read: Mapping[bytes, Reply | None],
    ) -> Iterator[tuple[bytes, OriginItem]]:
        """What the old side has after these, as far as it is known."""
        for command, result in zip(run, results, strict=True):
            if _tells_value(command):
                if isinstance(result, Stored) and not command.invalidate:
                    yield command.key, OriginItem(command.value, command.flags, command.exptime)
                continue
            for key in command.keys:
                reply = read.get(key)
                item = None if reply is None else self._old.read_item(reply)
                if item is not None:
                    yield key, item
                    if isinstance(command, Store) and isinstance(result, Stored):
                        result.size = len(item.value)

    async def _flush(self, run: Sequence[Command], time_budget: TimeBudget) -> list[Result]:
        return [await self._flush_once(command, time_budget) for command in run]

    async def _flush_once(self, command: Any, time_budget: TimeBudget) -> Result:
        """The storage comes first, since it may refuse; and once more after the old side."""
        (result,) = await self._ask([command])
        if result is not Outcome.OK:
            return result
        # What one of the past means the old side knows itself.
        left = from_now(command.exptime, self._now())
        told = wire.flush(command.exptime if left < 0 else left)
        answers = await self._old.tell_all(told, time_budget)
        for noted in await self._ask(notes_of_flush(command, self._now())):
            if isinstance(noted, Failed):
                return noted
        if None in answers:
            return SILENT
        refused = (reply for reply in answers if reply is not None and reply.code != b"OK")
        return next(map(refusal, refused), result)

    _ways: ClassVar[Mapping[str, Callable[..., Awaitable[list[Result]]]]] = {
        "read": _read,
        "change": _change,
        "flush": _flush,
        "pass on": _pass_on,
    }


def _tells_value(command: Command) -> bool:
    """Whether it says itself what there is after it."""
    return isinstance(command, Store) and command.plain


async def _as_one(asked: Awaitable[list[Result]]) -> list[Result]:
    """The same; that there is no answer is one."""
    try:
        return await asked
    except BackendError as error:
        return [error.failed]


def _way(command: Command) -> str:
    if isinstance(command, Flush):
        return "flush"
    if command.__class__ not in KINDS or any(wire.name(key) is None for key in command.keys):
        return "pass on"
    return "read" if command.effect is Effect.READ else "change"


def _runs(commands: Sequence[Command]) -> Iterator[tuple[str, list[Command]]]:
    """
    Runs of commands that go the same way and may be told together. Of those that
    change something, none has a key of another.
    """
    run: list[Command] = []
    way = ""
    seen: set[bytes] = set()
    for command in commands:
        its = _way(command)
        again = its == "change" and not seen.isdisjoint(command.keys)
        if run and (its != way or again):
            yield way, run
            run, seen = [], set()
        way = its
        run.append(command)
        seen.update(command.keys)
    if run:
        yield way, run


def _read_items(run: Sequence[Command], results: Sequence[Result]) -> Iterator[tuple[bytes, Any]]:
    """For each key that was read, what was found. Failures are left out."""
    for command, result in zip(run, results, strict=True):
        if not isinstance(command, Get | MetaGet):
            continue
        parts = result if isinstance(result, list | Lines) else [result]
        for key, part in zip(command.keys, parts, strict=True):
            if not isinstance(part, Failed):
                yield key, part


def _is_same(here: Any, there: Any) -> bool:
    """Whether the storage has what was found, as far as that tells."""
    if there is None or isinstance(there, Failed):
        return False
    value, flags, _ = there
    if isinstance(here, MetaItem):
        same = here.value == value if here.value else here.size == len(value)
        return same and here.flags == flags and not here.stale
    return bool(here[0] == value and here[1] == flags)
