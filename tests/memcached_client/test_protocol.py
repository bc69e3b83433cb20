"""memcached's replies as they may arrive, and keys as its text can say them."""

from __future__ import annotations

import pytest

from redcouch.memcached_client.protocol import (
    GarbageError,
    Reply,
    ReplyReader,
    concatenate,
    name,
    store,
)

SAID = b"HD s3\r\nEN\r\nVA 4 f5 t-1 X\r\n\r\nEN\r\nVA 0 f0 t9\r\n\r\nCLIENT_ERROR no such\r\nMN\r\n"

READ = [
    Reply(b"HD", [b"s3"]),
    Reply(b"EN"),
    Reply(b"VA", [b"f5", b"t-1", b"X"], b"\r\nEN"),
    Reply(b"VA", [b"f0", b"t9"], b""),
    Reply(b"CLIENT_ERROR", [b"no", b"such"]),
    Reply(b"MN"),
]


@pytest.mark.parametrize("size", range(1, len(SAID) + 1))
def test_pieces(size: int) -> None:
    """However the network cuts them, the replies are the same."""
    reader = ReplyReader(100)
    pieces = [SAID[place : place + size] for place in range(0, len(SAID), size)]
    assert [reply for piece in pieces for reply in reader.feed(piece)] == READ


@pytest.mark.parametrize(
    "said",
    [
        b"hello\r\n",
        b"\r\n",
        b"VALUE a 0 1\r\n",
        b"VA\r\n",
        b"VA x\r\n",
        b"VA -1\r\n",
        b"VA 101\r\n",
        b"VA 99999999999999999999\r\n",
        b"VA 1 f0\r\nxyz",
        b"x" * 4000,
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
def test_garbage(said: bytes) -> None:
    """What is no reply is told at once, and not waited for."""
    with pytest.raises(GarbageError):
        ReplyReader(100).feed(said)


def test_flags() -> None:
    """Flags are found by their letter."""
    reply = READ[2]
    assert (reply.number(b"f"), reply.number(b"t"), reply.flag(b"X")) == (5, -1, b"")
    assert (reply.number(b"c"), reply.number(b"X"), reply.flag(b"c")) == (None, None, None)


def test_names() -> None:
    """A key that is no word is said in base64, as long as that is not too long."""
    assert name(b"plain") == b"plain"
    assert name("naïve".encode()) == "naïve".encode()
    assert name(b"a b") == b"YSBi b"
    assert name(b" " * 186) is not None
    assert name(b" " * 187) is None
    assert store(b"YSBi b", b"v", 1, 2) == b"ms YSBi 1 b F1 T2\r\nv\r\n"
    assert concatenate(b"k", b"v", before=True) == b"ms k 1 MP\r\nv\r\n"
