"""Tells RedCouch of C{example:}. Nothing is imported before it is chosen."""

from redcouch.backends.registry import BackendMaker

example = BackendMaker(
    "example", "redcouch_example", "items in SQLite: example: or example:/path/to/file"
)
