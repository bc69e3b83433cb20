"""The fast packers agree with the general one."""

from __future__ import annotations

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from redcouch.backends.redis.layout import CAS_COUNTER
from redcouch.backends.redis.resp import bulk, pack_command, pack_hmget, pack_script
from redcouch.backends.redis.scripts import SCRIPTS

words = st.binary(max_size=300)


def read(packed: bytes) -> list[list[bytes]]:
    """The commands that Redis sees."""
    reader = hiredis.Reader()
    reader.feed(packed)
    found = []
    while (command := reader.gets()) is not False:
        found.append(command)
    return found


@given(st.lists(words, min_size=1, max_size=5))
def test_any_command(arguments: list[bytes]) -> None:
    """A command arrives as it was given, whatever bytes are in it."""
    assert read(pack_command(tuple(arguments))) == [arguments]
    assert read(b"*%d\r\n" % len(arguments) + b"".join(map(bulk, arguments))) == [arguments]


@given(words, st.lists(words, min_size=1, max_size=4).map(tuple), st.lists(words, min_size=1))
def test_hmget(prefix: bytes, fields: tuple[bytes, ...], keys: list[bytes]) -> None:
    """Percent signs in a prefix or in a key are only percent signs."""
    expected = [[b"HMGET", prefix + key, *fields] for key in keys]
    assert read(pack_hmget(prefix, fields)(keys)) == expected


@given(
    st.lists(words, min_size=1, max_size=2),
    st.sampled_from(SCRIPTS),
    words,
    st.lists(words, max_size=4),
)
def test_script(prefixes: list[bytes], script: object, key: bytes, arguments: list[bytes]) -> None:
    """
    A script is given the item, the counter, and a side key where there is one, as its keys, and
    then its arguments.
    """
    (chosen,) = [known for known in SCRIPTS if known is script]
    pack = pack_script(prefixes, (CAS_COUNTER,), chosen, len(arguments))
    item, *side = (prefix + key for prefix in prefixes)
    keys = [item, CAS_COUNTER, *side]
    expected = [b"EVALSHA", chosen.sha, b"%d" % len(keys), *keys, *arguments]
    assert read(pack(key, *arguments)) == [expected]
