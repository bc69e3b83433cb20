"""
Bytes received and not yet understood.

What arrives whole is sliced from where it lies. What arrives in pieces is kept
as pieces and joined once, when the last one is there, and no piece is searched
twice: so neither a long line nor a large value costs more than its length.
Small pieces are put together as they come, and what has been taken is let go:
so what is held is never much more than what was sent.
"""

from __future__ import annotations

_PIECES = 256
_SMALL = 1024
"""So many pieces that have fewer bytes than this on average become one."""

_TAKEN = 65536
"""Bytes already taken that may be kept in front of others."""


class ReceiveBuffer:
    """Give it data with L{feed}; take lines and exact lengths from its front."""

    __slots__ = ("_data", "_merged", "_more", "_pos", "_searched", "size")

    def __init__(self) -> None:
        self._data = b""
        self._pos = 0
        self._more: list[bytes] = []
        #: How many pieces of C{_more} stay as they are.
        self._merged = 0
        #: How many pieces of C{_more} are known to hold no line end; -1 while
        #: C{_data} has not been searched to its end.
        self._searched = -1
        #: Bytes held.
        self.size = 0

    def feed(self, data: bytes, start: int = 0) -> None:
        """Add bytes at the end: C{data} from C{start} on, which is 0 unless nothing is held."""
        if self.size:
            if len(self._more) - self._merged >= _PIECES:
                self._merge()
            self._more.append(data)
        else:
            self._data = data
            self._pos = start
            self._searched = -1
        self.size += len(data) - start

    def _merge(self) -> None:
        """Put small pieces together: each of them takes more memory than its bytes."""
        pieces = self._more[self._merged :]
        if sum(map(len, pieces)) < _SMALL * len(pieces):
            all_searched = self._searched == len(self._more)
            self._more[self._merged :] = [b"".join(pieces)]
            self._searched = min(self._searched, self._merged + all_searched)
        self._merged = len(self._more)

    def take_line(self) -> bytes | None:
        """
        Everything up to the next LF, which is taken too but not given.
        C{None}, and nothing taken, where no LF has come yet.
        """
        end = self._data.find(b"\n", self._pos) if self._searched < 0 else -1
        if end < 0:
            if not self._line_end_in_more():
                return None
            self._join()
            end = self._data.find(b"\n", self._pos)
        line = self._data[self._pos : end]
        self.size -= end + 1 - self._pos
        self._pos = end + 1
        self._searched = -1
        self._let_go()
        return line

    def _let_go(self) -> None:
        """Keep no more than a little of what has been taken."""
        if self._pos > _TAKEN:
            self._data = self._data[self._pos :]
            self._pos = 0

    def _line_end_in_more(self) -> bool:
        for index in range(max(self._searched, 0), len(self._more)):
            if b"\n" in self._more[index]:
                return True
        self._searched = len(self._more)
        return False

    def _join(self) -> None:
        self._data = b"".join((self._data[self._pos :], *self._more))
        self._pos = 0
        self._more = []
        self._merged = 0
        self._searched = -1

    def take_exactly(self, length: int) -> bytes | None:
        """That many bytes; C{None}, and nothing taken, while there are fewer."""
        if length > self.size:
            return None
        end = self._pos + length
        if end <= len(self._data):
            taken = self._data[self._pos : end]
            self._pos = end
        else:
            taken = self._take_pieces(length)
        self._searched = -1
        self.size -= length
        self._let_go()
        return taken

    def _take_pieces(self, length: int) -> bytes:
        """Join the pieces that make up this length, copying each byte once."""
        pieces = [self._data[self._pos :]]
        missing = length - len(pieces[0])
        used = 0
        while missing > len(self._more[used]):
            pieces.append(self._more[used])
            missing -= len(self._more[used])
            used += 1
        self._data = self._more[used]
        self._pos = missing
        pieces.append(self._data[:missing])
        del self._more[: used + 1]
        self._merged = max(0, self._merged - used - 1)
        return b"".join(pieces)

    def skip(self, length: int) -> int:
        """Throw away up to that many bytes; gives how many there were."""
        skipped = min(length, self.size)
        self.take_exactly(skipped)
        return skipped

    def rest(self) -> bytes:
        """All that is held, left where it is."""
        self._join()
        return self._data

    def peek(self, length: int) -> bytes:
        """Up to that many of the next bytes, left where they are."""
        start = self._data[self._pos : self._pos + length]
        if len(start) == length or not self._more:
            return start
        self._join()
        return self._data[:length]
