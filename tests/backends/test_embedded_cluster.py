"""C{embedded+cluster:} as a service has it: three private masters, and nothing left of them."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import redis

from redcouch.cli.storage import read_storage
from redcouch.errors import ConfigurationError
from tests.support import servers
from tests.support.polling import eventually
from tests.support.servers import LOOPBACK, children
from tests.support.wire import ask

pytestmark = pytest.mark.once


def grandchildren(pid: int) -> list[int]:
    """The redis-servers, which the service's guards have started."""
    return [server for guard in children(pid) for server in children(guard)]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_command(workers: str) -> None:
    """
    Items are spread over three masters, which let nobody else in and end with the service. What
    they say whenever they come together is no warning.
    """
    with servers.redcouch("embedded+cluster:", "--workers", workers) as service:
        for number in range(30):
            request = b"set k%d 0 0 1\r\nv\r\nget k%d\r\n" % (number, number)
            assert ask(service.address, request, b"END\r\n").startswith(b"STORED\r\nVALUE k")

        def counted() -> bool:
            """As all workers say, once each knows the masters."""
            stats = ask(service.address, b"stats\r\n", b"END\r\n")
            return b"STAT curr_items 30\r\n" in stats and b"STAT cluster_masters 3\r\n" in stats

        eventually(counted)
        found = re.search(r"redcouch:\*+@([\d.:,]+)", service.log)
        assert found is not None, service.log
        for usual in ("Missing implement", "IP address for", "Cluster state changed: ok"):
            assert f"redis-server says: {usual}" not in service.log
        ports = [int(place.rpartition(":")[2]) for place in found[1].split(",")]
        assert len(ports) == 3
        for port in ports:
            with redis.Redis(LOOPBACK, port) as client, pytest.raises(redis.AuthenticationError):
                client.ping()
    for port in ports:
        with pytest.raises(OSError):
            ask((LOOPBACK, port), b"PING\r\n", b"\r\n")


def test_a_directory_keeps_them(tmp_path: Path) -> None:
    """What was stored is there after a restart, at other ports: what expires, and what is large."""
    url = f"embedded+cluster://{tmp_path / 'kept'}"
    for turn in range(2):
        with servers.redcouch(url) as service:
            for number in range(20):
                request = b"get k%d\r\n" % number
                there = ask(service.address, request, b"END\r\n") != b"END\r\n"
                assert there == (turn > 0)
                exptime, length = number % 3 * 1000, number % 2 * 9000
                request = b"set k%d 0 %d %d\r\n%s\r\n"
                request %= number, exptime, length, b"v" * length
                ask(service.address, request, b"STORED\r\n")


def test_a_master_that_ends(tmp_path: Path) -> None:
    """One that has kept nothing ends the service, which says why; none stays alive."""
    service = servers.RedCouch(tmp_path, "embedded+cluster:", [], True)
    service.start()
    pids = grandchildren(service.pid)
    assert len(pids) == 3
    os.kill(pids[0], signal.SIGKILL)
    eventually(lambda: "a master of the private cluster has ended" in service.log)
    service.stop()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_the_commands_cannot_reach_it() -> None:
    """Its password is the service's own secret."""
    with pytest.raises(ConfigurationError, match="only the service itself knows"):
        read_storage("embedded+cluster:")
