"""Every kind of storage URL takes the commands to the Redis that the service uses."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.hazmat.primitives import serialization

from redcouch.backends.redis.replies import error_code
from redcouch.cli.storage import open_storage, read_storage
from redcouch.errors import ConfigurationError, ServerError
from tests.backends.redis import access
from tests.backends.redis.certificates import Authority
from tests.cli.filling import Given, fill, fill_many, get
from tests.cli.running import finish, run, start
from tests.cli.stand_in import stand_in
from tests.support import servers
from tests.support.polling import eventually
from tests.support.requirements import needs
from tests.support.servers import Memcached, RedCouch, RedisServer, free_port
from tests.support.wire import ask


def test_a_unix_socket_and_a_database(any_redis: RedisServer, client: redis.Redis) -> None:
    with any_redis.client(db=3) as third:
        third.hset("other:k", "v", "6869")
        said = run("inspect", "k", "-s", f"{any_redis.unix_url}?db=3&prefix=other:", "--raw")
    assert (said.status, said.out) == (0, "hi")


@pytest.mark.everywhere
def test_the_embedded_redis(tmp_path: Path, memcached: Memcached, old: str) -> None:
    """C{embedded:///dir}, while the service runs on it, and a word where it does not."""
    url = f"embedded://{tmp_path / 'kept'}"
    said = run("ls", "-s", url)
    assert (said.status, said.out) == (3, "")
    assert said.err.startswith(f"redcouch: {url}: ")
    assert f": {url}?timeout=x: timeout has" in run("ls", "-s", f"{url}?timeout=x").err
    fill(memcached.address, {b"k": Given(b"v", 7)})
    with servers.redcouch(url) as bridge:
        assert run("import", old, "--to", url).status == 0
        assert get(bridge.address, b"k") == (b"v", 7)
        assert run("verify", old, url).status == 0


def test_a_redis_that_is_started_again() -> None:
    """Nobody walks on through its keys: by the old cursor it would leave many of them out."""
    with servers.redis_server("--appendonly", "yes") as server:
        with server.client() as client, client.pipeline() as pipe:
            for place in range(5000):
                pipe.hset(f"rc:{place}", "v", "61")
            pipe.execute()
        walked = open_storage(read_storage(server.url))
        with pytest.raises(ServerError, match=str(server.port)), walked as storage:
            keys = storage.scan()
            next(keys)
            server.stop()
            server.start()
            list(keys)


def test_a_list_that_is_read_slowly() -> None:
    """A Redis that has closed its connection meanwhile (C{timeout}) is asked on over another."""
    with servers.redis_server() as server, server.client() as client:
        with client.pipeline() as pipe:
            for place in range(5000):
                pipe.hset(f"rc:{place}", "v", "61")
            pipe.execute()
        found = set[bytes]()
        with open_storage(read_storage(server.url)) as storage:
            for keys in storage.scan():
                found.update(keys)
                client.client_kill_filter(_type="normal", skipme=True)
        assert found == {b"%d" % place for place in range(5000)}


def test_a_password(memcached: Memcached, old: str) -> None:
    with servers.redis_server("--requirepass", "s3cret/@") as server:
        fill_many(memcached.address, b"k", 3)
        right = f"redis://:s3cret%2F%40@127.0.0.1:{server.port}"
        assert run("import", old, "--to", right).status == 0
        wrong = run("ls", "-s", f"redis://:wr0ng@127.0.0.1:{server.port}")
        assert wrong.status == 3
        assert "wr0ng" not in wrong.err
        assert wrong.err.count("\n") == 1


@needs("redis tls")
@pytest.mark.everywhere
def test_tls(tmp_path: Path) -> None:
    """With the authority and the client's certificate of the URL, and not without."""
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    mine, my_key = authority.issue("client")
    port = free_port()
    options = ["--tls-port", str(port), "--tls-ca-cert-file", str(authority.path)]
    options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    with servers.redis_server(*options) as server:
        with server.client() as native:
            native.hset("rc:k", "v", "6869")
        url = f"rediss://127.0.0.1:{port}?ca={authority.path}"
        said = run("inspect", "k", "--raw", "-s", f"{url}&cert={mine}&key={my_key}")
        assert (said.status, said.out) == (0, "hi"), said
        both = tmp_path / "both.pem"
        both.write_bytes(mine.read_bytes() + my_key.read_bytes())
        assert run("inspect", "k", "--raw", "-s", f"{url}&cert={both}").out == "hi"
        assert run("inspect", "k", "-s", url).status == 3
        words = " ".join(options).split(" --")[1:]  # without the port
        with servers.sentinel(port, *words, "tls-replication yes") as sentinel:
            named = f"rediss+sentinel://127.0.0.1:{sentinel.port}/main?{url.partition('?')[2]}"
            said = run("inspect", "k", "--raw", "-s", f"{named}&cert={both}")
            assert (said.status, said.out) == (0, "hi"), said
            assert run("inspect", "k", "-s", named).status == 3
        stranger = run("inspect", "k", "-s", f"rediss://127.0.0.1:{port}")
        assert stranger.status == 3
        assert "TLS: certificate verify failed" in stranger.err
        assert "speaks no TLS" not in stranger.err


@pytest.mark.parametrize(
    "url",
    [
        "rediss://127.0.0.1:1",
        "rediss+cluster://127.0.0.1:1",
        "rediss+sentinel://127.0.0.1:1/main",
    ],
)
def test_certificates_that_cannot_be_used(url: str, tmp_path: Path) -> None:
    """Nobody is asked for a pass phrase, and what is wrong with a file is no server's fault."""
    authority = Authority(tmp_path, "authority")
    mine, my_key = authority.issue("mine")
    _, another = authority.issue("another")
    locked = tmp_path / "locked.key"
    private = serialization.load_pem_private_key(my_key.read_bytes(), None)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked.write_bytes(private.private_bytes(*form, serialization.BestAvailableEncryption(b"x")))
    for query, why in (
        (f"ca={my_key}", "no certificate or crl found"),
        (f"cert={mine}", ""),
        (f"cert={mine}&key={another}", "key values mismatch"),
        (f"cert={mine}&key={locked}", "the key is encrypted: it has to be there without"),
    ):
        said = run("ls", "--json", "-s", f"{url}?{query}")
        assert said.status == 2
        assert f"{query}: cannot use its certificates: {why}" in said.json["error"]


def test_sentinel() -> None:
    """The master that the sentinel names."""
    may = "user me on >HIDDEN +sentinel"
    with servers.redis_server() as master, servers.sentinel(master.port, may) as sentinel:
        with master.client() as native:
            native.hset("rc:k", "v", "6869")
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
        assert run("inspect", "k", "--raw", "-s", url).out == "hi"
        as_me = f"{url}?sentinel_user=me&sentinel_password=HIDDEN"
        assert run("inspect", "k", "--raw", "-s", as_me).out == "hi"
        unknown = run("ls", "-s", url.replace("/main", "/other"))
        assert unknown.status == 3
        knows = f"sentinel 127.0.0.1:{sentinel.port} knows no master named other\n"
        assert unknown.err.endswith(knows)
        refused = run("ls", "-s", f"{url}?sentinel_password=x")
        assert f"sentinel 127.0.0.1:{sentinel.port} says " in refused.err
        sentinel.take_for_dead_after(200)
        master.stop()
        replacing = "its sentinels are replacing the master of main\n"
        eventually(lambda: run("ls", "-s", url).err.endswith(replacing))


class Told:
    """What a sentinel says of the master, until a test says otherwise."""

    def __init__(self, port: int, epoch: int = 1) -> None:
        self.port = port
        self.epoch = epoch
        self.flags = "master"

    def answer(self, line: bytes) -> bytes:
        """What it says to a line of a command."""
        if line == b"SETINFO":
            return b"+OK\r\n"
        address = ["127.0.0.1", self.port]
        facts = ["ip", address[0], "port", address[1], "flags", self.flags]
        facts += ["config-epoch", self.epoch]
        return {
            b"MASTER": b"*8\r\n" + b"".join(map(bulk, facts)),
            b"GET-MASTER-ADDR-BY-NAME": b"*2\r\n" + b"".join(map(bulk, address)),
        }.get(line, b"")


def bulk(word: object) -> bytes:
    return f"${len(str(word))}\r\n{word}\r\n".encode()


@contextmanager
def of_sentinels(*all_told: Told) -> Iterator[str]:
    """The URL of what these sentinels say."""
    with ExitStack() as running:
        urls = [running.enter_context(stand_in(one.answer)) for one in all_told]
        yield f"redis+sentinel://{','.join(url.partition('//')[2] for url in urls)}/main"


def test_another_master_meanwhile() -> None:
    """Nobody says that all is well of what a Redis was given that was replaced as the master."""
    with servers.redis_server() as old, servers.redis_server() as new:
        told = Told(old.port)
        with of_sentinels(told) as url:
            for change in (
                {"flags": "master,failover_in_progress"},
                {"flags": "master", "epoch": 2},
                {"port": new.port, "epoch": 3},
            ):
                with (
                    pytest.raises(ServerError, match="what was done last may be lost"),
                    open_storage(read_storage(url)) as storage,
                ):
                    vars(told).update(change)
                    assert storage.client.ping()
                told.flags = "master"
            with open_storage(read_storage(url)) as storage:
                client: Any = storage.client
                client.connection_pool.disconnect()
                assert client.ping()
                told.port, told.epoch = old.port, 4
                client.connection_pool.disconnect()  # as sentinels do to clients of a replica
                with pytest.raises(redis.RedisError, match="what was done last may be lost"):
                    client.ping()
                told.port, told.epoch = new.port, 3


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP])
def test_another_master_in_the_middle(harm: signal.Signals) -> None:
    """Nor is it only said that the connection is lost where that is why."""
    with servers.redis_server() as old, servers.redis_server() as new:
        told = Told(old.port)
        with (
            of_sentinels(told) as url,
            pytest.raises(ServerError, match=r"have replaced the master .* Run this again"),
            open_storage(read_storage(f"{url}?timeout=0.1")) as storage,
        ):
            os.kill(old.pid, harm)
            told.port, told.epoch = new.port, 2
            storage.client.ping()


def test_a_sentinel_that_is_behind() -> None:
    """The one that knows of the last failover is believed, whichever is named first."""
    with servers.redis_server() as old, servers.redis_server() as new, new.client() as native:
        native.hset("rc:k", "v", "6869")
        with of_sentinels(Told(old.port), Told(new.port, 2), Told(old.port)) as url:
            assert run("inspect", "k", "--raw", "-s", url).out == "hi"


_ALERT = b"\x15\x03\x01\x00\x02\x02\x0a"
_PLAIN = "If it speaks no TLS, write redis in place of rediss\n"
_TLS = ": it speaks TLS: write rediss in place of redis\n"


@pytest.mark.parametrize(
    ("scheme", "answer", "why"),
    [
        ("redis", b"ERROR\r\n", ": it does not answer as a Redis does\n"),
        ("redis+cluster", b"HTTP/1.1 400\r\n", ": it does not answer as a Redis does\n"),
        ("redis", _ALERT, _TLS),
        ("redis+sentinel", _ALERT, _TLS),
        ("rediss", b"ERROR\r\n", ": TLS: wrong version number. " + _PLAIN),
        ("rediss+sentinel", b"ERROR\r\n", ": TLS: wrong version number. " + _PLAIN),
        ("rediss", b"", ": Timeout connecting to server. " + _PLAIN),  # after ten times the timeout
    ],
)
def test_another_server(scheme: str, answer: bytes, why: str) -> None:
    """What speaks otherwise than the URL says is named, as the service names it."""
    with stand_in(lambda _: answer) as url:
        timeout = "" if answer else "?timeout=0.1"
        said = run(
            "ls",
            "-s",
            url.replace("memcached", scheme) + "/main" * ("sentinel" in scheme) + timeout,
        )
    assert said.status == 3
    assert said.err.endswith(why)


def test_no_sentinel() -> None:
    """Sentinels that cannot be reached are not said to know no master."""
    port = free_port()
    for place in (f"127.0.0.1:{port}", f"[::1]:{port}"):
        said = run("ls", "-s", f"redis+sentinel://{place}/main")
        assert (said.status, said.err.count("\n")) == (3, 1)
        assert f"/main: no sentinel can be reached: {place}: " in said.err


def test_forgotten_scripts(
    memcached: Memcached, old: str, any_redis: RedisServer, client: redis.Redis
) -> None:
    """SCRIPT FLUSH in the middle of an import costs nothing."""
    fill_many(memcached.address, b"k", 3000)
    flushed = 0

    def flush() -> bool:
        nonlocal flushed
        client.script_flush()
        flushed += 1
        return flushed > 50

    running = start("import", old, "--to", any_redis.url, "--rate", 3000, "--json")
    eventually(flush)
    told = finish(running).json
    assert (told["copied"], told["failed"]) == (3000, 0)


def test_the_rights_of_a_redis_user(memcached: Memcached, old: str) -> None:
    """
    The service's rights with those of C{warm:}, PING and TYPE are enough for all of it;
    C{promote} needs the keys.
    """
    basics = f"{access.KEYS} ~k* {access.BASICS} {access.STANDING} {access.FLUSHING}"
    rights = f"{basics} {access.FILLING} +ping +type"
    with servers.redis_server() as server:
        with server.client() as native:
            native.execute_command("ACL", "SETUSER", "tools", "on", ">pw", *rights.split())
        url = f"redis://tools:pw@127.0.0.1:{server.port}"
        fill_many(memcached.address, b"k", 10)
        assert run("import", old, "--to", url).status == 0
        assert run("verify", old, url).status == 0
        assert run("ls", "-s", url).status == 0
        assert run("inspect", "k1", "-s", url).status == 0
        assert run("promote", "--force", "k*", "--to", "string", "-s", url).status == 0
        fill(memcached.address, {b"x": Given(b"1")})
        run("import", old, "--to", url)
        refused = run("promote", "--force", "x", "--to", "string", "-s", url, "--json")
        assert (refused.status, refused.json["failed"]) == (1, 1)
        assert run("cleanup", "--force", "--yes", "--system", "-s", url).status == 0
        with server.client() as native:
            assert native.keys("r*") == []


def test_a_right_that_is_missing(memcached: Memcached, old: str) -> None:
    """An import without SCARD says what is missing, and not that the old side is out of date."""
    with servers.redis_server() as server:
        with server.client() as native:
            rights = ("on", ">pw", "~*", "+@all", "-scard")
            native.execute_command("ACL", "SETUSER", "tools", *rights)
        fill_many(memcached.address, b"k", 10)
        said = run("import", old, "--to", f"redis://tools:pw@127.0.0.1:{server.port}", "--json")
        ((why, count),) = said.json["reasons"].items()
        assert (said.status, count, error_code(why)) == (1, 10, "NOPERM")


def test_the_rights_for_stages_and_functions(memcached: Memcached, old: str) -> None:
    """What the page has for these is enough, there and back."""
    basics = f"{access.KEYS} {access.BASICS} {access.STANDING} {access.FLUSHING}"
    rights = f"{basics} {access.FILLING} +ping +type +smembers +hkeys +function|load"
    with servers.redis_server() as server:
        with server.client() as native:
            native.execute_command("ACL", "SETUSER", "tools", "on", ">pw", *rights.split())
            redis_major = int(native.info("server")["redis_version"].split(".")[0])
        url = f"redis://tools:pw@127.0.0.1:{server.port}"
        warm = f"warm:{url}?from={old}&from-timeout=30"
        with servers.redcouch(warm):
            eventually(lambda: run("stage", "-s", warm).status == 0)
            assert run("sweep", "-s", warm).status == 0
            for stage in ("redis-only", "redis-first", "origin-first", "redis-first"):
                assert run("stage", stage, "--force", "-s", warm).status == 0
        if redis_major >= 7:
            assert run("functions", "load", "-s", url).status == 0


def test_raw_and_hex_side_by_side(
    redcouch: RedCouch, any_redis: RedisServer, client: redis.Redis, memcached: Memcached, old: str
) -> None:
    """An import in one encoding over items in the other leaves one value, not two."""
    fill(memcached.address, {b"k": Given(b"old", 1)})
    fill(redcouch.address, {b"k": Given(b"hex", 2)})
    url = f"{any_redis.url}?encoding=raw"
    assert run("import", old, "--to", url, "--overwrite").status == 0
    assert client.hgetall("rc:k").keys() == {b"r", b"f", b"c"}
    assert ask(redcouch.address, b"get k\r\n", b"END\r\n") == b"VALUE k 1 3\r\nold\r\nEND\r\n"


@pytest.mark.parametrize("command", [("promote", "*", "--to", "string"), ("functions", "load")])
def test_what_plain_strings_do_not_need(command: tuple[str, ...]) -> None:
    """They are promoted already, and need no functions."""
    said = run(*command, "-s", "redis://127.0.0.1?layout=string")
    assert said.status == 2
    assert "is for the layout of hashes" in said.err


def test_what_is_in_no_redis() -> None:
    """The items of memory: are nowhere that another process could reach."""
    with pytest.raises(ConfigurationError, match="no storage in Redis"):
        read_storage("memory:")
