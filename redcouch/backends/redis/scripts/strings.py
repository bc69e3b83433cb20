"""The same operations where items are plain strings: C{strings.lua} before each."""

from __future__ import annotations

from redcouch.backends.redis.scripts import BEAT, DENY, FRESH, REVOKE, load

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
PROBE = load("probe", "strings")
RESERVED = load("reserved", "strings")
LEASE = load("lease", "strings", "fill_leases")
FILL = load("fill", "strings", "fill_leases")
ALLOW = load("allow", "strings", "fill_leases")

_READ = (GAT, META, LIST, READ, PROBE, RESERVED)
_CHANGE = (SET, STORE, CONCAT, ARITHMETIC, TOUCH, DELETE, INVALIDATE)

SCRIPTS = (*_READ, *_CHANGE, LEASE, FILL, DENY, ALLOW, REVOKE, BEAT, FRESH)
"""Every script; all are loaded before a connection is used."""
