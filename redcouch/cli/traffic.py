"""C{redcouch traffic}: who still speaks memcached, as the service has noted it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from redcouch.backends.redis.url import RedisLocation
from redcouch.backends.redis.usage_store import ROOT, SYSTEM_KEYS, read_replies, tell_senseless
from redcouch.cli.common import (
    NO,
    json_option,
    reader,
    show_key,
    storage_option,
    tell,
)
from redcouch.cli.storage import Storage, check, open_storage
from redcouch.telemetry.client_names import ClientNames
from redcouch.telemetry.usage import KINDS, Usage, UsageSample, read_application

_TITLES = {
    "application": "APPLICATION (address, user, prefix)",
    "client": "CLIENT",
    "user": "USER",
    "prefix": "PREFIX",
    "command": "COMMAND",
    "dialect": "DIALECT",
}


@click.command("traffic")
@click.option(
    "--client-names",
    "names",
    callback=reader(ClientNames),
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Names of clients: lines with an address or a network, and a name.",
)
@storage_option
@json_option
def command(names: ClientNames, storage: RedisLocation) -> None:
    """
    Show who still speaks memcached.

    The service looks twice a second who has spoken, and notes in Redis when each client
    (address), user, key prefix, command and dialect was last seen, and in how many seconds.
    No client that speaks is missed; of prefixes and commands, those of one request of each
    client are seen at a time. A prefix ends with the separator; (none) is of keys without one.

    Exit status 1: nothing has been noted yet.
    """
    with open_storage(storage) as opened:
        inventory, now = fetch(opened), opened.clock(ROOT)
    for key in inventory.senseless:
        click.echo(f"redcouch: {tell_senseless(key)}", err=True)
    tell(_as_json(inventory, names), _text(inventory, names, now))
    if inventory.since is None:
        raise click.exceptions.Exit(NO)


def fetch(storage: Storage) -> Usage:
    """What the services on this Redis have noted."""
    return read_replies(storage.pipeline(("HGETALL", key) for key in SYSTEM_KEYS), check)


def show_name(seen: UsageSample, names: ClientNames) -> str:
    """A name of the inventory, as text that can be printed."""
    if seen.kind == "application":
        host, user, prefix = map(show_key, read_application(seen.name))
        return f"{_show_host(host, names)}  {user or '-'}  {prefix or '(none)'}"
    shown = show_key(seen.name)
    return _show_host(shown, names) if seen.kind == "client" else shown or "(none)"


def _show_host(host: str, names: ClientNames) -> str:
    """An address, and what it is called."""
    name = names.of(host)
    return f"{host} ({name})" if name else host


def ago(seconds: float) -> str:
    """A span of time in its two largest units."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        number, left = divmod(left, size)
        if parts or number or unit == "s":
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])


def at(moment: float) -> str:
    """A moment, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def show_gap(gap: tuple[float, float]) -> str:
    """When nobody watched, in a clause."""
    begin, end = gap
    return f"nobody watched from {at(begin)} to {at(end)} ({ago(max(1, end - begin))})"


def _text(inventory: Usage, names: ClientNames, now: float) -> str:
    if inventory.since is None or inventory.looked is None:
        return "Nothing has been noted yet."
    looked, since = ago(now - inventory.looked), ago(now - inventory.since)
    lines = [f"Watched for {since} without a gap, last looked {looked} ago."]
    if inventory.gap is not None:
        lines.append(f"Before that, {show_gap(inventory.gap)}.")
    for kind in KINDS:
        found = list(inventory.of(kind))
        if found:
            lines.append(f"\n{'LAST SEEN':>12} {'SECONDS':>10}  {_TITLES[kind]}")
        for one in found:
            when = f"{ago(now - one.last) + ' ago':>12} {one.seconds:>10}"
            lines.append(f"{when}  {show_name(one, names)}")
    return "\n".join(lines)


def _as_json(inventory: Usage, names: ClientNames) -> dict[str, Any]:
    return {
        "since": inventory.since,
        "looked": inventory.looked,
        "gap": inventory.gap,
        **{kind: [_entry(one, names) for one in inventory.of(kind)] for kind in KINDS},
    }


def _entry(one: UsageSample, names: ClientNames) -> dict[str, Any]:
    when = {"last": one.last, "seconds": one.seconds}
    if one.kind == "application":
        host, user, prefix = map(show_key, read_application(one.name))
        called = names.of(host)
        return {"address": host, "called": called, "user": user, "prefix": prefix, **when}
    name = show_key(one.name)
    called = names.of(name) if one.kind == "client" else ""
    return {"name": name, **({"called": called} if called else {}), **when}
