"""memcached's replies as they may arrive, and keys as its text can say them."""

from __future__ import annotations

import pytest

from redcouch.memcached_client.protocol import (
    GarbageError,
    PendingRequest,
    Read,
    Reply,
    RequestQueue,
    concatenate,
    name,
    read_binary,
    read_line,
    read_meta,
    read_text,
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


def binary_reply(status: int, flags: bytes, key: bytes, body: bytes, opcode: int = 0x0C) -> bytes:
    """As doc/protocol_binary has it: magic, opcode (GETK), key length, extras length, ..."""
    length = len(flags + key + body).to_bytes(4)
    head = b"\x81" + opcode.to_bytes(1) + len(key).to_bytes(2)
    head += len(flags).to_bytes(1) + b"\x00" + status.to_bytes(2)
    return head + length + b"\x00" * 12 + flags + key + body


#: What is said, and for each request: how it is read, how many replies there are, and which.
CONVERSATION: list[tuple[bytes, Read, int | None, list[Reply]]] = [
    (SAID, read_meta, len(READ), READ),
    (
        b"VALUE k 7 5\r\n\r\nEND\r\nEND\r\nEND\r\nSERVER_ERROR out of memory\r\n",
        read_text,
        3,
        [
            Reply(b"VA", [b"f7", b"kk"], b"\r\nEND"),
            Reply(b"EN"),
            Reply(b"SERVER_ERROR", [b"out", b"of", b"memory"]),
        ],
    ),
    (
        binary_reply(0, b"\x00\x00\x01\x00", b"\0 key", b"\x81va\r\n")
        + binary_reply(1, b"", b"", b"Not found")
        + binary_reply(0, b"\0\0\0\0", b"k", b"")
        + binary_reply(0x82, b"", b"", b"Out of memory")
        + binary_reply(0, b"", b"", b"", opcode=0x0A),
        read_binary,
        5,
        [
            Reply(b"VA", [b"f256", b"k\0 key"], b"\x81va\r\n"),
            Reply(b"EN"),
            Reply(b"VA", [b"f0", b"kk"], b""),
            Reply(b"Out", [b"of", b"memory"]),
            Reply(b"MN"),
        ],
    ),
    (
        b"key=a exp=-1 la=5\nkey=b exp=9\nEND\r\n",
        read_line,
        None,
        [Reply(b"key=a", [b"exp=-1", b"la=5"]), Reply(b"key=b", [b"exp=9"]), Reply(b"END")],
    ),
    (b"STORED\r\n", read_line, 1, [Reply(b"STORED")]),
]


@pytest.mark.parametrize("size", range(1, sum(len(said) for said, *_ in CONVERSATION) + 1))
def test_pieces(size: int) -> None:
    """However the network cuts them, each request gets its replies, read in its own way."""
    queue: RequestQueue[PendingRequest] = RequestQueue(100)
    requests = [PendingRequest(b"", expected, read) for _, read, expected, _ in CONVERSATION]
    for request in requests:
        queue.add(request)
    said = b"".join(said for said, *_ in CONVERSATION)
    complete: list[PendingRequest] = []
    for place in range(0, len(said), size):
        complete += queue.receive(said[place : place + size])
    assert complete == requests
    assert [[*request.replies] for request in requests] == [replies for *_, replies in CONVERSATION]
    assert not queue.pending


def test_partial_answer() -> None:
    """Replies are there as they come, before the answer is complete."""
    queue: RequestQueue[PendingRequest] = RequestQueue()
    request = PendingRequest(b"", 2)
    queue.add(request)
    assert [*queue.receive(b"HD\r\nVA 2 f1\r\nx")] == []
    assert request.replies.popleft() == Reply(b"HD")
    assert not request.complete
    assert [*queue.receive(b"y\r\n")] == [request]
    assert request.replies.popleft() == Reply(b"VA", [b"f1"], b"xy")


@pytest.mark.parametrize("said", [b"HD\r\n", b"\r\n", b"x"])
def test_unasked(said: bytes) -> None:
    """What nobody has asked for is no reply; what came before it is one."""
    queue: RequestQueue[PendingRequest] = RequestQueue()
    with pytest.raises(GarbageError):
        [*queue.receive(said)]
    queue = RequestQueue()
    request = PendingRequest(b"", 1)
    queue.add(request)
    receiving = queue.receive(b"HD\r\n" + said)
    assert next(receiving) is request
    with pytest.raises(GarbageError):
        next(receiving)


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
        feed(said, read_meta)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (b"VALUE k 0 x\r\n", read_text),
        (b"VALUE k 0 101\r\n", read_text),
        (b"VALUE k 0 1\r\nxVALUE", read_text),
        (b"VALUE k 0 1\r\nx\r\nVALUE l 0 1\r\nx\r\nEND\r\n", read_text),
        (b"HTTP/1.1 400 Bad Request\r\n", read_binary),
        (b"x" * 4000, read_line),
    ],
)
def test_other_garbage(said: bytes, read: Read) -> None:
    """The same in classic text, in binary, and in lists."""
    with pytest.raises(GarbageError):
        feed(said, read)


def feed(said: bytes, read: Read) -> None:
    queue: RequestQueue[PendingRequest] = RequestQueue(100)
    queue.add(PendingRequest(b"", 9, read))
    assert [*queue.receive(said)] == []


def test_flags() -> None:
    """Flags are found by their letter."""
    reply = READ[2]
    assert (reply.number(b"f"), reply.number(b"t"), reply.flag(b"X")) == (5, -1, b"")
    assert (reply.number(b"c"), reply.number(b"X"), reply.flag(b"c")) == (None, None, None)


def test_names() -> None:
    """A key that is no word is said in base64; one that is too long, or empty, is not said."""
    assert name(b"plain") == b"plain"
    assert name("naïve".encode()) == "naïve".encode()
    assert name(b"a b") == b"YSBi b"
    assert name(b" " * 186) is not None
    assert name(b" " * 187) is None
    assert name(b"x" * 250) == b"x" * 250
    assert name(b"x" * 251) is None
    assert name(b"") is None
    assert store(b"YSBi b", b"v", 1, 2) == b"ms YSBi 1 b F1 T2\r\nv\r\n"
    assert concatenate(b"k", b"v", before=True) == b"ms k 1 MP\r\nv\r\n"
