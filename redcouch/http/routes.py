"""Which path shows what."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.http import Request

from redcouch.http.access import HttpAnswer, PageFunction
from redcouch.http.collect import StatusCollector
from redcouch.http.history import History
from redcouch.http.metrics import CONTENT_TYPE, exposition
from redcouch.http.status import status, with_names
from redcouch.telemetry.client_names import ClientNames

_JSON = "application/json"

#: Files of the page, by path, with the types of their content.
FILES = {
    b"/": ("index.html", "text/html; charset=utf-8"),
    b"/status.css": ("status.css", "text/css; charset=utf-8"),
    b"/status.js": ("status.js", "text/javascript; charset=utf-8"),
    b"/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    b"/tables.js": ("tables.js", "text/javascript; charset=utf-8"),
    b"/favicon.svg": ("favicon.svg", "image/svg+xml"),
}


@dataclass
class Pages:
    """
    @ivar _options: those in force, passwords and all; none is shown.
    @ivar _names: what clients are called.
    @ivar _now: gives the UNIX time in seconds.
    @ivar draining: the service lets its last clients finish.
    """

    _collector: StatusCollector
    _history: History
    _options: Mapping[str, Any] = field(repr=False)
    _names: ClientNames
    _now: Callable[[], float]
    draining: bool = False

    def by_path(self) -> dict[bytes, PageFunction]:
        """Every page."""
        pages: dict[bytes, PageFunction] = {
            b"/metrics": self._metrics,
            b"/healthz": _constant(b"alive\n"),
            b"/readyz": self._ready,
            b"/api/status": self._status,
            b"/api/history": self._since,
        }
        folder = files(__package__) / "page"
        for path, (name, kind) in FILES.items():
            pages[path] = _constant((folder / name).read_bytes(), kind)
        return pages

    async def _metrics(self, request: Request) -> HttpAnswer:
        view = await self._collector.view()
        text = exposition(view, self._options["max-connections"], self.draining)
        return HttpAnswer(200, text, CONTENT_TYPE)

    async def _ready(self, request: Request) -> HttpAnswer:
        trouble = "draining" if self.draining else await self._collector.trouble()
        if trouble:
            return HttpAnswer(503, f"{trouble}\n".encode())
        return HttpAnswer(200, b"ready\n")

    async def _status(self, request: Request) -> HttpAnswer:
        clients = Deferred.fromCoroutine(self._collector.clients())
        view = await self._collector.full_view()
        now = self._now()
        told = status(view, self._history, self._options, await clients, now, self.draining)
        return _json(with_names(told, self._names))

    async def _since(self, request: Request) -> HttpAnswer:
        """The points after C{?since=}, UNIX seconds."""
        try:
            since = float(request.args.get(b"since", [b"0"])[0])
        except ValueError:
            return HttpAnswer(400, b"since has to be a number of seconds\n")
        return _json({"points": self._history.since(since)})


def _json(content: Any) -> HttpAnswer:
    return HttpAnswer(200, json.dumps(content).encode(), _JSON)


def _constant(content: bytes, *kind: str) -> PageFunction:
    async def page(request: Request) -> HttpAnswer:
        return HttpAnswer(200, content, *kind)

    return page
