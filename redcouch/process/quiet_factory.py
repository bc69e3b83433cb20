"""A Twisted factory of which the log hears nothing."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol


class QuietFactory(Factory):
    """Makes the protocol of each connection. That it starts and stops is said nowhere."""

    noisy = False

    def __init__(self, make: Callable[[], Protocol]) -> None:
        self._make = make

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._make()
