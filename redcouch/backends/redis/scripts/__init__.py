"""
The operations that have to happen in one step, one Lua file for each.

C{lib.lua} stands before every one of them. A script touches the item and the
CAS counter, both declared as keys, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script's name, its whole text and the SHA-1 by which Redis knows it."""

    name: str
    text: bytes
    sha: bytes


def _load(name: str) -> Script:
    folder = files(__name__)
    text = b"\n".join((folder / file).read_bytes() for file in ("lib.lua", f"{name}.lua"))
    return Script(name, text, sha1(text, usedforsecurity=False).hexdigest().encode())


SET = _load("set")
STORE = _load("store")
CONCAT = _load("concat")
ARITHMETIC = _load("arithmetic")
TOUCH = _load("touch")
GAT = _load("gat")
DELETE = _load("delete")
ASSIGN = _load("assign")
META = _load("meta")
WIN = _load("win")
INVALIDATE = _load("invalidate")
LIST = _load("list")
PROMOTE = _load("promote")

SCRIPTS = (
    SET,
    STORE,
    CONCAT,
    ARITHMETIC,
    TOUCH,
    GAT,
    DELETE,
    ASSIGN,
    META,
    WIN,
    INVALIDATE,
    LIST,
)
"""What the service runs; all are loaded before a connection is used."""
