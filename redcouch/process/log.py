"""
Where the log goes, and as what: text, or lines of JSON (C{--log-format=json}), for machines that
read it.

There an event becomes one object: C{time} (RFC 3339), C{level}, C{logger}, C{message}
as a person would read it, C{worker} where a worker said it, C{traceback} where
there is one; and the event's own fields, such as C{location}, beside them.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import stat
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from twisted.application.service import MultiService
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    eventAsText,
    formatEvent,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from twisted.python.reflect import safe_str

_NOISE = (
    *("time", "level", "logger", "message", "traceback"),
    *("system", "isError", "failure", "why"),
    *("text", "worker", "fields", "format"),
)
"""Fields that a line has of its own, of Twisted's, or told by another name."""


def fields_of(event: LogEvent) -> dict[str, Any]:
    """The event's own fields: what its message is made from."""
    return {
        name: value if isinstance(value, str | int) or _is_finite(value) else safe_str(value)
        for name, value in event.items()
        if not name.startswith("log_") and name not in _NOISE
    }


def as_json(event: LogEvent) -> str:
    """An event as a line."""
    level = event.get("log_level")
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": "info" if level is None else level.name,
        "logger": event.get("log_namespace", "-"),
    }
    if "worker" in event:  # which has told it to its parent
        line |= {"worker": event["worker"], "message": event.get("text", "")}
        line |= _unless_taken(event.get("fields") or {}, line)
    else:
        line["message"] = formatEvent(event)
        failure = event.get("log_failure", event.get("failure"))
        if isinstance(failure, Failure):
            line["traceback"] = failure.getTraceback()
        line |= _unless_taken(fields_of(event), line)
    return json.dumps(line) + "\n"  # in ASCII, which can be written wherever the log goes


def _is_finite(value: Any) -> bool:
    """Whether it is a number that JSON can say."""
    return isinstance(value, float) and math.isfinite(value)


def _unless_taken(fields: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in line}


def described(event: LogEvent) -> Iterator[Any]:
    """An event as a worker tells it: level, logger, text (with a traceback) and fields."""
    level = event.get("log_level")
    yield "info" if level is None else level.name
    yield event.get("log_namespace", "-")
    yield eventAsText(event, includeTimestamp=False, includeSystem=False)
    yield fields_of(event)


class OwnLog(MultiService):
    """Has the log of the application that it becomes a part of written by C{log_observer}."""

    def __init__(self, options: Mapping[str, Any], form: str) -> None:
        """@param options: twistd's own; C{form}: as C{--log-format}."""
        super().__init__()
        self._options = options
        self._form = form

    def setServiceParent(self, parent: Any) -> None:
        if not (self._options.get("syslog") or self._options.get("logger")):
            parent.setComponent(ILogObserver, log_observer(self._options, self._form))
        if not signal.getsignal(signal.SIGUSR1):  # which would end a service that has no file
            signal.signal(signal.SIGUSR1, lambda number, frame: None)
        super().setServiceParent(parent)


class _SharedFile(LogFile):
    """
    A process and the one that takes over from it write the same file: each line goes to its end,
    over nobody's.
    """

    def _openFile(self) -> None:
        super()._openFile()
        fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_APPEND)

    def rotate(self) -> None:
        """
        As twistd does; but where it has been moved away, as by logrotate, go on in a new one, or in
        the one that has been made in its place.
        """
        try:
            there = os.stat(self.path)
        except OSError:
            if os.access(self.directory, os.W_OK):
                self.reopen()
            return
        if os.path.samestat(there, os.fstat(self._file.fileno())):
            super().rotate()
        elif os.access(self.path, os.W_OK):
            self.defaultMode = stat.S_IMODE(there.st_mode)  # as who has made it wants it
            self.reopen()


def log_observer(options: Mapping[str, Any], form: str) -> ILogObserver:
    """
    Writes lines to where twistd would write its log.

    @param options: twistd's own; C{form}: C{text}, which is twistd's own too, or C{json}.
    """

    def observer(file: Any) -> ILogObserver:
        return FileLogObserver(file, as_json) if form == "json" else textFileLogObserver(file)

    path = options.get("logfile") or ("-" if options.get("nodaemon") else "twistd.log")
    if path == "-":
        if not options.get("nodaemon"):
            sys.exit("Daemons cannot log to stdout, exiting!")
        return observer(sys.stdout)
    try:
        file = _SharedFile.fromFullPath(path)
    except OSError as error:
        sys.exit(f"redcouch: cannot write the log {path}: {error.strerror}")
    if not signal.getsignal(signal.SIGUSR1):  # as twistd does

        def rotate(number: int, frame: object) -> None:
            from twisted.internet import reactor

            reactor.callFromThread(file.rotate)  # type: ignore[attr-defined]

        signal.signal(signal.SIGUSR1, rotate)
    return observer(file)
