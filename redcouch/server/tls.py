"""
TLS for clients: C{--tls-cert}, C{--tls-key} and C{--tls-client-ca}.

At least TLS 1.2, with the ciphers that Twisted takes for good. With an
authority for clients, one that shows no certificate of it is not let in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL.crypto import FILETYPE_PEM
from OpenSSL.crypto import Error as CertificateError
from OpenSSL.SSL import NO_OVERLAPPING_PROTOCOLS
from OpenSSL.SSL import Error as TLSError
from twisted.internet import ssl
from twisted.protocols.tls import TLSMemoryBIOFactory

from redcouch.errors import ConfigurationError

_BEGIN = b"-----BEGIN CERTIFICATE-----"


def read_tls(certificate: str, key: str | None, client_ca: str | None) -> ssl.CertificateOptions:
    """
    What a server needs to speak TLS.

    @param certificate: a file with the certificate, and what leads from it to
        its authority.
    @param key: the file with its key; C{None} where that is in C{certificate}.
    @param client_ca: a file with the authorities of clients' certificates;
        C{None} where clients need none.
    @raise ConfigurationError: a file cannot be read or used; says which option.
    """
    chain = _read_certificates("tls-cert", certificate)
    key_option = "tls-cert" if key is None else "tls-key"
    pem = _read(key_option, key or certificate)
    try:
        private_key = ssl.KeyPair.load(pem, FILETYPE_PEM).original
    except (CertificateError, ValueError, TypeError):
        raise ConfigurationError(
            f"--{key_option}: there is no key in {key or certificate}"
        ) from None
    trust = None
    if client_ca is not None:
        trust = ssl.trustRootFromCertificates(
            [ssl.Certificate(one) for one in _read_certificates("tls-client-ca", client_ca)]
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
            f"--{key_option}: the key does not belong to the certificate in {certificate}"
        ) from None
    # Clients may offer protocols by ALPN, as some proxies do to everybody. memcached pays no
    # attention to that; Twisted would close the connection.
    context.set_alpn_select_callback(lambda connection, offered: NO_OVERLAPPING_PROTOCOLS)
    return options


def over_tls(options: ssl.CertificateOptions, factory: Any) -> Any:
    """The factory, for clients that speak TLS."""
    return TLSMemoryBIOFactory(options, False, factory)


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--{option}: cannot read {path}: {error.strerror}") from None


def _read_certificates(option: str, path: str) -> list[Any]:
    try:
        found = [
            ssl.Certificate.loadPEM(_BEGIN + part).original
            for part in _read(option, path).split(_BEGIN)[1:]
        ]
    except (CertificateError, ValueError):
        found = []
    if not found:
        raise ConfigurationError(f"--{option}: there is no certificate in {path}")
    return found
