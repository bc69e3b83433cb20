"""
What a client may say before it has proved who it is, and how it proves it.

Text authentication is memcached's (protocol.txt, "Authentication"); the binary
dialect has SASL PLAIN (RFC 4616).
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcouch.commands import Authenticate, Command, Get, Noop, Quit, Store, StoreMode, Version
from redcouch.dialects.auth import BinaryAuth, TextAuth
from redcouch.dialects.request import Dialect
from redcouch.dialects.text import TextDialect
from redcouch.limits import Limits
from tests.dialects.reading import receive
from tests.fuzz.feeding import Heard, Make, feed, in_any_pieces, split
from tests.support.frames import frame, reply

LIMITS = Limits()

UNAUTHENTICATED = b"CLIENT_ERROR unauthenticated\r\n"
BAD_FORM = b"CLIENT_ERROR bad authentication token format\r\n"
BAD_END = b"CLIENT_ERROR bad command line termination\r\n"
FAILURE = b"CLIENT_ERROR authentication failure\r\n"

(GET, SET, QUIT, NOOP, VERSION, STAT, QUITQ) = (0x00, 0x01, 0x07, 0x0A, 0x0B, 0x10, 0x17)
(LIST, AUTH, STEP) = (0x20, 0x21, 0x22)


def text_gate() -> Dialect:
    return TextAuth(LIMITS)


def binary_gate() -> Dialect:
    return BinaryAuth(LIMITS)


def commands(heard: Heard) -> list[Command]:
    return [command for command, _ in heard]


def said(heard: Heard) -> list[bytes]:
    """What a client gets where everything goes well."""
    return [replies[0] for _, replies in heard]


# -- text --------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize(
    ("line", "command"),
    [(b"version", None), (b"mn", Noop()), (b"mn O1", Noop()), (b" quit", Quit())],
)
def test_what_is_answered_before(line: bytes, command: Command | None, end: bytes) -> None:
    """A client that is not in yet may ask for the version, ping, and go."""
    heard, broken = in_any_pieces(text_gate, line + end, b"get k\r")
    assert commands(heard) == [command or Version(typed=end == b"\n")]
    assert not broken


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b" ", b"get a", b"gets a", b"mg a v", b"stats", b"flush_all", b"foo", b"set"),
        *(
            b"set a 0 0",
            b"set a 0 0 x",
            b"set a\0 0 0 1",
            b"SET a 0 0 1",
            b"add a 0 0 3",
            b"incr a 1",
            b"Version",
        ),
        *(b"lru_crawler metadump all", b"delete a noreply", b"watch", b"shutdown", b"me a"),
    ],
)
def test_what_is_not_answered_before(line: bytes) -> None:
    """Anything else is CLIENT_ERROR unauthenticated, also where the client wants no reply."""
    heard, broken = in_any_pieces(text_gate, line + b"\r\nmn\r\n", b"x")
    assert said(heard) == [UNAUTHENTICATED, b"MN\r\n"]
    assert commands(heard) == [Noop(), Noop()]
    assert not broken


def test_a_refused_store_is_not_read_as_commands() -> None:
    """The value of an add comes as a line of its own, and is refused like any other line."""
    heard, _ = in_any_pieces(text_gate, b"add a 0 0 5\r\nquit!\r\n")
    assert said(heard) == [UNAUTHENTICATED] * 2


@pytest.mark.parametrize(
    ("block", "user", "password"),
    [
        (b"user secret", b"user", b"secret"),
        (b"  user   secret  ", b"user", b"secret"),
        (b"user secret more", b"user", b"secret"),
        (b"user secret\0junk", b"user", b"secret"),
        (b"user sec:ret", b"user", b"sec:ret"),
        (b"\xff \xfe\r", b"\xff", b"\xfe\r"),
    ],
)
def test_user_and_password_in_text(block: bytes, user: bytes, password: bytes) -> None:
    """The first set carries user and password; its key, flags and time mean nothing."""
    data = b"set anything 0 never %d\r\n%b\r\n" % (len(block), block)
    heard, broken = in_any_pieces(text_gate, data, b"ge")
    assert heard == [(Authenticate(user, password), [b"STORED\r\n", FAILURE])]
    assert not broken


def test_a_client_that_is_let_in_goes_on_at_once() -> None:
    """Commands sent right behind the password are performed, as those of any client."""
    data = b"set a 0 0 4\r\nu pw\r\nget k\r\nset a 0 0 1\r\nx\r\n"
    heard, broken = in_any_pieces(text_gate, data, b"set a 0 0 1\r\n")
    assert commands(heard) == [
        Authenticate(b"u", b"pw"),
        Get((b"k",)),
        Store(StoreMode.SET, b"a", b"x"),
    ]
    assert not broken


def test_a_client_that_is_not_let_in_may_try_again() -> None:
    """Commands behind a wrong password are refused; a second try is heard."""
    data = b"set a 0 0 4\r\nu no\r\nget k\r\nset a 0 0 4\r\nu pw\r\nget k\r\n"
    heard, _ = in_any_pieces(text_gate, data, proven=False)
    assert commands(heard) == [
        Authenticate(b"u", b"no"),
        Noop(),
        Authenticate(b"u", b"pw"),
        Noop(),
    ]
    assert heard[1][1] == heard[3][1] == [UNAUTHENTICATED]


def test_nothing_is_read_while_the_password_is_checked() -> None:
    """Until the check has ended, what follows waits."""
    gate = TextAuth(LIMITS)
    (request,) = gate.receive(b"set a 0 0 4\r\nu pw\r\nget k\r\n")
    assert gate.waiting
    assert gate.receive(b"get j\r\n") == []
    dialect, rest = gate.authenticated(True)
    assert isinstance(dialect, TextDialect)
    assert rest == b"get k\r\nget j\r\n"
    assert isinstance(request.command, Authenticate)


@pytest.mark.parametrize("block", [b"", b" ", b"user", b"user ", b"\0user secret", b"user\0 pw"])
def test_one_word_is_not_enough(block: bytes) -> None:
    """A block without two words is in the wrong form."""
    data = b"set a 0 0 %d\r\n%b\r\nmn\r\n" % (len(block), block)
    heard, _ = in_any_pieces(text_gate, data)
    assert said(heard) == [BAD_FORM, b"MN\r\n"]


def test_a_block_of_another_length() -> None:
    """A block that does not end where it should is told so, and nobody is let in by it."""
    heard, _ = in_any_pieces(text_gate, b"set a 0 0 3\r\nu pw\r\nmn\r\n")
    assert said(heard) == [BAD_END, UNAUTHENTICATED, b"MN\r\n"]


def test_a_block_that_is_too_long() -> None:
    """Nobody's password has a kilobyte: it is skipped without being kept."""
    block = b"u " + b"p" * 1023
    data = b"set a 0 0 %d\r\n%b\r\nmn\r\n" % (len(block), block)
    heard, _ = in_any_pieces(text_gate, data)
    assert said(heard) == [BAD_FORM, b"MN\r\n"]
    gate = TextAuth(LIMITS)
    gate.receive(b"set a 0 0 4294967295\r\n")
    for _ in range(50):
        assert receive(gate, [b"get k\r\n" * 9000]) == []
    assert gate._buffer.size == 0
    assert not gate.broken
    fits = b"u " + b"p" * 1022
    heard, _ = in_any_pieces(text_gate, b"set a 0 0 1024\r\n%b\r\n" % fits)
    assert commands(heard) == [Authenticate(b"u", b"p" * 1022)]


def test_a_line_without_end() -> None:
    """A client that sends no line end is let go before it fills the memory."""
    gate = TextAuth(LIMITS)
    gate.receive(b"x" * LIMITS.max_line)
    assert not gate.broken
    gate.receive(b"x")
    assert gate.broken
    assert gate.receive(b"version\r\n") == []


# -- binary ------------------------------------------------------------------------------------


def refusal(opcode: int) -> bytes:
    return reply(opcode, 0x20, b"Auth failure.")


PLAIN = frame(AUTH, b"PLAIN", value=b"\0user\0secret")


def test_what_binary_answers_before() -> None:
    """A client that is not in yet may ping, ask for version and mechanisms, and go."""
    data = frame(NOOP) + frame(VERSION) + frame(LIST) + frame(QUITQ) + frame(QUIT)
    heard, broken = in_any_pieces(binary_gate, data, frame(GET, b"k")[:20])
    assert commands(heard) == [Noop(), Version(), Authenticate(None), Quit(), Quit()]
    assert said(heard) == [
        reply(NOOP),
        reply(VERSION, 0, b"1.6.18"),
        reply(LIST, 0, b"PLAIN"),
        b"",
        reply(QUIT),
    ]
    assert not broken


@pytest.mark.parametrize(
    "opcode", [*range(7), 8, 9, *range(12, 0x17), 0x18, 0x1B, 0x1F, 0x23, 0xFF]
)
def test_what_binary_does_not_answer_before(opcode: int) -> None:
    """
    Any other opcode, known or not, quiet or not, gets "Auth failure." and the connection
    ends, as memcached has it; nothing behind it is heard.
    """
    heard, broken = in_any_pieces(binary_gate, frame(opcode, b"k") + frame(NOOP))
    assert said(heard) == [refusal(opcode)]
    assert commands(heard) == [Noop()]
    assert broken


def test_sasl_plain() -> None:
    """Whoever knows the password is "Authenticated", and goes on in the same breath."""
    data = PLAIN + frame(GET, b"k") + frame(LIST)
    heard, broken = in_any_pieces(binary_gate, data, b"\x80")
    assert commands(heard) == [
        Authenticate(b"user", b"secret"),
        Get((b"k",), cas=True),
        Authenticate(None),
    ]
    assert heard[0][1] == [reply(AUTH, 0, b"Authenticated"), refusal(AUTH)]
    assert not broken


def test_sasl_plain_for_somebody_else() -> None:
    """An authorization identity (RFC 4616's authzid) is passed over: there is but one to act as."""
    heard, _ = in_any_pieces(binary_gate, frame(AUTH, b"PLAIN", value=b"admin\0user\0secret"))
    assert commands(heard) == [Authenticate(b"user", b"secret")]


def test_a_wrong_password_leaves_the_door_shut() -> None:
    """After a wrong try the client may try again, and nothing else."""
    heard, broken = in_any_pieces(binary_gate, PLAIN + PLAIN, proven=False)
    assert commands(heard) == [Authenticate(b"user", b"secret")] * 2
    assert not broken
    heard, broken = in_any_pieces(binary_gate, PLAIN + frame(GET, b"k"), proven=False)
    assert heard[1] == (Noop(), [refusal(GET)])
    assert broken


@pytest.mark.parametrize(
    ("again", "command"),
    [
        (PLAIN, Authenticate(b"user", b"secret")),
        (frame(LIST), Authenticate(None)),
        (frame(AUTH, b"CRAM-MD5", value=b"x"), Authenticate(None)),
        (frame(AUTH, b"PLAIN", value=b"x"), Authenticate(None)),
        (frame(STEP, b"PLAIN", value=b"x"), Authenticate(None)),
    ],
)
def test_who_is_in_can_be_thrown_out(again: bytes, command: Command) -> None:
    """A client that is in and authenticates again, wrongly, or begins to, is out again."""
    gate = BinaryAuth(LIMITS)
    gate.receive(PLAIN)
    assert gate.authenticated(True) == (gate, b"")
    assert [request.command for request in gate.receive(frame(GET, b"k"))] == [
        Get((b"k",), cas=True)
    ]
    assert [request.command for request in gate.receive(again)] == [command]
    assert gate.waiting
    gate.authenticated(False)
    (request,) = gate.receive(frame(GET, b"k"))
    assert request.encode(None) == refusal(GET)
    assert gate.broken


@pytest.mark.parametrize(
    "data",
    [
        frame(AUTH, b"CRAM-MD5", value=b"\0user\0secret"),
        frame(AUTH, b"plain", value=b"\0user\0secret"),
        frame(AUTH, b"PLAIN", value=b"user secret"),
        frame(AUTH, b"PLAIN", value=b"\0user"),
        frame(AUTH, b"PLAIN", value=b"\0user\0secret\0"),
        frame(AUTH, b"PLAIN"),
        frame(STEP, b"PLAIN", value=b"\0user\0secret"),
        frame(STEP, b"SCRAM-SHA-1", value=b"x"),
    ],
)
def test_sasl_that_is_none(data: bytes) -> None:
    """Another mechanism, a step that PLAIN does not have, or a malformed word are refused."""
    heard, broken = in_any_pieces(binary_gate, data + frame(NOOP))
    assert said(heard) == [refusal(data[1]), reply(NOOP)]
    assert not broken


@pytest.mark.parametrize("opcode", [AUTH, STEP])
def test_a_secret_that_is_too_long(opcode: int) -> None:
    """Nobody's password has a kilobyte: it is refused, skipped, and the client may go on."""
    data = frame(opcode, b"PLAIN", value=b"\0u\0" + b"p" * 1022)
    heard, broken = in_any_pieces(binary_gate, data + frame(NOOP))
    assert said(heard) == [reply(opcode, 3, b"Too large."), reply(NOOP)]
    assert not broken
    heard, _ = in_any_pieces(binary_gate, frame(AUTH, b"PLAIN", value=b"\0u\0" + b"p" * 1021))
    assert commands(heard) == [Authenticate(b"u", b"p" * 1021)]


@pytest.mark.parametrize("data", [frame(AUTH), frame(LIST, b"k"), frame(AUTH, b"PLAIN", b"x")])
def test_wrong_lengths_end_the_connection(data: bytes) -> None:
    """A frame that is no good is no better for asking to be let in."""
    heard, broken = in_any_pieces(binary_gate, data + frame(NOOP))
    assert said(heard) == [reply(data[1], 4, b"Invalid arguments")]
    assert broken


def test_the_size_of_a_value_is_still_minded() -> None:
    """Whoever is in has the same limits as everybody."""
    gate = BinaryAuth(Limits(max_item_size=200))
    gate.receive(PLAIN)
    gate.authenticated(True)
    extras = struct.pack(">II", 0, 0)
    (request,) = gate.receive(frame(SET, b"k", extras, bytes(200)))
    assert request.encode(None) == reply(SET, 3, b"Too large.")
    (request,) = gate.receive(frame(SET, b"k", extras, b"v"))
    assert request.command == Store(StoreMode.SET, b"k", b"v")


# -- anything at all ---------------------------------------------------------------------------

_TEXTS = st.one_of(
    st.sampled_from(
        [
            b"version\r\n",
            b"mn\r\n",
            b"get k\r\n",
            b"quit\n",
            b"set a 0 0 4\r\n",
            b"u pw\r\n",
            b"\r\n",
        ]
    ),
    st.builds(
        lambda length, block: b"set a 0 0 %d\r\n%b\r\n" % (length, block),
        st.integers(0, 12),
        st.binary(max_size=12),
    ),
    st.binary(max_size=20),
)
_FRAMES = st.one_of(
    st.builds(
        frame,
        st.sampled_from([GET, SET, NOOP, VERSION, LIST, AUTH, AUTH, STEP, 0x55]),
        st.sampled_from([b"", b"PLAIN", b"k"]),
        st.sampled_from([b"", bytes(8)]),
        st.sampled_from([b"", b"\0u\0p", b"x" * 1025]),
    ),
    st.binary(max_size=20),
)


def _same_in_any_pieces(make: Make, data: bytes, places: list[int], proven: bool) -> None:
    assert feed(make, split(data, places), proven) == feed(make, [data], proven)


@given(st.lists(_TEXTS, max_size=8), st.lists(st.integers(0, 9999), max_size=8), st.booleans())
def test_however_text_arrives(parts: list[bytes], places: list[int], proven: bool) -> None:
    """Whatever bytes a client sends, in whatever pieces: the same requests, and never a fault."""
    _same_in_any_pieces(text_gate, b"".join(parts), places, proven)


@given(st.lists(_FRAMES, max_size=8), st.lists(st.integers(0, 9999), max_size=8), st.booleans())
def test_however_frames_arrive(parts: list[bytes], places: list[int], proven: bool) -> None:
    """The same for frames."""
    _same_in_any_pieces(binary_gate, b"".join(parts), places, proven)
