"""Clients that speak TLS."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from tests.backends.redis.certificates import Authority
from tests.support import servers


def context_for(authority: Authority, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.path))
    if client is not None:
        context.load_cert_chain(*client)
    return context


def ask(port: int, context: ssl.SSLContext, request: bytes) -> bytes:
    """All that a server says to a request and C{quit}."""
    with (
        socket.create_connection((servers.LOOPBACK, port), 20) as plain,
        context.wrap_socket(plain, server_hostname=servers.LOOPBACK) as wire,
    ):
        wire.sendall(request + b"quit\r\n")
        return b"".join(iter(lambda: wire.recv(4096), b""))
