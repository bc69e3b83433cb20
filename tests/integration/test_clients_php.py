"""What users of PHP's Memcached see: as a library, and as the keeper of their sessions."""

from __future__ import annotations

from pathlib import Path

import pytest

from redcouch import MEMCACHED_VERSION
from tests.integration.clients.programs import HERE, seen
from tests.support import servers
from tests.support.requirements import fixture_needs, installed, needs
from tests.support.servers import Memcached, RedCouch, RedisServer

PROTOCOLS = ("binary", "text")


@pytest.fixture
@fixture_needs("php", "php memcached")
def php() -> str:
    return installed("php")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_library(redcouch: RedCouch, memcached: Memcached, php: str, protocol: str) -> None:
    """
    A PHP program changes host and port: every type comes back as it was, failures have
    the codes it knows, getAllKeys lists the keys, and all is as it was with memcached.
    """
    found = seen([php, str(HERE / "library.php"), str(redcouch.port), protocol])
    before = seen([php, str(HERE / "library.php"), str(memcached.port), protocol])
    before["version"] = MEMCACHED_VERSION  # libmemcached keeps the three numbers
    before["all keys"] = found["all keys"]  # memcached lists what a flush has not yet swept away
    assert found == before
    assert set(found.pop("types").values()) == {True}
    assert found.pop("initial", [7, 8]) == [7, 8]
    assert found == {
        "version": MEMCACHED_VERSION,
        "missing": [False, True],
        "add": [True, False, 1],
        "replace": [False, True, 3],
        "concatenate": [True, True, "abc"],
        "append missing": [False, True],
        "count": [15, 0, 0, False],
        "set many": True,
        "get many": {"m3": [3], "none": None, "m1": 1, "m2": "two"},
        "get 500": True,
        "delete many": True,
        "cas": [True, False, True, "mine"],
        "touch": [True, False],
        "absolute": "x",
        "over": False,
        "delete": [True, False],
        "too large": [False, True, False],
        "stats": True,
        "all keys": ["k1", "k2", "k3"],
        "flushed": False,
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sessions(redcouch: RedCouch, php: str, protocol: str) -> None:
    """
    A PHP site keeps its sessions here, with locks and in strict mode: what one request
    writes the next one reads, an invented session is not taken, a destroyed one is gone.
    """
    assert seen([php, str(HERE / "session.php"), str(redcouch.port), protocol]) == {
        "begun": True,
        "closed": True,
        "again": True,
        "basket": {"apples": 3},
        "closed again": True,
        "visits": 2,
        "unknown id is replaced": True,
        "destroyed": True,
        "gone": True,
    }


@needs("sasl")
def test_the_library_with_a_password(any_redis: RedisServer, php: str, tmp_path: Path) -> None:
    """setSaslAuthData lets the right password in, and no other."""
    users = tmp_path / "users"
    users.write_bytes(b"anna:plain\n")
    with servers.redcouch(any_redis.url, "--auth-file", str(users), ready=False) as server:
        command = [php, str(HERE / "password.php"), str(server.port), "anna"]
        assert seen([*command, "plain"]) == {"set": True, "result": "SUCCESS", "get": "v"}
        refused = seen([*command, "guess"])
        assert refused == {"set": False, "result": "AUTHENTICATION FAILURE", "get": False}
