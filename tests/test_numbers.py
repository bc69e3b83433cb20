"""Numbers in text, with the C library that memcached uses as the judge."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redcouch.numbers import signed_32, unsigned_32, unsigned_64
from tests.contract import contract
from tests.contract.numbers import BLANKS, TWO_32, TWO_63, TWO_64, strtoll, strtoull

LIKELY = b"0123456789" * 4 + BLANKS + b"+-x."

tokens = st.one_of(
    st.binary(max_size=30),
    st.lists(st.sampled_from(LIKELY), max_size=26).map(bytes),
    st.builds(
        b"%b%b%b%d%b".__mod__,
        st.tuples(
            st.sampled_from([b"", b" ", b"\t\v"]),
            st.sampled_from([b"", b"-", b"+"]),
            st.sampled_from([b"", b"0", b"0" * 25]),
            st.integers(0, 2 * TWO_64) | st.sampled_from(contract.EDGES),
            st.sampled_from([b"", b" ", b"\r\n", b" -", b"x"]),
        ),
    ),
).filter(lambda token: b"\0" not in token)


@given(tokens)
def test_unsigned_64(token: bytes) -> None:
    """A counter or a delta is what strtoull makes of it, blanks and signs included."""
    assert unsigned_64(token) == strtoull(token)


@given(tokens)
@example(b"4294967296")
@example(b"-1")
def test_unsigned_32(token: bytes) -> None:
    """Of a larger number, the low 32 bits count."""
    number = strtoull(token)
    assert unsigned_32(token) == (None if number is None else number % TWO_32)


@given(tokens)
@example(b"2147483648")
@example(b"-2147483649")
@example(b"9223372036854775807")
@example(b"-9223372036854775808")
@example(b"9223372036854775808")
@example(b"-9223372036854775809")
def test_signed_32(token: bytes) -> None:
    """Of a larger number, the low 32 bits count, the highest of them as the sign."""
    number = strtoll(token)
    if number is not None:
        number = (number + 2**31) % TWO_32 - 2**31
    assert signed_32(token) == number


@pytest.mark.parametrize("token", contract.ODD_NUMBERS)
def test_odd_spellings(token: bytes) -> None:
    """Each odd spelling is read, or refused, as memcached does it."""
    if b"\0" not in token:
        assert unsigned_64(token) == strtoull(token)


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"0", 0),
        (b"18446744073709551615", TWO_64 - 1),
        (b"18446744073709551616", None),
        (b"-1", None),
        (b"-18446744073709551615", 1),
        (b"-9223372036854775809", TWO_63 - 1),
        (b"-9223372036854775808", None),
        (b"9223372036854775808", TWO_63),
        (b"9223372036854775808 -", None),
        (b"00000000000000000000000000000001", 1),
        (b"", None),
    ],
)
def test_the_judge(token: bytes, number: int | None) -> None:
    """The C library itself says what these tests expect it to say."""
    assert strtoull(token) == number == unsigned_64(token)
