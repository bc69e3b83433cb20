"""C{redcouch inspect}: one item, decoded."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import click

from redcouch.backends.redis.layout import NO_CAS
from redcouch.backends.redis.url import RedisLocation
from redcouch.cli.common import (
    CommandError,
    Refusal,
    json_option,
    key_argument,
    show_key,
    storage_option,
    tell,
    wants_json,
)
from redcouch.cli.storage import StoredItem, open_storage
from redcouch.results import Item

_SHOWN = 256
"""Bytes of a value that are shown."""


@click.command("inspect")
@click.argument("key")
@click.option("--encoded", is_flag=True, help="KEY is percent-encoded, as ls shows it.")
@click.option("--raw", is_flag=True, help="Write the value's bytes, and nothing else.")
@click.option("--full", is_flag=True, help=f"Show more than {_SHOWN} bytes of a value.")
@storage_option
@json_option
def command(key: str, encoded: bool, raw: bool, full: bool, storage: RedisLocation) -> None:
    """
    Show the item of KEY, the key as memcached clients know it, without the prefix.

    A value that is text is shown as text, with \\n and the like for what cannot be printed;
    another in hex. --json has the whole value, as text if it is UTF-8, and in base64.

    Exit status 1: there is no such item.
    """
    if raw and wants_json():
        raise click.UsageError("--raw: not with --json, which has the value in base64")
    name = key_argument(key, encoded)
    with open_storage(storage) as opened:
        (stored,) = opened.read([name])
        redis_key = opened.redis_key(name)
    if stored.fault is not None:
        raise CommandError(f"{show_key(name)}: {stored.fault}")
    if stored.item is None:
        raise Refusal(f"{show_key(name)}: there is no such item")
    if raw:
        click.echo(stored.item.value, nl=False)
    else:
        about = (name, redis_key, stored, stored.item)
        tell(_json(*about), _text(*about, full))


def _text(key: bytes, redis_key: bytes, stored: StoredItem, item: Item, full: bool) -> str:
    ttl = "for ever" if stored.ttl is None else f"{stored.ttl:.3f} s"
    cas = "none yet" if item.cas == NO_CAS else str(item.cas)
    return "\n".join(
        (
            f"key       {show_key(key)}",
            f"in Redis  {show_key(redis_key)}",
            f"size      {len(item.value)}",
            f"flags     {item.flags}",
            f"cas       {cas}",
            f"ttl       {ttl}",
            f"encoding  {stored.encoding}",
            f"value     {show_value(item.value, len(item.value) if full else _SHOWN)}",
        )
    )


def _json(key: bytes, redis_key: bytes, stored: StoredItem, item: Item) -> dict[str, Any]:
    try:
        text = item.value.decode()
    except UnicodeDecodeError:
        text = None
    return {
        "key": show_key(key),
        "redis_key": show_key(redis_key),
        "size": len(item.value),
        "flags": item.flags,
        "cas": None if item.cas == NO_CAS else item.cas,
        "ttl": stored.ttl,
        "encoding": stored.encoding,
        "value": text,
        "value_base64": b64encode(item.value).decode(),
    }


def show_value(value: bytes, most: int) -> str:
    """A value's beginning as text that cannot harm a terminal; in hex if it is no text."""
    more = f" ... ({len(value) - most} bytes more)" if len(value) > most else ""
    piece = value[:most]
    try:
        text = piece.decode("utf-8", "strict" if not more else "ignore")
    except UnicodeDecodeError:
        return f"hex {piece.hex()}{more}"
    if more and len(text.encode()) < len(piece) - 3:  # more than a character cut in two
        return f"hex {piece.hex()}{more}"
    return "".join(char if char.isprintable() else _escape(char) for char in text) + more


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()
