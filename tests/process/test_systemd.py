"""What a service manager is told."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from redcouch.process.systemd import nobody, notifier


class NotifierTests(SynchronousTestCase):
    """As sd_notify(3) has it."""

    def hears(self, bound: Any, named: str) -> None:
        """What is told arrives at a socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(bound)
            environment = {"NOTIFY_SOCKET": named}
            notifier(environment)("READY=1\nSTATUS=well")
            self.assertEqual(manager.recv(100), b"READY=1\nSTATUS=well")
            self.assertEqual(environment, {})

    def test_path(self) -> None:
        """A socket in the file system. Children are not told where it is."""
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/notify"
            self.hears(path, path)

    def test_abstract(self) -> None:
        """A socket without a file."""
        name = f"redcouch-test-{os.getpid()}"
        self.hears(f"\0{name}", f"@{name}")

    def test_nobody(self) -> None:
        """Without a service manager nothing happens."""
        self.assertIs(notifier({}), nobody)
        nobody("READY=1")

    def test_gone(self) -> None:
        """A service manager that does not listen harms nobody."""
        notifier({"NOTIFY_SOCKET": "/nonexistent/notify"})("READY=1")
