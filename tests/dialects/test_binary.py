"""
Every opcode and status of the binary dialect: what a client sends, what a
storage is asked, what it answers, what the client gets.

The answers are those of memcached 1.6.18. Where that one loses its place in
the stream (the body of an unknown opcode with a key, a value behind a touch),
the tests say what RedCouch does instead.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Flush,
    Get,
    GetAndTouch,
    Noop,
    Quit,
    ResetStatistics,
    Statistics,
    Store,
    StoreMode,
    Touch,
    Version,
)
from redcouch.dialects.binary import BinaryDialect, Status
from redcouch.limits import Limits
from redcouch.results import ErrorKind, Failed, Item, Number, Outcome, Result, Stored, Touched
from tests.dialects.reading import receive
from tests.fuzz.feeding import feed, in_any_pieces, split
from tests.support.frames import HEADER, OPAQUE, frame

LIMITS = Limits(max_item_size=200)
ROOM = LIMITS.value_room(b"k")

AWAY = Failed(ErrorKind.UNAVAILABLE, "storage not available")
FULL = Failed(ErrorKind.OUT_OF_MEMORY, "Redis says OOM")
ODD = Failed(ErrorKind.WRONG_TYPE, "key in Redis is not an item")

K250, K251 = b"k" * 250, b"k" * 251

(GET, SET, ADD, REPLACE, DELETE, INCREMENT, DECREMENT, QUIT, FLUSH, GETQ) = range(10)
(NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND, STAT, SETQ, ADDQ, REPLACEQ) = range(10, 20)
(DELETEQ, INCREMENTQ, DECREMENTQ, QUITQ, FLUSHQ, APPENDQ, PREPENDQ) = range(20, 27)
(VERBOSITY, TOUCH, GAT, GATQ, HELLO, SASL_LIST, SASL_AUTH, SASL_STEP, GATK, GATKQ) = range(27, 37)

QUIET = {GET: GETQ, GETK: GETKQ, GAT: GATQ, GATK: GATKQ, SET: SETQ, ADD: ADDQ}
QUIET |= {REPLACE: REPLACEQ, DELETE: DELETEQ, INCREMENT: INCREMENTQ, DECREMENT: DECREMENTQ}
QUIET |= {FLUSH: FLUSHQ, APPEND: APPENDQ, PREPEND: PREPENDQ}

STORING = struct.pack(">II", 7, 30)
EXPTIME = struct.pack(">I", 30)
FLAGS = struct.pack(">I", 7)

TEXTS = {
    Status.OK: b"",
    Status.NOT_FOUND: b"Not found",
    Status.EXISTS: b"Data exists for key.",
    Status.TOO_LARGE: b"Too large.",
    Status.INVALID: b"Invalid arguments",
    Status.NOT_STORED: b"Not stored.",
    Status.NON_NUMERIC: b"Non-numeric server-side value for incr or decr",
    Status.AUTH_ERROR: b"Auth failure.",
    Status.UNKNOWN_COMMAND: b"Unknown command",
    Status.OUT_OF_MEMORY: b"Out of memory",
    Status.TEMPORARY: b"storage not available",
    Status.INTERNAL: b"key in Redis is not an item",
}


@dataclass
class Answer:
    """One answer, taken apart."""

    opcode: int
    status: int
    extras: bytes = b""
    key: bytes = b""
    value: bytes = b""
    cas: int = 0


def read(data: bytes) -> list[Answer]:
    """The answers in these bytes, each of which must carry the opaque that was sent."""
    answers = []
    while data:
        magic, opcode, key, extras, kind, status, body, opaque, cas = HEADER.unpack(data[:24])
        assert (magic, kind, opaque) == (0x81, 0, OPAQUE)
        rest, data = data[24 : 24 + body], data[24 + body :]
        parts = rest[:extras], rest[extras : extras + key], rest[extras + key :]
        answers.append(Answer(opcode, status, *parts, cas))
    return answers


def refusal(opcode: int, status: Status) -> Answer:
    """How an error is said: its text as the value, and no token."""
    return Answer(opcode, status, value=TEXTS[status])


def make(limits: Limits = LIMITS) -> BinaryDialect:
    return BinaryDialect(limits)


def answer(data: bytes, command: Command, result: Result) -> list[Answer]:
    """What a client gets for a frame, which has to ask for this command."""
    (request,) = make().receive(data)
    assert request.command == command
    heard, broken = in_any_pieces(make, data, frame(NOOP)[:23])
    assert not broken
    assert [asked for asked, _ in heard] == [command]
    return read(request.encode(result))


def answers(data: bytes) -> tuple[list[Answer], bool]:
    """What a client gets that asks nothing of the storage, and whether the stream has ended."""
    heard, broken = in_any_pieces(make, data)
    assert all(isinstance(command, Noop) for command, _ in heard)
    return [one for _, said in heard for one in read(said[0])], broken


# -- reading -----------------------------------------------------------------------------------

ITEM = Item(b"ab", 7, 5)


@pytest.mark.parametrize(
    ("opcode", "extras", "command", "key"),
    [
        (GET, b"", Get((b"k",), cas=True), b""),
        (GETK, b"", Get((b"k",), cas=True), b"k"),
        (GAT, EXPTIME, GetAndTouch((b"k",), 30, cas=True), b""),
        (GATK, EXPTIME, GetAndTouch((b"k",), 30, cas=True), b"k"),
    ],
)
def test_reading(opcode: int, extras: bytes, command: Command, key: bytes) -> None:
    """
    A hit has flags, value and token, and the key only where the opcode says so: Java
    clients take a key in GAT's answer for data. A quiet miss is silent; a quiet error is not.
    """
    hit = Answer(opcode, 0, FLAGS, key, b"ab", 5)
    miss = Answer(opcode, 1, key=key) if key else refusal(opcode, Status.NOT_FOUND)
    asked = frame(opcode, b"k", extras)
    assert answer(asked, command, [ITEM]) == [hit]
    assert answer(asked, command, [None]) == [miss]
    for failed in (AWAY, [AWAY]):
        assert answer(asked, command, failed) == [refusal(opcode, Status.TEMPORARY)]
    assert answer(asked, command, [ODD]) == [refusal(opcode, Status.INTERNAL)]
    quiet = QUIET[opcode]
    asked = frame(quiet, b"k", extras)
    hit.opcode = quiet
    assert answer(asked, command, [ITEM]) == [hit]
    assert answer(asked, command, [None]) == []
    assert answer(asked, command, [AWAY]) == [refusal(quiet, Status.TEMPORARY)]


def test_touch() -> None:
    """A touch answers with the item's flags and token."""
    asked, command = frame(TOUCH, b"k", EXPTIME), Touch(b"k", 30)
    assert answer(asked, command, Touched(7, 5)) == [Answer(TOUCH, 0, FLAGS, cas=5)]
    assert answer(asked, command, Outcome.NOT_FOUND) == [refusal(TOUCH, Status.NOT_FOUND)]
    assert answer(asked, command, AWAY) == [refusal(TOUCH, Status.TEMPORARY)]


# -- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opcode", "extras", "cas", "command", "outcomes"),
    [
        (SET, STORING, 0, Store(StoreMode.SET, b"k", b"v\r\n", 7, 30), {}),
        (
            SET,
            STORING,
            9,
            Store(StoreMode.SET, b"k", b"v\r\n", 7, 30, 9),
            {Outcome.EXISTS: Status.EXISTS, Outcome.NOT_FOUND: Status.NOT_FOUND},
        ),
        (
            ADD,
            STORING,
            0,
            Store(StoreMode.ADD, b"k", b"v\r\n", 7, 30),
            {Outcome.NOT_STORED: Status.EXISTS},
        ),
        (ADD, STORING, 9, Store(StoreMode.SET, b"k", b"v\r\n", 7, 30, 9), {}),
        (
            REPLACE,
            STORING,
            0,
            Store(StoreMode.REPLACE, b"k", b"v\r\n", 7, 30),
            {Outcome.NOT_STORED: Status.NOT_FOUND},
        ),
        (REPLACE, STORING, 9, Store(StoreMode.SET, b"k", b"v\r\n", 7, 30, 9), {}),
        (
            APPEND,
            b"",
            0,
            Store(StoreMode.APPEND, b"k", b"v\r\n"),
            {Outcome.NOT_STORED: Status.NOT_STORED},
        ),
        (
            PREPEND,
            b"",
            9,
            Store(StoreMode.PREPEND, b"k", b"v\r\n", compare=9),
            {Outcome.EXISTS: Status.EXISTS},
        ),
    ],
)
def test_storing(
    opcode: int, extras: bytes, cas: int, command: Store, outcomes: dict[Outcome, Status]
) -> None:
    """A client that stores learns the new token, or why not; a quiet one only why not."""
    for code in (opcode, QUIET[opcode]):
        asked = frame(code, b"k", extras, b"v\r\n", cas=cas)
        done = [Answer(code, 0, cas=5)] if code == opcode else []
        assert answer(asked, command, Stored(5)) == done
        assert answer(asked, command, FULL) == [refusal(code, Status.OUT_OF_MEMORY)]
        for outcome, status in outcomes.items():
            assert answer(asked, command, outcome) == [refusal(code, status)]


@pytest.mark.parametrize(
    ("opcode", "decrement"), [(INCREMENT, False), (DECREMENT, True)], ids=["up", "down"]
)
def test_counting(opcode: int, decrement: bool) -> None:
    """A client counts with unsigned 64 bits; an exptime of all ones must not make a counter."""
    most = 2**64 - 1
    makes = struct.pack(">QQI", most, 9, 30)
    counts = struct.pack(">QQI", 1, 9, 0xFFFFFFFF)
    for code in (opcode, QUIET[opcode]):
        asked, command = frame(code, b"k", makes), Arithmetic(b"k", most, decrement, 9, 30)
        number = Answer(code, 0, value=struct.pack(">Q", most), cas=5)
        assert answer(asked, command, Number(most, 5)) == ([number] if code == opcode else [])
        asked = frame(code, b"k", counts, cas=4)
        command = Arithmetic(b"k", 1, decrement, None, 0, 4)
        for outcome, status in (
            (Outcome.NOT_FOUND, Status.NOT_FOUND),
            (Outcome.EXISTS, Status.EXISTS),
            (Outcome.NON_NUMERIC, Status.NON_NUMERIC),
        ):
            assert answer(asked, command, outcome) == [refusal(code, status)]
        assert answer(asked, command, AWAY) == [refusal(code, Status.TEMPORARY)]


def test_deleting() -> None:
    """A delete answers with nothing but its success; the token is compared where one is given."""
    for code in (DELETE, DELETEQ):
        done = [Answer(code, 0)] if code == DELETE else []
        assert answer(frame(code, b"k"), Delete(b"k"), Outcome.DELETED) == done
        asked, command = frame(code, b"k", cas=9), Delete(b"k", 9)
        assert answer(asked, command, Outcome.EXISTS) == [refusal(code, Status.EXISTS)]
        assert answer(asked, command, Outcome.NOT_FOUND) == [refusal(code, Status.NOT_FOUND)]
        assert answer(asked, command, AWAY) == [refusal(code, Status.TEMPORARY)]


def test_flushing() -> None:
    """A flush takes no extras, or the time at which it is to happen."""
    for code in (FLUSH, FLUSHQ):
        done = [Answer(code, 0)] if code == FLUSH else []
        assert answer(frame(code), Flush(0), Outcome.OK) == done
        assert answer(frame(code, extras=EXPTIME), Flush(30), Outcome.OK) == done
        assert answer(frame(code), Flush(0), AWAY) == [refusal(code, Status.TEMPORARY)]


def test_flushing_where_it_is_not_allowed() -> None:
    """With --no-flush a client is told so, loudly and quietly alike, as by memcached -F."""
    for code in (FLUSH, FLUSHQ):
        dialect = make(Limits(flush=False))
        (request,) = dialect.receive(frame(code, extras=EXPTIME))
        assert isinstance(request.command, Noop)
        assert read(request.encode(None)) == [refusal(code, Status.AUTH_ERROR)]
        assert not dialect.broken


# -- about the service -------------------------------------------------------------------------


def test_the_service_itself() -> None:
    """Noop, version, verbosity and quit, with the opaque and no token."""
    assert answer(frame(NOOP), Noop(), None) == [Answer(NOOP, 0)]
    assert answer(frame(VERSION), Version(), b"1.6.18") == [Answer(VERSION, 0, value=b"1.6.18")]
    assert answer(frame(VERBOSITY, extras=EXPTIME), Noop(), None) == [Answer(VERBOSITY, 0)]
    assert answer(frame(QUIT), Quit(), None) == [Answer(QUIT, 0)]
    assert answer(frame(QUITQ), Quit(), None) == []


def test_statistics() -> None:
    """One packet for each, then an empty one; an unknown group is not found; reset is done."""
    pairs = [(b"pid", b"1"), (b"version", b"1.6.18")]
    packets = [Answer(STAT, 0, key=name, value=value) for name, value in pairs]
    assert answer(frame(STAT), Statistics(b""), pairs) == [*packets, Answer(STAT, 0)]
    assert answer(frame(STAT), Statistics(b""), []) == [Answer(STAT, 0)]
    assert answer(frame(STAT, b"items"), Statistics(b"items"), []) == [Answer(STAT, 0)]
    assert answer(frame(STAT, b"foo"), Statistics(b"foo"), None) == [
        refusal(STAT, Status.NOT_FOUND)
    ]
    assert answer(frame(STAT), Statistics(b""), AWAY) == [refusal(STAT, Status.TEMPORARY)]
    assert answer(frame(STAT, b"settingsx"), Statistics(b"settings"), []) == [Answer(STAT, 0)]
    assert answer(frame(STAT, b"reset"), ResetStatistics(), None) == [Answer(STAT, 0)]


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        frame(GET),
        frame(GET, b"k", b"1234"),
        frame(GETQ, b"k", value=b"v"),
        frame(GETK, K251),
        frame(SET, b"k", value=b"v"),
        frame(SET, b"k", b"1234", b"v"),
        frame(SET, b"", STORING, b"v"),
        frame(SET, K251, STORING, b"v"),
        frame(ADD, b"k"),
        frame(APPEND, b"k", STORING, b"v"),
        frame(APPEND, b"", b"", b"v"),
        frame(DELETE),
        frame(DELETE, b"k", value=b"v"),
        frame(INCREMENT, b"k", b"12345678"),
        frame(INCREMENT, b"", bytes(20)),
        frame(TOUCH, b"k"),
        frame(TOUCH, b"k", EXPTIME, b"v"),
        frame(GAT, b"k"),
        frame(GATKQ, b"k", EXPTIME, b"v"),
        frame(FLUSH, b"k"),
        frame(FLUSH, extras=b"12345678"),
        frame(NOOP, b"k"),
        frame(NOOP, value=b"v"),
        frame(VERSION, extras=b"1234"),
        frame(QUIT, b"k"),
        frame(STAT, b"k", b"1234"),
        frame(STAT, value=b"v"),
        frame(VERBOSITY),
        frame(HELLO, K251),
    ],
)
def test_wrong_lengths_end_the_connection(data: bytes) -> None:
    """
    A client whose extras, key or value have no business there is told "Invalid arguments"
    and let go, since the next frame may not be where it says: what follows is not heard.
    """
    assert answers(data + frame(NOOP)) == ([refusal(data[1], Status.INVALID)], True)


def test_a_body_shorter_than_its_parts() -> None:
    """A body that cannot hold what the header says is in it ends the connection."""
    wrong = frame(GET, b"key", length=2)
    assert answers(wrong + frame(NOOP)) == ([refusal(GET, Status.UNKNOWN_COMMAND)], True)


@pytest.mark.parametrize("magic", [0x00, 0x08, 0x18, 0x67, 0x81, 0xFF])
def test_a_wrong_magic_ends_the_connection(magic: int) -> None:
    """What came before a bad magic is answered; then the connection ends."""
    wrong = frame(NOOP, magic=magic)
    assert answers(frame(NOOP) + wrong + frame(NOOP)) == ([Answer(NOOP, 0)], True)


@pytest.mark.parametrize(
    "opcode",
    [HELLO, 0x25, 0x30, 0x3D, 0x40, 0x89, 0x92, 0x94, 0xB5, 0xBA, 0xFE, 0xFF],
)
def test_an_unknown_opcode(opcode: int) -> None:
    """
    An opcode that nobody knows answers 0x81 with its own opcode and opaque, and the
    connection goes on behind its body: so a Couchbase client that begins with HELLO or
    SELECT_BUCKET carries on.
    """
    unknown = refusal(opcode, Status.UNKNOWN_COMMAND)
    for data in (
        frame(opcode),
        frame(opcode, b"PLAIN", value=b"\0user\0secret"),
        frame(opcode, b"k", b"1234", bytes(5000)),
    ):
        assert answers(data + frame(NOOP)) == ([unknown, Answer(NOOP, 0)], False)


@pytest.mark.parametrize(
    "data",
    [
        frame(SASL_LIST),
        frame(SASL_AUTH, b"PLAIN", value=b"\0user\0secret"),
        frame(SASL_STEP, b"PLAIN", value=bytes(5000)),
        frame(SASL_AUTH, b"PLAIN"),
    ],
)
def test_sasl_without_users(data: bytes) -> None:
    """Who asks for SASL where nobody has to authenticate is told so, and carries on."""
    unknown = refusal(data[1], Status.UNKNOWN_COMMAND)
    assert answers(data + frame(NOOP)) == ([unknown, Answer(NOOP, 0)], False)


@pytest.mark.parametrize("opcode", [SET, ADD, REPLACE, APPEND, PREPEND])
def test_a_value_that_is_too_large(opcode: int) -> None:
    """
    It is refused with "Too large.", skipped, and the connection goes on. A refused set
    takes the old item with it, so that no stale value lives on.
    """
    extras = b"" if opcode in (APPEND, PREPEND) else struct.pack(">II", 0, 30)
    for code in (opcode, QUIET[opcode]):
        data = frame(code, b"k", extras, b"v" * (ROOM + 1))
        heard, broken = in_any_pieces(make, data + frame(NOOP))
        assert not broken
        (command, said), (noop, _) = heard
        assert command == (Discard(b"k") if opcode == SET else Noop(too_large=True))
        assert all(read(reply) == [refusal(code, Status.TOO_LARGE)] for reply in said)
        assert noop == Noop()


def test_a_value_that_just_fits() -> None:
    """The largest value is taken, and flags other than 0 take four bytes from it."""
    value = b"v" * ROOM
    command = Store(StoreMode.SET, b"k", value, 0, 30)
    plain = struct.pack(">II", 0, 30)
    assert answer(frame(SET, b"k", plain, value), command, Stored(5)) == [Answer(SET, 0, cas=5)]
    (request,) = make().receive(frame(SET, b"k", STORING, value))
    assert request.command == Discard(b"k")


def test_a_frame_that_never_ends_is_not_kept() -> None:
    """A body of four gigabytes is announced, refused at once, and what arrives of it is dropped."""
    dialect = make()
    head = frame(SET, b"k", STORING, length=2**32 - 1)
    (request,) = dialect.receive(head)
    assert read(request.encode(None)) == [refusal(SET, Status.TOO_LARGE)]
    for _ in range(100):
        assert receive(dialect, [bytes(65536)]) == []
    assert dialect._buffer.size == 0


def test_loud_and_quiet_answers_keep_their_order() -> None:
    """A multi-get of quiet gets with a noop at its end: hits in order, then the noop."""
    keys = [b"a", b"b", b"c"]
    requests = make().receive(b"".join(frame(GETKQ, key) for key in keys) + frame(NOOP))
    results: list[Result] = [[ITEM], [None], [ITEM], None]
    said = b"".join(
        request.encode(result) for request, result in zip(requests, results, strict=True)
    )
    assert [(one.opcode, one.key) for one in read(said)] == [
        (GETKQ, b"a"),
        (GETKQ, b"c"),
        (NOOP, b""),
    ]


def test_nobody_is_asked_who_they_are() -> None:
    """Without an --auth-file the dialect never waits for a proof."""
    dialect = make()
    dialect.receive(frame(SASL_AUTH, b"PLAIN", value=b"\0user\0secret"))
    assert not dialect.waiting
    assert dialect.authenticated(True) == (dialect, b"")


# -- anything at all ---------------------------------------------------------------------------

_EXTRAS = st.sampled_from([b"", EXPTIME, STORING, bytes(20), b"x"])
_FRAMES = st.builds(
    frame,
    st.one_of(st.integers(0, 0x24), st.integers(0, 255)),
    st.sampled_from([b"", b"k", K250, K251, b"\0\r\n", b"PLAIN"]),
    _EXTRAS,
    st.binary(max_size=40),
    cas=st.sampled_from([0, 1, 2**64 - 1]),
    magic=st.sampled_from([0x80] * 20 + [0x81, 0]),
    length=st.one_of(st.none(), st.none(), st.none(), st.integers(0, 300)),
)


@given(
    st.lists(st.one_of(_FRAMES, st.binary(max_size=30)), max_size=8),
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_however_it_arrives(parts: list[bytes], places: list[int]) -> None:
    """Whatever bytes a client sends, in whatever pieces: the same requests, and never a fault."""
    data = b"".join(parts)
    assert feed(make, split(data, places)) == feed(make, [data])
