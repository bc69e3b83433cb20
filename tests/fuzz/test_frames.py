"""Binary frames of every opcode whose lengths lie in every way."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import product

import pytest

from redcouch.dialects.detect import dialect_of
from redcouch.dialects.request import Dialect
from redcouch.limits import Limits
from tests.fuzz.feeding import feed, in_any_pieces

LIMITS = Limits(max_item_size=200)

_HEAD = struct.Struct(">BBHBBHIIQ")
OPAQUE, LAST = 0xDEADBEEF, 0x600DCAFE
LAST_FRAME = _HEAD.pack(0x80, 0x0A, 0, 0, 0, 0, 0, LAST, 0)

EXTRAS = (0, 1, 4, 8, 20, 255)
KEYS = (0, 1, 250, 251, 65535)
BODIES = (-1, 0, 1, 20, 400)
"""How much longer than extras and key a body is. Shorter is a lie that can be seen at once."""


TAKEN: dict[tuple[int, ...], tuple[tuple[int, ...], bool | None, bool]] = {
    (0x00, 0x09, 0x0C, 0x0D): ((0,), True, False),  # get
    (0x01, 0x02, 0x03, 0x11, 0x12, 0x13): ((8,), True, True),  # set, add, replace
    (0x04, 0x14): ((0,), True, False),  # delete
    (0x05, 0x06, 0x15, 0x16): ((20,), True, False),  # increment, decrement
    (0x07, 0x0A, 0x0B, 0x17): ((0,), False, False),  # quit, noop, version
    (0x08, 0x18): ((0, 4), False, False),  # flush
    (0x0E, 0x0F, 0x19, 0x1A): ((0,), True, True),  # append, prepend
    (0x10,): ((0,), None, False),  # stat
    (0x1B,): ((4,), False, False),  # verbosity
    (0x1C, 0x1D, 0x1E, 0x23, 0x24): ((4,), True, False),  # touch, get and touch
    (0x20,): ((0,), False, False),  # SASL: the list of mechanisms
    (0x21, 0x22): ((0,), True, True),  # SASL: authenticate, and go on
}
"""Of opcodes: the lengths of extras, whether there is a key (or may be), and a value."""

RULES = {opcode: rule for opcodes, rule in TAKEN.items() for opcode in opcodes}

FOR_EVERYBODY = (0x07, 0x0A, 0x0B, 0x17, 0x20)
"""Quit, noop, version, and the list of mechanisms."""


def refused(opcode: int, extras: int, key: int, more: int) -> int | None:
    """The status with which a connection ends by what the protocol says; C{None} if it goes on."""
    if more < 0:
        return 0x81
    if key > 250:
        return 0x04
    if opcode not in RULES:
        return None
    lengths, with_key, with_value = RULES[opcode]
    right = extras in lengths and with_key in (None, key > 0) and (with_value or more == 0)
    return None if right else 0x04


def make(guarded: bool) -> Dialect:
    return dialect_of("binary", LIMITS, guarded)


def said(reply: bytes) -> list[tuple[int, int, int]]:
    """Opcode, opaque and status of each answer; they have to be whole."""
    heard = []
    while reply:
        magic, opcode, _, _, _, status, body, opaque, _ = _HEAD.unpack_from(reply)
        assert magic == 0x81
        assert len(reply) >= 24 + body
        heard.append((opcode, opaque, status))
        reply = reply[24 + body :]
    return heard


def frame(opcode: int, extras: int, key: int, more: int) -> bytes:
    """One with all the bytes that its header promises."""
    body = extras + key + more
    return _HEAD.pack(0x80, opcode, key, extras, 0, 0, max(body, 0), OPAQUE, 0) + b"\1" * body


def lies() -> Iterator[tuple[int, int, int, int]]:
    """Opcode, and lengths of extras, key, and what is behind them."""
    for opcode, extras, key, more in product(range(256), EXTRAS, KEYS, BODIES):
        if extras + key + more >= 0:
            yield opcode, extras, key, more


def test_every_opcode_and_every_length() -> None:
    """
    Each answer is a whole frame that names the request. Where the lengths cannot be, there
    is one, and the connection ends; everywhere else the next frame is found where it is.
    """
    for opcode, extras, key, more in lies():
        status = refused(opcode, extras, key, more)
        data = frame(opcode, extras, key, more)
        heard, broken = feed(lambda: make(False), [data + LAST_FRAME])
        answers = [[said(reply) for reply in replies] for _, replies in heard]
        if status is not None:
            assert (broken, answers) == (True, [[[(opcode, OPAQUE, status)]]])
            continue
        assert not broken
        assert answers.pop() == [[(0x0A, LAST, 0)]]
        (told,) = answers
        assert {one[:2] for each in told for one in each} <= {(opcode, OPAQUE)}


def test_who_has_not_said_who_they_are() -> None:
    """Nothing succeeds before authentication but what is for everybody, whatever its lengths."""
    for opcode, extras, key, more in lies():
        data = frame(opcode, extras, key, more)
        heard, broken = feed(lambda: make(True), [data + LAST_FRAME], proven=False)
        assert len(heard) <= 2
        answers = [one for _, replies in heard for reply in replies for one in said(reply)]
        assert {one[:2] for one in answers} <= {(opcode, OPAQUE), (0x0A, LAST)}
        if not broken:
            assert answers[-1][:2] == (0x0A, LAST)
        if opcode not in FOR_EVERYBODY:
            assert all(status != 0 for _, opaque, status in answers if opaque == OPAQUE)


@pytest.mark.parametrize("opcode", range(0x26))
def test_a_body_that_is_not_there(opcode: int) -> None:
    """
    A length of up to 4 GiB, and little behind it: refused at once or waited for, however it
    arrives, and what it would be is never kept.
    """
    for extras in EXTRAS:
        for length in (extras + 2, 1 << 20, 1 << 30, (1 << 32) - 1):
            head = _HEAD.pack(0x80, opcode, 1, extras, 0, 0, length, OPAQUE, 0)
            heard, _ = in_any_pieces(lambda: make(False), head + b"\1" * (extras + 1))
            assert len(heard) <= 1
            if length > 1000:
                assert len(heard) == 1  # nobody waits for so much
