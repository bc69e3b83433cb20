"""
Meta's promise: of all who read an item that is stale, due or missing, one is
told to renew it. Kept across connections, and across processes on one Redis.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.support import servers
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import Wire

CLIENTS = 16
ROUNDS = 40

Ask = Callable[[bytes], list[bytes]]


@pytest.fixture(scope="module")
def bridges(redis_server: RedisServer) -> Iterator[list[RedCouch]]:
    """Two services over the same Redis, for each version of Redis; one by TCP, one by socket."""
    with (
        servers.redcouch(redis_server.url) as first,
        servers.redcouch(redis_server.unix_url) as second,
    ):
        yield [first, second]


@pytest.fixture(scope="module")
def wires(bridges: list[RedCouch]) -> Iterator[list[Wire]]:
    """Clients of both, taking turns."""
    opened = [Wire(bridges[number % 2].address) for number in range(CLIENTS)]
    yield opened
    for wire in opened:
        wire.__exit__()


def race(wires: list[Wire], lines: list[bytes]) -> list[bytes]:
    """What each is told who asks at the same time as the others (the lines go round)."""
    for number, wire in enumerate(wires):
        wire._socket.sendall(lines[number % len(lines)] + b"\r\nmn\r\n")
    return [wire.say([], b"MN\r\n").reply.removesuffix(b"MN\r\n") for wire in wires]


def heads(replies: list[bytes]) -> list[bytes]:
    return [reply.partition(b"\r\n")[0] for reply in replies]


def winners(replies: list[bytes]) -> int:
    return sum(b" W" in head for head in heads(replies))


def sent(replies: list[bytes]) -> int:
    return sum(b" Z" in head for head in heads(replies))


@pytest.fixture
def ask(wires: list[Wire]) -> Callable[[bytes], bytes]:
    """One client's question."""
    return lambda data: wires[0].converse([data]).reply


READS = {
    "plain": [b"mg %b v"],
    "with token": [b"mg %b v c"],
    "without value": [b"mg %b s c"],
    "with standing": [b"mg %b v t l h"],
    "mixed": [b"mg %b v", b"mg %b t c", b"mg %b v T100", b"mg %b k q"],
}


@pytest.mark.parametrize("reads", READS.values(), ids=READS.keys())
def test_a_stale_item(wires: list[Wire], ask: Callable[[bytes], bytes], reads: list[bytes]) -> None:
    """
    Of many who read an item marked stale exactly one is told W; the others read the old
    value, know that it is stale (X), and that somebody renews it (Z).
    """
    for number in range(ROUNDS):
        key = b"stale-%d" % number
        assert ask(b"ms %b 3\r\nold\r\nmd %b I T60\r\n" % (key, key)) == b"HD\r\nHD\r\n"
        replies = race(wires, [line % key for line in reads])
        assert winners(replies) == 1, replies
        assert sent(replies) == CLIENTS - 1, replies
        assert all(b" X" in head for head in heads(replies)), replies
        assert all(b"old" in reply for reply in replies if reply.startswith(b"VA"))
        again = race(wires, [line % key for line in reads])
        assert winners(again) == 0
        assert sent(again) == CLIENTS
        assert ask(b"ms %b 3\r\nnew\r\nmg %b v\r\n" % (key, key)) == b"HD\r\nVA 3\r\nnew\r\n"


def test_a_missing_item(wires: list[Wire], ask: Callable[[bytes], bytes]) -> None:
    """Of many who ask for what is not there, with N, one makes it and wins; the others wait."""
    for number in range(ROUNDS):
        key = b"missing-%d" % number
        replies = race(wires, [b"mg %b v N60 t" % key])
        assert winners(replies) == 1, replies
        assert sent(replies) == CLIENTS - 1, replies
        assert all(reply.startswith(b"VA 0 t") for reply in replies)
        assert ask(b"ms %b 1\r\nx\r\nmg %b v\r\n" % (key, key)) == b"HD\r\nVA 1\r\nx\r\n"
        assert ask(b"md %b\r\n" % key) == b"HD\r\n"


def test_an_item_that_is_due(wires: list[Wire], ask: Callable[[bytes], bytes]) -> None:
    """Of many who read an item in its last seconds, with R, one renews it; the others go on."""
    for number in range(ROUNDS):
        key = b"due-%d" % number
        assert ask(b"ms %b 1 T30\r\nx\r\n" % key) == b"HD\r\n"
        early = race(wires, [b"mg %b v R10" % key])
        assert winners(early) == sent(early) == 0
        replies = race(wires, [b"mg %b v R60" % key, b"mg %b t R60" % key])
        assert winners(replies) == 1, replies
        assert sent(replies) == CLIENTS - 1, replies


def test_who_won_renews_and_nobody_else(wires: list[Wire], ask: Callable[[bytes], bytes]) -> None:
    """
    The winner's token stores the new value; after that everybody reads it, and an older
    token is refused, whichever service it comes through.
    """
    for number in range(ROUNDS):
        key = b"renewed-%d" % number
        ask(b"ms %b 3\r\nold\r\nmd %b I T60\r\n" % (key, key))
        replies = race(wires, [b"mg %b v c" % key])
        (won,) = [head for head in heads(replies) if b" W" in head]
        token = re.findall(rb" c(\d+)", won)[0]
        stores = race(wires, [b"ms %b 3 C%b\r\nnew" % (key, token)])
        assert sorted(stores) == [b"EX\r\n"] * (CLIENTS - 1) + [b"HD\r\n"]
        assert set(race(wires, [b"mg %b v" % key])) == {b"VA 3\r\nnew\r\n"}


def test_winners_while_it_is_renewed(wires: list[Wire], ask: Callable[[bytes], bytes]) -> None:
    """
    Reads, renewals and new invalidations in a mess: never more winners than there were
    invalidations.
    """
    for number in range(ROUNDS):
        key = b"mess-%d" % number
        ask(b"ms %b 3\r\nold\r\n" % key)
        read, mark, renew = b"mg %b v" % key, b"md %b I T60" % key, b"ms %b 3\r\nnew" % key
        replies = race(wires, [mark, read, read, mark, read, read, renew, read])
        marks = 2 * CLIENTS // 8
        assert sum(reply == b"HD\r\n" for reply in replies) == marks * 2 - marks + CLIENTS // 8
        assert winners(replies) <= marks, replies


def test_adds_counters_and_tokens(wires: list[Wire], ask: Callable[[bytes], bytes]) -> None:
    """Of many adds one stores; of many counts none is lost; no two changes share a token."""
    ask(b"ms n 1\r\n0\r\n")
    tokens: list[bytes] = []
    for number in range(ROUNDS):
        replies = race(wires, [b"ms added-%d 1 ME c\r\nx" % number])
        assert sorted(heads(replies))[1:] == [b"NS c0"] * (CLIENTS - 1)
        tokens += re.findall(rb"HD c(\d+)", b"".join(replies))
        counted = race(wires, [b"ma n v c"])
        numbers = sorted(int(reply.split(b"\r\n")[1]) for reply in counted)
        assert numbers == list(range(number * CLIENTS + 1, (number + 1) * CLIENTS + 1))
        tokens += re.findall(rb" c(\d+)", b"".join(counted))
    assert len(set(tokens)) == len(tokens) == ROUNDS * (CLIENTS + 1)
