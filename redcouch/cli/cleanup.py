"""C{redcouch cleanup}: what the bridge has left in Redis, removed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click

from redcouch.backends.redis.layout import SIDE, SYSTEM_PREFIX, StringLayout
from redcouch.backends.redis.url import RedisLocation
from redcouch.cli.common import (
    end,
    json_option,
    rate_option,
    show_key,
    storage_option,
    tell,
    work,
)
from redcouch.cli.progress import Stop, progress
from redcouch.cli.rate_limit import Pace
from redcouch.cli.recent_use import force_option, refuse_recent_use
from redcouch.cli.storage import BATCH, Storage, open_storage
from redcouch.native.items import batches


@click.command("cleanup")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Change nothing; say how many keys there are.")
@click.option(
    "--system",
    is_flag=True,
    help="Remove RedCouch's own keys too, redcouch:sys:*. They serve all prefixes of the database, "
    "so no RedCouch must be using it any more. Flags and CAS tokens of plain strings stay, but "
    "those of a storage with layout=string.",
)
@force_option
@rate_option
@storage_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    yes: bool,
    dry_run: bool,
    system: bool,
    force: bool,
    rate: float | None,
    storage: RedisLocation,
) -> None:
    """
    Remove every key under the storage's prefix.

    It counts them, asks, and removes them with SCAN and UNLINK. Nothing outside the prefix is
    touched, but with --system. Keys that are written meanwhile may stay: stop the service first,
    or run it again.

    With layout=string, the plain strings are your data by now, and stay. What is removed is what
    RedCouch keeps beside them: flags and CAS tokens, at redcouch:sys:item:PREFIX*.

    If memcached clients have used keys within the last hour, through any RedCouch on this
    database, nothing is removed without --force; nor if one with warm: would bring items back from
    the old memcacheds, or, with --system, one still runs.

    Exit status 1: keys were found and not removed, since you said no or clients use them.
    """
    if not (yes or dry_run or (sys.stdin and sys.stdin.isatty())):
        raise click.UsageError("there is nobody to ask: give --yes or --dry-run", ctx)
    removal = _Removal(_own(storage), system)
    agreed = not dry_run
    troubles: list[str] = []
    with work(troubles) as stop, open_storage(storage) as opened:
        if not force:
            refuse_recent_use(opened, b"*", system)
        removal.count(opened, stop)
        if not (yes or dry_run or stop.requested or not removal.found):
            agreed = _ask(removal, storage, stop)
        if agreed:
            removal.run(opened, Pace(rate, stop))
    facts = {"found": removal.found, "removed": removal.removed, "dry_run": dry_run}
    tell(facts | {"interrupted": stop.requested}, stop.mark + removal.text(dry_run))
    end(stop, troubles, removal.found and not (agreed or dry_run))


def _own(storage: RedisLocation) -> bytes:
    """What the keys begin with that RedCouch has put there for its items."""
    layout = storage.layout
    return (SIDE if isinstance(layout, StringLayout) else b"") + layout.prefix


def _ask(removal: _Removal, storage: RedisLocation, stop: Stop) -> bool:
    question = f"Remove {removal.found} keys under {removal.where} from {storage.shown}?"
    with stop.suspended():
        return click.confirm(question, err=True)


@dataclass
class _Removal:
    """
    @ivar found: keys there were when they were counted.
    @ivar removed: keys that are gone.
    """

    prefix: bytes
    system: bool
    found: int = 0
    removed: int = 0

    @property
    def where(self) -> str:
        own = [SYSTEM_PREFIX] if self.system else []
        return " and ".join(show_key(prefix) for prefix in (self.prefix, *own))

    def text(self, dry_run: bool) -> str:
        if dry_run:
            return f"would remove {self.found} keys under {self.where}"
        return f"removed {self.removed} of {self.found} keys under {self.where}"

    def count(self, storage: Storage, stop: Stop) -> None:
        """See how many there are."""
        with progress("counting") as advance:
            for keys in batches(self._keys(storage), BATCH):
                if stop.requested:
                    return
                self.found += len(keys)
                advance(len(keys))

    def run(self, storage: Storage, pace: Pace) -> None:
        """Remove them, until it is to stop."""
        with progress("removing", self.found) as advance:
            for keys in pace.portions(self._keys(storage), BATCH):
                self.removed += storage.unlink(keys)
                advance(len(keys))

    def _keys(self, storage: Storage) -> Iterator[bytes]:
        """Whole keys in Redis."""
        yield from storage.scan_own()
        if self.system:
            found = storage.scan_keys(SYSTEM_PREFIX + b"*")
            yield from (key for key in found if not key.startswith(SIDE))
