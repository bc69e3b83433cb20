"""Redis comes and goes, and what listens there may not even be a Redis."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock

from redcouch.backends.redis import endpoints, master_search, scripts
from redcouch.backends.redis.connection import RedisConnectionFactory
from redcouch.commands import Arithmetic, Command, Delete, Dump, Get, Store, StoreMode, Touch
from redcouch.errors import BackendError
from redcouch.results import ErrorKind, ListedPage, Stored
from redcouch.server.direct_writer import untaken
from redcouch.telemetry.latency import Meter
from tests.backends.redis.case import RedisCase
from tests.backends.redis.fake import FakeRedis, FakeRedisFactory, nothing
from tests.support import servers
from tests.support.polling import eventually_in_reactor
from tests.support.results import named
from tests.support.servers import LASTING, RedisServer, free_port, patient

reactor: Any = _reactor

_OURS = frozenset({"evalsha", "hmget", "get", "exec", "multi"})
"""What was last said on a connection of a storage, and not of a native client."""


class ComingAndGoingTests(RedisCase):
    """One Redis that is started, stopped and paused."""

    async def ready(self) -> None:
        """Wait until commands can be performed."""
        await eventually_in_reactor(lambda: self.storage.health().ready)

    def storing(self, server: RedisServer) -> set[str]:
        """The storage's connections, by the ids that Redis has given them."""
        clients = self.native(server).client_list()
        return {client["id"] for client in clients if client["cmd"].partition("|")[0] in _OURS}

    async def connected_to(self, server: RedisServer) -> set[str]:
        """The same, once there is one."""
        return await eventually_in_reactor(lambda: self.storing(server))

    async def connected_anew(self, server: RedisServer, before: set[str]) -> None:
        """Wait until there is another than those before."""
        await eventually_in_reactor(lambda: self.storing(server) not in (set(), before))

    async def unreachable(self) -> None:
        """Check that a command fails with the reason that there is no Redis."""
        with self.assertRaises(BackendError) as caught:
            await self.get()
        self.assertIs(caught.exception.failed.kind, ErrorKind.UNAVAILABLE)

    async def test_first_moments(self) -> None:
        """A client that comes before the connection is there is served all the same."""
        await self.connect(self.start_redis().url)
        self.assertFalse(self.storage.health().ready)
        answers = [
            self.storage.execute([Arithmetic(b"k", 1, initial=1), Get([b"k"])]) for _ in range(10)
        ]
        counts = [(await answer)[0].value for answer in answers]
        self.assertEqual(counts, list(range(1, 11)))

    async def test_down_at_start(self) -> None:
        """Without a Redis every command fails at once; with one, service begins."""
        lines = self.logged()
        server = self.start_redis()
        server.stop()
        await self.connect(server.url)
        for _ in range(3):
            await self.unreachable()
        health = self.storage.health()
        self.assertFalse(health.ready)
        self.assertRegex(
            health.reason, f"^Redis at {re.escape(servers.patient(server.url))}: .*[Rr]efused"
        )
        server.start()
        await self.ready()
        await self.set(b"v")
        told = [line for line in lines if "Cannot reach Redis" in line]
        self.assertEqual(len(told), 1)
        self.assertIn(server.url, told[0])
        self.assertIn("--storage", told[0])

    async def test_goes_and_comes_back(self) -> None:
        """Each time Redis goes, it is said once; each time it is back, service goes on."""
        lines = self.logged()
        server = self.start_redis()
        await self.connect(server.url)
        await self.set(b"v")
        for times in (1, 2):
            server.stop()
            await eventually_in_reactor(lambda: not self.storage.health().ready)
            await self.unreachable()
            await eventually_in_reactor(lambda: "refused" in self.storage.health().reason)
            server.start()
            await self.ready()
            self.assertIsNone(await self.get())
            await self.set(b"v")
            told = [line for line in lines if "Cannot reach Redis" in line]
            self.assertEqual(len(told), times)

    async def test_a_list_across_connections(self) -> None:
        """A list that another Redis would have to go on with is not said to be all there is."""
        server = self.start_redis()
        await self.connect(server.url)
        await self.all(*(Store(StoreMode.SET, b"k%d" % number, b"v") for number in range(1000)))
        page = await self.do(Dump())
        assert isinstance(page, ListedPage)
        self.assertTrue(page.cursor)
        before = self.storing(server)
        self.native(server).client_kill_filter(_type="normal")
        await self.connected_anew(server, before)
        self.assert_failed(await self.do(Dump(page.cursor)), ErrorKind.UNAVAILABLE)

    async def test_reason_changes(self) -> None:
        """What keeps Redis from serving is what is so now, not what was at first."""
        server = self.start_redis("--requirepass", "right")
        await self.connect(f"redis://:wrong@127.0.0.1:{server.port}")
        await eventually_in_reactor(lambda: "WRONGPASS" in self.storage.health().reason)
        server.stop()
        await eventually_in_reactor(lambda: "refused" in self.storage.health().reason)

    async def test_restart_under_traffic(self) -> None:
        """Killed in the middle of traffic, each command has one answer, none is mixed up."""
        server = self.start_redis()
        await self.connect(server.url)
        answered: list[bool] = []
        stopping = False

        async def client(name: bytes) -> None:
            count = 0
            while not stopping:
                count += 1
                value = b"%b:%d" % (name, count)
                commands: list[Command] = [
                    Store(StoreMode.SET, name, value),
                    Get([name]),
                    Touch(name, 0),
                ]
                try:
                    results = named(await self.storage.execute(commands))
                except BackendError as error:
                    self.assertIs(error.failed.kind, ErrorKind.UNAVAILABLE)
                    answered.append(False)
                    await eventually_in_reactor(lambda: stopping or self.storage.health().ready)
                else:
                    self.assertIsInstance(results[0], Stored)
                    self.assertEqual(results[1][0].value, value)
                    answered.append(True)

        clients = [Deferred.fromCoroutine(client(b"%d" % number)) for number in range(20)]
        for _ in range(3):
            before = len(answered)
            await eventually_in_reactor(lambda before=before: len(answered) > before + 200)  # type: ignore[misc]
            server.kill()
            await eventually_in_reactor(lambda: not self.storage.health().ready)
            server.start()
            await self.ready()
        stopping = True
        await gatherResults(clients)
        self.assertIn(False, answered)
        await self.set(b"v")

    async def test_scripts_after_restart(self) -> None:
        """A Redis that was started anew is told the scripts before it is used."""
        server = self.start_redis(*LASTING)
        await self.connect(server.url)
        token = await self.set(b"v", flags=7)
        server.kill()
        server.start()
        await self.connected_to(server)
        self.assertGreater(await self.set(b"v"), token)

    async def test_pause(self) -> None:
        """A Redis that does not answer in time is given up, and taken again later."""
        lines = self.logged()
        server = self.start_redis()
        await self.connect(f"{server.url}?timeout=20")
        await self.set(b"old")
        link: Any = self.storage._link  # type: ignore[attr-defined]
        patient, link.location = link.location, replace(link.location, timeout=0.2)
        servers.hold(server.pid)
        answers = [self.storage.execute([Get([b"k"])]) for _ in range(3)]
        for answer in answers:
            with self.assertRaisesRegex(BackendError, "storage connection lost"):
                await answer
        await self.unreachable()
        self.assertFalse(self.storage.health().ready)
        self.assertTrue(any("no answer for 0.2 s" in line for line in lines))
        link.location = patient
        os.kill(server.pid, signal.SIGCONT)
        await self.ready()
        for number in range(100):
            key = b"%d" % number
            await self.set(b"value of " + key, key)
            self.assertEqual(await self.value(key), b"value of " + key)

    async def test_closed_while_idle(self) -> None:
        """A connection that Redis closes while nobody waits is made again, and nobody complains."""
        lines = self.logged()
        server = self.start_redis("--timeout", "1")
        await self.connect(server.url)
        await self.set(b"v")
        for _ in range(3):
            await self.connected_anew(server, await self.connected_to(server))
            self.assertTrue(self.storage.health().ready)
            self.assertEqual(await self.value(), b"v")
        self.assertEqual([line for line in lines if "Cannot reach" in line], [])
        told = [line for line in lines if "Connected to Redis" in line]
        self.assertEqual(len(told), 1)

    async def test_callers_wait_for_the_next_connection(self) -> None:
        """Whoever comes between two connections is served by the second."""
        server = self.start_redis()
        await self.connect(server.url)
        await self.set(b"v")
        link: Any = self.storage._link  # type: ignore[attr-defined]
        lost: Deferred[None] = Deferred()
        on_lost = link.on_lost

        def tell(*how: Any) -> None:
            on_lost(*how)
            lost.callback(None)

        self.patch(link, "on_lost", tell)
        self.native(server).client_kill_filter(_type="normal", skipme=True)
        await lost
        self.assertEqual(await self.value(), b"v")

    async def test_killed_connection(self) -> None:
        """An administrator's CLIENT KILL costs those who wait just then, and nobody else."""
        lines = self.logged()
        server = self.start_redis()
        await self.connect(server.url)
        await self.set(b"v")
        client = self.native(server)
        client.client_pause(100)
        answer = self.storage.execute([Store(StoreMode.SET, b"other", b"v")])
        await eventually_in_reactor(lambda: client.client_kill_filter(_type="normal", skipme=True))
        with self.assertRaisesRegex(BackendError, "storage connection lost"):
            await answer
        await self.ready()
        self.assertEqual(await self.value(), b"v")
        told = [line for line in lines if "Cannot reach Redis" in line]
        self.assertEqual(len(told), 1)

    async def test_killed_again_and_again(self) -> None:
        """
        What Redis cuts off at each attempt, as a reply beyond its client-output-buffer-limit, is
        told once, and once that it goes on; that Redis is gone then is told, too.
        """
        lines = self.logged()
        server = self.start_redis()
        await self.connect(server.url)
        await self.set(b"v" * 1_000_000)
        self.native(server).config_set("client-output-buffer-limit", "normal 1mb 0 0")
        for _ in range(5):
            await self.ready()
            with self.assertRaisesRegex(BackendError, "storage connection lost"):
                await self.get()
        await self.ready()
        server.stop()
        await eventually_in_reactor(lambda: "refused" in self.storage.health().reason)
        kinds = "Connected to Redis|Cannot reach Redis|lost again and again"
        told = [kind[0] for line in lines if (kind := re.search(kinds, line))]
        connected, lost, again = kinds.split("|")
        self.assertEqual(told, [connected, lost, connected, again, lost])

    async def test_read_only(self) -> None:
        """
        A Redis that has become a replica is read on and refuses changes, over the
        same connection, for all clients; it is told once, and once more when it
        takes changes again.
        """
        lines = self.logged()
        server = self.start_redis()
        await self.connect(server.url)
        await self.set(b"v")
        client = self.native(server)
        client.replicaof("127.0.0.1", free_port())
        connections = self.storing(server)
        for _ in range(20):
            refused = await self.do(Store(StoreMode.SET, b"k", b"other"))
            self.assert_failed(refused, ErrorKind.REFUSED)
            self.assertEqual(refused.message, "storage answered READONLY")
            self.assertEqual(await self.value(), b"v")
        large = await self.do(Store(StoreMode.SET, b"k", b"other" * 10_000))
        self.assertEqual(large.message, "storage answered READONLY")
        self.assertEqual(await self.value(), b"v")
        self.assertEqual(self.storing(server), connections)
        self.assertTrue(self.storage.health().ready)
        told = [line for line in lines if "Redis" in line and "Connected to" not in line]
        self.assertEqual(len(told), 1, told)
        self.assertIn("READONLY", told[0])
        client.replicaof("NO", "ONE")
        await self.connected_anew(server, connections)
        await self.set(b"again")
        told = [line for line in lines if "Connected to Redis" in line]
        self.assertEqual(len(told), 2)

    async def test_master_elsewhere(self) -> None:
        """
        Where the address has come to lead to a master, that one is used, even if the connection
        that is made when it is found leads to a replica once more.
        """
        replica, master = self.start_redis(), self.start_redis()
        self.native(replica).replicaof("127.0.0.1", master.port)
        lead_to = iter([replica, master, replica])

        def endpoint(reactor: Any, host: str, port: int, **options: Any) -> Any:
            class Endpoint:
                def connect(self, factory: Any) -> Any:
                    port = next(lead_to, master).port
                    return HostnameEndpoint(reactor, host, port, **options).connect(factory)

            return Endpoint()

        self.patch(endpoints, "HostnameEndpoint", endpoint)
        self.patch(master_search, "_FIRST_PAUSE", 0.05)
        await self.connect(patient(replica.url))
        self.assert_failed(await self.do(Store(StoreMode.SET, b"k", b"v")), ErrorKind.REFUSED)
        await eventually_in_reactor(lambda: self.storing(master))
        await self.set(b"v")
        self.assertEqual(self.native(master).hget("rc:k", "v"), b"76")

    async def test_replica_without_its_master(self) -> None:
        """A replica that answers nothing while its master is away costs no connections either."""
        lines = self.logged()
        server = self.start_redis("--replica-serve-stale-data", "no")
        await self.connect(server.url)
        await self.set(b"v")
        client = self.native(server)
        client.replicaof("127.0.0.1", free_port())
        connections = self.storing(server)
        for _ in range(20):
            self.assert_failed(await self.get(), ErrorKind.UNAVAILABLE)
        self.assertEqual(self.storing(server), connections)
        told = [line for line in lines if "MASTERDOWN" in line]
        self.assertEqual(len(told), 1)
        self.assertIn("Clients are answered SERVER_ERROR", told[0])
        self.assertNotIn("Reads go on", told[0])
        client.replicaof("NO", "ONE")
        await self.connected_anew(server, connections)
        self.assertEqual(await self.value(), b"v")

    async def test_meter(self) -> None:
        """Round trips and reconnections are measured, in whichever layout the items are."""
        server = self.start_redis()
        for parameters in ("", "?layout=string"):
            meter = Meter(time.perf_counter)
            await self.connect(server.url + parameters, meter=meter)
            await self.get()
            self.assertGreater(sum(meter.round_trips.counts), 0)
            self.assertEqual(meter.reconnections, 0)
            self.native(server).client_kill_filter(_type="normal", skipme=True)
            await eventually_in_reactor(lambda meter=meter: meter.reconnections)  # type: ignore[misc]

    async def test_stop_with_work_in_flight(self) -> None:
        """Whoever still waits when the service ends is told that."""
        server = self.start_redis()
        await self.connect(server.url)
        await self.set(b"v")
        answer = self.storage.execute([Get([b"k"])])
        stopped = Deferred.fromCoroutine(self.stop(self.storage))
        with self.assertRaises(BackendError):
            await answer
        await stopped
        with self.assertRaises(BackendError):
            await self.get()

    async def test_stop_before_the_connection(self) -> None:
        """A service that ends in its first moment tells those who wait, and leaves nothing."""
        await self.connect(self.start_redis().url)
        answer = self.storage.execute([Get([b"k"])])
        stopped = Deferred.fromCoroutine(self.stop(self.storage))
        with self.assertRaisesRegex(BackendError, "shutting down"):
            await answer
        await stopped

    async def test_stop_while_trying(self) -> None:
        """A service that never found its Redis ends like any other."""
        await self.connect(f"redis://127.0.0.1:{free_port()}")
        await self.unreachable()
        await self.stop(self.storage)

    async def test_unix_socket(self) -> None:
        """Redis is served from its unix socket as well, with password and database."""
        server = self.start_redis("--requirepass", "pass word")
        path = quote(str(server.socket))
        await self.connect(f"redis+unix://:pass%20word@{path}?db=2&prefix=u:")
        await self.set(b"v")
        client = self.native(server, password="pass word", db=2)
        self.assertEqual(client.hget("u:k", "v"), b"76")
        server.stop()
        await eventually_in_reactor(lambda: not self.storage.health().ready)
        await self.unreachable()
        server.start()
        await self.ready()
        await self.set(b"v")

    async def test_no_unix_socket(self) -> None:
        """Where there is no such socket, the reason says so."""
        await self.connect("redis+unix:///nonexistent/redis.sock")
        await self.unreachable()
        self.assertRegex(self.storage.health().reason, "No such file|no such file")


class FakeRedisTests(RedisCase):
    """What is no Redis, or one that has lost its mind."""

    async def listen(self, timeout: float = 30) -> FakeRedisFactory:
        """Something to connect to; the storage knows it."""
        self.fake = FakeRedisFactory()
        listening = reactor.listenTCP(0, self.fake, interface="127.0.0.1")
        self.addCleanup(self.gone)
        self.addCleanup(listening.stopListening)
        self.address = f"redis://127.0.0.1:{listening.getHost().port}?timeout={timeout}"
        return self.fake

    async def gone(self) -> None:
        """Wait for the far ends of the connections."""
        await eventually_in_reactor(lambda: not self.fake.connections)

    async def connect_in_vain(self, words: str) -> None:
        """Check that there is no connection, and that the reason is given."""
        await self.connect(self.address)
        with self.assertRaisesRegex(BackendError, "storage not reachable"):
            await self.get()
        self.assertRegex(self.storage.health().reason, words)

    async def test_http(self) -> None:
        """A web server on that port is named for what it is not."""
        fake = await self.listen()
        fake.prepare = lambda command: b"HTTP/1.1 400 Bad Request\r\n\r\n"
        await self.connect_in_vain("does not answer as a Redis does")

    async def test_greeting(self) -> None:
        """So is what speaks first, as a mail server does."""
        fake = await self.listen()
        fake.greeting = b"220 mail.example.org ESMTP\r\n"
        await self.connect_in_vain("does not answer as a Redis does")

    async def test_silence(self) -> None:
        """What takes the connection and says nothing is given up after the timeout."""
        fake = await self.listen(timeout=0.1)
        fake.prepare = lambda command: b""
        await self.connect_in_vain("no answer for 0.1 s")

    async def test_slow_lookup(self) -> None:
        """Nobody waits for long while the name of its host is looked up, and it is said why."""
        slow = MemoryReactorClock()
        receivers: list[Any] = []
        names: Any = SimpleNamespace(resolveHostName=lambda one, *_, **__: receivers.append(one))
        slow.installNameResolver(names)
        lines = self.logged()
        await self.connect("redis://redis.example?timeout=0.4", reactor=slow)
        answer = self.storage.execute([Get([b"k"])])
        slow.pump([0.1] * 18)
        self.assertNoResult(answer)
        slow.pump([0.1] * 5)
        self.assertIn("storage not reachable", self.failureResultOf(answer).getErrorMessage())
        self.failureResultOf(self.storage.execute([Get([b"k"])]))
        self.assertRegex(self.storage.health().reason, "no connection within 2 s: .* name")
        self.assertEqual(len([line for line in lines if "Cannot reach Redis" in line]), 1)
        receivers[0].addressResolved(IPv4Address("TCP", "127.0.0.1", 6379))
        receivers[0].resolutionComplete()
        slow.advance(0.1)
        self.assertEqual([client[:2] for client in slow.tcpClients], [("127.0.0.1", 6379)])

    async def test_slow_lookup_of_a_cluster(self) -> None:
        """The same of the only node that its URL names."""
        slow = MemoryReactorClock()
        names: Any = SimpleNamespace(resolveHostName=lambda *_, **__: None)
        slow.installNameResolver(names)
        await self.connect("redis+cluster://redis.example?timeout=0.4", reactor=slow)
        answer = self.storage.execute([Get([b"k"])])
        slow.pump([0.1] * 18)
        self.assertNoResult(answer)
        slow.pump([0.1] * 6)
        ((found,),) = self.successResultOf(answer)
        self.assert_failed(found, ErrorKind.UNAVAILABLE)

    async def test_far_away(self) -> None:
        """
        All that waits for no answer is asked in one go: a connection is ready after few round
        trips, however far Redis is.
        """
        fake = await self.listen()
        held: list[bytes] = []
        last = [[b"HELLO", b"2", b"SETNAME", b"redcouch"], [b"INFO", b"memory"]]
        version = b"*2\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n"

        def answer(command: list[bytes]) -> bytes:
            held.append(version if command[0] == b"HELLO" else b":1\r\n")
            if command not in last and scripts.FRESH.sha not in command:
                return b""
            answers = b"".join(held)
            held.clear()
            return answers

        fake.prepare = fake.answer = answer
        address = self.address.replace("//", "//user:password@").replace("?", "/2?")
        for parameters in ("", "&cache=1m"):
            storage = await self.connect(address + parameters)
            await eventually_in_reactor(lambda storage=storage: storage.health().ready)  # type: ignore[misc]
            await self.stop(storage)
            held.clear()

    async def test_ended_at_the_last_moment(self) -> None:
        """What comes once it is told to end, in the same turn of the reactor, begins nothing."""
        fake = await self.listen()
        bell, rope = socket.socketpair()
        self.enterContext(bell)
        self.enterContext(rope)
        stopped: Deferred[None] = Deferred()

        class Bell:
            def fileno(self) -> int:
                return bell.fileno()

            def logPrefix(self) -> str:
                return "bell"

            def doRead(self) -> None:
                reactor.removeReader(self)
                storage.stop().chainDeferred(stopped)

        def answer(command: list[bytes]) -> bytes:
            if command[0] == b"HELLO":
                return b"*2\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n"
            if scripts.FRESH.sha not in command:
                return b":1\r\n"
            assert fake.speaker is not None
            reactor.callLater(0.1, ring, fake.speaker.transport.socket)
            return b""

        def ring(to: socket.socket) -> None:
            rope.send(b"!")
            to.sendall(b":1\r\n")

        fake.prepare = fake.answer = answer
        reactor.addReader(Bell())
        storage = await self.connect(self.address)
        self._started.remove(storage)
        await stopped

    async def test_closes_at_once(self) -> None:
        """What closes each connection is not asked ever faster."""
        fake = await self.listen()
        accept = FakeRedis.connectionMade

        def close(connection: FakeRedis) -> None:
            accept(connection)
            connection.transport.loseConnection()

        self.patch(FakeRedis, "connectionMade", close)
        await self.connect_in_vain("closed|lost|Lost")
        await eventually_in_reactor(lambda: fake.made > 2)
        self.assertFalse(self.storage.health().ready)

    async def test_still_loading(self) -> None:
        """A Redis that still reads its data is waited for, and the reason is its own."""
        fake = await self.listen()
        loading = b"-LOADING Redis is loading the dataset in memory\r\n"
        fake.prepare = lambda command: loading
        await self.connect_in_vain("LOADING")
        fake.prepare = lambda command: b"$2\r\nok\r\n"
        await eventually_in_reactor(lambda: self.storage.health().ready)

    async def test_reasons_in_turn(self) -> None:
        """Reasons that come again and again, as while Redis is loading, are told once each."""
        fake, lines = await self.listen(), self.logged()
        self.patch(RedisConnectionFactory, "maxDelay", 0.05)
        reasons = ["LOADING", "BUSY", "MASTERDOWN"]
        fake.prepare = lambda command: f"-{reasons[fake.made % 3]} x\r\n".encode()
        await self.connect(self.address)
        await eventually_in_reactor(lambda: fake.made > 9)
        for reason in reasons:
            self.assertEqual(len([line for line in lines if f": {reason} x" in line]), 1)

    async def test_reasons_without_end(self) -> None:
        """Nor does one that is never the same fill the log."""
        fake, lines = await self.listen(), self.logged()
        self.patch(RedisConnectionFactory, "maxDelay", 0.05)
        fake.prepare = lambda command: b"-ERR attempt %d\r\n" % fake.made
        await self.connect(self.address)
        await eventually_in_reactor(lambda: fake.made > 20)
        self.assertLess(len([line for line in lines if "Cannot reach Redis" in line]), 10)

    async def test_garbage_later(self) -> None:
        """Garbage in place of a reply costs the connection; another is made."""
        fake = await self.listen()
        await self.connect(self.address)
        self.assertIsNone(await self.get())
        fake.answer = lambda command: b"garbage\r\n"
        with self.assertRaisesRegex(BackendError, "storage connection lost"):
            await self.get()
        fake.answer = nothing
        await eventually_in_reactor(lambda: self.storage.health().ready)

    async def test_replies_nobody_asked_for(self) -> None:
        """One reply too many: nobody is given what belongs to somebody else."""
        fake = await self.listen()
        await self.connect(self.address)
        self.assertIsNone(await self.get())
        fake.answer = lambda command: nothing(command) * 2
        self.assertIsNone(await self.get())
        await eventually_in_reactor(lambda: fake.made > 1)
        fake.answer = nothing
        await eventually_in_reactor(lambda: self.storage.health().ready)
        fake.connections[0].transport.write(b"$1\r\n5\r\n")
        await eventually_in_reactor(lambda: fake.made > 2)

    async def test_wrong_shapes(self) -> None:
        """Well-formed replies that make no sense are errors; nobody waits for ever."""
        shapes = [
            b":1\r\n",
            b"+OK\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*1\r\n:5\r\n",
            b"*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n",
            b"*4\r\n*0\r\n*0\r\n*0\r\n*0\r\n",
            b"*4\r\n-ERR x\r\n-ERR x\r\n-ERR x\r\n-ERR x\r\n",
            b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n",
            b"-\r\n",
            b"-ERR\r\n",
            b"$0\r\n\r\n",
        ]
        commands: list[Command] = [
            Get([b"k"], cas=True),
            Get([b"k"]),
            Store(StoreMode.SET, b"k", b"v"),
            Store(StoreMode.ADD, b"k", b"v"),
            Arithmetic(b"k", 1),
            Touch(b"k", 1),
            Delete(b"k"),
        ]
        fake = await self.listen()
        await self.connect(self.address)
        for shape in shapes:
            for command in commands:
                fake.answer = lambda command, shape=shape: shape  # type: ignore[misc]
                await eventually_in_reactor(lambda: self.storage.health().ready)
                with contextlib.suppress(BackendError):
                    await self.do(command)
        self.flushLoggedErrors()

    async def test_standstill(self) -> None:
        """A process that stood still itself does not take that for Redis's silence."""
        fake = await self.listen(timeout=30)
        fake.answer = lambda command: b"*3\r\n$2\r\n76\r\n$-1\r\n$-1\r\n"
        await self.connect(self.address)
        await self.get()
        link: Any = self.storage._link  # type: ignore[attr-defined]
        link.location, link._pause = replace(link.location, timeout=0.2), 0.05
        link._watch.stop()
        link._looked_at = reactor.seconds()
        link._watch.start(0.05, now=False)
        answer = self.storage.execute([Get([b"k"])])
        await deferLater(reactor, 0)  # it is on its way, and the fake has yet to see it
        reactor.callFromThread(time.sleep, 0.6)
        ((item,),) = named(await answer)
        self.assertEqual(item.value, b"v")

    async def test_slow_but_steady(self) -> None:
        """A large answer may take longer than the timeout, as long as it keeps coming."""
        fake = await self.listen(timeout=30)
        await self.connect(self.address)
        await self.get()
        late = Late(reactor)
        link = self.storage._link  # type: ignore[attr-defined]
        self.patch(link, "reactor", late)
        fake.answer = lambda command: b"*3\r\n$600\r\n"
        answer = self.storage.execute([Get([b"k"])])
        replies = iter([b"6b" * 150, b"6b" * 150, b"\r\n$-1\r\n$-1\r\n"])
        for reply in replies:
            await eventually_in_reactor(lambda: link._protocol.heard_at == late.by)
            late.by += 20
            link._check_time()
            fake.connections[0].transport.write(reply)
        ((item,),) = await answer
        self.assertEqual(item.value, b"k" * 300)
        answer = self.storage.execute([Get([b"k"])])
        late.by += 40
        for _ in range(2):  # the first time it might be ourselves who are late
            link._check_time()
        with self.assertRaisesRegex(BackendError, "storage connection lost"):
            await answer

    async def test_slow_to_take(self) -> None:
        """
        A large value may take longer than the timeout to be sent, as long as more of it is
        taken. What comes behind it does not count.
        """
        fake = await self.listen(timeout=30)
        await self.connect(self.address)
        await self.get()
        late = Late(reactor)
        link: Any = self.storage._link  # type: ignore[attr-defined]
        self.patch(link, "reactor", late)
        takes, gives = fake.connections[0].transport, link._protocol.transport
        # Or the system may come to take a whole value by itself.
        takes.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        large = Store(StoreMode.SET, b"k", b"v" * 3_000_000)

        def pass_time(seconds: int) -> None:
            late.by += seconds
            for _ in range(2):  # the first time it might be ourselves who are late
                link._check_time()

        takes.pauseProducing()
        answer = self.storage.execute([large])
        await eventually_in_reactor(lambda: untaken(gives))
        for _ in range(3):
            before = untaken(gives)
            await eventually_in_reactor(
                lambda before=before: takes.doRead() or untaken(gives) < before  # type: ignore[misc]
            )
            pass_time(20)
        takes.resumeProducing()
        (result,) = named(await answer)
        self.assertNotEqual(result.kind, ErrorKind.UNAVAILABLE)
        fake.answer = lambda command: b""
        answers = [self.storage.execute([Get([b"k"])])]
        await deferLater(reactor, 0)
        for _ in range(2):
            await eventually_in_reactor(lambda: not untaken(gives))
            pass_time(10)
            takes.pauseProducing()
            answers.append(self.storage.execute([large]))
            await eventually_in_reactor(lambda: untaken(gives))
            pass_time(10)
            takes.resumeProducing()
        for answer in answers:
            with self.assertRaisesRegex(BackendError, "storage connection lost"):
                await answer


class Late:
    """A reactor whose time has moved on."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.by: float = real.seconds()

    def seconds(self) -> float:
        return self.by

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
