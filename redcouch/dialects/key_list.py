"""
Lines that list keys, some of them millions.

Such a line stays the bytes that it came in, and a few keys at a time are cut
from it: so it takes no more memory than the client has sent, and no longer
than others can wait.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from redcouch.commands import Get, GetAndTouch
from redcouch.dialects.request import Request
from redcouch.limits import MAX_KEY
from redcouch.results import Failed, KeyResult

Ask = Callable[[list[bytes]], Get | GetAndTouch]
"""Makes the command for some keys."""

Say = Callable[[list[bytes], bool, list[KeyResult] | Failed], bytes]
"""Says what was found of some keys, and whether they are the last of the line."""


class KeyList:
    """
    The keys of a line, asked for piece by piece.

    @ivar left: whether there are more to ask for.
    """

    __slots__ = ("_ask", "_line", "_place", "_say", "left")

    def __init__(self, line: bytes, place: int, ask: Ask, say: Say) -> None:
        """
        @param line: ends in a key; none is too long.
        @param place: where its keys begin.
        """
        self._line = line
        self._place = place
        self._ask = ask
        self._say = say
        self.left = True

    def next(self, most: int) -> Request:
        """The request for the next keys, at least one of them, up to so many."""
        keys = self._cut(most)
        self.left = self._place < len(self._line)
        return Request(self._ask(keys), partial(self._say, keys, not self.left))

    def _cut(self, most: int) -> list[bytes]:
        place = skip_blanks(self._line, self._place)
        window = self._line[place : place + most * (MAX_KEY + 1)]
        keys = window.split(b" ", most)
        if len(keys) > most or place + len(window) < len(self._line):
            window = window[: len(window) - len(keys.pop())]  # too many, or cut off in the middle
        self._place = place + len(window)
        return [key for key in keys if key]


def skip_blanks(line: bytes, place: int) -> int:
    """Where the first word from this place on begins; the end of the line where there is none."""
    step = 64
    while place < len(line):
        window = line[place : place + step]
        words = window.lstrip(b" ")
        if words:
            return place + len(window) - len(words)
        place += len(window)
        step *= 2
    return len(line)


def has_long_word(line: bytes, place: int) -> bool:
    """
    Whether a word from this place on is too long for a key. Looks at the last
    blank before which one would have to end, then at the last one for the next word.
    """
    while len(line) - place > MAX_KEY:
        place = line.rfind(b" ", place, place + MAX_KEY + 1) + 1
        if not place:
            return True
    return False


def next_word(line: bytes, place: int) -> tuple[bytes, int]:
    """The word that begins at this place, and where the next one begins."""
    end = line.find(b" ", place)
    if end < 0:
        return line[place:], len(line)
    return line[place:end], skip_blanks(line, end)
