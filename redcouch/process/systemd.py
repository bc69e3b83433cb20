"""
What a service manager is told: systemd's C{Type=notify}.

A datagram of lines C{NAME=value} to the socket that C{NOTIFY_SOCKET} names, as
sd_notify(3) describes. Without that variable nobody is told anything.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, MutableMapping

from twisted.logger import Logger

Tell = Callable[[str], None]
"""Says a state to the service manager."""


def nobody(state: str) -> None:
    """There is no service manager that wants to know."""


def notifier(environment: MutableMapping[str, str]) -> Tell:
    """
    A function that tells the service manager of this environment. The variable
    is taken out: processes started from here have nothing to tell.
    """
    address = environment.pop("NOTIFY_SOCKET", "")
    if not address:
        return nobody
    if address.startswith("@"):  # an abstract one
        address = "\0" + address[1:]

    def tell(state: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger:
                messenger.setblocking(False)
                messenger.sendto(state.encode(), address)
        except OSError as error:
            Logger().warn("Cannot tell the service manager: {error}", error=error)

    return tell
