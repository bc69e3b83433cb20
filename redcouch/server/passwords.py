"""
Who may come in: a file of users and passwords, and the check of a client's word.

The file is memcached's own (its -Y): a line C{user:password} each. A password
may also be a bcrypt hash, as C{htpasswd -nbB user password} makes it. It is
read again on request; one that cannot be read then leaves the old users.

A hash takes long to check, on purpose. So few are checked at a time, in turn
for each address that asks, and of one address the last who came first: who has
the right password does not wait until all are done that somebody guesses. What
has turned out right or wrong is known from then on, until the user's line in
the file changes. And a wrong answer costs the same work and the same time
whether there is such a user or not.
"""

from __future__ import annotations

import atexit
import hmac
import re
import struct
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Callable
from pathlib import Path
from secrets import token_bytes
from threading import Semaphore
from typing import Any

import bcrypt
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from redcouch.errors import ConfigurationError
from redcouch.telemetry.counters import Counters

FAILURE_DELAY = 1.0
"""Seconds that a client waits for the answer to a wrong password."""

_LOG_EVERY = 60.0
"""Seconds between two lines in the log about failures."""

_BCRYPT = (b"$2a$", b"$2b$", b"$2y$")
_HASH = re.compile(
    rb"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./0-9A-Za-z]{21}[.Oeu][./0-9A-Za-z]{31}"  # salt, hash
)
_MOST_FOR_BCRYPT = 72

_AT_A_TIME = 2
"""Hashes that are checked at a time, each on a thread of its own."""

_turns = Semaphore(_AT_A_TIME)

_WAITING = 128
"""Passwords of one address that may wait to be checked. Past it, who came first is refused."""

_WRONG = 4096
"""Wrong passwords that are remembered."""

#: In the place of the password of a user that is not there. No password is equal to it.
_NOBODY = b""


def read_users(path: Path) -> dict[bytes, bytes]:
    """
    The users in a file, with their passwords or hashes. Empty lines and those
    that begin with C{#} are passed over.

    @raise ConfigurationError: it cannot be read, or a line is no C{user:password}, has
        a hash that no password can have, or names a user again.
    """
    try:
        text = path.read_bytes().removeprefix(BOM_UTF8)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    if b"\0" in text:
        raise ConfigurationError(f"{path}: has zero bytes, as UTF-16 has: write it in UTF-8")
    users: dict[bytes, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        user, _, password = line.partition(b":")
        if not (user and password):
            raise ConfigurationError(f"{path}, line {number}: has to be user:password")
        if user in users:
            raise ConfigurationError(f"{path}, line {number}: names a user a second time")
        if password.startswith(_BCRYPT) and not _HASH.fullmatch(password):
            raise ConfigurationError(f"{path}, line {number}: has a broken bcrypt hash")
        users[user] = password
    if not users:
        raise ConfigurationError(f"{path} names no user")
    return users


def _matches(password: bytes, expected: bytes) -> bool:
    """Whether a password is the expected one, in a time that does not tell how near it is."""
    if not expected.startswith(_BCRYPT):
        return hmac.compare_digest(password, expected) and expected is not _NOBODY
    if len(password) > _MOST_FOR_BCRYPT or b"\0" in password:
        return False
    with _turns:
        return bcrypt.checkpw(password, expected)


@atexit.register
def _await_bcrypt() -> None:
    """A thread that leaves bcrypt's code where Python has ended meanwhile aborts the process."""
    for _ in range(_AT_A_TIME):
        _turns.acquire()


def _cost(expected: bytes) -> bytes:
    """How much work a hash asks for: two digits."""
    return expected[4:6] if expected.startswith(_BCRYPT) else b""


def _slowly_matches(password: bytes, expected: bytes, cost: bytes) -> bool:
    """The same. Takes as long as a hash of that cost where it is not the expected one."""
    matches = _matches(password, expected)
    took_long = _cost(expected) == cost and len(password) <= _MOST_FOR_BCRYPT
    if not (matches or took_long):
        _matches(b"x", b"$2b$%b$" % cost + b"." * 53)
    return matches


class _Checks:
    """Passwords that wait to be checked on a thread, by the address that they came from."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: dict[str, deque[tuple[Deferred[bool | None], Callable[[], bool]]]] = {}
        self._running = 0

    def ask(self, address: str, check: Callable[[], bool]) -> Deferred[bool | None]:
        """What a check gives, when it has had its turn. C{None} where too many wait."""
        answer: Deferred[bool | None] = Deferred()
        waiting = self._waiting.setdefault(address, deque())
        waiting.append((answer, check))
        if len(waiting) > _WAITING:
            waiting.popleft()[0].callback(None)
        self._go_on()
        return answer

    def _go_on(self) -> None:
        while self._waiting and self._running < _AT_A_TIME:
            address, waiting = next(iter(self._waiting.items()))
            answer, check = waiting.pop()
            del self._waiting[address]
            if waiting:
                self._waiting[address] = waiting  # behind the other addresses
            self._running += 1
            pool = self._reactor.getThreadPool()
            checked: Deferred[Any] = deferToThreadPool(self._reactor, pool, check)
            checked.addBoth(self._done)
            checked.chainDeferred(answer)

    def _done(self, result: Any) -> Any:
        self._running -= 1
        self._go_on()
        return result


def _address(client: str) -> str:
    """Where a client is, whichever port it has."""
    return client.partition(":")[2].rpartition(":")[0] or client


class Authenticator:
    """Checks passwords against a file, slowly where they are wrong."""

    _log = Logger()

    def __init__(
        self,
        path: Path,
        counters: Counters,
        reactor: Any,
        users: dict[bytes, bytes] | None = None,
    ) -> None:
        """
        @param users: what stands in the file, if it has been read already.
        @raise ConfigurationError: the file cannot be used.
        """
        self._path = path
        self.counters = counters
        self._reactor = reactor
        #: Users with their passwords or hashes, as L{read_users} gives them.
        self.users = read_users(path) if users is None else users
        self._checks = _Checks(reactor)
        self._key = token_bytes(32)
        self._right: dict[bytes, bytes] = {}
        self._wrong: dict[bytes, None] = {}
        self._failures = 0
        self._logged_at: float | None = None

    def reload(self) -> str:
        """
        Read the file again; gives what was read, in words.

        @raise ConfigurationError: it cannot be used. The users stay as they are.
        """
        self.users = read_users(self._path)
        return f"{len(self.users)} users from {self._path}"

    def knows(self, user: bytes, password: bytes) -> bool:
        """Whether this has turned out to be the user's password."""
        expected = self.users.get(user, _NOBODY)
        return hmac.compare_digest(self._right.get(user, b""), self._mark(user, password, expected))

    def check(self, user: bytes, password: bytes, client: str) -> Deferred[bool]:
        """Whether this is the user's password. Fires later where it is not."""
        return Deferred.fromCoroutine(self._check(user, password, client))

    async def _check(self, user: bytes, password: bytes, client: str) -> bool:
        began = self._reactor.seconds()
        expected = self.users.get(user, _NOBODY)
        mark = self._mark(user, password, expected)
        proven = self._known(user, mark)
        if proven is None:
            proven = await self._find_out(user, password, expected, mark, client)
        self.counters.auth_cmds += 1  # not before: while it is checked it is no success either
        if not proven:
            self.counters.auth_errors += 1
            self._note_failure(client)
            await deferLater(self._reactor, self._until_answer(began))
        return proven

    def _mark(self, user: bytes, password: bytes, expected: bytes) -> bytes:
        """What stands for these three in memory: nobody can tell from it what they are."""
        lengths = struct.pack(">II", len(user), len(expected))
        return hmac.digest(self._key, lengths + user + expected + password, "sha256")

    def _known(self, user: bytes, mark: bytes) -> bool | None:
        """Whether the password is right, if that has been found out before."""
        if hmac.compare_digest(self._right.get(user, b""), mark):
            return True
        return False if mark in self._wrong else None

    async def _find_out(
        self, user: bytes, password: bytes, expected: bytes, mark: bytes, client: str
    ) -> bool:
        cost = max(map(_cost, self.users.values()))
        if not cost or (not _cost(expected) and _matches(password, expected)):
            proven = _matches(password, expected)
        else:

            def check() -> bool:
                known = self._known(user, mark)  # by now
                return _slowly_matches(password, expected, cost) if known is None else known

            found = await self._checks.ask(_address(client), check)
            if found is None:
                return False
            proven = found
        self._remember(user, mark, proven)
        return proven

    def _remember(self, user: bytes, mark: bytes, proven: bool) -> None:
        if proven:
            self._right[user] = mark
            return
        self._wrong[mark] = None
        if len(self._wrong) > _WRONG:
            del self._wrong[next(iter(self._wrong))]

    def _until_answer(self, began: float) -> float:
        """Seconds until a wrong password is answered: a whole number of delays after it came."""
        past: float = (self._reactor.seconds() - began) % FAILURE_DELAY
        return FAILURE_DELAY - past

    def _note_failure(self, client: str) -> None:
        """Say so in the log, but not for each of many."""
        self._failures += 1
        now = self._reactor.seconds()
        if self._logged_at is None or now - self._logged_at >= _LOG_EVERY:
            self._log.warn(
                "Authentication failed {count} times, most recently from {client}",
                count=self._failures,
                client=client,
            )
            self._logged_at = now
            self._failures = 0
