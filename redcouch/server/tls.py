"""
TLS for clients: C{--tls-cert}, C{--tls-key} and C{--tls-client-ca}, and C{ssl:}
endpoints.

At least TLS 1.2, with the ciphers that Twisted takes for good. With an
authority for clients, one that shows no certificate of it is not let in. The
files can be read again: whoever connects after that meets what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from OpenSSL.crypto import FILETYPE_PEM
from OpenSSL.crypto import Error as CertificateError
from OpenSSL.SSL import (
    NO_OVERLAPPING_PROTOCOLS,
    SENT_SHUTDOWN,
    Connection,
    WantReadError,
    ZeroReturnError,
)
from OpenSSL.SSL import Error as TLSError
from twisted.internet import ssl
from twisted.internet.interfaces import IHalfCloseableProtocol, IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.components import registerAdapter
from zope.interface import implementer

from redcouch.errors import ConfigurationError
from redcouch.process.private_keys import refuse_encrypted

_BEGIN = b"-----BEGIN CERTIFICATE-----"

OPTIONS = ("tls-cert", "tls-key", "tls-client-ca")
"""The options that name a file each."""

Contents = dict[str, str]
"""What stands in the files, by the option that names them."""


@implementer(IHalfCloseableProtocol)
class _Connection(Connection):
    """
    One that a client may end on its side alone, by TLS, by TCP or by both, and still have its
    answers, as without TLS.
    """

    def __init__(self, context: Any, protocol: Any) -> None:
        super().__init__(context, None)
        self._protocol = protocol
        #: Nothing more comes from the client's system.
        self._half_closed = False

    @property
    def half_closeable(self) -> bool:
        """Whether the client may end its side alone."""
        protocol = self._protocol
        speaks: bool = protocol._handshakeDone
        return speaks and IHalfCloseableProtocol.providedBy(protocol.wrappedProtocol)

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        try:
            return super().recv(bufsiz, flags)
        except ZeroReturnError:
            if self._protocol.disconnecting or not self.half_closeable:
                raise
            self._protocol.wrappedProtocol.readConnectionLost()
            raise WantReadError from None

    def shutdown(self) -> bool:
        """Whether both sides have ended: one of which nothing comes is not waited for."""
        return super().shutdown() or self._half_closed

    def readConnectionLost(self) -> None:
        self._half_closed = True
        if self.get_shutdown() & SENT_SHUTDOWN:  # all is written, though it may not have left yet
            self._protocol.transport.loseConnection()
        else:
            self._protocol.wrappedProtocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """See L{redcouch.server.connection.Connection}."""


def _who_hears_of_its_end(protocol: Any) -> _Connection | None:
    """For a transport: what it tells that nothing more comes; C{None} where it is to close."""
    connection = protocol._tlsConnection
    return connection if isinstance(connection, _Connection) and connection.half_closeable else None


registerAdapter(_who_hears_of_its_end, TLSMemoryBIOProtocol, IHalfCloseableProtocol)


@implementer(IOpenSSLServerConnectionCreator)
class RenewableTLS:
    """
    What a server needs to speak TLS, as Twisted wants it, with certificates that may change.
    """

    def __init__(self, what: str, make: Callable[[], ssl.CertificateOptions]) -> None:
        """
        @param what: which certificates these are.
        @param make: reads the files.
        @raise ConfigurationError: they cannot be used, as C{make} says.
        """
        self.what = what
        self._make = make
        self._options = make()

    def serverConnectionForTLS(self, protocol: Any) -> Any:
        """For the next client."""
        return _Connection(self._options.getContext(), protocol)

    def reload(self) -> str:
        """
        Read the files again; gives what was read, in words.

        @raise ConfigurationError: they cannot be used. The certificates stay as they are.
        """
        self._options = self._make()
        return self.what


class ServerTLS(RenewableTLS):
    """
    The same from the options of the command line.

    @ivar contents: what stands in the files, as far as it is in use.
    """

    def __init__(self, options: Mapping[str, Any], contents: Contents | None = None) -> None:
        """
        @param contents: what stands in the files, if somebody has read them.
        @raise ConfigurationError: they cannot be used; says which option.
        """
        self._paths = {
            name: Path(options[name]).absolute() for name in OPTIONS if options[name] is not None
        }
        self.contents = self._read() if contents is None else contents
        files = ", ".join(sorted({str(path) for path in self._paths.values()}))
        super().__init__(
            f"certificates from {files}", lambda: make_options(self.contents, self._paths)
        )

    def _read(self) -> Contents:
        return {name: _read(name, path).decode("latin-1") for name, path in self._paths.items()}

    def take(self, contents: Contents) -> str:
        """Use what somebody has read. @raise ConfigurationError: it cannot be used."""
        before, self.contents = self.contents, contents
        try:
            return super().reload()
        except ConfigurationError:
            self.contents = before
            raise

    def reload(self) -> str:
        return self.take(self._read())


def make_options(contents: Contents, paths: Mapping[str, Path]) -> ssl.CertificateOptions:
    """
    What a server needs to speak TLS.

    @param contents: a certificate and what leads from it to its authority; its
        key, unless that is beside it; the authorities of clients' certificates,
        unless clients need none.
    @param paths: where each was read.
    @raise ConfigurationError: a file cannot be used; says which option.
    """

    def certificates(option: str) -> list[Any]:
        return _certificates(option, paths[option], contents[option].encode("latin-1"))

    chain = certificates("tls-cert")
    key_option = "tls-key" if "tls-key" in contents else "tls-cert"
    pem = contents[key_option].encode("latin-1")
    try:
        refuse_encrypted(pem)
        private_key = ssl.KeyPair.load(pem, FILETYPE_PEM).original
    except ConfigurationError as error:
        raise ConfigurationError(f"--{key_option}: {paths[key_option]}: {error}") from None
    except (CertificateError, ValueError, TypeError):
        raise ConfigurationError(
            f"--{key_option}: there is no key in {paths[key_option]}"
        ) from None
    trust = None
    if "tls-client-ca" in contents:
        trust = ssl.trustRootFromCertificates(
            [ssl.Certificate(one) for one in certificates("tls-client-ca")]
        )
    options = ssl.CertificateOptions(
        privateKey=private_key,
        certificate=chain[0],
        extraCertChain=chain[1:] or None,
        trustRoot=trust,
        insecurelyLowerMinimumTo=ssl.TLSVersion.TLSv1_2,  # Twisted's own default, said aloud
    )
    try:
        context = options.getContext()
        context.check_privatekey()
    except TLSError:
        raise ConfigurationError(
            f"--{key_option}: the key does not belong to the certificate in {paths['tls-cert']}"
        ) from None
    # Clients may offer protocols by ALPN, as some proxies do to everybody. memcached pays no
    # attention to that; Twisted would close the connection.
    context.set_alpn_select_callback(lambda connection, offered: NO_OVERLAPPING_PROTOCOLS)
    return options


def _read(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--{option}: cannot read {path}: {error.strerror}") from None


def _certificates(option: str, path: Path, pem: bytes) -> list[Any]:
    try:
        found = [ssl.Certificate.loadPEM(_BEGIN + part).original for part in pem.split(_BEGIN)[1:]]
    except (CertificateError, ValueError):
        found = []
    if not found:
        raise ConfigurationError(f"--{option}: there is no certificate in {path}")
    return found
