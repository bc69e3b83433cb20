"""
Who may see a page, and what a browser may do with it.

A page on loopback is within reach of every web page that the operator's
browser has open: one that gives its own name the address 127.0.0.1 (DNS
rebinding) would be allowed to read ours. So requests under a name that is not
this machine's are refused. Addresses cannot be rebound, and probes have no
secrets to tell.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from io import BytesIO
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocolNegotiationFactory,
    IPullProducer,
    ITCPTransport,
)
from twisted.logger import Logger, LogPublisher
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from redcouch.limits import HTTP_CONNECTIONS
from redcouch.server.passwords import Authenticator

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    b"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {
    b"server": b"RedCouch",
    b"content-security-policy": _POLICY,
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}
"""What every answer carries."""

PROBES = (b"/healthz", b"/readyz")
"""Answered to everybody."""

_WHOLE_URL = re.compile(rb"https?://([^/?]*)/?(.*)", re.IGNORECASE | re.DOTALL)
_PORT = re.compile(r":[0-9]*$")
_REASONS = {421: b"Misdirected Request"}
"""What Twisted has no words for."""
_SILENCE = 60
"""Seconds until a silent client is closed."""


class HttpAnswer(Exception):  # noqa: N818 - most are no errors
    """What is answered: a status, a type of content and the content."""

    def __init__(self, status: int, content: bytes, kind: str = "text/plain; charset=utf-8"):
        super().__init__(status)
        self.status = status
        self.content = content
        self.kind = kind


PageFunction = Callable[[Request], Awaitable[HttpAnswer]]
"""Answers a request for one path."""


async def allows(
    authenticator: Authenticator | None, user: bytes, password: bytes, client: str
) -> bool:
    """
    Whether this user may come in: everybody, where nobody checks passwords. A browser gives the
    password with every request: one that is known to be right is not checked again.
    """
    if authenticator is None or authenticator.knows(user, password):
        return True
    return bool(user or password) and await authenticator.check(user, password, client)


def own_names(more: Iterable[str]) -> frozenset[str]:
    """The names under which requests are answered; C{*} is any."""
    return frozenset(name.lower() for name in ("localhost", socket.gethostname(), *more))


def is_ours(host: str, names: frozenset[str]) -> bool:
    """Whether a request with this C{Host} can be for us."""
    name = _PORT.sub("", host).lower().rstrip(".")
    if "*" in names or name in names:
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class AccessControl(Resource):
    """Every path there is, and the way to it."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        pages: dict[bytes, PageFunction],
        names: frozenset[str],
        authenticator: Authenticator | None,
    ) -> None:
        super().__init__()
        self._pages = pages
        self._names = names
        self._authenticator = authenticator

    def render(self, request: Any) -> int:
        """Answer, now or later."""
        asked = Deferred.fromCoroutine(self._answer(request))
        request.notifyFinish().addErrback(lambda _: None)  # the client has gone
        asked.addErrback(self._fault)
        asked.addCallback(_say, request)
        return NOT_DONE_YET

    async def _answer(self, request: Any) -> HttpAnswer:
        page = self._pages.get(request.path)
        if request.path not in PROBES:
            await self._check(request)
        if page is None:
            return HttpAnswer(404, b"There is nothing here. Try /\n")
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return HttpAnswer(405, b"only GET and HEAD\n")
        return await page(request)

    async def _check(self, request: Any) -> None:
        """Raises what to answer to somebody who may not see it."""
        host = request.getHeader(b"host")  # which only an old tool leaves out, and no browser
        if host is not None and not is_ours(host.decode("latin-1"), self._names):
            raise HttpAnswer(
                421, b"This service is not known under that name: see --http-host in --help\n"
            )
        peer = request.getClientAddress()
        client = f"http:{peer.host}:{peer.port}" if hasattr(peer, "host") else "http"
        given = request.getUser(), request.getPassword()
        if not await allows(self._authenticator, *given, client):
            request.setHeader(b"www-authenticate", b'Basic realm="RedCouch", charset="UTF-8"')
            raise HttpAnswer(401, b"user and password, please\n")

    def _fault(self, failure: Failure) -> HttpAnswer:
        error = failure.value
        if isinstance(error, HttpAnswer):
            return error
        self._log.failure("Could not answer over HTTP", failure)
        return HttpAnswer(500, b"internal error\n")


def _say(answer: HttpAnswer, request: Any) -> None:
    if request.channel is None:  # the client has gone
        return
    request.setResponseCode(answer.status, _REASONS.get(answer.status))
    for name, value in HEADERS.items():
        request.setHeader(name, value)
    request.setHeader(b"content-type", answer.kind.encode())
    request.setHeader(b"content-length", b"%d" % len(answer.content))
    content = b"" if request.method == b"HEAD" else answer.content
    request.channel.setTimeout(_SILENCE)  # in which it has to be taken
    request.registerProducer(_Content(content, request), False)


@implementer(IPullProducer)
class _Content:
    """
    Writes an answer, and ends it in a turn of its own once the client takes what was written: the
    next request is looked at then, however many a client has sent at once.
    """

    def __init__(self, content: bytes, request: Request) -> None:
        self._content: bytes | None = content
        self._request = request

    def resumeProducing(self) -> None:
        """The client takes more."""
        content, self._content = self._content, None
        if content is None:
            self._request.unregisterProducer()
            self._request.finish()
        else:
            self._request.write(content)

    def stopProducing(self) -> None:
        """The client has gone."""


class _Request(Request):
    """A request whose body nobody wants."""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """What is asked for may be a whole URL: its host counts then (RFC 9112, 3.2.2)."""
        if whole := _WHOLE_URL.fullmatch(path):
            self.requestHeaders.setRawHeaders(b"host", [whole[1]])
            path = b"/" + whole[2]
        super().requestReceived(command, path, version)

    def gotLength(self, length: int | None) -> None:
        """Make no file for it, as Twisted would for a long one."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Pass over it."""


class _Channel(HTTPChannel):
    """Says why it does not read on, to the client and not in the log."""

    _log = Logger(observer=LogPublisher())

    def headerReceived(self, line: bytes) -> bool:
        try:
            well: bool = super().headerReceived(line)
        except ValueError:  # a length of more digits than Python reads
            self._refuse(b"400 Bad Request")
            return False
        return well

    def lineLengthExceeded(self, line: bytes) -> None:
        self._refuse(b"431 Request Header Fields Too Large")

    def _refuse(self, status: bytes) -> None:
        transport: Any = self.transport
        transport.write(b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        self.loseConnection()


class _Site(Site):
    """Keeps no log of requests."""

    noisy = False
    protocol: Any = _Channel

    def log(self, request: Any) -> None:
        """One line for a change of state, none for a request."""


@implementer(IProtocolNegotiationFactory)
class HttpFactory(WrappingFactory):
    """Takes connections, up to so many; then the one that came first has to go."""

    noisy = False

    def __init__(self, gate: AccessControl) -> None:
        super().__init__(_Site(gate, requestFactory=_Request, timeout=_SILENCE))

    def acceptableProtocols(self) -> list[bytes]:
        """What a browser is told that offers to speak HTTP/2 over TLS."""
        return [b"http/1.1"]

    def registerProtocol(self, p: Any) -> None:
        super().registerProtocol(p)
        if ITCPTransport.providedBy(p.transport):
            p.transport.setTcpKeepAlive(True)
        if len(self.protocols) > HTTP_CONNECTIONS:  # whoever holds many keeps nobody out
            first = next(iter(self.protocols))
            self.unregisterProtocol(first)
            first.abortConnection()

    def unregisterProtocol(self, p: Any) -> None:
        if p in self.protocols:  # it may have had to go before it was lost
            super().unregisterProtocol(p)
