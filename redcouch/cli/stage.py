"""C{redcouch stage}: which side is right, shown and changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, ClassVar

import click
from click.core import ParameterSource

from redcouch.backends.origin.rollback import LACKING, why_not_back
from redcouch.backends.origin.stages import LOOK_EVERY, Stage
from redcouch.backends.redis.replies import is_wrong_type
from redcouch.cli import Interrupt
from redcouch.cli.common import (
    NO,
    CommandError,
    Finite,
    Interrupted,
    give_json,
    json_option,
    show_key,
    tell,
    wants_json,
)
from redcouch.cli.progress import progress
from redcouch.cli.storage import NOT_AN_ITEM, Storage, StoredItem, check
from redcouch.cli.verify import difference_of
from redcouch.cli.warm_storage import (
    HOLD,
    POLL,
    Member,
    NoStage,
    NotClean,
    NotFollowed,
    StageStatus,
    WarmLocation,
    WarmStorage,
    open_warm_storage,
    warm_storage_option,
    why_unlike,
)
from redcouch.errors import ServerError
from redcouch.limits import MAX_KEY, is_key
from redcouch.memcached_client.item_reading import Fault
from redcouch.memcached_client.key_listing import NEVER, ListedKey
from redcouch.memcached_client.node import BATCH, WEIGHT, BlockingNode
from redcouch.native.items import batches

_TOKENS = 2**24
"""How far the tokens of the two sides are kept apart."""

_TTL_TOLERANCE = 2.0

_LOOKS = 6

_QUIET = 0.2
"""Seconds for which an old memcached is watched while no RedCouch asks it for anything."""

_LATELY = 600
"""Seconds within which a client of an old memcached has asked for something."""

_LOOK = 1.5
"""Seconds in which what is under way is expected to be done."""

_SETTLE = 5.0
"""Seconds in which pending items are expected to be repaired."""

_NO_ORIGIN = "no old memcached can be asked: give the storage as the service has it, with from="

_AT_A_TIME = 1000
"""Items that are pending together on the way back."""


class Refused(Exception):  # noqa: N818 - the answer is no
    """The stage is not changed. The text says why; C{loses} what C{--force} would."""

    def __init__(self, why: str, loses: str | None = None) -> None:
        super().__init__(why)
        self.loses = loses


@click.command("stage")
@click.argument("stage", type=click.Choice([one.value for one in Stage]), required=False)
@warm_storage_option
@click.option("--force", is_flag=True, help="Change it though it loses what the refusal says.")
@click.option(
    "--timeout",
    type=Finite(min=0.5, max=600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long every RedCouch has to acknowledge; otherwise nothing is changed.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    stage: str | None,
    warm: WarmLocation,
    force: bool,
    timeout: float,
) -> None:
    """
    Show which side of a warm storage is right, or change it, for all RedCouches together.

    origin-first: the old memcacheds are right; for the time in which some clients still use them
    directly. redis-first: Redis is right, and changes go to both; for afterwards, with a way back.
    redis-only: Redis alone; the old memcacheds can go. From one to the next or to the one before.

    Every RedCouch and worker on the storage follows without a restart. The command announces the
    stage, waits until all have finished what they had begun, and lets it count when all have
    acknowledged; clients wait for some hundredths or tenths of a second meanwhile, and for two
    seconds at most. If one does not acknowledge, it is named, and nothing is changed.

    Without a stage it also says whether clients can go back to the old memcacheds at this moment
    without seeing anything wrong.

    Exit status 1: the stage was not changed; or, without one, going back is not safe.
    """
    if stage is None:
        for name in ("force", "timeout"):
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name}: needs a STAGE to change to", ctx)
    with open_warm_storage(warm) as opened:
        if stage is None:
            _show(opened)
            return
        try:
            _Change(opened, Stage(stage), force, timeout).run()
        except (Refused, NotFollowed) as error:
            loses = error.loses if isinstance(error, Refused) else None
            forced = f"\nWith --force: {loses}." if loses else ""
            facts = {"changed": False, "reason": str(error), "force": loses}
            tell(facts, f"Not changed: {error}.{forced}")
            raise click.exceptions.Exit(NO) from None
        except Interrupt as interrupt:
            text = f"interrupted: the stage is {opened.status().stage.value}"
            raise Interrupted(interrupt, text) from None
        if wants_json():
            give_json({"changed": True, **_as_json(opened.status(), _why_not(opened))})
        else:
            click.echo(f"The stage is {stage} now, for {_count(opened)}.")


def _count(opened: WarmStorage) -> str:
    many = len(opened.members())
    return "1 RedCouch process" if many == 1 else f"{many} RedCouch processes"


# -- showing -------------------------------------------------------------------------------------


def _why_not(opened: WarmStorage) -> str | None:
    """Exact: what is under way at this moment has come to its end when it is answered."""
    opened.unrepaired(_LOOK)
    left = opened.unfinished(_LOOK)
    away = 0
    known = {place for one in opened.members() for place, up in enumerate(one.up) if not up}
    with ExitStack() as stack:
        nodes = []
        for place, address in enumerate(() if opened.origin is None else opened.origin.nodes):
            if place in known:  # one that hangs would keep us for long
                away += 1
                continue
            try:
                nodes.append(stack.enter_context(BlockingNode(address)))
            except ServerError:
                away += 1
        status = opened.status(nodes)
    for member in status.members:
        away = max(away, len(member.up) - sum(member.up))
    if opened.origin is not None and (unlike := why_unlike(status.members, opened.origin)):
        return unlike
    why = why_not_back(status.stage, status.pending, away, bool(status.returning), left)
    return why or (_NO_ORIGIN if opened.origin is None else None)


def _as_json(status: StageStatus, why_not: str | None) -> dict[str, Any]:
    return {
        "stage": status.stage.value,
        "announced": status.next or None,
        "pending": status.pending,
        "swept": status.swept,
        "left": status.left,
        "rollback_safe": why_not is None,
        "because": why_not,
        "redcouches": [{"name": one.name, "seen": round(one.seen, 3)} for one in status.members],
    }


def _show(opened: WarmStorage) -> None:
    opened.status()  # what makes no sense is seen to first
    why_not = _why_not(opened)
    status = opened.status()
    names = ", ".join(one.name for one in status.members) or "none"
    lines = [f"stage          {status.stage.value}", f"RedCouches     {names}"]
    if status.left is not None:
        lines.append(f"left to move   {status.left:,} items, as the last sweep has seen")
    lines.append(f"rollback safe  {'yes' if why_not is None else f'no, because {why_not}'}")
    tell(_as_json(status, why_not), "\n".join(lines))
    if why_not is not None:
        raise click.exceptions.Exit(NO)


def _unrepaired(pending: int | None) -> Refused:
    why = why_not_back(Stage.REDIS_FIRST, pending or 1, 0)
    return Refused(str(why), "what has been made of them since is lost")


# -- changing ------------------------------------------------------------------------------------


@dataclass
class _Change:
    """One change of the stage."""

    opened: WarmStorage
    stage: Stage
    force: bool
    timeout: float

    def run(self) -> None:
        """Raises L{Refused} or L{NotFollowed} where nothing is changed."""
        try:
            status = self.opened.status()
        except NoStage as error:
            self._refuse(str(error), "another stage than the one that was counts from then on")
            self.opened.set_anew(self.stage)
            return
        ended = status.pending is None
        before = Stage.REDIS_ONLY if ended and self.stage is Stage.REDIS_FIRST else status.stage
        if self.opened.origin is None:
            raise Refused(_NO_ORIGIN)
        if before is self.stage:
            if status.returning and self.stage is Stage.REDIS_FIRST:
                self._bring_back()
            return
        if abs(before.number - self.stage.number) > 1:
            raise Refused(f"from {before.value}, go to {Stage.REDIS_FIRST.value} first")
        if unlike := why_unlike(status.members, self.opened.origin):
            raise Refused(unlike)
        self._ways[before, self.stage](self, status)

    # -- the four ways -------------------------------------------------------------------------

    def _to_origin(self, status: StageStatus) -> None:
        with self._nodes("its keys are missing for all clients") as nodes:
            status = self.opened.status(nodes.values())
            if status.returning:
                self._refuse(LACKING, "what is not there yet is lost")
            if status.pending is None:
                self._refuse(
                    "the old memcacheds have missed too much, and are out of date",
                    "clients get what the old memcacheds have, which is out of date",
                )

            def last_look() -> None:
                for node in nodes.values():  # one that has been started again says so
                    node.stats()

            self._switch(clean=not self.force, last_look=last_look)

    def _to_redis(self, status: StageStatus) -> None:
        with self._nodes("what clients have changed there by themselves is not known") as nodes:
            self._refuse_others(_Others(self.opened, nodes).lately)
            self._compare(nodes)
            others = _Others(self.opened, nodes)
            last_look = partial(self._refuse_others, others.while_all_hold)
            self._switch(tokens_of=nodes.values(), last_look=last_look)

    def _to_redis_only(self, status: StageStatus) -> None:
        if not status.swept:
            self._refuse(
                "what nobody has asked for yet is on the old memcacheds only: "
                "redcouch sweep brings it over",
                "that is lost",
            )
        self._switch()

    def _back_to_redis(self, status: StageStatus) -> None:
        if not status.members:
            raise Refused("no RedCouch runs that could bring the items back")
        with self._nodes(None) as nodes:
            full = [node for node in nodes.values() if node.item_count()]
            if full:
                names = ", ".join(node.address.shown for node in full)
                self._refuse(
                    f"items from before, which are out of date, are on {names}",
                    "these are removed, by flush_all, and Redis's own put there",
                )
            for node in nodes.values():
                node.flush()
            self.opened.note(returning=1)
            self._switch(tokens_of=nodes.values())
        self._bring_back()

    _ways: ClassVar[Any] = {
        (Stage.REDIS_FIRST, Stage.ORIGIN_FIRST): _to_origin,
        (Stage.ORIGIN_FIRST, Stage.REDIS_FIRST): _to_redis,
        (Stage.REDIS_FIRST, Stage.REDIS_ONLY): _to_redis_only,
        (Stage.REDIS_ONLY, Stage.REDIS_FIRST): _back_to_redis,
    }

    # -- their parts ---------------------------------------------------------------------------

    def _refuse(self, why: str, loses: str) -> None:
        if not self.force:
            raise Refused(why, loses)

    def _refuse_others(self, look: Callable[[], str]) -> None:
        if not self.force and (others := look()):
            raise Refused(
                f"the old memcacheds are still used by {others}",
                "what these change there is not seen any more",
            )

    @contextmanager
    def _nodes(self, loses: str | None) -> Iterator[dict[int, BlockingNode]]:
        """
        Connections to the old memcacheds, by their places. One that does not answer is left out,
        if that may be forced; C{loses} says what of it is lost then.
        """
        assert self.opened.origin is not None
        with ExitStack() as stack:
            nodes: dict[int, BlockingNode] = {}
            for place, address in enumerate(self.opened.origin.nodes):
                try:
                    nodes[place] = stack.enter_context(BlockingNode(address))
                except ServerError as error:
                    if loses is None or not self.force:
                        raise Refused(str(error), loses) from None
            yield nodes

    def _switch(
        self,
        clean: bool = False,
        tokens_of: Iterable[BlockingNode] = (),
        last_look: Callable[[], None] = lambda: None,
    ) -> None:
        opened = self.opened
        if clean and (stuck := opened.unrepaired(_SETTLE)):
            raise _unrepaired(stuck)
        try:
            opened.announce(self.stage, self.timeout)
            until = opened.hold(self.stage)
            least = max((node.last_token() for node in tokens_of), default=0)
            last_look()
            self._commit(until, clean, least + _TOKENS if least else 0)
        except BaseException:
            opened.abort()
            raise
        try:
            opened.await_following(max(self.timeout, HOLD))
        except NotFollowed as error:
            raise CommandError(
                f"the stage is {self.stage.value} now, but {error}: see the log there, and run "
                "this again"
            ) from None
        if (counts := opened.status().stage) is not self.stage:
            raise CommandError(
                f"the stage is {counts.value}: Redis has been set back meanwhile, as by a failover"
            )

    def _commit(self, until: float, clean: bool, least_token: int) -> None:
        """Try it until then: what was begun last may have to be repaired, and is meanwhile."""
        while True:
            try:
                self.opened.commit(self.stage, clean, least_token)
            except (NotClean, NotFollowed) as error:
                if time.monotonic() < until:
                    time.sleep(POLL)
                elif isinstance(error, NotClean):
                    raise _unrepaired(self.opened.pending) from None
                else:
                    raise
            else:
                return

    def _compare(self, nodes: Mapping[int, BlockingNode]) -> None:
        """Remove from Redis what is not as the owner has it."""
        storage = self.opened.storage
        assert self.opened.origin is not None
        owner = self.opened.origin.ring.owner
        with progress("comparing") as advance:
            several = (storage.by_weight(keys, WEIGHT) for keys in storage.scan())
            for keys in chain.from_iterable(several):
                stored = dict(zip(keys, storage.read(keys), strict=True))
                of_node: dict[int, list[bytes]] = {}
                for key in filter(is_key, keys):
                    of_node.setdefault(owner(key), []).append(key)
                for place in of_node.keys() & nodes.keys():
                    for some in batches(of_node[place], BATCH):
                        _compare_some(storage, nodes[place], some, stored)
                advance(len(keys))

    def _bring_back(self) -> None:
        """Let RedCouch put all that Redis has on the old memcacheds."""
        opened = self.opened
        began = opened.status().returning
        strange: set[bytes] = set()
        with self._nodes(None) as nodes:
            opened.pass_flush_on(nodes.values())
        with progress("bringing back") as advance:
            for keys in opened.storage.scan():
                self._until_pending(lambda pending: pending < _AT_A_TIME)
                if possible := [*filter(is_key, keys)]:
                    opened.pend(possible)
                said = zip(keys, opened.storage.describe(keys), strict=True)
                strange |= {key for key, it in said if is_wrong_type(it) or not is_key(key)}
                advance(len(keys))
            self._until_pending(lambda pending: pending == 0)
        _tell_strange(sorted(strange))
        if began and not opened.end_returning(began):
            raise CommandError(
                "not all is there: an old memcached has been started again meanwhile, or refuses "
                "items (its -I or -m is too small, or it has -M), or cannot be told of a key. Run "
                "this again once it is mended"
            )

    def _until_pending(self, enough: Callable[[int], bool]) -> None:
        """Wait for that, as long as it becomes less."""
        least, since = 1 << 60, time.monotonic()
        while True:
            pending = self.opened.pending
            if pending is None:
                raise CommandError("the old memcacheds have missed too much: begin again")
            if enough(pending):
                return
            if pending < least:
                least, since = pending, time.monotonic()
            elif time.monotonic() - since > max(30.0, self.timeout):
                raise CommandError(
                    f"{pending} items cannot be put on the old memcacheds: see RedCouch's log, and "
                    "run this again to go on"
                )
            time.sleep(POLL)


class _Others:
    """Who else uses the old memcacheds, as far as these tell, from now on. As text, or nothing."""

    def __init__(self, opened: WarmStorage, nodes: Mapping[int, BlockingNode]) -> None:
        self._opened = opened
        self._nodes = nodes
        self._before = self._connections()
        self._ports = self._ports_of(opened.members())

    def _connections(self) -> int:
        return sum(node.connections() for node in self._nodes.values())

    def _ports_of(self, members: Sequence[Member]) -> set[int]:
        return {port for member in members for port in member.ports}

    def lately(self) -> str:
        """Who is connected, or has connected within this moment."""
        for _ in range(_LOOKS):  # a RedCouch says a moment later from where it speaks to them
            time.sleep(LOOK_EVERY)
            found = self._now()
        return found

    def while_all_hold(self) -> str:
        """The same; and whether anything is asked while no RedCouch does."""
        before = [node.requests() for node in self._nodes.values()]
        time.sleep(_QUIET)
        after = [node.requests() for node in self._nodes.values()]
        moved = {
            name
            for one, other in zip(before, after, strict=True)
            for name, told in other.items()
            if one.get(name) != told
        }
        asked = f"somebody who is no RedCouch: {', '.join(sorted(moved))} went up meanwhile"
        return self._now() or (asked if moved else "")

    def _now(self) -> str:
        connections = self._connections()
        members = self._opened.members()
        ports = self._ports_of(members)
        found = [
            address
            for place, node in self._nodes.items()
            for address, seconds in node.clients(sum(sum(m.up[place : place + 1]) for m in members))
            if seconds <= _LATELY and not _is_one_of(address, ports)
        ]
        if found:
            hosts = sorted({_host(address) for address in found})
            return f"{_many(len(found))} of {', '.join(hosts)}"
        made = connections - self._before - len(ports - self._ports)
        return f"{_many(made)} that came and went" if made > 0 else ""


def _many(connections: int) -> str:
    return "1 connection" if connections == 1 else f"{connections} connections"


def _host(address: str) -> str:
    kind, _, place = address.partition(":")
    return address if kind == "unix" else place.rpartition(":")[0]


def _tell_strange(keys: Sequence[bytes]) -> None:
    """Name what no memcached, and so none of its clients, can have had."""
    if keys:
        first = ", ".join(show_key(key)[:60] for key in keys[:3])
        click.echo(
            "redcouch: left in Redis alone, as no memcached can have such (empty keys, keys of "
            f"more than {MAX_KEY} bytes, other types): {len(keys)} of them, as {first}",
            err=True,
        )


def _is_one_of(address: str, ports: set[int]) -> bool:
    port = address.rpartition(":")[2]
    return port.isdigit() and int(port) in ports


def _compare_some(
    storage: Storage, node: BlockingNode, keys: Sequence[bytes], stored: dict[bytes, StoredItem]
) -> None:
    removals = []
    for entry, found in node.fetch([ListedKey(key, NEVER) for key in keys]):
        there = stored[entry.key]
        nothing = there.item is None and there.fault in (None, NOT_AN_ITEM)
        if nothing or isinstance(found, Fault):
            continue
        if found is not None and not difference_of(entry.key, found, there, _TTL_TOLERANCE):
            continue
        token = b"%d" % there.item.cas if there.item and there.item.cas >= 0 else b""
        if found is None and not (token or storage.layout.may_flush):
            continue  # a string of somebody else's
        removals.append((entry.key, token))
    for reply in storage.remove(removals) if removals else ():
        if not is_wrong_type(reply):  # by now
            check(reply)
