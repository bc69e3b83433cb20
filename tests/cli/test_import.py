"""C{redcouch import}: from a real memcached into a real Redis, read through the real service."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import redis
from pymemcache.client.rendezvous import RendezvousHash

from redcouch.cli.estimate import Evictions
from redcouch.cli.storage import open_storage, read_storage
from redcouch.memcached_client.item_reading import Copy
from tests.cli.filling import Given, binary_get, fill, fill_many, get
from tests.cli.running import REDCOUCH, Ended, finish, run, start
from tests.cli.stand_in import stand_in
from tests.support import servers
from tests.support.cluster import Cluster
from tests.support.polling import eventually
from tests.support.requirements import needs
from tests.support.servers import Memcached, RedCouch, RedisServer, free_port
from tests.support.wire import ask

ODD_KEYS = (
    b"plain",
    b"50%25",
    b"caf\xc3\xa9",
    b"key=a exp=-1",
    b"two words",
    b"line\r\nget x",
    b"\x00\xff" * 50,
    bytes(range(1, 251)),  # in base64 too long for a meta command
    b" " * 250,
    b"x" * 250,
)
ALL_BYTES = bytes(range(256)) * 3


@pytest.mark.everywhere
def test_the_service_reads_what_was_imported(
    memcached: Memcached, old: str, redcouch: RedCouch, client: redis.Redis, storage: str
) -> None:
    """Any key, any value, any flags, byte for byte, with the time that was left."""
    items = {key: Given(key[::-1], 2**32 - 1 - place) for place, key in enumerate(ODD_KEYS)}
    items |= {b"v:all": Given(ALL_BYTES, 7, 1000), b"v:none": Given(b""), b"v:crlf": Given(b"\r\n")}
    items[b"v:large"] = Given(ALL_BYTES * 1360)  # a little less than 1 MiB
    items[b"b" * 200 + b" \x00"] = Given(b"timed", 3, 1000)  # read in binary
    fill(memcached.address, items)

    said = run("import", old, "--to", storage, "--json")
    assert said.status == 0, said
    assert said.json["copied"] == said.json["listed"] == len(items)
    for key, item in items.items():
        assert binary_get(redcouch.address, key) == (item.value, item.flags), key
        assert (client.pttl(b"rc:" + key) > 0) == bool(item.exptime)
        if item.exptime:
            assert 900_000 < client.pttl(b"rc:" + key) <= 1_000_000
    assert get(redcouch.address, b"plain") == (b"nialp", 2**32 - 1)
    assert client.hexists("rc:plain", "r") == ("raw" in storage)
    tokens = [client.hget(b"rc:" + key, "c") for key in items]
    assert len(set(tokens)) == len(items)
    fresh = ask(redcouch.address, b"set n 0 0 1\r\nx\r\ngets n\r\n", b"END\r\n").split()[5]
    assert int(fresh) > max(int(token or 0) for token in tokens)


@pytest.mark.over("redis", "cluster")
def test_the_memcached_stays_as_it_is(memcached: Memcached, old: str, storage: str) -> None:
    """No item counts as fetched, or has another time to live."""
    fill(memcached.address, {b"a": Given(b"1", 2, 500)})
    assert run("import", old, "--to", storage).status == 0
    said = ask(memcached.address, b"mg a h f t v\r\n", b"1\r\n")
    assert said.startswith(b"VA 1 h0 f2 t")


@pytest.mark.over("redis", "cluster")
def test_what_the_storage_has_stays(
    memcached: Memcached, old: str, redcouch: RedCouch, client: redis.Redis, storage: str
) -> None:
    """The newer item of the bridge wins, unless --overwrite is given; another type stays always."""
    fill(memcached.address, {key: Given(b"old", 1, 100) for key in (b"a", b"b", b"c")})
    ask(redcouch.address, b"set a 9 0 5\r\nnewer\r\n", b"\r\n")
    client.lpush("rc:b", "a list")

    said = run("import", old, "--to", storage, "--json")
    assert said.status == 1
    told = said.json
    assert (told["copied"], told["present"], told["failed"]) == (1, 1, 1)
    assert told["reasons"] == {"a key of another type is in its place in Redis": 1}
    assert get(redcouch.address, b"a") == (b"newer", 9)
    assert client.lrange("rc:b", 0, -1) == [b"a list"]

    said = run("import", old, "--to", storage, "--overwrite")
    assert said.status == 1
    assert "copied 2, present 0, expired 0, gone 0, failed 1" in said.out
    assert get(redcouch.address, b"a") == (b"old", 1)
    assert 0 < client.ttl("rc:a") <= 100


@pytest.mark.over("redis")
def test_what_is_no_item_yet(
    memcached: Memcached, old: str, client: redis.Redis, any_redis: RedisServer
) -> None:
    """A hash with fields of a native client's own is no item, as for clients."""
    fill(memcached.address, {b"k": Given(b"v")})
    client.hset("rc:k", "mine", "x")
    assert run("import", old, "--to", any_redis.url, "--json").json["copied"] == 1
    assert client.hmget("rc:k", "v", "mine") == [b"76", b"x"]
    assert run("import", old, "--to", any_redis.url, "--json").json["present"] == 1


@pytest.mark.over("redis", "cluster")
def test_a_second_run_reads_nothing_again(memcached: Memcached, old: str, storage: str) -> None:
    fill_many(memcached.address, b"k", 500)
    assert run("import", old, "--to", storage, "--json").json["copied"] == 500
    before = ask(memcached.address, b"stats\r\n", b"END\r\n")
    told = run("import", old, "--to", storage, "--json").json
    assert (told["copied"], told["present"]) == (0, 500)
    after = ask(memcached.address, b"stats\r\n", b"END\r\n")
    assert _statistic(after, b"get_hits") == _statistic(before, b"get_hits")


def _statistic(stats: bytes, name: bytes) -> int:
    (value,) = (line.split()[2] for line in stats.splitlines() if line.split()[1:2] == [name])
    return int(value)


@pytest.mark.over("redis", "cluster")
def test_a_fleet(
    memcached: Memcached, old: str, redcouch: RedCouch, client: redis.Redis, any_redis: RedisServer
) -> None:
    """Each key from its owner, whichever node is read first; other copies are passed over."""
    with servers.memcached() as second:
        nodes = {memcached.port: memcached, second.port: second}
        ring = RendezvousHash([f"127.0.0.1:{port}" for port in nodes])
        keys = [f"key{number}" for number in range(100)]
        owners = {key: int(ring.get_node(key).rpartition(":")[2]) for key in keys}
        for port, node in nodes.items():
            fill(
                node.address,
                {
                    key.encode(): Given(b"new" if owners[key] == port else b"stale")
                    for key in keys
                    if owners[key] == port or key < "key50"
                },
            )
        urls = [f"memcached://127.0.0.1:{port}" for port in nodes]
        said = run("import", *urls, "--to", any_redis.url, "--ring", "pymemcache", "--json")
        elsewhere = sum(key < "key50" for key in keys)
        assert (said.status, said.json["copied"], said.json["elsewhere"]) == (0, 100, elsewhere)
        said = run("import", *urls, "--to", any_redis.url, "--ring", "pymemcache")
        assert f"  elsewhere {elsewhere}: not on the memcached that the ring names" in said.out
    assert {get(redcouch.address, key.encode()) for key in keys} == {(b"new", 0)}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["memcached://a", "memcached://b"], "say by which ring the clients divide them"),
        (["memcached://a", "memcached://b", "--ring", "x"], "ring=x: the schemes are modula, "),
        (["memcached://a?weight=2", "memcached://b", "--ring", "modula"], "a:11211 has a weight"),
        (["memcached://a?as=b"], "as= and weight= belong to a ring"),
        (["memcached://a?colour=1"], "colour=1: a node has as=NAME and weight=NUMBER"),
    ],
)
@pytest.mark.parametrize("command", ["import", "verify", "stale"])
def test_a_fleet_that_cannot_be_meant(command: str, words: list[str], why: str) -> None:
    """Several need a ring, and a ring that fits: one line, the command's own usage, status 2."""
    said = run(command, *words)
    assert said.status == 2
    assert said.err.startswith(f"Usage: redcouch {command} [OPTIONS] MEMCACHED...")
    assert why in said.err


def test_by_a_unix_socket(tmp_path: Path, any_redis: RedisServer, redcouch: RedCouch) -> None:
    """C{memcached:///path}, which the service itself can be asked by, too."""
    path = tmp_path / "old.sock"
    with (
        servers.redcouch("memory:", "--port", f"unix:{path}") as source,
        servers.redis_server() as other,
    ):
        fill(source.address, {key: Given(b"x") for key in ODD_KEYS})
        said = run("import", f"memcached://{path}", "--to", other.url, "--json")
        assert (said.status, said.json["copied"]) == (0, len(ODD_KEYS))


def test_a_memcached_that_is_not_there(old: str, memcached: Memcached, storage: str) -> None:
    """What the others own is copied; status 3, and it is said which one failed."""
    fill_many(memcached.address, b"k", 10)
    port = free_port()
    gone = f"memcached://127.0.0.1:{port}"
    ring = RendezvousHash([f"127.0.0.1:{port}", f"127.0.0.1:{memcached.port}"])
    owners = [ring.get_node(f"k{number}") for number in range(10)]
    said = run("import", gone, old, "--to", storage, "--ring", "pymemcache")
    assert said.status == 3
    assert f"copied {owners.count(f'127.0.0.1:{memcached.port}')}" in said.out
    assert said.err == f"redcouch: {gone}: Connection refused\n"


@needs("memcached")
def test_a_memcached_that_goes_away(any_redis: RedisServer, client: redis.Redis) -> None:
    """What was copied is told, and a second run does the rest."""
    with servers.memcached() as source:
        fill_many(source.address, b"k", 2000)
        url = source.url
        process = start("import", url, "--to", any_redis.url, "--rate", 200, "--json")
        eventually(lambda: len(client.keys("rc:*")) > 50)
        source.kill()
        said = finish(process)
        assert said.status == 3
        assert url in said.err
        copied = said.json["copied"]
        assert 0 < copied < 2000
        source.start()
        fill_many(source.address, b"k", 2000)
        told = run("import", url, "--to", any_redis.url, "--json").json
        assert told["present"] >= copied
        assert told["present"] + told["copied"] == 2000


@pytest.mark.everywhere
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c(
    how: signal.Signals, memcached: Memcached, old: str, any_redis: RedisServer, client: redis.Redis
) -> None:
    """It ends between two batches, says what was done, and a second run does the rest."""
    fill_many(memcached.address, b"k", 2000)
    process = start("import", old, "--to", any_redis.url, "--rate", 200, "--json")
    eventually(lambda: len(client.keys("rc:*")) > 50)
    process.send_signal(how)
    said = finish(process)
    assert said.status == 128 + how
    told = said.json
    assert told["interrupted"]
    assert told["copied"] == len(client.keys("rc:*"))
    assert 0 < told["copied"] < 2000
    rest = run("import", old, "--to", any_redis.url, "--json").json
    assert (rest["present"], rest["copied"]) == (told["copied"], 2000 - told["copied"])


def test_a_second_ctrl_c(any_redis: RedisServer) -> None:
    """It ends at once what waits for a memcached that says nothing."""
    asked = threading.Event()

    def answer(line: bytes) -> bytes:
        if b"metadump" in line:
            asked.set()
            return b""
        return {b"stats": b"STAT version 1.6.18\r\nEND\r\n", b"mn": b"MN\r\n"}[line]

    with stand_in(answer) as url:
        process = start("import", url, "--to", any_redis.url)
        assert asked.wait(60)
        process.send_signal(signal.SIGTERM)  # another signal: two of the same may become one
        process.send_signal(signal.SIGINT)
        said = finish(process)
    assert said.status in (130, 143)  # whichever came second
    assert said.err == "redcouch: interrupted\n"


def test_a_redis_that_goes_away(memcached: Memcached, old: str) -> None:
    """Status 3, one line, and what was done until then."""
    fill_many(memcached.address, b"k", 2000)
    with servers.redis_server() as target, target.client() as native:
        process = start("import", old, "--to", target.url, "--rate", 200)
        eventually(lambda: len(native.keys("rc:*")) > 50)
        target.kill()
        said = finish(process)
    assert said.status == 3
    assert "2000 keys in" in said.out
    assert said.err.startswith(f"redcouch: {target.url}: ")


@pytest.mark.everywhere
def test_no_room_for_the_list(
    memcached: Memcached, old: str, any_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said where, and what had been done is told all the same."""
    fill_many(memcached.address, b"k", 10)
    place = "redcouch.memcached_client.key_listing.TemporaryFile"
    monkeypatch.setattr(place, lambda: open("/dev/full", "w+b"))  # noqa: SIM115
    said = run("import", old, "--to", any_redis.url, "--json")
    assert (said.status, said.json["copied"]) == (3, 0)
    assert f"{old}: no room for the list of its keys (TMPDIR): " in said.json["error"]


def test_a_redis_that_is_full(memcached: Memcached, old: str) -> None:
    """Each item that does not fit is counted, with the reason; what is there stays."""
    fill(memcached.address, {b"k%d" % place: Given(b"x" * 500_000) for place in range(20)})
    with servers.redis_server("--maxmemory", "6mb") as target:
        said = run("import", old, "--to", target.url, "--force", "--json")
    assert said.status == 1
    assert said.json["copied"] + said.json["failed"] == 20
    assert said.json["copied"] > 0
    assert list(said.json["reasons"]) == ["Redis is out of memory"]


def test_expired_items(redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis) -> None:
    """An item whose time came between list and read is told as expired, another as gone."""
    soon = int(time.time())
    listed = b"key=late exp=%d\nkey=gone exp=-1\nkey=here exp=-1\nEND\r\n"

    def answer(line: bytes) -> bytes:
        return {
            b"stats": b"STAT version 1.6.18\r\nSTAT time %d\r\nSTAT curr_items 3\r\nEND\r\n" % soon,
            b"mn": b"MN\r\n",
            b"lru_crawler metadump hash": listed % soon,
            b"mg late k v f t c u": b"EN\r\n",
            b"mg gone k v f t c u": b"EN\r\n",
            b"mg here k v f t c u": b"VA 2 khere f5 t-1\r\nhi\r\n",
        }[line]

    with stand_in(answer) as url:
        told = run("import", url, "--to", any_redis.url, "--json").json
    assert (told["copied"], told["expired"], told["gone"], told["failed"]) == (1, 1, 1, 0)
    assert get(redcouch.address, b"here") == (b"hi", 5)


def test_a_memcached_without_meta(
    redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis
) -> None:
    """Before 1.6: text get, and the time to live from the list, by memcached's own clock."""
    clock = 1_000_000_000  # a clock that is years behind
    listed = b"key=timed exp=%d la=1 cas=1\nkey=kept exp=-1 la=1\nkey=gone exp=-1\nEND\r\n"

    def answer(line: bytes) -> bytes:
        return {
            b"stats": b"STAT version 1.4.39\r\nSTAT time %d\r\nEND\r\n" % clock,
            b"lru_crawler metadump hash": b"BADCLASS invalid class id\r\n",
            b"lru_crawler metadump all": listed % (clock + 500),
            b"get timed": b"VALUE timed 7 5\r\nhello\r\nEND\r\n",
            b"get kept": b"VALUE kept 0 3\r\n\r\n\n\r\nEND\r\n",
            b"get gone": b"END\r\n",
        }[line]

    with stand_in(answer) as url:
        told = run("import", url, "--to", any_redis.url, "--json").json
    assert (told["copied"], told["gone"]) == (2, 1)
    assert get(redcouch.address, b"timed") == (b"hello", 7)
    assert get(redcouch.address, b"kept") == (b"\r\n\n", 0)
    assert 400 < client.ttl("rc:timed") <= 500


def test_a_list_by_mgdump(redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis) -> None:
    """Where a server has no metadump, or forbids it."""
    token = b"O%08x" % crc32(b"a b")

    def answer(line: bytes) -> bytes:
        if b"metadump" in line:
            return b"ERROR metadump not allowed\r\n"
        return {
            b"stats": b"STAT version 1.6.40\r\nSTAT time 1\r\nEND\r\n",
            b"mn": b"MN\r\n",
            b"lru_crawler mgdump hash": b"mg plain\r\nmg YSBi b\r\nEN\r\n",
            b"mg plain k v f t c u": b"VA 1 kplain f0 t-1\r\n1\r\n",
            b"mg YSBi b %b v f t c u" % token: b"VA 1 %b f0 t100\r\n2\r\n" % token,
        }[line]

    with stand_in(answer) as url:
        assert run("import", url, "--to", any_redis.url).status == 0
    assert binary_get(redcouch.address, b"a b") == (b"2", 0)


def test_a_busy_crawler(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """It is asked again until it has time."""
    asked: list[bytes] = []

    def answer(line: bytes) -> bytes:
        if b"metadump" in line:
            asked.append(line)
            if len(asked) < 3:
                return b"BUSY currently processing crawler request\r\n"
            return b"key=a exp=-1 la=1\nEND\r\n"
        return {
            b"stats": b"STAT version 1.6.18\r\nEND\r\n",
            b"mn": b"MN\r\n",
            b"mg a k v f t c u": b"VA 1 ka f0 t-1\r\n1\r\n",
        }[line]

    with stand_in(answer) as url:
        assert run("import", url, "--to", any_redis.url, "--json").json["copied"] == 1
    assert asked == [b"lru_crawler metadump hash"] * 4  # once for the estimate


@pytest.mark.parametrize(
    ("dump", "why"),
    [
        (None, "closed the connection"),
        (b"key=a exp=-1\nwhat is this\r\n", "cannot read the list of its keys: what is this"),
    ],
    ids=["closed", "nonsense"],
)
def test_a_list_that_breaks_off(dump: bytes | None, why: str, any_redis: RedisServer) -> None:
    """Half a list is no list: nothing is copied, status 3."""

    def answer(line: bytes) -> bytes | None:
        known = {b"stats": b"STAT version 1.6.18\r\nEND\r\n", b"mn": b"MN\r\n"}
        return known.get(line, dump)

    with stand_in(answer) as url:
        said = run("import", url, "--to", any_redis.url, "--json")
    assert (said.status, said.json["copied"]) == (3, 0)
    assert why in said.err


@needs("memcached")
def test_no_list(any_redis: RedisServer) -> None:
    """A memcached that gives none (-X) is named, with what it said."""
    with servers.memcached("-X") as source:
        said = run("import", source.url, "--to", any_redis.url)
    assert said.status == 3
    assert "gives no list of its keys" in said.err


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "memcached://",
        "memcached://h/x",
        "memcached://h:0",
        "memcached://h..x",
        "memcached://pw@h",
        "memcached://u:pw@h/x",
        "x",
    ],
)
def test_a_wrong_url(url: str) -> None:
    said = run("import", url, "--to", "redis://127.0.0.1:1")
    assert said.status == 2
    assert "pw" not in said.err


def test_a_password(
    tmp_path: Path, redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis
) -> None:
    """That of memcached's -Y; a wrong one is told, and shown nowhere."""
    file = tmp_path / "passwords"
    file.write_text("user:p@ss:/word\n")
    with servers.redis_server() as other:
        options = ["--auth-file", str(file)]
        with servers.redcouch(other.url, *options, ready=False) as source:
            with other.client() as native:
                native.hset("rc:k", "v", "6869")
            place = f"127.0.0.1:{source.port}"
            right = f"memcached://user:p%40ss%3A%2Fword@{place}"
            assert run("import", right, "--to", any_redis.url).status == 0
            assert get(redcouch.address, b"k") == (b"hi", 0)
            assert run("verify", right, any_redis.url).status == 0
            wrong = run("import", f"memcached://user:wr0ng@{place}", "--to", any_redis.url)
    assert wrong.status == 3
    assert "refused the password" in wrong.err
    assert "wr0ng" not in wrong.err + wrong.out


@needs("memcached")
def test_a_password_of_memcached(tmp_path: Path, any_redis: RedisServer) -> None:
    file = tmp_path / "passwords"
    file.write_text("user:secret\n")
    with servers.memcached("-Y", str(file)) as source:
        set_auth = b"set auth 0 0 11\r\nuser secret\r\nset k 0 0 1\r\nx\r\nmn\r\n"
        assert ask(source.address, set_auth, b"MN\r\n").count(b"STORED") == 2
        url = f"memcached://user:secret@127.0.0.1:{source.port}"
        told = run("import", url, "--to", any_redis.url, "--json").json
    assert told["copied"] + told["present"] == 1


@needs("memcached")
def test_a_password_that_nobody_asks_for(any_redis: RedisServer) -> None:
    """A memcached without -Y would keep it as an item, in place of the clients' own."""
    with servers.memcached() as source:
        fill(source.address, {b"auth": Given(b"theirs")})
        url = f"memcached://user:secret@127.0.0.1:{source.port}"
        told = run("import", url, "--to", f"{any_redis.url}?prefix=own:", "--json").json
        kept = ask(source.address, b"get auth\r\n", b"END\r\n")
    assert (told["listed"], told["copied"]) == (1, 1)
    assert kept == b"VALUE auth 0 6\r\ntheirs\r\nEND\r\n"


@needs("memcached")
def test_memory_is_bounded(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """Values of 200 MB go through a process that may have far less."""
    with servers.memcached("-m", "512") as source:
        fill(source.address, {b"k%d" % place: Given(b"x" * 1_000_000) for place in range(200)})
        said = subprocess.run(
            [
                "bash",
                "-c",
                'ulimit -v 400000; exec "$@"',
                "bash",
                REDCOUCH,
                "import",
                source.url,
                "--to",
                f"{any_redis.url}?encoding=raw",
                "--json",
            ],
            capture_output=True,
            timeout=120,
        )
    assert said.returncode == 0, said
    assert b'"copied": 200' in said.stdout


# -- a memcached that lies ---------------------------------------------------------------------

_KEYS = (b"a", b"b", b"c")


def _lying(items: dict[bytes, bytes], version: bytes = b"1.6.38") -> Callable[[bytes], bytes]:
    """Answers a question for each of three keys with these bytes, where it is asked in text."""
    listed = b"".join(b"key=%b exp=-1 la=1\n" % key for key in _KEYS)

    def answer(line: bytes) -> bytes:
        verb, *words = line.split(b" ")
        match verb:
            case b"stats":
                return b"STAT version %b\r\nSTAT time 1\r\nEND\r\n" % version
            case b"mn":
                return b"MN\r\n"
            case b"lru_crawler":
                return listed + b"END\r\n"
        return items[words[0]]

    return answer


def _meta(key: bytes, value: bytes = b"v", flags: bytes = b"0", ttl: bytes = b"-1") -> bytes:
    return b"VA %d k%b f%b t%b\r\n%b\r\n" % (len(value), key, flags, ttl, value)


def _get(key: bytes, value: bytes = b"v", flags: bytes = b"0") -> bytes:
    return b"VALUE %b %b %d\r\n%b\r\nEND\r\n" % (key, flags, len(value), value)


_A, _C = _meta(b"a", b"of a"), _meta(b"c", b"of c")
_LIES = {
    "negative length": b"VA -5 kb f0 t-1\r\nhello\r\n",
    "huge length": b"VA 9999999999999 kb f0 t-1\r\nhello\r\n",
    "endless length": b"VA " + b"9" * 1900 + b" kb f0 t-1\r\nhello\r\n",
    "no length": b"VA kb f0 t-1\r\nhello\r\n",
    "a length with a sign": b"VA +1 kb f0 t-1\r\nv\r\n",
    "shorter than it is": b"VA 3 kb f0 t-1\r\nhello\r\n",
    "flags above 32 bits": _meta(b"b", flags=b"4294967296"),
    "negative flags": _meta(b"b", flags=b"-1"),
    "flags that are none": _meta(b"b", flags=b"x"),
    "no flags": b"VA 1 kb t-1\r\nv\r\n",
    "a time that is none": _meta(b"b", ttl=b"x"),
    "a time before the end": _meta(b"b", ttl=b"-2"),
    "a time of ages": _meta(b"b", ttl=b"99999999999999999999"),
    "another key": _meta(b"x"),
    "another key in base64": b"VA 1 keHg= b f0 t-1\r\nv\r\n",
    "no key": b"VA 1 f0 t-1\r\nv\r\n",
    "a miss of another key": b"EN kx\r\n",
    "one reply more": _meta(b"a", b"again") + _meta(b"b"),
    "the next one's": _C,
    "an answer to something else": b"HD kb\r\n",
    "no words": b"\r\n",
    "a web page": b"HTTP/1.0 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("lie", _LIES)
def test_a_memcached_that_lies(lie: str, any_redis: RedisServer, client: redis.Redis) -> None:
    """Status 3, one clear line, and nothing under a key that it does not belong to."""
    with stand_in(_lying({b"a": _A, b"b": _LIES[lie], b"c": _C})) as url:
        said = run("import", url, "--to", any_redis.url)
    _assert_refused(said, url, client, {b"rc:a": b"of a".hex().encode()})


_TEXT_LIES = {
    "negative length": b"VALUE b 0 -1\r\nv\r\nEND\r\n",
    "huge length": b"VALUE b 0 99999999999\r\nv\r\nEND\r\n",
    "flags above 32 bits": _get(b"b", flags=b"4294967296"),
    "flags that are none": _get(b"b", flags=b"0x1"),
    "another key": _get(b"x"),
    "the one before": _get(b"a"),
    "no end": b"VALUE b 0 1\r\nv\r\n",
    "two items": b"VALUE b 0 1\r\nv\r\nVALUE c 0 1\r\nv\r\nEND\r\n",
    "half a head": b"VALUE b 0\r\nv\r\nEND\r\n",
}


@pytest.mark.parametrize("lie", _TEXT_LIES)
def test_an_old_memcached_that_lies(lie: str, any_redis: RedisServer, client: redis.Redis) -> None:
    """The same of one that has no meta commands."""
    honest = {b"a": _get(b"a", b"of a"), b"c": _get(b"c", b"of c")}
    with stand_in(_lying(honest | {b"b": _TEXT_LIES[lie]}, b"1.4.39")) as url:
        said = run("import", url, "--to", any_redis.url)
    _assert_refused(said, url, client, {b"rc:a": b"of a".hex().encode()})


def _assert_refused(said: Ended, url: str, client: redis.Redis, true: dict[bytes, bytes]) -> None:
    assert said.status == 3, said
    assert said.err.startswith(f"redcouch: {url}: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err + said.out
    keys: Any = client.keys("rc:*")
    assert {key: client.hget(key, "v") for key in keys}.items() <= true.items()


@pytest.mark.parametrize(
    ("asked", "lie"),
    [
        (b"stats", b"STAT version 1.6.38\r\nSTAT time soon\r\nEND\r\n"),
        (b"stats", b"STAT version 1.6.38\r\nSTAT time " + b"9" * 400 + b"\r\nEND\r\n"),
        (b"lru_crawler metadump hash", b"key=%b exp=-1\nEND\r\n" % (b"k" * 251)),
        (b"lru_crawler metadump hash", b"key= exp=-1\nEND\r\n"),
        (b"lru_crawler metadump hash", b"key=a exp=-2\nEND\r\n"),
        (b"lru_crawler metadump hash", b"key=a exp=1_0\nEND\r\n"),
        (b"lru_crawler metadump hash", b"key=a exp=%b\nEND\r\n" % (b"9" * 1900)),
    ],
)
def test_a_list_that_lies(
    asked: bytes, lie: bytes, any_redis: RedisServer, client: redis.Redis
) -> None:
    """What it says of itself and of its keys is looked at as well."""
    honest = _lying({b"a": _A})
    with stand_in(lambda line: lie if line == asked else honest(line)) as url:
        said = run("import", url, "--to", any_redis.url)
    _assert_refused(said, url, client, {})


@pytest.mark.over("redis", "cluster")
@pytest.mark.parametrize("times", [1, 2])
def test_a_memcached_that_takes_longer_than_a_lease(
    times: int, any_redis: RedisServer, client: redis.Redis
) -> None:
    """
    What was not there in time is read again, by itself. If it is late then too, it has failed:
    it is not in the storage, and is not said to be.
    """
    honest = _lying({b"a": _A, b"b": _meta(b"b"), b"c": _C})
    late = {b"b": times, b"c": 1}

    def answer(line: bytes) -> bytes:
        for key in late:
            if line.startswith(b"mg %b " % key) and late[key]:
                for lease in (b"redcouch:sys:warm_claim:rc:" + key, b"rc:" + key):
                    late[key] -= client.delete(lease)
        return honest(line)

    with stand_in(answer) as url:
        said = run("import", url, "--to", any_redis.url, "--json")
    lost = times - 1
    assert (said.status, said.json["copied"], said.json["failed"]) == (lost, 3 - lost, lost)
    assert said.json["present"] == said.json["gone"] == 0
    assert client.exists("rc:b") == 1 - lost
    assert lost == 0 or said.json["reasons"] == {
        "it was not read within the 30 s for which it may be filled in": 1
    }


@pytest.mark.over("redis", "cluster")
@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"stage": "redis-only"}, "nothing is brought over in the stage redis-only"),
        ({"from": "x", "until": "y"}, "nothing is brought over while a flush_all is due"),
        ({"from": "0", "until": "9999999999.5"}, "nothing is brought over while a flush_all is"),
    ],
)
def test_where_nothing_is_filled_in(
    state: dict[Any, Any],
    why: str,
    old: str,
    memcached: Memcached,
    any_redis: RedisServer,
    client: redis.Redis,
) -> None:
    """It is said, with status 1, and not counted as gone; what is overwritten needs no leave."""
    fill(memcached.address, {b"a": Given(b"v")})
    warm = "{warm}" if isinstance(any_redis, Cluster) else "warm"
    state_key = f"redcouch:sys:{warm}_state:rc:"
    client.hset(state_key, mapping=state)
    said = run("import", old, "--to", any_redis.url)
    assert (said.status, client.exists("rc:a")) == (1, 0)
    assert why in said.err
    said = run("import", old, "--overwrite", "--to", any_redis.url)
    assert (said.status, client.exists("rc:a")) == (0, 1)
    client.delete(state_key)  # others have this Redis too


@pytest.mark.parametrize("query", ["encoding=hex", "encoding=raw", "layout=string"])
def test_the_estimate(query: str, own_memcached: Memcached, own_redis: RedisServer) -> None:
    """What the items take in Redis is told within a fifth, and what is left of maxmemory."""
    old = own_memcached.url
    for begin in range(0, 4000, 1000):
        numbers = range(begin, begin + 1000)
        items = {b"key:%d" % n: Given(b"v" * 300, n % 3, 500) for n in numbers}
        fill(own_memcached.address, items)
    with own_redis.client() as client:
        before = client.info("memory")["used_memory"]
        url = f"{own_redis.url}?{query}"
        told = run("import", old, "--to", url, "--json").json
        took = client.info("memory")["used_memory"] - before
        assert told["copied"] == 4000
        assert told["estimate"]["items"] == 4000
        assert told["estimate"]["free"] is None
        assert 0.8 < told["estimate"]["needed"] / took < 1.2
        again = run("import", old, "--to", url, "--json").json
        assert again["estimate"]["needed"] == 0  # as all is there
        client.config_set("maxmemory", "100mb")
        again = run("import", old, "--to", url, "--overwrite", "--json").json
        assert 0.8 < again["estimate"]["needed"] / took < 1.2
        assert 0 < again["estimate"]["free"] < 100 * 2**20
        assert client.keys("redcouch:sys:weighed*") == []


def test_no_room(old: str, memcached: Memcached, own_redis: RedisServer) -> None:
    """What does not fit is refused before anything is copied, unless it is wanted: status 1."""
    fill(memcached.address, {b"key:%d" % n: Given(b"v" * 1000) for n in range(3000)})
    with own_redis.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2**20)
        refused = run("import", old, "--to", own_redis.url)
        assert refused.status == 1
        assert " items, which take " in refused.err
        assert refused.err.endswith("nothing is copied without --force\n")
        assert client.keys("rc:*") == []
        forced = run("import", old, "--to", own_redis.url, "--force")
        assert forced.status == 1
        assert "Redis is out of memory" in forced.out


@pytest.mark.parametrize("room", [0, 2**18])
@pytest.mark.parametrize("query", ["encoding=hex", "layout=string"])
def test_no_room_to_measure(
    room: int, query: str, old: str, memcached: Memcached, own_redis: RedisServer
) -> None:
    """Where not even the measured items would fit, it is refused as well."""
    fill(memcached.address, {b"key:%d" % n: Given(b"v" * 20_000) for n in range(200)})
    with own_redis.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + room)
        said = run("import", old, "--to", f"{own_redis.url}?{query}", "--json")
        assert (said.status, said.json["copied"], said.json["failed"]) == (1, 0, 0)
        assert "nothing is copied without --force" in said.err
        assert said.json["estimate"]["needed"] > 200 * 20_000


def test_measuring_evicts_nothing(old: str, memcached: Memcached, own_redis: RedisServer) -> None:
    """What is in Redis stays there, though the measured items together would take its place."""
    fill(memcached.address, {b"key:%d" % n: Given(b"v" * 20_000) for n in range(200)})
    with own_redis.client() as client:
        client.mset({f"native:{n}": b"v" * 10_000 for n in range(30)})
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2**19)
        said = run("import", old, "--to", own_redis.url)
        assert (said.status, "nothing is copied without --force" in said.err) == (1, True)
        assert len(client.keys("native:*")) == 30


def test_evictions(old: str, memcached: Memcached, own_redis: RedisServer) -> None:
    """A Redis that throws away keys meanwhile ends it, and that is said: status 3."""
    fill(memcached.address, {b"key:%d" % n: Given(b"v" * 1000) for n in range(3000)})
    with own_redis.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2**20)
        client.config_set("maxmemory-policy", "allkeys-lru")
        said = run("import", old, "--to", own_redis.url, "--force", "--json")
        assert said.status == 3
        assert "keys meanwhile: it has too little memory" in said.err
        assert said.json["troubles"] != []
        with open_storage(read_storage(own_redis.url)) as opened:
            evictions = Evictions(opened)
            client.config_resetstat()  # as a start does it
            evictions.check(now=True)


def test_two_that_measure_at_once(any_redis: RedisServer, client: redis.Redis) -> None:
    """One's measures are not taken away by the other."""
    items = [Copy(b"a" * 100, 0, 60)] * 3
    with open_storage(read_storage(any_redis.url)) as opened:
        other, once = opened.pipeline, opened.weigh(items)

        def pipeline(commands: Any) -> Any:
            calls = list(commands)
            if any(name == "MEMORY USAGE" for name, *_ in calls):
                opened.pipeline = other  # type: ignore[method-assign]
                assert opened.weigh(items) == once
            return other(calls)

        opened.pipeline = pipeline  # type: ignore[method-assign]
        assert opened.weigh(items) == once
    assert client.keys("redcouch:sys:weighed*") == []


def test_who_may_not_measure(old: str, memcached: Memcached, own_redis: RedisServer) -> None:
    """A user of Redis without MEMORY imports without an estimate."""
    fill(memcached.address, {b"k": Given(b"v")})
    with own_redis.client() as client:
        client.acl_setuser(
            "some", enabled=True, nopass=True, keys="*", commands=["+@all", "-memory"]
        )
        url = own_redis.url.replace("//", "//some:x@")
        told = run("import", old, "--to", url, "--json")
        assert (told.status, told.json["copied"], told.json["estimate"]) == (0, 1, None)
