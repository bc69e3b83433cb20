"""
L{IStorageBackend} over a storage and an old side.

Which side is right is a matter of the stage (L{redcouch.backends.origin.stages}). Where the
old one is, L{redcouch.backends.origin.origin_first} does the work; where the storage is right
alone, there is none to do. This is the stage between the two: the storage decides, what clients
are told comes from it, and it is never behind. What the two sides promise together is that
the old one has, of each key, either what the storage has or nothing:

 - A removal is done on the old side first, and awaited, so that whoever looks
   there after it has been answered finds nothing to bring back.
 - A change is done in the storage first, and then repeated on the old side with
   what came out. Then the storage is asked whether it still is as it was made:
   where another process has changed it meanwhile, nobody knows which of the two
   came last on the old side, and the item is removed there.
 - What could not be told to the old side, or may have been told in another order, is denied: it
   is not fetched before it has been repaired (L{redcouch.backends.origin.repair}).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha1
from itertools import count, groupby, islice
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from redcouch.backends.fill_leases import (
    LATE,
    MOST_DENIED,
    REMOVAL,
    BeginChanges,
    CountDenied,
    DenyAllFills,
    DenyFill,
    EndChanges,
    FillState,
    NoteLack,
    RevokeLeases,
    TakeLease,
)
from redcouch.backends.origin.fetch import Fetcher, check_each
from redcouch.backends.origin.origin_first import OriginFirst
from redcouch.backends.origin.progress import Progress
from redcouch.backends.origin.repair import Repairer
from redcouch.backends.origin.replicate import (
    ReplicatedChange,
    effect_of,
    from_now,
    lasts,
    missed,
    not_removed,
    notes_of_flush,
    replicated_changes,
)
from redcouch.backends.origin.rollback import LACKING
from redcouch.backends.origin.stages import Stage, StageFollower
from redcouch.backends.origin.url import OriginLocation
from redcouch.backends.wrapper import BackendWrapper
from redcouch.commands import Command, Delete, Discard, Effect, Get, Inspect, MetaGet
from redcouch.errors import BackendError, ConfigurationError
from redcouch.interfaces import Answer, BackendContext, Health, IFillableBackend, IStorageBackend
from redcouch.memcached_client import protocol as wire
from redcouch.memcached_client.pool import OriginPool
from redcouch.memcached_client.time_budget import TimeBudget
from redcouch.memcached_client.twisted_client import GRACE, OriginNode
from redcouch.process.clock import cancel
from redcouch.results import ErrorKind, Failed, Listed, Outcome, Result
from redcouch.urls import redact
from redcouch.value_lines import Lines

_REMOVALS = 3
"""How often an item is removed once more before it is denied."""

_FOR_MISSED = 60.0
"""Seconds in which it has to take note of these; nobody waits for it."""

_DENY_AGAIN = 1.0

_AT_A_TIME = 1000
"""Keys that are denied together; more might be tried again and again."""


_TOO_MUCH = "it has missed too many changes"

_LARGEST = 1024 * 1024 * 1024
"""Bytes of the largest value that a memcached can have."""


def warm(
    inner: IStorageBackend, location: OriginLocation, context: BackendContext
) -> OriginBackend:
    """
    The layer that fills a storage from old memcacheds.

    @raise ConfigurationError: the storage cannot be filled.
    """
    if not IFillableBackend.providedBy(inner):
        raise ConfigurationError(
            f"warm: {redact(location.storage)} cannot be filled from another cache"
        )
    reactor, limits = context.reactor, context.limits
    nodes = [
        OriginNode(address, location.timeout, max(_LARGEST, limits.max_item_size), reactor)
        for address in location.nodes
    ]
    progress = Progress(context.counts, redact(location.storage), reactor)
    owner = location.ring.owner
    old = OriginPool(nodes, owner, limits.max_item_size, context.now, progress.error)
    return OriginBackend(inner, old, progress, location, context)


class OriginBackend(BackendWrapper):
    """See the module."""

    hidden = frozenset({IFillableBackend})

    _log = Logger()

    def __init__(
        self,
        inner: IStorageBackend,
        old: OriginPool,
        progress: Progress,
        location: OriginLocation,
        context: BackendContext,
    ) -> None:
        super().__init__(inner)
        self._old = old
        self._progress = progress
        self._location = location
        self._now = context.now
        self._reactor = context.reactor
        self._fetcher = Fetcher(self._ask, old, progress.fetched, self._end)
        self._origin_first = OriginFirst(
            self._ask, old, self._fetcher, self._time_budget, progress.found, context.now
        )
        self._repairer = Repairer(self._ask, old, self._is_settled, context.now)
        self._stages = StageFollower(
            self._ask, self._about, self._processes, self._on_look, context.reactor
        )
        #: Batches that wait until each old memcached has answered, or failed to, or it takes
        #: too long; then None.
        self._waiting: list[Deferred[None]] | None = []
        self._waited: IDelayedCall | None = None
        #: Nothing is fetched or told any more.
        self._ended = False
        #: That is so, and the storage has not been told yet.
        self._ending = False
        self._numbers = count(1)
        #: Changes whose outcome is not known, with their keys and since when; to be denied.
        self._unsure: dict[bytes, tuple[bytes, float]] = {}
        #: The log has that they cannot be.
        self._refused = False
        #: Changes that the old side may be told of only now, with their keys and from when to when.
        self._late: dict[bytes, tuple[bytes, float, float]] = {}
        #: Changes that are over, which the storage has not been told.
        self._to_end: list[bytes] = []
        #: When each node has come to answer; None while it is away.
        self._up_since: list[float | None] = [None] * len(old.nodes)
        self._repairing = False
        #: Something is to be repaired on a node that was away.
        self._is_behind = False
        #: Not all that the storage has is there.
        self._is_lacking = False
        self._timer: IDelayedCall | None = None
        self._stopped = False
        for place, node in enumerate(old.nodes):
            node.on_up = partial(self._on_up, place)

    # -- IStorageBackend ---------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        self._progress.start()
        started = maybeDeferred(super().start)
        self._stages.start()
        started.addCallback(lambda _: self._stages.look_soon())
        self._connect()
        return started

    def _connect(self) -> None:
        Deferred.fromCoroutine(self._begin()).addErrback(
            lambda failure: self._log.failure("Could not begin to warm", failure)
        )

    async def _begin(self) -> None:
        await self._old.start()
        self._let_begin()

    async def _until_begun(self) -> None:
        if self._waiting is None:
            return
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        if self._waited is None:
            self._waited = self._reactor.callLater(self._location.timeout, self._let_begin)
        await turn

    def _let_begin(self) -> None:
        cancel(self._waited)
        waiting, self._waiting = self._waiting, None
        for batch in waiting or ():
            batch.callback(None)

    def stop(self) -> Deferred[None]:
        self._stopped = True
        cancel(self._timer)
        self._let_begin()
        self._progress.stop()
        self._old.stop()
        return Deferred.fromCoroutine(self._leave(super().stop))

    async def _leave(self, stop_storage: Callable[[], Deferred[None]]) -> None:
        await self._stages.stop(bool(self._late or self._unsure))
        await maybeDeferred(stop_storage)

    def health(self) -> Health:
        """As of the storage; impaired where an old memcached is away that is still asked."""
        health = super().health()
        if health.ready and self._stages.refusal:
            return Health(False, self._stages.refusal)
        away = [node.address.shown for node in self._old.nodes if not node.up]
        asked = not self._ended and self._stages.stage is not Stage.REDIS_ONLY
        if health.ready and away and asked:
            reason = f"the old memcached is away: {', '.join(away)}"
            health = Health(False, reason, impaired=True)
        served = self._waiting is None and self._stages.is_open
        return replace(health, impaired=health.impaired and served)

    def statistics(self) -> Deferred[Mapping[str, int]]:
        return Deferred.fromCoroutine(self._statistics(super().statistics()))

    async def _statistics(self, of_storage: Awaitable[Mapping[str, int]]) -> Mapping[str, int]:
        found = dict(await of_storage)
        (denied,) = await self._ask([CountDenied()])
        if not isinstance(denied, Failed):
            found["warm_barred"] = MOST_DENIED if denied is None else denied
            found["warm_ended"] = int(denied is None)
        if self._stages.stage is not None:
            found["warm_stage"] = self._stages.stage.number
        state = self._stages.state
        found["warm_lacking"] = int(state.lacking)
        if state.left is not None:
            found["warm_left"] = state.left
        found["warm_old_away"] = sum(not node.up for node in self._old.nodes)
        found["warm_old_up"] = sum(node.up for node in self._old.nodes)
        return found

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend<redcouch.interfaces.IDirectBackend>}."""
        stages = self._stages
        if not stages.is_open:
            stages.wait(partial(self.perform, commands, answer), answer)
            return
        answer = stages.counted(answer)
        stage = stages.stage
        if stage is Stage.REDIS_FIRST and not self._ended:
            if self._waiting is None and len(commands) == 1 and commands[0].__class__ is Get:
                self._read_at_once(commands[0], answer)
            else:
                Deferred.fromCoroutine(self._perform(commands)).addBoth(answer)
        elif stage is Stage.ORIGIN_FIRST:
            Deferred.fromCoroutine(self._perform_there(commands)).addBoth(answer)
        else:
            self._perform_inner(commands, answer)

    async def _perform_there(self, commands: Sequence[Command]) -> list[Result]:
        await self._until_begun()
        return await self._origin_first.perform(commands)

    # -- the storage itself ------------------------------------------------------------------

    def _ask(self, commands: Sequence[Command]) -> Awaitable[list[Result]]:
        """What the storage makes of commands. Raises L{BackendError}."""
        answer: Deferred[list[Result]] = Deferred()
        self._perform_inner(commands, answer.callback)
        return answer

    # -- a batch -----------------------------------------------------------------------------

    def _read_at_once(self, command: Any, answer: Answer) -> None:
        """One get, which most batches are: nothing more happens where it finds everything."""

        def found(results: list[Result] | Failure) -> None:
            if isinstance(results, Failure) or not isinstance(results[0], list | Lines):
                answer(results)
            elif None not in results[0]:
                self._progress.found(len(results[0]), 0)
                answer(results)
            else:
                reading = self._complete([command], results, self._time_budget())
                Deferred.fromCoroutine(reading).addBoth(answer)

        self._perform_inner([command], found)

    async def _perform(self, commands: Sequence[Command]) -> list[Result]:
        """Runs of commands that do the same to their items, one after the other."""
        await self._until_begun()
        results: list[Result] = []
        now = self._now()
        for effect, run in groupby(commands, lambda command: effect_of(command, now)):
            together = list(run)
            try:
                results += await self._ways[effect](self, together, self._time_budget())
            except BackendError as error:
                results += [error.failed] * len(together)
        return results

    def _time_budget(self, seconds: float | None = None) -> TimeBudget:
        return TimeBudget(self._location.timeout if seconds is None else seconds, self._reactor)

    async def _pass_on(self, run: list[Command], time_budget: TimeBudget) -> list[Result]:
        return await self._ask(run)

    # -- reading -----------------------------------------------------------------------------

    async def _read(self, run: list[Command], time_budget: TimeBudget) -> list[Result]:
        return await self._complete(run, await self._ask(run), time_budget)

    async def _complete(
        self, run: Sequence[Command], results: list[Result], time_budget: TimeBudget
    ) -> list[Result]:
        """The results of reading, with what the old side has where there was nothing."""
        lacking = [key for one in zip(run, results, strict=True) for key in missed(*one)]
        fetched = await self._fetcher.fetch(lacking, time_budget) if lacking else {}
        counted = sum(len(one.keys) for one in run if isinstance(one, Get | MetaGet))
        self._progress.found(counted - len(lacking), len(lacking) - len(fetched))
        again: list[int] = []
        for place, (command, result) in enumerate(zip(run, results, strict=True)):
            if isinstance(result, list | Lines):
                pairs = zip(command.keys, result, strict=True)
                results[place] = [
                    fetched.get(key) if found is None else found for key, found in pairs
                ]
            elif result is None and fetched.keys() & command.keys:
                again.append(place)
        if again:
            for place, result in zip(again, await self._ask([run[i] for i in again]), strict=True):
                results[place] = result
        return results

    async def _pull_lacking(self, keys: Iterable[bytes], time_budget: TimeBudget) -> None:
        """Bring over those that the storage does not have."""
        keys = list(dict.fromkeys(keys))
        if keys:
            there = check_each(await self._ask([*map(Inspect, keys)]))
            lacking = [key for key, listed in zip(keys, there, strict=True) if listed is None]
            await self._fetcher.fetch(lacking, time_budget)

    # -- changing ----------------------------------------------------------------------------

    async def _change(self, run: list[Command], time_budget: TimeBudget) -> list[Result]:
        keys = [key for command in run for key in command.keys]
        several = len(set(keys)) < len(keys)
        # Where a key is there twice, trying again would turn the order round.
        ahead = [
            key
            for command in run
            if command.conditional and (several or command.creates)
            for key in command.keys
        ]
        await self._pull_lacking(ahead, time_budget)
        made = False
        names = {self._name(): key for key in keys if wire.name(key) is not None}
        if len(names) < len(keys):
            await self._note_untold()
        try:
            results = await self._make(run, names)
            made = True
            if not several:
                await self._try_again(run, results, time_budget)
        except BackendError as error:
            if made or not error.failed.undone:
                await self._be_unsure(names, time_budget)
            raise
        try:
            await self._replicate(replicated_changes(run, results, self._now()), time_budget)
        except BackendError:  # it is done; what the old side has is seen to later
            await self._be_unsure(names, time_budget)
        else:
            self._end_changes(names)
        return results

    def _end_changes(self, names: Iterable[bytes]) -> None:
        """Nobody waits for it; where it fails, it is tried again at the next look."""
        ending = [*names]

        def ended(results: list[Result] | Failure) -> None:
            if isinstance(results, Failure) or isinstance(results[0], Failed):
                self._to_end += ending

        if ending:
            self._perform_inner([EndChanges(ending)], ended)

    async def _be_unsure(self, names: dict[bytes, bytes], time_budget: TimeBudget) -> None:
        """Nobody knows what has become of these changes, before the storage is there again."""
        await self._note_unsure(names, time_budget)
        await self._old.delete(names.values(), time_budget)

    async def _note_unsure(self, names: Mapping[bytes, bytes], time_budget: TimeBudget) -> None:
        self._unsure |= {name: (key, time_budget.began) for name, key in names.items()}
        if len(self._unsure) > MOST_DENIED:
            await self._deny_all(_TOO_MUCH)

    async def _make(
        self, run: Sequence[Command], names: Mapping[bytes, bytes] = {}
    ) -> list[Result]:
        """
        Do it in the storage. Leases on what these commands create go before;
        those on what they change went when it came here. So does a note of what is begun, by
        these names: whoever finds it when this process is gone knows what the old side may
        have missed.
        """
        before: list[Command] = [BeginChanges(names)] if names else []
        keys = [key for command in run if command.creates for key in command.keys]
        if keys:
            before.append(RevokeLeases(keys))
        return (await self._ask([*before, *run]))[len(before) :]

    async def _try_again(
        self, run: Sequence[Command], results: list[Result], time_budget: TimeBudget
    ) -> None:
        """What has found nothing in the storage may find what the old side has."""
        lacking: dict[int, list[bytes]] = {}
        for place, command in enumerate(run):
            if not command.creates:
                keys = list(missed(command, results[place]))
                if keys:
                    lacking[place] = keys
        if not (lacking and self._old.up):
            return
        await self._fetcher.fetch((key for keys in lacking.values() for key in keys), time_budget)
        # Even if nothing was fetched: another process may have been faster.
        again = await self._make([run[place] for place in lacking])
        for place, result in zip(lacking, again, strict=True):
            results[place] = result

    async def _replicate(self, told: Sequence[ReplicatedChange], time_budget: TimeBudget) -> None:
        """
        Repeat on the old side what was done. What is not the same is removed there, and so that
        it is put there again, denied; so is what it has not heard, or does not have.
        """
        if not told:
            return
        replies = await self._old.tell(
            [(change.key, change.request) for change in told], time_budget
        )
        answers = list(zip(told, replies, strict=True))
        unheard = {change.key for change, reply in answers if reply is None or change.lacks(reply)}
        doubtful = {
            change.key
            for change, reply in answers
            if reply is not None and not change.agrees(reply)
        }
        doubtful |= await self._changed_since(told)
        if doubtful:
            await self._old.delete(doubtful, time_budget)
        if unheard or doubtful:  # after that, or what is repaired at once would be removed
            await self._deny([*(unheard | doubtful)], time_budget.began)

    async def _changed_since(self, told: Sequence[ReplicatedChange]) -> set[bytes]:
        """The keys whose item in the storage is no longer what these changes have made."""
        tokens = {change.key: change.token for change in told if change.token is not None}
        expiries = {change.key: change.exptime for change in told if change.exptime is not None}
        keys = [*{**tokens, **expiries}]
        if not keys:
            return set()
        try:
            listed = await self._ask([*map(Inspect, keys)])
        except BackendError:
            return set(keys)
        now = self._now()
        return {
            key
            for key, item in zip(keys, listed, strict=True)
            if not isinstance(item, Listed)
            or item.cas != tokens.get(key, item.cas)
            or not lasts(item.ttl, expiries.get(key), now)
        }

    # -- removing ----------------------------------------------------------------------------

    async def _remove(self, run: list[Command], time_budget: TimeBudget) -> list[Result]:
        asking = [key for command in run if command.conditional for key in command.keys]
        await self._pull_lacking(asking, time_budget)
        refused = await self._other_tokens(run)
        removing = [command for place, command in enumerate(run) if place not in refused]
        keys = [key for command in removing for key in command.keys]
        if None in map(wire.name, keys):
            await self._note_untold()
        names = {self._name(REMOVAL): key for key in keys}
        noted = names if self._stages.state.notes_removals else {}
        try:
            if noted:
                await self._ask([BeginChanges(noted)])
            had = await self._remove_old(keys, time_budget)
            made = iter(await self._remove_here(removing, keys, time_budget))
        except BackendError:  # it may have still what the old side has not any more
            await self._note_unsure(names, time_budget)
            raise
        finally:
            self._end_changes(noted)
        results = [Outcome.EXISTS if place in refused else next(made) for place in range(len(run))]
        missed = (one for one, said in zip(run, results, strict=True) if said is Outcome.NOT_FOUND)
        had -= await self._denied(had.intersection(key for one in missed for key in one.keys))
        for place, command in enumerate(run):
            there = isinstance(command, Delete) and command.key in had
            if there and results[place] is Outcome.NOT_FOUND:
                results[place] = Outcome.DELETED
            had.difference_update(command.keys)
        return results

    async def _remove_here(
        self, removing: Sequence[Command], keys: Sequence[bytes], time_budget: TimeBudget
    ) -> list[Result]:
        """
        Remove in the storage what the old side does not have any more. If somebody was at such
        an item, it may be there again, from a repair: then it is removed once more, on both sides.
        What stays here all the same, the old side gets again.
        """
        revoked, *results = await self._ask([RevokeLeases(keys), *removing])
        if left := [*not_removed(removing, results)]:
            await self._deny(left, time_budget.began)
        keys = [key for key in keys if key not in left]
        marked = {  # stale, unless removed by a later command
            key: result is Outcome.OK
            for command, result in zip(removing, results, strict=True)
            for key in command.keys
        }
        discards = [Discard(key) for key in keys if not marked[key]]
        for _ in range(_REMOVALS):
            if not keys or _taken(revoked) is not Outcome.DELETED:
                return results
            await self._remove_old(keys, time_budget)
            (revoked, *_) = await self._ask([RevokeLeases(keys), *discards])
        await self._deny(keys, time_budget.began)
        return results

    async def _remove_old(self, keys: Sequence[bytes], time_budget: TimeBudget) -> set[bytes]:
        """Remove items on the old side, or see to it that they are never fetched. Which it had."""
        had, untold = await self._old.delete(keys, time_budget)
        if untold:
            await self._deny(untold, time_budget.began)
        return had

    async def _denied(self, keys: set[bytes]) -> set[bytes]:
        """Those that are not fetched now: what the old side had of them was an item to nobody."""
        if not keys:
            return set()
        leases = await self._ask([*map(TakeLease, keys), RevokeLeases([*keys])])
        nothing = (None, Outcome.NOT_STORED)
        return {key for key, lease in zip(keys, leases, strict=False) if lease in nothing}

    async def _other_tokens(self, run: Sequence[Command]) -> set[int]:
        """
        The places of commands that compare a token with another one: what
        they would remove is to stay, on both sides.
        """
        tokens = {
            place: token
            for place, command in enumerate(run)
            if (token := getattr(command, "compare", None)) is not None
        }
        keys = [key for command in run for key in command.keys]
        if not tokens or len(set(keys)) < len(keys):
            return set()
        looks = [Inspect(run[place].keys[0]) for place in tokens]
        return {
            place
            for (place, token), listed in zip(tokens.items(), await self._ask(looks), strict=True)
            if isinstance(listed, Listed) and listed.cas != token
        }

    async def _flush(self, run: list[Command], time_budget: TimeBudget) -> list[Result]:
        return [await self._flush_once(command, time_budget) for command in run]

    async def _flush_once(self, command: Any, time_budget: TimeBudget) -> Result:
        """
        Both sides. The storage comes first, since it may refuse; and once more
        after the old side, for what was fetched between the two.
        """
        (result,) = await self._ask([command])
        if result is not Outcome.OK:
            return result
        exptime = from_now(command.exptime, self._now())
        answers = await self._old.tell_all(wire.flush(exptime), time_budget)
        done = all(reply is not None and reply.code == b"OK" for reply in answers)
        if not done:
            await self._deny_all("a flush_all did not reach it")
        for noted in await self._ask(notes_of_flush(command, self._now())):
            _taken(noted)
        return result

    # -- what the old side has missed ----------------------------------------------------------

    async def _deny(self, keys: Sequence[bytes], since: float) -> None:
        """
        Do not fetch these: what the old side has of them may be out of date. Nobody repairs them
        while what it was told since then may still be on its way there: it would come after that.

        @raise BackendError: the storage takes no note of it now.
        """
        if self._ended:
            return
        when = since, self._reactor.seconds()
        late = {self._name(LATE): key for key in keys if not self._owner(key).is_through(*when)}
        self._late |= {name: (key, *when) for name, key in late.items()}
        before = [BeginChanges(late)] if late else []
        results = await self._ask([*before, DenyFill(keys)])
        if isinstance(results[0], Failed):  # nothing is noted, and it may be tried often
            for name in late:
                self._late.pop(name, None)
        if _taken(results[-1]) is Outcome.NOT_STORED:
            self._end(_TOO_MUCH)
        else:
            self._stages.look_soon()

    def _name(self, kind: bytes = b"/") -> bytes:
        """Of a change, for L{BeginChanges}."""
        return b"%b%b%d" % (self._stages.member, kind, next(self._numbers))

    def _owner(self, key: bytes) -> OriginNode:
        return self._old.nodes[self._old.owner(key)]

    async def _note_untold(self) -> None:
        """Before a change: of one of its keys the old side cannot be told, and keeps its own."""
        if self._ended:
            return
        (noted,) = await self._ask([NoteLack()])
        _taken(noted)

    async def _deny_all(self, why: str) -> None:
        """Fetch nothing any more, in any process; tried until it is noted."""
        self._end(why)
        self._ending = True
        try:
            (result,) = await self._ask([DenyAllFills()])
        except BackendError as error:
            result = error.failed
        if not isinstance(result, Failed):
            self._ending = False
        elif not self._stopped:
            self._timer = self._reactor.callLater(
                _DENY_AGAIN, lambda: Deferred.fromCoroutine(self._deny_all(why))
            )

    def _end(self, why: str = "it has missed too much, as another process says") -> None:
        if self._ended:
            return
        self._ended = True
        self._unsure.clear()
        cancel(self._timer)
        self._old.stop()
        self._log.error(
            "Nothing is fetched from the old memcached any more, and nothing told to it "
            "({reason}): the storage serves alone, as --storage {storage} does",
            reason=why,
            storage=redact(self._location.storage),
        )

    # -- all processes together ----------------------------------------------------------------

    def _about(self) -> dict[str, Any]:
        """What others may know of this process: its old side, and who of that answers."""
        return {
            "origin": origin_digest(self._location.parameters),
            "up": [int(node.up) for node in self._old.nodes],
            "ports": [port for node in self._old.nodes if (port := node.local_port) is not None],
        }

    def _processes(self) -> dict[bytes, bytes]:
        """Which process of each old memcached answers."""
        told = ((node.address.shown, node.process) for node in self._old.nodes)
        return {name.encode(): process.encode() for name, process in told if process is not None}

    def _on_up(self, place: int) -> None:
        self._up_since[place] = self._reactor.seconds()

    def _is_settled(self, place: int) -> bool:
        """Whether a node answers, and has done what was on its way when it went."""
        since = self._up_since[place]
        up = self._old.nodes[place].up and since is not None
        return up and self._reactor.seconds() - since >= GRACE

    def _on_look(self, state: FillState) -> None:
        """What the storage says, a few times a second."""
        if state.lacking and not self._is_lacking:
            self._log.warn("Going back is not safe, because {why}", why=LACKING)
        self._is_lacking = state.lacking
        if state.denied is None:
            self._end()
        elif self._ended and not self._ending:  # an operator has emptied the old side, and said so
            self._ended = False
            self._connect()
        to_end, self._to_end = self._to_end, []
        alone = self._stages.stage is Stage.REDIS_ONLY
        late = self._late.items()
        over = [name for name, (key, *when) in late if alone or self._owner(key).is_through(*when)]
        for name in over:
            del self._late[name]
        self._end_changes([*to_end, *over])
        if self._unsure:
            Deferred.fromCoroutine(self._deny_unsure()).addErrback(_unless_away)
        self._note_progress(state)
        repairs = state.leads and state.denied and self._stages.stage is Stage.REDIS_FIRST
        if repairs and not (self._repairing or self._ended):
            self._repairing = True
            self._stages.begun()
            repaired = Deferred.fromCoroutine(self._repair())
            repaired.addErrback(_unless_away).addBoth(self._on_repaired)

    def _note_progress(self, state: FillState) -> None:
        """Say when all is repaired that a node has missed while it was away."""
        settled = all(map(self._is_settled, range(len(self._old.nodes))))
        if state.denied and not settled:
            self._is_behind = True
        elif self._is_behind and settled and state.denied == 0:
            self._is_behind = False
            self._log.info("The old memcached has been told of all that it had missed")

    async def _deny_unsure(self) -> None:
        names = [*islice(self._unsure, _AT_A_TIME)]
        unsure = {name: self._unsure.pop(name) for name in names}
        try:
            keys, since = zip(*unsure.values(), strict=True)
            await self._deny([*set(keys)], min(since))
            await self._ask([EndChanges(names)])
        except BackendError as error:
            self._unsure |= unsure
            if error.failed.kind is not ErrorKind.UNAVAILABLE and not self._refused:
                self._refused = True
                self._log.warn(
                    "What the old memcached may have missed cannot be noted: {reason}. It is tried "
                    "until it can be",
                    reason=str(error),
                )
            raise
        self._refused = False

    async def _repair(self) -> None:
        while await self._repairer.repair(self._time_budget(_FOR_MISSED)):
            if self._stopped or self._ended:
                return

    def _on_repaired(self, result: Any) -> Any:
        self._repairing = False
        self._stages.done()
        return result

    _ways: Mapping[Effect, Callable[..., Awaitable[list[Result]]]] = {
        Effect.READ: _read,
        Effect.CHANGE: _change,
        Effect.REMOVE: _remove,
        Effect.FLUSH: _flush,
        Effect.NONE: _pass_on,
    }


def origin_digest(parameters: str) -> str:
    """What two processes compare to know that they have the same old side; no secret."""
    return sha1(parameters.encode(), usedforsecurity=False).hexdigest()[:12]


def _taken(noted: Result) -> Result:
    """What the storage says to a note. It is away for who makes one where it takes none."""
    if isinstance(noted, Failed):
        raise BackendError(noted.kind, noted.message)
    return noted


def _unless_away(failure: Failure) -> None:
    """That the storage is away is said elsewhere, and it is tried again."""
    failure.trap(BackendError)
