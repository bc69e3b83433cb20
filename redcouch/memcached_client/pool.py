"""
The old side as a whole: one memcached, or a fleet that clients divide keys among.

The owner of a key, as the clients' ring names it, is asked about the key and told of its
changes; nobody else is. What another node has of it is not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from twisted.internet.defer import CancelledError, Deferred

from redcouch.expiry import lasting
from redcouch.memcached_client.protocol import (
    Reply,
    delete,
    for_next_to_renew,
    look,
    name,
    read,
)
from redcouch.memcached_client.time_budget import TimeBudget
from redcouch.memcached_client.twisted_client import PORTION, AwayError, OriginNode


@dataclass(frozen=True, slots=True)
class OriginItem:
    """
    An item of an old memcached.

    @ivar exptime: as a client would set it now.
    """

    value: bytes
    flags: int
    exptime: int


Places = Mapping[bytes, tuple[OriginNode, int]]
"""For keys: the node that has the item, and bytes of its value."""


@dataclass
class OriginPool:
    """
    @ivar nodes: the old memcacheds, in the order in which the clients have them.
    @ivar owner: gives the place among them of the node that has a key.
    @ivar _largest: bytes of the largest value that is of any use.
    @ivar _now: gives the UNIX time in seconds.
    @ivar _on_error: called when a node has failed to answer.
    """

    nodes: Sequence[OriginNode]
    owner: Callable[[bytes], int]
    _largest: int
    _now: Callable[[], float]
    _on_error: Callable[[], None]

    @property
    def up(self) -> bool:
        """Whether there is a node to be asked."""
        return any(node.up for node in self.nodes)

    async def start(self) -> None:
        """Begin to connect. Returns when each has answered, or failed to."""
        starting = [Deferred.fromCoroutine(node.start()) for node in self.nodes]
        for started in starting:
            await started

    def stop(self) -> None:
        """Let go of all."""
        for node in self.nodes:
            node.stop()

    async def find(self, keys: Iterable[bytes], time_budget: TimeBudget) -> Places:
        """Which of these are there, and on which node."""
        named = _named(keys)
        sizes: dict[bytes, int] = {}
        looks = [(key, look(name)) for key, name in named.items()]
        found = dict(zip(named, await self.tell(looks, time_budget), strict=True))
        for key, reply in found.items():
            size = reply.number(b"s") if reply is not None and reply.code == b"HD" else None
            if size is not None and size <= self._largest:
                sizes[key] = size
        await self.leave_to_renew(found.items(), time_budget)
        return self.places(sizes)

    def places(self, sizes: Mapping[bytes, int]) -> Places:
        """Where keys are, of which the values have these sizes."""
        return {key: (self.nodes[self.owner(key)], size) for key, size in sizes.items()}

    async def read(
        self, node: OriginNode, keys: Iterable[bytes], time_budget: TimeBudget
    ) -> dict[bytes, OriginItem]:
        """The items that a node still has."""
        named = _named(keys)
        items: dict[bytes, OriginItem] = {}
        with time_budget.spending():
            replies = await self._ask(
                node, b"".join(map(read, named.values())), len(named), time_budget
            )
        found = dict(zip(named, replies or (), strict=False))
        for key, reply in found.items():
            item = self.read_item(reply)
            if item is not None:
                items[key] = item
        await self.leave_to_renew(found.items(), time_budget)
        return items

    async def leave_to_renew(
        self, replies: Iterable[tuple[bytes, Reply | None]], time_budget: TimeBudget
    ) -> None:
        """Let clients renew the stale items of which these replies, by key, say that we are to."""
        won = {
            key: token
            for key, reply in replies
            if reply is not None and (token := reply.to_renew) is not None
        }
        for keeping in (True, False):
            if not won:
                return
            named = _named(won)
            told = [(key, for_next_to_renew(named[key], won[key], keeping)) for key in named]
            answers = await self.tell(told, time_budget)
            refused = [reply is not None and reply.code == b"CLIENT_ERROR" for reply in answers]
            won = dict(compress(won.items(), refused))

    def read_item(self, reply: Reply) -> OriginItem | None:
        """
        The item in the reply to L{read<redcouch.memcached_client.protocol.read>}. One that is
        marked stale counts as gone, and so does one that is too large.
        """
        flags, left = reply.number(b"f"), reply.number(b"t")
        stale = reply.flag(b"X") is not None
        if reply.value is None or stale or flags is None or not left:  # 0: over in this second
            return None
        if len(reply.value) > self._largest:
            return None
        return OriginItem(reply.value, flags, lasting(max(0, left), self._now()))

    async def delete(
        self, keys: Iterable[bytes], time_budget: TimeBudget
    ) -> tuple[set[bytes], list[bytes]]:
        """Remove items. Which were there, and of which nobody knows whether they still are."""
        named = _named(keys)
        had: set[bytes] = set()
        untold: list[bytes] = []
        removals = [(key, delete(name)) for key, name in named.items()]
        for key, reply in zip(named, await self.tell(removals, time_budget), strict=True):
            if reply is None or reply.code not in (b"HD", b"NF"):
                untold.append(key)
            elif reply.code == b"HD":
                had.add(key)
        return had, untold

    async def tell(
        self, requests: Sequence[tuple[bytes, bytes]], time_budget: TimeBudget
    ) -> list[Reply | None]:
        """
        What is answered to requests, each of one key, by the node that has the key;
        C{None} where it does not answer, or not in time.
        """
        nodes: dict[int, list[int]] = {}
        for place, (key, _) in enumerate(requests):
            nodes.setdefault(self.owner(key), []).append(place)
        replies: list[Reply | None] = [None] * len(requests)
        answers = await self._tell_nodes(
            {
                index: (b"".join(requests[place][1] for place in places), len(places))
                for index, places in nodes.items()
            },
            time_budget,
        )
        for places, answer in zip(nodes.values(), answers, strict=True):
            for place, reply in zip(places, answer or (), strict=False):
                replies[place] = reply
        return replies

    async def tell_all(self, request: bytes, time_budget: TimeBudget) -> list[Reply | None]:
        """What each node answers to one request; C{None} if it does not, or not in time."""
        everywhere = dict.fromkeys(range(len(self.nodes)), (request, 1))
        answers = await self._tell_nodes(everywhere, time_budget)
        return [None if answer is None else answer[0] for answer in answers]

    async def _tell_nodes(
        self, requests: Mapping[int, tuple[bytes, int]], time_budget: TimeBudget
    ) -> list[list[Reply] | None]:
        """The answers of nodes to requests of so many replies, at the same time."""
        if not requests:
            return []
        with time_budget.spending():
            asked = [
                Deferred.fromCoroutine(self._ask(self.nodes[index], request, expected, time_budget))
                for index, (request, expected) in requests.items()
            ]
            return [await answer for answer in asked]

    async def _ask(
        self, node: OriginNode, request: bytes, expected: int, time_budget: TimeBudget
    ) -> list[Reply] | None:
        if time_budget.left <= 0:
            return None
        try:
            return await time_budget.limit(node.ask(request, expected))
        except (AwayError, CancelledError):
            self._on_error()
            return None


def _named(keys: Iterable[bytes]) -> dict[bytes, bytes]:
    """Each key that memcached's text can say, with how."""
    names = ((key, name(key)) for key in keys)
    return {key: named for key, named in names if named is not None}


def portions(places: Places) -> Iterator[tuple[OriginNode, list[bytes]]]:
    """Keys of one node, so many that their values are not too large together."""
    nodes: dict[OriginNode, list[bytes]] = {}
    for key, (node, _) in places.items():
        nodes.setdefault(node, []).append(key)
    for node, keys in nodes.items():
        portion: list[bytes] = []
        room = PORTION
        for key in keys:
            size = places[key][1]
            if portion and size > room:
                yield node, portion
                portion, room = [], PORTION
            portion.append(key)
            room -= size
        yield node, portion
