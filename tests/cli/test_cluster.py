"""Subcommands, native items and functions on a cluster: what is not as on one Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import redis
import redis.asyncio
from pymemcache.client.base import Client

from redcouch.backends.redis.cluster.slots import slot_of
from redcouch.backends.redis.scripts import DELETE
from redcouch.cli import promote_across_slots
from redcouch.cli.storage import ClusterStorage, open_storage, read_storage
from redcouch.errors import ConfigurationError
from redcouch.native import AsyncItems, Items
from tests.cli.filling import Given, fill, fill_many, get
from tests.cli.running import run
from tests.support.cluster import Cluster, ClusterNode, redis_cluster
from tests.support.polling import eventually
from tests.support.requirements import needs
from tests.support.servers import LOOPBACK, Memcached, RedCouch, free_port, hold
from tests.support.wire import ask

pytestmark = pytest.mark.over("cluster")


@pytest.mark.usefixtures("client")
def test_import_and_verify(
    memcached: Memcached, old: str, redcouch: RedCouch, any_redis: Cluster
) -> None:
    """Items go to the nodes that clients of the cluster, and the service, look for them at."""
    items = {b"a{tag}%d" % place: Given(b"v%d" % place, place) for place in range(50)}
    items |= {b"k%d" % place: Given(b"v" * place, 0, 1000) for place in range(200)}
    fill(memcached.address, items)
    assert run("import", old, "--to", any_redis.url, "--json").json["copied"] == 250
    assert run("verify", old, any_redis.url).status == 0
    for key, item in items.items():
        assert get(redcouch.address, key) == (item.value, item.flags)
    assert all(node.ask("DBSIZE") for node in any_redis.masters)


@pytest.mark.parametrize("others", [0, 2**28])
def test_one_master_has_no_room(
    others: int, any_redis: Cluster, memcached: Memcached, client: redis.RedisCluster
) -> None:
    """
    That the others have is no help: of what hashing spreads evenly, it is to take its part. Where
    it has some, it is told how much the cluster takes until it is full.
    """
    assert client.dbsize() == 0
    fill(memcached.address, {b"k%d" % n: Given(b"v" * 10_000) for n in range(300)})
    full, *rest = any_redis.masters

    def limit(node: ClusterNode, room: int) -> None:
        with node.client() as asked:
            used = asked.info("memory")["used_memory"]
            asked.config_set("maxmemory", used + room if room else 0)

    with ExitStack() as stack:
        for node in any_redis.masters:
            stack.callback(node.ask, "CONFIG SET", "maxmemory", 0)
        for node in rest:
            limit(node, others)
        for room in (1, 2**19):
            limit(full, room)
            said = run("import", memcached.url, "--to", any_redis.url, "--json")
            assert (said.status, said.json["copied"], said.json["failed"]) == (1, 0, 0)
            assert "nothing is copied without --force" in said.err
        assert 2**19 < said.json["estimate"]["free"] < 4 * 2**19
        limit(full, 2**25)
        said = run("import", memcached.url, "--to", any_redis.url, "--json")
        assert (said.status, said.json["copied"]) == (0, 300)


def test_slots_that_move(
    redcouch: RedCouch, any_redis: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands see the keys that go where they have looked; others they see once."""
    fill_many(redcouch.address, b"k", 300)
    seen: Counter[bytes] = Counter()
    with open_storage(read_storage(any_redis.url)) as opened:
        masters = opened._masters()
        ports = [one.connection_pool.connection_kwargs["port"] for one in masters]
        first, last = (
            next(node for node in any_redis.masters if node.port == port)
            for port in (ports[0], ports[-1])
        )
        slot = next(
            slot
            for slot in (slot_of(b"rc:k%d" % number) for number in range(300))
            if any_redis.serving(slot) is last
        )
        walks = []

        def each_master() -> Iterator[Any]:
            walks.append(slot)
            yield masters[0]
            if len(walks) == 1:
                with any_redis.moving(slot, first):
                    pass
            yield from masters[1:]

        monkeypatch.setattr(opened, "_masters", each_master)
        for keys in opened.scan():
            seen.update(keys)
    assert seen.keys() == {b"k%d" % number for number in range(300)}
    once = [key for key, times in seen.items() if times == 1]
    assert {any_redis.serving(slot_of(b"rc:" + key)) for key in once} >= {*any_redis.masters} - {
        first
    }
    with any_redis.moving(slot, last):  # as it was
        pass


def test_a_slot_that_stays_on_its_way(
    redcouch: RedCouch, any_redis: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A reshard that has been left halfway keeps no command from its end, and what comes over
    meanwhile, to where it has looked, is seen.
    """
    fill_many(redcouch.address, b"k", 300)
    slot = slot_of(b"rc:k0")
    source = any_redis.serving(slot)
    target = next(node for node in any_redis.masters if node is not source)
    with open_storage(read_storage(any_redis.url)) as opened:
        masters = sorted(
            opened._masters(),
            key=lambda one: one.connection_pool.connection_kwargs["port"] != target.port,
        )
        moving = any_redis.moving(slot, target)
        walks = []

        def each_master() -> Iterator[Any]:
            walks.append(slot)
            assert len(walks) <= 2
            yield masters[0]
            if len(walks) == 1:
                source.ask("MIGRATE", LOOPBACK, target.port, "rc:k0", 0, 5000)
            yield from masters[1:]

        monkeypatch.setattr(opened, "_masters", each_master)
        with moving:
            seen = Counter(key for keys in opened.scan() for key in keys)
    assert seen == Counter(b"k%d" % number for number in range(300))
    with any_redis.moving(slot, source):  # as it was
        pass


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ((), ""),
        (("preferred-endpoint-type", "unknown-endpoint"), ""),
        (
            ("preferred-endpoint-type", "hostname", "announce-hostname", "nowhere.invalid"),
            "?map=nowhere.invalid=127.0.0.1",
        ),
    ],
)
@needs("redis 7.0")
def test_a_master_without_a_slot(options: Sequence[str], parameters: str) -> None:
    """
    What is on its way to one that has just joined is found there, however that is called;
    and scripts are taken along.
    """
    given = [f"--cluster-{word}" if place % 2 == 0 else word for place, word in enumerate(options)]
    slot = slot_of(b"rc:k")
    with redis_cluster(*given, version="7.0", masters=2, replicas=False) as cluster:
        source, target = cluster.serving(slot), cluster.grow()
        source.ask("HSET", "rc:k", "v", "31")
        where = ("-s", cluster.url + parameters)
        with cluster.moving(slot, target):
            source.ask("MIGRATE", LOOPBACK, target.port, "rc:k", 0, 5000)
            assert run("inspect", "k", *where).status == 0
            assert {line["key"] for line in run("ls", "--json", *where).lines} == {"k"}
            assert run("cleanup", "--yes", "--force", *where).status == 0
            assert target.ask("DBSIZE") == 0


def test_promoting_what_is_listed_twice(
    redcouch: RedCouch,
    any_redis: Cluster,
    client: redis.RedisCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where slots move: it is promoted once."""
    fill(redcouch.address, {b"a": Given(b"v")})
    monkeypatch.setattr(ClusterStorage, "scan", lambda *_: iter([[b"a", b"a"]]))
    promote = ("promote", "a", "--to", "string", "--overwrite", "--force", "-s", any_redis.url)
    assert run(*promote, "--json").json["promoted"] == 1
    assert (client.get("a"), client.exists("rc:a")) == (b"v", 0)


def test_cleanup(redcouch: RedCouch, any_redis: Cluster, client: redis.RedisCluster) -> None:
    """What is under the prefix goes, from all nodes; so do RedCouch's own keys, if asked for."""
    fill_many(redcouch.address, b"k", 500)
    client.set("other", "1")
    client.set("redcouch:system", "2")
    assert (
        run("cleanup", "--force", "--dry-run", "-s", any_redis.url, "--json").json["found"] == 500
    )
    assert run("cleanup", "--force", "--yes", "-s", any_redis.url).out.startswith(
        "removed 500 of 500 keys"
    )
    assert client.keys("rc:*") == []
    client.set("redcouch:sys:flush_at:rc:", "no time")
    assert run("cleanup", "--force", "--yes", "--system", "-s", any_redis.url).status == 0
    assert client.exists("redcouch:sys:flush_at:rc:") == 0
    assert client.exists("other", "redcouch:system") == 2


@pytest.mark.usefixtures("client")
def test_traffic_and_ready(redcouch: RedCouch, any_redis: Cluster) -> None:
    """The inventory is found."""
    ask(redcouch.address, b"get traffic:1\r\n", b"END\r\n")
    url = any_redis.url

    def seen() -> bool:
        said = run("traffic", "--json", "-s", url)
        return said.status == 0 and "traffic:" in str(said.json["prefix"])

    eventually(seen)
    assert run("ready", "--quiet-for", "1h", "-s", url).status == 1


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (["ready", "--quiet-for", "1h"], "redcouch:sys:traffic"),
        (["traffic"], "redcouch:sys:traffic"),
        (["cleanup", "--dry-run"], "redcouch:sys:traffic"),
        (["stage"], "redcouch:sys:{warm}_members:rc:"),
    ],
)
def test_whose_clock(
    command: list[str],
    key: str,
    any_redis: Cluster,
    client: redis.RedisCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is noted is held against the clock of the node that it was noted by, and no other."""
    client.hset("redcouch:sys:{warm}_state:rc:", mapping={"stage": "redis-first", "version": 1})
    execute, asked = redis.RedisCluster.execute_command, []

    def execute_command(self: Any, name: str, *rest: Any, **options: Any) -> Any:
        if name == "TIME":
            asked.append(options["target_nodes"])
        return execute(self, name, *rest, **options)

    monkeypatch.setattr(redis.RedisCluster, "execute_command", execute_command)
    run(*command, "-s", any_redis.url)
    assert asked[0] == client.get_node_from_key(key)


def test_promoting_what_goes_away(
    redcouch: RedCouch, any_redis: Cluster, client: redis.RedisCluster
) -> None:
    """An item that clients remove and make again meanwhile harms no other."""
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            said = ask(redcouch.address, b"delete churn\r\nset churn 0 0 1\r\nx\r\n", b"STORED\r\n")
            assert said.endswith(b"STORED\r\n")

    fill_many(redcouch.address, b"k", 100)
    churning = threading.Thread(target=churn)
    churning.start()
    try:
        told = [
            run("promote", "*", "--force", "--to", "string", "-s", any_redis.url, "--json").json
        ]
        for _ in range(5):
            fill(redcouch.address, {b"churn": Given(b"y")})
            again = (
                "promote",
                "c*",
                "--force",
                "--overwrite",
                "--to",
                "string",
                "-s",
                any_redis.url,
            )
            told.append(run(*again, "--json").json)
    finally:
        over.set()
        churning.join()
    assert sum(one["promoted"] for one in told) >= 100
    assert all(client.get(f"k{place}") == b"%d" % place for place in range(100))
    assert client.get("churn") in (None, b"x", b"y")


def test_promoting_where_an_answer_is_lost(
    any_redis: Cluster, client: redis.RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an item that was removed then, nobody asks again: the string would count as too much."""
    connection = redis.connection.AbstractConnection
    send, read = connection.send_packed_command, redis.Connection.read_response
    waiting: list[Any] = []
    lost: list[Any] = []

    def send_packed_command(self: Any, command: Any, *rest: Any, **options: Any) -> None:
        sent = command if isinstance(command, bytes) else b"".join(command)
        if DELETE.sha in sent and b"GETKEYS" not in sent and not (waiting or lost):
            waiting.append(self)
        send(self, command, *rest, **options)

    def read_response(self: Any, *rest: Any, **options: Any) -> Any:
        reply = read(self, *rest, **options)
        if self in waiting:
            lost.append(reply)
            waiting.clear()
            self.disconnect()
            raise redis.ConnectionError("lost")
        return reply

    for place in range(15):
        client.hset(f"rc:k{place}", "v", "61")
    with monkeypatch.context() as patched:
        patched.setattr(connection, "send_packed_command", send_packed_command)
        patched.setattr(redis.Connection, "read_response", read_response)
        promoting = ("promote", "*", "--to", "string", "--force", "-s", any_redis.url)
        said = run(*promoting)
    assert (said.status, lost) == (3, [1]), said
    assert run(*promoting, "--overwrite").status == 0
    assert [client.get(f"k{place}") for place in range(15)] == [b"a"] * 15


@pytest.mark.parametrize(("ttl", "left"), [(3600, range(3500, 3601)), (None, [-1])])
def test_promoting_what_is_touched(
    ttl: int | None,
    left: Sequence[int],
    any_redis: Cluster,
    client: redis.RedisCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An item that is given a new time to live behind its string's back: the string has it."""
    items, waiting = Items(client), [ttl]
    items.set("k", "v", ttl=1800)

    def place_and_touch(*arguments: Any) -> None:
        place(*arguments)
        if waiting:
            assert items.touch("k", waiting.pop())

    place = promote_across_slots._place
    monkeypatch.setattr(promote_across_slots, "_place", place_and_touch)
    with open_storage(read_storage(any_redis.url)) as opened:
        pairs = [(b"rc:k", b"k")]
        said = promote_across_slots.promote_across_slots(opened, pairs, False, False, False)
    assert said == [[b"promoted", b"0"]]
    assert client.get("k") == b"v" and client.ttl("k") in left
    assert not client.exists("rc:k")


def test_promoting_what_there_is_no_room_for(
    any_redis: Cluster, client: redis.RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An item that is changed behind its string's back while Redis gets full stays, and the string,
    which has the value from before, does not.
    """
    items = Items(client)
    items.set("k", "before")

    def limit(memory: int) -> None:
        for node in any_redis.masters:
            node.ask("CONFIG SET", "maxmemory", str(memory))

    def place_and_change(*arguments: Any) -> None:
        monkeypatch.undo()
        place(*arguments)
        items.set("k", "now")
        limit(1)

    place = promote_across_slots._place
    monkeypatch.setattr(promote_across_slots, "_place", place_and_change)
    try:
        said = run("promote", "k", "--to", "string", "--force", "-s", any_redis.url, "--json")
    finally:
        limit(0)
    assert (said.status, said.json["failed"]) == (1, 1)
    assert (items.get("k"), client.get("k")) == (b"now", None)


@pytest.mark.parametrize(("ttl", "seconds"), [(60, 3600), (None, None)])
def test_promoting_what_is_written_as_a_string(
    ttl: int | None,
    seconds: int | None,
    any_redis: Cluster,
    client: redis.RedisCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A string that a service writes meanwhile stays, though it has the bytes of the item's."""
    Items(client).set("k", "same", ttl=ttl)

    def place_and_write(*arguments: Any) -> None:
        place(*arguments)
        client.set("k", "same", ex=seconds)
        client.delete("rc:k")

    place = promote_across_slots._place
    monkeypatch.setattr(promote_across_slots, "_place", place_and_write)
    said = run("promote", "k", "--to", "string", "--force", "-s", any_redis.url, "--json")
    assert (said.status, said.json["promoted"]) == (0, 0)
    assert (client.get("k"), client.exists("rc:k")) == (b"same", 0)
    assert client.ttl("k") == -1 if seconds is None else client.ttl("k") > 60


def test_promote_with_flags(any_redis: Cluster) -> None:
    """There are no side keys on a cluster."""
    said = run("promote", "*", "--to", "string", "--with-flags", "-s", any_redis.url)
    assert (said.status, "is for one Redis" in said.err) == (2, True)


def test_forgotten_scripts(
    redcouch: RedCouch, any_redis: Cluster, client: redis.RedisCluster
) -> None:
    """Nodes that have lost the scripts are told them again."""
    fill_many(redcouch.address, b"k", 100)
    items = Items(client)
    for node in any_redis.masters:
        node.ask("SCRIPT FLUSH")
    assert len(run("ls", "--json", "-s", any_redis.url).lines) == 100
    assert len(items.get_many([f"k{place}" for place in range(100)])) == 100


def test_a_cluster_that_is_not_there() -> None:
    """One line, and status 3; and so where there is one Redis only."""
    said = run("ls", "-s", f"redis+cluster://127.0.0.1:{free_port()}")
    assert said.status == 3
    assert said.err.startswith("redcouch: redis+cluster://127.0.0.1:")
    assert "Traceback" not in said.err


@pytest.mark.parametrize("place", range(3))
def test_a_master_that_hangs(place: int, any_redis: Cluster) -> None:
    """It is said which one: the operator is to find it."""
    held = any_redis.masters[place]
    with any_redis.node_timeout(600_000):
        hold(held.pid)
        try:
            said = run("ls", "-s", f"{any_redis.url}?timeout=0.2")
        finally:
            os.kill(held.pid, signal.SIGCONT)
    _, _, why = said.err.partition("?timeout=0.2: ")
    assert (said.status, f"{LOOPBACK}:{held.port}" in why) == (3, True)


@needs("redis 7.0")
def test_a_node_without_a_name() -> None:
    """It is said what is to be set, once it is to be known by a name."""
    by_name = ("--cluster-preferred-endpoint-type", "hostname")
    with redis_cluster(*by_name, version="7.0", masters=2, replicas=False) as cluster:
        one, other = cluster.nodes
        one.ask("CONFIG SET", "cluster-announce-hostname", "localhost")
        eventually(lambda: b"localhost" in [slots[2][0] for slots in other.ask("CLUSTER SLOTS")])
        ended = run("ls", "-s", cluster.url)
        assert (ended.status, "set its cluster-announce-hostname" in ended.err) == (3, True)
        other.ask("CONFIG SET", "cluster-announce-hostname", "localhost")
        eventually(lambda: run("ls", "-s", cluster.url).status == 1)  # there is none


def test_one_node_as_if_it_were_all(any_redis: Cluster, memcached: Memcached) -> None:
    """No command takes the items of one master for all that there are."""
    fill(memcached.address, {b"k": Given(b"v")})
    node = f"redis://{LOOPBACK}:{any_redis.masters[0].port}"
    for words in ("ls", "cleanup --yes", f"export --flush --to {memcached.url}"):
        said = run(*words.split(), "-s", node)
        assert (said.status, "write redis+cluster" in said.err) == (3, True)
    assert get(memcached.address, b"k") == (b"v", 0)


def test_tls_name() -> None:
    """It is refused, with what to write in its place."""
    said = run("ls", "-s", "rediss+cluster://127.0.0.1?tls_name=cluster")
    assert (said.status, "map=ADDRESS=NAME" in said.err) == (3, True)


def test_native_items(redcouch: RedCouch, client: redis.RedisCluster) -> None:
    """C{redcouch.native} works on a cluster's items as memcached clients do."""
    memcached = Client(redcouch.address, default_noreply=False)
    items = Items(client)
    token = items.set("k", b"\0\xffv", ttl=500, flags=7)
    assert memcached.gets("k") == (b"\0\xffv", str(token).encode())
    memcached.set("k", b"1")
    assert items.cas("k", b"2", token) is None
    assert items.incr("k", 4) == 5 and memcached.get("k") == b"5"
    values: dict[str | bytes, str | bytes] = {f"k{place}": b"%d" % place for place in range(700)}
    items.set_many(values)
    assert items.get_many(values) == values
    assert memcached.get_many(["k0", "k699"]) == {"k0": b"0", "k699": b"699"}
    assert items.delete_many(values) == 700
    assert client.exists("redcouch:sys:cas_counter") == 0
    with pytest.raises(ConfigurationError, match="string is for one Redis"):
        Items(client, layout="string")
    memcached.close()


def test_nobody_asks_for_the_keys_of_scripts(
    any_redis: Cluster, client: redis.RedisCluster
) -> None:
    """Neither native items nor the command take a round trip more for each key; a key is bytes."""
    node = any_redis.masters[0]
    values: dict[str | bytes, str | bytes] = {b"\xff%d" % place: b"v" for place in range(30)}
    with redis.RedisCluster(host="127.0.0.1", port=node.port, decode_responses=True) as decoding:
        items = Items(decoding)
        for one in any_redis.masters:
            one.ask("CONFIG RESETSTAT")
        items.set_many(values)
        assert items.get_many(values) == values
        assert len(run("ls", "--json", "-s", any_redis.url).lines) == 30
        assert run("promote", "*", "--to", "string", "--force", "-s", any_redis.url).status == 0
    told = [one.ask("INFO commandstats") for one in any_redis.masters]
    assert "evalsha" in str(told) and "getkeys" not in str(told)


def test_native_items_with_asyncio(any_redis: Cluster, client: redis.RedisCluster) -> None:
    """The same, to await."""

    async def work() -> None:
        node = any_redis.masters[0]
        async with redis.asyncio.RedisCluster(host="127.0.0.1", port=node.port) as cluster:
            items = AsyncItems(cluster)
            token = await items.set("k", "1", flags=3, ttl=60)
            assert await items.cas("k", "2", token)
            await items.set_many({f"k{place}": "v" for place in range(30)})
            assert len(await items.get_many([f"k{place}" for place in range(30)])) == 30
            assert await items.delete("k") and await items.get("k") is None

    asyncio.run(work())
    assert client.hget("rc:k7", "v") == b"76"


def test_functions(redcouch: RedCouch, any_redis: Cluster, client: redis.RedisCluster) -> None:
    """The library is on every master, and its functions make tokens as the service does."""
    assert run("functions", "load", "--replace", "-s", any_redis.url).status == 0
    memcached = Client(redcouch.address, default_noreply=False)
    try:
        for place in range(30):
            call = client.execute_command("FCALL", "redcouch_set", 1, f"rc:k{place}", "value", 500)
            assert memcached.gets(f"k{place}") == (b"value", call)
            assert client.execute_command("FCALL_RO", "redcouch_get", 1, f"rc:k{place}") == b"value"
            assert memcached.replace(f"k{place}", b"new")
            arguments = ("FCALL", "redcouch_cas", 1, f"rc:k{place}", call, "value")
            assert client.execute_command(*arguments) is None
        assert client.exists("redcouch:sys:cas_counter") == 0
    finally:
        client.function_delete("redcouch")
        memcached.close()
