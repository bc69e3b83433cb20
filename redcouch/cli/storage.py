"""A storage as the commands use it: Redis, the layout of the items, and the service's scripts."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from secrets import token_hex
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.cluster import PRIMARY, ClusterNode, PipelineCommand, RedisCluster
from redis.exceptions import (
    AskError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from redcouch.backends.embedded import url as embedded
from redcouch.backends.embedded.directory import choose_directory
from redcouch.backends.fill_leases import LEASE_SECONDS
from redcouch.backends.origin.url import storage_of
from redcouch.backends.redis import scripts
from redcouch.backends.redis.cluster.fills import FillRecords
from redcouch.backends.redis.cluster.slots import SLOTS, slot_of
from redcouch.backends.redis.cluster.topology import AddressMap
from redcouch.backends.redis.fill_leases import FillKeys, is_paused
from redcouch.backends.redis.layout import (
    SIDE,
    SYSTEM_PREFIX,
    StringLayout,
    belongs,
    read_item,
    read_string,
)
from redcouch.backends.redis.replies import flat, is_wrong_type
from redcouch.backends.redis.scripts import Script
from redcouch.backends.redis.scripts import strings as string_scripts
from redcouch.backends.redis.server_info import CLIENT_NAME, read_greeting, why_unfit
from redcouch.backends.redis.url import (
    MAYBE_TLS,
    NO_REDIS,
    NO_TLS,
    ONLY_TLS,
    RedisLocation,
    read_location,
    show,
    tls_fault,
)
from redcouch.cli.sentinels import OneMaster
from redcouch.errors import BackendError, ConfigurationError, ServerError
from redcouch.memcached_client.item_reading import Copy
from redcouch.native.items import batches, served_by
from redcouch.process.private_keys import refuse_encrypted
from redcouch.results import Failed, Item, Outcome
from redcouch.urls import redact

NOT_AN_ITEM = "not an item"
"""What is wrong with a key of another type."""

BATCH = 200
"""Keys that go to Redis together."""

PATIENCE = 10
"""How many times the URL's timeout Redis may take: the commands ask for more at a time."""

_REDIS = (
    *("redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel"),
    *("redis+cluster", "rediss+cluster"),
)

GONE = 10.0
"""Seconds without word after which a RedCouch serves no more, see C{members.lua}."""

T = TypeVar("T")

Client: TypeAlias = redis.Redis | RedisCluster

Call = Sequence[bytes | str | int]
"""What a script is given: the item's key (with its prefix), then the arguments."""

_ATTEMPTS = 5

_TLS_FAULT = re.compile(r"\[(?:SSL|X509)[^]]*\] (.*) \(_ssl")
_CUT = re.compile("reset by peer|closed by server|Broken pipe")
_NOT_RESP = "Protocol error, got"
"""What the client says, of TLS and of a reply that is none of Redis'."""

_NAMELESS = (
    "a node of the cluster is to be known by its hostname (cluster-preferred-endpoint-type), and "
    "has none: set its cluster-announce-hostname. The service does without, this command does not"
)

_SET = ("set", "", "")
"""What C{store.lua} is given behind the item."""

_MOVING = 0.05
"""Seconds between two looks whether slots of a cluster still move."""

_AT_REST = 2
"""Words about a slot that is not on its way."""


def read_storage(url: str) -> RedisLocation:
    """
    Where the items of a storage URL are. C{warm:} does not matter to the commands.

    @raise ConfigurationError: it is no URL, or its items are in no Redis that
        another process could reach.
    """
    url = storage_of(url)
    scheme = url.partition(":")[0].lower()
    if scheme == "embedded":
        return _embedded(url)
    if scheme == embedded.CLUSTER:
        raise ConfigurationError(
            f"{url}: only the service itself knows the password of its cluster; "
            "start a cluster of your own, and name it by redis+cluster://"
        )
    if scheme in _REDIS:
        return read_location(url)
    raise ConfigurationError(
        f"{redact(url)}: no storage in Redis; it has to begin with one of "
        + ", ".join(f"{name}:" for name in (*_REDIS, "embedded"))
    )


def _embedded(url: str) -> RedisLocation:
    options = embedded.parse(url)
    place = choose_directory(options.directory)
    if place.temporary:
        raise ConfigurationError(
            f"{url}: only the service itself knows where this one's socket is; "
            "give it a directory with a shorter path, as in embedded:///some/dir"
        )
    return read_location(options.redis_url(place.socket), url)


def connect(location: RedisLocation) -> Client:
    """
    A client for the Redis of a location. It does nothing yet, and retries nothing; that of a
    cluster has asked for the nodes, and follows slots that move.

    @raise redis.RedisError: no node has answered.
    """
    common: dict[str, Any] = {
        "username": location.username,
        "password": location.password,
        "socket_timeout": location.timeout * PATIENCE,
        "socket_connect_timeout": max(1.0, location.timeout),
        "protocol": 2,
    }
    if location.cluster:
        return _connect_cluster(location, common)
    common |= {"db": location.database, "retry": Retry(NoBackoff(), 0)}
    if location.socket is not None:
        return redis.Redis(unix_socket_path=location.socket, **common)
    common["socket_keepalive"] = True
    if location.master is not None:
        sentinels = OneMaster(
            list(location.addresses),
            sentinel_kwargs={
                "username": location.sentinel_user,
                "password": location.sentinel_password,
                "socket_timeout": max(1.0, location.timeout),
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                **_tls(location),
            },
            **common,
            **_tls(location),
        )
        master: redis.Redis = sentinels.master_for(location.master)
        return master
    host, port = location.addresses[0]
    return redis.Redis(host=host, port=port, **common, **_tls(location))


def _tls(location: RedisLocation) -> dict[str, Any]:
    """What a client is told of TLS, once its files have been read."""
    if not location.tls:
        return {}
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if location.ca is not None:
            context.load_verify_locations(location.ca)
        if location.certificate is not None:
            refuse_encrypted((location.key or location.certificate).read_bytes())
            context.load_cert_chain(location.certificate, location.key)
    except (OSError, ConfigurationError) as error:
        found = _TLS_FAULT.search(str(error))
        raise ConfigurationError(
            f"{location.shown}: cannot use its certificates: {found[1] if found else error}"
        ) from None
    return {
        "ssl": True,
        "ssl_check_hostname": True,
        "ssl_ca_certs": None if location.ca is None else str(location.ca),
        "ssl_certfile": None if location.certificate is None else str(location.certificate),
        "ssl_keyfile": None if location.key is None else str(location.key),
    }


def _connect_cluster(location: RedisLocation, common: dict[str, Any]) -> RedisCluster:
    if location.tls_name is not None:
        raise ServerError(
            f"{location.shown}: tls_name is for the service only; for the commands, write "
            "map=ADDRESS=NAME for each address, with the names that the certificates have"
        )
    try:
        return _Cluster(
            startup_nodes=[ClusterNode(*address) for address in location.addresses],
            address_remap=AddressMap(dict(location.reached_at)),
            retry=Retry(NoBackoff(), 0),
            **common,
            **_tls(location),
        )
    except RedisClusterException as error:
        raise RedisError(str(error)) from None


class _Cluster(RedisCluster):
    """
    One that knows masters which have no slot yet, but already keys of one that is on its way to
    them; and a node that is named in ASK by an address under which it is not reached. redis-py
    fails over these with C{AttributeError}.
    """

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> ClusterNode | None:
        """As the original; one that is not known yet counts as a master from now on."""
        known: ClusterNode | None = super().get_node(host, port, node_name)
        if known is None and node_name is not None:
            named, _, number = node_name.rpartition(":")
            manager = self.nodes_manager
            named = named or self.get_default_node().host  # it is that of who was asked
            address = manager.remap_host_port(named, int(number))
            known = manager.get_node(*address) or self._newcomers.setdefault(
                address, ClusterNode(*address, PRIMARY)
            )
        return known

    def get_primaries(self) -> list[ClusterNode]:
        """As the original."""
        known: list[ClusterNode] = super().get_primaries()
        return known + [node for node in self._newcomers.values() if node not in known]

    @cached_property
    def _newcomers(self) -> dict[tuple[str, int], ClusterNode]:
        return {}


@dataclass(frozen=True, slots=True)
class StoredItem:
    """
    What is in an item's place.

    @ivar item: C{None} where there is none, or none that can be read.
    @ivar ttl: seconds to live; C{None} for ever.
    @ivar encoding: how the value is written, C{hex} or C{raw}; C{string}, for layout=string.
    @ivar fault: why what is there is no item; C{None} where all is well.
    @ivar stale: it is marked stale.
    """

    item: Item | None = None
    ttl: float | None = None
    encoding: str = ""
    fault: str | None = None
    stale: bool = False

    @property
    def fresh(self) -> Item | None:
        """The item; C{None} where it is marked stale, which would be lost where it is copied to."""
        return None if self.stale else self.item


class Storage:
    """
    The items of a location, which are hashes. Use L{open_storage}.

    @ivar client: the Redis, or the cluster, for what is not about items.
    @ivar layout: where an item is, and how its value is written.
    """

    _type: str | None = None
    #: The service's scripts for items of this layout.
    _scripts: ModuleType = scripts

    def __init__(self, location: RedisLocation, client: Client) -> None:
        self.location = location
        self.layout = location.layout
        self._fill_keys = FillKeys.of(self.layout)
        self.client = client
        self._loaded: set[str] = set()
        #: Which process a lone Redis is; a cluster's masters come and go.
        self._process = None if isinstance(client, RedisCluster) else _about(client).get("run_id")

    def redis_key(self, key: bytes) -> bytes:
        """Where the item of a client's key is."""
        return self.layout.prefix + key

    def scan(self, pattern: bytes = b"*") -> Iterator[list[bytes]]:
        """
        The items' keys, without their prefix, in batches. C{pattern} is a glob
        over them. As SCAN does it: a key that is there all the time is named at
        least once, perhaps twice.
        """
        match = self.layout.pattern.removesuffix(b"*") + pattern
        prefix = len(self.layout.prefix)
        keys = (key[prefix:] for key in self.scan_keys(match, self._type))
        return batches(keys, BATCH)

    def scan_own(self) -> Iterator[bytes]:
        """Whole keys in Redis, of all that the bridge has put there for its items."""
        return self.scan_keys(self.layout.pattern)

    def scan_keys(self, match: bytes, kind: str | None = None) -> Iterator[bytes]:
        """
        Whole keys, of any type or of one. Each Redis is asked over one connection, which is made
        again where it was left idle for too long (C{timeout}). To one that has been started again,
        or has become the master, the cursor means nothing, and it would leave keys out.
        """
        for node in self._masters():
            with node.client() as connected:
                scan = partial(connected.scan, match=match, count=BATCH * 5, _type=kind)
                process, cursor = _about(connected).get("run_id"), None
                while cursor != 0:
                    try:
                        cursor, keys = scan(cursor or 0)
                    except redis.ConnectionError:
                        if process is None or _about(connected).get("run_id") != process:
                            raise
                        cursor, keys = scan(cursor or 0)
                    yield from keys

    def _masters(self) -> list[redis.Redis]:
        if isinstance(self.client, RedisCluster):
            return [self.client.get_redis_connection(node) for node in self.client.get_primaries()]
        return [self.client]

    def check_same(self) -> None:
        """
        What has been done so far is there still, as far as that is known.

        @raise RedisError: Redis has been started again, and may have lost some of it.
        """
        process = self._process
        if process is not None and _about(self._masters()[0]).get("run_id") != process:
            raise RedisError(
                "Redis has been started again meanwhile: what was done before that may be lost. "
                "Run this again"
            )

    def may_hold(self, key: bytes) -> bool:
        """Whether an item of this key can be here: no, for what would be a key of RedCouch's."""
        return not self.redis_key(key).startswith(SYSTEM_PREFIX)

    def exist(self, keys: Sequence[bytes]) -> list[bool]:
        """Which of these items are there; a hash of somebody else's fields alone is none."""
        replies = self.describe(keys)
        return [isinstance(one if is_wrong_type(one) else check(one), list) for one in replies]

    def read(self, keys: Sequence[bytes]) -> list[StoredItem]:
        """The items of these keys."""
        names = ("v", "r", "f", "c", "s")
        fields = self.pipeline(("HMGET", self.redis_key(key), *names) for key in keys)
        left = self.pipeline(("PTTL", self.redis_key(key)) for key in keys)
        return [_stored(*both) for both in zip(fields, left, strict=True)]

    def describe(self, keys: Sequence[bytes]) -> list[Any]:
        """What C{list.lua} says of each of these keys, or the error."""
        return self.run(self._scripts.LIST, [[self.redis_key(key)] for key in keys])

    def by_weight(self, keys: Sequence[bytes], most: int) -> Iterator[list[bytes]]:
        """These keys, each once: so many at a time as have about C{most} bytes of values."""
        names = [*dict.fromkeys(keys)]
        several: list[bytes] = []
        weight = 0
        for key, said in zip(names, self.describe(names), strict=True):
            size = said[0] if isinstance(said, list) else 0
            if several and weight + size > most:
                yield several
                several, weight = [], 0
            several.append(key)
            weight += size
        if several:
            yield several

    def written(self, copy: Copy) -> Call:
        """An item, as scripts that store one are given it."""
        layout = self.layout
        expiry: Call = ("PERSIST", "") if copy.ttl is None else ("PEXPIRE", copy.ttl * 1000)
        return (layout.field, layout.encode(copy.value), copy.flags, *expiry)

    def store(self, copies: Iterable[tuple[bytes, Copy]]) -> list[Any]:
        """What C{store.lua} says of each of these keys, given its item; or the error."""
        calls = [(self.redis_key(key), *self.written(copy), *_SET) for key, copy in copies]
        return self.run(self._scripts.STORE, calls)

    def weigh(self, copies: Sequence[Copy]) -> list[int]:
        """
        Bytes that items take, beside the names of their keys. They are stored under names of
        RedCouch's own, and each is removed before the next, since there may be no room for all, and
        none is to be evicted for them. One that is refused for lack of memory counts as its value.

        @raise ResponseError: Redis refuses that.
        """
        own = SYSTEM_PREFIX + b"weighed:" + token_hex(4).encode()
        script, layout = self._scripts.STORE, self.layout
        names = [own + b":%d" % number for number in range(len(copies))]
        commands: list[Call] = []
        for name, copy in zip(names, copies, strict=True):
            keys = layout.keys_of_item(name)
            given = (*self.written(copy), *_SET)
            commands.append(_evalsha(script, layout.script_keys(name), given))
            commands += [("MEMORY USAGE", key, "SAMPLES", 0) for key in keys]
            commands.append(("UNLINK", *keys))
        self.client.script_load(script.text)
        replies = iter(self.pipeline(commands))
        usages = []
        for name, copy in zip(names, copies, strict=True):
            if not (full := is_out_of_memory(stored := next(replies))):
                check(stored)
            usage = len(layout.encode(copy.value)) if full else 0
            for key in layout.keys_of_item(name):
                usage += max(0, (check(next(replies)) or 0) - len(key))
            usages.append(usage)
            check(next(replies))
        return usages

    def info(self, section: str) -> list[dict[str, Any]]:
        """A section of INFO, of every master."""
        return [node.info(section) for node in self._masters()]

    def shares(self) -> list[float]:
        """Which part of the items each of these masters has; but for hash tags."""
        return [1.0]

    def clock(self, key: bytes) -> float:
        """The time by which what stands at this key is noted, UNIX time in seconds."""
        client, node = self.client, {}
        if isinstance(client, RedisCluster):
            node = {"target_nodes": client.get_node_from_key(key)}
        seconds, micros = client.execute_command("TIME", **node)
        return float(seconds) + float(micros) / 1_000_000

    def unlink(self, redis_keys: Sequence[bytes]) -> int:
        """Remove whole keys; gives how many there were."""
        return sum(check(reply) for reply in self.pipeline(("UNLINK", key) for key in redis_keys))

    def why_closed(self) -> str:
        """Why nothing at all is filled in now, for who asks; C{""} where something may be."""
        state = self._fill_keys.state
        known: Any = self.client.hmget(state, ("stage", "from", "until"))
        stage, begin, end = known
        if stage == b"redis-only":
            return "nothing is brought over in the stage redis-only"
        if is_paused(begin, end, time.time()):
            fields = f"fields from and until of {state.decode(errors='backslashreplace')}"
            return f"nothing is brought over while a flush_all is due: see the {fields}"
        return ""

    def why_outdated(self) -> str:
        """Why what is here may be out of date; C{""} where it is right."""
        if self.pipeline([("HGET", self._fill_keys.state, "stage")]) == [b"origin-first"]:
            return (
                "in the stage origin-first the old memcacheds are right, and what Redis has may be "
                "out of date: nothing is done"
            )
        return ""

    def why_refilled(self) -> str:
        """Why an item that is taken away may come back; C{""} where it does not."""
        keys = self._fill_keys
        now = self.clock(keys.members)
        stage, members = self.pipeline([("HGET", keys.state, "stage"), ("HGETALL", keys.members)])
        records = members.values() if isinstance(members, dict) else ()  # or it is no hash
        beats = (record.partition(b" ")[0] for record in records)
        if stage != b"redis-only" and any(
            beat.isdigit() and int(beat) / 1000 > now - GONE for beat in beats
        ):
            return (
                "a RedCouch with warm: brings items back that the old memcacheds have: "
                "see redcouch stage redis-only"
            )
        return ""

    def why_kept_alike(self, process: str | None) -> str:
        """Why this process of a memcached is not to be exported to; C{""} where it may be."""
        (state,) = self.pipeline([("HGETALL", self._fill_keys.state)])
        known = state.values() if isinstance(state, dict) else ()
        if process and process.encode() in known and self.why_refilled():
            return (
                "a RedCouch with warm: has it as an old memcached, and looks after it itself: "
                "nothing is done. See redcouch stage"
            )
        return ""

    def take_leases(self, keys: Sequence[bytes]) -> list[Any]:
        """What C{lease.lua} says of each of these keys, or the error."""
        milliseconds = int(LEASE_SECONDS * 1000)
        return self._run_filling(self._scripts.LEASE, [(key, (milliseconds,)) for key in keys])

    def fill(self, calls: Sequence[tuple[bytes, Call]]) -> list[Any]:
        """What C{fill.lua} says of each of these keys, given these arguments; or the error."""
        return self._run_filling(self._scripts.FILL, calls)

    def _run_filling(self, script: Script, calls: Sequence[tuple[bytes, Call]]) -> list[Any]:
        now = f"{time.time():.3f}"
        return self.run_with_keys(
            script,
            [
                (self._fill_keys.of_script(self.layout, key), (key, now, *rest))
                for key, rest in calls
            ],
        )

    def remove(self, calls: Sequence[tuple[bytes, bytes]]) -> list[Any]:
        """
        Remove items that carry these tokens (C{b""} for any). What C{delete.lua} says of each, or
        the error.
        """
        removals = [[self.redis_key(key), token] for key, token in calls]
        return self.run(self._scripts.DELETE, removals)

    def pipeline(self, commands: Iterable[Call]) -> list[Any]:
        """
        Several commands in one go, each about keys of one slot: their replies, with the errors
        in place.
        """
        with self.client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = pipe.execute(raise_on_error=False)
        return replies

    def run(self, script: Script, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """
        Run a script for several items in one go.

        @return: the replies, with the errors in place.
        """
        keys = self.layout.script_keys
        return self.run_with_keys(script, [(keys(call[0]), call[1:]) for call in calls])

    def run_with_keys(self, script: Script, calls: Sequence[tuple[Call, Call]]) -> list[Any]:
        """The same, where each call has its keys and its arguments."""
        replies: list[Any] = [None] * len(calls)
        open_places = list(range(len(calls)))
        for _ in range(_ATTEMPTS):  # SCRIPT FLUSH, or another master, forgets scripts
            if script.name not in self._loaded:
                self.client.script_load(script.text)  # to every master
            said = self.pipeline([_evalsha(script, *calls[place]) for place in open_places])
            for place, reply in zip(open_places, said, strict=True):
                replies[place] = reply
            open_places = [
                place for place in open_places if isinstance(replies[place], NoScriptError)
            ]
            if not open_places:
                self._loaded.add(script.name)
                break
            self._loaded.discard(script.name)
        return replies


class ClusterStorage(Storage):
    """The items of a cluster."""

    client: RedisCluster

    def __init__(self, location: RedisLocation, client: Client) -> None:
        super().__init__(location, client)
        #: What whoever fills them in knows together.
        self.records = FillRecords(self.ask_all, self.layout)

    def pipeline(self, commands: Iterable[Call]) -> list[Any]:
        """
        As the original. Slots that move are followed. What a node has not answered is not asked
        again, since it may have been done.
        """
        calls = list(commands)
        with self.client.pipeline(transaction=False) as pipe:
            stack = [
                PipelineCommand(call, served_by(self.client, call), place)
                for place, call in enumerate(calls)
            ]
            replies: list[Any] = pipe.send_cluster_commands(stack, False, False)
        for place, reply in enumerate(replies):
            if isinstance(reply, AskError | TryAgainError):  # MOVED is an AskError
                replies[place] = self._follow(calls[place])
            elif isinstance(reply, Exception) and not isinstance(reply, ResponseError):
                raise reply
        return replies

    def _follow(self, command: Call) -> Any:
        try:
            return self.client.execute_command(*command)
        except ResponseError as error:
            return error

    async def ask_all(self, commands: Sequence[tuple[bytes, ...]]) -> list[Any]:
        """See L{AskEach<redcouch.backends.redis.cluster.fills.AskEach>}."""
        calls: list[Call] = [(name.decode(), *rest) for name, *rest in commands]
        replies = self.pipeline(calls)
        again = [place for place, said in enumerate(replies) if isinstance(said, NoScriptError)]
        if again:
            for script in scripts.CLUSTER_SCRIPTS:
                self.client.script_load(script.text)
            for place, said in zip(again, self.pipeline(calls[i] for i in again), strict=True):
                replies[place] = said
        return [[*flat(reply)] if isinstance(reply, dict) else reply for reply in replies]

    def scan_keys(self, match: bytes, kind: str | None = None) -> Iterator[bytes]:
        """
        As the original; then those of slots again that have moved meanwhile. Of a slot that is on
        its way, for ever perhaps, keys go one way only: two looks see each of them.
        """
        unsure, seen_once = {*range(SLOTS)}, set[int]()
        after = self._slots()
        while unsure:
            before = after
            for key in super().scan_keys(match, kind):
                if slot_of(key) in unsure:
                    yield key
            after = self._slots()
            same = {slot for slot in unsure if before[slot] == after[slot]}
            unsure -= {slot for slot in same if slot in seen_once or len(after[slot]) <= _AT_REST}
            seen_once = same
            if unsure:
                time.sleep(_MOVING)

    def _slots(self) -> defaultdict[int, list[str]]:
        """
        Who has each slot, since which change of what it has; behind that, where it is on its way.
        """
        self.client.nodes_manager.initialize()  # a new master may have some
        found: defaultdict[int, list[str]] = defaultdict(list)
        for node in self.client.get_primaries():
            told: Any = self.client.execute_command("CLUSTER NODES", target_nodes=[node])
            for one in told.values():
                if "myself" in one["flags"]:
                    for first, *rest in one["slots"]:
                        for slot in range(int(first), int(rest[0] if rest else first) + 1):
                            found[slot] += one["node_id"], one["epoch"]
                    for move in one["migrations"]:
                        found[int(move["slot"])] += move["node_id"], move["state"]
                        self._meet(move["node_id"], told)
        return found

    def _meet(self, target: str, nodes: dict[str, Any]) -> None:
        """Know a node where keys are on their way to, of those that CLUSTER NODES tells of."""
        for name, one in nodes.items():
            if one["node_id"] == target and not one["slots"]:
                self.client.get_node(node_name=name)

    def shares(self) -> list[float]:
        """As the original."""
        slots = Counter(nodes[0] for nodes in self.client.nodes_manager.slots_cache.values())
        return [slots[node] / SLOTS for node in self.client.get_primaries()]

    def take_leases(self, keys: Sequence[bytes]) -> list[Any]:
        """As the original."""
        lasts = int(LEASE_SECONDS * 1000)
        calls = [(self.redis_key(key), token_hex(8), lasts) for key in keys]
        leases = self.run(scripts.ITEM_LEASE, calls)
        closed = at_once(self.records.closed(keys, time.time())) if keys else []
        vain = [key for key, why in zip(keys, closed, strict=True) if why is not None]
        at_once(self.records.drop_leases(vain))
        refusals = {Outcome.NOT_STORED: b"NS", Outcome.NOT_FOUND: b"NF"}
        return [
            lease if why is None or isinstance(lease, Exception) else refusals[why]
            for lease, why in zip(leases, closed, strict=True)
        ]

    def fill(self, calls: Sequence[tuple[bytes, Call]]) -> list[Any]:
        """As the original."""
        return self.run(scripts.ITEM_FILL, [(self.redis_key(key), *rest) for key, rest in calls])


def at_once(doing: Coroutine[Any, Any, T]) -> T:
    """What comes of something that never waits, as everything is asked over such a storage."""
    try:
        doing.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    except BackendError as error:
        raise ServerError(error.failed.message) from None
    raise AssertionError("it waits for something")


class StringStorage(Storage):
    """The items of a location with C{layout=string}: plain strings, each with a side key."""

    _type = "string"
    _scripts = string_scripts

    def scan(self, pattern: bytes = b"*") -> Iterator[list[bytes]]:
        """As the original: of strings only, as what else there is belongs to somebody else."""
        for keys in super().scan(pattern):
            if mine := [key for key in keys if self.may_hold(key)]:
                yield mine

    def scan_own(self) -> Iterator[bytes]:
        """The side keys. The strings are native data, which outlives the bridge."""
        return self.scan_keys(SIDE + self.layout.pattern, self._type)

    def read(self, keys: Sequence[bytes]) -> list[StoredItem]:
        """The items of these keys."""
        names = [self.redis_key(key) for key in keys]
        both = self.pipeline(("MGET", name, SIDE + name) for name in names)
        rest = self.pipeline(c for name in names for c in (("STRLEN", name), ("PTTL", name)))
        return [
            _stored_string(check(found), length, left) if self.may_hold(key) else StoredItem()
            for key, found, length, left in zip(keys, both, rest[::2], rest[1::2], strict=True)
        ]


def _evalsha(script: Script, keys: Call, arguments: Call) -> Call:
    return ("EVALSHA", script.sha, len(keys), *keys, *arguments)


def _stored(fields: Any, left: Any) -> StoredItem:
    if is_wrong_type(fields):
        return StoredItem(fault=NOT_AN_ITEM)
    found = read_item(check(fields))
    if found is None or check(left) == -2:
        return StoredItem()
    ttl = None if left < 0 else left / 1000
    if isinstance(found, Failed):
        return StoredItem(ttl=ttl, fault=found.message)
    encoding = "hex" if fields[0] is not None else "raw"
    return StoredItem(found, ttl, encoding, stale=fields[4] is not None)


def _stored_string(both: Sequence[bytes | None], length: Any, left: Any) -> StoredItem:
    """C{length} tells a key of another type, which MGET gives as nothing, from no key."""
    value, line = both
    if is_wrong_type(length):
        return StoredItem(fault=NOT_AN_ITEM)
    check(length)
    if value is None or check(left) == -2:
        return StoredItem()
    stale = line is not None and b"s" in line and belongs(line, value)
    ttl = None if left < 0 else left / 1000
    return StoredItem(read_string(value, line), ttl, "string", stale=stale)


def _about(client: Client) -> dict[str, Any]:
    """What a Redis tells of itself; nothing where that may not be asked."""
    try:
        about: dict[str, Any] = client.info("server")
    except ResponseError:
        return {}
    return about


@contextmanager
def open_storage(location: RedisLocation) -> Iterator[Storage]:
    """
    The storage at a location, which has answered once.

    @raise ServerError: it cannot be reached, or fails within the block.
    """
    with ExitStack() as leaving:
        client: Any = None
        storage: Storage | None = None
        try:
            client = connect(location)
            leaving.callback(client.close)
            client.ping()
            if why := _why_unfit(client):
                raise ServerError(f"{location.shown}: {why}")
            storage = _kind(location)(location, client)
            failed: RedisError | None = None
            try:
                yield storage
            except (redis.ConnectionError, redis.TimeoutError) as error:
                failed = error
            if location.master is not None:
                client.connection_pool.get_master_address()  # it is the same still
            if failed is not None:
                raise failed
            storage.check_same()
        except (RedisError, RedisClusterException) as error:
            why = why_it_failed(error, location)
            if isinstance(error, redis.TimeoutError) and location.cluster:
                why = f"{_silent(location, client)}: {why}".removeprefix(": ")
            if storage is None and _CUT.search(why) and not (location.tls or location.socket):
                why = f"{why}. {MAYBE_TLS}"
            raise ServerError(f"{location.shown}: {why}") from None


def _silent(location: RedisLocation, cluster: RedisCluster | None) -> str:
    """Which nodes of a cluster do not answer: redis-py's errors do not tell."""
    known = set() if cluster is None else {(one.host, one.port) for one in cluster.get_primaries()}
    single = replace(location, cluster=False, timeout=location.timeout / PATIENCE)
    silent = []
    for address in sorted({*location.addresses, *known}):
        with suppress(RedisError), closing(connect(replace(single, addresses=(address,)))) as asked:
            try:
                asked.ping()
            except redis.TimeoutError:
                silent.append(show(address))
    return ", ".join(silent)


def why_it_failed(error: Exception, location: RedisLocation) -> str:
    """What is wrong with a Redis, in the service's words."""
    text = explain(error)
    if tls := _TLS_FAULT.search(text):
        return tls_fault(tls[1])
    if location.tls and "Timeout connecting" in text:
        return f"{text}. {NO_TLS}"
    if "connecting to ?:" in text:
        return _NAMELESS
    if _NOT_RESP in text:
        return ONLY_TLS if r"\x15" in text else NO_REDIS
    if type(error) is redis.ConnectionError and location.master is None:
        places = location.addresses if location.socket is None else [location.socket]
        refusals = (_refusal(place, 1 / len(places)) for place in places)
        return next(filter(None, refusals), text)
    return text


def _refusal(place: tuple[str, int] | str, seconds: float) -> str:
    """
    With what error a Redis begins, as one in protected mode, or with its maxclients, does before it
    closes; nothing where it waits. A client that has written meanwhile finds the connection broken,
    and the error gone.
    """
    with suppress(OSError), ExitStack() as closing:
        if isinstance(place, str):
            connection = closing.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(seconds)
            connection.connect(place)
        else:
            connection = closing.enter_context(socket.create_connection(place, seconds))
        said = connection.recv(1024)
        if said.startswith(b"-"):
            return said[1:].decode("utf-8", "replace").partition("\r\n")[0]
    return ""


def _kind(location: RedisLocation) -> type[Storage]:
    if location.layout.cluster:
        return ClusterStorage
    return StringStorage if isinstance(location.layout, StringLayout) else Storage


def _why_unfit(client: Client) -> str | None:
    """Why this Redis cannot be used; C{None} where it can, or does not tell what it is."""
    facts: dict[str, str] = {}
    if isinstance(client, redis.Redis):
        with suppress(ResponseError):  # a Redis before 6 does not know it
            facts = read_greeting(client.execute_command("HELLO", 2, "SETNAME", CLIENT_NAME))
    if "version" not in facts:
        about = _about(client)
        facts = {name: str(about.get(f"redis_{name}", "")) for name in ("version", "mode")}
    return why_unfit(facts, isinstance(client, RedisCluster))


def check(reply: Any) -> Any:
    """A reply, raised if it is an error."""
    if isinstance(reply, Exception):
        raise reply
    return reply


def is_out_of_memory(reply: Any) -> bool:
    """Whether Redis has refused something for lack of memory."""
    # redis-py takes the OOM before it away
    return isinstance(reply, ResponseError) and "'maxmemory'" in str(reply)


def explain(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
