"""The other end of a connection, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import StringTransportWithDisconnection

from redcouch.interfaces import IStorageBackend
from redcouch.limits import Limits
from redcouch.server.session import Shared
from redcouch.telemetry.counters import Counters


class Transport(StringTransportWithDisconnection):
    """A connection in memory."""

    protocol: Any
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


def shared_of(backend: IStorageBackend, limits: Limits | None = None, **how: Any) -> Shared:
    """What all connections of these tests have in common."""
    counters = Counters()

    def reset() -> Deferred[None]:
        counters.reset()
        return succeed(None)

    how = {"report": lambda group: succeed([]), "reset": reset} | how
    return Shared(backend, counters, limits or Limits(), b"1.2.3", **how)
