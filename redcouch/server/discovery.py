"""
Tell discovery clients where to connect: ElastiCache's auto discovery, which Memorystore has too.

A client asks any node for the list of all nodes, and again from time to time. The list has a
number that counts up when the list changes. The number is kept in the storage: so every worker,
and every RedCouch on the same items, says the same one, and it never goes back.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.threads import deferToThreadPool

from redcouch.interfaces import IDiscoveryBackend
from redcouch.urls import read_host_port

_PATIENCE = 1.0
"""Seconds in which a host's address is looked up; the name stands in its place then."""


class Discovery:
    """The nodes that clients are told of."""

    def __init__(
        self, nodes: Sequence[str], backend: Any, now: Callable[[], float], reactor: Any
    ) -> None:
        """
        @param nodes: C{HOST:PORT} each, in the order in which clients shall know them.
        @param backend: keeps the number of the list, where it is an L{IDiscoveryBackend}. Else
            that is the time at which this process began, which counts up as well.
        """
        self._nodes = [read_host_port(node) for node in nodes]
        self._given = " ".join(nodes).encode()
        self._reactor = reactor
        self._now = now
        self._backend = backend if IDiscoveryBackend.providedBy(backend) else None
        self._version = None if self._backend is not None else int(now())
        #: Who waits for the addresses of each host that is being looked up, which takes a thread.
        self._waiting: dict[str, list[Deferred[Any]]] = {}

    def __call__(self) -> Deferred[bytes]:
        """
        The list as clients read it: its number, LF, C{host|address|port} of each with blanks
        between, LF. Fails with L{BackendError<redcouch.errors.BackendError>} while the storage
        has not told the number yet.
        """
        return Deferred.fromCoroutine(self._describe())

    async def _describe(self) -> bytes:
        if self._version is None:
            assert self._backend is not None
            self._version = await self._backend.list_version(self._given, int(self._now()))
        nodes = [f"{host}|{await self._address(host)}|{port}" for host, port in self._nodes]
        return f"{self._version}\n{' '.join(nodes)}\n".encode()

    async def _address(self, host: str) -> str:
        """The IP address of a host; its name where that cannot be found out now."""
        try:
            ip_address(host)
            return host
        except ValueError:
            pass
        try:
            addresses = await self._look_up(host).addTimeout(_PATIENCE, self._reactor)
        except (OSError, UnicodeError, TimeoutError):
            return host
        # The same one each time, and IPv4 where there is any.
        _, address = min((family != socket.AF_INET, at[0]) for family, _, _, _, at in addresses)
        return str(address)

    def _look_up(self, host: str) -> Deferred[Any]:
        """The addresses of a host, as C{getaddrinfo} has them; looked for once at a time."""
        answer: Deferred[Any] = Deferred()
        waiting = self._waiting.setdefault(host, [])
        waiting.append(answer)
        if len(waiting) == 1:
            pool = self._reactor.getThreadPool()
            deferToThreadPool(
                self._reactor, pool, socket.getaddrinfo, host, None, type=socket.SOCK_STREAM
            ).addBoth(self._tell, host)
        return answer

    def _tell(self, found: Any, host: str) -> None:
        for answer in self._waiting.pop(host):
            if not answer.called:
                answer.callback(found)
