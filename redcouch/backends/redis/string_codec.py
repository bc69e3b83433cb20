"""
Items as plain Redis strings under the clients' own keys: C{?layout=string}.

C{GET session:1} of a native client and memcached's C{get session:1} are the
same data. Flags, CAS token and bookkeeping stand beside the string, in a key of
RedCouch's own, with a digest of the value that they belong to: where a native
client has written another value since, they do not count.

The commands are those of L{redcouch.backends.redis.backend}, over scripts that
see the string and its side key as one item. A C{get} runs no script: MGET reads
both keys at once, and STRLEN tells a key of another type from a miss.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from redcouch.backends.redis.backend import RedisBackend
from redcouch.backends.redis.connection import Link, RedisError
from redcouch.backends.redis.layout import (
    CAS_COUNTER,
    NO_CAS,
    SIDE,
    SYSTEM_PREFIX,
    Layout,
    StringLayout,
    belongs,
    read_number,
)
from redcouch.backends.redis.resp import bulk, bulks
from redcouch.backends.redis.scripts import Script
from redcouch.backends.redis.scripts import strings as scripts
from redcouch.backends.redis.url import Location
from redcouch.commands import Command, Flush, Get, GetAndTouch, MetaGet
from redcouch.errors import BackendError
from redcouch.interfaces import Answer, IStorageBackend, Surroundings
from redcouch.results import Failed, Found, Item, Result, Trouble

_NO_FLUSH = Failed(
    Trouble.REFUSED, "flush_all needs a prefix, or flush=all, in the storage URL of layout=string"
)


def make_string_backend(location: Location, surroundings: Surroundings) -> IStorageBackend:
    """The backend for a location whose layout is a L{StringLayout}."""
    link = Link(location, surroundings.reactor, scripts.SCRIPTS)
    assert isinstance(location.layout, StringLayout)
    backend: IStorageBackend = StringBackend(link, location.layout, surroundings)
    return backend


class _AtomicGet(Get):
    """A L{Get} among changes: what it has to find is what is there at its turn."""

    __slots__ = ()


class StringBackend(RedisBackend):
    """See the module."""

    _scripts = scripts.SCRIPTS
    _fill_scripts = (scripts.LEASE, scripts.FILL, scripts.DENY)

    #: A string is written whole by its script, however long it is.
    _large = sys.maxsize
    _scan_more = (b"TYPE", b"string")
    _layout: StringLayout

    def __init__(self, link: Link, layout: StringLayout, surroundings: Surroundings) -> None:
        super().__init__(link, layout, surroundings)
        self._reserved = b"" if layout.prefix else SYSTEM_PREFIX
        self._steps[_AtomicGet] = (self._pack_atomic_get, super()._read_get)
        self._steps[Get] = (self._pack_get, self._read_pairs)
        if self._reserved:
            for kind, (pack, read) in list(self._steps.items()):
                if hasattr(kind, "key"):
                    self._steps[kind] = (self._refusing(pack), read)

    def _pack_templates(self, layout: Layout) -> None:
        prefix = layout.prefix
        self._get = _pack_pair(prefix)
        self._set = _pack_store(prefix, scripts.SET, (layout.field, layout.other_field), 3)
        self._store = _pack_script(prefix, scripts.STORE, 9)
        self._concat = _pack_script(prefix, scripts.CONCAT, 10)
        self._arithmetic = _pack_script(prefix, scripts.ARITHMETIC, 12)
        self._meta = _pack_script(prefix, scripts.META, 11)
        self._invalidate = _pack_script(prefix, scripts.INVALIDATE, 6)
        self._list = _pack_script(prefix, scripts.LIST, 0)
        self._touch = _pack_script(prefix, scripts.TOUCH, 2)
        self._gat = self._refusing_key(_pack_script(prefix, scripts.GAT, 2))
        self._delete = _pack_script(prefix, scripts.DELETE, 1)
        self._read_item = _pack_script(prefix, scripts.READ, 1)
        self._refuse = _pack_script(prefix, scripts.RESERVED, 0)

    def perform(self, commands: Sequence[Command], answer: Answer) -> None:
        """See L{IDirectBackend}."""
        alone = all(command.__class__ is Get for command in commands)
        super().perform(commands if alone else list(map(_in_one_step, commands)), answer)

    def read(self, commands: Sequence[Command], replies: Sequence[Any]) -> list[Result]:
        """As the original; each key of a L{Get} has two replies."""
        results = []
        at = 0
        for command in commands:
            after = at + _replies(command)
            results.append(self._steps[command.__class__][1](command, replies[at:after]))
            at = after
        return results

    # -- keys that are no client's -------------------------------------------------------------

    def _refusing(self, pack: Callable[[Any], tuple[bytes, int]]) -> Any:
        """A pack of a command on one key that refuses RedCouch's own keys."""

        def refusing(command: Any) -> tuple[bytes, int]:
            if command.key.startswith(self._reserved):
                return self._refuse(command.key), 1
            return pack(command)

        return refusing

    def _refusing_key(self, pack: Callable[..., bytes]) -> Callable[..., bytes]:
        """The same, of a template."""

        def refusing(key: bytes, *arguments: bytes) -> bytes:
            if self._reserved and key.startswith(self._reserved):
                return self._refuse(key)
            return pack(key, *arguments)

        return refusing

    # -- reading -----------------------------------------------------------------------------

    def _pack_get(self, command: Get) -> tuple[bytes, int]:
        keys = command.keys
        if self._reserved:
            pieces = [
                self._refuse(key) * 2 if key.startswith(self._reserved) else self._get(key)
                for key in keys
            ]
            return b"".join(pieces), 2 * len(keys)
        return b"".join(map(self._get, keys)), 2 * len(keys)

    def _read_pairs(self, command: Get, replies: Sequence[Any]) -> Result:
        return [
            self._read_pair(replies[at], replies[at + 1], command.cas)
            for at in range(0, len(replies), 2)
        ]

    def _read_pair(self, both: Any, length: Any, cas: bool) -> Found:
        if both.__class__ is not list:
            return self._failed(both)
        value, line = both
        if value is None:
            return self._failed(length) if isinstance(length, RedisError) else None
        if line is None:
            if not cas:
                return Item(value, 0, 0)
        elif belongs(line, value):
            try:
                return _read_line(value, line, cas)
            except ValueError:
                pass  # bookkeeping behind the token, or none of our own
        elif not cas:
            return Item(value, 0, 0)  # MGET read both at once: a native client has written
        self.needs_more = True
        return Item(value, 0, NO_CAS)

    def _pack_atomic_get(self, command: Get) -> tuple[bytes, int]:
        pack = self._refusing_key(self._read_item)
        wanted = b"1" if command.cas else b""
        return b"".join([pack(key, wanted) for key in command.keys]), len(command.keys)

    async def complete_item(self, key: bytes, item: Item) -> Found:
        """The item in one step, with a token of its own."""
        try:
            (fields,) = await self._send_scripts([self._read_item(key, b"1")], 1)
        except BackendError as error:
            return error.failed
        return self._read_found(fields)

    # -- flushing and listing ------------------------------------------------------------------

    async def _flush(self, command: Flush) -> Result:
        return await super()._flush(command) if self._layout.may_flush else _NO_FLUSH

    async def _unlink_all(self) -> None:
        if not self._layout.may_flush:
            return
        cursor = b""
        while True:
            cursor, keys = await self._scan(cursor)
            if keys:
                await self._ask(b"UNLINK", *keys, *map(self._layout.side_key, keys))
            if not cursor:
                return

    async def _scan(self, cursor: bytes) -> tuple[bytes, list[bytes]]:
        cursor, keys = await super()._scan(cursor)
        return cursor, [key for key in keys if not key.startswith(SYSTEM_PREFIX)]


def _in_one_step(command: Command) -> Command:
    if command.__class__ is Get:
        assert isinstance(command, Get)
        return _AtomicGet(command.keys, command.cas)
    if isinstance(command, MetaGet) and command.plain:
        return replace(command, standing=True, no_update=True)
    return command


def _replies(command: Command) -> int:
    if command.__class__ is Get:
        assert isinstance(command, Get)
        return 2 * len(command.keys)
    return len(command.keys) if isinstance(command, Get | GetAndTouch) else 1


def _read_line(value: bytes, line: bytes, cas: bool) -> Item:
    """Raises ValueError where there is no token, or more than a token."""
    _, flags, token = line.split(b" ")
    if not cas:
        return Item(value, read_number(flags, 32), 0)
    return Item(value, read_number(flags, 32), read_number(token.rstrip(b"swh"), 64))


# -- packing -----------------------------------------------------------------------------------


def _escape(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")


def _pack_pair(prefix: bytes) -> Callable[[bytes], bytes]:
    """A function from an item's key to the two commands that read it."""
    length, side = len(prefix), SIDE + prefix
    name = b"$%d\r\n" + _escape(prefix) + b"%b\r\n"
    template = (
        b"*3\r\n$4\r\nMGET\r\n" + name + b"$%d\r\n" + _escape(side) + b"%b\r\n"
        b"*2\r\n$6\r\nSTRLEN\r\n" + name
    )

    def pack(key: bytes) -> bytes:
        own = length + len(key)
        return template % (own, key, len(side) + len(key), key, own, key)

    return pack


def _pack_head(prefix: bytes, script: Script, arguments: int) -> bytes:
    """The template of a script's name and keys: item, CAS counter, side key."""
    return (
        b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n3\r\n" % (6 + arguments, script.sha)
        + b"$%d\r\n"
        + _escape(prefix)
        + b"%b\r\n"
        + _escape(bulk(CAS_COUNTER))
        + b"$%d\r\n"
        + _escape(SIDE + prefix)
        + b"%b\r\n"
    )


def _pack_script(prefix: bytes, script: Script, arguments: int) -> Callable[..., bytes]:
    """As L{redcouch.backends.redis.resp.pack_script}, with the side key."""
    own, side = len(prefix), len(SIDE + prefix)
    head = _pack_head(prefix, script, arguments)

    def pack(key: bytes, *given: bytes) -> bytes:
        return head % (own + len(key), key, side + len(key), key) + bulks(*given)

    return pack


def _pack_store(
    prefix: bytes, script: Script, before: Sequence[bytes], after: int
) -> Callable[[bytes, bytes, bytes], bytes]:
    """As L{redcouch.backends.redis.resp.pack_store}, with the side key."""
    packed = _pack_script(prefix, script, len(before) + 1 + after)

    def pack(key: bytes, value: bytes, rest: bytes) -> bytes:
        return packed(key, *before, value) + rest

    return pack
