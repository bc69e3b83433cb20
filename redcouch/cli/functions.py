"""C{redcouch functions}: the Redis Function library for native clients."""

from __future__ import annotations

from typing import Any

import click
from redis.exceptions import ResponseError

from redcouch.backends.redis.url import Location
from redcouch.cli.common import Trouble, hash_storage_option
from redcouch.cli.storage import open_storage
from redcouch.native.functions import NAME, library


@click.group("functions")
def command() -> None:
    """
    Functions for native clients in any language: FCALL_RO redcouch_get 1 rc:key.

    For Redis 7 and later, and items in the layout of hashes.

    Exit status: 0 done; 2 the command line is wrong; 3 Redis cannot be reached, has no
    functions, or refuses (the library is there already, or is not there).
    """


@command.command("load")
@click.option("--replace", is_flag=True, help="Take the place of a library that is there.")
@hash_storage_option
def load(storage: Location, replace: bool) -> None:
    """Load the library into Redis. It writes values in the encoding of the storage URL."""
    words = ("REPLACE",) if replace else ()
    _ask(storage, "FUNCTION", "LOAD", *words, library(storage.layout.raw))
    click.echo(f"Loaded the library {NAME}.")


@command.command("dump")
@hash_storage_option
def dump(storage: Location) -> None:
    """Print the library that load would load, and ask no Redis."""
    click.echo(library(storage.layout.raw))


@command.command("list")
@hash_storage_option
def list_functions(storage: Location) -> None:
    """Name the functions that are loaded, one a line."""
    for name in _loaded(storage):
        click.echo(name)


@command.command("delete")
@hash_storage_option
def delete(storage: Location) -> None:
    """Remove the library from Redis."""
    _ask(storage, "FUNCTION", "DELETE", NAME)
    click.echo(f"Removed the library {NAME}.")


def _loaded(storage: Location) -> list[str]:
    reply = _ask(storage, "FUNCTION", "LIST", "LIBRARYNAME", NAME)
    if not reply:
        raise Trouble(f"{storage.shown}: the library {NAME} is not loaded")
    (found,) = reply
    fields = dict(zip(found[::2], found[1::2], strict=True))
    functions = (dict(zip(one[::2], one[1::2], strict=True)) for one in fields[b"functions"])
    return sorted(one[b"name"].decode() for one in functions)


def _ask(storage: Location, *words: str) -> Any:
    with open_storage(storage) as opened:
        try:
            return opened.client.execute_command(*words)
        except ResponseError as error:
            if "unknown command" in str(error).lower():
                raise Trouble(f"{storage.shown}: this Redis has no functions; 7.0 has") from None
            raise Trouble(f"{storage.shown}: {error}") from None
