"""The way from the hash layout to plain strings."""

from __future__ import annotations

from pymemcache.client.base import Client

from redcouch.native import Found, Items
from tests.cli.running import run
from tests.support import servers
from tests.support.servers import RedisServer


def test_promoted_items_go_on_as_strings(any_redis: RedisServer) -> None:
    """C{promote --with-flags}: value, flags, token and time to live are as they were."""
    url = f"{any_redis.url}/9"
    with any_redis.client(db=9) as client:
        client.flushdb()
        token = Items(client).set("k", b"value", ttl=500, flags=7)
        client.hset("rc:bare", mapping={"v": "76", "f": "", "c": "9"})
        done = run("promote", "*", "--to", "string", "--force", "--with-flags", "--storage", url)
        assert done.status == 0, done
        found = Items(client, layout="string").gets("k")
        assert found is not None
        assert Items(client, layout="string").gets("bare") == Found(b"v", 0, 9, None)
        assert found[:3] == Found(b"value", 7, token, 500)[:3]
        assert found.ttl is not None and 400 < found.ttl <= 500
        with servers.redcouch(f"{url}?layout=string") as service:
            memcached = Client(("127.0.0.1", service.port), default_noreply=False)
            assert memcached.gets("k") == (b"value", str(token).encode())
            assert memcached.cas("k", b"new", str(token).encode()) is True
            memcached.close()
        assert client.get("k") == b"new"
