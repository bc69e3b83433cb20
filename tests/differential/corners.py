"""
Corners of the meta commands that trials have found: times told beside times given, and
base64 that is not as it should be.
"""

from __future__ import annotations

Steps = tuple[bytes, ...]


def _lines(*lines: bytes) -> Steps:
    return tuple(line + b"\r\n" for line in lines)


def _each(there: bytes, *lines: bytes) -> Steps:
    """Each line, and what it leaves behind, with nothing there; or with an item of these bytes."""
    before = b"set a 0 0 %d\r\n%b\r\n" % (len(there), there) if there else b""
    return tuple(b"flush_all\r\n" + before + line + b"\r\nmg a t\r\n" for line in lines)


_ORDERS = (
    *(b"T3600 t N60", b"T3600 N60 t", b"N60 t T3600", b"N60 T3600 t", b"t N60 T3600"),
    *(b"t T3600 N60", b"N60 t", b"t N60", b"T60 t", b"t T60", b"N0 t T60", b"T60 t N0"),
    *(b"t T-1", b"t N-1", b"t N-1 T-1", b"N0 t T-1", b"N-1 T30 t"),
)

META: dict[str, Steps] = {
    "times told between times given, mg": _each(b"", *(b"mg a v " + way for way in _ORDERS)),
    "the same with an item, mg": _each(b"5", *(b"mg a v " + way for way in _ORDERS)),
    "times told between times given, ma": _each(b"", *(b"ma a v " + way for way in _ORDERS)),
    "the same with an item, ma": _each(b"5", *(b"ma a v " + way for way in _ORDERS)),
    "recache and touch": _each(b"5", b"mg a T10 R30 t", b"mg a R30 T10 t", b"mg a T-1 R30 v"),
    "base64 that is cut or padded wrongly": _lines(
        *(
            b"mg %b b k v" % key
            for key in (
                *(b"a", b"ab", b"abc", b"abcd", b"abcde", b"YQ", b"YQ=", b"YQ==", b"YQ==="),
                *(b"YQ====", b"YQ==YQ==", b"YQ==YQ", b"YWI=YWI=", b"YWI=Y", b"a===", b"===="),
                *(b"=", b"==", b"abcd====", b"ab=c", b"a=bc", b"=abc", b"a==b", b"a=b=", b"=a=b"),
            )
        ),
    ),
    "base64 with other characters": _lines(
        *(
            b"mg %b b k v" % key
            for key in (
                *(b"!YQ==", b"Y!Q==", b"YQ!==", b"YQ=!=", b"YQ==!", b"YQ=!", b"!!!!", b"YW-j"),
                *(b"YW_j", b"YW/j", b"YW+j", b"YQ\t==", b"\xff\xfeYQ==", b"YR==", b"YWJ="),
            )
        ),
    ),
    "base64 in every verb": (
        b"ms YQ 1 b\r\nx\r\n",
        b"ms YQ=== 1 b k\r\nx\r\n",
        b"ms YQ==YQ== 1 b k\r\nx\r\n",
        *_lines(b"md YQ=== b k", b"ma YQ=== b k N0", b"me YQ=== b", b"md YQ== b k"),
    ),
}

CLOCK = tuple(name for name in META if "base64" not in name)
"""Those whose answers have what is left of a time to live."""
