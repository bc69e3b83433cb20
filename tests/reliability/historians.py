"""Clients that note what they asked, when, and what they heard, for the whole to be judged."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread
from typing import Protocol

from tests.reliability import history
from tests.reliability.clients import until_more
from tests.reliability.history import Operation, Step, is_linearizable
from tests.support.polling import PACE
from tests.support.wire import Address, Wire

KEYS = 3


CLIENTS = 6


VERBS = ("get", "get", "read", "set", "add", "append", "cas", "cas", "incr", "incr", "delete")


READS = ("get", "read")
"""With and without asking for a token."""


NOT_DONE = b"SERVER_ERROR storage not reachable"
"""The one failure after which it is certain that nothing was done."""


class Historian(Thread):
    """Does at random what memcached knows, and notes when it began, ended and what was said."""

    def __init__(
        self,
        address: Address,
        number: int,
        over: Event,
        times: int | None,
        verbs: Sequence[str] = VERBS,
    ) -> None:
        super().__init__(daemon=True)
        self._verbs = verbs
        self.operations: list[tuple[int, Operation]] = []
        self.trouble: Exception | None = None
        self._address = address
        self._number = number
        self._over = over
        self._times = times
        self._tokens: dict[int, tuple[bytes, bytes]] = {}

    def run(self) -> None:
        chance = random.Random(self._number)
        try:
            with Wire(self._address) as wire:
                for place in count() if self._times is None else range(self._times):
                    if self._over.wait(PACE if self._times is None else 0):
                        break
                    self._do(chance, chance.randrange(KEYS), place, wire)
        except Exception as error:  # for the test to see
            self.trouble = error

    def _fresh(self, verb: str, chance: random.Random, place: int) -> bytes:
        """A word, or a number with so much room above it that no count makes it another's."""
        if verb == "append" or chance.random() < 0.5:  # two numbers in a row might be none
            return b"<%d.%d>" % (self._number, place)
        return b"%d%06d000000" % (self._number + 1, place)

    def _do(self, chance: random.Random, key: int, place: int, wire: Wire) -> None:
        verb = chance.choice(self._verbs)
        fresh = self._fresh(verb, chance, place)
        expected, token = self._tokens.get(key, (b"", b"0"))
        words = b"k%d" % key
        if verb == "get":
            request = b"gets %b\r\n" % words
        elif verb == "read":
            request = b"get %b\r\n" % words
        elif verb == "delete":
            request = b"delete %b\r\n" % words
        elif verb == "incr":
            request = b"incr %b 1\r\n" % words
        else:
            words += b" 0 0 %d" % len(fresh) + (b" %b" % token if verb == "cas" else b"")
            request = b"%b %b\r\n%b\r\n" % (verb.encode(), words, fresh)
        begin = time.monotonic()
        said = wire.exchange(request, lambda reply: _is_whole(verb, reply))
        end = time.monotonic()
        assert said is not None
        if said.startswith(b"SERVER_ERROR"):
            if said.strip() != NOT_DONE and verb not in READS:
                self._note(verb, key, begin, math.inf, _done_perhaps(verb, expected, fresh))
            return
        if verb == "get":
            self._learn(key, said)
        self._note(verb, key, begin, end, _step(verb, said, expected, fresh))

    def _learn(self, key: int, said: bytes) -> None:
        if said != b"END\r\n":
            head, _, rest = said.partition(b"\r\n")
            self._tokens[key] = rest.removesuffix(b"\r\nEND\r\n"), head.split()[4]

    def _note(self, verb: str, key: int, begin: float, end: float, step: Step) -> None:
        self.operations.append((key, Operation(f"{verb} {key}", begin, end, step)))


def _is_whole(verb: str, reply: bytes) -> bool:
    plain = verb not in READS or reply.startswith(b"SERVER_ERROR")
    return reply.endswith(b"\r\n" if plain else b"END\r\n")


def _step(verb: str, said: bytes, expected: bytes, fresh: bytes) -> Step:
    """What an answer says about the item."""
    words = said.removesuffix(b"\r\n")
    if verb in READS:
        if words == b"END":
            return history.get(None)
        return history.get(said.partition(b"\r\n")[2].removesuffix(b"\r\nEND\r\n"))
    if verb == "cas":
        assert words in (b"STORED", b"EXISTS", b"NOT_FOUND"), said
        return history.cas(expected, fresh, words)
    if verb == "incr":
        assert words.isdigit() or words == b"NOT_FOUND" or words.startswith(b"CLIENT_ERROR "), said
        return history.incr(words)
    if verb == "delete":
        assert words in (b"DELETED", b"NOT_FOUND"), said
        return history.delete(words == b"DELETED")
    stored = words == b"STORED"
    assert stored or (words == b"NOT_STORED" and verb != "set"), said
    if verb == "set":
        return history.set_(fresh)
    return history.add(fresh, stored) if verb == "add" else history.append(fresh, stored)


def _done_perhaps(verb: str, expected: bytes, fresh: bytes) -> Step:
    """The same without an answer."""

    def after(state: history.State) -> history.State:
        match verb:
            case "set":
                return fresh
            case "add":
                return fresh if state is None else state
            case "append":
                return None if state is None else state + fresh
            case "incr":
                return history.incremented(state)
            case "delete":
                return None
            case _:
                return fresh if state == expected else state

    return history.perhaps(after)


@contextmanager
def historians(
    addresses: Sequence[Address], times: int | None = None, verbs: Sequence[str] = VERBS
) -> Iterator[list[Historian]]:
    """
    Clients at work; when the block ends, so do they.

    @param times: how often each asks, one request right after the other; at a pace of their own,
        and until the block ends, if it is not given.
    """
    over = Event()
    clients = [
        Historian(addresses[number % len(addresses)], number, over, times, verbs)
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        over.set()
        for client in clients:
            client.join(60)


class Witness(Protocol):
    """Whoever notes what it does, by key, or why it cannot go on."""

    operations: list[tuple[int, Operation]]
    trouble: Exception | None


def judge(witnesses: Sequence[Witness]) -> None:
    """What all of them were told fits one order."""
    assert [witness.trouble for witness in witnesses] == [None] * len(witnesses)
    operations = [noted for witness in witnesses for noted in witness.operations]
    assert len(operations) > 100
    for key in range(KEYS):
        of_key = [operation for its_key, operation in operations if its_key == key]
        assert is_linearizable(of_key), of_key


def wait_for_more(clients: Sequence[Historian], many: int) -> None:
    until_more(clients, lambda client: len(client.operations), many)
