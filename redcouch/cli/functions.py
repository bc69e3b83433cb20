"""C{redcouch functions}: the Redis Function library for native clients."""

from __future__ import annotations

import click
from redis.exceptions import ResponseError

from redcouch.backends.redis.url import RedisLocation
from redcouch.cli.common import CommandError, hash_storage_option
from redcouch.cli.storage import open_storage
from redcouch.native.functions import NAME, library


@click.group("functions")
def command() -> None:
    """
    Functions for native clients in any language: FCALL_RO redcouch_get 1 rc:key.

    For Redis 7 and later, and items in the layout of hashes.

    Exit status: 0 done; 2 the command line is wrong; 3 Redis cannot be reached, has no
    functions, or refuses (the library is there already).

    redis-cli FUNCTION LIST LIBRARYNAME redcouch says whether it is there, and
    redis-cli FUNCTION DELETE redcouch removes it.
    """


@command.command("load")
@click.option("--replace", is_flag=True, help="Take the place of a library that is there.")
@hash_storage_option
def load(storage: RedisLocation, replace: bool) -> None:
    """Load the library into Redis. It writes values in the encoding of the storage URL."""
    with open_storage(storage) as opened:
        try:
            opened.client.function_load(library(storage.layout), replace)  # to every master
        except ResponseError as error:
            if "unknown command" in str(error).lower():
                raise CommandError(
                    f"{storage.shown}: this Redis has no functions; 7.0 has"
                ) from None
            raise CommandError(f"{storage.shown}: {error}") from None
    click.echo(f"Loaded the library {NAME}.")


@command.command("dump")
@hash_storage_option
def dump(storage: RedisLocation) -> None:
    """Print the library that load would load, and ask no Redis."""
    click.echo(library(storage.layout))
