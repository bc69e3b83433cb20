"""How the inventory of traffic is kept small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from redcouch.backends.redis.usage_store import UsageStore


class JustTrimmed:
    """A Redis in which another process trims each kind as soon as its size is known."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, ...]] = []

    async def ask(self, *command: bytes) -> Any:
        self.asked.append(command)
        return [] if command[0] == b"HGETALL" else b"1700000000000"

    async def ask_all(self, commands: Sequence[tuple[bytes, ...]]) -> list[Any]:
        self.asked += commands
        return [5000 if command[0] == b"HLEN" else 1 for command in commands]


class TrimmingTests(SynchronousTestCase):
    def test_trimmed_by_another(self) -> None:
        """There is nothing left to remove then."""
        redis: Any = JustTrimmed()
        self.successResultOf(Deferred.fromCoroutine(UsageStore(redis).keep([], 5.0)))
        verbs = [command[0] for command in redis.asked]
        self.assertIn(b"HGETALL", verbs)
        self.assertNotIn(b"HDEL", verbs)
