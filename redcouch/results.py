"""
What can come back for a command, in no dialect.

Like L{redcouch.commands}: slotted objects, immutable by convention.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias


class Outcome(Enum):
    """How a command ended, where there is nothing more to say."""

    OK = "ok"
    NOT_STORED = "not stored"
    EXISTS = "exists"
    NOT_FOUND = "not found"
    DELETED = "deleted"
    TOUCHED = "touched"
    NON_NUMERIC = "non-numeric"


class Trouble(Enum):
    """Why a backend could not do what it was asked."""

    UNAVAILABLE = "storage not available"
    OUT_OF_MEMORY = "out of memory"
    WRONG_TYPE = "wrong type"
    UNREADABLE = "unreadable"
    REFUSED = "refused"
    INTERNAL = "internal error"


@dataclass(slots=True)
class Item:
    """A stored item: its value, its 32 bits of client flags, its CAS token."""

    value: bytes
    flags: int
    cas: int


@dataclass(slots=True)
class Stored:
    """An item was stored and now carries this CAS token."""

    cas: int


@dataclass(slots=True)
class Number:
    """What an arithmetic command left behind."""

    value: int
    cas: int


@dataclass(slots=True)
class Failed:
    """
    The backend's failure to perform one command. Nothing is known to have
    changed. C{message} is one line that may be shown to a client: it holds no
    value, no password and no line break.
    """

    trouble: Trouble
    message: str


#: An entry of a L{Get<redcouch.commands.Get>}'s result.
Found: TypeAlias = Item | Failed | None

#: What L{IStorageBackend.execute<redcouch.interfaces.IStorageBackend.execute>}
#: answers for one command: C{list[Found]}, L{Stored}, L{Number}, L{Outcome} or
#: L{Failed}. Each command's docstring says which.
Result: TypeAlias = Any
