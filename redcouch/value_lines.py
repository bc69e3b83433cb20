"""
Items as the text dialect tells them to a C{get}: VALUE, key, flags and size, then the value.

Who keeps items in memory to tell them again keeps them so, and a C{get} of a hundred of them
is one C{join}. All others take them for the list of items that they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from redcouch.results import Item, KeyResult

ENDS = [b" 0 %d\r\n" % size for size in range(2048)]
"""What stands behind the key of nearly every VALUE line."""


def tell_item(key: bytes, value: bytes, flags: int) -> bytes:
    """The lines of one item."""
    size = len(value)
    end = b" %d %d\r\n" % (flags, size) if flags or size >= 2048 else ENDS[size]
    return b"".join((b"VALUE ", key, end, value, b"\r\n"))


def read_item(key: bytes, block: bytes, cas: int = 0) -> Item | None:
    """The item whose lines these are, with this CAS token; C{None} for no lines at all."""
    if not block:
        return None
    start = len(b"VALUE ") + len(key) + 1
    end = block.index(b"\r\n", start)
    flags = block[start:end].split(b" ")[0]
    return Item(block[end + 2 : -2], int(flags), cas)


class Lines(Sequence[KeyResult]):
    """
    The result of a L{Get<redcouch.commands.Get>}: a sequence as any, whose items are
    made when somebody takes them.

    @ivar blocks: the lines of each; C{b""} for a miss.
    @ivar misses: how many these are.
    @ivar tokens: the CAS token of each; C{None} where nobody has asked for them.
    """

    __slots__ = ("_keys", "blocks", "misses", "tokens")

    def __init__(
        self,
        keys: Sequence[bytes],
        blocks: Sequence[bytes],
        misses: int = 0,
        tokens: Sequence[int] | None = None,
    ) -> None:
        self._keys = keys
        self.blocks = blocks
        self.misses = misses
        self.tokens = tokens

    def __eq__(self, other: object) -> bool:
        return list(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, item: object) -> bool:
        return self.misses > 0 if item is None else item in list(self)

    def __len__(self) -> int:
        return len(self.blocks)

    @overload
    def __getitem__(self, index: int) -> KeyResult: ...

    @overload
    def __getitem__(self, index: slice) -> Lines: ...

    def __getitem__(self, index: int | slice) -> KeyResult | Lines:
        tokens = self.tokens
        if isinstance(index, slice):
            blocks = self.blocks[index]
            some = None if tokens is None else tokens[index]
            return Lines(self._keys[index], blocks, self.misses and blocks.count(b""), some)
        return read_item(
            self._keys[index], self.blocks[index], 0 if tokens is None else tokens[index]
        )
