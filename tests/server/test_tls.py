"""TLS for clients, by options: what is let in, and what is not."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from twisted.internet import reactor

from redcouch.backends.redis.connection import RedisConnection
from redcouch.backends.redis.url import read_location
from redcouch.errors import ConfigurationError
from redcouch.process.reload import Reload
from redcouch.server.listeners import server_endpoint
from redcouch.server.tls import OPTIONS, ServerTLS
from tests.backends.redis.certificates import Authority
from tests.support import servers
from tests.support.over_tls import ask, context_for
from tests.support.polling import eventually
from tests.support.requirements import installed, needs
from tests.support.workers import worker_pids

# Twisted hands pyOpenSSL objects to pyOpenSSL, which would rather have others by now.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def files(authority: Authority) -> tuple[str, str]:
    """The server's certificate and key."""
    certificate, key = authority.issue("server")
    return str(certificate), str(key)


@pytest.fixture
def strict_files(authority: Authority, files: tuple[str, str], tmp_path: Path) -> list[str]:
    """Copies of the certificate, its key and the authority, for a test to change."""
    copies = []
    originals = (*files, str(authority.path))
    for name, path in zip(("certificate", "key", "ca"), originals, strict=True):
        copy = tmp_path / f"{name}-of-{authority.path.name}"
        copy.write_bytes(Path(path).read_bytes())
        copies.append(str(copy))
    return copies


@pytest.fixture
def strict(authority: Authority, files: tuple[str, str]) -> Iterator[servers.RedCouch]:
    """A service that wants certificates of its clients, without a client yet."""
    options = ("--tls-cert", files[0], "--tls-key", files[1], "--tls-client-ca")
    with servers.redcouch_over_tls("memory:", *options, str(authority.path)) as server:
        yield server


@pytest.mark.parametrize("workers", ["1", "2"])
def test_clients(authority: Authority, files: tuple[str, str], workers: str) -> None:
    """TLS 1.2 and 1.3 are served, also with workers; what is older is not, nor plain text."""
    storage = "memory:" if workers == "1" else servers.served_redis().url
    options = ("--tls-cert", files[0], "--tls-key", files[1], "--workers", workers)
    with servers.redcouch_over_tls(storage, *options) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = context_for(authority)
            context.minimum_version = context.maximum_version = version
            said = ask(server.port, context, b"set k 0 0 1\r\nv\r\nget k\r\n")
            assert said == b"STORED\r\nVALUE k 0 1\r\nv\r\nEND\r\n"
        with servers.plain(server.port) as wire:
            wire.sendall(b"version\r\n")
            assert b"VERSION" not in servers.read_all(wire)


def test_offered_protocols(authority: Authority, files: tuple[str, str]) -> None:
    """A client that offers HTTP/2, as some proxies do to everybody, is served all the same."""
    context = context_for(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    options = ("--tls-cert", files[0], "--tls-key", files[1])
    with servers.redcouch_over_tls("memory:", *options) as server:
        assert ask(server.port, context, b"mn\r\n") == b"MN\r\n"


def test_the_end(authority: Authority, files: tuple[str, str]) -> None:
    """A service that ends gives clients their answers, and waits for none to say good-bye."""
    options = ("--tls-cert", files[0], "--tls-key", files[1], "--drain-timeout", "1000")
    with ExitStack() as clients, servers.redcouch_over_tls("memory:", *options) as server:

        def client() -> ssl.SSLSocket:
            plain = servers.plain(server.port)
            context = context_for(authority)
            wire = context.wrap_socket(plain, server_hostname=servers.LOOPBACK)
            return clients.enter_context(wire)

        idle, busy = client(), client()
        idle.sendall(b"mn\r\n")
        assert idle.recv(100) == b"MN\r\n"
        value = b"x" * 1_000_000
        busy.sendall(b"set k 0 0 1000000\r\n%b\r\n" % value)
        assert busy.recv(100) == b"STORED\r\n"
        busy.sendall(b"get k\r\n")
        assert busy.recv(1) == b"V"
        os.kill(server.pid, signal.SIGTERM)
        busy.sendall(b"get k\r\n")
        assert value in servers.read_all(busy)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("endpoint", [False, True])
@pytest.mark.parametrize("by", ["TLS", "TCP", "both"])
def test_who_ends_its_side(
    authority: Authority, files: tuple[str, str], version: ssl.TLSVersion, endpoint: bool, by: str
) -> None:
    """Who says in any way that it ends, as in a pipe, has its answers, as with memcached."""
    storage = servers.served_redis().url  # which answers in another turn
    port = servers.free_port()
    if endpoint:
        place = f"ssl:{port}:interface={servers.LOOPBACK}:certKey={files[0]}:privateKey={files[1]}"
        options = ["--port", place]
    else:
        options = ["--tls-cert", files[0], "--tls-key", files[1]]
    with servers.redcouch_over_tls(storage, *options) as server:
        context = context_for(authority)
        context.maximum_version = version
        received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(received, to_send, server_hostname=servers.LOOPBACK)
        with servers.plain(port if endpoint else server.port) as wire:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    wire.sendall(to_send.read())
                    received.write(wire.recv(65536))
            tls.write(b"set k 0 0 1\r\nv\r\nget k\r\n")
            if by != "TCP":
                with pytest.raises(ssl.SSLWantReadError):
                    tls.unwrap()
            wire.sendall(to_send.read())
            if by != "TLS":
                wire.shutdown(socket.SHUT_WR)
            received.write(servers.read_all(wire))
        said = b""
        with suppress(ssl.SSLError):  # it has ended, too
            while data := tls.read(4096):
                said += data
        assert said == b"STORED\r\nVALUE k 0 1\r\nv\r\nEND\r\n"


@needs("openssl")
def test_tls_1_1(authority: Authority, files: tuple[str, str]) -> None:
    """openssl itself, told to speak TLS 1.1 at most, is refused with an alert."""
    openssl = installed("openssl")
    options = ("--tls-cert", files[0], "--tls-key", files[1])
    with servers.redcouch_over_tls("memory:", *options) as server:
        call = [openssl, "s_client", "-connect", f"{servers.LOOPBACK}:{server.port}"]

        def shake_hands(*more: str) -> str:
            done = subprocess.run(
                [*call, *more], input=b"version\r\nquit\r\n", capture_output=True, timeout=60
            )
            return (done.stdout + done.stderr).decode(errors="replace")

        old = shake_hands("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        assert "alert protocol version" in old
        assert "Cipher is (NONE)" in old
        assert "Cipher is (NONE)" not in shake_hands("-tls1_2")


def test_client_certificates(
    authority: Authority, strict: servers.RedCouch, tmp_path: Path
) -> None:
    """With an authority for clients, a certificate of it is needed, and no other will do."""
    ours = authority.issue("client")
    assert ask(strict.port, context_for(authority, ours), b"mn\r\n") == b"MN\r\n"
    folder = tmp_path / "stranger"
    folder.mkdir()
    theirs = Authority(folder, "stranger").issue("client")
    for certificate in (None, theirs):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(strict.port, context_for(authority, certificate), b"mn\r\n")


def test_password(authority: Authority, files: tuple[str, str], tmp_path: Path) -> None:
    """Users prove who they are over TLS as without."""
    users = tmp_path / "users"
    users.write_text("ann:secret\n")
    options = ("--tls-cert", files[0], "--tls-key", files[1], "--auth-file", str(users))
    with servers.redcouch_over_tls("memory:", *options) as server:
        context = context_for(authority)
        assert ask(server.port, context, b"get k\r\n") == b"CLIENT_ERROR unauthenticated\r\n"
        said = ask(server.port, context, b"set x 0 0 10\r\nann secret\r\nget k\r\n")
        assert said == b"STORED\r\nEND\r\n"


def test_unusable_files(authority: Authority, files: tuple[str, str], tmp_path: Path) -> None:
    """What is wrong is said with the option that is to be mended."""
    certificate, key = files
    other_key = str(authority.issue("other")[1])
    empty = tmp_path / "empty"
    empty.touch()
    for given, said in [
        (("/nonexistent", key, None), "--tls-cert: cannot read /nonexistent"),
        ((str(empty), key, None), f"--tls-cert: there is no certificate in {empty}"),
        ((certificate, None, None), f"--tls-cert: there is no key in {certificate}"),
        ((certificate, str(empty), None), f"--tls-key: there is no key in {empty}"),
        ((certificate, other_key, None), "--tls-key: the key does not belong to the certificate"),
        ((certificate, key, str(empty)), f"--tls-client-ca: there is no certificate in {empty}"),
    ]:
        with pytest.raises(ConfigurationError, match=said):
            ServerTLS(dict(zip(OPTIONS, given, strict=True)))


ENCRYPTED = "the key is encrypted: it has to be there without a pass phrase"


@pytest.fixture(
    params=[serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8],
    ids=["traditional", "PKCS 8"],
)
def encrypted(request: pytest.FixtureRequest, files: tuple[str, str], tmp_path: Path) -> str:
    """The server's key, in a file that wants a pass phrase."""
    key = serialization.load_pem_private_key(Path(files[1]).read_bytes(), None)
    path = tmp_path / "encrypted.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            request.param,
            serialization.BestAvailableEncryption(b"phrase"),
        )
    )
    return str(path)


def test_encrypted_keys(files: tuple[str, str], encrypted: str) -> None:
    """Nobody is asked for a pass phrase: of clients' ports, of others' and of Redis's."""
    with pytest.raises(ConfigurationError, match=f"--tls-key: {encrypted}: {ENCRYPTED}"):
        ServerTLS(dict(zip(OPTIONS, (files[0], encrypted, None), strict=True)))
    described = f"ssl:0:privateKey={encrypted}:certKey={files[0]}"
    with pytest.raises(ConfigurationError, match=ENCRYPTED):
        server_endpoint(described, None, False, Reload())
    url = f"rediss://127.0.0.1:1/?cert={files[0]}&key={encrypted}"
    with pytest.raises(ConfigurationError, match=ENCRYPTED):
        RedisConnection(read_location(url), reactor, ()).start()


def test_an_encrypted_key_at_a_reload(files: tuple[str, str], encrypted: str) -> None:
    """What was read before stays, and clients are served."""
    options = ("--tls-cert", files[0], "--tls-key", files[1])
    with servers.redcouch_over_tls("memory:", *options) as server:
        Path(files[1]).write_bytes(Path(encrypted).read_bytes())
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: ENCRYPTED in server.log)
        assert server.answers()


def test_one_file(files: tuple[str, str], tmp_path: Path) -> None:
    """Certificate and key may be in one file."""
    both = tmp_path / "both"
    both.write_bytes(b"".join(Path(file).read_bytes() for file in files))
    tls = ServerTLS({"tls-cert": str(both), "tls-key": None, "tls-client-ca": None})
    assert tls.reload() == f"certificates from {both}"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_files_are_read_again(
    authority: Authority, strict_files: list[str], tmp_path: Path, workers: str
) -> None:
    """
    After SIGHUP, who connects meets the new certificate, and shows one of the new
    authority; what cannot be used changes nothing, also for workers to come.
    """
    certificate, key, authorities = map(Path, strict_files)
    folder = tmp_path / "next"
    folder.mkdir()
    other = Authority(folder, "next")
    ours, theirs = authority.issue("client"), other.issue("client")

    def is_let_in(trusts: Authority, shows: tuple[Path, Path]) -> bool:
        try:
            return ask(server.port, context_for(trusts, shows), b"mn\r\n") == b"MN\r\n"
        except (ssl.SSLError, ConnectionError):
            return False

    def reload(words: str) -> None:
        before = server.log.count(words)
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: server.log.count(words) == before + 1)

    storage = "memory:" if workers == "1" else servers.served_redis().url
    options = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    options += ["--tls-client-ca", str(authorities), "--workers", workers]
    with servers.redcouch_over_tls(storage, *options) as server:
        assert is_let_in(authority, ours)
        for place, made in zip((certificate, key), other.issue("server"), strict=True):
            place.write_bytes(made.read_bytes())
        authorities.write_bytes(other.path.read_bytes())
        reload("Read certificates from ")
        eventually(lambda: all(is_let_in(other, theirs) for _ in range(8)))  # by all workers
        eventually(lambda: not any(is_let_in(authority, ours) for _ in range(8)))
        assert not is_let_in(other, ours)
        key.write_text("nonsense")
        reload(f"The certificates stay as they are: --tls-key: there is no key in {key}")
        if workers == "2":
            os.kill(worker_pids(server.pid)[1], signal.SIGKILL)
            eventually(lambda: "Starting another" in server.log)
        for _ in range(4):
            eventually(lambda: is_let_in(other, theirs))


def test_endpoints_are_read_again(
    authority: Authority, files: tuple[str, str], tmp_path: Path
) -> None:
    """So it is with ssl: endpoints, for clients and for the status page."""
    ports = servers.free_port(), servers.free_port()
    clients, page = (
        f"ssl:{port}:interface=127.0.0.1:certKey={files[0]}:privateKey={files[1]}" for port in ports
    )
    folder = tmp_path / "next"
    folder.mkdir()
    other = Authority(folder, "next")

    def presents(port: int, trusted: Authority) -> bool:
        try:
            with (
                socket.create_connection((servers.LOOPBACK, port), 20) as plain,
                context_for(trusted).wrap_socket(plain, server_hostname=servers.LOOPBACK),
            ):
                return True
        except ssl.SSLError:
            return False

    with servers.redcouch("memory:", "--port", clients, "--http", page) as server:
        assert all(presents(port, authority) for port in ports)
        for place, made in zip(files, other.issue("server"), strict=True):
            Path(place).write_bytes(made.read_bytes())
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: all(presents(port, other) for port in ports))
        line = f"Read certificates of {page}; Read certificates of {clients}"
        assert line in server.log
