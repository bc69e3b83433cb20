"""Conversations that nobody has written."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.comparison import Cut, Subject, Transcript, assert_alike
from tests.support.wire import bytewise, whole

_NUMBER = b"n"
"""
The one key that is counted on. It is given no blanks and no zeros: past the end of blanks
memcached reads what an older item left there, and what it does with a number that gets
shorter depends on whether it still has to send the old one.
"""

_KEY = st.sampled_from([b"a", b"b", b"c", _NUMBER])
_FLAGS = st.sampled_from([b"0", b"1", b"4294967295", b"-1", b"x"])
_EXPTIME = st.sampled_from(
    [b"0", b"0", b"100", b"2592000", b"{now+100}", b"2147483647", b"-1", b"2592001", b"x"]
)
_NOREPLY = st.sampled_from([b"", b"", b" noreply"])
_COUNTABLE = [b"", b"5", b"99", b"4294967295", b"x"]
_VALUE = st.sampled_from([*_COUNTABLE, b"0", b"\r\n", b"get a\r\n"])
_DELTA = st.sampled_from([b"0", b"1", b"7", b"4294967296", b"x", b"-1"])
_TOKEN = st.sampled_from([b"{cas:a}", b"{cas:b}", b"{cas:n}", b"{cas:a+1}", b"0", b"x"])


@st.composite
def _store(draw: st.DrawFn) -> bytes:
    verb = draw(
        st.sampled_from([b"set", b"set", b"add", b"replace", b"append", b"prepend", b"cas"])
    )
    key = draw(_KEY)
    value = draw(st.sampled_from(_COUNTABLE) if key == _NUMBER else _VALUE)
    wrong = 0 if key == _NUMBER else draw(st.sampled_from([0, 0, 0, 0, -2, -1, 1, 2]))
    length = max(0, len(value) + wrong)
    words = [verb, key, draw(_FLAGS), draw(_EXPTIME), b"%d" % length]
    if verb == b"cas":
        words.append(draw(_TOKEN))
    more = b"\r\n\r\n" if length > len(value) else b""  # for a block that goes on
    return b" ".join(words) + draw(_NOREPLY) + b"\r\n" + value + b"\r\n" + more


def _line(*words: st.SearchStrategy[bytes] | bytes) -> st.SearchStrategy[bytes]:
    parts = [st.just(word) if isinstance(word, bytes) else word for word in words]
    return st.tuples(*parts).map(lambda drawn: b" ".join(drawn).replace(b"  ", b" ") + b"\r\n")


_COMMAND = st.one_of(
    _store(),
    _store(),
    _line(b"get", _KEY),
    _line(b"gets", _KEY, _KEY, _KEY),
    _line(b"gat", _EXPTIME, _KEY, _KEY),
    _line(b"gats", _EXPTIME, _KEY),
    _line(b"incr", _NUMBER, _DELTA, _NOREPLY),
    _line(b"decr", _NUMBER, b"0", _NOREPLY),
    _line(b"touch", _KEY, _EXPTIME, _NOREPLY),
    _line(b"delete", _KEY, _NOREPLY),
    _line(b"delete", _KEY, st.sampled_from([b"0", b"5"]), _NOREPLY),
    st.just(b"flush_all\r\n"),
    st.just(b"flush_all noreply\r\n"),
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(commands=st.lists(_COMMAND, min_size=1, max_size=30), cut=st.sampled_from([whole, bytewise]))
def test_generated(commands: list[bytes], cut: Cut, theirs: Subject, ours: Subject) -> None:
    """Whatever is said in whatever order, a client sees no difference."""
    transcript = Transcript.of(b"".join(commands) + b"gets a b c n\r\n")
    assert_alike(theirs, ours, [transcript], cut)
