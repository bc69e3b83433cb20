"""What every room may rely on about every command."""

from __future__ import annotations

import pytest

from redcouch.backends import fill_leases
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Effect,
    Flush,
    Get,
    GetAndTouch,
    Inspect,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)
from tests.support.commands import K, example, kinds

ADD, APPEND, PREPEND, REPLACE, SET = (
    StoreMode.ADD,
    StoreMode.APPEND,
    StoreMode.PREPEND,
    StoreMode.REPLACE,
    StoreMode.SET,
)


@pytest.mark.parametrize("kind", kinds())
def test_every_command(kind: type[Command]) -> None:
    """What is said of a command agrees with itself, and costs no dictionary per command."""
    command = example(kind)
    assert not hasattr(command, "__dict__")
    if hasattr(command, "key"):
        assert command.keys == (K,)
    if command.reply_only:
        assert command.effect is Effect.READ
        assert not command.creates
    if command.effect in (Effect.READ, Effect.CHANGE, Effect.REMOVE):
        assert command.keys
    if command.local:
        assert command.effect is Effect.NONE


@pytest.mark.parametrize(
    ("command", "effect", "exptime", "conditional", "creates"),
    [
        (Get([K]), Effect.READ, None, True, False),
        (GetAndTouch([K], 5), Effect.CHANGE, 5, True, False),
        (Inspect(K), Effect.READ, None, True, False),
        (MetaGet(K), Effect.READ, None, True, False),
        (MetaGet(K, recache=30), Effect.READ, None, True, False),
        (MetaGet(K, touch=5), Effect.CHANGE, 5, True, False),
        (MetaGet(K, vivify=5), Effect.CHANGE, None, True, True),
        (Store(SET, K, b"", exptime=5), Effect.CHANGE, 5, False, True),
        (Store(SET, K, b"", compare=1), Effect.CHANGE, 0, True, False),
        (Store(ADD, K, b""), Effect.CHANGE, 0, True, True),
        (Store(REPLACE, K, b""), Effect.CHANGE, 0, True, False),
        (Store(APPEND, K, b"", exptime=-1), Effect.CHANGE, None, True, False),
        (Store(PREPEND, K, b"", vivify=0), Effect.CHANGE, None, True, True),
        (Arithmetic(K, 1), Effect.CHANGE, None, True, False),
        (Arithmetic(K, 1, initial=1, touch=5), Effect.CHANGE, 5, True, True),
        (Touch(K, 5), Effect.CHANGE, 5, True, False),
        (Delete(K), Effect.REMOVE, None, False, False),
        (Delete(K, compare=1), Effect.REMOVE, None, True, False),
        (Invalidate(K, stale=True), Effect.REMOVE, None, True, False),
        (Discard(K), Effect.REMOVE, None, False, False),
        (Flush(), Effect.FLUSH, None, False, False),
    ],
)
def test_traits(
    command: Command, effect: Effect, exptime: int | None, conditional: bool, creates: bool
) -> None:
    """What layers around a storage, and the session, decide by."""
    assert (command.effect, command.new_exptime) == (effect, exptime)
    assert (command.conditional, command.creates) == (conditional, creates)


def test_what_may_be_left_out() -> None:
    """A read whose client is gone changes nothing; a read that touches or creates does."""
    reads: list[Command] = [Get([K]), MetaGet(K), MetaGet(K, metadata=True), Inspect(K)]
    others: list[Command] = [
        GetAndTouch([K], 5),
        MetaGet(K, touch=5),
        MetaGet(K, vivify=5),
        MetaGet(K, recache=5),
        Store(SET, K, b""),
        Touch(K, 5),
        Delete(K),
        fill_leases.RevokeAllLeases(),
        fill_leases.CountDenied(),
    ]
    assert all(command.reply_only for command in reads)
    assert not any(command.reply_only for command in others)


def test_misses() -> None:
    """Only what reads, and creates nothing, has a miss for a result."""
    assert Get([K, K]).miss() == [None, None]
    assert GetAndTouch([K], 5).miss() == [None]
    assert MetaGet(K, touch=5).miss() is None
    for command in (MetaGet(K, vivify=5), Store(SET, K, b""), Inspect(K), Delete(K), Flush()):
        assert command.miss() is NotImplemented
