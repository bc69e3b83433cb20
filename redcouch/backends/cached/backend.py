"""
The layer that answers from memory what only reads values.

A batch that changes something, or asks for more than values, flags and tokens, goes past this.
What it changes is told over the same connection, before any reply that is asked for later; so
the client's next C{get}, and everybody's, comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from twisted.python.failure import Failure

from redcouch.backends.cached.connection import TrackedLink
from redcouch.backends.cached.reader import CachedReader, Done
from redcouch.backends.redis.cluster.router import Router
from redcouch.backends.redis.cluster.slots import ItemSlots
from redcouch.backends.redis.layout import Layout
from redcouch.backends.wrapper import BackendWrapper
from redcouch.commands import Command, Get, MetaGet
from redcouch.interfaces import Answer, IStorageBackend
from redcouch.results import MetaItem, Result
from redcouch.value_lines import Lines

Read: TypeAlias = Callable[[Sequence[bytes], bool, Done], None]
"""Reads the items of some keys, with their tokens or not: L{CachedReader.read} of some link."""


class CachedBackend(BackendWrapper):
    """See the module. C{read} reads over the links of the inner backend, as all its commands go."""

    def __init__(self, inner: IStorageBackend, read: Read) -> None:
        super().__init__(inner)
        self._read = read

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend<redcouch.interfaces.IDirectBackend>}."""
        keys, with_tokens = _asked(commands)
        if keys:
            self._read(keys, with_tokens, partial(self._answer, commands, answer))
        else:
            self._perform_inner(commands, answer)

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


class ClusterReader:
    """Reads from the nodes of a cluster, each of which tells what changes on it."""

    def __init__(self, reader: CachedReader, router: Router, layout: Layout) -> None:
        self._reader = reader
        self._links: Sequence[Any] = router.table
        self._slots = ItemSlots(layout.prefix)

    def read(self, keys: Sequence[bytes], with_tokens: bool, done: Done) -> None:
        """See L{Read}."""
        links = [self._links[slot] for slot in self._slots.of_all(keys)]
        if None in links:  # nobody knows yet who has the slot
            done(None)
            return
        places: dict[TrackedLink, list[int]] = {}
        for place, link in enumerate(links):
            places.setdefault(link, []).append(place)
        if len(places) == 1:
            self._reader.read(links[0], keys, with_tokens, done)
            return
        parts = _Parts(keys, places, done)
        for link, some in places.items():
            add = partial(parts.add, link)
            self._reader.read(link, [keys[place] for place in some], with_tokens, add)


class _Parts:
    """The items of several nodes, put together when all have come."""

    def __init__(
        self, keys: Sequence[bytes], places: Mapping[TrackedLink, Sequence[int]], done: Done
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
