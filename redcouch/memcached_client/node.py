"""One memcached: its keys, its items, and in which protocol to ask for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from math import ceil
from operator import itemgetter
from secrets import token_hex
from typing import TypeAlias

from redcouch.errors import ServerError
from redcouch.expiry import lasting
from redcouch.limits import Limits, is_key
from redcouch.memcached_client.address import Address
from redcouch.memcached_client.blocking_client import BlockingClient, show
from redcouch.memcached_client.item_reading import (
    BINARY,
    META,
    TEXT,
    Copy,
    Fault,
    Getter,
    ReadOutcome,
    probe,
    read_items,
)
from redcouch.memcached_client.key_listing import NEVER, ListedKey, ListedKeys, list_keys
from redcouch.memcached_client.protocol import (
    BINARY_PROBE,
    LAST_SECOND,
    PROBE,
    Reply,
    binary_store,
    delete,
    flush,
    is_plain,
    name,
    process_of,
    read_binary,
    read_line,
    store,
    store_with,
    text_store,
)
from redcouch.results import Item

BATCH = 100
"""Keys asked for in one go: their requests fit into a socket's buffer, whatever comes back."""

_GONE = (b"HD", b"NF", b"DELETED", b"NOT_FOUND")

WEIGHT = 4 * 1024 * 1024
"""Bytes of values that are held together, if they are more than one."""


class BlockingNode:
    """
    Use it in a C{with} statement, which connects.

    @raise ServerError: from everything here, if memcached cannot be reached or fails.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._open = ExitStack()
        self._clients: list[BlockingClient] = []
        #: By L{process_of<redcouch.memcached_client.protocol.process_of>}.
        self.process: str | None = None
        self.is_redcouch = False
        self._binary: BlockingClient | None = None
        self._without_binary = ""  # why, once that is known

    def __enter__(self) -> BlockingNode:
        try:
            self._learn()
        except BaseException:
            self._open.close()
            raise
        return self

    def _learn(self) -> None:
        """Connect, and ask what it is."""
        self._connection = self._connect(self._look_again)
        stats = self.stats()
        told = stats.get("time", "0")
        if not (told.isascii() and told.isdigit() and len(told) < 12):
            raise self._connection.fault(f"answered stats with time {told[:80]}")
        self._ahead = int(told) - time.time() if int(told) else 0.0
        # Meta commands of 1.5 were an experiment with another syntax.
        before = stats.get("version", "").startswith(("1.4.", "1.5."))
        self.process = process_of(stats)
        self.is_redcouch = "redcouch_version" in stats
        self.has_meta = not before and next(self._connection.ask(PROBE, 1, read_line)).code == b"MN"

    def _look_again(self, connection: BlockingClient) -> None:
        if process_of(self.stats()) != self.process:
            raise connection.fault("has been started again meanwhile")

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def now(self) -> float:
        """What memcached's own clock says, in UNIX time."""
        return time.time() + self._ahead

    def list_keys(self, stopped: Callable[[], bool]) -> ListedKeys:
        """Every key, for the caller to close; what it has so far once it is stopped."""
        with BlockingClient(self.address) as connection:
            return list_keys(connection, stopped)

    def fetch(self, entries: Sequence[ListedKey]) -> Iterator[tuple[ListedKey, ReadOutcome]]:
        """
        What is found for up to L{BATCH} entries, in no order, as it arrives.
        All of it has to be taken.
        """
        ways: dict[Getter, list[ListedKey]] = {}
        for entry in entries:
            ways.setdefault(self._getter(entry.key), []).append(entry)
        for getter, several in ways.items():
            if getter is BINARY:
                yield from self._fetch_binary(several)
            else:
                found = read_items(self._connection, getter, several, self.now)
                yield from zip(several, found, strict=True)

    def present(self, keys: Sequence[bytes]) -> Iterator[bool]:
        """
        Whether it has an item for each of up to L{BATCH} keys, which may be longer than
        memcached's can be. All of it has to be taken.
        """
        possible = [key for key in keys if is_key(key)]
        if all(self._getter(key) is META for key in possible):
            probed = probe(self._connection, possible)
            there = {key for key, known in zip(possible, probed, strict=True) if known}
        else:
            entries = [ListedKey(key, NEVER) for key in possible]
            there = {entry.key for entry, found in self.fetch(entries) if found is not None}
        yield from (key in there for key in keys)

    def delete(self, keys: Sequence[bytes]) -> Iterator[bool]:
        """
        Remove up to L{BATCH} items. Whether each is gone; one is not that only the binary
        protocol could name. All of it has to be taken.
        """
        lines = [self._deletion(key) for key in keys]
        sent = [line for line in lines if line is not None]
        replies = self._connection.ask(b"".join(sent), len(sent), read_line)
        for line in lines:
            yield line is not None and next(replies).code in _GONE

    def store(self, items: Sequence[tuple[bytes, Item, float | None]]) -> list[str | None]:
        """
        Store up to L{BATCH} items, each with its key and seconds to live (C{None} for ever).
        For each why it could not be stored; C{None} where it was.
        """
        whys: list[str | None] = [None] * len(items)
        ways: dict[Getter, list[int]] = {}
        for place, (key, _, _) in enumerate(items):
            ways.setdefault(self._getter(key), []).append(place)
        for getter, places in ways.items():
            connection = self._connection if getter is not BINARY else self._speak_binary()
            if connection is None:
                replies = iter([Reply(self._without_binary.encode())] * len(places))
            else:
                request = b"".join(self._storing(getter, *items[place]) for place in places)
                replies = connection.ask(request, len(places), getter.read)
            for place, reply in zip(places, replies, strict=True):
                if reply.code not in (b"HD", b"STORED"):
                    whys[place] = show(reply)
        return whys

    def _storing(self, getter: Getter, key: bytes, item: Item, ttl: float | None) -> bytes:
        seconds = 0 if ttl is None else max(1, ceil(ttl))
        exptime = min(LAST_SECOND, lasting(seconds, self.now))
        value, flags, _ = item
        if getter is BINARY:
            return binary_store(key, value, flags, exptime)
        if getter is TEXT:
            return text_store(key, value, flags, exptime)
        named = name(key)
        assert named is not None, "or it would have to be named in binary"
        return store(named, value, flags, exptime)

    def flush(self, exptime: int = 0) -> None:
        """Remove all items, or do that later."""
        (reply,) = self._connection.ask(flush(exptime), 1, read_line)
        if reply.code != b"OK":
            raise self._connection.fault(f"answered flush_all with {show(reply)}")

    def evictions(self) -> int:
        """How many items it has thrown away for lack of memory, so far."""
        return self._number("evictions") or 0

    def _deletion(self, key: bytes) -> bytes | None:
        named = name(key)
        if self.has_meta and named is not None:
            return delete(named)
        return b"delete %b\r\n" % key if named == key else None

    def _getter(self, key: bytes) -> Getter:
        if self.has_meta and name(key) is not None:
            return META
        return TEXT if is_plain(key) and not self.has_meta else BINARY

    def _fetch_binary(
        self, entries: Sequence[ListedKey]
    ) -> Iterator[tuple[ListedKey, ReadOutcome]]:
        binary = self._speak_binary()
        if binary is None:
            yield from ((entry, Fault(self._without_binary)) for entry in entries)
        else:
            found = read_items(binary, BINARY, entries, self.now)
            yield from zip(entries, found, strict=True)

    def _speak_binary(self) -> BlockingClient | None:
        """A connection for the binary protocol; C{None} where there can be none."""
        try:
            if not self._without_binary:
                self._binary = self._binary or self._connect_in_binary()
        except ServerError as error:
            self._without_binary = f"a key for the binary protocol only; {error}"
        return self._binary

    def _connect_in_binary(self) -> BlockingClient:
        connection = self._connect()
        list(connection.ask(BINARY_PROBE, 1, read_binary))
        return connection

    def _connect(self, again: Callable[[BlockingClient], None] | None = None) -> BlockingClient:
        self._clients.append(self._open.enter_context(BlockingClient(self.address, again)))
        return self._clients[-1]

    def item_count(self) -> int:
        """How many items it has, some of which may be over."""
        return self._number("curr_items") or 0

    def item_size(self) -> int:
        """Bytes of the largest item that it takes (-I)."""
        return self._number("item_size_max", b"stats settings") or Limits().max_item_size

    def last_token(self) -> int:
        """The CAS token that it gives to a change now. Raises C{ServerError}."""
        key = b"redcouch:token:" + token_hex(8).encode()
        (stored,) = self._connection.ask(store_with(key, b"", [b"c", b"T1"]), 1)
        list(self._connection.ask(delete(key), 1))
        token = stored.number(b"c")
        if token is None:
            raise self._connection.fault(f"answered ms with {show(stored)}")
        return token

    def clients(self, by_socket: int = 0) -> Iterator[tuple[str, int]]:
        """
        From where others are connected, and how many seconds ago each has asked for something; by
        UDP, on which port of its own somebody has.

        @param by_socket: how many connections over its unix socket are not meant. These are not
            told apart: the oldest are left out.
        """
        found: dict[str, dict[str, str]] = {}
        for title, value in self.stats(b"stats conns").items():
            number, _, what = title.partition(":")
            found.setdefault(number, {})[what] = value
        listening = 0
        own_ports = tuple(f":{one.port}" for one in self._clients)
        over_socket: list[tuple[str, int]] = []
        for told in found.values():
            address, seconds = told.get("addr", ""), int(told.get("secs_since_last_cmd", "0"))
            if told.get("state") == "conn_listening":
                listening = max(listening, seconds)
            elif (own := told.get("listen_addr", "")).startswith("unix:"):
                over_socket.append((own, seconds))
            elif address.startswith("udp"):  # one for each thread, since it has been started
                if seconds + 1 < listening:
                    yield address, seconds
            elif address.startswith("tcp") and not address.endswith(own_ports):
                yield address, seconds
        over_socket.sort(key=itemgetter(1))
        yield from over_socket[: max(0, len(over_socket) - len(self._clients) - by_socket)]

    def connections(self) -> int:
        """How many others have connected so far."""
        total = self._number("total_connections") or 0
        return total - sum(one.connected for one in self._clients)

    def requests(self) -> dict[str, str]:
        """Its figures that go up whenever an item is asked for, or changed."""
        counted = ("cmd_get", "cmd_set", "cmd_flush", "cmd_touch", "cmd_meta", "_hits", "_misses")
        return {name: told for name, told in self.stats().items() if name.endswith(counted)}

    def _number(self, name: str, line: bytes = b"stats") -> int | None:
        """One of its figures; C{None} where it does not tell."""
        told = self.stats(line).get(name, "")
        return int(told) if told.isdigit() else None

    def stats(self, line: bytes = b"stats") -> dict[str, str]:
        """C{stats}, by name."""
        stats = {}
        for reply in self._connection.ask_lines(line):
            if reply.code == b"STAT" and reply.words:
                name, *value = (word.decode(errors="replace") for word in reply.words)
                stats[name] = " ".join(value)
            elif reply.code != b"END":
                raise self._connection.fault(f"answered stats with {show(reply)}")
        return stats


ReadItem: TypeAlias = tuple[ListedKey, ReadOutcome]


def by_weight(found: Iterable[ReadItem]) -> Iterator[list[ReadItem]]:
    """The same in lists, each with no more values than memory should hold."""
    several: list[ReadItem] = []
    weight = 0
    for entry, outcome in found:
        several.append((entry, outcome))
        weight += len(outcome.value) if isinstance(outcome, Copy) else 0
        if weight >= WEIGHT:
            yield several
            several, weight = [], 0
    if several:
        yield several
