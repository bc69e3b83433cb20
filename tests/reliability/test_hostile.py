"""A Redis that is full or shut to us, and clients who would like to be somebody else."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tests.reliability.clients import BinaryClient, Client, MetaClient, RefusedError
from tests.support import servers
from tests.support.frames import frame
from tests.support.polling import eventually
from tests.support.servers import RedisServer
from tests.support.wire import Wire, ask

pytestmark = pytest.mark.once

SECRET = "M4RKER"


def test_a_full_database() -> None:
    """
    Writes fail loudly in each dialect. What was to be replaced is gone, as with memcached, so
    that nobody reads what should be over; all else stays, and room made is room again.
    """
    with (
        servers.redis_server("--maxmemory-policy", "noeviction") as storage,
        servers.redcouch(storage.url) as server,
        storage.client() as native,
    ):
        clients = [Client(server.address, "text"), MetaClient(server.address, "meta")]
        binary = BinaryClient(server.address, "binary")
        for client in (*clients, binary):
            client.store(client.name, "before")
            client.store(f"other-{client.name}", "before")
        native.config_set("maxmemory", "1")
        for client in clients:
            with pytest.raises(RefusedError, match="SERVER_ERROR out of memory storing object"):
                client.store(client.name, "after")
        with pytest.raises(RefusedError, match="0x0082 Out of memory"):
            binary.store(binary.name, "after")
        said = ask(server.address, b"append other-text 0 0 1\r\nx\r\n", b"\r\n")
        assert said == b"SERVER_ERROR out of memory storing object\r\n"
        for client in (*clients, binary):
            assert client.get(client.name) is None
            assert client.get(f"other-{client.name}") == b"before"
        assert ask(server.address, b"delete other-text\r\n", b"\r\n") == b"DELETED\r\n"
        native.config_set("maxmemory", "0")
        for client in (*clients, binary):
            client.store(client.name, "after")
            assert client.get(client.name) == b"after"
            client.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_password_is_changed(workers: str) -> None:
    """Redis shuts us out, and later lets us in again: clients are told so meanwhile."""
    with (
        servers.redis_server("--requirepass", SECRET) as storage,
        storage.client(password=SECRET) as native,
        servers.redcouch(
            storage.url.replace("//", f"//:{SECRET}@"), "--workers", workers
        ) as server,
    ):
        native.config_set("requirepass", "another")
        native.client_kill_filter(_type="normal", skipme=True)
        eventually(
            lambda: (
                ask(server.address, b"get k\r\n", b"\r\n")
                == b"SERVER_ERROR storage not reachable\r\n"
            )
        )
        eventually(lambda: "WRONGPASS" in server.log)
        native.config_set("requirepass", SECRET)
        served = 0
        while served < 10:  # by whichever worker
            eventually(lambda: ask(server.address, b"get k\r\n", b"\r\n") == b"END\r\n")
            served += 1
        assert SECRET not in server.log


@pytest.mark.parametrize(("form", "workers"), [("text", "1"), ("json", "1"), ("json", "2")])
def test_nothing_of_clients_is_logged(
    form: str, workers: str, any_redis: RedisServer, tmp_path: Path
) -> None:
    """Neither keys nor values nor passwords, right or wrong, nor lines that clients make up."""
    users = tmp_path / "users"
    users.write_text(f"ann:{SECRET}\n")
    forged = b"\r\n2026-01-01T00:00:00+0000 [-] " + SECRET.encode() + b"\r\n"
    mark = SECRET.encode()
    said = [
        b"set auth 0 0 %d\r\nann %b\r\n" % (len(mark) + 4, mark),
        b"set %b 0 0 6\r\n%b\r\n" % (mark, mark),
        b"get %b\r\n" % mark,
        b"get %b\r\n" % (mark * 50),  # too long
        b"incr %b 1\r\n" % mark,
        b"get %b-list\r\n" % mark,  # which is no item
        b"append %b-list 0 0 1\r\nx\r\n" % mark,
        b"get %b-odd\r\n" % mark,  # which cannot be decoded
        b"set %b x y z\r\n" % mark,
        b"set %b 0 0 9\r\n%b\r\n" % (mark, mark * 3),  # longer than promised
        b"%b\r\n" % mark,
        b"mg %b v %b\r\n" % (mark, mark),
        b"ms %b S3\r\nabc\r\n" % mark,
        b"me %b\r\n" % mark,
        b"verbosity 9\r\n",
        b"stats %b\r\n" % mark,
        b"flush_all %b\r\n" % mark,
        forged,
        b"quit\r\n",
    ]
    options = ("--auth-file", str(users), "--log-format", form, "--workers", workers)
    with (
        any_redis.client() as native,
        servers.redcouch(any_redis.url, *options, ready=False) as server,
    ):
        native.flushall()
        native.rpush(f"rc:{SECRET}-list", SECRET)
        native.hset(f"rc:{SECRET}-odd", "v", SECRET)
        with Wire(server.address) as wire:
            heard = wire.say(said, b"never").reply
        assert heard.count(b"SERVER_ERROR ") == 3, heard
        with Wire(server.address) as wire:
            wrong = forged.strip() + b" x"
            wire.say([b"set auth 0 0 %d\r\n%b\r\nquit\r\n" % (len(wrong), wrong)], b"never")
        with Wire(server.address) as wire:
            login = frame(0x21, b"PLAIN", b"", b"\0ann\0" + mark)
            broken = frame(0x01, forged, bytes(8), mark) + frame(0x55, mark, b"", mark)
            wire.say([login, broken, b"\x99" + mark * 9], b"never")
        with Wire(server.address) as wire:
            wire.say([frame(0x21, b"PLAIN", b"", b"\0" + forged + b"\0x"), b"\x99" * 24], b"never")
        log = server.log
        native.flushall()
    assert SECRET not in log
    assert "2026-01-01" not in log
    if form == "json":
        assert all(json.loads(line)["message"] for line in log.splitlines())


def test_keys_are_no_commands(any_redis: RedisServer) -> None:
    """A key of the binary protocol may hold anything; to Redis it is a name, and nothing else."""
    keys = [
        b"a\r\nFLUSHALL\r\n",
        b"*1\r\n$8\r\nFLUSHALL\r\n",
        b"'); redis.call('FLUSHALL') --",
        b"]] redis.call('FLUSHALL') --[[",
        b"%s%d%b {0} $1 ARGV[1]",
        b"k \0 \xff\x7f",
        b"rc:../*?[a-z]\\",
    ]
    with servers.redcouch(any_redis.url) as server, any_redis.client() as native:
        native.flushall()
        native.set("bystander", "here")
        for key in keys:
            flags_and_exptime = struct.pack(">II", 7, 0)
            delta = struct.pack(">QQI", 1, 5, 0)
            for opcode, extras, value in (
                (0x01, flags_and_exptime, key),  # set
                (0x0E, b"", key),  # append: by a script
                (0x00, b"", b""),  # get
                (0x05, delta, b""),  # increment, which finds no number
            ):
                with Wire(server.address) as wire:
                    reply = wire.exchange(frame(opcode, key, extras, value), lambda said: True)
                assert reply is not None
                status = struct.unpack_from(">H", reply, 6)[0]
                assert status == (6 if opcode == 0x05 else 0), (key, opcode)
            item = native.hgetall(b"rc:" + key)
            assert bytes.fromhex(item[b"v"].decode()) == key + key
            assert item[b"f"] == b"7"
        found = {key for key in native.keys("*") if not key.startswith(b"redcouch:sys:")}
        assert found == {b"bystander", *(b"rc:" + key for key in keys)}
