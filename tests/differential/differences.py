"""
What memcached and RedCouch answer differently: all of it, with each answer and
the reason. docs/compatibility.md has the same list for people.

Where the two memcacheds disagree, RedCouch does as the newer one.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.comparison import CLOSED
from tests.support.servers import MEMCACHED_VERSIONS


@dataclass(frozen=True, slots=True)
class Difference:
    """
    What is sent, what each of L{MEMCACHED_VERSIONS} says to it, and what RedCouch
    says. C{b"..."} stands for what the time decides.
    """

    sent: bytes
    memcached: tuple[bytes, ...]
    redcouch: bytes
    reason: str


def _ours(sent: bytes, memcached: bytes, redcouch: bytes, reason: str) -> Difference:
    """One where the memcacheds agree."""
    return Difference(sent, (memcached,) * len(MEMCACHED_VERSIONS), redcouch, reason)


def _newer(sent: bytes, old: bytes, new: bytes) -> Difference:
    """One where RedCouch agrees with the newer memcached."""
    return Difference(sent, (old, new), new, "as memcached 1.6.38")


_A = b"set a 0 0 1\r\n1\r\n"
_GOT = b"VALUE a 0 1\r\n1\r\nEND\r\n"
_BAD = b"CLIENT_ERROR bad command line format\r\n"
_NO_FLAG = b"CLIENT_ERROR invalid flag\r\n"
_NO_FLAG_HERE = b"CLIENT_ERROR invalid or duplicate flag\r\n"
_NO_LRU = "an LRU that is Redis' own, and not set up by clients"
_NO_SLABS = "no slabs"
_NO_MEMORY = "the memory is Redis', and not for clients to set"
_SHORT = "append <key> <bytes> is documented by another bridge, and its users script it"
_WORDS = "memcached looks no further than 23 words"
_OVER = "what is over has no time left: memcached counts below 0, and wraps"
_SEEN = b"STORED\r\nVALUE a 0 1 <token 0>\r\n1\r\nEND\r\n"
_LONGER = "memcached makes a new item of a longer number, after changing the old one"
_TEN = b"set n 0 0 2\r\n10\r\nget n\r\ndecr n 5\r\n"
_FIVE = b"STORED\r\nVALUE n 0 2\r\n10\r\nEND\r\n5\r\n"

DIFFERENCES = (
    _ours(_A + b"append a 1\r\nx\r\nget a\r\n",
              b"STORED\r\nERROR\r\nERROR\r\n" + _GOT,
              b"STORED\r\nSTORED\r\nVALUE a 0 2\r\n1x\r\nEND\r\n", _SHORT),
    _ours(b"prepend a 1\r\nx\r\n", b"ERROR\r\nERROR\r\n", b"NOT_STORED\r\n", _SHORT),
    _ours(b"append a x\r\n", b"ERROR\r\n", _BAD, _SHORT),
    _ours(b"append a noreply\r\n", b"ERROR\r\n", b"", _SHORT),
    _ours(b"cache_memlimit 64\r\n", b"OK\r\n",
              b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n", _NO_MEMORY),
    _ours(b"lru tune 10 25 0.1 2.0\r\n", b"OK\r\n", b"ERROR\r\n", _NO_LRU),
    _ours(b"lru mode flat\r\n", b"OK\r\n", b"ERROR\r\n", _NO_LRU),
    _ours(b"lru temp_ttl -1\r\n", b"OK\r\n", b"ERROR\r\n", _NO_LRU),
    _ours(b"lru_crawler sleep 100\r\n", b"OK\r\n", b"ERROR\r\n", _NO_LRU),
    _ours(b"lru_crawler tocrawl 0\r\n", b"OK\r\n", b"ERROR\r\n", _NO_LRU),
    _ours(b"lru_crawler crawl 1\r\n", b"OK\r\n", b"CLIENT_ERROR lru crawler disabled\r\n",
              _NO_LRU),
    _ours(b"slabs automove 1\r\n", b"OK\r\n", b"ERROR\r\n", _NO_SLABS),
    _ours(b"slabs automove ratio 0.8\r\n", b"OK\r\n", b"ERROR\r\n", _NO_SLABS),
    _ours(b"slabs reassign 1 1\r\n", b"SAME src and dst class are identical\r\n",
              b"CLIENT_ERROR slab reassignment disabled\r\n", _NO_SLABS),
    _newer(b"stats sizes_enable\r\n", b"", b"ERROR\r\n"),
    _ours(b"stats extstore\r\n", b"END\r\n", b"ERROR\r\n", "no disk of its own"),
    _ours(b"extstore free_memchunks 1 2\r\n", b"OK\r\n", b"ERROR\r\n", "no disk of its own"),
    _ours(b"refresh_certs\r\n", b"Error TLS not enabled\r\n", b"ERROR\r\n",
              "certificates are the operator's"),
    _ours(b"watch x\r\n", b"ERROR\r\n", b"CLIENT_ERROR watch commands not allowed\r\n",
              "there is no log for clients to watch, as in a memcached with -W"),
    _ours(b"gat 0" + b" x" * 10_000 + b"\r\n", CLOSED, b"END\r\n",
              "memcached's own note says that lists of keys have no limit; it forgot gat"),
    _ours(b"GET w" + b" w" * 21 + b" HTTP/1.1\r\n", b"ERROR\r\n", CLOSED, _WORDS),
    _ours(b"GET" + b" w" * 21 + b" HTTP/1.1 x\r\n", CLOSED, b"ERROR\r\n", _WORDS),
    _ours(_A + b"{then}gat -1 a %b\r\n{then}get a\r\n" % (b"k" * 251),
              b"STORED\r\n" + _BAD + b"END\r\n", b"STORED\r\n" + _BAD + _GOT,
              "a line that is refused changes nothing"),
    _ours(b"set n 0 0 600000\r\n" + b"5".ljust(600_000) + b"\r\nincr n 1\r\n",
              b"STORED\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
              b"STORED\r\n6\r\n", "memcached does not look into a value of half a megabyte"),
    Difference(_TEN + b"get n\r\n",
               (_FIVE + b"VALUE n 0 2\r\n5 \r\nEND\r\n", _FIVE + b"VALUE n 0 1\r\n5\r\nEND\r\n"),
               _FIVE + b"VALUE n 0 2\r\n5 \r\nEND\r\n",
               "the newer one fills up with blanks unless the old value is still to be sent, to "
               "anybody: the same commands one by one leave a blank"),
    _ours(_A + b"flush_all 2678400\r\nget a\r\n", b"STORED\r\nOK\r\n" + _GOT,
              b"STORED\r\nOK\r\nEND\r\n",
              "a time that has passed is now; if it was before memcached's start, it does nothing"),
    _ours(b"mn Oabc\r\n", b"MN\r\n", b"MN Oabc\r\n", "an opaque that bridges give back"),
    _newer(b"ms a 1 MA N0\r\nx\r\n", b"NS\r\n", b"HD\r\n"),
    _newer(b"ms a 1 E7\r\nx\r\n", _NO_FLAG, b"HD\r\n"),
    _newer(b"mg a E7\r\n", _NO_FLAG, b"EN\r\n"),
    _newer(b"ma a E7\r\n", _NO_FLAG_HERE, b"NF\r\n"),
    _newer(b"md a E7\r\n", _NO_FLAG_HERE, b"NF\r\n"),
    _newer(b"ms a 1 s\r\nx\r\n", b"HD\r\n", b"HD s1\r\n"),
    _newer(b"md a x\r\n", _NO_FLAG_HERE, b"NF\r\n"),
    _newer(b"ma a x\r\n", _NO_FLAG_HERE, b"NF\r\n"),
    _newer(b"mg a x\r\n", _NO_FLAG, b"EN\r\n"),
    _ours(b"set a 0 0 1\r\nx\r\nmg YQ== b k\r\n", b"STORED\r\nHD ka\r\n",
              b"STORED\r\nHD kYQ== b\r\n",
              "no item notes how its key was written: keys are said as they were asked for"),
    _ours(b"ms YQ== 1 b\r\nx\r\nmg a k\r\n", b"HD\r\nHD kYQ== b\r\n", b"HD\r\nHD ka\r\n",
              "no item notes how its key was written: keys are said as they were asked for"),
    _ours(_A + b"get a\r\nmg a h\r\n", b"STORED\r\n" + _GOT + b"HD h1\r\n",
              b"STORED\r\n" + _GOT + b"HD h0\r\n", "a plain get writes nothing to Redis"),
    _ours(b"ms YQ== 1 b\r\nx\r\nme a\r\n", b"HD\r\nME YQ== exp...", b"HD\r\nME a exp...",
              "no item notes how its key was written: keys are said as they were asked for"),
    _ours(_A + b"mg a T-1 t\r\nmg a\r\n", b"STORED\r\nHD t4294...",
              b"STORED\r\nHD t0\r\nEN\r\n", _OVER),
    _ours(_A + b"ma a T-1 t\r\nmg a\r\n", b"STORED\r\nHD t4294...",
              b"STORED\r\nHD t0\r\nEN\r\n", _OVER),
    _ours(b"set a 0 9 1\r\n5\r\nmg a T2592001 t\r\nmg a\r\n", b"STORED\r\nHD t4294...",
              b"STORED\r\nHD t0\r\nEN\r\n", _OVER),
    _ours(b"mg a N-1 t\r\nmg a\r\n", b"HD t4294...", b"HD t0 W\r\nEN\r\n", _OVER),
    _ours(b"mg a N-1 t T-1\r\nmg a\r\n", b"HD t4294...", b"HD t0 W\r\nEN\r\n", _OVER),
    _ours(b"ma a N-1 t\r\nmg a\r\n", b"HD t4294...", b"HD t0\r\nEN\r\n", _OVER),
    _ours(b"ma a N60 T-1 t\r\nmg a\r\n", b"HD t4294...", b"HD t0\r\nEN\r\n", _OVER),
    _ours(b"ms a 2 T100\r\n99\r\nma a T500 t v\r\nmg a s t\r\n",
              b"HD\r\nVA 3 t500\r\n100\r\nHD s3 t100\r\n",
              b"HD\r\nVA 3 t500\r\n100\r\nHD s3 t500\r\n", _LONGER),
    Difference(b"set a 0 0 2\r\n99\r\nma a E777 c v\r\nma a C777 v\r\n",
               (b"STORED\r\n" + _NO_FLAG_HERE + b"EX\r\n",
                b"STORED\r\nVA 3 c<token 0>\r\n100\r\nEX\r\n"),
               b"STORED\r\nVA 3 c<token 0>\r\n100\r\nVA 3\r\n101\r\n", _LONGER),
    Difference(_A + b"gets a\r\n{then}md a x\r\ncas a 0 0 1 {cas:a}\r\nx\r\n",
               (_SEEN + _NO_FLAG_HERE + b"STORED\r\n", _SEEN + b"HD\r\nSTORED\r\n"),
               _SEEN + b"HD\r\nEXISTS\r\n",
               "the value has changed: a token of the one before it must not fit any more"),
    _ours(_A + b"get a %b\r\n" % (b"k" * 251), _BAD, b"STORED\r\n" + _BAD,
              "each request has its answer: memcached drops those of what came before"),
)  # fmt: skip
"""What only one of them can mean, or where memcached's answer is an accident."""
