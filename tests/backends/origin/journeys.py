"""What clients do with a few items, step by step."""

from __future__ import annotations

SET = b"set a 5 0 3\r\nabc\r\n"
NUMBER = b"set n 3 0 2\r\n50\r\n"
LASTING = b"set t 1 1000 1\r\nx\r\n"
SEE = b"get a n t\r\nmg a t f s v\r\nmg n t f s v\r\nmg t f s v\r\n"

JOURNEYS: dict[str, list[bytes]] = {
    "get": [SET, NUMBER, b"get a n x\r\n", b"get x\r\n", b"get a a\r\n"],
    "gets": [SET, b"gets a x\r\n"],
    "set": [SET, b"set a 1 0 1\r\nz\r\n", SEE, b"set a 1 -1 1\r\ny\r\n", SEE],
    "add": [SET, b"add a 0 0 1\r\nz\r\n", b"add b 2 0 1\r\nz\r\n", b"get a b\r\n", SEE],
    "replace": [SET, b"replace a 0 0 1\r\nz\r\n", b"replace b 0 0 1\r\nz\r\n", SEE],
    "append": [SET, b"append a 0 0 1\r\nz\r\n", SEE, b"append b 0 0 1\r\nz\r\n", b"get b\r\n"],
    "prepend": [SET, b"prepend a 9 9 2\r\nzz\r\n", SEE, b"prepend a 0 0 1\r\ny\r\n", SEE],
    "incr": [NUMBER, b"incr n 5\r\n", b"incr n 1000\r\n", b"incr x 1\r\n", SEE],
    "decr": [NUMBER, b"decr n 3\r\n", b"decr n 30\r\n", SEE],
    "not a number": [SET, b"incr a 1\r\n", SEE],
    "delete": [SET, NUMBER, b"delete a\r\n", SEE, b"delete a\r\n", b"delete x\r\n", SEE],
    "touch": [SET, b"touch a 500\r\n", SEE, b"touch x 5\r\n", b"touch a -1\r\n", SEE],
    "gat": [SET, NUMBER, b"gat 500 a x n\r\n", SEE, b"gat -1 a\r\n", SEE],
    "lasting": [LASTING, SEE, b"append t 0 0 1\r\ny\r\n", SEE, b"touch t 0\r\n", SEE],
    "cas": [SET, b"cas a 0 0 1 1\r\nz\r\n", b"cas x 0 0 1 1\r\nz\r\n", SEE],
    "noreply": [b"set a 0 0 1 noreply\r\nq\r\n", b"append a 0 0 1 noreply\r\nr\r\n", SEE],
    "flush": [SET, NUMBER, b"flush_all\r\n", SEE, SET, SEE],
    "too large": [SET, b"set a 0 0 2000000\r\n" + b"x" * 2_000_000 + b"\r\n", SEE],
    "many": [SET, b"append a 0 0 1\r\nx\r\nset b 0 0 1\r\n1\r\nget a b\r\ndelete b\r\nget b\r\n"],
    "same key": [SET, b"delete a\r\nadd a 0 0 1\r\nz\r\nappend a 0 0 1\r\nq\r\nget a\r\n", SEE],
    "back and forth": [b"set a 0 0 1\r\n1\r\ndelete a\r\nset a 0 0 1\r\n2\r\ndelete a\r\n", SEE],
    "late set": [SET, b"append a 0 0 1\r\nx\r\nset a 0 0 1\r\nz\r\n", SEE],
    "mg": [SET, b"mg a v k Oq\r\nmg x v k\r\nmg a s\r\n", b"mg x N30 v t\r\n", b"mg a T90 t\r\n"],
    "ms": [
        SET,
        b"ms a 1 ME\r\nz\r\n",
        b"ms a 1 MA\r\ny\r\n",
        b"ms a 1 MP\r\nx\r\n",
        b"ms b 1 MR\r\nx\r\n",
        b"ms a 2 MR F9 T90\r\nrr\r\n",
        SEE,
    ],
    "md": [SET, b"md a C1\r\n", b"md a\r\n", SEE, b"md a\r\n"],
    "md stale": [SET, b"md a I T30\r\n"],
    # No number becomes shorter here: memcached pads such a one with blanks, or does not.
    "ma": [NUMBER, b"ma n v\r\n", b"ma n D7 MD v t\r\n", b"ma x N60 J13 v t\r\n", SEE],
    "ma touch": [NUMBER, b"ma n T77 v\r\n", SEE],
    "odd keys": [b"ms YSBi 2 b F4\r\nhi\r\n", b"mg YSBi b v f t\r\n", b"md YSBi b\r\nmn\r\n"],
    "every byte": [
        b"set a 0 0 256\r\n" + bytes(range(256)) + b"\r\n",
        b"get a\r\n",
        b"append a 0 0 2\r\n\r\n\r\n",
        b"get a\r\n",
    ],
}  # fmt: skip
"""Steps between which the items may be anywhere."""
