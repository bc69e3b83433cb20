"""
The hash functions by which memcached clients place keys, each as its client has it.

Each takes bytes and gives an unsigned number of 32 bits or fewer. Several differ from
the published function of that name: C clients read bytes past 127 as negative numbers,
cut 64-bit FNV down to 32 bits, and keep 15 bits of a CRC. Java clients hash the UTF-16
units of a key, not its bytes.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from hashlib import md5
from typing import TypeAlias

import mmh3

KeyHash: TypeAlias = Callable[[bytes], int]

_MASK = 0xFFFFFFFF
_FNV_32 = (2166136261, 16777619)
_FNV_64 = (0x84222325, 0x1B3)  # The low 32 bits of the result depend on nothing else.
_CRC_16 = [binascii.crc_hqx(bytes((byte,)), 0) for byte in range(256)]


def md5_words(data: bytes) -> tuple[int, int, int, int]:
    """The four 32-bit numbers of an MD5 digest, as every ketama reads it."""
    a, b, c, d = struct.unpack("<4I", md5(data, usedforsecurity=False).digest())
    return a, b, c, d


def md5_word(key: bytes) -> int:
    """The first of L{md5_words}."""
    digest = md5(key, usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "little")


def crc15(key: bytes) -> int:
    """Fifteen bits of a CRC-32: what most clients call crc."""
    return zlib.crc32(key) >> 16 & 0x7FFF


def crc16(key: bytes) -> int:
    """twemproxy's crc16, which never cuts its result down to 16 bits."""
    crc = 0
    for byte in key:
        crc = (crc << 8 & _MASK) ^ _CRC_16[(crc >> 8 ^ byte) & 0xFF]
    return crc


def one_at_a_time(key: bytes) -> int:
    """Jenkins's one-at-a-time hash, over signed bytes."""
    value = 0
    for byte in _signed(key):
        value = (value + byte) * 1025 & _MASK
        value ^= value >> 6
    value = value * 9 & _MASK
    value ^= value >> 11
    return value * 32769 & _MASK


def murmur(key: bytes) -> int:
    """MurmurHash2, seeded with the key's length."""
    size = len(key)
    value = 0xDEADBEEF * size & _MASK ^ size
    whole = size & ~3
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        word = word * 0x5BD1E995 & _MASK
        word = (word ^ word >> 24) * 0x5BD1E995
        value = (value * 0x5BD1E995 ^ word) & _MASK
    if whole < size:
        value = (value ^ int.from_bytes(key[whole:], "little")) * 0x5BD1E995 & _MASK
    value = (value ^ value >> 13) * 0x5BD1E995 & _MASK
    return value ^ value >> 15


def murmur3(key: bytes) -> int:
    """MurmurHash3, seeded with the key's length."""
    return mmh3.hash(key, 0xDEADBEEF * len(key) & _MASK, signed=False)


def hsieh(key: bytes) -> int:
    """Paul Hsieh's SuperFastHash; the third byte of an incomplete group is signed."""
    value = 0
    whole = len(key) & ~3
    for low, high in struct.iter_unpack("<HH", key[:whole]):
        value = value + low & _MASK
        value = (value << 16 ^ high << 11 ^ value) & _MASK
        value = value + (value >> 11) & _MASK
    rest = key[whole:]
    if len(rest) == 3:
        value = value + int.from_bytes(rest[:2], "little") & _MASK
        value = (value ^ value << 16 ^ _signed(rest)[2] << 18) & _MASK
        value = value + (value >> 11) & _MASK
    elif len(rest) == 2:
        value = value + int.from_bytes(rest, "little") & _MASK
        value = (value ^ value << 11) & _MASK
        value = value + (value >> 17) & _MASK
    elif rest:
        value = value + rest[0] & _MASK
        value = (value ^ value << 10) & _MASK
        value = value + (value >> 1) & _MASK
    for left, right in ((3, 5), (4, 17), (25, 6)):
        value = (value ^ value << left) & _MASK
        value = value + (value >> right) & _MASK
    return value


def jenkins(key: bytes) -> int:
    """Jenkins's lookup3, begun with 13."""
    a = b = c = 0xDEADBEEF + len(key) + 13 & _MASK
    if not key:
        return c
    words = struct.iter_unpack("<3I", key + bytes(-len(key) % 12))
    blocks: list[tuple[int, int, int]] = [(x, y, z) for x, y, z in words]
    last = blocks.pop()
    for x, y, z in blocks:
        a, b, c = a + x, b + y, c + z
        for count in (4, 6, 8, 16, 19, 4):  # the three take turns
            a = (a - c ^ _rotate(c, count)) & _MASK
            c += b
            a, b, c = b, c, a
    a, b, c = a + last[0], b + last[1], c + last[2]
    for count in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _rotate(b, count) & _MASK
        a, b, c = b, c, a
    return b


def java_string(key: bytes) -> int:
    """Java's C{String.hashCode}, without its sign."""
    value = 0
    for unit in _utf16(key):
        value = 31 * value + unit & _MASK
    return value


def javascript_string(key: bytes) -> int:
    """The absolute value of L{java_string} with its sign, as memjs has it."""
    value = java_string(key)
    return min(value, 0x100000000 - value)


def _fnv1(start: int, prime: int, units: Callable[[bytes], Iterable[int]]) -> KeyHash:
    def fnv1(key: bytes) -> int:
        value = start
        for unit in units(key):
            value = (value * prime ^ unit) & _MASK
        return value

    return fnv1


def _fnv1a(start: int, prime: int, units: Callable[[bytes], Iterable[int]]) -> KeyHash:
    def fnv1a(key: bytes) -> int:
        value = start
        for unit in units(key):
            value = (value ^ unit) * prime & _MASK
        return value

    return fnv1a


def _fnv(units: Callable[[bytes], Iterable[int]]) -> dict[str, KeyHash]:
    return {
        "fnv1_64": _fnv1(*_FNV_64, units),
        "fnv1a_64": _fnv1a(*_FNV_64, units),
        "fnv1_32": _fnv1(*_FNV_32, units),
        "fnv1a_32": _fnv1a(*_FNV_32, units),
    }


def _signed(key: bytes) -> memoryview[int]:
    """The bytes as C's signed char has them."""
    return memoryview(key).cast("b")


def _utf16(key: bytes) -> Iterable[int]:
    """The UTF-16 units of a key; the bytes of one that is no UTF-8."""
    if key.isascii():
        return key
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return key
    return (unit for (unit,) in struct.iter_unpack("<H", text.encode("utf-16-le")))


def _rotate(value: int, count: int) -> int:
    value &= _MASK
    return (value << count | value >> (32 - count)) & _MASK


_COMMON: Mapping[str, KeyHash] = {
    "md5": md5_word,
    **_fnv(_signed),
    "hsieh": hsieh,
    "murmur": murmur,
    "jenkins": jenkins,
}

LIBMEMCACHED: Mapping[str, KeyHash] = {
    "default": one_at_a_time,
    "one_at_a_time": one_at_a_time,
    "crc": crc15,
    **_COMMON,
    "murmur3": murmur3,
}

TWEMPROXY: Mapping[str, KeyHash] = {
    "one_at_a_time": one_at_a_time,
    "crc16": crc16,
    "crc32": crc15,
    "crc32a": zlib.crc32,
    **_COMMON,
}

JAVA: Mapping[str, KeyHash] = {
    "native": java_string,
    "crc": crc15,
    "ketama": md5_word,
    **_fnv(_utf16),
}
