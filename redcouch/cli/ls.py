"""C{redcouch ls}: the items' keys, each with its size, time to live and flags."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
from redis.exceptions import ResponseError

from redcouch.backends.redis.layout import read_flags, read_number
from redcouch.backends.redis.replies import is_wrong_type
from redcouch.backends.redis.url import RedisLocation
from redcouch.cli.common import NO, echo_json, json_option, show_key, storage_option, wants_json
from redcouch.cli.storage import NOT_AN_ITEM, Storage, explain, open_storage


@dataclass(frozen=True, slots=True)
class Line:
    """
    An item as it is listed.

    @ivar ttl: seconds to live; C{None} for ever.
    @ivar fault: why it is no item; the rest then means nothing.
    """

    key: bytes
    size: int = 0
    ttl: float | None = None
    flags: int = 0
    cas: int = 0
    fault: str | None = None

    @property
    def text(self) -> str:
        if self.fault is not None:
            return f"{'-':>10} {'-':>10} {'-':>10}  {show_key(self.key)}  ({self.fault})"
        ttl = "-" if self.ttl is None else f"{self.ttl:.0f}"
        return f"{self.size:>10} {ttl:>10} {self.flags:>10}  {show_key(self.key)}"

    @property
    def json(self) -> dict[str, Any]:
        shown = {"key": show_key(self.key)}
        if self.fault is not None:
            return shown | {"fault": self.fault}
        return shown | {"size": self.size, "ttl": self.ttl, "flags": self.flags, "cas": self.cas}


_HEAD = f"{'SIZE':>10} {'TTL':>10} {'FLAGS':>10}  KEY"


@click.command("ls")
@click.argument("pattern", default="*")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many.")
@storage_option
@json_option
def command(pattern: str, limit: int | None, storage: RedisLocation) -> None:
    """
    List the items whose keys match PATTERN.

    PATTERN is a glob as in Redis (* ? [a-z] \\x) over the keys as memcached clients know them,
    without the prefix. Size is that of the value in bytes, TTL in seconds, - where there is none.
    In keys, blanks, % and bytes that cannot be printed are percent-encoded. With --json, each
    line is an object. In no order; a key may show twice if Redis grows meanwhile.

    Exit status 1: there is none.
    """
    found, as_json = 0, wants_json()
    with open_storage(storage) as opened:
        for line in _lines(opened, os.fsencode(pattern)):
            if as_json:
                echo_json(line.json)
            else:
                click.echo(line.text if found else f"{_HEAD}\n{line.text}")
            found += 1
            if found == limit:
                break
    if not found:
        raise click.exceptions.Exit(NO)


def _lines(storage: Storage, pattern: bytes) -> Iterator[Line]:
    for keys in storage.scan(pattern):
        replies = storage.describe(keys)
        for key, reply in zip(keys, replies, strict=True):
            if reply is not None:  # else it has gone meanwhile
                yield _line(key, reply)


def _line(key: bytes, reply: Any) -> Line:
    if isinstance(reply, ResponseError):
        fault = NOT_AN_ITEM if is_wrong_type(reply) else explain(reply)
        return Line(key, fault=fault)
    size, flags, cas, ttl, *_ = reply
    try:
        return Line(
            key, size, None if ttl < 0 else ttl / 1000, read_flags(flags), read_number(cas, 64)
        )
    except ValueError:
        return Line(key, fault="item in Redis is not readable")
