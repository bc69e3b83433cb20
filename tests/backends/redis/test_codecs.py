"""What a codec promises whoever sends its bytes: each command stands alone; reading only reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import hiredis
import pytest
from twisted.internet.task import Clock

from redcouch.backends.redis import make_codec
from redcouch.backends.redis.layout import Layout, StringLayout
from redcouch.backends.redis.replies import LOST, Unfinished
from redcouch.backends.redis.script_codec import ScriptCodec
from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Effect,
    Get,
    GetAndTouch,
    MetaGet,
    Store,
    StoreMode,
)
from redcouch.errors import ConfigurationError
from redcouch.interfaces import BackendContext
from redcouch.limits import Limits
from redcouch.results import ErrorKind, Failed, Item, MetaItem
from tests.support.commands import example

SURROUNDINGS = BackendContext(Clock(), Limits(), lambda: 1_790_000_000.0, print)
CODECS = [
    make_codec(layout, SURROUNDINGS)
    for layout in (
        Layout(),
        Layout(b"p%d:", raw=True),
        StringLayout(),
        StringLayout(b"s:"),
    )
]

#: The largest items that Redis takes, with its default for one argument.
MOST = [(Layout(), 2**28), (Layout(raw=True), 2**29), (StringLayout(), 2**29)]
LARGE = Store(StoreMode.SET, b"k", bytes(100_000))

ERRORS = {
    "LOADING Redis is loading the dataset in memory": ErrorKind.UNAVAILABLE,
    "BUSY Redis is busy running a script": ErrorKind.UNAVAILABLE,
    "CLUSTERDOWN Hash slot not served": ErrorKind.UNAVAILABLE,
    "READONLY You can't write against a read only replica.": ErrorKind.REFUSED,
    "OOM command not allowed when used memory > 'maxmemory'.": ErrorKind.OUT_OF_MEMORY,
    "ERR Error running script: @user_script:1: OOM command not allowed": ErrorKind.OUT_OF_MEMORY,
    "WRONGTYPE Operation against a key holding the wrong kind of value": ErrorKind.WRONG_TYPE,
    "MOVED 3999 127.0.0.1:6381": ErrorKind.REFUSED,
    "": ErrorKind.REFUSED,
}


@pytest.mark.parametrize(("layout", "most"), MOST)
def test_items_that_redis_does_not_take_are_refused_at_the_start(layout: Layout, most: int) -> None:
    """Such a set would end the connection that all clients share."""
    assert make_codec(layout, replace(SURROUNDINGS, limits=Limits(most)))
    with pytest.raises(ConfigurationError):
        make_codec(layout, replace(SURROUNDINGS, limits=Limits(most + 1)))


def read(packed: bytes) -> list[list[bytes]]:
    """The commands that Redis sees."""
    reader = hiredis.Reader()
    reader.feed(packed)
    return list(iter(reader.gets, False))


def every(codec: ScriptCodec) -> list[Command]:
    """A command of each kind that the codec packs, and some that it packs in another way."""
    return [
        *map(example, codec.packers),
        Get([b"k"], cas=True),
        MetaGet(b"k", touch=5),
        Store(StoreMode.APPEND, b"k", b"v"),
        Store(StoreMode.SET, b"k", b"v", compare=1),
        LARGE,
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_each_alone(codec: ScriptCodec) -> None:
    """As many replies are expected as commands are sent, and each has its own item's key."""
    for packers in (codec.packers, codec.packers_among_changes):
        for command in every(codec):
            payload, replies, _ = packers[command.__class__](command)
            sent = read(payload)
            assert len(sent) == replies, command
            if command.effect is not Effect.NONE:
                words = {word for one in sent for word in one}
                assert {codec.layout.prefix + key for key in command.keys} <= words, command


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_is_its_commands(codec: ScriptCodec) -> None:
    """A batch's bytes are those of its commands, one behind the other, and so are its replies."""
    for commands, packers in (
        (every(codec), codec.packers_among_changes),
        ([Get([b"a", b"b"]), MetaGet(b"k"), Get([b"c"], cas=True)], codec.packers),
    ):
        packed = codec.pack(commands)
        assert packed is not None
        payload, expected, readers = packed
        alone = [packers[command.__class__](command) for command in commands]
        assert payload == b"".join(one[0] for one in alone)
        assert [count for count, _ in readers] == [one[1] for one in alone]
        assert expected == sum(count for count, _ in readers)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("text", ERRORS)
def test_errors(codec: ScriptCodec, text: str) -> None:
    """An error of Redis is read as a failure of its command, and nothing else comes of it."""
    for command in every(codec):
        _, replies, reader = codec.packers[command.__class__](command)
        result = reader(command, [hiredis.ReplyError(text)] * replies)
        for one in result if isinstance(result, list) else [result]:
            if isinstance(one, Unfinished):  # of which the old item is left
                assert command is LARGE
                one = one.result
            assert isinstance(one, Failed), command
            assert one.kind is ERRORS[text]
            assert "127.0.0.1" not in one.message


@pytest.mark.parametrize("codec", CODECS)
def test_lost_scripts(codec: ScriptCodec) -> None:
    """Where Redis has forgotten a script, the result says that nothing has been done."""
    error = hiredis.ReplyError("NOSCRIPT No matching script. Please use EVAL.")
    commands: list[Command] = [
        Store(StoreMode.SET, b"k", b"v"),
        Store(StoreMode.ADD, b"k", b"v"),
        Arithmetic(b"k", 1),
        Delete(b"k"),
        MetaGet(b"k", touch=5),
        GetAndTouch([b"k", b"l"], 5),
    ]
    for command in commands:
        _, replies, reader = codec.packers[command.__class__](command)
        unfinished = reader(command, [error] * replies)
        assert isinstance(unfinished, Unfinished), command
        assert unfinished.result in (LOST, [LOST, LOST])


def asked(questions: Sequence[Any]) -> list[list[bytes]]:
    """The items that scripts are called for, and which scripts."""
    return [words[1:2] + words[3:4] for payload, _ in questions for words in read(payload)]


def test_questions_of_a_get() -> None:
    """Items without tokens are asked about one by one, and completed where they stand."""
    codec = CODECS[0]
    command = Get([b"a", b"b", b"c"], cas=True)
    _, _, reader = codec.packers[Get](command)
    without, full = [b"76", None, b"7", None], [b"76", None, b"7", b"9"]
    unfinished = reader(command, [without, full, without])
    sha = codec.script("assign").sha
    assert asked(unfinished.questions) == [[sha, b"rc:a"], [sha, b"rc:c"]]
    for (_, answer), reply in zip(unfinished.questions, (b"5", b"6"), strict=True):
        assert answer(reply) is None
    assert unfinished.result == [Item(b"v", 7, 5), Item(b"v", 7, 9), Item(b"v", 7, 6)]


def test_questions_of_a_meta_get() -> None:
    """A stale item without a token is given one, and then somebody wins it."""
    codec = CODECS[0]
    command = MetaGet(b"a")
    _, _, reader = codec.packers[MetaGet](command)
    plain = reader(command, [[b"76", None, b"7", None, None, None]])
    assert plain == MetaItem(b"v", 1, 7, 0)  # nobody has asked for the token
    unfinished = reader(command, [[b"76", None, b"7", None, b"1", None]])
    ((payload, answer),) = unfinished.questions
    assert asked([(payload, None)]) == [[codec.script("assign").sha, b"rc:a"]]
    payload, answer = answer(b"5")
    assert asked([(payload, None)]) == [[codec.script("win").sha, b"rc:a"]]
    assert answer(1) is None
    assert unfinished.result == MetaItem(b"v", 1, 7, 5, stale=True, won=True)
