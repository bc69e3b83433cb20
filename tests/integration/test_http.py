"""C{--http} of a real service: metrics, probes, status, and who may see them."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from redcouch.commands import VERBS
from redcouch.http.access import HEADERS
from redcouch.http.routes import FILES
from tests.backends.redis.certificates import Authority
from tests.http.pages import fetch, http_port, metrics
from tests.support import prefork, servers
from tests.support.polling import PATIENCE, eventually
from tests.support.requirements import needs
from tests.support.servers import LOOPBACK, TWISTD, RedCouch, RedisServer
from tests.support.wire import Wire, ask

NOOP = b"\x80\x0a" + bytes(22)


@pytest.fixture(scope="module", params=["1", "2"], ids=["one", "workers"])
def seen(request: pytest.FixtureRequest, any_redis: RedisServer) -> Iterator[RedCouch]:
    """A service with pages, in one process and with workers."""
    with servers.redcouch(any_redis.url, "--http", "0", "--workers", request.param) as server:
        yield server


def metrics_of_all(server: RedCouch) -> dict[str, float]:
    """A scrape that every worker has answered: one that is late counts as it last was."""

    def is_whole(found: dict[str, float]) -> bool:
        return all(up for name, up in found.items() if name.startswith("redcouch_worker_up"))

    return eventually(lambda: metrics(server), is_whole)


def test_commands_are_counted(seen: RedCouch) -> None:
    """By dialect, command and outcome, for all workers together."""
    before = metrics_of_all(seen)
    for _ in range(4):  # connections, so that each worker has some
        said = ask(
            seen.address,
            b"delete a\r\nset a 0 0 1\r\nx\r\nadd a 0 0 1\r\nx\r\n"
            b"delete made\r\nma made N0\r\n"  # an item, and no set
            b"get a nosuch\r\nincr nosuch 1\r\n",
            b"END\r\nNOT_FOUND\r\n",
        )
        assert b"STORED\r\nNOT_STORED\r\n" in said
        assert said.endswith(b"HD\r\nVALUE a 0 1\r\nx\r\nEND\r\nNOT_FOUND\r\n")
        get = b"\x80\x00\x00\x01" + bytes(4) + b"\0\0\0\x01" + bytes(12) + b"a"
        ask(seen.address, get + NOOP, b"\x81\x0a" + bytes(22))
    after = metrics_of_all(seen)

    def grown(dialect: str, command: str, outcome: str) -> float:
        labels = f'command="{command}",dialect="{dialect}",outcome="{outcome}"'
        name = f"redcouch_commands_total{{{labels}}}"
        return after[name] - before[name]

    assert grown("text", "set", "stored") == 4
    assert grown("text", "set", "not_stored") == 4
    assert grown("text", "get", "hit") == grown("text", "get", "miss") == 4
    assert grown("text", "incr", "miss") == 4
    assert grown("binary", "get", "hit") == 4
    assert grown("binary", "set", "stored") == 0
    assert after["redcouch_received_bytes_total"] > before["redcouch_received_bytes_total"]
    assert after["redcouch_sent_bytes_total"] > before["redcouch_sent_bytes_total"]


def test_durations(seen: RedCouch) -> None:
    """Some requests and the round trips to Redis are measured."""
    with Wire(seen.address) as wire:
        wire.say([b"get a\r\n"] * 200 + [b"mn\r\n"], b"MN\r\n")

    def measured() -> bool:
        found = metrics(seen)
        return all(
            found[f"redcouch_{name}_seconds_count"] > 0
            and found[f'redcouch_{name}_seconds_bucket{{le="+Inf"}}']
            == found[f"redcouch_{name}_seconds_count"]
            for name in ("request_duration", "storage_round_trip")
        )

    eventually(measured)


def test_workers(seen: RedCouch) -> None:
    """Each worker's standing, clients and use of the machine are told."""
    eventually(lambda: fetch(seen, "/readyz").status == 200)
    workers = fetch(seen, "/api/status").json()["workers"]
    found = metrics(seen)
    for worker in workers:
        number = worker["number"]
        assert found[f'redcouch_worker_up{{worker="{number}"}}'] == 1
        assert found[f'redcouch_storage_up{{worker="{number}"}}'] == 1
        assert found[f'redcouch_worker_resident_memory_bytes{{worker="{number}"}}'] > 2**20
        assert found[f'redcouch_worker_open_fds{{worker="{number}"}}'] > 3
        assert found[f'redcouch_worker_cpu_seconds_total{{worker="{number}"}}'] > 0
    assert found["process_resident_memory_bytes"] > 2**20
    assert found["redcouch_ready"] == 1


def test_connections(seen: RedCouch) -> None:
    """Clients are counted while they are there."""
    eventually(lambda: metrics(seen)["redcouch_connections"] == 0)  # who asked before is gone
    with Wire(seen.address) as wire:
        wire.say([b"mn\r\n"], b"MN\r\n")
        eventually(lambda: metrics(seen)["redcouch_connections"] == 1)
    eventually(lambda: metrics(seen)["redcouch_connections"] == 0)


def test_the_text_is_prometheus(seen: RedCouch) -> None:
    """Every line is understood, each name is ours or that of a process, and has a description."""
    scraped = fetch(seen, "/metrics")
    assert scraped.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(scraped.body))
    assert len(families) > 20
    for family in families:
        assert family.name.startswith(("redcouch_", "process_")), family.name
        assert family.documentation, family.name


def test_no_label_is_chosen_by_clients(seen: RedCouch) -> None:
    """Whatever clients send, there is not one series more."""

    def series() -> set[str]:
        return {name for name in metrics(seen) if not name.startswith("redcouch_inventory_")}

    before = series()
    for number in range(50):
        ask(seen.address, b"get key-%d\r\nnosuch%d x\r\n" % (number, number), b"ERROR\r\n")
    assert series() == before
    labels = re.findall(r"redcouch_inventory_\w+\{(.*)}", fetch(seen, "/metrics").body)
    kinds = {f'kind="{kind}"' for kind in ("client", "user", "prefix")}
    assert set(labels) <= kinds | {f'command="{verb}"' for verb in VERBS}


def test_status(seen: RedCouch, any_redis: RedisServer) -> None:
    """The status names the storage, the phase and who is connected."""
    with Wire(seen.address) as wire:
        wire.say([b"mn\r\n"], b"MN\r\n")
        eventually(lambda: fetch(seen, "/api/status").json()["connections"]["now"] >= 1)
        told = fetch(seen, "/api/status").json()
    assert told["storage"]["facts"]["kind"] == "Redis"
    with any_redis.client() as native:
        assert told["storage"]["facts"]["version"] == native.info()["redis_version"]
    assert told["storage"]["facts"]["role"] == "master"
    assert told["storage"]["url"] == servers.patient(any_redis.url)
    assert told["phase"]["number"] in (1, 2)
    assert any(client["address"].startswith("tcp:127.0.0.1:") for client in told["clients"])
    assert told["ready"] is True


def test_traffic(seen: RedCouch) -> None:
    """The inventory is told, with what cannot be printed made visible."""
    ask(seen.address, b"get odd\xff\xe2\x80\xae:1\r\n", b"END\r\n")

    def prefixes() -> list[str]:
        traffic = fetch(seen, "/api/status").json()["traffic"]
        return [one["name"] for one in traffic.get("prefix", [])]

    eventually(lambda: "odd\\xff\\u202e:" in prefixes())
    found = metrics(seen)
    assert found['redcouch_inventory_names{kind="prefix"}'] >= 1
    hour_ago = time.time() - 3600
    assert found['redcouch_inventory_last_seen_timestamp_seconds{command="get"}'] > hour_ago
    assert found["redcouch_inventory_since_timestamp_seconds"] > hour_ago


def test_history(seen: RedCouch) -> None:
    """Points come by themselves; only those after a time are given, if one is named."""
    eventually(lambda: len(fetch(seen, "/api/history").json()["points"]) >= 2)
    points = fetch(seen, "/api/history").json()["points"]
    since = points[-2]["time"]
    assert all(
        point["time"] > since
        for point in fetch(seen, f"/api/history?since={since}").json()["points"]
    )
    assert fetch(seen, "/api/history?since=x").status == 400


@pytest.mark.parametrize("path", [path.decode() for path in FILES])
def test_files(seen: RedCouch, path: str) -> None:
    """The page and what belongs to it are there, with the headers that hold a browser back."""
    answer = fetch(seen, path)
    assert answer.status == 200
    assert answer.body
    for name, value in HEADERS.items():
        assert answer.headers[name.decode()] == value.decode()
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_other_requests(seen: RedCouch) -> None:
    """What is not there, and what is not done here."""
    assert fetch(seen, "/nosuch").status == 404
    assert fetch(seen, "/../etc/passwd").status == 404
    posted = fetch(seen, "/", "POST", body=b"x" * 300_000)
    assert (posted.status, posted.headers["allow"]) == (405, "GET, HEAD")
    head = fetch(seen, "/metrics", "HEAD")
    assert (head.status, head.body) == (200, "")
    assert int(head.headers["content-length"]) > 1000
    assert fetch(seen, "/healthz").body == "alive\n"


def test_requests_that_are_too_large(seen: RedCouch) -> None:
    """They are told so, and nobody else notices."""
    assert fetch(seen, "/metrics", Long="x" * 20_000).status == 431
    assert fetch(seen, "/" + "x" * 20_000).status == 431
    assert fetch(seen, "/metrics", A="x" * 9_000, B="x" * 9_000).status == 400
    long: dict[str, Any] = {"Content-Length": "9" * 5_000}
    assert fetch(seen, "/metrics", **long).status == 400
    assert fetch(seen, "/healthz").status == 200


def test_who_holds_many_connections(seen: RedCouch) -> None:
    """Clients that begin a request and never end it keep nobody out: the first has to go."""
    with ExitStack() as held:
        address = (LOOPBACK, http_port(seen))
        clients = [held.enter_context(socket.create_connection(address)) for _ in range(300)]
        for client in clients:
            with suppress(ConnectionError):  # it has had to go already
                client.sendall(b"GET /metrics HT")
        assert fetch(seen, "/healthz").status == 200
        clients[0].settimeout(PATIENCE)
        with suppress(ConnectionResetError):
            assert clients[0].recv(1) == b""


def test_long_bodies(seen: RedCouch) -> None:
    """They take no descriptors beside those of the connections, which are kept for them."""
    before = servers.descriptors(seen.pid)
    head = b"POST / HTTP/1.1\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"
    with ExitStack() as clients:
        for _ in range(50):
            client = clients.enter_context(servers.plain(http_port(seen)))
            client.sendall(head)
            assert b"100 Continue" in client.recv(100)
        assert servers.descriptors(seen.pid) - before < 60


def test_who_leaves_amid_an_answer(seen: RedCouch) -> None:
    """It is nothing to log."""
    for _ in range(20):
        with socket.create_connection((LOOPBACK, http_port(seen))) as client:
            client.sendall(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for _ in range(3):
        assert fetch(seen, "/api/status").status == 200
    assert "Could not answer over HTTP" not in seen.log
    assert "Unhandled" not in seen.log


def test_another_name(seen: RedCouch) -> None:
    """A web page that gave its own name our address is told nothing; a probe is."""
    for path in ("/", "/metrics", "/api/status", "/api/history"):
        refused = fetch(seen, path, Host="evil.example")
        assert refused.status == 421
        assert "--http-host" in refused.body
    assert fetch(seen, "/healthz", Host="evil.example").status == 200
    assert fetch(seen, "/", Host=f"localhost:{http_port(seen)}").status == 200


def test_nothing_is_logged_for_a_request(seen: RedCouch) -> None:
    """However often somebody looks."""
    fetch(seen, "/metrics")
    before = seen.log
    for path in ("/", "/metrics", "/api/status", "/nosuch"):
        fetch(seen, path)
    assert seen.log == before


@pytest.mark.parametrize("workers", ["1", "2"])
def test_names_and_passwords(any_redis: RedisServer, tmp_path: Path, workers: str) -> None:
    """With --http-auth a user of the file is asked for; probes are answered to everybody."""
    users = tmp_path / "users"
    users.write_text("ann:secret\n")
    options = ("--http", "0", "--http-auth", "--auth-file", str(users), "--http-host", "seen.test")
    with servers.redcouch(any_redis.url, *options, "--workers", workers, ready=False) as server:
        refused = fetch(server, "/api/status")
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Basic ")
        assert fetch(server, "/metrics", user="ann:wrong").status == 401
        scraped = fetch(server, "/metrics", user="ann:secret", Host="seen.test")
        assert scraped.status == 200
        assert 'redcouch_authentications_total{outcome="failure"} 1.0' in scraped.body
        told = fetch(server, "/api/status", user="ann:secret").body
        assert "secret" not in told
        assert fetch(server, "/healthz").status == 200
        users.write_text("ann:other\n")
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: "Read 1 users" in server.log)
        assert fetch(server, "/metrics", user="ann:secret").status == 401
        assert fetch(server, "/metrics", user="ann:other").status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ready_as_redis_is(workers: str) -> None:
    """Without Redis the service is alive but not ready, and says why; with it again, it is."""
    with (
        servers.redis_server() as redis,
        servers.redcouch(redis.url, "--http", "0", "--workers", workers) as server,
    ):
        eventually(lambda: fetch(server, "/readyz").status == 200)
        redis.kill()
        eventually(lambda: fetch(server, "/readyz").status == 503)
        assert fetch(server, "/readyz").body.startswith(f"Redis at {servers.patient(redis.url)}: ")
        assert fetch(server, "/healthz").status == 200
        found = metrics(server)
        assert found["redcouch_ready"] == 0
        assert "redcouch_storage_items" not in found
        redis.start()
        eventually(lambda: fetch(server, "/readyz").status == 200)
        name = "redcouch_storage_reconnections_total"
        eventually(lambda: metrics(server)[name] == int(workers))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ready_as_writes_are(workers: str) -> None:
    """A Redis that is full, or takes no writes for another reason, is not ready; reads go on."""
    with (
        servers.redis_server() as redis,
        redis.client() as client,
        servers.redcouch(redis.url, "--http", "0", "--workers", workers) as server,
    ):
        eventually(lambda: fetch(server, "/readyz").status == 200)
        client.config_set("maxmemory", 1)
        eventually(lambda: fetch(server, "/readyz").status == 503)
        assert fetch(server, "/readyz").body.startswith("the storage refuses reads or writes: out")
        assert ask(server.address, b"get nosuch\r\n", b"END\r\n") == b"END\r\n"
        told = fetch(server, "/api/status").json()
        assert not told["ready"]
        assert "refuses reads or writes" in told["phase"]["blockers"][0]
        assert told["phase"]["command"] == ""
        client.config_set("maxmemory", 0)
        eventually(lambda: fetch(server, "/readyz").status == 200)
        client.config_set("min-replicas-to-write", 1)
        eventually(lambda: fetch(server, "/readyz").status == 503)
        client.config_set("min-replicas-to-write", 0)
        eventually(lambda: fetch(server, "/readyz").status == 200)
        assert client.keys("*write_probe*") == []


@pytest.mark.parametrize("parameters", ["", "?cache=1m"])
def test_ready_as_redis_answers(parameters: str) -> None:
    """A Redis that answers everything with an error that passes is not ready meanwhile."""
    with (
        servers.redis_server("--replica-serve-stale-data", "no") as redis,
        redis.client() as client,
        servers.redcouch(redis.url + parameters, "--http", "0") as server,
    ):
        eventually(lambda: fetch(server, "/readyz").status == 200)
        client.replicaof("127.0.0.1", servers.free_port())
        said = ask(server.address, b"get k\r\n", b"\r\n")
        assert said == b"SERVER_ERROR storage answered MASTERDOWN\r\n"
        eventually(lambda: fetch(server, "/readyz").status == 503)
        assert fetch(server, "/readyz").body.startswith(
            "the storage refuses reads or writes: storage answered MASTERDOWN"
        )
        assert metrics(server)["redcouch_ready"] == 0
        client.replicaof("NO", "ONE")
        eventually(lambda: fetch(server, "/readyz").status == 200)


COUNTER = "redcouch:sys:cas_counter"


def _probed_since(client: Any, before: int) -> bool:
    return bool(client.info("commandstats")["cmdstat_evalsha"]["calls"] > before)


@pytest.mark.parametrize("parameters", ["", "?layout=string&prefix=s:"])
def test_ready_as_commands_are(parameters: str) -> None:
    """Where every read or every write fails, it is not ready, and says why; nothing is left."""
    string = bool(parameters)
    read = "get" if string else "hmget"
    with (
        servers.redis_server() as redis,
        redis.client() as client,
        servers.redcouch(redis.url + parameters, "--http", "0", "--no-inventory") as server,
    ):

        def becomes(status: int) -> str:
            eventually(lambda: fetch(server, "/readyz").status == status)
            return fetch(server, "/readyz").body

        becomes(200)
        assert client.keys() == []
        for wrong in ("abc", str(2**63 - 1), "list", None):
            client.delete(COUNTER)
            if wrong == "list":
                client.rpush(COUNTER, "x")
            elif wrong is not None:
                client.set(COUNTER, wrong)
            if wrong is None:
                becomes(200)
            else:
                assert f"gives no token: {COUNTER}" in becomes(503)
        for command in ("incr", "set" if string else "hset", "evalsha", read):
            client.execute_command("ACL", "SETUSER", "default", f"-{command}")
            why = becomes(503)
            assert why.startswith("the storage refuses reads or writes: storage ")
            assert "answered NOPERM" in why or "allow INCR" in why
            assert b"SERVER_ERROR" in ask(server.address, b"set k 0 0 1\r\nv\r\n", b"\r\n") or (
                command == read
            )
            client.execute_command("ACL", "SETUSER", "default", f"+{command}")
            becomes(200)
        client.flushall()
        for token in (1, 2):
            ask(server.address, b"set k 0 0 1\r\nv\r\n", b"STORED\r\n")
            said = ask(server.address, b"gets k\r\n", b"END\r\n")
            assert said == b"VALUE k 0 1 %d\r\nv\r\nEND\r\n" % token
            before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            eventually(partial(_probed_since, client, before))
        assert len(client.keys("*write_probe*")) == 0


@needs("memcached")
def test_ready_as_the_old_memcacheds_are() -> None:
    """While one that is still asked is away, the service is not ready, and names it."""
    with (
        servers.memcached() as old,
        servers.redis_server() as redis,
        servers.redcouch(f"warm:{redis.url}?from={old.url}", "--http", "0") as server,
    ):
        eventually(lambda: fetch(server, "/readyz").status == 200)
        old.kill()
        eventually(lambda: fetch(server, "/readyz").status == 503)
        away = f"the old memcached is away: {old.url}\n"
        assert fetch(server, "/readyz").body == away
        assert ask(server.address, b"get nosuch\r\n", b"END\r\n") == b"END\r\n"
        old.start()
        eventually(lambda: fetch(server, "/readyz").status == 200)


def test_who_is_native() -> None:
    """Other RedCouches, commands, replicas, sentinels and monitors are no native clients."""
    with (
        servers.redis_server() as redis,
        servers.redis_server() as replica,
        servers.redcouch(redis.url, "--http", "0") as server,
        servers.redcouch(redis.url, "--workers", "2"),
        redis.client() as native,
        replica.client() as second,
    ):
        second.replicaof("127.0.0.1", redis.port)
        eventually(lambda: native.info("replication")["connected_slaves"] == 1)
        with (
            native.client() as sentinel,
            native.client() as command,
            native.client() as watching,
            native.monitor() as _,
        ):
            sentinel.client_setname("sentinel-0123abcd-cmd")
            command.execute_command("HELLO", 2, "SETNAME", "redcouch")
            assert watching.ping()
            connected = native.client_list()
            unnamed = [one for one in connected if not one["name"] and one["flags"] == "N"]
            told = fetch(server, "/api/status").json()
            assert told["storage"]["facts"]["natives"] == len(unnamed) == 2  # native, watching
            assert len(connected) >= 8
            assert told["phase"]["number"] == 2


def test_names_of_clients(any_redis: RedisServer, tmp_path: Path) -> None:
    """Applications are shown with what a file calls their addresses, which SIGHUP reads again."""
    names = tmp_path / "names"
    names.write_text("# ours\n127.0.0.0/8 all of us\n127.0.0.1 shop\n")
    options = ("--http", "0", "--client-names", str(names))
    with servers.redcouch(any_redis.url, *options) as server, Wire(server.address) as wire:

        def application(prefix: str) -> list[dict[str, object]]:
            wire.say([b"get cart:1\r\n"], b"END\r\n")
            rows = fetch(server, "/api/status").json()["traffic"]["application"]
            return [row for row in rows if row["prefix"] == prefix]

        eventually(lambda: application("cart:"))
        (row,) = application("cart:")
        assert (row["called"], row["address"], row["user"]) == ("shop", "127.0.0.1", "")
        assert fetch(server, "/api/status").json()["clients"][0]["called"] == "shop"
        names.write_text("127.0.0.1 basket\n")
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: application("cart:")[0]["called"] == "basket")
        assert f"Read 1 names of clients from {names}" in server.log
        names.write_text("nonsense\n")
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: "The names of clients stay as they are" in server.log)
        assert application("cart:")[0]["called"] == "basket"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_draining(workers: str, any_redis: RedisServer) -> None:
    """While the last clients finish, the page is still there, and the service is not ready."""
    options = ("--http", "0", "--workers", workers, "--drain-timeout", "100")
    large = b"set large 0 0 900000\r\n" + b"x" * 900_000 + b"\r\n"
    with servers.redcouch(any_redis.url, *options) as server:
        ask(server.address, large, b"STORED\r\n")
        with socket.create_connection((servers.LOOPBACK, server.port)) as client:
            client.sendall(b"get large\r\n" * 100)  # and does not take the answers
            eventually(lambda: metrics(server)["redcouch_sent_bytes_total"] > 900_000)
            os.kill(server.pid, signal.SIGTERM)
            eventually(lambda: fetch(server, "/readyz").body == "draining\n")
            assert fetch(server, "/readyz").status == 503
            assert fetch(server, "/api/status").json()["reason"] == "draining"
            assert metrics(server)["redcouch_ready"] == 0
        eventually(lambda: "Server Shut Down." in server.log)


def glances(server: RedCouch) -> list[dict[str, Any]]:
    """What the workers say of themselves; nothing, unless all do."""
    told = [worker["glance"] for worker in fetch(server, "/api/status").json()["workers"]]
    return told if all(told) else []


def test_a_worker_that_is_lost(any_redis: RedisServer) -> None:
    """Its successor is counted, and what it had counted is not forgotten."""
    with servers.redcouch(any_redis.url, "--http", "0", "--workers", "2") as server:
        ask(server.address, b"get nosuch\r\n" * 10 + b"mn\r\n", b"MN\r\n")
        name = 'redcouch_commands_total{command="get",dialect="text",outcome="miss"}'
        eventually(lambda: metrics(server)[name] >= 10)
        counted = metrics(server)[name]
        os.kill(eventually(lambda: glances(server))[0]["pid"], signal.SIGKILL)
        eventually(lambda: metrics(server)['redcouch_worker_restarts_total{worker="1"}'] == 1)
        eventually(lambda: metrics(server)['redcouch_worker_up{worker="1"}'] == 1)
        assert metrics(server)[name] >= counted


def test_a_worker_that_does_not_answer(any_redis: RedisServer) -> None:
    """It is shown as down until it answers again, and everything else is shown meanwhile."""
    with servers.redcouch(any_redis.url, "--http", "0", "--workers", "2") as server:
        eventually(lambda: fetch(server, "/readyz").status == 200)
        held = eventually(lambda: glances(server))[0]["pid"]
        servers.hold(held)

        def without_it() -> dict[str, float]:
            found = metrics(server)
            return {} if found['redcouch_worker_up{worker="1"}'] else found

        try:
            found = eventually(without_it)
            assert found['redcouch_worker_up{worker="2"}'] == 1
            assert found["redcouch_storage_items"] >= 0
            assert fetch(server, "/readyz").status == 200
        finally:
            os.kill(held, signal.SIGCONT)
        eventually(lambda: metrics(server)['redcouch_worker_up{worker="1"}'] == 1)


def test_an_open_page_is_mentioned(any_redis: RedisServer) -> None:
    """Who opens it to a network without a password is told so in the log."""
    with servers.redcouch(any_redis.url, "--http", "tcp:0:interface=0.0.0.0") as server:
        assert "--http-auth asks for a password" in server.log
        assert fetch(server, "/healthz").status == 200


def test_other_endpoints(any_redis: RedisServer, tmp_path: Path) -> None:
    """A unix socket has the mode that its endpoint says; a port in use ends the start in a line."""
    path = tmp_path / "http.sock"
    with servers.redcouch(any_redis.url, "--http", f"unix:{path}:mode=600"):
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert client.makefile("rb").read().endswith(b"\r\n\r\nalive\n")
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        words = [TWISTD, "-n", "--pidfile=", "redcouch", "--port", "0", "--http", str(port)]
        done = prefork.run(words, Path.cwd(), os.environ, PATIENCE)
    said = [line for line in done.stdout.splitlines() if "redcouch: " in line]
    assert done.returncode == 1
    assert len(said) == 1
    assert "--http: Couldn't listen on 127.0.0.1:" in said[0]


def test_over_tls(tmp_path: Path) -> None:
    """A browser, which offers HTTP/2 first, is answered by HTTP/1.1."""
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    endpoint = f"ssl:0:privateKey={key}:certKey={certificate}:interface={LOOPBACK}"
    context = ssl.create_default_context(cafile=str(authority.path))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with servers.redcouch("memory:", "--http", endpoint) as server:
        port = http_port(server)
        connection = HTTPSConnection(LOOPBACK, port, timeout=PATIENCE, context=context)
        try:
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b"alive\n"
        finally:
            connection.close()


def test_off_by_default(redcouch: RedCouch) -> None:
    """Nothing listens where nobody asked for it."""
    assert "(Door)" not in redcouch.log
