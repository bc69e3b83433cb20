"""Redis behind Sentinel: a master, a replica, and three that watch them."""

from __future__ import annotations

import subprocess
from typing import Any

import redis
from twisted.internet import reactor as _reactor

from redcouch.backends.redis.resp import bulk
from redcouch.commands import Get, Store, StoreMode
from redcouch.errors import BackendError
from redcouch.results import Trouble
from tests.backends.redis.case import RedisCase
from tests.backends.redis.fake import FakeRedisFactory
from tests.support.polling import eventually_in_reactor
from tests.support.servers import free_port, redis_binary

reactor: Any = _reactor


class SentinelTests(RedisCase):
    """On loopback."""

    def sentinels(self, master: int, *lines: str, count: int = 3) -> list[int]:
        """The ports of sentinels that watch a master under the name C{main}."""
        directory = self.folder()
        ports = []
        for _ in range(count):
            port = free_port()
            file = directory / f"{port}.conf"
            rules = [
                f"port {port}",
                "bind 127.0.0.1",
                f"dir {directory}",
                f"sentinel monitor main 127.0.0.1 {master} 2",
                "sentinel down-after-milliseconds main 300",
                "sentinel failover-timeout main 3000",
                *lines,
            ]
            file.write_text("\n".join(rules) + "\n")
            process = subprocess.Popen(
                [redis_binary(), str(file), "--sentinel"], stdout=subprocess.DEVNULL
            )
            self.addCleanup(process.wait)
            self.addCleanup(process.terminate)
            ports.append(port)
        return ports

    def addresses(self, ports: list[int]) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in ports)

    def knows(self, port: int, password: str | None = None) -> dict[str, int]:
        """What a sentinel knows; empty while it is not up."""
        with redis.Redis(port=port, password=password) as client:
            try:
                state = client.sentinel_master("main")
            except redis.ConnectionError:
                return {}
        return {
            "replicas": int(state["num-slaves"]),
            "sentinels": int(state["num-other-sentinels"]),
            "port": int(state["port"]),
        }

    async def test_failover(self) -> None:
        """When the master dies, writes go to the replica that takes its place."""
        master, replica = self.start_redis("--repl-diskless-sync-delay", "0"), self.start_redis()
        native = self.native(replica)
        native.replicaof("127.0.0.1", master.port)
        await eventually_in_reactor(
            lambda: native.info("replication")["master_link_status"] == "up"
        )
        ports = self.sentinels(master.port)
        complete = {"replicas": 1, "sentinels": 2, "port": master.port}
        for port in ports:
            await eventually_in_reactor(lambda port=port: self.knows(port) == complete)  # type: ignore[misc]
        await self.connect(f"redis+sentinel://{self.addresses(ports)}/main")
        token = await self.set(b"before", b"a")
        await eventually_in_reactor(lambda: native.exists("rc:a"))
        master.kill()
        await eventually_in_reactor(lambda: not self.storage.health().ready)
        with self.assertRaises(BackendError):
            await self.get()
        await eventually_in_reactor(lambda: self.storage.health().ready)
        self.assertEqual(await self.value(b"a"), b"before")
        self.assertGreater(await self.set(b"after", b"b"), token)
        self.assertEqual(native.hget("rc:b", "v"), b"after".hex().encode())

    async def test_replica_under_the_name_of_the_master(self) -> None:
        """
        While a sentinel still names a Redis that is a replica by now, nothing
        is written there; it is once the sentinel names another.
        """
        old, new = self.start_redis(), self.start_redis("--shutdown-timeout", "0")
        named = old

        def answer(command: list[bytes]) -> bytes:
            facts = [b"name", b"main", b"ip", b"127.0.0.1", b"port", b"%d" % named.port]
            facts += [b"flags", b"master", b"num-other-sentinels", b"0"]
            return b"*1\r\n*%d\r\n" % len(facts) + b"".join(map(bulk, facts))

        sentinel = FakeRedisFactory()
        sentinel.answer = answer
        listening = reactor.listenTCP(0, sentinel, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        await self.connect(f"redis+sentinel://127.0.0.1:{listening.getHost().port}/main")
        await self.set(b"v")
        self.native(old).replicaof("127.0.0.1", new.port)
        refused = await self.do(Store(StoreMode.SET, b"k", b"v"))
        self.assert_failed(refused, Trouble.REFUSED)
        await eventually_in_reactor(lambda: "no master" in self.storage.health().reason)
        with self.assertRaises(BackendError):
            await self.get()
        named = new
        await eventually_in_reactor(lambda: self.storage.health().ready)
        await self.set(b"v")
        self.assertEqual(self.native(new).hget("rc:k", "v"), b"76")

    async def test_passwords(self) -> None:
        """Sentinels and Redis may each have a password; neither is ever logged."""
        lines = self.logged()
        master = self.start_redis("--requirepass", "SECRET")
        ports = self.sentinels(
            master.port, "sentinel auth-pass main SECRET", "requirepass HIDDEN", count=1
        )
        await eventually_in_reactor(lambda: self.knows(ports[0], password="HIDDEN"))
        address = self.addresses(ports)
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

    async def test_some_sentinels_are_down(self) -> None:
        """One sentinel that answers is enough."""
        master = self.start_redis()
        (port,) = self.sentinels(master.port, count=1)
        await eventually_in_reactor(lambda: self.knows(port))
        addresses = self.addresses([free_port(), port, free_port()])
        await self.connect(f"redis+sentinel://{addresses}/main?timeout=20")
        await self.set(b"v")

    async def test_no_sentinel(self) -> None:
        """Without any sentinel, commands fail, and the reason is given."""
        await self.connect(f"redis+sentinel://{self.addresses([free_port()])}/main?timeout=0.2")
        with self.assertRaises(BackendError):
            await self.storage.execute([Get([b"k"])])
        self.assertRegex(self.storage.health().reason, "No master found for main")

    async def test_unknown_master(self) -> None:
        """So it is where the sentinels do not know that name."""
        master = self.start_redis()
        (port,) = self.sentinels(master.port, count=1)
        await eventually_in_reactor(lambda: self.knows(port))
        await self.connect(f"redis+sentinel://127.0.0.1:{port}/other?timeout=0.5")
        with self.assertRaises(BackendError):
            await self.get()
        self.assertRegex(self.storage.health().reason, "No master found for other")
