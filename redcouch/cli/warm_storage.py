"""A C{warm:} storage as commands see it: both sides, who serves it, and its stage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import click
from redis.exceptions import ResponseError

from redcouch.backends.fill_leases import MOST_DENIED
from redcouch.backends.origin.backend import origin_digest
from redcouch.backends.origin.replicate import AROUND_FLUSH
from redcouch.backends.origin.stages import ATTENTIVE, DEFAULT, HELD, SENSELESS, Stage
from redcouch.backends.origin.url import SCHEME, OriginLocation
from redcouch.backends.origin.url import read_location as read_origin
from redcouch.backends.redis import scripts
from redcouch.backends.redis.fill_leases import FillKeys
from redcouch.backends.redis.flushing import due_time
from redcouch.backends.redis.layout import CAS_COUNTER, FLUSH_AT
from redcouch.backends.redis.replies import error_code, failed_by
from redcouch.backends.redis.url import RedisLocation
from redcouch.cli.common import reader, storage_url_option
from redcouch.cli.storage import (
    GONE,
    ClusterStorage,
    Storage,
    at_once,
    check,
    open_storage,
    read_storage,
)
from redcouch.errors import ServerError
from redcouch.memcached_client.node import BlockingNode
from redcouch.memcached_client.protocol import LAST_SECOND

POLL = 0.02

FRESH = 1.0
"""Seconds within which a RedCouch is heard from."""

HOLD = 2.0
"""Seconds that clients wait at most while a stage changes."""

_DIGITS = 15
"""A number with more makes no sense, as in C{members.lua}."""

_ANNOUNCED = 0.6
"""Seconds after which every RedCouch that serves has looked; more than L{UNNOTED_LEASE}."""


@dataclass(frozen=True, slots=True)
class WarmLocation:
    """@ivar origin: the old memcacheds; C{None} where the URL does not say."""

    storage: RedisLocation
    origin: OriginLocation | None


def _read(url: str) -> WarmLocation:
    storage = read_storage(url)
    return WarmLocation(storage, read_origin(url) if url.lower().startswith(SCHEME) else None)


warm_storage_option = storage_url_option(
    "-s",
    "--storage",
    "warm",
    read=reader(_read),
    text="Storage URL with warm:, as the service takes it.",
)
"""C{--storage}, for the argument C{warm}: a L{WarmLocation}."""


@dataclass(frozen=True, slots=True)
class Member:
    """
    One RedCouch, or one worker of one.

    @ivar name: host and process.
    @ivar seen: seconds since it was heard from.
    @ivar acknowledged: the version of the stage that it follows, with a mark behind it.
    @ivar origin: which old memcacheds it has, by L{origin_digest}.
    @ivar up: which of them answer it.
    @ivar ports: from where it speaks to them.
    """

    id: bytes
    name: str
    seen: float
    acknowledged: str
    origin: str
    up: Sequence[int]
    ports: Sequence[int]


@dataclass(frozen=True, slots=True)
class StageStatus:
    """
    @ivar pending: keys that the old memcacheds may have out of date; C{None} for all.
    @ivar next: the stage that somebody has announced.
    @ivar swept: a sweep of these old memcacheds has come to its end in this stage.
    @ivar left: items that a sweep in this stage has left to bring over; C{None} before one.
    @ivar returning: not all that Redis has is on the old memcacheds yet; how often that has
        come about since it was so.
    """

    stage: Stage
    version: int
    pending: int | None
    next: str
    swept: bool
    left: int | None
    returning: int
    members: Sequence[Member]


class WarmStorage:
    """
    Use L{open_warm_storage}.

    @ivar storage: the items.
    @ivar origin: the old memcacheds; C{None} where nobody has said.
    """

    def __init__(self, storage: Storage, origin: OriginLocation | None) -> None:
        self.storage = storage
        self.origin = origin
        self._layout = storage.layout
        self._keys = FillKeys.of(self._layout)
        self._state, self._denied, self._members, self._changing = self._keys
        self._id = token_hex(8)
        self._told: set[bytes] = set()

    # -- looking -------------------------------------------------------------------------------

    def status(self, nodes: Collection[BlockingNode] = ()) -> StageStatus:
        """
        How things stand. Members that are gone are seen to first, and so are old memcacheds that
        have been started again, of those that are given.
        """
        self._beat(
            [word for one in nodes if one.process for word in (one.address.shown, one.process)]
        )
        names = ("stage", "version", "next", "swept", "left", "left_in", "returning")
        said: Any = self.storage.client.hmget(self._state, names)
        known = dict(zip(names, said, strict=True))
        version = _number(known["version"])
        return StageStatus(
            Stage(known["stage"].decode()) if known["stage"] else DEFAULT,
            version,
            self.pending,
            (known["next"] or b"").decode(errors="backslashreplace"),
            known["swept"] == self._sweep_of(version),
            _number(known["left"]) if known["left_in"] == b"%d" % version else None,
            _number(known["returning"]),
            self.members(),
        )

    def _beat(self, processes: Sequence[str]) -> None:
        said = self._run(scripts.BEAT, self._keys, (MOST_DENIED, "", "", "", "", 0, "", *processes))
        self._tell(said[8])

    def _tell(self, senseless: Sequence[bytes]) -> None:
        for what in set(senseless) - self._told:
            shown = what.decode("utf-8", "backslashreplace")
            click.echo(f"redcouch: {SENSELESS.format(what=shown)}", err=True)
        self._told.update(senseless)

    def set_anew(self, stage: Stage) -> None:
        """Where L{status} raises L{NoStage}: let this one count, as of now."""
        version = int(self.storage.clock(self._state) * 1000)  # none that there has been
        self._run(scripts.STATE_BEAT, (self._state,), ("", stage.value, version, ""))

    def members(self) -> list[Member]:
        """Who serves the storage. One whose record makes no sense is nobody."""
        now = self.storage.clock(self._members)
        found: Any = self.storage.client.hgetall(self._members)
        members = (_member(name, record, now) for name, record in found.items())
        return sorted(filter(None, members), key=lambda one: one.name)

    def unfinished(self, seconds: float) -> int:
        """How many of the changes that are under way now are so after these seconds still."""
        client: Any = self.storage.client
        return _lasting(lambda: set(client.hkeys(self._changing)), seconds, POLL)

    # -- changing ------------------------------------------------------------------------------

    def announce(self, stage: Stage, seconds: float) -> None:
        """
        Announce a stage, until every member has heard of it. One that nobody knows of, as Redis has
        lost its record, or had no room for it, is known of by then.

        @raise NotFollowed: some have not.
        """
        version = self._announce(stage, False, seconds + _ANNOUNCED)
        began = time.monotonic()
        self._await(version, (ATTENTIVE, HELD), seconds)
        time.sleep(max(0.0, began + _ANNOUNCED - time.monotonic()))
        self._await(version, (ATTENTIVE, HELD), seconds)

    def hold(self, stage: Stage) -> float:
        """
        Let every member finish what it has begun, and begin nothing. Gives until when by
        C{time.monotonic} they do. Raises L{NotFollowed}.
        """
        until = time.monotonic() + HOLD * 0.8
        version = self._announce(stage, True, HOLD)
        self._await(version, (HELD,), HOLD * 0.8)
        return until

    def _announce(self, stage: Stage, hold: bool, seconds: float) -> int:
        arguments = (self._id, stage.value, int(hold), int(seconds * 1000))
        said = self._run(scripts.ANNOUNCE, (self._state,), arguments)
        if said == b"NS":
            raise NotFollowed("somebody else is changing the stage just now")
        if said == b"NF":
            raise NotFollowed("it took too long to announce the stage")
        return _number(self.storage.client.hget(self._state, "version"))

    def _await(self, version: int, marks: Sequence[str], seconds: float) -> None:
        wanted = {f"{version}{mark}" for mark in marks}
        until = time.monotonic() + seconds
        while True:
            late = [one for one in self.members() if one.acknowledged not in wanted]
            if not late:
                return
            if time.monotonic() > until:
                raise NotFollowed(_named(late))
            time.sleep(POLL)

    def commit(self, stage: Stage, clean: bool, least_token: int) -> None:
        """
        Let the stage count. No key is pending from then on.

        @param clean: none may be before, either.
        @raise NotFollowed: a member does not hold any more; L{NotClean}: a key is pending.
        """
        said = self._commit(stage.value, int(clean), least_token)
        if said == 1:
            return
        if said == b"NS":
            raise NotClean
        if said == b"NF":
            raise NotFollowed("it took too long")
        raise NotFollowed(_named([one for one in self.members() if one.id == said]))

    def abort(self) -> None:
        """Leave the stage as it is."""
        self._commit("", 0, 0)

    def _commit(self, *arguments: str | int) -> Any:
        keys = (self._state, self._denied, self._members, CAS_COUNTER)
        return self._run(scripts.COMMIT, keys, (self._id, *arguments))

    def await_following(self, seconds: float) -> None:
        """Wait until every member goes on, in the new stage. Raises L{NotFollowed}."""
        version = _number(self.storage.client.hget(self._state, "version"))
        self._await(version, ("",), seconds)

    def unrepaired(self, seconds: float) -> int:
        """
        How many keys that are pending now are so after these seconds still. (One that clients
        change all the time may become pending anew before it is repaired.)
        """
        return _lasting(self._pending, seconds, 5 * POLL)

    def _pending(self) -> set[Any]:
        """The keys that are pending, on a cluster each with why: one is another the next time."""
        found: Any = self.storage.client.smembers(self._denied)
        return set(found)

    def note_swept(self, version: int) -> None:
        """A sweep has come to its end in the stage of this version."""
        self.note(swept=self._sweep_of(version))

    def _sweep_of(self, version: int) -> bytes:
        parameters = "" if self.origin is None else self.origin.parameters
        return b"%d %s" % (version, origin_digest(parameters).encode())

    def note(self, **facts: int | bytes) -> None:
        """Write down what L{status} tells."""
        client: Any = self.storage.client
        client.hset(self._state, mapping=facts)

    def end_returning(self, count: int) -> bool:
        """All that Redis has is there, unless another one has been started again since."""
        said: list[int] = self._run(scripts.DENIALS_REMOVE, (self._state,), ("returning", count))
        return said == [1]

    def pass_flush_on(self, nodes: Collection[BlockingNode]) -> None:
        """Let these carry out a delayed flush with Redis, which they have not been told of."""
        due = None
        with suppress(ResponseError):  # of another type: no time, either
            due = due_time(self.storage.client.get(FLUSH_AT + self._layout.prefix))
        if due is not None:
            before, after = AROUND_FLUSH
            for node in nodes:
                node.flush(min(int(due - time.time() + node.now) + 1, LAST_SECOND))
            self.note(**{"from": b"%.3f" % (due - before), "until": b"%.3f" % (due + after)})

    def pend(self, keys: Sequence[bytes]) -> None:
        """Let these keys be repaired on the old memcacheds."""
        self._run(scripts.DENY, (self._state, self._denied), (MOST_DENIED, *keys))

    @property
    def pending(self) -> int | None:
        """See L{StageStatus}."""
        everything, keys = self.storage.client.hmget(self._state, ("all", "keys"))
        many = _number(keys, -1)
        return None if everything or many < 0 else many

    def _run(self, script: Any, keys: Sequence[bytes], arguments: Sequence[Any]) -> Any:
        reply = self.storage.run_with_keys(script, [(keys, arguments)])[0]
        if isinstance(reply, Exception) and error_code(str(reply)) == "NOSTAGE":
            raise NoStage(failed_by(reply).message)
        return check(reply)


class ClusterWarmStorage(WarmStorage):
    """The same on a cluster, where each of these keys is asked by itself."""

    storage: ClusterStorage

    def _beat(self, processes: Sequence[str]) -> None:
        self._tell(at_once(self.storage.records.see_to_gone()))
        self._tell(self._run(scripts.STATE_BEAT, (self._state,), ("", "", 0, "", *processes))[7])

    def _commit(self, *arguments: str | int) -> Any:
        return self._run(scripts.COMMIT, (self._state,), (self._id, *arguments))

    def commit(self, stage: Stage, clean: bool, least_token: int) -> None:
        """
        As the original. Tokens go by the clock, far above any memcached's. Keys that are denied
        anew while the stage changes stay so.
        """
        version = _number(self.storage.client.hget(self._state, "version"))
        held = f"{version}{HELD}"
        late = [one for one in self.members() if one.acknowledged != held and one.seen <= GONE]
        if late:
            raise NotFollowed(_named(late))
        if clean and self.pending != 0:
            raise NotClean
        records = self.storage.records
        denied = at_once(records.all_denied())
        super().commit(stage, clean, least_token)
        at_once(records.allow([*denied.items()]))

    def _pending(self) -> set[Any]:
        return {*at_once(self.storage.records.all_denied()).items()}

    def pend(self, keys: Sequence[bytes]) -> None:
        at_once(self.storage.records.deny(keys))

    @property
    def pending(self) -> int | None:
        return at_once(self.storage.records.count())


class NoStage(ServerError):  # noqa: N818 - as the script says it
    """What stands there is no stage, and no RedCouch knows which it was."""


class NotFollowed(Exception):  # noqa: N818 - nothing is wrong with the storage
    """Somebody does not follow. The text names them."""


class NotClean(Exception):  # noqa: N818
    """Some keys are pending."""


@contextmanager
def open_warm_storage(warm: WarmLocation) -> Iterator[WarmStorage]:
    """
    @raise ServerError: the storage cannot be reached, or fails within the block.
    """
    with open_storage(warm.storage) as storage:
        kind = ClusterWarmStorage if isinstance(storage, ClusterStorage) else WarmStorage
        yield kind(storage, warm.origin)


def why_unlike(members: Sequence[Member], origin: OriginLocation) -> str:
    """Which RedCouches have other old memcacheds than these; empty if none has."""
    digest = origin_digest(origin.parameters)
    others = ", ".join(one.name for one in members if one.origin != digest)
    return others and (
        f"{others} has other old memcacheds, another ring or another "
        "from-timeout in its URL than the one given here"
    )


def _member(name: bytes, record: bytes, now: float) -> Member | None:
    try:
        seen, acknowledged, about = record.split(b" ", 2)
        told = json.loads(about)
        return Member(
            name,
            str(told.get("name", name.decode(errors="replace"))),
            max(0.0, now - int(seen) / 1000),
            acknowledged.decode(),
            str(told.get("origin", "")),
            [*map(int, told.get("up", ()))],
            [*map(int, told.get("ports", ()))],
        )
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None


def _lasting(look: Callable[[], set[Any]], seconds: float, every: float) -> int:
    """How many of those that are there now are so at each look in these seconds."""
    left = look()
    until = time.monotonic() + seconds
    while left and time.monotonic() < until:
        time.sleep(every)
        left &= look()
    return len(left)


def _number(field: Any, senseless: int = 0) -> int:
    """A number as the scripts take it; 0 where there is none."""
    told = field or b"0"
    return int(told) if told.isdigit() and len(told) <= _DIGITS else senseless


def _named(members: Sequence[Member]) -> str:
    each = ", ".join(f"{one.name} (heard from {one.seen:.1f} s ago)" for one in members)
    return f"no acknowledgement from {each or 'a RedCouch that has just begun'}"
