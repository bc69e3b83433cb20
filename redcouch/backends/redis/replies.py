"""
What Redis's replies mean: how a command ended, and what an error says to a
client and to whoever would ask again. Nothing here acts on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from redcouch.errors import BackendError
from redcouch.results import ErrorKind, Failed, Outcome, Result

Reader: TypeAlias = Callable[[Any, Sequence[Any]], Any]
"""A command and its replies, as its result, or as an L{Unfinished} one."""

Packed: TypeAlias = tuple[bytes, int, Reader]
"""
A command for Redis: its bytes, how many replies it has, and what reads them.
Decided together, so that they cannot disagree. (A plain tuple: one is made for
each command.)
"""

Question: TypeAlias = tuple[bytes, Callable[[Any], "Question | None"]]
"""
What has to be asked before a result is final: a script, packed, and who is
given its one reply (or the L{BackendError} because of which there is none), and
may have one more question.
"""

Pack: TypeAlias = Callable[[Any], Packed]


class Unfinished:
    """
    What reading gives in place of a result that needs more than its replies:
    L{redcouch.backends.redis.recovery} finishes it.

    @ivar result: the result so far. Questions complete it in place.
    """

    __slots__ = ("questions", "result")

    def __init__(self, result: Result, questions: Sequence[Question] = ()) -> None:
        self.result = result
        self.questions = questions


OUTCOMES = {
    b"NS": Outcome.NOT_STORED,
    b"EX": Outcome.EXISTS,
    b"NF": Outcome.NOT_FOUND,
    b"NN": Outcome.NON_NUMERIC,
}

LOST = Failed(ErrorKind.REFUSED, "storage has lost its scripts")
"""The script was not there, so nothing has been done."""

NO_ROOM = Failed(ErrorKind.OUT_OF_MEMORY, "out of memory storing object")

NOTHING_DONE = Failed(ErrorKind.OUT_OF_MEMORY, "out of memory storing object")
"""The same for a large set: its old item is still there, and must not live on."""

#: Redis's error codes that mean something; Redis 6.2 wraps those of scripts.
_CODE = re.compile(
    r"\b(NOSCRIPT|OOM|WRONGTYPE|UNREADABLE|READONLY|LOADING|MISCONF|MASTERDOWN|NOREPLICAS|BUSY"
    r"|NOPERM|NOAUTH|CLUSTERDOWN|MOVED|ASK|TRYAGAIN|UNKILLABLE|RESERVED|COUNTER|NOSTAGE)\b"
)

#: What Redis says in place of NOPERM where it is a script that may not.
_MAY_NOT = re.compile(r"ACL failure in script|user executing the script can't")

_KNOWN = {
    "NOSCRIPT": LOST,
    "OOM": NO_ROOM,
    "WRONGTYPE": Failed(ErrorKind.WRONG_TYPE, "key in Redis is not an item"),
    "UNREADABLE": Failed(ErrorKind.UNREADABLE, "item in Redis is not readable"),
    "RESERVED": Failed(ErrorKind.REFUSED, "key is reserved"),
}

#: Errors of our own scripts that say what is wrong, and what to do; and what goes before that.
_OWN = {"COUNTER": "storage gives no token: ", "NOSTAGE": ""}

#: Errors that pass, and with which Redis is as good as not there.
_AWAY = frozenset({"LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"})

UNFIT = frozenset({"READONLY", "MASTERDOWN", "NOAUTH"})
"""Error codes after which another connection may find a better Redis."""


def error_code(text: str) -> str:
    """The code of an error of Redis, from its text."""
    if _MAY_NOT.search(text):
        return "NOPERM"
    match = _CODE.search(text)
    return match[1] if match else text.split(" ", 1)[0][:32]


def failed_by(reply: Any) -> Failed:
    """A reply that is no result, as a client may see it: the code, and none of the arguments."""
    if isinstance(reply, BackendError):
        return reply.failed
    if not isinstance(reply, Exception):
        return Failed(ErrorKind.INTERNAL, "storage answered something unknown")
    code = error_code(str(reply))
    if code in _OWN:
        return Failed(ErrorKind.REFUSED, _OWN[code] + str(reply).partition(f"{code} ")[2])
    kind = ErrorKind.UNAVAILABLE if code in _AWAY else ErrorKind.REFUSED
    return _KNOWN.get(code) or Failed(kind, f"storage answered {code}")


def read_outcome(reply: Any) -> Outcome | Failed | Unfinished:
    """How a command ended that gives no item: one of C{OUTCOMES}, or a failure."""
    outcome = OUTCOMES.get(reply) if reply.__class__ is bytes else None
    return outcome or unless_lost(failed_by(reply))


def unless_lost(failed: Failed) -> Failed | Unfinished:
    """A failure as a result; it is not the last word where the script was missing."""
    return Unfinished(failed) if failed is LOST else failed


def check(reply: Any) -> Any:
    """A reply, if it is no error. Raises L{BackendError} for one."""
    if isinstance(reply, Exception):
        failed = failed_by(reply)
        raise BackendError(failed.kind, failed.message)
    return reply


def is_wrong_type(reply: Any) -> bool:
    """Whether a reply is the error about a key of another type."""
    return isinstance(reply, Exception) and error_code(str(reply)) == "WRONGTYPE"


def read_hash(reply: Any) -> dict[bytes, bytes]:
    """
    Names and values, from HGETALL or HRANDFIELD; none where the reply is something else. RESP2 has
    them one after the other, RESP3, which a link with a cache speaks, as a map or as pairs.
    """
    if isinstance(reply, dict):
        return reply
    words = reply if isinstance(reply, list) else []
    if words and isinstance(words[0], list):
        return dict(words)
    return dict(zip(words[::2], words[1::2], strict=True))


def flat(fields: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """Names and values as HSET and scripts take them."""
    return tuple(word for pair in fields.items() for word in pair)


def unexpected(reply: Any) -> BackendError:
    """What to raise for a reply that makes no sense."""
    return BackendError(
        ErrorKind.INTERNAL, f"storage answered something unknown ({type(reply).__name__})"
    )
