"""Clients that behave as real ones do, and keep exact books."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.wire import Address, Wire


class Client:
    """
    One that connects again where the server closes, and asks again what was not
    answered, as libraries do.

    @ivar reconnected: how often it had to.
    """

    def __init__(self, address: Address, name: str) -> None:
        self.name = name
        self.reconnected = 0
        self._address = address
        self._wire: Wire | None = None

    def close(self) -> None:
        if self._wire is not None:
            self._wire.__exit__()
            self._wire = None

    def ask(self, request: bytes, ending: Callable[[bytes], bool]) -> bytes:
        """
        The whole reply to a request that may be repeated.

        @raise OSError: the server is not there, three times in a row.
        """
        for attempt in range(3):
            try:
                return self._ask(request, ending)
            except OSError:
                self.close()
                if attempt == 2:
                    raise
                self.reconnected += 1
        raise AssertionError("not reached")

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

    def get(self, key: str) -> bytes | None:
        """
        The value, C{None} for a miss.

        @raise AssertionError: the reply is not one to this request.
        @raise Refused: the server could not.
        """
        reply = self.ask(f"get {key}\r\n".encode(), _is_whole)
        if reply.startswith(b"SERVER_ERROR"):
            raise RefusedError(reply.decode().strip())
        if reply == b"END\r\n":
            return None
        head, _, rest = reply.partition(b"\r\n")
        assert head.startswith(f"VALUE {key} 0 ".encode()), reply
        assert rest.endswith(b"\r\nEND\r\n"), reply
        return rest.removesuffix(b"\r\nEND\r\n")


class RefusedError(Exception):
    """The server answered SERVER_ERROR."""


class Load(threading.Thread):
    """
    Writes and reads keys of its own without end; each value holds its key.

    @ivar acknowledged: of each key, the number in the last value that was STORED.
    @ivar uncertain: of each key, numbers whose write was refused since then: Redis may have them.
    @ivar wrong: replies that are not the answer to what was asked.
    @ivar refused: answers of SERVER_ERROR, by reason.
    @ivar failed: what a user of the client would have seen as an exception.
    """

    def __init__(self, address: Address, name: str, keys: int = 8) -> None:
        super().__init__(name=name, daemon=True)
        self._client = Client(address, name)
        self._keys = [f"{name}-{number}" for number in range(keys)]
        self._over = threading.Event()
        self.asked = 0
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
        except OSError as error:
            self.failed.append(f"{type(error).__name__}: {error}")
        except AssertionError as error:
            self.wrong.append(str(error))
        finally:
            self._client.close()

    def _write(self, key: str, number: int) -> None:
        self.asked += 1
        self.uncertain[key].add(number)
        reply = self._client.set(key, f"{key}={number}")
        if reply == b"STORED\r\n":
            self.acknowledged[key] = number
            self.uncertain[key].clear()
        else:
            assert reply.startswith(b"SERVER_ERROR "), reply
            self._refused(reply.decode().strip())

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


def _is_whole(reply: bytes) -> bool:
    return reply.endswith(b"END\r\n") or (
        reply.startswith(b"SERVER_ERROR") and reply.endswith(b"\r\n")
    )
