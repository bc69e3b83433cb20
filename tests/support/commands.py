"""A command of each kind."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass

from redcouch import commands
from redcouch.backends import fill_leases
from redcouch.commands import (
    Command,
    StoreMode,
)

K = b"k"


def kinds() -> list[type[Command]]:
    """Every command that there is, of clients and of whoever fills a storage."""
    named = {**vars(commands), **vars(fill_leases)}.values()
    found = [one for one in named if isinstance(one, type) and issubclass(one, Command)]
    return [kind for kind in found if is_dataclass(kind)]


def example(kind: type[Command]) -> Command:
    """A command of this kind, with as little said as can be."""
    given = {
        "mode": StoreMode.SET,
        "keys": [b"a", b"b"],
        "exptime": 0,
        "flags": 0,
        "delta": 1,
        "stale": True,
        "begin": 0.0,
        "end": 0.0,
        "most": 1,
        "token": 1,
        "version": 1,
        "names": [b"a"],
        "changes": {b"a": b"b"},
    }
    needed = [
        one
        for one in fields(kind)  # type: ignore[arg-type]
        if one.default is one.default_factory is MISSING
    ]
    return kind(**{one.name: given.get(one.name, b"k") for one in needed})
