"""
Conversations in raw bytes.

A transcript is followed by an order whose answer is known, so that its end is
seen and not waited for.
"""

from __future__ import annotations

import re
import socket
import struct

LOOPBACK = "127.0.0.1"

CLOSED = b"<CLOSED>"
"""Stands for the end of the connection in what was received."""

_TEXT_END = b"version\r\n"
_NOOP_OPAQUE = 0xFEEDBEEF
_BINARY_END = struct.pack(">BBHBBHIIQ", 0x80, 0x0A, 0, 0, 0, 0, 0, _NOOP_OPAQUE, 0)
_BINARY_ENDED = struct.pack(">BBHBBHIIQ", 0x81, 0x0A, 0, 0, 0, 0, 0, _NOOP_OPAQUE, 0)
_VERSION_LINE = re.compile(rb"VERSION [^\r\n]*\r\n\Z")


def connect(port: int) -> socket.socket:
    """A connection to a server on this machine, for the caller to close."""
    client = socket.create_connection((LOOPBACK, port), timeout=20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def send(client: socket.socket, data: bytes, piece: int = 0) -> None:
    """Send bytes, whole or in pieces of a length; a server may close in the middle."""
    try:
        for start in range(0, len(data), piece or max(1, len(data))):
            client.sendall(data[start : start + (piece or len(data))])
    except OSError:
        return


def receive_until(client: socket.socket, ended: re.Pattern[bytes] | bytes) -> bytes:
    """Everything up to the known end, without it; up to the close, if that comes first."""
    received = bytearray()
    while True:
        try:
            data = client.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            return bytes(received) + CLOSED
        received += data
        if isinstance(ended, bytes):
            if received.endswith(ended):
                return bytes(received[: -len(ended)])
        elif match := ended.search(received, max(0, len(received) - 300)):
            return bytes(received[: match.start()])


def text(port: int, data: bytes, piece: int = 0) -> bytes:
    """What a server says to these bytes of text. The transcript must leave the stream in step."""
    with connect(port) as client:
        send(client, data, piece)
        send(client, _TEXT_END)
        return receive_until(client, _VERSION_LINE)


def binary(port: int, data: bytes, piece: int = 0) -> bytes:
    """What a server says to these frames."""
    with connect(port) as client:
        send(client, data, piece)
        send(client, _BINARY_END)
        return receive_until(client, _BINARY_ENDED)
