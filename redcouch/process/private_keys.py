"""Private keys in files."""

from __future__ import annotations

from redcouch.errors import ConfigurationError


def refuse_encrypted(pem: bytes) -> None:
    """
    Of an encrypted key, OpenSSL asks for the pass phrase at the terminal, and all clients wait.

    @raise ConfigurationError: the key is encrypted.
    """
    if b"ENCRYPTED" in pem:
        raise ConfigurationError("the key is encrypted: it has to be there without a pass phrase")
