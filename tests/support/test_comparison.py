"""The comparison of two servers sees what differs, and only that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.differential.binary import BINARY
from tests.differential.classic import CLASSIC
from tests.support import servers
from tests.support.comparison import Cut, Listener, Subject, Transcript, differences
from tests.support.frames import frame
from tests.support.servers import Memcached
from tests.support.wire import ask, whole


@pytest.fixture
def subject(memcached: Memcached) -> Iterator[Subject]:
    """A memcached as it starts by default."""
    with Subject(memcached.address) as subject:
        yield subject


def test_another_server_is_noticed(subject: Subject) -> None:
    """A memcached that refuses to flush does not pass for the same."""
    with servers.memcached("-F") as server, Subject(server.address) as other:
        assert differences(subject, other, CLASSIC["flushing"])


def test_another_limit_is_noticed(subject: Subject) -> None:
    """Nor does one that takes larger items."""
    with servers.memcached("-I", "2m") as server, Subject(server.address) as other:
        size = 1024 * 1024
        sent = b"set a 0 0 %d\r\n%b\r\n" % (size, b"v" * size)
        assert differences(subject, other, [Transcript.of(sent)])


def test_the_same_server_passes(subject: Subject) -> None:
    """Two memcacheds that have given out different tokens are the same."""
    with servers.memcached() as server, Subject(server.address) as other:
        ask(server.address, b"set a 0 0 1 noreply\r\nx\r\n" * 99 + b"version\r\n", b"\r\n")
        for transcripts in (*(CLASSIC[name] for name in ("tokens", "flushing")), *BINARY.values()):
            assert differences(subject, other, transcripts) == []


def test_tokens_are_compared() -> None:
    """Tokens may be any numbers, but equal ones stay equal and others do not become so."""
    hear = b"VALUE a 0 1 %d\r\nx\r\nVALUE b 0 1 %d\r\ny\r\n"
    one, other, different = (Listener().hear(hear % pair) for pair in ((5, 5), (9, 9), (5, 6)))
    assert one == other
    assert one != different
    assert Listener().hear(b"HD k1 c7 s2\r\n") == b"HD k1 c<token 0> s2\r\n"
    assert Listener().hear(b"HD c0\r\n") == b"HD c0\r\n"


def test_tokens_of_frames_are_compared() -> None:
    """In the binary protocol too, where 0 stands for none."""
    hear = [frame(0, value=b"\x81xy", magic=0x81, cas=token) for token in (7, 0, 9, 7)]
    first, none, second, again = (Listener().hear_frames(hear[0] + each) for each in hear)
    assert len({first, none, second}) == 3
    assert first == again
    assert Listener().hear_frames(hear[1]) == hear[1]


def test_values_are_left_alone() -> None:
    """A value that looks like a reply is compared as the bytes that it is."""
    value = b"VERSION 1\r\nSTAT a 1\r\nVALUE a 0 0 5\r\n"
    for reply in (b"VALUE a 0 %d\r\n%b\r\nEND\r\n", b"VA %d f0\r\n%b\r\n"):
        said = reply % (len(value), value)
        assert Listener().hear(said) == said


def test_placeholders() -> None:
    """A transcript uses the token that it was given, and waits for it."""
    transcript = b"gets a\r\ncas a 0 0 1 {cas:a+1}\r\nx\r\n{then}get a\r\n"
    assert Transcript.of(transcript).steps == (
        b"gets a\r\n",
        b"cas a 0 0 1 {cas:a+1}\r\nx\r\n",
        b"get a\r\n",
    )
    listener = Listener()
    listener.hear(b"VALUE a 0 1 41\r\nx\r\n")
    assert listener.fill(b"{cas:a} {cas:a+1} {cas:b}") == b"41 42 0"


class Telling(Subject):
    """One that says certain things in turn, and the last of them from then on."""

    def __init__(self, *said: bytes) -> None:
        self._said = list(said)

    def replies(self, transcript: Transcript, cut: Cut = whole) -> bytes:
        return self._said.pop(0) if len(self._said) > 1 else self._said[0]


@pytest.mark.parametrize("clock", [False, True])
def test_only_the_clock_is_asked_again(clock: bool) -> None:
    """A difference that shows once is one, unless the transcript tells the time."""
    transcript = Transcript((b"mg a t\r\n",), clock=clock)
    once = differences(Telling(b"HD t30\r\n"), Telling(b"HD t29\r\n", b"HD t30\r\n"), [transcript])
    always = differences(Telling(b"HD t30\r\n"), Telling(b"HD t29\r\n"), [transcript])
    assert (len(once), len(always)) == (not clock, 1)
