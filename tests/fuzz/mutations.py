"""Conversations as clients have them, and what chance makes of them."""

from __future__ import annotations

import random
import struct

LINES = [
    b"get a\r\n",
    b"get a b c\r\n",
    b"gets a\r\n",
    b"gat 0 a\r\n",
    b"set a 0 0 3\r\nabc\r\n",
    b"set b 4294967295 100 2 noreply\r\nxy\r\n",
    b"add a 0 0 1\r\nx\r\n",
    b"replace a 0 -1 1\r\nx\r\n",
    b"append a 0 0 1\r\nx\r\n",
    b"prepend a 1\r\nx\r\n",
    b"cas a 0 0 1 5\r\nx\r\n",
    b"set n 0 0 20\r\n18446744073709551615\r\n",
    b"incr n 1\r\n",
    b"decr n 18446744073709551615\r\n",
    b"delete a\r\n",
    b"delete a 0 noreply\r\n",
    b"touch a 50\r\n",
    b"verbosity 1\r\n",
    b"version\r\n",
    b"stats\r\n",
    b"stats settings\r\n",
    b"stats cachedump 1 10\r\n",
    b"lru_crawler metadump 2\r\n",
    b"set a 0 0 100000\r\n",
    b"mn\r\n",
    b"mg a v t c k f s h l\r\n",
    b"mg YQ== b k v q\r\n",
    b"mg a N30 R10 T5 v E7\r\n",
    b"ms a 3 c k b T0 F1 MS\r\nabc\r\n",
    b"ms a 2 MA N0 q\r\nxy\r\n",
    b"ms a 2 C5 I E9\r\nxy\r\n",
    b"md a I T30 C1 q\r\n",
    b"md a x\r\n",
    b"ma n N0 J5 D2 MD v t c q\r\n",
    b"me a\r\n",
    b"quit\r\n",
]

_WORDS = [
    b" ",
    b"\r\n",
    b"\n",
    b"\0",
    b"\x80",
    b"noreply",
    b"-1",
    b"4294967296",
    b"18446744073709551616",
    b"99999999999999999999999",
    b"k" * 251,
    b"O" * 40,
    b"\xff\xfe",
    b" q",
    b" v v",
    b"=",
]


def frame(chance: random.Random) -> bytes:
    """A frame of any opcode; its lengths are mostly right."""
    opcode = chance.choice([chance.randrange(0x25), chance.randrange(256)])
    key = chance.choice([b"", b"a", b"b", b"n", b"k" * 250, b"\0"])
    exptime = struct.pack(">I", chance.choice([0, 100, 2**32 - 1]))
    extras = chance.choice([b"", exptime, struct.pack(">II", 7, 0), struct.pack(">QQI", 1, 5, 0)])
    value = chance.choice([b"", b"x", b"17", b"\r\n" * 20])
    body = len(extras) + len(key) + len(value)
    if chance.random() < 0.05:
        body = chance.choice([0, 1, body + 1, 5000, 2**32 - 1])
    head = struct.pack(
        *(">BBHBBHIIQ", 0x80, opcode, len(key), len(extras), 0, chance.choice([0, 0, 0, 1])),
        *(body, chance.randrange(2**32), chance.choice([0, 0, 1, 2**64 - 1])),
    )
    return head + extras + key + value


def mutate(chance: random.Random, data: bytes) -> bytes:
    """The same, with something lost, doubled, changed, or put in."""
    for _ in range(chance.choice([0, 0, 1, 1, 2, 5])):
        place, end = sorted(chance.choices(range(len(data) + 1), k=2))
        match chance.randrange(5):
            case 0:
                data = data[:place] + data[min(end, place + 8) :]
            case 1:
                data = data[:end] + data[place:]
            case 2:
                data = data[:place] + chance.choice(_WORDS) + data[place:]
            case 3:
                data = data[:place] + chance.randbytes(chance.randrange(1, 5)) + data[place + 1 :]
            case _:
                data = data[:place] + data[place : place + 1].swapcase() + data[place + 1 :]
    return data


def conversation(chance: random.Random) -> bytes:
    """What a client sends: lines or frames, mostly well-formed, partly not."""
    count = chance.randrange(1, 30)
    if chance.random() < 0.5:
        parts = [frame(chance) for _ in range(count)]
        if chance.random() < 0.5:
            parts[0] = b"\x80" + parts[0][1:]
    else:
        parts = chance.choices(LINES, k=count)
    often = chance.choice([0.0, 0.1, 0.5])
    return b"".join(mutate(chance, part) if chance.random() < often else part for part in parts)
