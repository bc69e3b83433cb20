"""The slot of a key: by Redis's rule of hash tags, and CRC-16 of what it leaves."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence

SLOTS = 16384
"""How many slots every cluster has."""

_LAST = SLOTS - 1


def slot_of(key: bytes) -> int:
    """The slot of a whole key of Redis."""
    opened = key.find(b"{")
    if opened >= 0:
        closed = key.find(b"}", opened + 1)
        if closed > opened + 1:
            key = key[opened + 1 : closed]
    return crc_hqx(key, 0) & _LAST


class ItemSlots:
    """
    The slots of items' keys, which Redis knows with a prefix. A key without a
    brace costs its own CRC only, continued from the prefix's.
    """

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._seed = crc_hqx(prefix, 0)
        #: What makes the long way necessary: in a key, or already in the prefix.
        self._brace = b"" if b"{" in prefix else b"{"

    def of(self, key: bytes) -> int:
        """The slot of one item."""
        if self._brace in key:
            return slot_of(self._prefix + key)
        return crc_hqx(key, self._seed) & _LAST

    def of_all(self, keys: Sequence[bytes]) -> list[int]:
        """The slots of several items, in order."""
        if self._brace in b"".join(keys):
            return [*map(self.of, keys)]
        seed = self._seed
        return [crc_hqx(key, seed) & _LAST for key in keys]
