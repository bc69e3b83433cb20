"""Redis behind Sentinel: a master, a replica, and three that watch them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint

from redcouch.backends.redis import admin as admin_module
from redcouch.backends.redis import connection as connection_module
from redcouch.backends.redis import sentinel as sentinel_module
from redcouch.backends.redis.connection import State
from redcouch.backends.redis.resp import bulks
from redcouch.commands import Flush, Get, Store, StoreMode
from redcouch.errors import BackendError
from redcouch.results import ErrorKind, Failed, Outcome, Stored
from tests.backends.redis.case import RedisCase
from tests.backends.redis.fake import FakeRedisFactory
from tests.support import servers
from tests.support.polling import eventually_in_reactor
from tests.support.servers import RedisServer, Sentinel, free_port

reactor: Any = _reactor


class FakeSentinel(FakeRedisFactory):
    """
    A sentinel that says of the master what a test says.

    @ivar port: the master's.
    @ivar flags: of the master.
    @ivar asked: how many times it was asked where the master is.
    @ivar listeners: who hears announcements.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self.host = b"127.0.0.1"
        self.port = port
        self.flags = b"master"
        self.epoch = 0
        self.asked = 0
        self.listeners: list[Any] = []
        self.answer = self._answer

    def promote(self, port: int) -> None:
        """Name another master."""
        self.port = port
        self.epoch += 1

    def announce(self, channel: bytes, message: bytes) -> None:
        """Tell who listens."""
        for one in self.listeners:
            one.transport.write(b"*4\r\n" + bulks(b"pmessage", b"*", channel, message))

    def _answer(self, command: list[bytes]) -> bytes:
        if command[0] == b"PSUBSCRIBE":
            self.listeners = [self.speaker]
            return b"*3\r\n" + bulks(b"psubscribe", command[1]) + b":1\r\n"
        address = (self.host, b"%d" % self.port)
        if command[1] == b"GET-MASTER-ADDR-BY-NAME":
            self.asked += 1
            return b"*2\r\n" + bulks(*address)
        facts = [b"ip", address[0], b"port", address[1], b"flags", self.flags]
        facts += [b"config-epoch", b"%d" % self.epoch]
        return b"*%d\r\n" % len(facts) + bulks(*facts)


class SentinelTests(RedisCase):
    """On loopback."""

    def sentinels(self, master: int, *rules: str, count: int = 1) -> list[Sentinel]:
        """Some that watch a master."""
        quorum = count // 2 + 1
        return [
            self.enterContext(servers.sentinel(master, *rules, quorum=quorum)) for _ in range(count)
        ]

    def impatient(self, seconds: float) -> None:
        """Who looks for a master gives up after so long; all else has its time."""
        made = sentinel_module.Sentinels
        self.patch(
            connection_module,
            "Sentinels",
            lambda location, *rest: made(replace(location, timeout=seconds), *rest),
        )

    def addresses(self, ports: Iterable[int]) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in ports)

    async def test_failover(self) -> None:
        """When the master dies, writes go to the replica that takes its place."""
        master, replica = self.start_redis("--repl-diskless-sync-delay", "0"), self.start_redis()
        native = self.native(replica)
        native.replicaof("127.0.0.1", master.port)
        await eventually_in_reactor(
            lambda: native.info("replication")["master_link_status"] == "up"
        )
        watching = self.sentinels(master.port, count=3)
        complete = {"replicas": 1, "sentinels": 2, "port": master.port}
        for one in watching:
            await eventually_in_reactor(lambda one=one: one.knows() == complete)  # type: ignore[misc]
        await self.connect(f"redis+sentinel://{self.addresses(one.port for one in watching)}/main")
        token = await self.set(b"before", b"a")
        await eventually_in_reactor(lambda: native.exists("rc:a"))
        for one in watching:
            one.take_for_dead_after(300)
        answer = self.storage.execute([Get([b"a"])])  # which waits when the connection is lost
        master.kill()
        with self.assertRaises(BackendError):
            await answer
        self.assertFalse(self.storage.health().ready)
        await self.replaced_for_good(native, replica.port, watching)
        self.assertEqual(await self.value(b"a"), b"before")
        self.assertGreater(await self.set(b"after", b"b"), token)
        self.assertEqual(native.hget("rc:b", "v"), b"after".hex().encode())

    async def test_replica_under_the_name_of_the_master(self) -> None:
        """
        While a sentinel still names a Redis that is a replica by now, nothing
        is written there; it is once the sentinel names another.
        """
        old, new = self.start_redis(), self.start_redis("--shutdown-timeout", "0")
        sentinel = FakeSentinel(old.port)
        await self.connect(f"redis+sentinel://{self.listen(sentinel)}/main")
        await self.set(b"v")
        self.native(old).replicaof("127.0.0.1", new.port)
        refused = await self.do(Store(StoreMode.SET, b"k", b"v"))
        self.assert_failed(refused, ErrorKind.REFUSED)
        await eventually_in_reactor(lambda: "no master" in self.storage.health().reason)
        with self.assertRaises(BackendError):
            await self.get()
        sentinel.port = new.port
        await eventually_in_reactor(lambda: self.storage.health().ready)
        await self.set(b"v")
        self.assertEqual(self.native(new).hget("rc:k", "v"), b"76")

    def listen(self, *sentinels: FakeSentinel) -> str:
        """The addresses of these sentinels, which listen from now on."""
        addresses = []
        for sentinel in sentinels:
            listening = reactor.listenTCP(0, sentinel, interface="127.0.0.1")
            self.addCleanup(self.gone, sentinel)
            self.addCleanup(listening.stopListening)
            addresses.append(f"127.0.0.1:{listening.getHost().port}")
        return ",".join(addresses)

    async def gone(self, sentinel: FakeSentinel) -> None:
        """Wait for the far ends of its connections."""
        await eventually_in_reactor(lambda: not sentinel.connections)

    def there(self, server: RedisServer) -> bytes | None:
        """What stands at the one key in a Redis."""
        with server.client() as client:
            field: bytes | None = client.hget("rc:k", "v")
        return None if field is None else bytes.fromhex(field.decode())

    async def writes_to(self, server: RedisServer, value: bytes) -> None:
        """Store a value, once this Redis is connected to, and check that it is there."""
        link: Any = self.storage._link  # type: ignore[attr-defined]
        port = server.port
        await eventually_in_reactor(
            lambda: link.state is State.UP and link._chosen.address[1] == port
        )
        await self.set(value)
        self.assertEqual(self.there(server), value)

    async def heard_of(self, master: RedisServer) -> FakeSentinel:
        """A sentinel that names this master, once the storage writes to that and listens."""
        sentinel = FakeSentinel(master.port)
        await self.connect(f"redis+sentinel://{self.listen(sentinel)}/main")
        await self.set(b"before")
        await eventually_in_reactor(lambda: sentinel.listeners)
        return sentinel

    async def test_announced(self) -> None:
        """A new master is followed at its announcement, and not at the next question."""
        self.patch(sentinel_module, "ASK_AGAIN", 1000.0)
        old, new = self.start_redis(), self.start_redis()
        sentinel = await self.heard_of(old)
        sentinel.promote(new.port)
        sentinel.announce(b"+switch-master", b"main 127.0.0.1 1 127.0.0.1 2")
        await self.writes_to(new, b"after")
        self.assertEqual(self.there(old), b"before")

    async def test_never_announced(self) -> None:
        """One that nobody announces is found by asking."""
        old, new = self.start_redis(), self.start_redis()
        sentinel = FakeSentinel(old.port)
        await self.connect(f"redis+sentinel://{self.listen(sentinel)}/main")
        await self.set(b"before")
        sentinel.promote(new.port)
        await self.writes_to(new, b"after")

    async def test_standstill(self) -> None:
        """
        A process that has stood still while the master was replaced asks the sentinels before it
        sends anything.
        """
        self.patch(sentinel_module, "ASK_AGAIN", 1000.0)
        old, new = self.start_redis(), self.start_redis()
        sentinel = await self.heard_of(old)
        stores = [Store(StoreMode.SET, b"k%d" % number, b"v") for number in range(100)]

        async def store_all() -> None:
            time.sleep(0.5)
            answers = [self.storage.execute([store]) for store in stores]
            for answer in answers:
                (stored,) = await answer
                self.assertIsInstance(stored, Stored)

        await store_all()
        self.assertEqual(self.native(old).exists(*(f"rc:k{n}" for n in range(100))), 100)
        sentinel.promote(new.port)
        self.native(old).flushall()
        await store_all()
        self.assertEqual(self.native(old).dbsize(), 0)
        self.assertEqual(self.native(new).exists(*(f"rc:k{n}" for n in range(100))), 100)

    async def test_standstill_within_a_turn(self) -> None:
        """What was about to be sent, to a master that was replaced meanwhile, is not."""
        self.patch(sentinel_module, "ASK_AGAIN", 1000.0)
        old, new = self.start_redis(), self.start_redis()
        sentinel = await self.heard_of(old)
        stores = [Store(StoreMode.SET, b"k%d" % number, b"v") for number in range(3)]
        answers = [self.storage.execute([store]) for store in stores]
        sentinel.promote(new.port)
        time.sleep(0.5)
        for answer in answers:
            with self.assertRaisesRegex(BackendError, "storage connection lost"):
                await answer
        self.assertFalse(self.native(old).exists("rc:k0", "rc:k1", "rc:k2"))

    async def test_standstill_in_a_flush(self) -> None:
        """What is removed is all that the new master has, or else nobody is told so."""
        old, new = self.start_redis(), self.start_redis()
        sentinel = await self.heard_of(old)
        for server in (old, new):
            with self.native(server).pipeline() as pipe:
                for number in range(3000):
                    pipe.hset(f"rc:k{number}", "v", "61")
                pipe.execute()
        read_scanned = admin_module.read_scanned

        def stand_still(*scanned: Any) -> Any:
            if sentinel.port == old.port:
                sentinel.promote(new.port)
                time.sleep(0.5)
            return read_scanned(*scanned)

        self.patch(admin_module, "read_scanned", stand_still)
        (flushed,) = await self.storage.execute([Flush(0)])
        lost = Failed(ErrorKind.UNAVAILABLE, "storage connection lost")
        self.assertEqual(flushed, lost)
        self.assertEqual(await self.storage.execute([Flush(0)]), [Outcome.OK])
        self.assertFalse([*self.native(new).scan_iter("rc:*")])

    async def test_standstill_without_sentinels(self) -> None:
        """Where they were all away before, nobody waits for them: the master is served on."""
        sentinel = await self.heard_of(self.start_redis())
        link: Any = self.storage._link  # type: ignore[attr-defined]
        self.patch(HostnameEndpoint, "connect", lambda *_: Deferred())
        for listener in sentinel.listeners:
            listener.transport.abortConnection()
        await eventually_in_reactor(lambda: not link._sentinels.believed())
        asked: list[object] = []
        self.patch(sentinel_module.Sentinels, "find", lambda each: asked.append(each))
        time.sleep(0.5)
        await self.set(b"v")
        self.assertEqual(asked, [])

    async def test_others_are_no_reason(self) -> None:
        """What happens to another master that the same sentinels watch is none of ours."""
        self.patch(connection_module, "_BEAT", 1000.0)  # else they are asked after a standstill
        old = self.start_redis()
        sentinel = await self.heard_of(old)
        asked = sentinel.asked
        self.patch(sentinel_module, "ASK_AGAIN", 1000.0)
        sentinel.announce(b"+switch-master", b"maintain 127.0.0.1 1 127.0.0.1 2")
        await self.set(b"v")
        self.assertLessEqual(sentinel.asked, asked + 1)

    async def test_one_that_is_behind(self) -> None:
        """Of two sentinels that differ, the one that knows of more failovers is believed."""
        old, new = self.start_redis(), self.start_redis()
        behind, ahead = FakeSentinel(old.port), FakeSentinel(old.port)
        await self.connect(f"redis+sentinel://{self.listen(behind, ahead)}/main")
        await self.set(b"before")
        ahead.promote(new.port)
        await self.writes_to(new, b"after")
        for _ in range(3):  # questions: it is not gone back to
            asked = behind.asked
            await eventually_in_reactor(lambda asked=asked: behind.asked > asked)  # type: ignore[misc]
            await self.set(b"later")
            self.assertEqual(self.there(new), b"later")
        self.assertEqual(self.there(old), b"before")

    async def test_all_have_begun_anew(self) -> None:
        """Sentinels that have lost their files count from 0 again, and are heard all the same."""
        old, new = self.start_redis(), self.start_redis()
        sentinels = [FakeSentinel(old.port) for _ in range(2)]
        for sentinel in sentinels:
            sentinel.epoch = 5
        await self.connect(f"redis+sentinel://{self.listen(*sentinels)}/main")
        await self.set(b"before")
        asked = [sentinel.asked for sentinel in sentinels]
        for sentinel in sentinels:
            sentinel.epoch = 0
        for sentinel, before in zip(sentinels, asked, strict=True):
            await eventually_in_reactor(lambda s=sentinel, n=before: s.asked > n + 1)  # type: ignore[misc]
        sentinels[1].answer = lambda command: b"-ERR No such master with that name\r\n"
        sentinels[0].promote(new.port)
        await self.writes_to(new, b"after")

    async def test_about_to_be_replaced(self) -> None:
        """A master is left when a failover begins, and taken again where that comes to nothing."""
        lines = self.logged()
        master = self.start_redis()
        sentinel = FakeSentinel(master.port)
        self.impatient(0.3)
        await self.connect(f"redis+sentinel://{self.listen(sentinel)}/main?timeout=20")
        await self.set(b"before")
        await eventually_in_reactor(lambda: sentinel.listeners)
        sentinel.flags = b"master,failover_in_progress"
        sentinel.announce(b"+try-failover", b"master main 127.0.0.1 1")
        await eventually_in_reactor(lambda: not self.storage.health().ready)
        self.assertIn("replacing", self.storage.health().reason)
        for _ in range(3):
            with self.assertRaises(BackendError):
                await self.do(Store(StoreMode.SET, b"k", b"meanwhile"))
        self.assertEqual(self.there(master), b"before")
        sentinel.flags = b"master"
        await self.writes_to(master, b"after")
        told = [line for line in lines if "Leaving" in line or "Cannot reach" in line]
        self.assertEqual(len(told), 2, told)

    async def test_a_failover_without_end(self) -> None:
        """A failover that does not come to an end keeps nobody from the master for ever."""
        self.impatient(0.1)
        master = self.start_redis()
        sentinel = FakeSentinel(master.port)
        sentinel.flags = b"master,o_down"
        await self.connect(f"redis+sentinel://{self.listen(sentinel)}/main?timeout=20")
        with self.assertRaises(BackendError):
            await self.get()
        self.patch(sentinel_module, "LONGEST_FAILOVER", 0.5)
        await self.writes_to(master, b"v")

    async def test_silent_sentinel(self) -> None:
        """A sentinel that takes the connection and says nothing delays nobody for long."""
        master = self.start_redis()
        silent, other = FakeSentinel(0), FakeSentinel(master.port)
        silent.answer = lambda command: b""
        await self.connect(f"redis+sentinel://{self.listen(silent, other)}/main?timeout=20")
        await self.set(b"v")

    async def test_no_sentinel_there(self) -> None:
        """What listens at a sentinel's address and is none is named for that."""
        server = self.start_redis()
        await self.connect(f"redis+sentinel://127.0.0.1:{server.port}/main?timeout=20")
        with self.assertRaises(BackendError):
            await self.get()
        self.assertRegex(self.storage.health().reason, "says ERR unknown command")

    async def test_no_redis_there(self) -> None:
        """So is what does not speak as a Redis does, or speaks TLS only."""
        for answer, words in (
            (b"HTTP/1.1 400 Bad Request\r\n", r"127\S+: it does not answer as a Redis does$"),
            (b"\x15\x03\x01\x00\x02\x02\x0a", r"127\S+: it speaks TLS: write rediss in"),
        ):
            other = FakeSentinel(0)
            other.answer = lambda command, answer=answer: answer  # type: ignore[misc]
            await self.connect(f"redis+sentinel://{self.listen(other)}/main?timeout=20")
            with self.assertRaises(BackendError):
                await self.get()
            self.assertRegex(self.storage.health().reason, words)

    async def test_ipv6(self) -> None:
        """An address of IPv6 is told with brackets: of a master, and of a sentinel."""
        other = FakeSentinel(free_port())
        other.host = b"::1"
        port = free_port()
        for place, told in (
            (self.listen(other), f"[::1]:{other.port}: "),
            (f"[::1]:{port}", f"no sentinel can be reached: [::1]:{port}: "),
        ):
            await self.connect(f"redis+sentinel://{place}/main?timeout=20")
            with self.assertRaises(BackendError):
                await self.get()
            self.assertIn(told, self.storage.health().reason)

    async def test_master_out_of_reach(self) -> None:
        """What cannot be reached is the master that the sentinels name, so its address is told."""
        lines = self.logged()
        port = free_port()
        await self.connect(f"redis+sentinel://{self.listen(FakeSentinel(port))}/main?timeout=20")
        with self.assertRaises(BackendError):
            await self.get()
        words = f"/main[^ ]*: 127.0.0.1:{port}: .*refused"
        self.assertRegex(self.storage.health().reason, words)
        (line,) = [line for line in lines if "Cannot reach Redis" in line]
        self.assertRegex(line, words)

    async def test_passwords(self) -> None:
        """Sentinels and Redis may each have a password; neither is ever logged."""
        lines = self.logged()
        master = self.start_redis("--requirepass", "SECRET")
        (watching,) = self.sentinels(
            master.port, "sentinel auth-pass main SECRET", "requirepass HIDDEN"
        )
        address = self.addresses([watching.port])
        await self.connect(
            f"redis+sentinel://:SECRET@{address}/main?sentinel_password=HIDDEN&timeout=20"
        )
        await self.set(b"v")
        self.assertEqual(self.native(master, password="SECRET").hget("rc:k", "v"), b"76")
        await self.connect(
            f"redis+sentinel://:SECRETX@{address}/main?sentinel_password=HIDDEN&timeout=20"
        )
        with self.assertRaises(BackendError):
            await self.get()
        self.assertIn("WRONGPASS", self.storage.health().reason)
        shown = [line for line in lines if "SECRET" in line or "HIDDEN" in line]
        self.assertEqual(shown, [])

    async def test_user(self) -> None:
        """Of sentinels with users, one may have no more rights than are needed."""
        users = ("default off", "root on >ROOT &* +@all", "me on >HIDDEN &* +psubscribe +sentinel")
        master = self.start_redis()
        (watching,) = self.sentinels(master.port, *(f"user {user}" for user in users))
        url = f"redis+sentinel://127.0.0.1:{watching.port}/main?sentinel_password=HIDDEN&timeout=20"
        await self.connect(f"{url}&sentinel_user=me")
        await self.set(b"v")
        with watching.client(username="root", password="ROOT") as root:
            await eventually_in_reactor(
                lambda: {one["user"] for one in root.client_list() if one["psub"] == "1"} == {"me"}
            )
        await self.connect(f"{url}&sentinel_user=other")
        with self.assertRaises(BackendError):
            await self.get()
        self.assertRegex(self.storage.health().reason, "sentinel 127.* says NOAUTH")

    async def test_some_sentinels_are_down(self) -> None:
        """One sentinel that answers is enough."""
        master = self.start_redis()
        (watching,) = self.sentinels(master.port)
        addresses = self.addresses([free_port(), watching.port, free_port()])
        await self.connect(f"redis+sentinel://{addresses}/main?timeout=20")
        await self.set(b"v")

    async def test_no_sentinel(self) -> None:
        """Without any sentinel, commands fail, and the reason is given."""
        await self.connect(f"redis+sentinel://{self.addresses([free_port()])}/main?timeout=20")
        with self.assertRaises(BackendError):
            await self.storage.execute([Get([b"k"])])
        self.assertRegex(
            self.storage.health().reason, r"no sentinel can be reached: 127\S+: .*refused"
        )

    async def test_unknown_master(self) -> None:
        """So it is where the sentinels do not know that name."""
        master = self.start_redis()
        (watching,) = self.sentinels(master.port)
        await self.connect(f"redis+sentinel://127.0.0.1:{watching.port}/other?timeout=20")
        with self.assertRaises(BackendError):
            await self.get()
        self.assertRegex(self.storage.health().reason, "knows no master named other")
