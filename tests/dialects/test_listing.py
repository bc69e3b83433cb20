"""
Lists of the items, line by line and page by page, as tools read them.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcouch.commands import Dump, Noop
from redcouch.dialects.request import Request
from redcouch.dialects.text import TextDialect
from redcouch.limits import Limits
from redcouch.results import ErrorKind, Failed, Listed, ListedPage

NOW = 1_700_000_000.75

METADUMP, MGDUMP = b"lru_crawler metadump all", b"lru_crawler mgdump all"
CACHEDUMP = b"stats cachedump 1 0"


def listed(
    key: bytes, ttl: int | None = None, size: int = 3, flags: int = 0, fetched: bool = False
) -> Listed:
    return Listed(key, ttl, 5, 9, fetched, size, flags)


def ask(line: bytes, limits: Limits | None = None) -> Request:
    """The one request of a line."""
    (request,) = TextDialect(limits or Limits()).receive(line + b"\r\n")
    return request


def refusal(line: bytes, limits: Limits | None = None) -> bytes:
    """What is said to a line without the storage being asked."""
    request = ask(line, limits)
    assert isinstance(request.command, Noop)
    assert request.next_page is None
    return request.encode(None)


def dump(line: bytes, *pages: list[Listed]) -> bytes:
    """All that is said where the storage has these pages."""
    request: Request | None = ask(line)
    said = b""
    for number, items in enumerate(pages, 1):
        assert request is not None
        assert request.command == Dump(b"" if number == 1 else b"%d" % (number - 1))
        page = ListedPage(items, b"" if number == len(pages) else b"%d" % number, NOW)
        said += request.encode(page)
        assert request.next_page is not None
        request = request.next_page(page)
    assert request is None
    return said


def test_metadump() -> None:
    """
    A line for each item with what a bridge knows: when it ends (-1 for never) and when it
    was last used in UNIX time, its token, its size as memcached counts, and its flags.
    """
    items = [listed(b"a"), listed(b"b", 30, 10, 7, True)]
    assert dump(METADUMP, items) == (
        b"key=a exp=-1 la=1699999995 cas=9 fetch=no cls=1 size=63 flags=0\n"
        b"key=b exp=1700000030 la=1699999995 cas=9 fetch=yes cls=1 size=74 flags=7\n"
        b"END\r\n"
    )


def test_metadump_of_any_key() -> None:
    """A key of any bytes is URL-encoded, as memcached's is, so that a line stays a line."""
    keys = [b"a b", b"\r\n", b"%41", b"\xff\0", b"~-_.", b"a/b?c=d", b"caf\xc3\xa9"]
    lines = dump(METADUMP, [listed(key) for key in keys]).split(b"\n")[:-2]
    shown = [line.split(b" ")[0].removeprefix(b"key=") for line in lines]
    assert [unquote_to_bytes(key) for key in shown] == keys
    assert shown[:5] == [b"a%20b", b"%0D%0A", b"%2541", b"%FF%00", b"~-_."]


def test_mgdump() -> None:
    """Lines that can be sent back as they are: mg, with base64 for what is no plain key."""
    keys = [b"a", b"a b", b"\x7f", b"caf\xc3\xa9"]
    assert dump(MGDUMP, [listed(key) for key in keys]) == (
        b"mg a\r\nmg YSBi b\r\nmg fw== b\r\nmg caf\xc3\xa9\r\nEN\r\n"
    )


def test_cachedump() -> None:
    """A line for each item: bytes of its value, and when it ends (0 for never)."""
    items = [listed(b"a"), listed(b"b", 30, 10), listed(b"a b"), listed(b"\r\n")]
    assert dump(CACHEDUMP, items) == b"ITEM a [3 b; 0 s]\r\nITEM b [10 b; 1700000030 s]\r\nEND\r\n"


@pytest.mark.parametrize("line", [METADUMP, MGDUMP, CACHEDUMP])
def test_a_list_comes_in_pages(line: bytes) -> None:
    """However many pages a storage gives, a client reads one list; empty pages leave no trace."""
    pages = [[listed(b"k%d" % number)] for number in range(5)]
    assert dump(line, [], *pages, [], []) == dump(line, [item for page in pages for item in page])
    assert dump(line, []) == (b"EN\r\n" if line is MGDUMP else b"END\r\n")


@pytest.mark.parametrize("line", [METADUMP, MGDUMP, CACHEDUMP])
def test_a_storage_that_goes_away(line: bytes) -> None:
    """The list ends with the error, and no END that would make it look complete."""
    first = ask(line)
    page = ListedPage([listed(b"a")], b"1", NOW)
    assert b"a" in first.encode(page)
    assert first.next_page is not None
    second = first.next_page(page)
    assert second is not None
    failed = Failed(ErrorKind.UNAVAILABLE, "storage not available")
    assert second.encode(failed) == b"SERVER_ERROR storage not available\r\n"
    assert second.next_page is not None
    assert second.next_page(failed) is None


def test_cachedump_ends_where_it_is_to_end() -> None:
    """A client that wants two items gets two, and no further page is asked for."""
    pages = [[listed(b"a"), listed(b"a b"), listed(b"b"), listed(b"c")]]
    request = ask(b"stats cachedump 1 2")
    page = ListedPage(pages[0], b"1", NOW)
    said = request.encode(page)
    assert said == b"ITEM a [3 b; 0 s]\r\nITEM b [3 b; 0 s]\r\nEND\r\n"
    assert request.next_page is not None
    assert request.next_page(page) is None


def test_cachedump_ends_at_two_megabytes() -> None:
    """memcached's list has no more than 2 MiB; nor has this one, and it ends well."""
    request: Request | None = ask(CACHEDUMP)
    said = b""
    cursor = 0
    while request is not None:
        cursor += 1
        page = ListedPage(
            [listed(b"k%0200d" % (cursor * 1000 + n)) for n in range(1000)], b"%d" % cursor, NOW
        )
        said += request.encode(page)
        assert request.next_page is not None
        request = request.next_page(page)
    assert 2 * 1024 * 1024 - 300 < len(said) < 2 * 1024 * 1024
    assert said.endswith(b" s]\r\nEND\r\n")


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"stats cachedump", b"CLIENT_ERROR bad command line\r\n"),
        (b"stats cachedump 1", b"CLIENT_ERROR bad command line\r\n"),
        (b"stats cachedump x 0", b"CLIENT_ERROR bad command line format\r\n"),
        (b"stats cachedump 1 x", b"CLIENT_ERROR bad command line format\r\n"),
        (b"stats cachedump 64 0", b"CLIENT_ERROR Illegal slab id\r\n"),
        (b"stats cachedump 0 0", b"END\r\n"),
        (b"stats cachedump 63 100", b"END\r\n"),
        (b"lru_crawler metadump", b"ERROR\r\n"),
        (b"lru_crawler mgdump", b"ERROR\r\n"),
        (b"lru_crawler metadump all all", b"ERROR\r\n"),
        (b"lru_crawler metadump 2,63", b"END\r\n"),
        (b"lru_crawler metadump x", b"BADCLASS invalid class id\r\n"),
        (b"lru_crawler metadump ,", b"BADCLASS invalid class id\r\n"),
        (b"lru_crawler metadump 0", b"BADCLASS invalid class id\r\n"),
        (b"lru_crawler metadump 1,64", b"BADCLASS invalid class id\r\n"),
        (b"lru_crawler metadump 2,3", b"END\r\n"),
        (b"lru_crawler mgdump 2", b"EN\r\n"),
    ],
)
def test_lists_that_are_none(line: bytes, reply: bytes) -> None:
    """What a client that goes through all slab classes, or gets the line wrong, is told."""
    assert refusal(line) == reply


@pytest.mark.parametrize("classes", [b"all", b"hash", b"1", b"1,2", b"2,1,"])
def test_all_items_are_in_class_one(classes: bytes) -> None:
    """Whoever asks for class 1, or for all, gets all."""
    assert dump(b"lru_crawler mgdump " + classes, [listed(b"a")]) == b"mg a\r\nEN\r\n"


def test_no_dump() -> None:
    """With --no-dump a client is told that lists are not allowed, as by memcached -X."""
    no_dump = Limits(dump=False)
    assert refusal(CACHEDUMP, no_dump) == b"CLIENT_ERROR stats cachedump not allowed\r\n"
    assert refusal(METADUMP, no_dump) == b"ERROR metadump not allowed\r\n"
    assert refusal(MGDUMP, no_dump) == b"ERROR key dump not allowed\r\n"


@given(
    st.sampled_from([METADUMP, MGDUMP, CACHEDUMP]),
    st.lists(
        st.builds(
            listed,
            st.binary(min_size=1, max_size=250),
            st.one_of(st.none(), st.integers(0, 2**31)),
            st.integers(0, 2**20),
            st.integers(0, 2**32 - 1),
            st.booleans(),
        ),
        max_size=5,
    ),
)
def test_any_item_is_one_line(line: bytes, items: list[Listed]) -> None:
    """Whatever bytes a key has, its line ends where it should."""
    lines = dump(line, items).split(b"\n")
    assert lines[-1] == b""
    assert lines[-2] in (b"END\r", b"EN\r")
    starts = (b"key=", b"mg ", b"ITEM ")
    assert all(text.startswith(starts) for text in lines[:-2])
    if line is not CACHEDUMP:
        assert len(lines) == len(items) + 2
