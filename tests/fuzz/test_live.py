"""
Clients that send anything, beside clients that behave: nothing goes wrong in
the service, everybody gets an end, and nobody reads what is another's.
"""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Iterator

import pytest

from tests.fuzz.mutations import conversation
from tests.support import servers
from tests.support.frames import frame, reply
from tests.support.polling import eventually
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import Wire, ask

pytestmark = pytest.mark.once

SECRET = b"only-for-its-owner"
WILD, TAME = 4, 4
CONVERSATIONS = 500


@pytest.fixture(scope="module")
def bridge(any_redis: RedisServer) -> Iterator[RedCouch]:
    with servers.redcouch(any_redis.url, "-I", "2k", "--no-flush") as server:
        yield server


class Client(threading.Thread):
    """One that runs beside others, and keeps what went wrong for it."""

    def __init__(self, server: RedCouch, number: int, done: threading.Event) -> None:
        super().__init__()
        self.server = server
        self.chance = random.Random(number)
        self.number = number
        self.done = done
        self.trouble: BaseException | None = None

    def run(self) -> None:
        try:
            self.live()
        except BaseException as error:
            self.trouble = error

    def live(self) -> None:
        raise NotImplementedError


class Wild(Client):
    """Sends anything, closes its side, and reads to the end: which has to come."""

    def live(self) -> None:
        for _ in range(CONVERSATIONS):
            data = conversation(self.chance)
            with Wire(self.server.address) as wire:
                place = 0
                while place < len(data):
                    size = self.chance.choice([1, 7, 100, 100_000])
                    if not self.send(wire, data[place : place + size]):
                        break
                    place += size
                if self.chance.random() < 0.1:
                    continue  # gone without a word
                try:
                    heard = wire.read_to_the_end()
                except OSError:  # it has closed already
                    continue
                assert SECRET not in heard, (data, heard)

    @staticmethod
    def send(wire: Wire, data: bytes) -> bool:
        try:
            wire._socket.sendall(data)
        except OSError:  # the service has had enough
            return False
        return True


class Tame(Client):
    """Stores and reads its own, in text or binary; each value says whose and which it is."""

    def live(self) -> None:
        turn = 0
        with Wire(self.server.address) as wire:
            while not self.done.is_set():
                turn += 1
                keys = [b"tame-%d-%d" % (self.number, self.chance.randrange(20)) for _ in range(5)]
                values = [key + b" %d " % turn + SECRET for key in keys]
                if self.number % 2:
                    self.text(wire, keys, values)
                else:
                    self.binary(wire, keys, values)

    def text(self, wire: Wire, keys: list[bytes], values: list[bytes]) -> None:
        newest = dict(zip(keys, values, strict=True))
        for key, value in newest.items():
            wire._socket.sendall(b"set %b 7 0 %d noreply\r\n%b\r\n" % (key, len(value), value))
        expected = b"".join(
            b"VALUE %b 7 %d\r\n%b\r\n" % (key, len(newest[key]), newest[key]) for key in keys
        )
        heard = wire.say([b"get %b\r\n" % b" ".join(keys)], b"END\r\n").reply
        assert heard == expected + b"END\r\n"

    def binary(self, wire: Wire, keys: list[bytes], values: list[bytes]) -> None:
        newest = dict(zip(keys, values, strict=True))
        asked = [frame(0x11, key, struct.pack(">II", 7, 0), newest[key]) for key in newest]
        asked += [frame(0x0D, key) for key in keys]
        heard = wire.say([b"".join(asked) + frame(0x0A)], reply(0x0A)).reply
        for key in keys:
            size, body = struct.unpack_from(">xxHxxxxI", heard)
            assert heard[24 + 4 : 24 + 4 + size] == key
            assert heard[24 + 4 + size : 24 + body] == newest[key]
            heard = heard[24 + body :]
        assert heard == reply(0x0A)


def test_wild_and_tame(bridge: RedCouch) -> None:
    """
    While some send anything, others read exactly what they stored; the wild ones all get
    an end, nothing of the others, and leave no fault in the log and no client behind.
    """
    done = threading.Event()
    wild = [Wild(bridge, number, done) for number in range(WILD)]
    tame = [Tame(bridge, number, done) for number in range(TAME)]
    for client in (*wild, *tame):
        client.start()
    for client in wild:
        client.join()
    done.set()
    for client in tame:
        client.join()
    troubles = [client.trouble for client in (*wild, *tame) if client.trouble is not None]
    assert troubles == []
    bridge.check_log()
    alone = b"STAT curr_connections 1\r\n"
    eventually(lambda: alone in ask(bridge.address, b"stats\r\n", b"END\r\n"))
