"""
Bytes that wait to be understood: exactly the ones that came, at a cost that
follows their number.
"""

from __future__ import annotations

from typing import Any, SupportsIndex, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redcouch.dialects.buffer import ReceiveBuffer

# -- what it gives, compared with the plainest buffer there can be -------------------------------


class Naive:
    """All bytes in one string."""

    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: bytes) -> None:
        self.held += data

    def take_line(self) -> bytes | None:
        line, found, rest = self.held.partition(b"\n")
        if not found:
            return None
        self.held = rest
        return line

    def take_exactly(self, length: int) -> bytes | None:
        if length > len(self.held):
            return None
        taken, self.held = self.held[:length], self.held[length:]
        return taken

    def skip(self, length: int) -> int:
        before = len(self.held)
        self.held = self.held[length:]
        return before - len(self.held)

    def peek(self, length: int) -> bytes:
        return self.held[:length]


lengths = st.integers(0, 12)
steps = st.one_of(
    st.tuples(st.just("feed"), st.lists(st.sampled_from(b"\r\nab"), max_size=6).map(bytes)),
    st.tuples(st.just("take_line")),
    st.tuples(st.sampled_from(["take_exactly", "skip", "peek"]), lengths),
)


@given(st.lists(steps, max_size=40))
@example([("feed", b"a"), ("feed", b"b"), ("take_line",), ("peek", 2), ("feed", b"\n")])
@example([("feed", b"a"), ("feed", b"b\n"), ("peek", 2), ("take_line",), ("take_line",)])
@example([("feed", b"ab"), ("feed", b""), ("take_exactly", 2), ("feed", b"a"), ("peek", 9)])
@example([("feed", b"a"), ("feed", b"bb"), ("feed", b"aa"), ("take_exactly", 3)])
def test_any_use(steps: list[tuple[Any, ...]]) -> None:
    """Whatever is asked for in whatever order, not a byte is lost, changed or given twice."""
    buffer, naive = ReceiveBuffer(), Naive()
    for name, *arguments in [*steps, ("take_line",), ("take_line",), ("skip", 9)]:
        assert getattr(buffer, name)(*arguments) == getattr(naive, name)(*arguments)
        assert buffer.size == len(naive.held)
    assert buffer.take_exactly(buffer.size) == naive.held


def test_line_end_after_a_look() -> None:
    """A line is found also when somebody has looked at its pieces before it was complete."""
    buffer = ReceiveBuffer()
    for piece in (b"get ", b"a b c ", b"d e f "):
        buffer.feed(piece)
        assert buffer.take_line() is None
    assert buffer.peek(10) == b"get a b c "
    buffer.feed(b"g\r\n")
    assert buffer.take_line() == b"get a b c d e f g\r"


# -- what it costs: bytes that are searched or copied --------------------------------------------


class Tally:
    """How many bytes have been looked at or copied."""

    def __init__(self) -> None:
        self.work = 0


class Counted(bytes):
    """Bytes that say how many of them somebody touches."""

    tally: Tally

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        found = bytes(self).find(sub, start, end)
        self.tally.work += (len(self) if found < 0 else found + 1) - start
        return found

    def __contains__(self, sub: Any) -> bool:
        found = bytes(self).find(sub)
        self.tally.work += len(self) if found < 0 else found + 1
        return found >= 0

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        taken = super().__getitem__(index)
        if isinstance(taken, bytes):
            self.tally.work += len(taken)
            return counted(taken, self.tally)
        return taken


def counted(data: bytes, tally: Tally) -> Counted:
    made = Counted(data)
    made.tally = tally
    return made


class CountingBuffer(ReceiveBuffer):
    """A buffer in which every byte that is joined, searched or sliced is counted."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._front = counted(b"", self.tally)
        super().__init__()

    @property
    def _data(self) -> bytes:
        return self._front

    @_data.setter
    def _data(self, data: bytes) -> None:
        if isinstance(data, Counted):
            self._front = data
        else:  # just joined
            self.tally.work += len(data)
            self._front = counted(data, self.tally)

    def feed(self, data: bytes, start: int = 0) -> None:
        super().feed(counted(data, self.tally), start)

    def take_exactly(self, length: int) -> bytes | None:
        taken = super().take_exactly(length)
        if taken is not None and not isinstance(taken, Counted):  # just joined
            self.tally.work += len(taken)
        return taken


SIZE = 50_000

#: How often a byte may be touched: found not to be a line end, joined, found again, sliced twice.
TIMES = 6


@pytest.mark.parametrize("piece", [1, 2, 7, 100, SIZE])
def test_long_line(piece: int) -> None:
    """A line that comes in small pieces costs no more than its length, a few times over."""
    buffer = CountingBuffer()
    data = b"x" * SIZE + b"\n"
    taken = None
    for start in range(0, len(data), piece):
        assert taken is None
        buffer.feed(data[start : start + piece])
        taken = buffer.take_line()
        buffer.peek(100)
    assert taken == data[:-1]
    assert len(data) <= buffer.tally.work <= TIMES * len(data) + 100 * (len(data) // piece)


@pytest.mark.parametrize("piece", [1, 2, 7, 100, SIZE])
def test_large_value(piece: int) -> None:
    """So does a value."""
    buffer = CountingBuffer()
    data = b"\n" * SIZE
    taken = None
    for start in range(0, SIZE, piece):
        assert taken is None
        buffer.feed(data[start : start + piece])
        taken = buffer.take_exactly(SIZE)
    assert taken == data
    assert SIZE <= buffer.tally.work <= 2 * SIZE


@pytest.mark.parametrize("piece", [1, 9, 10, 11, 1000, SIZE])
def test_many_lines(piece: int) -> None:
    """And so do many lines, wherever the network has cut them."""
    buffer = CountingBuffer()
    data = b"012345678\n" * (SIZE // 10)
    lines = 0
    for start in range(0, SIZE, piece):
        buffer.feed(data[start : start + piece])
        while buffer.size and buffer.take_line() is not None:
            lines += 1
    assert lines == SIZE // 10
    assert SIZE <= buffer.tally.work + lines <= TIMES * SIZE


@pytest.mark.parametrize("piece", [1, 9, 10, 11, 1000])
def test_lines_and_values_that_have_waited(piece: int) -> None:
    """And bytes that have piled up before anybody asked for them."""
    buffer = CountingBuffer()
    data = b"012345678\nvalue" * (SIZE // 15)
    for start in range(0, len(data), piece):
        buffer.feed(data[start : start + piece])
    for _ in range(SIZE // 15):
        assert buffer.take_line() == b"012345678"
        assert buffer.take_exactly(5) == b"value"
    assert buffer.size == 0
    assert buffer.tally.work <= TIMES * len(data)


def test_skipping() -> None:
    """What is thrown away is not joined with what stays."""
    buffer = CountingBuffer()
    skipped = 0
    for _ in range(SIZE // 100):
        buffer.feed(b"x" * 100)
        skipped += buffer.skip(SIZE)
    assert skipped == SIZE
    assert buffer.tally.work <= SIZE


def test_the_count_is_honest() -> None:
    """A buffer that searched again from the start after each piece would be found out."""

    class Forgetful(CountingBuffer):
        def take_line(self) -> bytes | None:
            cast(Any, self)._searched = -1
            return super().take_line()

    buffer = Forgetful()
    for _ in range(1000):
        buffer.feed(b"x")
        buffer.take_line()
    assert buffer.tally.work > 1000 * TIMES
