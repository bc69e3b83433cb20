"""
Items as plain Redis strings under the clients' own keys: C{?layout=string}.

C{GET session:1} of a native client and memcached's C{get session:1} are the
same data. Flags, CAS token and bookkeeping stand beside the string, in a key of
RedCouch's own, with a digest of the value that they belong to: where a native
client has written another value since, they do not count.

The scripts see the string and its side key as one item. A C{get} runs no
script: MGET reads both keys at once, and STRLEN tells a key of another type
from a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redcouch.backends.redis.layout import (
    NO_CAS,
    SIDE,
    SYSTEM_PREFIX,
    StringLayout,
    belongs,
    read_number,
)
from redcouch.backends.redis.replies import (
    Pack,
    Packed,
    Question,
    Unfinished,
    failed_by,
    read_outcome,
)
from redcouch.backends.redis.resp import escape
from redcouch.backends.redis.script_arguments import pack_expiry
from redcouch.backends.redis.script_codec import MORE_TO_SAY, ScriptCodec, read_found, read_stored
from redcouch.backends.redis.scripts import strings as scripts
from redcouch.commands import Command, Get, OneKeyCommand, Store
from redcouch.interfaces import BackendContext
from redcouch.results import Item, KeyResult, Result


class StringCodec(ScriptCodec):
    """See the module."""

    scripts = scripts.SCRIPTS
    layout: StringLayout

    def __init__(self, layout: StringLayout, context: BackendContext) -> None:
        super().__init__(layout, context)
        #: What no client's key may begin with.
        self._reserved = b"" if layout.prefix else SYSTEM_PREFIX
        self._get = _pack_pair(layout.prefix)
        self._set = self._template("set", 5)
        self._refuse = self._template("reserved", 0)
        self._read_item = self._refusing_key(self._template("read", 1))
        self._gat = self._refusing_key(self._gat)
        self.packers[Get] = self._pack_get
        if self._reserved:
            for kind, pack in self.packers.items():
                if issubclass(kind, OneKeyCommand):
                    self.packers[kind] = self._refusing(pack)
        self.packers_among_changes = {**self.packers, Get: self._pack_get_among_changes}

    # -- keys that are no client's -------------------------------------------------------------

    def _refusing(self, pack: Pack) -> Pack:
        """A pack of a command on one key that refuses RedCouch's own keys."""

        def refusing(command: Any) -> Packed:
            if command.key.startswith(self._reserved):
                return self._refuse(command.key), 1, _read_refusal
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

    def _pack_get(self, command: Get) -> Packed:
        keys = command.keys
        payloads = list(map(self._get, keys))
        if self._reserved:
            for place, key in enumerate(keys):
                if key.startswith(self._reserved):
                    payloads[place] = self._refuse(key) * 2
        return b"".join(payloads), 2 * len(keys), self._read_get

    def _read_get(self, command: Get, replies: Sequence[Any]) -> list[KeyResult] | Unfinished:
        """Items with two replies each."""
        cas = command.cas
        found: list[KeyResult] = []
        questions: list[Question] = []
        for at, key in enumerate(command.keys):
            item = _read_pair(replies[2 * at], replies[2 * at + 1], cas)
            if item is not None and item.__class__ is Item and item[2] == NO_CAS:
                give = partial(self._give_token, found, at)
                questions.append((self.pack_token(key, item), give))
            found.append(item)
        return Unfinished(found, questions) if questions else found

    def _pack_get_among_changes(self, command: Get) -> Packed:
        wanted = b"1" if command.cas else b""
        payload = b"".join([self._read_item(key, wanted) for key in command.keys])
        return payload, len(command.keys), self._read_items

    def pack_kept(self, keys: Sequence[bytes]) -> Packed:
        """See L{ScriptCodec}."""
        payload, count, _ = self._pack_get(Get(keys))
        return payload, count, _read_kept

    def pack_token(self, key: bytes, item: Item) -> bytes:
        """See L{ScriptCodec}: the item is read again, in one step, with a token of its own."""
        return self._read_item(key, b"1")

    def read_token(self, item: Item, reply: Any) -> KeyResult:
        """See L{ScriptCodec}."""
        return read_found(reply)

    # -- writing -----------------------------------------------------------------------------

    def _pack_store(self, command: Store) -> Packed:
        if not command.plain:
            return super()._pack_store(command)
        payload = self._set(
            command.key,
            self.layout.field,
            command.value,
            b"%d" % command.flags,
            *pack_expiry(command.exptime),
        )
        return payload, 1, read_stored

    def pack_probe(self, key: bytes) -> bytes:
        """The same, of a key of ours: Redis may allow some of the clients' keys alone."""
        return super().pack_probe(self._reserved + key)


def _read_refusal(command: Command, replies: Sequence[Any]) -> Result:
    return read_outcome(replies[0])


def _read_pair(both: Any, length: Any, cas: bool) -> KeyResult:
    """
    An item from what MGET and STRLEN answer. Its token is C{NO_CAS} where more
    has to be asked.
    """
    if both.__class__ is not list:
        return failed_by(both)
    value, line = both
    if value is None:
        return failed_by(length) if isinstance(length, Exception) else None
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
    return Item(value, 0, NO_CAS)


def _read_kept(command: Command, replies: Sequence[Any]) -> list[KeyResult]:
    """Items with two replies each."""
    return [*map(_read_kept_one, replies[::2], replies[1::2])]


def _read_kept_one(both: Any, length: Any) -> KeyResult:
    if both.__class__ is not list:
        return MORE_TO_SAY
    value, line = both
    if value is None:
        return MORE_TO_SAY if isinstance(length, Exception) else None
    if line is None or not belongs(line, value):
        return Item(value, 0, NO_CAS)
    try:
        _, flags, token = line.split(b" ")
        token = token.rstrip(b"h")
        cas = NO_CAS if token == b"-" else read_number(token, 64)
        return Item(value, read_number(flags, 32), cas)
    except ValueError:  # marked, or bookkeeping behind the token
        return MORE_TO_SAY


def _read_line(value: bytes, line: bytes, cas: bool) -> Item:
    """Raises ValueError where there is no token, or more than a token."""
    _, flags, token = line.split(b" ")
    if not cas:
        return Item(value, read_number(flags, 32), 0)
    return Item(value, read_number(flags, 32), read_number(token.rstrip(b"swh"), 64))


# -- packing -----------------------------------------------------------------------------------


def _pack_pair(prefix: bytes) -> Callable[[bytes], bytes]:
    """A function from an item's key to the two commands that read it."""
    length, side = len(prefix), SIDE + prefix
    name = b"$%d\r\n" + escape(prefix) + b"%b\r\n"
    template = (
        b"*3\r\n$4\r\nMGET\r\n" + name + b"$%d\r\n" + escape(side) + b"%b\r\n"
        b"*2\r\n$6\r\nSTRLEN\r\n" + name
    )

    def pack(key: bytes) -> bytes:
        own = length + len(key)
        return template % (own, key, len(side) + len(key), key, own, key)

    return pack
