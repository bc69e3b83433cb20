"""What users of Python's python-binary-memcached and pylibmc see."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bcrypt
import bmemcached
import pytest

from redcouch.options import VERSION
from tests.integration.clients.programs import HERE, seen
from tests.support import servers
from tests.support.requirements import installed, needs
from tests.support.servers import RedCouch, RedisServer

ANY = b"any \r\n bytes \0\xff"


def test_python_binary_memcached(redcouch: RedCouch) -> None:
    """A user of python-binary-memcached changes host and port, and everything is as it was."""
    name = f"127.0.0.1:{redcouch.port}"
    client = bmemcached.Client((name,), socket_timeout=10)
    for value in (ANY, "text ☃", 42, 1.5, None, [1, {"a": (2,)}], b"", "x" * 200_000):
        assert client.set("k", value) is True
        assert client.get("k") == value
    assert client.get("nothing", "default") == "default"
    assert (client.add("once", 1), client.add("once", 2)) == (True, False)
    assert (client.replace("nothing", 1), client.replace("once", 3)) == (False, True)
    assert client.get("once") == 3
    assert client.incr("n", 5, default=3) == 3
    assert (client.incr("n", 5), client.decr("n", 100)) == (8, 0)
    many = {f"many-{number}": number for number in range(500)}
    assert client.set_multi(many) == []
    assert client.get_multi([*many, "nothing"]) == many
    assert client.delete_multi(list(many)) is True
    assert client.get_multi(list(many)) == {}
    value, token = client.gets("once")
    assert value == 3
    assert client.cas("once", 4, token) is True
    assert client.cas("once", 5, token) is False
    assert client.cas("nothing", 5, token) is False
    assert client.set("short", "x", time=100)
    assert client.delete("short") is True
    assert client.get("short") is None
    assert client.delete("once", cas=1) is False
    with pytest.raises(bmemcached.exceptions.MemcachedException, match="Too large"):
        client.set("once", b"\xff" * 2_000_000, compress_level=0)
    assert client.get("once") is None
    stats = client.stats()[name]
    assert int(stats["get_hits"]) > 0
    assert client.stats("settings")[name]["maxconns"] == b"1024"
    assert client.flush_all() is True
    assert client.get("k") is None
    client.disconnect_all()


def test_python_binary_memcached_with_a_password(any_redis: RedisServer, tmp_path: Path) -> None:
    """With the right user and password SASL lets it in; with a wrong one it gets nothing."""
    users = tmp_path / "users"
    users.write_bytes(b"anna:plain\nbert:" + bcrypt.hashpw(b"hashed", bcrypt.gensalt(4)) + b"\n")
    with servers.redcouch(any_redis.url, "--auth-file", str(users), ready=False) as server:
        name = f"127.0.0.1:{server.port}"
        for user, password in (("anna", "plain"), ("bert", "hashed")):
            client = bmemcached.Client((name,), user, password, socket_timeout=10)
            assert client.set(user, password) is True
            assert client.get(user) == password
            client.disconnect_all()
        for words in (("anna", "guess"), ()):
            stranger = bmemcached.Client((name,), *words, socket_timeout=10)
            with pytest.raises(bmemcached.exceptions.MemcachedException, match="Auth failure"):
                stranger.get("anna")
            stranger.disconnect_all()
        assert "guess" not in server.log


@needs("pylibmc")
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_pylibmc(redcouch: RedCouch, binary: bool) -> None:
    """A user of pylibmc (libmemcached) changes host and port, and everything is as it was."""
    import pylibmc

    behaviors = {"cas": True, "tcp_nodelay": True}
    client: Any = pylibmc.Client([f"127.0.0.1:{redcouch.port}"], binary=binary, behaviors=behaviors)
    for value in (ANY, "text ☃", 42, 1.5, None, True, [1, {"a": (2,)}], b""):
        assert client.set("k", value) is True
        assert client.get("k") == value
    assert client.set("large", "x" * 200_000, min_compress_len=1000) is True
    assert client.get("large") == "x" * 200_000
    assert client.get("nothing") is None
    assert (client.add("once", 1), client.add("once", 2)) == (True, False)
    assert client.replace("once", 3) is True
    if binary:
        with pytest.raises(pylibmc.NotFound):
            client.replace("nothing", 1)
    else:
        assert client.replace("nothing", 1) is False
    client.set("text", b"b")
    assert client.append("text", b"c")
    assert client.prepend("text", b"a")
    assert client.get("text") == b"abc"
    client.set("n", 10)
    assert (client.incr("n", 5), client.decr("n", 100), client.get("n")) == (15, 0, 0)
    with pytest.raises(pylibmc.NotFound):
        client.incr("nothing")
    many = {f"many-{number}": number for number in range(500)}
    assert client.set_multi(many) == []
    assert client.get_multi([*many, "nothing"]) == many
    assert client.delete_multi(list(many)) is True
    value, token = client.gets("once")
    assert value == 3
    assert client.cas("once", 4, token) is True
    assert client.cas("once", 5, token) is False
    client.set("short", 1, time=100)
    if not binary:  # there libmemcached waits its five seconds for more of the answer
        assert client.touch("short", 200) is True
    assert client.touch("nothing", 200) is False
    assert (client.delete("short"), client.delete("short")) == (True, False)
    with pytest.raises(pylibmc.TooBig):
        client.set("once", b"\xff" * 2_000_000)
    assert client.get("once") is None
    ((_, stats),) = client.get_stats()
    assert stats["version"] in (VERSION, VERSION.encode())
    assert client.flush_all() is True
    assert client.get("k") is None


@needs("pylibmc", "sasl")
def test_pylibmc_with_a_password(any_redis: RedisServer, tmp_path: Path) -> None:
    """libmemcached's SASL lets the right password in, and no other."""
    users = tmp_path / "users"
    users.write_bytes(b"anna:plain\n")
    with servers.redcouch(any_redis.url, "--auth-file", str(users), ready=False) as server:
        ask_with = [sys.executable, str(HERE / "password.py"), str(server.port), "anna"]
        environment = {"SASL_PATH": str(Path(installed("sasl")).parent)}
        assert seen([*ask_with, "plain"], environment) == {"set": True, "get": "v"}
        assert "AUTHENTICATION" in seen([*ask_with, "guess"], environment)["error"]
