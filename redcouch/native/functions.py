"""
The Redis Function library: the service's scripts, as functions that any native
client can call (Redis 7 or later). For the hash layout; a plain string needs none.
"""

from __future__ import annotations

from importlib.resources import files

from redcouch.backends.redis.layout import CAS_COUNTER, Layout

NAME = "redcouch"
"""The library's name in Redis; its functions begin with it."""

_SCRIPTS = ("store", "concat", "arithmetic", "delete", "touch")


def library(layout: Layout) -> str:
    """The library's text, for C{FUNCTION LOAD}; it writes as this layout says."""
    scripts = files("redcouch.backends.redis.scripts")
    lib = (scripts / "lib.lua").read_text()
    own = (files(__package__) / "functions.lua").read_text()
    counter = "nil" if layout.cluster else f"'{CAS_COUNTER.decode()}'"
    parts = [
        f"#!lua name={NAME}",
        f"local FIELD = '{layout.field.decode()}'",
        f"local COUNTER = {counter}",
    ]
    for name in _SCRIPTS:
        body = (scripts / f"{name}.lua").read_text()
        parts.append(f"local function {name}(KEYS, ARGV)\n{lib}\n{body}end\n")
    return "\n".join([*parts, own])
