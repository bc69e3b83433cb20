"""Lines of keys, cut piece by piece, are what they are when they are split at once."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from redcouch.commands import Get
from redcouch.dialects.classic import read_long_key_list
from redcouch.dialects.key_list import KeyList
from redcouch.limits import MAX_KEY

words = st.integers(1, MAX_KEY).map(lambda size: b"k" * size)
blanks = st.integers(1, 300).map(lambda size: b" " * size)


def keys_of(line: bytes, most: int) -> tuple[list[bytes], int]:
    """All keys, and how many there are at most in a piece."""
    found = read_long_key_list(line)
    assert isinstance(found, KeyList)
    pieces = []
    while found.left:
        command = found.next(most).command
        assert isinstance(command, Get)
        pieces.append(list(command.keys))
        assert pieces[-1]
    return [key for piece in pieces for key in piece], max(map(len, pieces))


@given(st.lists(st.tuples(blanks, words), min_size=1, max_size=40), st.integers(1, 9))
@example([(b" ", b"k" * MAX_KEY)] * 30, 3)
@example([(b" ", b"k")] * 30, 1)
def test_any_line(parts: list[tuple[bytes, bytes]], most: int) -> None:
    """Whatever the blanks, no key is lost, cut or given twice."""
    line = b"get" + b"".join(blank + word for blank, word in parts) + b"  "
    keys, largest = keys_of(line, most)
    assert keys == line.split()[1:]
    assert largest <= most


@given(st.lists(words, max_size=20), st.integers(MAX_KEY + 1, 3 * MAX_KEY), st.integers(0, 20))
def test_a_key_that_is_too_long(keys: list[bytes], size: int, place: int) -> None:
    """Is found wherever it is, and none of the others is asked for."""
    keys.insert(min(place, len(keys)), b"k" * size)
    found = read_long_key_list(b"gets " + b" ".join(keys))
    assert not isinstance(found, KeyList)
    assert found is not None
    assert found.encode(None) == b"CLIENT_ERROR bad command line format\r\n"


def test_others() -> None:
    """What lists no keys is read as other lines are."""
    for line in (b"get", b"get    ", b"set k 0 0 1", b"gat x k", b"gat 0", b"   "):
        assert read_long_key_list(line) is None
