"""What discovery clients are told while names cannot be looked up."""

from __future__ import annotations

import socket
import threading
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from redcouch.server.discovery import Discovery
from tests.support.polling import PATIENCE

NAME = "cache.example"


class LookUpTests(TestCase):
    """A host that has to be looked up, which takes its time."""

    async def test_once_at_a_time(self) -> None:
        """However many clients ask, it takes one thread: passwords are checked in the others."""
        asked: list[str] = []
        goes_on = threading.Event()

        def look_up(host: str, *arguments: object, **how: object) -> list[Any]:
            asked.append(host)
            goes_on.wait(PATIENCE)
            return [(socket.AF_INET, 0, 0, "", ("10.0.0.7", 0))]

        self.patch(socket, "getaddrinfo", look_up)
        self.addCleanup(goes_on.set)
        describe = Discovery([f"{NAME}:11211"], None, lambda: 5.0, reactor)
        for answer in [describe() for _ in range(20)]:
            self.assertEqual(await answer, b"5\n%b|%b|11211\n" % (2 * (NAME.encode(),)))
        self.assertEqual(asked, [NAME])
        goes_on.set()
        answers = [describe(), describe()]
        for answer in answers:
            self.assertEqual(await answer, b"5\n%b|10.0.0.7|11211\n" % NAME.encode())
