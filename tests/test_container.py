"""
The files for containers: the Containerfile's steps work on a Debian as it comes, its
service behaves as engines expect it, and the compose file speaks of what there is.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from redcouch.options import Options
from tests.support import containers
from tests.support.containers import Container, Image
from tests.support.debian13 import UnavailableError
from tests.support.polling import eventually
from tests.support.requirements import fixture_needs, give_up
from tests.support.servers import RedisServer

_ROOT = Path(__file__).parent.parent
_FILES = _ROOT / "contrib" / "container"
_PATH = "/run/redis"
"""Where the container has the folder of Redis's socket."""

_TALK = r"""
import socket
with socket.create_connection(("127.0.0.2", 11210)) as client:
    client.sendall(b"set greeting 0 60 5\r\nhello\r\nget greeting\r\nquit\r\n")
    print(client.makefile("rb").read())
"""
"""127.0.0.2, as an address that is not just that of loopback."""

_PAGE = """
from urllib.request import urlopen
print(urlopen("http://127.0.0.2:8080/readyz").status)
"""

pytestmark = [pytest.mark.once, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
@fixture_needs("debootstrap", "namespaces")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image of the Containerfile."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with (shared / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # made by the first of all processes, for all
        made = shared / "image.pickle"
        if not made.exists():
            folder = shared / "image"
            folder.mkdir(mode=0o755)
            made.write_bytes(pickle.dumps(_built(folder)))
        image: Image = pickle.loads(made.read_bytes())
        return image


def _built(folder: Path) -> Image:
    try:
        return containers.build(_FILES / "Containerfile", _ROOT, folder)
    except UnavailableError as why:
        give_up(str(why))
        raise


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that has yet to be started."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder, "", ["--unixsocketperm", "777"])
    yield server
    server.stop()


@contextmanager
def _running(image: Image, redis: RedisServer, options: list[str]) -> Iterator[Container]:
    """The service of an image, started as an engine starts it."""
    folder = redis.folder.parent / "container"
    folder.mkdir()
    redis.folder.chmod(0o755)
    server = Container(
        image,
        folder,
        options,
        {"REDCOUCH_STORAGE": f"redis+unix://{_PATH}/{redis.socket.name}"},
        {redis.folder: _PATH},
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()
    assert "Traceback" not in server.log
    assert "plugin cache" not in server.log


def _compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((_FILES / "compose.yaml").read_text())
    return parsed


def test_health(image: Image, redis: RedisServer) -> None:
    """It is healthy while Redis can be reached, and says why it is not."""
    with _running(image, redis, []) as server:
        assert not server.is_healthy()
        status, said = server.run(*image.healthcheck)
        assert status == 1
        assert "edis" in said
        redis.start()
        eventually(server.is_healthy)
        redis.stop()
        eventually(lambda: not server.is_healthy())
        redis.start()
        eventually(server.is_healthy)


def test_nobody_answers(image: Image, redis: RedisServer) -> None:
    """Where nothing listens, it is not healthy: with the one status that is for that."""
    with _running(image, redis, ["--http", "8081"]) as server:
        assert server.run(*image.healthcheck)[0] == 1


def test_the_service(image: Image, redis: RedisServer) -> None:
    """Clients reach it from outside, the status page only who is inside; it is not root,
    and has the command beside it; a SIGTERM to the container's first process ends it well."""
    redis.start()
    with _running(image, redis, []) as server:
        eventually(server.is_healthy)
        status, said = server.run("python3", "-c", _TALK)
        assert (status, said.strip()) == (
            0,
            repr(b"STORED\r\nVALUE greeting 0 5\r\nhello\r\nEND\r\n"),
        )
        assert server.run("python3", "-c", _PAGE)[0] != 0
        status_file = Path(f"/proc/{server.pid}/status").read_text()
        ids = re.findall(r"^(?:Uid|Gid):\s+(.*)", status_file, re.M)
        assert [set(line.split()) & {"0"} for line in ids] == [set(), set()]
        assert image.user.isdecimal()
        assert "greeting" in server.run("redcouch", "ls")[1]
        assert server.stop(signal.SIGTERM) == 0


def test_as_composed(image: Image, redis: RedisServer) -> None:
    """With the options of the compose file, the status page is open to the port it publishes."""
    redis.start()
    with _running(image, redis, _compose()["services"]["redcouch"]["command"]) as server:
        eventually(server.is_healthy)
        assert server.run("python3", "-c", _PAGE) == (0, "200\n")
        assert server.stop(signal.SIGINT) == 0


def test_workers(image: Image, redis: RedisServer) -> None:
    """Several processes find what they need in a root that nobody can write to."""
    redis.start()
    with _running(image, redis, ["--workers", "2"]) as server:
        eventually(server.is_healthy)
        assert server.run("python3", "-c", _TALK)[0] == 0
        assert server.stop(signal.SIGTERM) == 0


def test_compose(tmp_path: Path) -> None:
    """It builds the file beside it, publishes ports that are open, on loopback, and waits for a
    Redis that says when it is healthy."""
    services = _compose()["services"]
    redcouch = services["redcouch"]
    build = redcouch["build"]
    context = (_FILES / build["context"]).resolve()
    assert context / build["dockerfile"] == _FILES / "Containerfile"
    told = dict(containers.instructions((_FILES / "Containerfile").read_text()))

    (needed,) = redcouch["depends_on"]
    assert redcouch["depends_on"][needed] == {"condition": "service_healthy"}
    assert redcouch["environment"]["REDCOUCH_STORAGE"].startswith(f"redis://{needed}:6379/")
    shell, check = services[needed]["healthcheck"]["test"]
    assert shell == "CMD-SHELL"
    program = tmp_path / "redis-cli"
    for said, healthy in (("PONG", True), ("LOADING Redis is loading the dataset", False)):
        program.write_text(f"#!/bin/sh\necho {said}\n")  # its status is 0, either way
        program.chmod(0o755)
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        assert (subprocess.run(["sh", "-c", check], env=path).returncode == 0) is healthy
    assert services[needed]["command"][0] == "redis-server"
    assert "/readyz" in told["HEALTHCHECK"]

    options = Options()
    start = containers.words(told["ENTRYPOINT"])
    options.parseOptions([*start[start.index("redcouch") + 1 :], *redcouch["command"]])
    open_ports = {told["EXPOSE"], re.findall(r"tcp:(\d+)", options["http"])[0]}
    published = [port.rsplit(":", 2) for port in redcouch["ports"]]
    assert {inside for _, _, inside in published} == open_ports
    assert {address for address, _, _ in published} == {"127.0.0.1"}
    grace = re.fullmatch(r"(\d+)s", redcouch["stop_grace_period"])
    assert grace
    assert float(grace[1]) > options["drain-timeout"] + 2


def test_unknown_steps() -> None:
    """A step that the tests do not know is not passed over."""
    with pytest.raises(AssertionError, match="the tests know no ADD"):
        containers._Builder(_ROOT, _ROOT).step("ADD", "a b")
