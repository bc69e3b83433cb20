"""What all subcommands have in common: their options, how they print, and how they end."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar
from urllib.parse import unquote_to_bytes

import click

from redcouch.backends.redis.layout import StringLayout
from redcouch.backends.redis.url import RedisLocation
from redcouch.cli import Interrupt
from redcouch.cli.progress import Stop
from redcouch.cli.storage import read_storage
from redcouch.errors import ConfigurationError, ServerError
from redcouch.memcached_client.address import read_address
from redcouch.urls import DEFAULT_STORAGE, STORAGE_VARIABLE

NO = 1
"""Exit status: the answer is no, the sides differ, or something was left undone."""

FAILED = 3
"""Exit status: a server cannot be reached, or failed."""

_FACTS = "redcouch.facts"
"""Where a command's context keeps what is to be printed as JSON; nowhere without C{--json}."""

_SPAN = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Function = TypeVar("Function", bound=Callable[..., Any])


class CommandError(click.ClickException):
    """Ends the command with one line on standard error and status 3."""

    exit_code = FAILED

    def show(self, file: Any = None) -> None:
        click.echo("redcouch: " + " ".join(self.message.split()), file=file, err=True)


class Refusal(CommandError):  # noqa: N818 - nothing went wrong
    """Ends the command with status 1, and with what may be several lines: the answer is no."""

    exit_code = NO

    def show(self, file: Any = None) -> None:
        click.echo(f"redcouch: {self.message}", file=file, err=True)


class Interrupted(CommandError):  # noqa: N818 - nothing went wrong
    """Ends the command because somebody wanted it to, at once."""

    def __init__(self, interrupt: Interrupt, text: str = "interrupted") -> None:
        super().__init__(text)
        self.exit_code = interrupt.code  # type: ignore[misc, assignment]


class Finite(click.FloatRange):
    """A range without nan, which is in every range, and without inf."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number to reckon with.", param, ctx)
        return number


def read_span(ctx: click.Context, param: click.Parameter, text: str) -> int:
    """
    A span of time on the command line, in seconds. It needs its unit: who writes 24 and means
    hours must not be told of seconds.
    """
    match = _SPAN.fullmatch(text)
    seconds = int(match[1]) * _UNITS.get(match[2], 0) if match else 0
    if not seconds:
        why = ": the unit is missing" if text.isdigit() else ""
        raise click.BadParameter(
            f"{text!r} is no span of time such as 90s, 30m, 24h or 7d{why}", ctx, param
        )
    return seconds


def reader(read: Callable[[Any], Any]) -> Callable[..., Any]:
    """A callback for what is on the command line: what this makes of it, or what is wrong there."""

    def convert(ctx: click.Context, param: click.Parameter | None, value: Any) -> Any:
        try:
            return read(value)
        except (ConfigurationError, ValueError) as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return convert


read_storage_url = reader(read_storage)
"""A storage URL: a L{RedisLocation}."""

read_nodes = reader(lambda urls: [*map(read_address, urls)])
"""Several memcacheds: L{Address} each."""


def storage_url_option(
    *names: str,
    read: Callable[..., Any] = read_storage_url,
    text: str = "Storage URL, as the service takes it.",
) -> Callable[[Function], Function]:
    """
    An option of any name that takes a storage URL. It gives a L{RedisLocation}, or what C{read}
    makes of it.
    """
    return click.option(
        *names,
        callback=read,
        metavar="URL",
        envvar=STORAGE_VARIABLE,
        default=DEFAULT_STORAGE,
        show_default=True,
        show_envvar=True,
        help=text,
    )


def _read_hash_storage(ctx: click.Context, param: click.Parameter, url: str) -> RedisLocation:
    location: RedisLocation = read_storage_url(ctx, param, url)
    if isinstance(location.layout, StringLayout):
        raise click.BadParameter(
            f"{location.shown}: with layout=string items are plain strings already; "
            f"{ctx.command_path} is for the layout of hashes",
            ctx,
            param,
        )
    return location


storage_option = storage_url_option("-s", "--storage")
"""C{--storage}, for the argument C{storage}: a L{RedisLocation}."""

hash_storage_option = storage_url_option("-s", "--storage", read=_read_hash_storage)
"""The same for a command that is for items in the layout of hashes only."""


def show_option(text: str) -> Callable[[Function], Function]:
    """C{--show}, for the argument C{show}: how many of what was found to name."""
    return click.option(
        "--show",
        type=click.IntRange(min=0),
        default=20,
        show_default=True,
        metavar="N",
        help=text,
    )


nodes_argument = click.argument(
    "nodes", metavar="MEMCACHED...", nargs=-1, required=True, callback=read_nodes
)
"""One or several memcacheds, for the argument C{nodes}: L{Address} each."""

ring_option = click.option(
    "--ring",
    metavar="SCHEME",
    help=(
        "By which ring the clients divide keys among the memcacheds, as ketama or "
        "'twemproxy&hash=murmur'. Needed where there are several."
    ),
)
"""C{--ring}, for the argument C{ring}: what L{ring_of} takes."""

rate_option = click.option(
    "--rate",
    type=Finite(min=0, min_open=True),
    metavar="N",
    help="At most N items a second. Default: as fast as it goes.",
)
"""C{--rate}, for the argument C{rate}."""


def _begin_json(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.meta[_FACTS] = {}


json_option = click.option(
    "--json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_begin_json,
    help='Print JSON, for programs to read. What goes wrong is its "error".',
)
"""C{--json}, of which L{wants_json} tells; L{end_json} says the rest."""


def wants_json() -> bool:
    """Whether the command has C{--json}."""
    return _FACTS in click.get_current_context().meta


def end_json(ctx: click.Context, error: str | None) -> None:
    """Print what a command has told by L{give_json}, if it had C{--json}, and what went wrong."""
    if _FACTS in ctx.meta:
        facts = ctx.meta[_FACTS] | ({} if error is None else {"error": error})
        if facts:
            echo_json(facts)


def refuse(why: str) -> None:
    """
    Say why nothing is done, where there is a reason.

    @raise Refusal: there is one.
    """
    if why:
        raise Refusal(why)


def give_json(facts: dict[str, Any]) -> None:
    """Have this printed when the command ends, with what went wrong, if something did."""
    click.get_current_context().meta[_FACTS] = facts


def tell(facts: dict[str, Any], text: str) -> None:
    """Give the one, as L{give_json} does, where the command has C{--json}, and print the other."""
    if wants_json():
        give_json(facts)
    else:
        click.echo(text)


@contextmanager
def work(troubles: list[str]) -> Iterator[Stop]:
    """Around what takes long. A server that fails ends it, and is noted among the troubles."""
    with Stop() as stop:
        try:
            yield stop
        except ServerError as error:
            troubles.append(str(error))


def end(stop: Stop, troubles: Sequence[str], undone: object, refused: str = "") -> NoReturn:
    """
    End the command after such work with the status that says how it went.

    @param refused: why the rest is not done, where nobody has ended it.
    """
    if troubles:
        raise CommandError("; ".join(troubles))
    refuse("" if stop.requested else refused)
    raise click.exceptions.Exit(stop.status or (NO if undone else 0))


def echo_json(value: Any) -> None:
    """Print a value as one line of JSON, in ASCII, which any locale has."""
    click.echo(json.dumps(value))


def key_argument(text: str, encoded: bool) -> bytes:
    """A key as it stands on the command line, or percent-encoded as L{show_key} writes it."""
    raw = os.fsencode(text)
    return unquote_to_bytes(raw) if encoded else raw


def show_key(key: bytes) -> str:
    """
    A key as text that can be printed, and undone: bytes that are no printable
    character, blanks and C{%} are percent-encoded.
    """
    text = key.decode("utf-8", "surrogateescape")
    return "".join(
        char if char.isprintable() and char not in " %" else _encode_character(char)
        for char in text
    )


def _encode_character(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
