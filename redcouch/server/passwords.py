"""
Who may come in: a file of users and passwords, and the check of a client's word.

The file is memcached's own (its -Y): a line C{user:password} each. A password
may also be a bcrypt hash, as C{htpasswd -nbB user password} makes it. It is
read again on request; one that cannot be read then leaves the old users.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path
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
_MOST_FOR_BCRYPT = 72

#: Compared with where there is no such user, so that one takes as long as the other.
_NOBODY = b"\0"


def read_users(path: Path) -> dict[bytes, bytes]:
    """
    The users in a file, with their passwords or hashes. Empty lines and those
    that begin with C{#} are passed over.

    @raise ConfigurationError: it cannot be read, or a line is no C{user:password}.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    users = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        user, colon, password = line.partition(b":")
        if not (user and colon and password):
            raise ConfigurationError(f"{path}, line {number}: has to be user:password")
        users[user] = password
    if not users:
        raise ConfigurationError(f"{path} names no user")
    return users


def _matches(password: bytes, expected: bytes) -> bool:
    """Whether a password is the expected one, in a time that does not tell how near it is."""
    if expected.startswith(_BCRYPT):
        if len(password) > _MOST_FOR_BCRYPT or b"\0" in password:
            return False
        try:
            return bcrypt.checkpw(password, expected)
        except ValueError:
            return False
    return hmac.compare_digest(password, expected)


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
        self._counters = counters
        self._reactor = reactor
        #: Users with their passwords or hashes, as L{read_users} gives them.
        self.users = read_users(path) if users is None else users
        self._failures = 0
        self._logged_at: float | None = None
        self._delay: Callable[[], Deferred[None]] = lambda: deferLater(reactor, FAILURE_DELAY)

    def reload(self) -> str:
        """
        Read the file again; gives what was read, in words.

        @raise ConfigurationError: it cannot be used. The users stay as they are.
        """
        self.users = read_users(self._path)
        return f"{len(self.users)} users from {self._path}"

    def check(self, user: bytes, password: bytes, client: str) -> Deferred[bool]:
        """Whether this is the user's password. Fires later where it is not."""
        return Deferred.fromCoroutine(self._check(user, password, client))

    async def _check(self, user: bytes, password: bytes, client: str) -> bool:
        self._counters.auth_cmds += 1
        expected = self.users.get(user, _NOBODY)
        if expected.startswith(_BCRYPT):  # takes long on purpose, so not in this thread
            pool = self._reactor.getThreadPool()
            proven = await deferToThreadPool(self._reactor, pool, _matches, password, expected)
        else:
            proven = _matches(password, expected) and expected is not _NOBODY
        if not proven:
            self._counters.auth_errors += 1
            self._note_failure(client)
            await self._delay()
        return proven

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
