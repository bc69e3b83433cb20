"""One memcached, as the commands ask it."""

from __future__ import annotations

import pytest

from redcouch.errors import ServerError
from redcouch.memcached_client.address import read_address
from redcouch.memcached_client.key_listing import NEVER, ListedKey
from redcouch.memcached_client.node import BlockingNode
from tests.cli.filling import Given, fill
from tests.support import servers
from tests.support.polling import eventually
from tests.support.requirements import needs
from tests.support.wire import ask

pytestmark = needs("memcached")


def test_idle_timeout() -> None:
    """A connection that memcached has closed meanwhile is no end, and nobody else's."""
    with servers.memcached("-o", "idle_timeout=1") as server:
        fill(server.address, {b"k": Given(b"v")})
        address = read_address(server.url)
        with BlockingNode(address) as node:
            with BlockingNode(address) as other:
                eventually(lambda: other.stats()["idle_kicks"] != "0")
            assert [*node.present([b"k", b"none"])] == [True, False]
            assert node.connections() <= int(node.stats()["total_connections"]) - 2


def test_another_memcached() -> None:
    """One that was started again meanwhile has nothing of what was listed."""
    with servers.memcached() as server:
        opened = BlockingNode(read_address(server.url))
        with pytest.raises(ServerError, match="started again"), opened as node:
            server.stop()
            server.start()
            list(node.present([b"k"]))


def test_who_is_to_renew() -> None:
    """A stale item is for the first client to renew that asks for it, not for who copies items."""
    with servers.memcached() as server:
        fill(server.address, {b"k": Given(b"v")})
        ask(server.address, b"md k I\r\n", b"HD\r\n")
        with BlockingNode(read_address(server.url)) as node:
            assert [*node.present([b"k"])] == [True]
            assert [found for _, found in node.fetch([ListedKey(b"k", NEVER)])] == [None]
        assert ask(server.address, b"mg k k\r\n", b"\r\n") == b"HD kk X W\r\n"
