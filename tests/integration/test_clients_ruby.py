"""What users of Ruby's Dalli see."""

from __future__ import annotations

from base64 import b64encode

from redcouch.options import VERSION
from tests.integration.clients.programs import HERE, seen
from tests.support.requirements import installed, needs
from tests.support.servers import Memcached, RedCouch
from tests.support.wire import Wire


@needs("ruby", "dalli")
def test_dalli(redcouch: RedCouch, memcached: Memcached) -> None:
    """A Ruby program changes host and port: its objects, counters and locks are as they were."""
    ruby = [installed("ruby"), str(HERE / "dalli.rb")]
    found = seen([*ruby, str(redcouch.port)])
    before = seen([*ruby, str(memcached.port)])
    assert found == {**before, "version": VERSION}
    assert set(found.pop("types").values()) == {True}
    assert found == {
        "missing": None,
        "add": [True, False, 1],
        "replace": [True, True, 3],
        "concatenate": "abc",
        "count": [10, 15, 0, None],
        "get many": True,
        "fetch": ["made", "made"],
        "cas": [True, 4, None],
        "late cas": [4, True, False, "changed"],
        "odd key": 1,
        "touch": [True, False, "x"],
        "delete": [True, False],
        "after quiet": [1, None],
        "too large": ["Dalli::ValueOverMaxSize", None],
        "stats": True,
        "reset": [True],
        "version": VERSION,
        "alive": True,
        "flushed": None,
    }


def test_the_lines_of_a_newer_dalli(redcouch: RedCouch) -> None:
    """
    Dalli from 3.2 on can speak meta (Debian's does not): its lines, and what it reads from
    the answers: the key by its place, base64 keys said back with a b, quiet multi-gets.
    """
    key = b64encode("sp\u00e4ce".encode())
    with Wire(redcouch.address) as wire:
        for asked, reply in (
            (b"version\r\n", b"VERSION %b\r\n" % VERSION.encode()),
            (b"ms a 5 c F1 T0 MS\r\nhello\r\n", None),
            (b"mg a v f\r\n", b"VA 5 f1\r\nhello\r\n"),
            (b"mg nothing v f\r\n", b"EN\r\n"),
            (b"ms a 2 F0 T0 ME\r\nno\r\n", b"NS\r\n"),
            (b"ms %b 1 b F0 T300 MS\r\nx\r\n" % key, b"HD\r\n"),
            (b"mg %b v f b k\r\n" % key, b"VA 1 f0 k%b b\r\nx\r\n" % key),
            (b"mg a v f k q\r\nmg no v f k q\r\nmn\r\n", b"VA 5 f1 ka\r\nhello\r\nMN\r\n"),
            (b"ms q1 1 F0 T0 MS q\r\n1\r\nmd a q\r\nmn\r\n", b"MN\r\n"),
            (b"ma n v D1 J10 N0 MI\r\n", b"VA 2\r\n10\r\n"),
            (b"ma n v D3 MD\r\n", b"VA 1\r\n7\r\n"),
            (b"ma nothing v D1 MI\r\n", b"NF\r\n"),
            (b"mg n T300\r\n", b"HD\r\n"),
            (b"mg nothing T300\r\n", b"EN\r\n"),
            (b"mg n v f T300\r\n", b"VA 2 f0\r\n7 \r\n"),
            (b"ms n 1 c C1 F0 T0 MS\r\n9\r\n", b"EX c0\r\n"),
            (b"md n\r\n", b"HD\r\n"),
            (b"md n\r\n", b"NF\r\n"),
        ):
            heard = wire.say([asked], reply or b"\r\n").reply
            assert heard == (reply or heard)
            assert reply or heard.startswith(b"HD c")
