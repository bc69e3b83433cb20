"""C{redcouch sweep}: what nobody has asked for yet, brought over beside a running bridge."""

from __future__ import annotations

import time

import click

from redcouch.backends.origin.stages import Stage
from redcouch.cli.common import NO, json_option, rate_option
from redcouch.cli.import_items import Copier, ImportCounts, show_counts
from redcouch.cli.progress import Stop
from redcouch.cli.rate_limit import Pace
from redcouch.cli.warm_storage import (
    WarmLocation,
    WarmStorage,
    open_warm_storage,
    warm_storage_option,
)
from redcouch.errors import ServerError


@click.command("sweep")
@warm_storage_option
@rate_option
@json_option
def command(warm: WarmLocation, rate: float | None, as_json: bool) -> None:
    """
    Bring over what nobody has asked for yet, while RedCouch serves a storage with warm:.

    Each item is claimed as RedCouch does it, so that nothing comes back that a client deletes or
    changes meanwhile. To go on after Ctrl-C or a lost connection, run it again: what is there
    already is passed over. When it has come to its end in the stage redis-first, the next one is
    possible: redcouch stage redis-only.

    Exit status 1: some items failed, or the stage does not allow it. 3: a memcached or the
    storage failed.
    """
    origin = warm.origin
    if origin is None:
        raise click.UsageError("give the storage as the service has it, with warm: and from=")
    counts = ImportCounts()
    began = time.monotonic()
    with Stop() as stop:
        try:
            with open_warm_storage(warm) as opened:
                version = _version(opened)
                copier = Copier(opened.storage, origin.ring, True, stop, Pace(rate, stop), counts)
                for place, address in enumerate(origin.nodes):
                    copier.copy_node(place, address)
                whole = not (counts.troubles or counts.counts["failed"] or stop.requested)
                if whole:
                    opened.note(swept=version)
        except ServerError as error:
            counts.troubles.append(str(error))
    counts.seconds = time.monotonic() - began
    show_counts(counts, stop, as_json)
    raise click.exceptions.Exit(stop.status or (NO if counts.counts["failed"] else 0))


def _version(opened: WarmStorage) -> int:
    """The stage's, if this is one in which something may be brought over."""
    status = opened.status()
    if status.stage is Stage.REDIS_ONLY:
        click.echo("redcouch: nothing is brought over in the stage redis-only", err=True)
        raise click.exceptions.Exit(NO)
    if status.pending is None:
        click.echo("redcouch: the old memcacheds have missed too much to be believed", err=True)
        raise click.exceptions.Exit(NO)
    return status.version
