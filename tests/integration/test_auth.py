"""A service with an --auth-file, as its clients and its operator see it."""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import bcrypt
import pytest
import redis

from tests.support import prefork, servers
from tests.support.frames import frame, reply
from tests.support.polling import PATIENCE, eventually
from tests.support.requirements import installed, needs
from tests.support.servers import LOOPBACK, RedCouch, RedisServer
from tests.support.wire import Wire

NOOP, VERSION, SASL_LIST, SASL_AUTH = 0x0A, 0x0B, 0x20, 0x21

HASHED = bcrypt.hashpw(b"hashed", b"$2b$04$abcdefghijklmnopqrstuu")  # always the same
USERS = b"# who may\nanna:plain secret\nbert:%b\n" % HASHED


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("auth") / "users"
    file.write_bytes(USERS)
    return file


@pytest.fixture(scope="module")
def running(any_redis: RedisServer, users: Path) -> Iterator[RedCouch]:
    with servers.redcouch(any_redis.url, "--auth-file", str(users), ready=False) as server:
        yield server


@pytest.fixture
def native(any_redis: RedisServer) -> Iterator[redis.Redis]:
    """A native client of the Redis behind, which is emptied first."""
    with any_redis.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def guarded(running: RedCouch, native: redis.Redis) -> RedCouch:
    """Only the two in the file may come in, and nothing is stored."""
    return running


def words(user: bytes, password: bytes) -> bytes:
    """How a text client proves who it is."""
    block = user + b" " + password
    return b"set auth 0 0 %d\r\n%b\r\n" % (len(block), block)


def plain(user: bytes, password: bytes) -> bytes:
    """How a binary client proves who it is."""
    return frame(SASL_AUTH, b"PLAIN", b"", b"\0" + user + b"\0" + password)


LET_IN = reply(SASL_AUTH, value=b"Authenticated")
REFUSED = reply(SASL_AUTH, 0x20, b"Auth failure.")
UNAUTHENTICATED = b"CLIENT_ERROR unauthenticated\r\n"
FAILURE = b"CLIENT_ERROR authentication failure\r\n"


@pytest.mark.parametrize(("user", "password"), [(b"anna", b"plain"), (b"bert", b"hashed")])
def test_text(guarded: RedCouch, user: bytes, password: bytes) -> None:
    """Who sends the password in the first set is let in; it has one word in text."""
    with Wire(guarded.address) as wire:
        heard = wire.say([words(user, password)], b"\r\n").reply
        assert heard == (b"STORED\r\n" if user == b"bert" else FAILURE)
        if user == b"bert":
            assert wire.converse([b"get a\r\n"]).reply == b"END\r\n"


@pytest.mark.parametrize(("user", "password"), [(b"anna", b"plain secret"), (b"bert", b"hashed")])
def test_binary(guarded: RedCouch, user: bytes, password: bytes) -> None:
    """SASL PLAIN lets in whoever has the password, plain or hashed in the file."""
    with Wire(guarded.address) as wire:
        assert wire.say([frame(SASL_LIST)], b"PLAIN").reply == reply(SASL_LIST, value=b"PLAIN")
        assert wire.say([plain(user, password)], b"d").reply == LET_IN
        assert wire.say([frame(NOOP)], reply(NOOP)).reply == reply(NOOP)


def test_a_wrong_password(guarded: RedCouch) -> None:
    """
    Who has it wrong is told so after a while, and may try again; meanwhile others are
    served. The operator sees how often it happened, and neither name nor password.
    """
    with Wire(guarded.address) as text, Wire(guarded.address) as binary:
        heard = binary.say([plain(b"anna", b"GUESS")], b"failure.").reply
        assert heard == REFUSED
        assert text.say([words(b"NOBODY", b"GUESS")], b"\r\n").reply == FAILURE
        assert text.say([b"get a\r\n"], b"\r\n").reply == UNAUTHENTICATED
        assert text.say([words(b"bert", b"hashed")], b"\r\n").reply == b"STORED\r\n"
        assert binary.say([plain(b"bert", b"hashed")], b"d").reply == LET_IN
        stats = text.say([b"stats\r\n"], b"END\r\n").reply
        counted = dict(line.split()[1:] for line in stats.splitlines() if line != b"END")
        assert int(counted[b"auth_errors"]) >= 2
        assert int(counted[b"auth_cmds"]) >= 4
        settings = text.say([b"stats settings\r\n"], b"END\r\n").reply
        assert b"STAT auth_enabled_sasl yes\r\n" in settings
        assert b"STAT auth_enabled_ascii yes\r\n" in settings
    log = guarded.log
    assert "Authentication failed" in log
    assert f"tcp:{LOOPBACK}:" in log
    assert not any(word in log for word in ("GUESS", "NOBODY", "anna", "bert", "hashed"))


def test_others_are_served_while_one_waits(guarded: RedCouch) -> None:
    """Twenty clients that guess do not hold up one that knows."""
    wires = [Wire(guarded.address) for _ in range(20)]
    try:
        guess = b"mn\r\n" + words(b"anna", b"guess")
        heard = [wire.exchange(guess, lambda said: said.startswith(b"MN\r\n")) for wire in wires]
        with Wire(guarded.address) as wire:
            assert wire.say([words(b"bert", b"hashed")], b"\r\n").reply == b"STORED\r\n"
            assert wire.converse([b"get a\r\n"]).reply == b"END\r\n"
        for wire, said in zip(wires, heard, strict=True):
            assert said is not None
            assert (said[4:] or wire.say([b""], b"\r\n").reply) == FAILURE
    finally:
        for wire in wires:
            wire.__exit__()


def test_what_is_answered_before(guarded: RedCouch) -> None:
    """Version, ping and quit are; everything else is "unauthenticated", and nothing is kept."""
    with Wire(guarded.address) as wire:
        assert wire.say([b"version\r\n"], b"\r\n").reply.startswith(b"VERSION ")
        assert wire.say([b"mn\r\n"], b"\r\n").reply == b"MN\r\n"
        for line in (b"get a", b"stats", b"flush_all", b"mg a v", b"lru_crawler metadump all"):
            assert wire.say([line + b"\r\n"], b"\r\n").reply == UNAUTHENTICATED
        assert wire.say([b"quit\r\n"], b"\0").closed
    with Wire(guarded.address) as wire:
        assert wire.say([frame(NOOP)], reply(NOOP)).reply == reply(NOOP)
        assert b"RedCouch" in wire.say([frame(VERSION)], b"0").reply
        heard = wire.say([frame(0x00, b"a") + frame(NOOP)], b"\0\0")
        assert heard.reply == reply(0x00, 0x20, b"Auth failure.")
        assert heard.closed


def test_a_thousand_commands_before(guarded: RedCouch, native: redis.Redis) -> None:
    """Not one of a thousand commands before the password does anything."""
    lines = [
        b"add k%d 0 0 1 noreply\r\n",
        b"ms k%d 1\r\n",
        b"incr k%d 1\r\n",
        b"ma k%d N0\r\n",
        b"mg k%d N0 v\r\n",
        b"flush_all %d\r\n",
        b"delete k%d noreply\r\n",
        b"gat 0 k%d\r\n",
        b"touch k%d 0\r\n",
    ]
    native.hset("rc:k1", mapping={"v": "78", "f": 0, "c": 1})
    with Wire(guarded.address) as wire:
        for number in range(100):
            data = b"".join(line % number for line in lines)
            heard = wire.say([data + b"mn\r\n"], b"MN\r\n").reply
            assert heard == UNAUTHENTICATED * 9 + b"MN\r\n"
    store = struct.pack(">II", 0, 0)
    for opcode in (*range(0x07), 0x08, 0x09, *range(0x0C, 0x17), 0x18, 0x19, 0x1A, 0x1C, 0x24):
        with Wire(guarded.address) as wire:
            refused = wire.say([frame(opcode, b"k1", store, b"x") * 40], b"\0\0")
            assert refused.closed
            assert refused.reply == reply(opcode, 0x20, b"Auth failure.")
    assert native.keys("rc:*") == [b"rc:k1"]
    assert native.hgetall("rc:k1") == {b"v": b"78", b"f": b"0", b"c": b"1"}


def test_commands_right_behind_the_password(guarded: RedCouch) -> None:
    """A client need not wait for its STORED; what it sends meanwhile is done, in order."""
    lines = words(b"bert", b"hashed") + b"set a 0 0 1\r\nx\r\nget a\r\nincr a 1\r\n"
    with Wire(guarded.address) as wire:
        heard = wire.converse([lines]).reply
    assert heard == (
        b"STORED\r\nSTORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"
        b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
    )
    store = struct.pack(">II", 0, 0)
    with Wire(guarded.address) as wire:
        data = plain(b"bert", b"hashed") + frame(0x11, b"a", store, b"y") + frame(NOOP)
        assert wire.say([data], reply(NOOP)).reply == LET_IN + reply(NOOP)
    with Wire(guarded.address) as wire:
        data = words(b"bert", b"no") + b"get a\r\nget a\r\n"
        heard = wire.say([data], UNAUTHENTICATED * 2).reply
        assert heard == FAILURE + UNAUTHENTICATED * 2


@needs("nc")
def test_a_client_that_closes_its_side_at_once(guarded: RedCouch) -> None:
    """printf | nc works: all is answered, though nothing more can come; then the end."""
    nc = installed("nc")
    for password, answers in (
        (b"hashed", b"STORED\r\nSTORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"),
        (b"guess", FAILURE + UNAUTHENTICATED * 3),
    ):
        done = subprocess.run(
            [nc, "-N", LOOPBACK, str(guarded.port)],
            input=words(b"bert", password) + b"set a 0 0 1\r\nx\r\nget a\r\n",
            stdout=subprocess.PIPE,
            timeout=60,
            check=True,
        )
        if password == b"guess":  # "set a 0 0 1" is a try too, with a block of one word
            assert done.stdout.startswith(FAILURE)
            assert b"VALUE" not in done.stdout
            assert b"STORED" not in done.stdout
        else:
            assert done.stdout == answers


@pytest.mark.parametrize("workers", [1, 2])
def test_the_file_is_read_again(any_redis: RedisServer, tmp_path: Path, workers: int) -> None:
    """
    After a SIGHUP new passwords count and old ones do not, in every process; who is in
    stays in; a file that is wrong changes nothing.
    """
    file = tmp_path / "users"
    file.write_bytes(b"anna:old\n")
    options = ("--auth-file", str(file), "--workers", str(workers))
    with servers.redcouch(any_redis.url, *options, ready=False) as server:

        def everywhere(password: bytes) -> set[bytes]:
            """What clients are told, of whom each process gets some."""
            told = set()
            for _ in range(1 if password == b"no" else 12):
                with Wire(server.address) as wire:
                    told.add(wire.say([words(b"anna", password)], b"\r\n").reply)
            return told

        def reloaded(line: str, text: bytes) -> None:
            before = server.log.count(line)
            file.write_bytes(text)
            server_signal(server, signal.SIGHUP)
            eventually(lambda: server.log.count(line) > before)

        with Wire(server.address) as insider:
            assert insider.say([words(b"anna", b"old")], b"\r\n").reply == b"STORED\r\n"
            reloaded("Read 1 users", b"anna:new\n")
            eventually(lambda: everywhere(b"new") == {b"STORED\r\n"})
            reloaded("The users stay as they are", b"anna\n")
            assert everywhere(b"new") == {b"STORED\r\n"}
            assert insider.converse([b"get nothing\r\n"]).reply == b"END\r\n"
        with Wire(server.address) as wire:
            assert wire.say([words(b"anna", b"old")], b"\r\n").reply == FAILURE


def server_signal(server: RedCouch, number: signal.Signals) -> None:
    os.kill(server.pid, number)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "names no user"),
        (b"anna\n", "line 1: has to be user:password"),
        (b"anna:x\n:SECRET\n", "line 2: has to be user:password"),
        (b"anna:x\nanna:SECRET\n", "line 2: names a user a second time"),
        (b"anna:x\nbert:$2y$05$SECRET\n", "line 2: has a broken bcrypt hash"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: bytes | None, complaint: str) -> None:
    """The service does not start, and one line says why, without a word of the file."""
    file = tmp_path / "users"
    if text is not None:
        file.write_bytes(text)
    options = ["-n", "--pidfile=", "redcouch", "--port", "0", "--storage", "memory:"]
    command = [servers.TWISTD, *options, "--auth-file", str(file)]
    done = prefork.run(command, tmp_path, os.environ, PATIENCE)
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line.startswith("redcouch: --auth-file: ")
    assert complaint in line
    assert "SECRET" not in line


def test_without_a_file(redcouch: RedCouch) -> None:
    """
    Where nobody has to authenticate, a client that asks for SASL is told "Unknown command",
    as by memcached without it, and goes on; the first set in text is a set.
    """
    with Wire(redcouch.address) as wire:
        unknown = b"Unknown command"
        assert wire.say([frame(SASL_LIST)], unknown).reply == reply(SASL_LIST, 0x81, unknown)
        heard = wire.say([plain(b"any", b"any")], unknown).reply
        assert heard == reply(SASL_AUTH, 0x81, unknown)
        assert wire.say([frame(NOOP)], reply(NOOP)).reply == reply(NOOP)
    with Wire(redcouch.address) as wire:
        heard = wire.converse([words(b"any", b"any") + b"get auth\r\n"]).reply
        assert heard == b"STORED\r\nVALUE auth 0 7\r\nany any\r\nEND\r\n"


def test_guesses_keep_nobody_out(any_redis: RedisServer, tmp_path: Path) -> None:
    """
    100 clients guess the password of a user with a bcrypt hash, from where the right one
    comes from, too: it is let in before their guesses have been checked.
    """
    users = tmp_path / "users"
    users.write_bytes(b"ann:" + bcrypt.hashpw(b"right", bcrypt.gensalt(12)) + b"\n")
    options = ("--auth-file", str(users), "--drain-timeout", "0.1")
    with (
        servers.redcouch(any_redis.url, *options, ready=False) as server,
        ExitStack() as stack,
    ):
        guessing = [stack.enter_context(servers.plain(server.port)) for _ in range(100)]
        for number, client in enumerate(guessing):
            client.sendall(b"set auth 0 0 7\r\nann %03d\r\n" % number)
        with Wire(server.address) as wire:
            wire.exchange(b"mn\r\n", lambda said: True)  # the others have been heard
            said = wire.exchange(b"set auth 0 0 9\r\nann right\r\n", lambda said: True)
        assert said == b"STORED\r\n"
        answered, _, _ = select.select(guessing, [], [], 0)
        assert len(answered) < 50
        with Wire(server.address) as wire:  # known by now
            said = wire.exchange(b"set auth 0 0 9\r\nann right\r\n", lambda said: True)
        assert said == b"STORED\r\n"
