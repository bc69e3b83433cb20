"""
The text dialect's framing: lines, and the data blocks that follow some.

What the lines mean is in L{redcouch.dialects.classic} and
L{redcouch.dialects.meta}; this module knows where a line ends, where a block
ends, and when a client has gone astray.
"""

from __future__ import annotations

from redcouch.dialects import classic, meta
from redcouch.dialects.block import ERROR, DataBlock, Parsed, Refused
from redcouch.dialects.key_list import KeyList
from redcouch.dialects.request import DISCOVERY_KEY, MUCH, Dialect, Request, answered
from redcouch.limits import MAX_KEY, Limits

#: The lines that may be longer than others, since they list keys.
_KEY_LISTS = (b"get ", b"gets ", b"gat ", b"gats ")

#: Blanks that may stand before one of them, if it is long (try_read_command_ascii).
_MOST_BLANKS = 100

_LOOK = _MOST_BLANKS + max(map(len, _KEY_LISTS))
"""Bytes at the front of a line that show whether it may be so long."""

#: Verbs that begin so never lead to the check for a stray web browser.
_FAMILIAR = b"gsacidt"

_LINE_IN_TURN = 64
"""Bytes of a line for which it counts as one line more in its turn: it may have so many words."""

_VERBS = classic.VERBS | meta.VERBS
_TYPED_VERBS = classic.TYPED_VERBS | meta.VERBS


class TextDialect(Dialect):
    """One client's lines and data blocks, as requests."""

    __slots__ = ("_block", "_keys", "_line")

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._block: DataBlock | None = None
        #: The line that the block belongs to, without its LF.
        self._line = b""
        self._keys: KeyList | None = None

    def receive(self, data: bytes) -> list[Request]:
        """The requests that these bytes complete, in order, as many as one turn allows."""
        requests: list[Request] = []
        buffer = self._buffer
        start = 0
        if not (buffer.size or self._swallow or self._block or self._keys):
            # Most often one whole request and nothing else: it need not go through the buffer,
            # and a get of one key, which is the most frequent of all, through nothing.
            start = data.find(b"\n") + 1
            if start == len(data) and data.startswith(b"get ") and data.endswith(b"\r\n"):
                key = data[4:-2]
                plain = b" " not in key and b"\0" not in key and key != DISCOVERY_KEY
                if plain and 0 < len(key) <= MAX_KEY:
                    return [classic.get_one(key)]
            if start:
                self._read_line(data[: start - 1], requests)
                if self.broken or (start == len(data) and self._keys is None):
                    return requests
                block = self._block
                if block is not None and len(data) == start + block.length + 2:
                    self._block = None
                    whole = data.endswith(b"\r\n")
                    requests.append(block.complete(data[start:-2]) if whole else block.bad_chunk)
                    return requests
        buffer.feed(data, start)
        if len(data) - start > MUCH:
            self.pending = self._may_go_on()
        else:
            self._read_on(requests)
        return requests

    def feed(self, data: bytes) -> None:
        """Keep these bytes until the client has its turn."""
        self._buffer.feed(data)
        self.pending = self._may_go_on()

    def _may_go_on(self) -> bool:
        """Whether there is more than a part of a value."""
        return self._block is None or self._buffer.size >= self._block.length + 2

    def _read_on(self, requests: list[Request]) -> None:
        """Understand what is in the buffer, until that ends or the turn does."""
        buffer = self._buffer
        left = self._limits.turn
        self.pending = False
        while (buffer.size or self._keys) and not self.broken:
            if left <= 0:
                self.pending = True
                return
            if self._keys is not None:
                left -= self._limits.keys_per_get
                requests.append(self._next_keys(self._keys))
            elif self._swallow:
                self._swallow -= buffer.skip(self._swallow)
            elif self._block is not None:
                if buffer.size < self._block.length + 2:
                    return
                left -= 1
                requests.append(self._finish_block(self._block))
            else:
                line = buffer.take_line()
                if line is None:
                    self._mind_the_end()
                    return
                left -= 1 + len(line) // _LINE_IN_TURN
                self._read_line(line, requests)

    def suspend(self) -> tuple[bytes, int]:
        """The beginning of a line or of a value, with its line."""
        line = b"" if self._block is None else self._line + b"\n"
        return line + self._buffer.rest(), self._swallow

    def _mind_the_end(self) -> None:
        """Give up on a line whose end is not in sight after too much of it."""
        size = self._buffer.size
        if size > self._limits.max_line:
            start = self._buffer.peek(_LOOK)
            self.broken = self._is_too_long(start, size)

    def _is_too_long(self, start: bytes, size: int) -> bool:
        words = start.lstrip(b" ")
        if len(start) - len(words) > _MOST_BLANKS or not words.startswith(_KEY_LISTS):
            return True
        return size > self._limits.max_get_line

    def _read_line(self, line: bytes, requests: list[Request]) -> None:
        limits = self._limits
        whole = line
        if len(line) >= limits.max_long_line and self._is_too_long(line[:_LOOK], len(line)):
            self.broken = True
            return
        verbs = _TYPED_VERBS
        if len(line) > 1 and line[-1] == 13:
            line = line[:-1]
            verbs = _VERBS
        if b"\0" in line:  # where memcached's own string ends
            line = line[: line.index(b"\0")]
        if len(line) > limits.max_long_line:
            keys = classic.read_long_key_list(line)
            if keys is not None:
                self._take(keys, requests)
                return
        tokens = line.split(b" ")
        if b"" in tokens:
            tokens = [token for token in tokens if token]
        parse = verbs.get(tokens[0]) if tokens else None
        if parse is None:
            self._read_unknown(tokens, requests)
            return
        parsed = parse(tokens, limits)
        if parsed.__class__ is DataBlock:
            self._block = parsed
            self._line = whole
        else:
            self._take(parsed, requests)

    def _take(self, parsed: Parsed, requests: list[Request]) -> None:
        """Take what a line means: a request, or the beginning of many."""
        if isinstance(parsed, Request):
            requests.append(parsed)
        elif isinstance(parsed, Refused):
            requests.append(parsed.request)
            self._swallow = parsed.swallow
        else:
            self._keys = parsed  # type: ignore[assignment]

    def _next_keys(self, keys: KeyList) -> Request:
        request = keys.next(self._limits.keys_per_get)
        if not keys.left:
            self._keys = None
        return request

    def _read_unknown(self, tokens: list[bytes], requests: list[Request]) -> None:
        """memcached hangs up on a web browser, and says ERROR to anything else."""
        stray = (
            bool(tokens)
            and len(tokens[0]) > 1
            and tokens[0][:1] not in _FAMILIAR
            and not (tokens[0][:1] == b"m" and len(tokens[0]) == 2)
            and tokens[-1].startswith(b"HTTP/")
        )
        if stray:
            self.broken = True
        else:
            requests.append(answered(ERROR))

    def _finish_block(self, block: DataBlock) -> Request:
        self._block = None
        value = self._buffer.take_exactly(block.length)
        end = self._buffer.take_exactly(2)
        if end != b"\r\n":
            return block.bad_chunk
        assert value is not None
        return block.complete(value)
