"""Clients on their way to another process."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from redcouch.handover.clients import Giver
from redcouch.handover.descriptors import DescriptorChannel
from redcouch.server.transit import Transit


class Client:
    """A connection that tells what has become of it."""

    def __init__(self, became: list[str]) -> None:
        self.transport = SimpleNamespace(connected=True)
        self._became = became

    def fileno(self) -> int:
        return 0

    def pack(self) -> Transit:
        return Transit()

    def keep(self, transit: Transit) -> None:
        self._became.append("kept")

    def let_go(self) -> None:
        self._became.append("let go")


class Channel:
    """A conversation with a process that answers when it is told to."""

    connected = True

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def give(self, descriptor: int) -> None:
        os.fstat(descriptor)

    def ask(self, name: str, argument: Any, *, seconds: float) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]


class Transport(StringTransport):
    """One that takes descriptors."""

    def sendFileDescriptor(self, descriptor: int) -> None:
        os.fstat(descriptor)


def real_channel() -> DescriptorChannel:
    """A conversation in which nobody answers."""
    channel = DescriptorChannel({}, lambda: None, Clock())
    channel.makeConnection(Transport())
    return channel


def giver_to(*channels: Any) -> Giver:
    """Who gives clients by these."""
    with mock.patch("redcouch.handover.clients.connect", return_value=[*channels]):
        return Giver([], Clock())


class GiverTests(SynchronousTestCase):
    """Clients that are given a few at a time."""

    def setUp(self) -> None:
        self.channel = Channel()
        self.giver = giver_to(self.channel)
        self.became: list[str] = []

    def give(self, count: int) -> None:
        """Some clients more."""
        for _ in range(count):
            self.giver(Client(self.became))  # type: ignore[arg-type]

    def test_one_after_another(self) -> None:
        """Whoever waits goes as soon as another is there."""
        self.give(40)
        asked = self.channel.asked
        self.assertEqual(len(asked), 16)
        while asked:
            asked.pop(0).callback(True)
            self.assertLessEqual(len(asked), 16)
        self.assertEqual(self.became, ["let go"] * 40)
        self.assertEqual(self.giver.given, 40)

    def test_the_other_process_ends(self) -> None:
        """Thousands may wait then: each of them is closed here, at once."""
        channel = real_channel()
        self.giver = giver_to(channel)
        self.give(3000)
        channel.connectionLost()
        self.assertEqual(self.became, ["kept"] * 3000)
        self.assertEqual(self.giver.given, 0)

    def test_one_of_two_processes_ends(self) -> None:
        """Whom it has not been given yet goes to the other one."""
        channel = real_channel()
        self.giver = giver_to(channel, self.channel)
        self.give(40)
        channel.connectionLost()
        asked = self.channel.asked
        while asked:
            asked.pop(0).callback(True)
        self.assertEqual(self.became, ["kept"] * 8 + ["let go"] * 32)

    def test_a_fault(self) -> None:
        """It is in the log, and costs no other client anything."""
        self.give(17)
        first, *others = self.channel.asked
        first.errback(ValueError())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        for answer in (*others, self.channel.asked[-1]):
            answer.callback(True)
        self.assertEqual(self.became, ["kept"] + ["let go"] * 16)

    def test_gone_meanwhile(self) -> None:
        """A client that has left is given to nobody."""
        self.give(16)
        gone = Client(self.became)
        self.giver(gone)  # type: ignore[arg-type]
        gone.transport.connected = False
        self.channel.asked[0].callback(True)
        self.assertEqual(len(self.channel.asked), 16)
