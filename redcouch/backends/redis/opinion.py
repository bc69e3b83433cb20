"""What sentinels say of a master, and whom of them to believe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redcouch.backends.redis.url import NO_SUCH_MASTER

HostAndPort = tuple[str, int]

QUESTIONS = (b"MASTER", b"GET-MASTER-ADDR-BY-NAME")
"""What a sentinel is asked, each with the master's name."""

BEING_REPLACED = "its sentinels are replacing the master of {}"


@dataclass(frozen=True, slots=True)
class Opinion:
    """
    What a sentinel says of the master.

    @ivar epoch: counts the failovers; the highest is the truth.
    @ivar replacing: a failover has begun, and no replica is promoted yet.
    """

    epoch: int
    address: HostAndPort
    replacing: bool = False


def believed(opinions: Iterable[Opinion | None]) -> Sequence[Opinion]:
    """Those with the highest epoch; none where nobody has an opinion."""
    held = [opinion for opinion in opinions if opinion is not None]
    epoch = max((opinion.epoch for opinion in held), default=0)
    return [opinion for opinion in held if opinion.epoch == epoch]


def read_opinion(master: Any, address: Any) -> Opinion:
    """
    The replies to both questions as an opinion. While replicas are told of a
    master that has been promoted, only the second names it.
    """
    facts = dict(zip(master[::2], master[1::2], strict=True))
    host, port = address
    named = (host.decode(), int(port))
    flags = facts[b"flags"].split(b",")
    promoted = named != (facts[b"ip"].decode(), int(facts[b"port"]))
    going = b"failover_in_progress" in flags or b"o_down" in flags
    return Opinion(int(facts[b"config-epoch"]), named, going and not promoted)


def why_none(name: str, error: Exception) -> str:
    """What a sentinel does in place of giving one, by its error or that of L{read_opinion}."""
    if isinstance(error, ValueError | TypeError | KeyError):
        return "does not answer as a sentinel does"
    return NO_SUCH_MASTER.format(name) if "No such master" in str(error) else f"says {error}"
