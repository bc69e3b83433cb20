"""
A stand-in for memcacheds that cannot be installed here: it says what it is told
to, line for line, and closes where it is told to.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = Callable[[bytes], bytes | None]
"""Gives what to say to a line; C{None} to close the connection."""


@contextmanager
def stand_in(answer: Answer) -> Iterator[str]:
    """Serves until the block ends; gives its C{memcached://} URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_serve, args=(listening, answer))
        thread.start()
        try:
            yield f"memcached://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listening: socket.socket, answer: Answer) -> None:
    talks = []
    try:
        while True:
            client, _ = listening.accept()
            talk = threading.Thread(target=_talk, args=(client, answer))
            talk.start()
            talks.append(talk)
    except OSError:
        pass  # it is over
    for talk in talks:
        talk.join()


def _talk(client: socket.socket, answer: Answer) -> None:
    with client, client.makefile("rb") as lines:
        try:
            for line in lines:
                said = answer(line.rstrip(b"\r\n"))
                if said is None:
                    return
                client.sendall(said)
        except OSError:
            pass
