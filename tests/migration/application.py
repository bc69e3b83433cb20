"""
A small web application, as far as its cache goes; run as a process.

Arguments: its name, and a folder in which C{<name>.mode} says which storage it uses and
C{<name>.state} tells how it is doing. It looks at the mode before each turn, so that the two
sides of a change can be deployed one after the other. A turn reads sessions that were there
before it was started (a miss is a failure: somebody is logged out), logs somebody in and out, and
keeps a page as every user of a cache does. Every exception and every wrong value is a failure.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import redis
from pymemcache.client.base import Client

SESSIONS = 50

PAUSE = "pause"
"""A mode in which it does nothing, as between its end and its start in a deployment."""


class Cache(Protocol):
    """What the application needs."""

    def get(self, key: str) -> bytes | None: ...
    def set(self, key: str, value: bytes) -> object: ...
    def delete(self, key: str) -> object: ...


class Memcached:
    """By the memcached protocol: memcached, or RedCouch."""

    def __init__(self, port: int) -> None:
        self._client = Client(("127.0.0.1", port), timeout=30, connect_timeout=30)

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._client.get(key)
        return value

    def set(self, key: str, value: bytes) -> object:
        stored = self._client.set(key, value, expire=3600, noreply=False)
        assert stored, f"set {key}"
        return stored

    def delete(self, key: str) -> object:
        return self._client.delete(key, noreply=False)


class Items:
    """The bridge's items, natively."""

    def __init__(self, port: int) -> None:
        self._redis: Any = redis.Redis(port=port, socket_timeout=30)

    def get(self, key: str) -> bytes | None:
        value = self._redis.hget("rc:" + key, "v")
        return None if value is None else bytes.fromhex(value.decode())

    def set(self, key: str, value: bytes) -> object:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset("rc:" + key, mapping={"v": value.hex(), "f": 0})
            pipe.hdel("rc:" + key, "r", "c", "s", "w", "h")
            pipe.expire("rc:" + key, 3600)
            return pipe.execute()

    def delete(self, key: str) -> object:
        return self._redis.delete("rc:" + key)


class Either(Items):
    """Strings, and items where there is no string yet."""

    def get(self, key: str) -> bytes | None:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(key)
            pipe.hget("rc:" + key, "v")
            string, item = pipe.execute()
        if string is not None or item is None:
            return string  # type: ignore[no-any-return]
        return bytes.fromhex(item.decode())

    def set(self, key: str, value: bytes) -> object:
        return self._redis.set(key, value, ex=3600)

    def delete(self, key: str) -> object:
        return self._redis.delete(key, "rc:" + key)


class Strings(Either):
    """Strings, and nothing else."""

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._redis.get(key)
        return value

    def delete(self, key: str) -> object:
        return self._redis.delete(key)


MODES: dict[str, Callable[[int], Cache]] = {
    "memcached": Memcached,
    "kept": Memcached,  # another way to what was there before, so that nothing may be lost
    "items": Items,
    "either": Either,
    "strings": Strings,
}


class Application:
    """
    @ivar failures: what went wrong, in words.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._mode = folder / f"{name}.mode"
        self._state = folder / f"{name}.state"
        self.failures: list[str] = []
        self._seen = {"one": 0, "two": 0}
        self._count = 0

    def run(self) -> None:
        """Turn after turn, until the mode says C{end}."""
        using, turns = "", 0
        while (mode := self._mode.read_text()) != "end":
            if mode == PAUSE:
                self._tell(mode, 0)
                time.sleep(0.01)
                continue
            if mode != using:
                kind, port = mode.split()
                if kind == "memcached":  # perhaps another: what the others write there is not here
                    self._seen = dict.fromkeys(self._seen, 0)
                cache = MODES[kind](int(port))
                if kind == "kept":
                    self._seen = dict.fromkeys(self._seen, 0)
                    self._find_again(cache)
                using, turns = mode, 0
            try:
                self._turn(cache)
            except Exception as error:
                self.failures.append(f"{using}: {error!r}")
            turns += 1
            self._tell(using, turns)

    def _tell(self, mode: str, turns: int) -> None:
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps({"mode": mode, "turns": turns, "failures": self.failures[:20]}))
        os.replace(new, self._state)

    def _turn(self, cache: Cache) -> None:
        self._count += 1
        for number in range(self._count % 5, SESSIONS, 5):
            self._expect(cache.get(f"session:{number}"), b"user-%d" % number, "an old session")
        self._log_in_and_out(cache)
        self._keep_a_page(cache)
        self._see_each_other(cache)

    def _find_again(self, cache: Cache) -> None:
        """What it has written last is there, and not what it has written before that."""
        found = cache.get(f"count:{self._name}")
        self._expect(found, b"%d" % self._count, "its own count")

    def _log_in_and_out(self, cache: Cache) -> None:
        key = f"login:{self._name}:{self._count}"
        cache.set(key, b"here")
        self._expect(cache.get(key), b"here", "a new session")
        cache.delete(key)
        self._expect(cache.get(key), None, "a closed session")

    def _keep_a_page(self, cache: Cache) -> None:
        key = f"page:{self._count % 20}"
        value = cache.get(key)
        if value is None:
            cache.set(key, b"page \x00\xff\r\n")
            value = cache.get(key)
        self._expect(value, b"page \x00\xff\r\n", "a page")

    def _see_each_other(self, cache: Cache) -> None:
        """What another instance has counted up to never goes back."""
        cache.set(f"count:{self._name}", b"%d" % self._count)
        for name, before in self._seen.items():
            value = cache.get(f"count:{name}")
            if value is not None:
                self._expect(int(value) >= before, True, f"the count of {name}")
                self._seen[name] = int(value)

    def _expect(self, found: object, expected: object, what: str) -> None:
        if found != expected:
            self.failures.append(f"{what} in turn {self._count}: {found!r}, not {expected!r}")


if __name__ == "__main__":
    Application(sys.argv[1], Path(sys.argv[2])).run()
