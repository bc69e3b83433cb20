"""What storages promise whoever fills them from another cache, on all that can be filled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from redcouch.backends import fill_leases
from redcouch.backends.fill_leases import (
    LATE,
    LEASE_SECONDS,
    AllowFill,
    Beat,
    BeginChanges,
    CountDenied,
    DenyAllFills,
    DenyFill,
    EndChanges,
    Fill,
    FillState,
    Leave,
    ListDenied,
    NoteLack,
    PauseFills,
    RevokeAllLeases,
    RevokeLeases,
    TakeLease,
)
from redcouch.backends.memory import MemoryBackend
from redcouch.backends.redis import fill_leases as redis_fill_leases
from redcouch.backends.redis.cluster import fills
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Dump,
    Get,
    Inspect,
    MetaGet,
    Store,
    StoreMode,
)
from redcouch.interfaces import BackendContext
from redcouch.results import Failed, Outcome, Result, Stored
from tests.contract import contract
from tests.contract.contract import START
from tests.contract.redis_storage import RedisStorage, age
from tests.support.cluster import shared_cluster, shared_cluster_client
from tests.support.polling import eventually_in_reactor
from tests.support.requirements import OnRedis
from tests.support.servers import shared_redis

K, L = b"k", b"a key with blanks \xff"


class FillingTests:
    """The tests; a class for each storage says how it is built."""

    storage: Any
    now: Callable[[], float]

    #: What was leased before a pause may be filled in, and removals are noted.
    on_cluster = False

    async def one(self, command: Command) -> Result:
        (result,) = await self.storage.execute([command])
        return result

    async def fill(self, lease: bytes, key: bytes = K, exptime: int = 0) -> Result:
        return await self.one(Fill(key, b"value\0", 7, exptime, lease))

    async def test_fill(self) -> None:
        """What was leased can be filled in, with all that belongs to it."""
        for key in (K, L):
            lease = await self.one(TakeLease(key))
            assert isinstance(lease, bytes)
            began = time.monotonic()
            stored = await self.fill(lease, key, 100)
            assert isinstance(stored, Stored)
            (found,) = await self.one(Get([key], cas=True))
            assert tuple(found) == (b"value\0", 7, stored.cas)
            item = await self.one(MetaGet(key, metadata=True))
            assert 99 - (time.monotonic() - began) <= item.ttl <= 100

    async def test_only_once(self) -> None:
        """A lease is good for one item."""
        lease = await self.one(TakeLease(K))
        await self.fill(lease)
        await self.one(Delete(K))
        assert await self.fill(lease) is Outcome.NOT_STORED

    async def test_shared(self) -> None:
        """Two that read the same have the same lease, and one of them fills."""
        first, second = await self.one(TakeLease(K)), await self.one(TakeLease(K))
        assert first == second
        assert isinstance(await self.fill(first), Stored)
        assert await self.fill(second) is Outcome.NOT_STORED

    async def test_not_over_an_item(self) -> None:
        """What was written meanwhile stays."""
        lease = await self.one(TakeLease(K))
        await self.one(Store(StoreMode.SET, K, b"newer"))
        assert await self.fill(lease) is Outcome.NOT_STORED
        assert (await self.one(Get([K])))[0][0] == b"newer"

    async def test_no_lease(self) -> None:
        """What nobody has leased is not filled in."""
        for lease in (b"", b"1", b"1:0", b"0:0", await self.one(TakeLease(L))):
            assert await self.fill(lease) is Outcome.NOT_STORED
        assert await self.one(Get([K])) == [None]

    async def test_revoked(self) -> None:
        """A lease that is revoked is void, and another one can be made."""
        lease, other = await self.one(TakeLease(K)), await self.one(TakeLease(L))
        revoke = RevokeLeases([K, b"x"])
        said, found = await self.storage.execute([revoke, Get([K])])
        assert (said, found) == (Outcome.OK, [None])
        assert await self.fill(lease) is Outcome.NOT_STORED
        assert isinstance(await self.fill(other, L), Stored)
        again = await self.one(TakeLease(K))
        assert again != lease
        assert await self.fill(lease) is Outcome.NOT_STORED
        assert isinstance(await self.fill(again), Stored)

    async def test_all_revoked(self) -> None:
        """So are all of them, together."""
        lease = await self.one(TakeLease(K))
        assert await self.one(RevokeAllLeases()) is Outcome.OK
        assert await self.fill(lease) is Outcome.NOT_STORED
        again = await self.one(TakeLease(K))
        assert again != lease
        assert isinstance(await self.fill(again), Stored)

    async def test_over(self) -> None:
        """A lease that is not used ends."""
        lease = await self.one(TakeLease(K))
        self.pass_time(LEASE_SECONDS + 1)
        assert await self.fill(lease) is Outcome.NOT_STORED
        assert await self.one(TakeLease(K)) not in (lease, None)

    async def test_denied(self) -> None:
        """A key that is denied cannot be leased, nor filled in by an earlier lease."""
        lease = await self.one(TakeLease(K))
        assert await self.one(CountDenied()) == 0
        assert await self.one(DenyFill([K, L, K])) is Outcome.OK
        assert await self.one(CountDenied()) == 2
        assert await self.one(TakeLease(K)) is None
        assert await self.fill(lease) is Outcome.NOT_STORED
        assert isinstance(await self.one(TakeLease(b"x")), bytes)

    async def test_allowed(self) -> None:
        """A key is denied no longer if its item is the one that was told, as nothing else is."""
        for key in (K, L):
            await self.one(Store(StoreMode.SET, key, b"x"))
        await self.one(DenyFill([K, L, b"x"]))
        assert sorted(await self.one(ListDenied(10))) == sorted((K, L, b"x"))
        ((_, _, token),) = await self.one(Get([K], cas=True))
        allowed = [AllowFill(K, token), AllowFill(L, token + 7), AllowFill(b"x", None)]
        ok = Outcome.OK
        assert await self.storage.execute(allowed) == [ok, Outcome.NOT_STORED, ok]
        assert await self.one(ListDenied(10)) == [L]
        assert await self.one(CountDenied()) == 1
        assert isinstance(await self.one(TakeLease(b"x")), bytes)

    async def test_late(self) -> None:
        """A key is not to be repaired while a change of it may still arrive on the old side."""
        await self.one(DenyFill([K, L]))
        await self.one(BeginChanges({b"one" + LATE + b"1": K, b"one/2": L}))
        assert await self.one(ListDenied(10)) == [L]
        await self.one(EndChanges([b"one" + LATE + b"1"]))
        assert sorted(await self.one(ListDenied(10))) == sorted((K, L))

    async def test_revoked_after_it_was_allowed(self) -> None:
        """
        Whoever revokes is told that a key has just been allowed, whether somebody has taken a lease
        since or not, and once; where removals are noted, nobody has to be.
        """
        told = Outcome.OK if self.on_cluster else Outcome.DELETED
        for takes_lease in (False, True):
            await self.one(DenyFill([K]))
            assert await self.one(ListDenied(10)) == [K]
            assert await self.one(AllowFill(K, None)) is Outcome.OK
            if takes_lease:
                lease = await self.one(TakeLease(K))
                assert await self.one(TakeLease(K)) == lease
            assert await self.one(RevokeLeases([b"x", L])) is Outcome.OK
            assert await self.one(RevokeLeases([L, K])) is told
            assert await self.one(RevokeLeases([L, K])) is Outcome.OK
        assert await self.fill(lease) is Outcome.NOT_STORED
        assert isinstance(await self.fill(await self.one(TakeLease(K))), Stored)

    async def test_members(self) -> None:
        """The first who is there repairs; who is gone is not missed where it says so."""
        first = await self.one(Beat(b"one", b"{}", b"0", b"", 0))
        second = await self.one(Beat(b"two", b"{}", b"0", b"", 0))
        assert (first.leads, second.leads) == (True, False)
        assert (first.denied, first.holding, first.stage, first.next) == (0, False, b"", b"")
        assert await self.one(BeginChanges({b"one/1": K, b"one/2": L})) is Outcome.OK
        assert await self.one(EndChanges([b"one/1"])) is Outcome.OK
        await self.one(DenyFill([K]))
        assert (await self.one(Beat(b"two", b"{}", b"0", b"", 0))).denied == 1
        assert await self.one(Leave(b"two")) is Outcome.OK

    async def test_all_denied(self) -> None:
        """So are all of them, for good."""
        lease = await self.one(TakeLease(K))
        assert await self.one(DenyAllFills()) is Outcome.NOT_STORED
        assert await self.one(CountDenied()) is None
        assert await self.one(TakeLease(L)) is Outcome.NOT_STORED
        assert await self.fill(lease) is Outcome.NOT_STORED
        assert await self.one(DenyFill([K])) is Outcome.NOT_STORED

    async def test_too_many(self) -> None:
        """Too many denied keys deny all."""
        assert await self.one(DenyFill([b"%d" % key for key in range(5)])) is Outcome.OK
        assert await self.one(DenyFill([b"0"])) is Outcome.OK
        assert await self.one(DenyFill([b"5"])) is Outcome.NOT_STORED
        assert await self.one(TakeLease(K)) is Outcome.NOT_STORED
        assert await self.one(CountDenied()) is None

    async def test_begun_anew(self) -> None:
        """A cache that another process is now has nothing of what it had, whoever says so."""

        async def lacking(member: bytes, **processes: bytes) -> bool:
            told = {name.encode(): process for name, process in processes.items()}
            said = await self.one(Beat(member, b"{}", b"0", b"", 0, told))
            assert isinstance(said, FillState)
            return said.lacking

        assert not await lacking(b"one", a=b"1.5", b=b"2.5")
        assert not await lacking(b"two", a=b"1.5")
        assert not await lacking(b"two")
        assert await lacking(b"two", b=b"2.6")
        assert await lacking(b"one", a=b"1.5")

    async def test_lacking_what_was_refused(self) -> None:
        """So it does where somebody has noted it."""

        async def lacking() -> bool:
            said = await self.one(Beat(b"one", b"{}", b"", b"", 0, {}))
            assert isinstance(said, FillState)
            return said.lacking

        assert not await lacking()
        assert await self.one(NoteLack()) is Outcome.OK
        assert await lacking()

    async def test_pause(self) -> None:
        """Between two times nothing is filled in; before and after, it is."""
        lease = await self.one(TakeLease(K))
        now = self.now()
        assert await self.one(PauseFills(now - 1, now + 60)) is Outcome.OK
        assert await self.one(TakeLease(L)) is None
        assert (await self.fill(lease) is Outcome.NOT_STORED) is not self.on_cluster
        await self.one(Delete(K))
        await self.one(PauseFills(now + 60, now + 90))
        lease = await self.one(TakeLease(K))
        assert isinstance(await self.fill(lease), Stored)
        await self.one(PauseFills(0, 0))
        assert isinstance(await self.one(TakeLease(L)), bytes)

    def pass_time(self, seconds: float) -> None:
        raise NotImplementedError


class MemoryFilling(FillingTests, TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.patch(fill_leases, "MOST_DENIED", 5)
        self.now = lambda: START + self.clock.seconds()
        context = BackendContext(self.clock, contract.LIMITS, self.now, self.fail)
        self.storage = MemoryBackend(context)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)


class RedisFilling(OnRedis, FillingTests, TestCase):
    """On a Redis, in hex."""

    parameters = ""
    client: Any

    async def setUp(self) -> None:  # type: ignore[override]
        self.patch(redis_fill_leases, "MOST_DENIED", 5)
        server = shared_redis(self.version)
        self.client = server.client()
        self.addCleanup(self.client.close)
        self.client.flushall()
        await self.begin(server.url)

    async def begin(self, url: str) -> None:
        over = RedisStorage(f"{url}?{self.parameters}", self.client)
        self.storage, self.now, self.prefix = over.storage, over.now, over.prefix
        await self.storage.start()
        self.addCleanup(self.storage.stop)
        await eventually_in_reactor(lambda: self.storage.health().ready)

    def pass_time(self, seconds: float) -> None:
        age(self.client, int(seconds * 1000))

    async def test_evicted(self) -> None:
        """Where Redis has evicted the set of denied keys, nobody knows which they were."""
        await self.one(DenyFill([K]))
        self.client.delete(*self.client.keys("redcouch:sys:*warm*_barred:*"))
        assert await self.one(TakeLease(L)) is Outcome.NOT_STORED
        assert (await self.one(Beat(b"one", b"{}", b"0", b"", 0))).denied is None

    async def test_all_lost(self) -> None:
        """
        Where the state is lost, with the set or without, all keys are denied if somebody knows that
        some were, and only then.
        """
        for kind in ("*", "_state:*"):
            for knows in (False, True):
                await self.one(DenyFill([K]))
                self.client.delete(*self.client.keys(f"redcouch:sys:*warm*{kind}"))
                await self.one(Beat(b"new", b"{}", b"0", b"", 0, {b"a": b"1"}))
                beat = Beat(b"one", b"{}", b"0", b"redis-first", 0, {b"a": b"1"}, knows)
                said = await self.one(beat)
                assert isinstance(said, FillState)
                assert (said.stage, said.denied is None) == (b"redis-first", knows)
                assert (await self.one(TakeLease(L)) is Outcome.NOT_STORED) == knows

    async def test_lost_lack(self) -> None:
        """Where the state is lost, something is lacking if somebody knows that, or may not know."""
        for knows in (False, True):
            await self.one(NoteLack())
            self.client.delete(*self.client.keys("redcouch:sys:*warm*_state:*"))
            said = await self.one(Beat(b"one", b"{}", b"0", b"redis-first", 0, lacking=knows))
            assert isinstance(said, FillState)
            assert (said.denied, said.lacking) == (0, knows)

    async def test_other_types(self) -> None:
        """A key of another type is left alone, and harms nobody."""
        lease = await self.one(TakeLease(K))
        item = self.prefix + K
        self.client.delete(item)
        self.client.rpush(item, b"x")
        assert isinstance(await self.fill(lease), Failed)

    async def test_lease_of_another_type(self) -> None:
        """What stands in the place of a lease and is none gives way to the next, or a change."""
        for remedy in (TakeLease(K), RevokeLeases([K])):
            await self.one(TakeLease(K))
            for name in self.client.keys("redcouch:sys:warm_claim:*"):
                self.client.delete(name)
                self.client.rpush(name, b"x")
            assert not isinstance(await self.one(remedy), Failed)
            lease = await self.one(TakeLease(K))
            assert isinstance(lease, bytes)
        assert isinstance(await self.fill(lease), Stored)

    async def test_forgotten_scripts(self) -> None:
        """Redis may forget its scripts at any time."""
        lease = await self.one(TakeLease(K))
        self.client.script_flush()
        assert isinstance(await self.fill(lease), Stored)


class Redis62RawFilling(RedisFilling):
    version, parameters = "6.2", "encoding=raw"


class Redis82Filling(RedisFilling):
    version, parameters = "8.2", "prefix=p%5Bx%5D:"


class ValkeyFilling(RedisFilling):
    version = "valkey 8.1"


class CachedFilling(RedisFilling):
    parameters = "cache=1m"


class ClusterFilling(RedisFilling):
    """On a cluster."""

    client: Any
    on_cluster = True

    async def setUp(self) -> None:  # type: ignore[override]
        self.patch(fills, "MOST_DENIED", 5)
        cluster = shared_cluster(self.version)
        cluster.clear()
        self.client = shared_cluster_client(self.version)
        await self.begin(cluster.url)

    async def test_gone(self) -> None:
        """What a member that is gone was changing is denied; what others are at is not."""
        for member in (b"one", b"two"):
            await self.one(Beat(member, b"{}", b"0", b"", 0))
        await self.one(BeginChanges({b"one/1": K, b"two/1": L}))
        (members,) = self.client.keys("redcouch:sys:{warm}_members:*")
        self.client.hset(members, "one", "1000 0 {}")
        assert (await self.one(Beat(b"two", b"{}", b"0", b"", 0))).denied == 1
        assert await self.one(ListDenied(10)) == [K]
        assert self.client.hkeys(members) == [b"two"]
        assert self.client.hvals("redcouch:sys:{warm}_changing:rc:") == [L]

    async def test_denied_anew(self) -> None:
        """A key that is denied once more while it is repaired stays so."""
        await self.one(DenyFill([K]))
        await self.one(ListDenied(10))
        await self.one(DenyFill([K]))
        assert await self.one(AllowFill(K, None)) is Outcome.NOT_STORED
        assert await self.one(CountDenied()) == 1

    async def test_removed_meanwhile(self) -> None:
        """A key is not said to be repaired while somebody removes its item."""
        await self.one(DenyFill([K, L]))
        await self.one(ListDenied(10))
        assert (await self.one(Beat(b"one", b"{}", b"0", b"", 0))).notes_removals
        await self.one(BeginChanges({b"one/-1": K, b"one/2": L}))
        allowed = [AllowFill(K, None), AllowFill(L, None)]
        assert await self.storage.execute(allowed) == [Outcome.NOT_STORED, Outcome.OK]
        await self.one(EndChanges([b"one/-1"]))
        assert await self.one(AllowFill(K, None)) is Outcome.OK

    async def test_lease_is_no_item(self) -> None:
        """Where only a lease is, there is nothing, for any command; and what is stored stays."""
        await self.one(TakeLease(K))
        assert await self.one(Get([K], cas=True)) == [None]
        assert await self.one(MetaGet(K, metadata=True)) is None
        assert await self.one(Inspect(K)) is None
        assert (await self.one(Dump(b""))).items == []
        assert await self.one(Delete(K)) is Outcome.NOT_FOUND
        assert self.client.exists("rc:k") == 0
        for store in (
            Store(StoreMode.SET, K, b"1"),
            Store(StoreMode.SET, K, b"x" * 100_000),
            Store(StoreMode.ADD, K, b"1"),
            Store(StoreMode.APPEND, K, b"1", vivify=0),
            Arithmetic(K, 1, initial=1),
            MetaGet(K, vivify=0),
        ):
            lease = await self.one(TakeLease(K))
            assert self.client.ttl("rc:k") > 0
            await self.one(store)
            assert self.client.ttl("rc:k") == -1, store
            assert not self.client.hexists("rc:k", "l"), store
            assert await self.one(Delete(K)) is Outcome.DELETED
            assert await self.fill(lease) is Outcome.NOT_STORED


class CachedClusterFilling(ClusterFilling):
    parameters = "cache=1m"


class Valkey81ClusterFilling(ClusterFilling):
    version, parameters = "valkey 8.1", "encoding=raw"


class StringFilling(RedisFilling):
    """Items as plain strings, with a prefix."""

    parameters = "layout=string&prefix=s:"


class BareStringFilling(RedisFilling):
    """And under the clients' own keys."""

    version, parameters = "8.2", "layout=string"

    async def test_reserved(self) -> None:
        """RedCouch's own keys are no items there."""
        assert isinstance(await self.one(TakeLease(b"redcouch:sys:x")), Failed)
        assert await self.one(RevokeLeases([b"redcouch:sys:x"])) is Outcome.OK
