"""C{stats detail}: what has been asked of keys, by prefix."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.integration import monitors
from tests.support import servers
from tests.support.frames import frame, reply
from tests.support.polling import eventually
from tests.support.servers import Memcached, RedCouch, RedisServer
from tests.support.wire import Address, Wire, ask

Counts = dict[str, tuple[int, ...]]

_LINE = re.compile(r"PREFIX (\S*) get (\d+) hit (\d+) set (\d+) del (\d+)")


def _read(text: str) -> Counts:
    assert text.endswith("END\r\n")
    lines = text.split("\r\n")[:-2]
    found = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        assert match is not None, line
        found[match[1]] = tuple(map(int, match.groups()[1:]))
    assert len(found) == len(lines)
    return found


def in_text(address: Address, word: str) -> str:
    """What C{stats detail} is answered, with this word."""
    end = b"END\r\n" if word == "dump" else b"\r\n"
    return ask(address, f"stats detail {word}\r\n".encode(), end).decode("latin-1")


def in_binary(address: Address, word: str) -> str:
    """The same: memcached's own binary tests begin with it."""
    stats = monitors.binary(address, f"detail {word}")
    return stats.pop("detailed") if word == "dump" else "OK\r\n" if not stats else ""


ASK = pytest.mark.parametrize("detail", [in_text, in_binary], ids=["text", "binary"])

_CLASSIC = (
    b"set p:a 0 0 1\r\nx\r\nadd p:a 0 0 1\r\nx\r\nset a:b:c 0 0 1\r\nx\r\nappend p:a 0 0 1\r\nx\r\n"
    b"cas p:a 0 0 1 0\r\nx\r\nget p:a p:b none\r\ngets p:a\r\ngat 0 p:a p:q\r\nget :x ::y p: p\r\n"
    b"incr p:n 1\r\ntouch p:a 0\r\ndelete p:zz\r\ndelete p:a\r\nset p:a 0 0 1 noreply\r\nx\r\n"
    b"set p:bad x 0 1\r\nx\r\nget none\r\nmn\r\n"
)


@ASK
def test_as_memcached_counts(
    detail: Callable[[Address, str], str], redcouch: RedCouch, memcached: Memcached
) -> None:
    """Each prefix has the counts that it has in a memcached which is asked the same."""
    counted = []
    for server in (memcached, redcouch):
        ask(server.address, b"flush_all\r\nstats reset\r\n", b"RESET\r\n")
        assert detail(server.address, "on") == "OK\r\n"
        with Wire(server.address) as wire:
            wire.say([_CLASSIC], b"MN\r\n")
        assert detail(server.address, "off") == "OK\r\n"
        ask(server.address, b"get p:a\r\n", b"END\r\n")  # not counted any more
        counted.append(_read(detail(server.address, "dump")))
        ask(server.address, b"stats reset\r\n", b"\r\n")
        assert _read(detail(server.address, "dump")) == {}
    assert counted[0] == counted[1]
    assert counted[1]["p"] == (6, 3, 5, 2)


def test_meta_and_binary_count_alike(redcouch: RedCouch) -> None:
    """Whichever protocol asks. (memcached itself leaves the meta commands out.)"""
    ask(redcouch.address, b"flush_all\r\nstats reset\r\nstats detail on\r\n", b"OK\r\n")
    with Wire(redcouch.address) as wire:
        wire.say(
            [b"ms p:a 1\r\nx\r\nmg p:a v\r\nmg p:b\r\nmd p:a\r\nmd p:b I\r\nmn\r\n"], b"MN\r\n"
        )

    with Wire(redcouch.address) as wire:
        frames = [
            frame(1, b"p:a", bytes(8), b"v"),
            *(frame(opcode, b"p:a") for opcode in (0x00, 0x09, 0x0C, 0x0D, 0x04)),
            frame(0x1D, b"p:b", bytes(4)),
            frame(0x0A),
        ]
        wire.say(frames, reply(0x0A))
    assert _read(in_text(redcouch.address, "dump")) == {"p": (7, 5, 2, 3)}
    ask(redcouch.address, b"stats detail off\r\nstats reset\r\n", b"RESET\r\n")


def test_many_prefixes(redcouch: RedCouch) -> None:
    """So many are counted, and no more; a prefix that could forge a line is encoded."""
    ask(redcouch.address, b"stats reset\r\nstats detail on\r\n", b"OK\r\n")
    with Wire(redcouch.address) as wire:
        lines = b"".join(b"get %d:k\r\n" % number for number in range(1500))
        wire.say([b"mg YQ0KRU5EDQpiOmM= b\r\n", lines, b"mn\r\n"], b"MN\r\n")
    counts = _read(in_text(redcouch.address, "dump"))
    assert len(counts) == 1000
    assert counts["a%0D%0AEND%0D%0Ab"] == (1, 0, 0, 0)
    ask(redcouch.address, b"stats detail off\r\nstats reset\r\n", b"RESET\r\n")


def test_words() -> None:
    """What is no word for it is refused in each protocol's way."""
    with servers.redcouch("memory:") as server:
        for line in (b"stats detail\r\n", b"stats detail foo\r\n", b"stats detail onx\r\n"):
            assert ask(server.address, line, b"\r\n").startswith(b"CLIENT_ERROR usage: ")


def test_with_workers(any_redis: RedisServer) -> None:
    """All of them count, whichever is told, and all together are shown."""
    with servers.redcouch(any_redis.url, "--workers", "3", "--inventory-separator", "/") as server:
        ask(server.address, b"stats reset\r\n", b"RESET\r\n")
        assert in_text(server.address, "on") == "OK\r\n"
        for _ in range(12):  # each on a connection of its own
            ask(server.address, b"get p/a x:y\r\n", b"END\r\n")
        eventually(
            lambda: _read(in_text(server.address, "dump")),
            lambda counts: counts == {"p": (12, 0, 0, 0)},
        )
        assert monitors.text(server.address, "settings")["stat_key_prefix"] == "/"
