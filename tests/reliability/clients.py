"""Clients that behave as real ones do, and keep exact books."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.frames import HEADER, frame
from tests.support.polling import PACE, eventually
from tests.support.wire import Address, Wire

RECOVERY = 20.0
"""Seconds allowed on a machine of any speed. Two is the promise."""


class Client:
    """
    One that connects again where the server closes, and asks again what was not
    answered, as libraries do. It speaks text.

    @ivar reconnected: how often it had to.
    """

    def __init__(self, address: Address, name: str, time_budget: float = 0.0) -> None:
        """@param time_budget: seconds in which a server may be away that is started again."""
        self.name = name
        self.reconnected = 0
        self._address = address
        self._time_budget = time_budget
        self._wire: Wire | None = None

    def close(self) -> None:
        if self._wire is not None:
            self._wire.__exit__()
            self._wire = None

    def ask(self, request: bytes, ending: Callable[[bytes], bool]) -> bytes:
        """
        The whole reply to a request that may be repeated.

        @raise OSError: the server is not there, three times in a row, and for
            longer than patience lasts.
        """
        until = time.monotonic() + self._time_budget
        attempt = 0
        while True:
            try:
                return self._ask(request, ending)
            except OSError:
                self.close()
                attempt += 1
                if attempt > 2 and time.monotonic() >= until:
                    raise
            if attempt > 2:
                time.sleep(0.02)
            self.reconnected += 1

    def _ask(self, request: bytes, ending: Callable[[bytes], bool]) -> bytes:
        if self._wire is None:
            self._wire = Wire(self._address)
        reply = self._wire.exchange(request, ending)
        if reply is None:
            raise ConnectionError("closed without an answer")
        return reply

    def set(self, key: str, value: str) -> bytes:
        """The one line that the server answers."""
        block = f"set {key} 0 0 {len(value)}\r\n{value}\r\n"
        return self.ask(block.encode(), lambda reply: reply.endswith(b"\r\n"))

    def store(self, key: str, value: str) -> None:
        """
        Set it.

        @raise RefusedError: the server could not.
        """
        reply = self.set(key, value)
        if reply != b"STORED\r\n":
            raise _refusal(reply)

    def get(self, key: str) -> bytes | None:
        """
        The value, C{None} for a miss.

        @raise AssertionError: the reply is not one to this request.
        @raise RefusedError: the server could not.
        """
        reply = self.ask(f"get {key}\r\n".encode(), _is_whole)
        if reply.startswith(b"SERVER_ERROR"):
            raise _refusal(reply)
        if reply == b"END\r\n":
            return None
        head, _, rest = reply.partition(b"\r\n")
        assert head.startswith(f"VALUE {key} 0 ".encode()), reply
        assert rest.endswith(b"\r\nEND\r\n"), reply
        return rest.removesuffix(b"\r\nEND\r\n")


class MetaClient(Client):
    """The same in meta commands."""

    def store(self, key: str, value: str) -> None:
        """See L{Client.store}."""
        request = f"ms {key} {len(value)} k\r\n{value}\r\n".encode()
        reply = self.ask(request, lambda reply: reply.endswith(b"\r\n"))
        if reply != f"HD k{key}\r\n".encode():
            raise _refusal(reply)

    def get(self, key: str) -> bytes | None:
        """See L{Client.get}."""
        reply = self.ask(f"mg {key} v k\r\n".encode(), _is_whole_meta)
        if reply.startswith(b"EN "):
            return None
        head, _, rest = reply.partition(b"\r\n")
        if not head.startswith(b"VA "):
            raise _refusal(reply)
        assert head.endswith(f" k{key}".encode()), reply
        return rest.removesuffix(b"\r\n")


class BinaryClient(Client):
    """The same in the binary protocol, with an opaque of its own for each request."""

    def __init__(self, address: Address, name: str, time_budget: float = 0.0) -> None:
        super().__init__(address, name, time_budget)
        self._opaque = 0

    def store(self, key: str, value: str) -> None:
        """See L{Client.store}."""
        status, body = self._exchange(0x01, key, bytes(8), value.encode())
        if status != 0:
            raise self._refusal(status, body)

    def get(self, key: str) -> bytes | None:
        """See L{Client.get}."""
        status, body = self._exchange(0x00, key, b"", b"")
        if status == 1:
            return None
        if status != 0:
            raise self._refusal(status, body)
        return body[4:]

    def _exchange(self, opcode: int, key: str, extras: bytes, value: bytes) -> tuple[int, bytes]:
        """Status and body of the reply, which has to be the one to this request."""
        self._opaque += 1
        request = frame(opcode, key.encode(), extras, value, opaque=self._opaque)
        reply = self.ask(request, self._is_whole_frame)
        magic, answered, _, _, _, status, _, opaque, _ = HEADER.unpack_from(reply)
        assert (magic, answered, opaque) == (0x81, opcode, self._opaque), reply
        return status, reply[24:]

    @staticmethod
    def _refusal(status: int, body: bytes) -> RefusedError:
        """What may be said of a storage: out of memory, internal error, temporary failure."""
        assert status in (0x82, 0x84, 0x86), (status, body)
        return RefusedError(f"0x{status:04x} {body.decode()}")

    @staticmethod
    def _is_whole_frame(reply: bytes) -> bool:
        return len(reply) >= 24 and len(reply) == 24 + struct.unpack_from(">I", reply, 8)[0]


class RefusedError(Exception):
    """The server answered SERVER_ERROR, or the status of a failure."""


def _refusal(reply: bytes) -> RefusedError:
    assert reply.startswith(b"SERVER_ERROR "), reply
    return RefusedError(reply.decode().strip())


def once_answered(client: Client, key: str) -> bytes | None:
    """
    What Redis has: a worker other than the one that was seen to serve again may
    need a moment more.
    """
    values: list[bytes | None] = []

    def answered() -> bool:
        try:
            values.append(client.get(key))
        except RefusedError:
            return False
        return True

    eventually(answered)
    return values[0]


class Load(threading.Thread):
    """
    Writes and reads keys of its own without end; each value holds its key.

    @ivar stored: how many writes were acknowledged.
    @ivar acknowledged: of each key, the number in the last value that was STORED.
    @ivar uncertain: of each key, numbers whose write was refused since then: Redis may have them.
    @ivar wrong: replies that are not the answer to what was asked.
    @ivar refused: answers of SERVER_ERROR, by reason.
    @ivar failed: what a user of the client would have seen as an exception.
    """

    def __init__(self, client: Client, keys: int | Sequence[str] = 8, pause: float = PACE) -> None:
        """
        @param keys: how many, or which.
        @param pause: seconds between a pair of requests and the next.
        """
        name = client.name
        super().__init__(name=name, daemon=True)
        self._client = client
        self._pause = pause
        self._keys = (
            [f"{name}-{number}" for number in range(keys)] if isinstance(keys, int) else [*keys]
        )
        self._over = threading.Event()
        self.asked = 0
        self.stored = 0
        self.acknowledged: dict[str, int] = {}
        self.uncertain: dict[str, set[int]] = {key: set() for key in self._keys}
        self.wrong: list[str] = []
        self.refused: dict[str, int] = {}
        self.failed: list[str] = []

    @property
    def reconnected(self) -> int:
        return self._client.reconnected

    def finish(self) -> None:
        """End it, and wait for that."""
        self._over.set()
        self.join(60)
        assert not self.is_alive()

    def run(self) -> None:
        number = 0
        try:
            while not self._over.is_set():
                key = self._keys[number % len(self._keys)]
                number += 1
                self._write(key, number)
                self._read(key)
                if self._pause:
                    self._over.wait(self._pause)
        except OSError as error:
            self.failed.append(f"{type(error).__name__}: {error}")
        except AssertionError as error:
            self.wrong.append(str(error))
        finally:
            self._client.close()

    def _write(self, key: str, number: int) -> None:
        self.asked += 1
        self.uncertain[key].add(number)
        try:
            self._client.store(key, f"{key}={number}")
        except RefusedError as error:
            self._refused(str(error))
        else:
            self.stored += 1
            self.acknowledged[key] = number
            self.uncertain[key].clear()

    def _read(self, key: str) -> None:
        self.asked += 1
        try:
            value = self._client.get(key)
        except RefusedError as error:
            self._refused(str(error))
        else:
            self.check(key, value)

    def check(self, key: str, value: bytes | None) -> None:
        """Whether a key may have this value by what has been acknowledged."""
        possible: set[bytes | None] = {
            f"{key}={number}".encode()
            for number in (self.acknowledged.get(key), *self.uncertain[key])
            if number is not None
        }
        if key not in self.acknowledged:
            possible.add(None)
        assert value in possible, f"{key} has {value!r}, and none of {possible}"

    def _refused(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1


@contextmanager
def at_work(threads: Sequence[Any]) -> Iterator[None]:
    """They work; when the block ends, so do they."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.finish()


def until_more(threads: Sequence[Any], counted: Callable[[Any], int], many: int) -> None:
    """Until each of them has so many more of what is counted, or has ended."""
    goals = [counted(thread) + many for thread in threads]
    eventually(
        lambda: all(
            counted(thread) >= goal or not thread.is_alive()
            for thread, goal in zip(threads, goals, strict=True)
        )
    )


def until_asked(loads: Sequence[Load]) -> None:
    """Until each has asked some more, or has ended."""
    until_more(loads, lambda load: load.asked, 40)


def until_stored(loads: Sequence[Load], many: int) -> None:
    """Until each has stored so many more, or has ended."""
    until_more(loads, lambda load: load.stored, many)


def _is_whole_meta(reply: bytes) -> bool:
    if reply.startswith(b"VA "):
        head, end, rest = reply.partition(b"\r\n")
        return bool(end) and len(rest) == int(head.split()[1]) + 2
    return reply.endswith(b"\r\n")


def _is_whole(reply: bytes) -> bool:
    return reply.endswith(b"END\r\n") or (
        reply.startswith(b"SERVER_ERROR") and reply.endswith(b"\r\n")
    )


class Survivor(Load):
    """
    One who knows that replication is asynchronous: while the master changes, what was
    acknowledged last may be lost.

    @ivar strict: by now, nothing may.
    """

    strict = True

    def check(self, key: str, value: bytes | None) -> None:
        """While not strict: anything that this client has ever stored there, or nothing."""
        if self.strict:
            super().check(key, value)
        elif value is not None:
            its_key, _, number = value.decode().partition("=")
            assert its_key == key
            assert 0 < int(number) <= self.asked
