"""C{redcouch ready}: whether the bridge is needed no more."""

from __future__ import annotations

import ipaddress

import click

from redcouch.backends.redis.url import RedisLocation
from redcouch.backends.redis.usage_store import ROOT, tell_senseless
from redcouch.cli.common import NO, json_option, read_span, reader, show_key, storage_option, tell
from redcouch.cli.storage import open_storage
from redcouch.cli.traffic import ago, at, fetch, show_gap
from redcouch.telemetry.client_names import UNIX, Network, plain_host
from redcouch.telemetry.usage import LAPSE, MOST, Usage, UsageSample


def _read_client(text: str) -> Network | str:
    return text if text == UNIX else ipaddress.ip_network(text)


@click.command("ready")
@click.option(
    "--quiet-for",
    callback=read_span,
    required=True,
    metavar="SPAN",
    help="How long nobody must have spoken memcached: 90s, 30m, 24h, 7d.",
)
@click.option(
    "--ignore",
    callback=reader(lambda texts: tuple(map(_read_client, texts))),
    multiple=True,
    metavar="ADDRESS",
    help="Do not count this client, or this network: a monitor, say; unix: whoever comes by unix "
    "sockets. May be given several times.",
)
@storage_option
@json_option
def command(quiet_for: int, ignore: tuple[Network | str, ...], storage: RedisLocation) -> None:
    """
    Tell whether the bridge is needed no more.

    It is when no client has spoken memcached for the span, and at least one RedCouch has been
    watching at every moment of it. Any command counts as speaking, version and stats too: leave
    monitors out with --ignore. While no RedCouch runs, or it cannot write to Redis for three
    seconds, nobody watches: the span begins anew after such a gap, which is named. A client is
    on record within a second, even if the RedCouch that it speaks to is killed.

    Exit status 0: ready. 1: not ready; who has spoken is named, or since when nobody watched.
    """
    with open_storage(storage) as opened:
        inventory, now = fetch(opened), opened.clock(ROOT)
    speakers = [
        one
        for one in inventory.of("client")
        if one.last > now - quiet_for and not _is_ignored(one, ignore)
    ]
    reason = _why_not(inventory, speakers, quiet_for, now)
    clients = [{"client": show_key(one.name), "last": one.last} for one in speakers]
    facts = {"ready": reason is None, "reason": reason, "clients": clients, "gap": inventory.gap}
    if reason is None:
        tell(facts, f"Ready: nobody has spoken memcached for {ago(quiet_for)}.")
        return
    lines = [f"{ago(now - one.last) + ' ago':>12}  {show_key(one.name)}" for one in speakers]
    tell(facts, "\n".join([f"Not ready: {reason}.", *lines]))
    raise click.exceptions.Exit(NO)


def _why_not(
    inventory: Usage, speakers: list[UsageSample], quiet_for: int, now: float
) -> str | None:
    if inventory.senseless:
        return "; ".join(map(tell_senseless, inventory.senseless))
    if inventory.since is None or inventory.looked is None:
        return "no service has noted any traffic here"
    if speakers:
        spoken = "1 client has" if len(speakers) == 1 else f"{len(speakers)} clients have"
        return f"{spoken} spoken memcached in the last {ago(quiet_for)}"
    left_out = inventory.left_out.get("client", 0)
    if left_out > now - quiet_for:
        kept = f"no more than {MOST} clients are kept on record"
        return f"{kept}, and another one has spoken memcached {ago(now - left_out)} ago"
    if inventory.looked < now - LAPSE:
        return f"nobody has been watching since {at(inventory.looked)}"
    recorded = inventory.recorded.get("client", now)
    if recorded > now - quiet_for and recorded > inventory.since + 1:
        return f"the record of clients has been lost, and begins at {at(recorded)}"
    if inventory.since > now - quiet_for:
        before = "" if inventory.gap is None else f"; {show_gap(inventory.gap)}"
        return f"traffic has been watched for {ago(now - inventory.since)} only{before}"
    return None


def _is_ignored(one: UsageSample, ignore: tuple[Network | str, ...]) -> bool:
    name = one.name.decode("ascii", "replace")
    if name == UNIX:
        return UNIX in ignore
    try:
        address = ipaddress.ip_address(plain_host(name))
    except ValueError:
        return False
    return any(not isinstance(network, str) and address in network for network in ignore)
