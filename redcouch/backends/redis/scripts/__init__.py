"""
The operations that have to happen in one step, one Lua file for each.

Of C{lib.lua} what it needs stands before every one of them. A script touches the item and the
CAS counter, both declared as keys, and nothing else; on a cluster, the item
alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script's name, its whole text and the SHA-1 by which Redis knows it."""

    name: str
    text: bytes
    sha: bytes


def load(name: str, *before: str) -> Script:
    """
    The script in a file, with what it needs of C{lib} before it, and what is to be before
    that.
    """
    own = _read(name)
    text = b"\n".join((*map(_read, before), _needed(own), own))
    return Script(name, text, sha1(text, usedforsecurity=False).hexdigest().encode())


@cache
def _read(name: str) -> bytes:
    return (files(__name__) / f"{name}.lua").read_bytes()


_WORD = re.compile(rb"\w+")
_DEFINITION = re.compile(rb"^local (?:function )?(\w+(?:, \w+)*)", re.MULTILINE)


@cache
def _parts() -> list[tuple[bytes, set[bytes], set[bytes]]]:
    """The parts of C{lib}, divided by blank lines: text, what it defines, and all its words."""
    parts = re.split(rb"\n\n(?=\S)", _read("lib"))
    defined = [_WORD.findall(b" ".join(_DEFINITION.findall(part))) for part in parts]
    return [
        (part, {*names}, {*_WORD.findall(part)}) for part, names in zip(parts, defined, strict=True)
    ]


def _needed(text: bytes) -> bytes:
    """
    The parts of C{lib} that this text needs: Redis makes every function anew each time that a
    script is called. No part needs one behind it.
    """
    needed: list[bytes] = []
    words = {*_WORD.findall(text)}
    for part, defined, its in reversed(_parts()):
        if not defined.isdisjoint(words):
            needed.insert(0, part)
            words |= its
    return b"\n\n".join(needed)


SET = load("set", "usual_set")
STORE = load("store")
CONCAT = load("concat")
ARITHMETIC = load("arithmetic")
TOUCH = load("touch")
GAT = load("gat")
DELETE = load("delete")
ASSIGN = load("assign")
META = load("meta")
WIN = load("win")
PROBE = load("probe")
INVALIDATE = load("invalidate")
LIST = load("list")
PROMOTE = load("promote")
PLACE = load("place")
READ = load("read")
LEASE = load("lease", "fill_leases")
FILL = load("fill", "fill_leases")
DENY = load("deny", "members", "denials")
ALLOW = load("allow", "fill_leases")
REVOKE = load("revoke")
BEAT = load("beat", "members", "denials")
FRESH = load("fresh")
ANNOUNCE = load("announce", "members")
COMMIT = load("commit", "members")
"""These two are for the command that changes the stage."""

ITEM_LEASE = load("item_lease")
ITEM_FILL = load("item_fill")
STATE_BEAT = load("state_beat", "members")
MEMBER_BEAT = load("member_beat", "members")
DENIALS_ADD = load("denials_add")
DENIALS_REMOVE = load("denials_remove")

BEGIN = load("begin")
SETTLE = load("settle")
"""These two are always sent whole: in a transaction, they must not be found missing."""

WATCH, NOTE, REPLACE, WRITE = map(_read, ("watch", "note", "replace", "write"))
"""These are about no item, and always sent whole."""


def write(key: bytes, *command: bytes) -> tuple[bytes, ...]:
    """A command that writes there, and its arguments behind the key; a full Redis takes it, too."""
    return (b"EVAL", WRITE, b"1", key, *command)


_READ = (GAT, ASSIGN, META, WIN, PROBE, LIST)
_CHANGE = (SET, STORE, CONCAT, ARITHMETIC, TOUCH, DELETE, INVALIDATE)

SCRIPTS = (*_READ, *_CHANGE, LEASE, FILL, DENY, ALLOW, REVOKE, BEAT, FRESH)
"""What the service calls by SHA-1; all are loaded before a connection is used."""

_ONE_KEY = (ITEM_LEASE, ITEM_FILL, STATE_BEAT, MEMBER_BEAT, DENIALS_ADD, DENIALS_REMOVE)

CLUSTER_SCRIPTS = (*_READ, *_CHANGE, *_ONE_KEY)
"""The same for a cluster: each has one key."""
