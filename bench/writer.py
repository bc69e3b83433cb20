"""A native client that stores items at a steady pace, past the server that is measured.

It stores what is there already, by Zipf's law, so that every answer to others can still be compared
whole; for Redis, and for a cache, that is a change like any other. It goes on until SIGTERM. The
result is one JSON object.
"""

import argparse
import json
import socket
import sys
import time
from binascii import hexlify
from collections.abc import Callable
from itertools import cycle, islice

from bench.client import PATIENCE_SECONDS, StoppedError, WrongAnswerError, stop_on_sigterm
from bench.items import Item, draw, make_item

TICK_SECONDS = 0.01
AT_ONCE = 1000
DRAWS = 20_000


def hset(item: Item) -> bytes:
    """What stores an item in hex in Redis, as a native client does."""
    words = (b"HSET", b"rc:" + item.key, b"v", hexlify(item.value))
    return b"*4\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


PACK: dict[str, Callable[[Item], bytes]] = {"redis": hset, "memcached": lambda i: i.set_request}
ANSWERS = {"redis": (b":0", b":1"), "memcached": (b"STORED",)}


def connect(address: str) -> socket.socket:
    """To HOST:PORT, or to the path of a unix socket."""
    host, _, port = address.rpartition(":")
    connection = socket.socket(socket.AF_INET if host else socket.AF_UNIX)
    connection.settimeout(PATIENCE_SECONDS)
    connection.connect((host, int(port)) if host else address)
    return connection


def store(connection: socket.socket, requests: list[bytes], answers: tuple[bytes, ...]) -> None:
    """Send them and wait for all answers. Raises WrongAnswerError."""
    connection.sendall(b"".join(requests))
    said = b""
    while said.count(b"\n") < len(requests):
        data = connection.recv(65536)
        if not data:
            raise WrongAnswerError("the server closed the writer's connection")
        said += data
    if wrong := [line for line in said.split() if line not in answers]:
        raise WrongAnswerError(f"the writer was told {wrong[0]!r}")


def run(connection: socket.socket, dialect: str, requests: list[bytes], pace: int) -> int:
    """Store them again and again, so many in a second; gives how many when it is stopped."""
    supply, done, begun = cycle(requests), 0, time.monotonic()
    try:
        while True:
            due = min(AT_ONCE, int((time.monotonic() - begun) * pace) - done)
            if due > 0:
                store(connection, list(islice(supply, due)), ANSWERS[dialect])
                done += due
            time.sleep(TICK_SECONDS)
    except StoppedError:
        return done


def main(arguments: list[str]) -> int:
    """Run from the command line and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dialect", choices=list(PACK))
    parser.add_argument("address", help="HOST:PORT, or the path of a unix socket")
    parser.add_argument("--per-second", type=int, default=100)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--value-size", type=int, default=100)
    options = parser.parse_args(arguments)
    problems: list[str] = []
    done, begun = 0, time.monotonic()
    stop_on_sigterm()
    try:
        with connect(options.address) as connection:
            pack = PACK[options.dialect]
            drawn = draw(options.keys, DRAWS, seed=DRAWS)
            requests = [pack(make_item(0, number, options.value_size)) for number in drawn]
            begun = time.monotonic()
            done = run(connection, options.dialect, requests, options.per_second)
    except StoppedError:
        pass
    except (WrongAnswerError, OSError) as error:
        problems.append(str(error))
    seconds = time.monotonic() - begun
    json.dump({"seconds": seconds, "requests": done, "problems": problems}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
