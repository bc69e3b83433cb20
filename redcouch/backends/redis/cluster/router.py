"""
The way to each master of a cluster: a link for every one, and which link a slot
takes now.

What a node has surely not done, because it says that another one has the slot or
that it cannot serve it yet, is sent again within the URL's C{timeout}. What may
have been done, because the connection was lost, is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from random import choice, random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from redcouch.backends.redis.cluster.slots import SLOTS
from redcouch.backends.redis.cluster.topology import (
    Address,
    AddressMap,
    Topology,
    TopologyError,
    read_redirection,
    read_topology,
)
from redcouch.backends.redis.connection import RedisConnection, RedisError, Replies, State
from redcouch.backends.redis.resp import pack_command
from redcouch.backends.redis.scripts import Script
from redcouch.backends.redis.url import RedisLocation, show
from redcouch.errors import BackendError
from redcouch.interfaces import Health
from redcouch.process.clock import cancel
from redcouch.results import ErrorKind
from redcouch.telemetry.latency import Meter

_UNDONE = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "NOSCRIPT"})
"""How an error begins with which a node says that it has done nothing, and that may pass."""

_SHORTEST, _LONGEST = 0.01, 0.1
"""Seconds between two attempts, the first and the later ones."""

_REFRESH = 1.0
"""Seconds between two looks at the topology, at least."""

_CALM = 15
"""So many times as long where nothing calls for a look."""

_VAIN = 1.0
"""Seconds for which nobody begins to wait for what somebody has waited for in vain."""

_SPARE = 10.0
"""Seconds for which a node that serves no slot is kept: more may be sent there soon."""

_ASK_SLOTS = pack_command((b"CLUSTER", b"SLOTS"))
_ASKING = pack_command((b"ASKING",))

COUNTS = _REDIRECTED, _REPEATED, _REFRESHED = (
    "cluster_redirections",
    "cluster_repetitions",
    "cluster_refreshes",
)
"""What is counted."""

NOTHING_SENT = (RedisError("CLUSTERDOWN no node serves the slot"),)
"""In the place of replies, before there is a node to send to."""


class Errand:
    """
    One command for one slot, packed.

    @ivar replies: what has come so far, or the reason why nothing has.
    @ivar asked: the address of the node that answered last.
    """

    __slots__ = ("asked", "expected", "payload", "replies")

    def __init__(
        self,
        payload: bytes,
        expected: int,
        replies: Replies = NOTHING_SENT,
        asked: Address = ("", 0),
    ) -> None:
        self.payload = payload
        self.expected = expected
        self.replies = replies
        self.asked = asked

    @property
    def undone(self) -> str:
        """
        The error with which a node has said that it has done nothing; empty where it
        may have. The last reply of a transaction tells, and an earlier one says why.
        """
        replies = self.replies
        if isinstance(replies, BackendError):
            return ""
        last = str(replies[-1]) if isinstance(replies[-1], RedisError) else ""
        if _begins(last):
            return last
        if last.startswith("EXECABORT"):
            errors = (str(reply) for reply in replies if isinstance(reply, RedisError))
            return next(filter(_begins, errors), "")
        return ""


def _begins(text: str) -> bool:
    return text.partition(" ")[0] in _UNDONE


FirstToRepeat = Callable[[], int | None]
"""Gives the place of the first errand to repeat, which those behind it follow."""


class Router:
    """
    See the module.

    @ivar table: the link of each slot; C{None} where none is known.
    """

    _log = Logger()

    def __init__(
        self,
        location: RedisLocation,
        reactor: Any,
        scripts: Sequence[Script],
        counts: dict[str, int],
        meter: Meter | None = None,
        make_link: Callable[..., RedisConnection] = RedisConnection,
    ) -> None:
        """
        @param scripts: what every node has to know.
        @param counts: where it is counted what was sent again, and how often the
            topology was asked for.
        @param make_link: makes a connection as C{RedisConnection} does.
        """
        self._make_link = make_link
        self._counts = counts
        counts.update(dict.fromkeys(COUNTS, 0))
        self._location = location
        self._reactor = reactor
        self._scripts = scripts
        self._load = b"".join(pack_command((b"SCRIPT", b"LOAD", one.text)) for one in scripts)
        self._meter = meter
        self._reached_at = AddressMap(dict(location.reached_at))
        self._links: dict[Address, RedisConnection] = {}
        self._addresses: dict[RedisConnection, Address] = {}
        #: When each node was looked for; those that serve no slot are not kept for ever.
        self._looked_for: dict[Address, float] = {}
        #: Those that were nodes of another cluster when last connected to.
        self._strangers: set[Address] = set()
        #: Until when nobody waits for the cluster to be down no more, by what it says of that.
        self._vain: dict[str, float] = {}
        self._stopping: list[Deferred[None]] = []
        self._topology: Topology | None = None
        self._begun = False
        self._early_timer: Any = None
        #: Who waits for the first attempt.
        self._early: list[Deferred[None]] = []
        self._reason = "not tried yet"
        self._told = ""
        self._wanted = True
        self._ticks = 0
        self._timer: Any = None
        self.table: list[RedisConnection | None] = [None] * SLOTS
        #: Called when the cluster is known, and again whenever a node is connected.
        self.when_up: Callable[[], None] = lambda: None

    # -- life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Look for the cluster, and go on looking."""
        self._connect_seeds()
        self._set_timer()

    def stop(self) -> Deferred[None]:
        """Disconnect from all nodes."""
        cancel(self._timer)
        for address in [*self._links]:
            self._drop(address)
        self._mind_early()  # with no node left, it is over
        self._topology = None
        return gatherResults(self._stopping).addCallback(lambda _: None)

    def health(self) -> Health:
        """
        Whether every slot is served by a node that can be reached; otherwise, which is not. It is
        impaired where others are: no process of ours could do more.
        """
        topology = self._topology
        if topology is None:
            return Health(False, f"no topology of {self._location.shown}: {self._why_unknown()}")
        healths = [(address, self._links[address].health()) for address in topology.masters]
        away = sorted(health.reason for _, health in healths if not health.ready)
        others = len(away) < len(healths) and not self.is_early
        if away:
            reason = f"{len(away)} of {len(healths)} masters: " + "; ".join(away)
            return Health(False, reason, impaired=others)
        if topology.uncovered:
            reason = f"{topology.uncovered} slots of the cluster are served by no node"
            return Health(False, reason, impaired=others)
        return Health(True)

    def _why_unknown(self) -> str:
        for link in self._links.values():
            if not (health := link.health()).ready:
                return health.reason
        return self._reason

    @property
    def masters(self) -> list[tuple[Address, RedisConnection]]:
        """All masters, in the order of their addresses."""
        known = set() if self._topology is None else self._topology.masters
        return [(address, self._links[address]) for address in sorted(known)]

    def count_slots(self) -> Counter[Address | None]:
        """How many slots each master serves; under C{None}, those that nobody does."""
        return Counter(self._topology.owners if self._topology is not None else ())

    # -- nodes -------------------------------------------------------------------------------

    def _connect_seeds(self) -> None:
        for address in self._location.addresses:
            self._link_to(address)

    def _link_to(self, address: Address) -> RedisConnection:
        self._looked_for[address] = self._reactor.seconds()
        link = self._links.get(address)
        if link is None:
            location = replace(self._location, addresses=(address,), shown=show(address))
            link = self._make_link(location, self._reactor, self._scripts)
            link.meter = self._meter
            link.when_up = partial(self._is_up, link)
            link.check_cluster = partial(self._check_cluster, address)
            self._links[address] = link
            self._addresses[link] = address
            link.start()
        return link

    def _drop(self, address: Address) -> None:
        link = self._links.pop(address)
        del self._addresses[link], self._looked_for[address]
        stopped = link.stop()
        self._stopping = [one for one in self._stopping if not one.called]
        self._stopping.append(stopped)

    def _drop_spare(self, masters: set[Address]) -> None:
        now = self._reactor.seconds()
        for address in self._links.keys() - masters:
            link = self._links[address]
            unused = now - self._looked_for[address] > _SPARE
            if unused and (link.idle or link.state is not State.UP):
                self._drop(address)

    def _is_up(self, link: RedisConnection) -> None:
        if self._topology is None or self._wanted:
            self.ask_topology(link)
        else:
            self.when_up()

    def _check_cluster(self, address: Address, slots: Any) -> None:
        """
        Refuse a node of another cluster, which has got an address that one of ours had. Where no
        node of ours is left, ours was made anew: one that is away may come back if the URL
        names it, and else nobody knows.
        """
        known = self._topology
        if known is None:
            return
        self._strangers.discard(address)
        with suppress(TopologyError):
            if read_topology(slots, address, self._reached_at).is_of_another_cluster(known):
                self._strangers.add(address)
                if {*self._up, *self._location.addresses} - self._strangers:
                    raise RedisError("it is a node of another cluster")
                self._strangers.clear()
                self._topology = None

    # -- topology ----------------------------------------------------------------------------

    def _set_timer(self) -> None:
        self._timer = self._reactor.callLater(_REFRESH * (1 + random() / 4), self._tick)

    def _tick(self) -> None:
        self._set_timer()
        masters = set() if self._topology is None else self._topology.masters
        if masters:
            self._drop_spare(masters)
        up = self._up
        self._ticks += 1
        if not self._wanted and len(up) == len(self._links) and self._ticks % _CALM:
            return
        if not up or not masters <= up:  # those that are left may have been left behind
            self._wanted = self._wanted or not up
            self._connect_seeds()
        elif masters:
            up = masters
        if up:
            self.ask_topology(self._links[choice([*up])])

    @property
    def _up(self) -> set[Address]:
        """The nodes that can be asked now."""
        return {address for address, link in self._links.items() if link.state is State.UP}

    def ask_topology(self, link: RedisConnection) -> None:
        """Ask a node which master serves each slot, and go by that."""
        self._counts[_REFRESHED] += 1
        link.send(_ASK_SLOTS, 1, partial(self._hear_topology, link))

    def _hear_topology(self, link: RedisConnection, replies: Replies) -> None:
        asked = self._addresses.get(link)
        if asked is None or isinstance(replies, BackendError):
            return
        reply = replies[0]
        try:
            if isinstance(reply, RedisError):
                raise TopologyError(_explain(str(reply)))
            topology = read_topology(reply, asked, self._reached_at)
        except TopologyError as error:
            self._reason = f"{link.location.shown}: {error}"
            if self._topology is None and self._reason != self._told:
                self._told = self._reason
                self._log.error(
                    "Cannot learn the topology of {location}: {reason}. Trying again",
                    location=self._location.shown,
                    reason=self._reason,
                )
            return
        known = self._topology
        if known is not None and asked not in known.masters:
            if topology.is_of_another_cluster(known):  # which it was not when connected to
                link.drop("it is a node of another cluster")
                return
            up = self._up  # who serves nothing may be behind: these know better what is theirs
            pairs = zip(known.owners, topology.owners, strict=True)
            topology.owners = [mine if mine in up else its for mine, its in pairs]
        self._wanted = False
        if known is None or topology.owners != known.owners:
            self._adopt(topology)
        elif asked in known.masters:
            known.nodes = topology.nodes
        if known is None:
            self._log.info(
                "{location} has {masters} masters",
                location=self._location.shown,
                masters=len(topology.masters),
            )
            self.when_up()

    def _adopt(self, topology: Topology) -> None:
        self._topology = topology
        for address in topology.masters:
            self._link_to(address)
        links = self._links
        self.table[:] = [None if owner is None else links[owner] for owner in topology.owners]

    def _move(self, slot: int, address: Address) -> None:
        """Take a node's word for it that a slot is served elsewhere."""
        self._wanted = True
        self.table[slot] = self._link_to(address)
        if self._topology is not None:
            self._topology.owners[slot] = address

    # -- sending -----------------------------------------------------------------------------

    def address_of(self, link: RedisConnection) -> Address:
        """Where a link leads to."""
        return self._addresses.get(link, ("", 0))

    async def ask(self, slot: int, payload: bytes, expected: int = 1) -> Sequence[Any]:
        """
        The replies to one command for a slot.

        @raise BackendError: there are none.
        """
        errand = Errand(payload, expected)
        link = self.table[slot]
        if link is not None:
            await self._send(link, [errand])
        await self.settle(slot, [errand], lambda: 0 if errand.undone else None)
        if isinstance(errand.replies, BackendError):
            raise errand.replies
        return errand.replies

    async def settle(
        self, slot: int, errands: Sequence[Errand], first_to_repeat: FirstToRepeat
    ) -> None:
        """
        Send again what has not been done, until C{first_to_repeat} says that nothing is
        left, or the time is over. Errands of one slot keep their order.
        """
        await self.first_attempt()
        end = self._reactor.seconds() + self._location.timeout
        pause = 0.0
        while (first := first_to_repeat()) is not None:
            why, asked = errands[first].undone, errands[first].asked
            down = why.startswith("CLUSTERDOWN")
            if down and not pause and self._reactor.seconds() < self._vain.get(why, 0.0):
                return
            if why.startswith(
                ("MOVED", "ASK", "NOSCRIPT")
            ):  # the first time, it is clear what helps
                await self._pause(pause)
            else:
                self._wanted = True
                await self._pause(max(pause, _SHORTEST))
            if self._reactor.seconds() >= end:
                if down:
                    self._vain[why] = self._reactor.seconds() + _VAIN
                return
            pause = min(_LONGEST, max(_SHORTEST, 2 * pause))
            link, asking = self._choose(slot, why, asked)
            if link is not None:
                await self._send(link, errands[first:], asking, why.startswith("NOSCRIPT"))
            elif self._is_hopeless():
                for errand in errands[first:]:
                    errand.replies = BackendError(
                        ErrorKind.UNAVAILABLE, "storage not reachable", undone=True
                    )

    def _choose(self, slot: int, why: str, asked: Address) -> tuple[RedisConnection | None, bool]:
        """Where to send next, and whether with ASKING."""
        redirection = read_redirection(why, asked, self._reached_at)
        self._counts[_REPEATED if redirection is None else _REDIRECTED] += 1
        if redirection is not None:
            once, address = redirection
            if once:
                return self._link_to(address), True
            self._move(slot, address)
        owner = link = self.table[slot]
        if why.startswith("NOSCRIPT"):  # perhaps said by a node that the slot is on its way to
            link = self._links.get(asked, owner)
        return link, link is not owner

    @property
    def is_early(self) -> bool:
        """Whether the first attempt to learn the topology, and to connect, is under way."""
        if not self._begun:
            connecting = any(link.state is State.FIRST_ATTEMPT for link in self._links.values())
            known = self._topology is not None and not connecting
            self._begun = known or self._is_hopeless()
        return not self._begun

    def first_attempt(self) -> Deferred[None]:
        """Fires when that is over."""
        over: Deferred[None] = Deferred()
        self._early.append(over)
        self._mind_early()
        return over

    def _mind_early(self) -> None:
        """Let those go on who wait for the first attempt, once it is over."""
        cancel(self._early_timer)
        if self.is_early:
            self._early_timer = self._reactor.callLater(_SHORTEST, self._mind_early)
            return
        early, self._early = self._early, []
        for waiting in early:
            waiting.callback(None)

    def _is_hopeless(self) -> bool:
        """Whether nobody is going to say soon which node has a slot."""
        if self._topology is None and self._told:
            return True
        return all(link.state in (State.DOWN, State.STOPPED) for link in self._links.values())

    async def _pause(self, seconds: float) -> None:
        if seconds:
            await deferLater(self._reactor, seconds * (0.75 + random() / 2))

    async def _send(
        self,
        link: RedisConnection,
        errands: Sequence[Errand],
        asking: bool = False,
        load: bool = False,
    ) -> None:
        """Give errands to a node, and replies to the errands."""
        payload = b"".join((_ASKING if asking else b"") + errand.payload for errand in errands)
        skip = len(self._scripts) if load else 0
        if load:
            payload = self._load + payload
        more = 1 if asking else 0
        expected = skip + sum(errand.expected + more for errand in errands)
        answered: Deferred[Replies] = Deferred()
        asked = self.address_of(link)
        link.send(payload, expected, answered.callback)
        replies = await answered
        at = skip
        for errand in errands:
            errand.asked = asked
            if isinstance(replies, BackendError):
                errand.replies = replies
            else:
                at += more
                errand.replies = replies[at : at + errand.expected]
                at += errand.expected


def _explain(error: str) -> str:
    if "cluster support disabled" in error:
        return "it is no cluster: write redis:// in place of redis+cluster://"
    return f"it answers CLUSTER SLOTS with {error.partition(', with args')[0]}"
