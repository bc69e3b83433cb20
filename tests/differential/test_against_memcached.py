"""
The same bytes to a real memcached and to RedCouch over Redis: the answers must
be equal, byte for byte, but for L{EXCEPTIONS}.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.differential import corners, transcripts
from tests.differential import talk as wire
from tests.differential.transcripts import Steps
from tests.support import servers
from tests.support.requirements import fixture_needs

#: memcached's commands that RedCouch answers in other words, and why. They are left out of the
#: transcripts, and asked for by themselves in L{test_an_exception_is_as_stated}.
EXCEPTIONS: list[tuple[bytes, bytes, bytes, str]] = [
    (b"mn Oabc\r\n", b"MN\r\n", b"MN Oabc\r\n", "an opaque that bridges give back"),
    (b"ms a 1 MA N0\r\nx\r\n", b"NS\r\n", b"HD\r\n", "newer than 1.6.18"),
    (b"ms a 1 E7\r\nx\r\n", b"CLIENT_ERROR invalid flag\r\n", b"HD\r\n", "newer than 1.6.18"),
    (b"ms a 1 s\r\nx\r\n", b"HD\r\n", b"HD s1\r\n", "newer than 1.6.18"),
    (b"ms a 1 Ma\r\nx\r\n", b"CLIENT_ERROR invalid mode", b"NS\r\n", "newer than 1.6.18"),
    (b"md a x\r\n", b"CLIENT_ERROR invalid", b"NF\r\n", "newer than 1.6.18"),
    (
        b"set a 0 0 1\r\nx\r\nmg YQ== b k\r\n",
        b"STORED\r\nHD ka\r\n",
        b"STORED\r\nHD kYQ== b\r\n",
        "keys are said as they were asked for",
    ),
    (
        b"set a 0 0 1\r\nx\r\nget a\r\nmg a h\r\n",
        b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\nHD h1\r\n",
        b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\nHD h0\r\n",
        "a plain get writes nothing to Redis",
    ),
    *corners.EXCEPTIONS,
]

_VERSION = re.compile(rb"VERSION [^\r\n]*")
_TOKENS = (
    re.compile(rb"^VALUE [^ ]+ \d+ \d+ (\d+)\r$", re.M),
    re.compile(rb"^(?:HD|VA|NS|EX|NF)[^\r\n]* c(\d+)(?=[ \r])", re.M),
)


def plain_text(answers: list[bytes]) -> list[bytes]:
    """Answers with each CAS token replaced by how many others came before it."""
    seen: list[bytes] = []
    plain = []
    for answer in answers:
        answer = _VERSION.sub(b"VERSION", answer)
        spans = sorted(match.span(1) for token in _TOKENS for match in token.finditer(answer))
        plain.append(_number_tokens(answer, spans, seen, b"0"))
    return plain


def plain_binary(answers: list[bytes]) -> list[bytes]:
    """The same for frames."""
    seen: list[bytes] = []
    plain = []
    for answer in answers:
        spans = []
        at = 0
        while len(answer) - at >= 24 and answer[at] == 0x81:
            spans.append((at + 16, at + 24))
            at += 24 + int(struct.unpack_from(">I", answer, at + 8)[0])
        plain.append(_number_tokens(answer, spans, seen, b"\0" * 8))
    return plain


def _number_tokens(
    answer: bytes, spans: list[tuple[int, int]], seen: list[bytes], none: bytes
) -> bytes:
    parts = []
    at = 0
    for start, end in spans:
        token = answer[start:end]
        if token == none:
            continue
        if token not in seen:
            seen.append(token)
        parts += [answer[at:start], b"<token %d>" % seen.index(token)]
        at = end
    return b"".join(parts) + answer[at:]


def _fill(port: int, step: bytes) -> bytes:
    """A step with the tokens that it asks for."""

    def token(match: re.Match[bytes]) -> bytes:
        answer = wire.text(port, b"gets %b\r\n" % match[1])
        found = _TOKENS[0].search(answer)
        assert found, answer
        return found[1]

    return re.sub(rb"\{cas:(\w+)\}", token, step)


def _ask(port: int, steps: Steps, piece: int, talk: Callable[..., bytes]) -> list[bytes]:
    """What a server says to a transcript: each step by itself, or all of them in pieces."""
    wire.text(port, b"flush_all\r\n")
    if piece:
        return [talk(port, b"".join(steps), piece)]
    return [talk(port, _fill(port, step)) for step in steps]


def _compare(
    memcached: int, redcouch: int, steps: Steps, piece: int, talk: Callable[..., bytes]
) -> None:
    """
    Equal answers. A difference has to show three times: memcached's clock goes
    in whole seconds, and may tick in the middle.
    """
    plain = plain_text if talk is wire.text else plain_binary
    for _ in range(3):
        expected = plain(_ask(memcached, steps, piece, talk))
        answer = plain(_ask(redcouch, steps, piece, talk))
        if answer == expected:
            return
    assert answer == expected


@pytest.fixture(scope="module")
@fixture_needs("memcached")
def memcached_port() -> Iterator[int]:
    """
    The port of a real memcached that has given some tokens already, so that no
    small number is one by chance.
    """
    with servers.memcached() as server:
        wire.text(server.port, b"set a 0 0 1 noreply\r\nx\r\n" * 1000)
        yield server.port


@pytest.fixture(scope="module", params=["", "/8?layout=string&flush=all"])
def redcouch_port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a RedCouch over a real Redis, in each layout."""
    with servers.redcouch(servers.shared_redis().url + request.param) as server:
        yield server.port


@pytest.mark.parametrize("name", transcripts.META)
def test_meta(name: str, memcached_port: int, redcouch_port: int) -> None:
    """A client of the meta commands cannot tell the two apart."""
    _compare(memcached_port, redcouch_port, transcripts.META[name], 0, wire.text)


@pytest.mark.parametrize("name", transcripts.BINARY)
def test_binary(name: str, memcached_port: int, redcouch_port: int) -> None:
    """A client of the binary protocol cannot tell the two apart."""
    _compare(memcached_port, redcouch_port, transcripts.BINARY[name], 0, wire.binary)


_WHOLE = [
    (kind, name)
    for kind, table in (
        ("META", transcripts.META),
        ("BINARY", transcripts.BINARY),
    )
    for name, steps in table.items()
    if not re.search(rb"version|{cas:", b"".join(steps)) and sum(map(len, steps)) < 5000
]


@pytest.mark.parametrize(("kind", "name"), _WHOLE)
def test_in_small_pieces(kind: str, name: str, memcached_port: int, redcouch_port: int) -> None:
    """How the bytes are cut by the network makes no difference."""
    steps = getattr(transcripts, kind)[name]
    talk = wire.binary if kind == "BINARY" else wire.text
    if max(len(line) for line in b"".join(steps).split(b"\n")) > 2048:
        return  # memcached gives up on a long line that comes in pieces
    _compare(memcached_port, redcouch_port, steps, 7, talk)


@pytest.mark.parametrize("exception", EXCEPTIONS, ids=[repr(row[0]) for row in EXCEPTIONS])
def test_an_exception_is_as_stated(
    exception: tuple[bytes, bytes, bytes, str], memcached_port: int, redcouch_port: int
) -> None:
    """The documented differences are these, and go no further."""
    sent, theirs, ours, _ = exception
    assert _ask(memcached_port, (sent,), 0, wire.text)[0].startswith(theirs)
    assert _ask(redcouch_port, (sent,), 0, wire.text)[0].startswith(ours)


def test_a_difference_is_noticed(memcached_port: int, redcouch_port: int) -> None:
    """The comparison itself sees a token that is not the same one twice, and any other byte."""
    first, second = b"VALUE a 0 1 5\r\n", b"VALUE a 0 1 7\r\n"
    assert plain_text([first]) == plain_text([second])
    assert plain_text([first, first]) != plain_text([first, second])
    with pytest.raises(AssertionError):
        _compare(memcached_port, redcouch_port, (b"mn Oabc\r\n",), 0, wire.text)
