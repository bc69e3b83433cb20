"""The requests that are measured, and what Redis would say to each."""

from __future__ import annotations

from binascii import hexlify
from dataclasses import dataclass

KEY = b"k" * 32
VALUE = b"v" * 100


@dataclass(frozen=True)
class Exchange:
    """
    @ivar request: what the client sends.
    @ivar replies: what Redis answers, as it is on the wire.
    @ivar count: how many replies that is.
    @ivar reply: what the client has to be told.
    """

    request: bytes
    replies: bytes
    count: int
    reply: bytes


def multi_get(keys: int) -> Exchange:
    """A get of so many keys, all of them there."""
    names = [KEY + b"%03d" % number for number in range(keys)]
    fields = b"*3\r\n$%d\r\n%b\r\n$-1\r\n$1\r\n0\r\n" % (2 * len(VALUE), hexlify(VALUE))
    found = [b"VALUE %b 0 %d\r\n%b\r\n" % (name, len(VALUE), VALUE) for name in names]
    return Exchange(
        b"get " + b" ".join(names) + b"\r\n", fields * keys, keys, b"".join(found) + b"END\r\n"
    )


EXCHANGES = {
    "get": multi_get(1),
    "get-20": multi_get(20),
    "get-100": multi_get(100),
    "get-miss": Exchange(b"get k\r\n", b"*3\r\n$-1\r\n$-1\r\n$-1\r\n", 1, b"END\r\n"),
    "set": Exchange(
        b"set %b 0 0 %d\r\n%b\r\n" % (KEY, len(VALUE), VALUE),
        b"$16\r\n1790000000000001\r\n",
        1,
        b"STORED\r\n",
    ),
    "incr": Exchange(
        b"incr k 1\r\n",
        b"*5\r\n$1\r\n2\r\n$16\r\n1790000000000001\r\n:-1\r\n:-1\r\n:0\r\n",
        1,
        b"2\r\n",
    ),
    "meta-get": Exchange(
        b"mg k v\r\n",
        b"*6\r\n$2\r\n76\r\n$-1\r\n$1\r\n0\r\n$1\r\n7\r\n$-1\r\n$-1\r\n",
        1,
        b"VA 1\r\nv\r\n",
    ),
}
