"""
Listening: how many clients may wait to be accepted.

Twisted's endpoints have a backlog of 50, so that of many clients that come at
once (a service that starts anew, say) some are left to try again a second
later. memcached has 1024 (its -b).
"""

from __future__ import annotations

from twisted.application import strports
from twisted.application.internet import StreamServerEndpointService
from twisted.internet.interfaces import IProtocolFactory

BACKLOG = 1024
"""Clients that may wait, unless the endpoint string says otherwise."""

_KINDS = ("tcp:", "tcp4:", "tcp6:", "unix:", "ssl:")


def with_backlog(description: str) -> str:
    """An endpoint string with memcached's backlog, where it has none of its own."""
    if description.startswith(_KINDS) and ":backlog=" not in description:
        return f"{description}:backlog={BACKLOG}"
    return description


def listening_service(description: str, factory: IProtocolFactory) -> StreamServerEndpointService:
    """L{twisted.application.strports.service} with that."""
    service: StreamServerEndpointService = strports.service(with_backlog(description), factory)
    return service
