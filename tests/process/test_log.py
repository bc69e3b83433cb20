"""The log as JSON: one object a line, whoever said it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from redcouch.options import Options
from redcouch.process.log import _SharedFile, as_json, log_observer
from tests.support import servers
from tests.support.polling import eventually
from tests.support.servers import LOOPBACK, TWISTD, RedisServer
from tests.support.wire import ask


def line(log: str, level: LogLevel = LogLevel.info, **fields: Any) -> dict[str, Any]:
    """What an event becomes."""
    events: list[Any] = []
    observer: Any = events.append
    Logger("here", observer=observer).emit(level, log, **fields)
    (event,) = events
    text = as_json(event)
    assert text.endswith("\n")
    assert text.count("\n") == 1
    found: dict[str, Any] = json.loads(text)
    return found


def test_an_event() -> None:
    """It has its time, level, logger, what a person would read, and its own fields."""
    found = line(
        "Lost {where} after {tries}", LogLevel.warn, where="x\ny", tries=3, path=Path("/a")
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found.pop("time"))
    assert found == {
        "level": "warn",
        "logger": "here",
        "message": "Lost x\ny after 3",
        "where": "x\ny",
        "tries": 3,
        "path": "/a",
    }


def test_fields_take_no_name_of_ours() -> None:
    """A field that is called as one of the line's does not hide that."""
    found = line("Set to {message}", message="loud", traceback="none")
    assert (found["message"], found["level"]) == ("Set to loud", "info")
    assert "traceback" not in found


def test_a_failure() -> None:
    """Its traceback is in the same line."""
    try:
        raise ValueError("no\nway")
    except ValueError:
        found = line("Could not", LogLevel.critical, log_failure=Failure())
    assert "ValueError: no\nway" in found["traceback"]


class Broken:
    """What has nothing to say."""

    def __repr__(self) -> str:
        raise ValueError("no way")


HOSTILE = [
    'x"}\n{"level": "critical',
    "\x1b[31m\r\n\x00\x7f\u2028\u202e",
    "\ud800 alone",
    float("nan"),
    float("-inf"),
    b"\xff\x00",
    Broken(),
    {"a": Broken()},
]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values(value: Any) -> None:
    """Whatever stands in an event, it is one line of strict JSON that any file can take."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    event: dict[str, Any] = {"log_time": 0.0, "log_format": "Saw {what}", "what": value}
    said = as_json(event)
    assert said.isascii()
    assert said.index("\n") == len(said) - 1
    found = json.loads(said, parse_constant=refuse)
    assert found["level"] == "info"
    if isinstance(value, str):
        assert found["what"] == value


def test_an_old_event() -> None:
    """Twisted's older corners log in another form; their failures are told as well."""
    try:
        raise ValueError("no way")
    except ValueError:
        failure = Failure()
    event: dict[str, Any] = {"log_time": 0.0, "log_format": "{log_text}", "log_text": "Sorry"}
    event |= {"failure": failure, "isError": 1, "why": "Sorry", "log_level": LogLevel.critical}
    found = json.loads(as_json(event))
    assert (found["level"], found["message"]) == ("critical", "Sorry")
    assert "ValueError: no way" in found.pop("traceback")
    assert found.keys() == {"time", "level", "logger", "message"}


def test_a_worker() -> None:
    """What a worker said is told as it said it, with its number."""
    found = line(
        "[worker {worker}] {text}",
        worker=2,
        text="Lost {where}",
        fields={"where": "x", "level": "y"},
    )
    assert (found["worker"], found["message"], found["where"]) == (2, "Lost {where}", "x")
    assert found["level"] == "info"


def test_other_forms() -> None:
    """No other format is known."""
    with pytest.raises(SystemExit, match="--log-format 'xml': has to be text or json"):
        Options().parseOptions(["--log-format", "xml"])


def test_nowhere_to_write() -> None:
    """A service in the background has no terminal, as twistd says too."""
    with pytest.raises(SystemExit, match="cannot log to stdout"):
        log_observer({"logfile": "-", "nodaemon": False}, "json")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_file_that_cannot_be_written(form: str, tmp_path: Path) -> None:
    """It is named, in one line."""
    path = str(tmp_path / "no" / "log")
    with pytest.raises(SystemExit, match=f"cannot write the log {path}: No such file"):
        log_observer({"logfile": path}, form)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service(workers: str, any_redis: RedisServer) -> None:
    """Every line of a service's log is one object; the first of ours says what it is."""
    options = ("--log-format", "json", "--workers", workers)
    with servers.redcouch(f"{any_redis.url}?timeout=2", *options) as server:
        for _ in range(3):
            ask(server.address, b"get a\r\n", b"END\r\n")
        eventually(lambda: server.log.count("Connected to Redis") == int(workers))
        lines = [json.loads(said) for said in server.log.splitlines()]
    (start,) = [said for said in lines if " listens on " in said["message"]]
    assert start["workers"] == int(workers)
    assert start["endpoints"].startswith("tcp:")
    assert start["storage"].startswith("redis://")
    connected = [said for said in lines if said["message"].startswith("Connected to Redis")]
    numbers = [1, 2] if workers == "2" else [None]
    assert sorted(said.get("worker") for said in connected) == numbers
    assert not [said for said in lines if "get" in said["message"]]


def test_no_file_to_move(any_redis: RedisServer) -> None:
    """SIGUSR1 ends no service that logs elsewhere."""
    with servers.redcouch(any_redis.url) as server:
        os.kill(server.pid, signal.SIGUSR1)
        assert ask(server.address, b"mn\r\n", b"\r\n") == b"MN\r\n"


def test_another_file_in_its_place(tmp_path: Path) -> None:
    """
    Where what moves it has made the next one, as logrotate with C{create}, it goes on in that one,
    and in no other; and where nothing has, it moves the file itself.
    """
    path = tmp_path / "log"
    path.write_text("")
    log = _SharedFile.fromFullPath(str(path))
    log.write("old\n")
    path.rename(tmp_path / "log.1")
    path.write_text("")
    path.chmod(0o640)
    log.rotate()
    log.write("new\n")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "log": "new\n",
        "log.1": "old\n",
    }
    assert path.stat().st_mode & 0o777 == 0o640
    log.rotate()
    log.close()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "log": "",
        "log.1": "new\n",
        "log.2": "old\n",
    }


def test_a_file(tmp_path: Path) -> None:
    """In the background it is written to twistd's file, and to a new one where that is moved."""
    pidfile = tmp_path / "pid"
    words = [f"--pidfile={pidfile}", f"--logfile={tmp_path / 'log'}", "redcouch", "--port", "0"]
    subprocess.run(
        [TWISTD, *words, "--storage", "memory:", "--log-format", "json"], check=True, timeout=60
    )
    log = tmp_path / "log"
    eventually(lambda: log.exists() and " listens on " in log.read_text())
    port = re.search(r"listens on tcp:(\d+)", log.read_text())
    assert port is not None
    # Who answers has its signal handlers.
    assert ask((LOOPBACK, int(port[1])), b"mn\r\n", b"\r\n") == b"MN\r\n"
    pid = int(pidfile.read_text())
    log.rename(tmp_path / "moved")
    os.kill(pid, signal.SIGUSR1)
    eventually(log.exists)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: "Server Shut Down." in log.read_text())
    assert all(json.loads(said)["time"] for said in log.read_text().splitlines())
    eventually(lambda: not pidfile.exists())
