"""The way to a Redis or a sentinel, over TLS where the URL says so, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from OpenSSL.crypto import Error as CertificateError
from OpenSSL.SSL import Error as TLSError
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from redcouch.backends.redis.opinion import HostAndPort
from redcouch.backends.redis.url import NO_REDIS, ONLY_TLS, RedisLocation, tls_fault
from redcouch.errors import ConfigurationError
from redcouch.process.private_keys import refuse_encrypted

_TLS_ALERT = b"\x15\x03"
"""How a TLS server's answer to something else begins."""

_UNUSABLE = (OSError, ValueError, ConfigurationError, TLSError, CertificateError, VerifyError)
"""What reading certificates and keys raises where they are none."""


def endpoint(address: HostAndPort, location: RedisLocation, reactor: Any) -> IStreamClientEndpoint:
    """
    How to get to one of a location's hosts.

    @raise ConfigurationError: the location's certificates cannot be used.
    """
    plain: IStreamClientEndpoint = HostnameEndpoint(
        reactor,
        *address,
        timeout=max(1.0, location.timeout),
        attemptDelay=0.05,  # a refusal is only reported after it
    )
    if not location.tls:
        return plain
    name = location.tls_name or address[0]
    return _OverTLS(lambda: wrapClientTLS(_tls_options(location, name), plain))


@implementer(IStreamClientEndpoint)
class _OverTLS:
    """Reads the certificates again for each connection; what cannot be used stays as it is."""

    def __init__(self, read: Callable[[], IStreamClientEndpoint]) -> None:
        self._read = read
        self._last = read()

    def connect(self, protocol_factory: Any) -> Deferred[Any]:
        """See L{IStreamClientEndpoint}."""
        with suppress(ConfigurationError):
            self._last = self._read()
        connecting: Deferred[Any] = self._last.connect(protocol_factory)
        return connecting


def _tls_options(location: RedisLocation, host: str) -> Any:
    try:
        trust = None if location.ca is None else _trust(location.ca.read_bytes())
        certificate = None
        if location.certificate is not None:
            pem = location.certificate.read_bytes()
            key = pem if location.key is None else location.key.read_bytes()
            refuse_encrypted(key)
            certificate = ssl.PrivateCertificate.loadPEM(pem + b"\n" + key)
        return ssl.optionsForClientTLS(host, trustRoot=trust, clientCertificate=certificate)
    except _UNUSABLE as error:
        raise ConfigurationError(
            f"{location.shown}: cannot use its certificates: {error}"
        ) from None


def _trust(pem: bytes) -> Any:
    mark = b"-----BEGIN CERTIFICATE-----"
    certificates = [ssl.Certificate.loadPEM(mark + part) for part in pem.split(mark)[1:]]
    if not certificates:
        raise ValueError("there is none in the file of ca")
    return ssl.trustRootFromCertificates(certificates)


def explain(failure: Failure) -> str:
    """A failure in a few words, on one line."""
    error = failure.value
    if isinstance(error, TLSError):
        words = [part[-1] for part in error.args[0]] if error.args else []
        return tls_fault(", ".join(words) or "closed")
    text = failure.getErrorMessage().strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__


def why_unreadable(data: bytes) -> str:
    """What is there, where these bytes are no reply of Redis'."""
    return ONLY_TLS if data.startswith(_TLS_ALERT) else NO_REDIS
