"""
C{embedded+cluster:}: three masters of a Redis Cluster of the service's own, without replicas,
for trials and tests.

Masters of a cluster find each other by TCP ports, here of loopback. So that nobody else
gets in, clients need a password, which is made anew at each start; its hash alone stands
in a command line. Each master has a directory, and a
L{guard<redcouch.backends.embedded.guard>}, of its own.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater

from redcouch.backends.embedded.directory import ServerDirectory, choose_directory
from redcouch.backends.embedded.ping import Command, ask, is_loading
from redcouch.backends.embedded.server import PrivateServer, ServerEndedError
from redcouch.backends.redis.cluster.slots import SLOTS
from redcouch.errors import ConfigurationError

MASTERS = 3

USER = "redcouch"

_LOOPBACK = "127.0.0.1"

_BUS = 10_000
"""By how much the port for other masters is higher than that for clients."""

_PORTS = range(12_000, 22_000)
"""Neither these nor the buses' ports are among those that the system gives to clients."""

_ATTEMPTS = 100

_POLL = 0.05
"""Seconds before the cluster is looked at again while it comes about."""


class PrivateCluster:
    """
    Runs the masters between L{start} and L{stop}, as
    L{PrivateServer<redcouch.backends.embedded.server.PrivateServer>} runs one Redis.
    """

    def __init__(
        self,
        reactor: Any,
        places: Sequence[ServerDirectory],
        command: Callable[[ServerDirectory], list[str]],
        fail_service: Callable[[str], None],
    ) -> None:
        """@param command: the command line of one master, without what makes it one."""
        self._reactor = reactor
        self._places = places
        self._password = secrets.token_hex(16)
        self._ports = free_ports(len(places))
        self._stopping = False
        self._servers = [
            PrivateServer(
                reactor,
                place,
                [*command(place), *_as_master(port, self._password)],
                self._ended_and_started if place.volatile else lambda: None,
            )
            for place, port in zip(places, self._ports, strict=True)
        ]
        self._fail_service = fail_service

    @property
    def address(self) -> str:
        """What stands between C{redis+cluster://} and the parameters."""
        hosts = ",".join(f"{_LOOPBACK}:{port}" for port in self._ports)
        return f"{USER}:{self._password}@{hosts}"

    def start(self) -> Deferred[None]:
        """Fires when the masters serve all slots. Fails as that of one Redis does."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        started = [one.start() for one in self._servers]
        ended: list[tuple[bool, Any]] = await DeferredList(started, consumeErrors=True)
        for good, why in ended:
            if not good:
                why.raiseException()
        step = SLOTS / MASTERS
        for number, (place, port) in enumerate(zip(self._places, self._ports, strict=True)):
            slots = range(int(number * step), int((number + 1) * step))
            # An error says that it has them already, from an earlier run.
            await self._ask(place, b"ADDSLOTS", *(b"%d" % slot for slot in slots))
            await self._ask(self._places[0], b"MEET", _LOOPBACK.encode(), b"%d" % port)
        while not self._stopping:
            states = [await self._ask(place, b"INFO") for place in self._places]
            known = [await self._ask(place, b"NODES") for place in self._places]
            serves = all(state.startswith(b"cluster_state:ok") for state in states)
            if serves and all(map(self._is_current, known)):
                return
            await deferLater(self._reactor, _POLL)
        raise ServerEndedError("embedded: shutting down")

    def stop(self) -> Deferred[None]:
        """Fires when nothing is left running."""
        self._stopping = True
        return gatherResults([one.stop() for one in self._servers]).addCallback(lambda _: None)

    async def limit_memory(self, size: int) -> bool:
        """Bound the memory of each master to its part."""
        return all([await one.limit_memory(size // MASTERS, self._login) for one in self._servers])

    def _is_current(self, nodes: bytes) -> bool:
        """Whether a master is in touch with all, at the ports that they have in this run."""
        ports = {int(port) for port in re.findall(rb":(\d+)@", nodes)}
        return ports == {*self._ports} and nodes.count(b" connected") == MASTERS

    @property
    def _login(self) -> Command:
        return b"AUTH", USER.encode(), self._password.encode()

    async def _ask(self, place: ServerDirectory, *words: bytes) -> bytes:
        """What a master answers to CLUSTER and these; empty where that is an error."""
        command = (b"CLUSTER", *words)
        while is_loading(said := await ask(self._reactor, place.socket, self._login, command)):
            await deferLater(self._reactor, _POLL)
        return said if isinstance(said, bytes) else b""

    def _ended_and_started(self) -> None:
        """A master has been started again that kept nothing, its place in the cluster neither."""
        if not self._stopping:
            self._fail_service("embedded: a master of the private cluster has ended by itself")


def cluster_places(directory: str | None) -> list[ServerDirectory]:
    """A place for each master, in one directory, or in temporary ones."""
    if directory is None:
        return [choose_directory(None) for _ in range(MASTERS)]
    return [choose_directory(os.path.join(directory, str(number + 1))) for number in range(MASTERS)]


def _as_master(port: int, password: str) -> list[str]:
    hashed = sha256(password.encode()).hexdigest()
    return [
        *("--port", str(port), "--bind", _LOOPBACK),
        *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
        # Redis 7 and later reads the transactions in its file with the rights of this one.
        *("--user", "default", "off", "~*", "&*", "+@all"),
        *("--user", USER, "on", f"#{hashed}", "~*", "&*", "+@all"),
    ]


def free_ports(count: int) -> list[int]:
    """
    Ports of loopback that nobody listens on just now, nor on those for other masters.

    @raise ConfigurationError: there are none.
    """
    found: list[int] = []
    for _ in range(_ATTEMPTS):
        port = secrets.choice(_PORTS)
        if port not in found and _is_free(port) and _is_free(port + _BUS):
            found.append(port)
        if len(found) == count:
            return found
    raise ConfigurationError("embedded+cluster: there are no free ports on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True
