"""
What has been asked of keys, by their prefixes: C{stats detail}.

It costs, so it is counted between C{stats detail on} and C{off} only. In all
other time no request passes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redcouch.commands import (
    Command,
    Delete,
    Discard,
    Get,
    GetAndTouch,
    Invalidate,
    MetaGet,
    Store,
)
from redcouch.results import Failed, Result
from redcouch.telemetry.latency import Perform

MOST = 1000
"""Prefixes that are counted. Those that come later are not."""

_GET, _HIT, _SET, _DELETE = range(4)

_COUNTED = {Store: _SET, Discard: _SET, Delete: _DELETE, Invalidate: _DELETE}


class PrefixCounts:
    """
    @ivar switch: lets requests pass here from now on, or no more.
    @ivar counts: for each prefix how many gets, hits, sets and deletions there were. A key
        without a separator has none.
    """

    def __init__(self, separator: bytes) -> None:
        self.switch: Callable[[bool], None] = lambda on: None
        self.counts: dict[bytes, list[int]] = {}
        self._separator = separator

    def around(self, perform: Perform) -> Perform:
        """The same, with all that is asked of the storage counted."""

        def counted(commands: Sequence[Any], answer: Callable[[Any], None]) -> None:
            def count_and_answer(results: Any) -> None:
                if isinstance(results, list):
                    self.count(commands, results)
                answer(results)

            perform(commands, count_and_answer)

        return counted

    def count(self, commands: Sequence[Command], results: Sequence[Result]) -> None:
        """Count what was asked for, and what was found."""
        for command, result in zip(commands, results, strict=True):
            place = _COUNTED.get(command.__class__)
            if place is not None:
                self._add(command.keys[0], place)
            elif isinstance(command, MetaGet):
                self._add_get(command.key, result)
            elif isinstance(command, Get | GetAndTouch):
                found = [result] * len(command.keys) if isinstance(result, Failed) else result
                for key, one in zip(command.keys, found, strict=True):
                    self._add_get(key, one)

    def _add_get(self, key: bytes, found: Result) -> None:
        self._add(key, _GET)
        if found is not None and not isinstance(found, Failed):
            self._add(key, _HIT)

    def _add(self, key: bytes, place: int) -> None:
        prefix, separator, _ = key.partition(self._separator)
        if not separator:
            return
        counts = self.counts.get(prefix)
        if counts is None:
            if len(self.counts) >= MOST:
                return
            counts = self.counts[prefix] = [0, 0, 0, 0]
        counts[place] += 1

    def reset(self) -> None:
        """Count from zero."""
        self.counts.clear()

    def shown(self) -> dict[str, list[int]]:
        """The same for people and for JSON: what cannot stand in a line is percent-encoded."""
        return {_show(prefix): list(counts) for prefix, counts in self.counts.items()}


def _show(prefix: bytes) -> str:
    return "".join(chr(byte) if 32 < byte != 127 else f"%{byte:02X}" for byte in prefix)


def dump(counts: Mapping[str, Sequence[int]]) -> str:
    """As memcached says it."""
    lines = [
        "PREFIX {} get {} hit {} set {} del {}\r\n".format(prefix, *each)
        for prefix, each in counts.items()
    ]
    return "".join([*lines, "END\r\n"])
