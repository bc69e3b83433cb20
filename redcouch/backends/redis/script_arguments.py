"""What scripts are given: numbers, truths and expiries, as bytes."""

from __future__ import annotations

from redcouch.expiry import MAX_RELATIVE


def pack_expiry(exptime: int) -> tuple[bytes, bytes]:
    """The Redis command that gives an item this expiry, and its argument."""
    if exptime == 0:
        return b"PERSIST", b""
    if exptime < 0:
        return b"UNLINK", b""
    if exptime <= MAX_RELATIVE:
        return b"PEXPIRE", b"%d" % (exptime * 1000)
    return b"PEXPIREAT", b"%d" % (exptime * 1000)


def pack_expiry_if(exptime: int | None) -> tuple[bytes, bytes]:
    """The same, and two empty arguments for none."""
    return (b"", b"") if exptime is None else pack_expiry(exptime)


def pack_number(number: int | None) -> bytes:
    """A number in decimal; empty for none."""
    return b"" if number is None else b"%d" % number


def pack_truth(wanted: bool) -> bytes:
    """C{1}, or empty."""
    return b"1" if wanted else b""
