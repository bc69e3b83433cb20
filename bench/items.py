"""The items that are stored and asked for, the same in every run, and how popular each is."""

import random
from dataclasses import dataclass
from functools import cache
from hashlib import shake_128
from itertools import accumulate

EXPONENT = 0.99
"""Of Zipf's law, as YCSB has it: every 13th request is for the most popular key of 100,000."""


@dataclass(frozen=True, slots=True)
class Item:
    """A value and its key, with what is said of it in the text protocol."""

    key: bytes
    value: bytes

    @property
    def set_request(self) -> bytes:
        """The request that stores it."""
        return b"set %b 0 0 %d\r\n%b\r\n" % (self.key, len(self.value), self.value)

    @property
    def value_lines(self) -> bytes:
        """What a get answers of it, without the END."""
        return b"VALUE %b 0 %d\r\n%b\r\n" % (self.key, len(self.value), self.value)


def make_item(connection: int, number: int, size: int) -> Item:
    """An item with a 32-byte key and bytes without a pattern as its value."""
    key = f"bench:{connection:012d}:{number:013d}".encode()
    return Item(key, shake_128(key).digest(size))


def draw(keys: int, count: int, seed: int) -> list[int]:
    """So many numbers below `keys`, the lowest most often, by Zipf's law."""
    return random.Random(seed).choices(range(keys), cum_weights=_weights(keys), k=count)


def by_last_use(keys: int, seed: int) -> list[int]:
    """All numbers, that which was asked for longest ago first, as Zipf's law leaves them.

    What a cache of any size then has last seen is what it would have after a long time.
    """
    exponential = random.Random(seed).expovariate
    # How long ago a key of this rank was asked for, when each request picks one by its weight.
    ages = [exponential(rank**-EXPONENT) for rank in range(1, keys + 1)]
    return sorted(range(keys), key=ages.__getitem__, reverse=True)


@cache
def _weights(keys: int) -> list[float]:
    return list(accumulate(rank**-EXPONENT for rank in range(1, keys + 1)))
