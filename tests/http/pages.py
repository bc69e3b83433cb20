"""Asking a real service for its pages."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from tests.support.polling import PATIENCE
from tests.support.servers import LOOPBACK, RedCouch


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: str

    def json(self) -> Any:
        """Its body, read."""
        return json.loads(self.body)


def http_port(server: RedCouch) -> int:
    """The port that C{--http 0} has taken."""
    found = re.search(r"\(HttpFactory\)(?: \(TLS\))? starting on (\d+)", server.log)
    assert found is not None, server.log
    return int(found[1])


def fetch(
    server: RedCouch,
    path: str,
    method: str = "GET",
    user: str | None = None,
    body: bytes | None = None,
    **headers: str,
) -> Heard:
    """What a path answers. C{user} is C{name:password}."""
    if user is not None:
        headers["Authorization"] = "Basic " + b64encode(user.encode()).decode()
    connection = HTTPConnection(LOOPBACK, http_port(server), timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        said = {name.lower(): value for name, value in answer.getheaders()}
        return Heard(answer.status, said, answer.read().decode())
    finally:
        connection.close()


def metrics(server: RedCouch) -> dict[str, float]:
    """The value of each series of a scrape."""
    scraped = fetch(server, "/metrics")
    assert scraped.status == 200, scraped
    lines = [line for line in scraped.body.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
