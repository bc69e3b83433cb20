"""
Commands as Redis reads them (RESP), packed fast.

A request spends more time here than it seems: a generic packer looks at each
argument's type and joins many small pieces. These templates are filled with
one C{%} each. hiredis packs what is rare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import hiredis

from redcouch.backends.redis.scripts import Script
from redcouch.limits import MAX_KEY


def bulk(argument: bytes) -> bytes:
    """One argument."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def bulks(*arguments: bytes) -> bytes:
    """Several arguments, one behind the other."""
    return b"".join(map(bulk, arguments))


def pack_command(arguments: tuple[bytes, ...]) -> bytes:
    """Any command, by the long way."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]
    return packed


LARGE_REPLIES = 5
"""Replies to what L{pack_large_store} packs; the last has a list with the script's at its end."""

PackStore = Callable[[bytes, bytes, bytes], bytes]


def escape(text: bytes) -> bytes:
    """As a part of a template."""
    return text.replace(b"%", b"%%")


def pack_hmget(prefix: bytes, fields: tuple[bytes, ...]) -> Callable[[Sequence[bytes]], bytes]:
    """A function from items' keys (without prefix) to HMGET of these fields for each."""
    return _pack_each(b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(fields)), prefix, bulks(*fields))


def pack_for_each(name: bytes, prefix: bytes) -> Callable[[Sequence[bytes]], bytes]:
    """A function from items' keys (without prefix) to a command of this name on each key alone."""
    return _pack_each(b"*2\r\n" + bulk(name), prefix, b"")


def _pack_each(
    command: bytes, prefix: bytes, arguments: bytes
) -> Callable[[Sequence[bytes]], bytes]:
    """
    The same for any command on one key. What stands between two keys depends on
    the second one's length alone, so it is made beforehand for each length.
    """
    end = b"\r\n" + arguments
    starts = [command + b"$%d\r\n" % (len(prefix) + n) + prefix for n in range(MAX_KEY + 1)]
    between = [end + start for start in starts]

    def pack(keys: Sequence[bytes]) -> bytes:
        if len(keys) == 1:
            key = keys[0]
            return starts[len(key)] + key + end
        pieces: list[bytes] = []
        for key in keys:
            pieces += (between[len(key)], key)
        if pieces:
            pieces[0] = starts[len(keys[0])]
            pieces.append(end)
        return b"".join(pieces)

    return pack


def pack_store(prefix: bytes, shared: Sequence[bytes], script: Script, field: bytes) -> PackStore:
    """
    A function from an item's key (without prefix), a value, and L{bulks} of
    flags, expiry command and its argument, to EVALSHA of the script that sets that
    item, with the C{shared} keys.
    """
    command = _pack_evalsha(script, 1 + len(shared), 5)
    starts = [command + b"$%d\r\n" % (len(prefix) + n) + prefix for n in range(MAX_KEY + 1)]
    middle = b"\r\n" + bulks(*shared, field)

    def pack(key: bytes, value: bytes, rest: bytes) -> bytes:
        size = b"$%d\r\n" % len(value)
        return b"".join((starts[len(key)], key, middle, size, value, b"\r\n", rest))

    return pack


def pack_large_store(
    prefix: bytes, shared: Sequence[bytes], scripts: tuple[Script, Script], field: bytes
) -> PackStore:
    """
    A function from an item's key (without prefix), a value, and L{bulks} of
    flags, expiry command and its argument, to a transaction that sets the
    field by HSETNX and leaves the rest to a script before it and one behind it. It has
    L{LARGE_REPLIES} replies.

    A script that is given a value copies it three times, at a millisecond of
    Redis's time for each MiB; HSETNX copies it once.
    """
    begin, settle = scripts
    keys = b"%d" % (1 + len(shared))
    before = b"*1\r\n$5\r\nMULTI\r\n*%d\r\n" % (5 + len(shared)) + bulks(b"EVAL", begin.text, keys)
    between = bulks(*shared, field) + b"*4\r\n$6\r\nHSETNX\r\n"
    behind = b"\r\n*%d\r\n" % (8 + len(shared)) + bulks(b"EVAL", settle.text, keys)

    def pack(key: bytes, value: bytes, rest: bytes) -> bytes:
        name = bulk(prefix + key)
        return b"".join(
            (
                before,
                name,
                between,
                name,
                bulk(field),
                b"$%d\r\n" % len(value),
                value,
                behind,
                name,
                bulks(*shared, field),
                rest,
                b"*1\r\n$4\r\nEXEC\r\n",
            )
        )

    return pack


def _pack_evalsha(script: Script, keys: int, arguments: int) -> bytes:
    """The beginning of EVALSHA with so many keys and arguments."""
    return b"*%d\r\n" % (3 + keys + arguments) + bulks(b"EVALSHA", script.sha, b"%d" % keys)


def pack_script(
    prefixes: Sequence[bytes], shared: Sequence[bytes], script: Script, arguments: int
) -> Callable[..., bytes]:
    """
    A function from an item's key (without prefix) and this many arguments to
    EVALSHA of a script on that item and the C{shared} keys.

    @param prefixes: what stands before the key in the item's own key; and in its side key, which
        comes behind the shared ones, where it has one.
    """
    names = [b"$%d\r\n" + escape(prefix) + b"%b\r\n" for prefix in prefixes]
    names.insert(1, escape(bulks(*shared)))
    template = (
        _pack_evalsha(script, len(prefixes) + len(shared), arguments)
        + b"".join(names)
        + b"$%d\r\n%b\r\n" * arguments
    )
    length, *side = map(len, prefixes)

    def pack(key: bytes, *given: bytes) -> bytes:
        sized = [length + len(key), key]
        if side:
            sized += (side[0] + len(key), key)
        for argument in given:
            sized.append(len(argument))
            sized.append(argument)
        return template % tuple(sized)

    return pack
