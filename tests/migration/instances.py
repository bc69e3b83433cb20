"""The application of the tests, running while its storage changes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cli.filling import Given, fill
from tests.migration.application import PAUSE, SESSIONS
from tests.support.polling import PATIENCE, eventually
from tests.support.wire import Address

TURNS = 30
"""How often each instance goes through all of its work between two steps."""


class Instance:
    """An instance of the application, which is deployed anew by L{use}."""

    def __init__(self, name: str, folder: Path, mode: str) -> None:
        self._mode = folder / f"{name}.mode"
        self._state = folder / f"{name}.state"
        self._mode.write_text(mode)
        program = Path(__file__).with_name("application.py")
        self._process = subprocess.Popen([sys.executable, str(program), name, str(folder)])

    @property
    def state(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads(self._state.read_text())
        except FileNotFoundError:
            return {"mode": "", "turns": 0, "failures": []}
        return told

    def use(self, mode: str) -> None:
        """Change its storage, and see that it works with that."""
        self._say(mode)
        self.work(mode)

    def pause(self) -> None:
        """Let it do nothing, until L{use}."""
        self._say(PAUSE)
        self._until(lambda: self.state["mode"] == PAUSE)

    def _say(self, mode: str) -> None:
        new = self._mode.with_suffix(".next")
        new.write_text(mode)
        new.replace(self._mode)

    def work(self, mode: str = "") -> None:
        """Let it do some turns more."""
        begun = self.state["turns"] if not mode else 0
        self._until(
            lambda: self.state["turns"] >= begun + TURNS and self.state["mode"].startswith(mode)
        )

    def end(self) -> list[str]:
        """What has failed in it."""
        self._say("end")
        self._process.wait(PATIENCE)
        failures: list[str] = self.state["failures"]
        return failures

    def _until(self, condition: Callable[[], bool]) -> None:
        def look() -> bool:
            assert self._process.poll() is None, "the application has ended"
            return condition()

        eventually(look)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def application(folder: Path, mode: str) -> Iterator[tuple[Instance, Instance]]:
    """Two instances that work all the time. On the way out, nothing may have failed in them."""
    one, two = Instance("one", folder, mode), Instance("two", folder, mode)
    try:
        one.work(mode)
        two.work(mode)
        yield one, two
        assert one.end() == []
        assert two.end() == []
    finally:
        one.kill()
        two.kill()


def sign_in(address: Address) -> None:
    """The sessions of those who are there already."""
    fill(address, {b"session:%d" % n: Given(b"user-%d" % n, 0, 3600) for n in range(SESSIONS)})
