"""The master that sentinels name, for a command that is at work for long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.sentinel import MasterNotFoundError, Sentinel

from redcouch.backends.redis.opinion import (
    BEING_REPLACED,
    QUESTIONS,
    HostAndPort,
    Opinion,
    believed,
    read_opinion,
    why_none,
)
from redcouch.backends.redis.url import show, why_no_master


class OneMaster(Sentinel):
    """
    The same master from the first to the last: one that is replaced goes on to acknowledge
    for seconds, and all of that is lost.
    """

    _first: Opinion | None = None

    def discover_master(self, service_name: str) -> HostAndPort:
        """
        As the original, by what all sentinels say.

        @raise MasterNotFoundError: there is none now.
        @raise RedisError: it is another one.
        """
        found, first = self._ask(service_name), self._first
        replacing = any(opinion.replacing for opinion in found)
        if first is None:
            if replacing:
                raise MasterNotFoundError(BEING_REPLACED.format(service_name))
            first = self._first = found[0]
        elif replacing or found[0].address != first.address or found[0].epoch > first.epoch:
            raise RedisError(
                "its sentinels have replaced the master meanwhile, or are about to: what was done "
                "last may be lost. Run this again"
            )
        return first.address

    def _ask(self, name: str) -> Sequence[Opinion]:
        opinions, said, away = [], [], []
        sentinel: Any
        for sentinel in self.sentinels:
            given = sentinel.connection_pool.connection_kwargs
            place = show((given["host"], given["port"]))
            try:
                replies = [sentinel.execute_command("SENTINEL", one, name) for one in QUESTIONS]
                opinions.append(read_opinion(*replies))
            except (AuthenticationError, ResponseError, ValueError, TypeError, KeyError) as error:
                said.append(f"{place} {why_none(name, error)}")
            except RedisError as error:
                away.append(f"{place}: {str(error).rstrip('.')}")
            finally:
                sentinel.connection_pool.disconnect()
        if not opinions:
            raise MasterNotFoundError(why_no_master(said, away))
        return believed(opinions)
