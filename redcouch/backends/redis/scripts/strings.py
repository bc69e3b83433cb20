"""The same operations where items are plain strings: C{strings.lua} before each."""

from __future__ import annotations

from redcouch.backends.redis.scripts import load

SET = load("set", "strings")
STORE = load("store", "strings")
CONCAT = load("concat", "strings")
ARITHMETIC = load("arithmetic", "strings")
TOUCH = load("touch", "strings")
GAT = load("gat", "strings")
DELETE = load("delete", "strings")
META = load("meta", "strings")
INVALIDATE = load("invalidate", "strings")
LIST = load("list", "strings")
READ = load("read", "strings")
RESERVED = load("reserved", "strings")
CLAIM = load("claim", "strings", "filling")
FILL = load("fill", "strings", "filling")
BAR = load("bar")

SCRIPTS = (
    SET,
    STORE,
    CONCAT,
    ARITHMETIC,
    TOUCH,
    GAT,
    DELETE,
    META,
    INVALIDATE,
    LIST,
    READ,
    RESERVED,
    CLAIM,
    FILL,
    BAR,
)
"""Every script; all are loaded before a connection is used."""
