"""
The Redis Function library: the service's scripts, as functions that any native
client can call (Redis 7 or later). For the hash layout; a plain string needs none.
"""

from __future__ import annotations

from importlib.resources import files

NAME = "redcouch"
"""The library's name in Redis; its functions begin with it."""

_SCRIPTS = ("store", "concat", "arithmetic", "delete", "touch")


def library(raw: bool = False) -> str:
    """
    The library's text, for C{FUNCTION LOAD}.

    @param raw: values are written as they are, and not in hex: what the
        C{encoding} of the storage URL says.
    """
    scripts = files("redcouch.backends.redis.scripts")
    lib = (scripts / "lib.lua").read_text()
    own = (files(__package__) / "functions.lua").read_text()
    fields = ("r", "v") if raw else ("v", "r")
    parts = [f"#!lua name={NAME}", "local FIELD, OTHER = '{}', '{}'".format(*fields)]
    for name in _SCRIPTS:
        body = (scripts / f"{name}.lua").read_text()
        parts.append(f"local function {name}(KEYS, ARGV)\n{lib}\n{body}end\n")
    return "\n".join([*parts, own])
