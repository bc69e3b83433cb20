"""
The layer that answers from memory what only reads values.

A batch that changes something, or asks for more than values, flags and tokens, goes past this.
What it changes is told over the same connection, before any reply that is asked for later; so
the client's next C{get}, and everybody's, comes after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.python.failure import Failure

from redcouch.backends.cached.connection import TrackedLink
from redcouch.backends.cached.reader import CachedReader
from redcouch.backends.redis.cluster.router import Router
from redcouch.backends.redis.cluster.slots import ItemSlots
from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.backends.wrapper import BackendWrapper
from redcouch.commands import Command, Get, MetaGet
from redcouch.interfaces import Answer, IStorageBackend
from redcouch.results import MetaItem, Result
from redcouch.value_lines import Lines


def uptime() -> float:
    """
    Seconds on a clock that is never set. On Linux it goes on while the machine is
    suspended, as the lives of items do in a Redis elsewhere.
    """
    return time.clock_gettime(_CLOCK)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class CachedBackend(BackendWrapper):
    """See the module. C{link} is the inner backend's, over which all its commands go."""

    def __init__(
        self,
        inner: IStorageBackend,
        link: TrackedLink,
        codec: ScriptCodec,
        now: Callable[[], float] = uptime,
    ) -> None:
        super().__init__(inner)
        self._reader = CachedReader(link, codec, now)

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend<redcouch.interfaces.IDirectBackend>}."""
        keys, with_tokens = _asked(commands)
        if keys:
            done = partial(self._answer, commands, answer)
            self._read(keys, with_tokens, done)
        else:
            self._perform_inner(commands, answer)

    def _read(self, keys: Sequence[bytes], with_tokens: bool, done: Any) -> None:
        self._reader.read(keys, with_tokens, done)

    def _answer(
        self, commands: Sequence[Command], answer: Answer, found: Lines | Failure | None
    ) -> None:
        if found is None:
            self._perform_inner(commands, answer)
        elif isinstance(found, Failure):
            answer(found)
        elif len(commands) == 1 and commands[0].__class__ is Get:
            answer([found])
        else:
            answer(_split(commands, found))


class CachedCluster(CachedBackend):
    """The same over a cluster, each node of which tells what changes on it."""

    def __init__(
        self,
        inner: IStorageBackend,
        router: Router,
        codec: ScriptCodec,
        now: Callable[[], float] = uptime,
    ) -> None:
        BackendWrapper.__init__(self, inner)
        self._links: Sequence[Any] = router.table
        self._slots = ItemSlots(codec.layout.prefix)
        self._make_reader = partial(CachedReader, codec=codec, now=now, is_node=True)

    def _read(self, keys: Sequence[bytes], with_tokens: bool, done: Any) -> None:
        links = [self._links[slot] for slot in self._slots.of_all(keys)]
        if None in links:  # nobody knows yet who has the slot
            done(None)
            return
        places: dict[TrackedLink, list[int]] = {}
        for place, link in enumerate(links):
            places.setdefault(link, []).append(place)
        if len(places) == 1:
            self._reader_of(links[0]).read(keys, with_tokens, done)
            return
        parts = _Parts(keys, places, done)
        for link, some in places.items():
            add = partial(parts.add, link)
            self._reader_of(link).read([keys[place] for place in some], with_tokens, add)

    def _reader_of(self, link: TrackedLink) -> CachedReader:
        if link.reader is None:
            link.reader = self._make_reader(link)
        reader: CachedReader = link.reader
        return reader


class _Parts:
    """The items of several nodes, put together when all have come."""

    def __init__(
        self, keys: Sequence[bytes], places: Mapping[TrackedLink, Sequence[int]], done: Any
    ) -> None:
        self._keys = keys
        self._places = places
        self._done = done
        self._found: dict[TrackedLink, Any] = {}

    def add(self, link: TrackedLink, found: Lines | Failure | None) -> None:
        """Take one node's part. Where a node has none, the cluster is asked for all of them."""
        self._found[link] = found
        if len(self._found) < len(self._places):
            return
        blocks: list[Any] = [b""] * len(self._keys)
        tokens: list[Any] | None = None
        misses = 0
        for node, places in self._places.items():
            part = self._found[node]
            if not isinstance(part, Lines):
                self._done(None)
                return
            misses += part.misses
            for place, lines in zip(places, part.blocks, strict=True):
                blocks[place] = lines
            if part.tokens is not None:
                tokens = tokens or [0] * len(blocks)
                for place, token in zip(places, part.tokens, strict=True):
                    tokens[place] = token
        self._done(Lines(self._keys, blocks, misses, tokens))


def _asked(commands: Sequence[Command]) -> tuple[Sequence[bytes], bool]:
    """
    The keys of a batch that only reads values, and whether it asks for tokens; no keys for any
    other batch.
    """
    if len(commands) == 1:
        command: Any = commands[0]
        if command.__class__ is Get or (command.__class__ is MetaGet and command.plain):
            return command.keys, command.cas
        return (), False
    keys: list[bytes] = []
    with_tokens = False
    for command in commands:
        some, tokens = _asked((command,))
        if not some:
            return (), False
        keys += some
        with_tokens = with_tokens or tokens
    return keys, with_tokens


def _split(commands: Sequence[Command], found: Lines) -> list[Result]:
    """The results of commands that read, from all of their items."""
    results: list[Result] = []
    start = 0
    for command in commands:
        end = start + len(command.keys)
        results.append(_meta(found[start]) if command.__class__ is MetaGet else found[start:end])
        start = end
    return results


def _meta(item: Any) -> MetaItem | None:
    """An item as a meta get of the item alone has it: what is kept is not marked."""
    return None if item is None else MetaItem(item[0], len(item[0]), item[1], item[2])
