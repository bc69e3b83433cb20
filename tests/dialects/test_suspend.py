"""A client goes on in another process: what a dialect has of it, given to a new one, is enough."""

from __future__ import annotations

import struct

import pytest

from redcouch.dialects.detect import dialect_of
from redcouch.dialects.request import Dialect
from redcouch.limits import Limits
from tests.dialects.reading import asked, receive, said
from tests.support.frames import frame

LIMITS = Limits(max_item_size=1024)


TEXT = (
    b"set a 1 0 12\r\nva\r\nl\0ue12345\r\nget a b\r\n"
    b"set large 0 0 3000 noreply\r\n" + b"x" * 3000 + b"\r\nms b 2 c\r\nxy\r\n"
    b"set typed 0 0 1\nz\r\nbad line\r\ncas k 0 0 2 9\r\nab\r\n"
    b"set wrong 0 0 1\r\nxyz\r\nversion\r\n"
)
STORE = struct.pack(">II", 7, 0)
BINARY = (
    frame(0x01, b"a", STORE, b"value" * 9, cas=3)
    + frame(0x00, b"a")
    + frame(0x01, b"large", STORE, b"x" * 3000)
    + frame(0x0E, b"a", b"", b"more")
    + frame(0x7E, b"odd", b"", b"?" * 20)
    + frame(0x0A)
)


def moved(dialect: Dialect, name: str, guarded: bool) -> Dialect:
    """The dialect with which another process goes on."""
    assert not dialect.pending
    assert not dialect.waiting
    unread, skip = dialect.suspend()
    other = dialect_of(name, LIMITS, guarded)
    other.skip(skip)
    assert other.receive(unread) == [], "nothing is understood twice"
    return other


@pytest.mark.parametrize(("name", "data"), [("text", TEXT), ("binary", BINARY)])
@pytest.mark.parametrize("pieces", [1, 7, 900])
def test_moved_anywhere(name: str, data: bytes, pieces: int) -> None:
    """Wherever the bytes are cut, the same is asked, and answered, as by one dialect."""
    expected = receive(dialect_of(name, LIMITS), [data])
    dialect, found = dialect_of(name, LIMITS), []
    for place in range(0, len(data), pieces):
        found += receive(dialect, [data[place : place + pieces]])
        dialect = moved(dialect, name, False)
    assert asked(found) == asked(expected)
    local = [request for request in expected if request.command.local]
    assert said([one for one in found if one.command.local]) == said(local)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text", b"version\r\nset x 0 0 9\r\nme secret\r\n"),
        (
            "text",
            b"get x\r\nset big 0 0 5000\r\n" + b"x" * 5000 + b"\r\nset x 0 0 9\r\nme secret\r\n",
        ),
        ("binary", frame(0x0A) + frame(0x21, b"PLAIN", b"", b"\0me\0secret")),
    ],
)
def test_moved_before_it_is_known(name: str, data: bytes) -> None:
    """So with one who has yet to prove who it is."""
    dialect, found = dialect_of(name, LIMITS, True), []
    for place in range(len(data)):
        found += receive(dialect, [data[place : place + 1]])
        if not dialect.waiting:
            dialect = moved(dialect, name, True)
    *_, last = found
    assert (last.command.user, last.command.password) == (b"me", b"secret")  # type: ignore[attr-defined]
    expected = receive(dialect_of(name, LIMITS, True), [data])
    assert said(found[:-1]) == said(expected[:-1])
