"""Items put into a memcached, or a RedCouch, in text and in binary."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from tests.support.wire import Address, Ending, Wire, ask

_HEADER = struct.Struct("!BBHBBHIIQ")
_SET = 0x01


class Given(NamedTuple):
    """What an item is to be."""

    value: bytes
    flags: int = 0
    exptime: int = 0


def fill(address: Address, items: Mapping[bytes, Given]) -> None:
    """Set them, in binary, which takes any key."""
    packets = []
    for key, item in items.items():
        extras = struct.pack("!II", item.flags, item.exptime)
        body = extras + key + item.value
        packets.append(_HEADER.pack(0x80, _SET, len(key), 8, 0, 0, len(body), 0, 0) + body)
    noop = _HEADER.pack(0x80, 0x0A, 0, 0, 0, 0, 0, 0xFEEDBEEF, 0)
    answer = _HEADER.pack(0x81, 0x0A, 0, 0, 0, 0, 0, 0xFEEDBEEF, 0)
    with Wire(address) as wire:
        heard = wire.converse(packets, Ending(noop, answer))
    assert len(heard.reply) == 24 * len(items), heard
    statuses = [
        struct.unpack_from("!H", heard.reply, 24 * place + 6) for place in range(len(items))
    ]
    assert set(statuses) <= {(0,)}


def fill_many(address: Address, prefix: bytes, count: int, exptime: int = 0) -> None:
    """C{count} small items, the value of each its number."""
    with Wire(address) as wire:
        for begin in range(0, count, 1000):
            lines = b"".join(
                b"set %b%d %d %d %d noreply\r\n%d\r\n"
                % (prefix, place, place % 5, exptime, len(str(place)), place)
                for place in range(begin, min(begin + 1000, count))
            )
            assert wire.say([lines + b"mn\r\n"], b"MN\r\n").reply == b"MN\r\n"


def get(address: Address, key: bytes) -> tuple[bytes, int] | None:
    """Value and flags, in text."""
    reply = ask(address, b"get %b\r\n" % key, b"END\r\n")
    if reply == b"END\r\n":
        return None
    line, _, rest = reply.partition(b"\r\n")
    return rest.removesuffix(b"\r\nEND\r\n"), int(line.split()[2])


def binary_get(address: Address, key: bytes) -> tuple[bytes, int] | None:
    """Value and flags, in binary."""
    with Wire(address) as wire:
        request = _HEADER.pack(0x80, 0x00, len(key), 0, 0, 0, len(key), 0, 0) + key
        noop = _HEADER.pack(0x80, 0x0A, 0, 0, 0, 0, 0, 0xFEEDBEEF, 0)
        answer = _HEADER.pack(0x81, 0x0A, 0, 0, 0, 0, 0, 0xFEEDBEEF, 0)
        reply = wire.converse([request], Ending(noop, answer)).reply
    status = struct.unpack_from("!H", reply, 6)[0]
    if status:
        return None
    return reply[28:], struct.unpack_from("!I", reply, 24)[0]
