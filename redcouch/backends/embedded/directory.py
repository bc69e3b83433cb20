"""
Where the private redis-server lives: its directory, its socket, its lock.

Deciding where touches nothing. L{ServerDirectory.prepare} makes what has to outlast the
service; the temporary directory is made and removed by the
L{guard<redcouch.backends.embedded.guard>}, so that it is there exactly as long
as the guard runs, and is at the same path each time.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass

from redcouch.backends.redis.server_info import OLDEST
from redcouch.errors import ConfigurationError

LOCK = "redcouch.lock"
SOCKET = "redis.sock"

AOF = "appendonlydir"
"""Where Redis 7 and later has its append-only file."""

SOCKET_PATH_MAX = 100
"""
Bytes that a unix socket's path may have: 107 on Linux and 103 on macOS, less
a little, since Redis may bind it under a temporary name first.
"""


@dataclass(frozen=True, slots=True)
class ServerDirectory:
    """
    @ivar directory: Redis' working directory.
    @ivar socket: the path of its unix socket.
    @ivar temporary: a directory to make for the run and to remove at its end;
        empty where there is none.
    @ivar lock: the file that is locked for the run; empty where the directory
        is used by nobody else anyway.
    """

    directory: str
    socket: str
    temporary: str = ""
    lock: str = ""

    @property
    def volatile(self) -> bool:
        """Whether the items go when the service ends."""
        return self.directory == self.temporary

    @property
    def oldest(self) -> tuple[int, int]:
        """The first version of Redis that finds what is kept here. Before 7, it looks elsewhere."""
        return (7, 0) if os.path.exists(os.path.join(self.directory, AOF)) else OLDEST

    def check(self) -> None:
        """
        See whether the directory can be used, as far as that is known already:
        root may be going to run the service as somebody else.

        @raise ConfigurationError: it cannot.
        """
        if not self.volatile and os.path.lexists(self.directory):
            _check_content(self.directory)
            if os.geteuid() != 0:
                _check_owner(self.directory)

    def prepare(self) -> None:
        """
        Make the directory where it is missing, and close it to others.

        @raise ConfigurationError: it cannot be used.
        """
        if self.volatile:
            return
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
        except OSError as why:
            raise ConfigurationError(
                f"embedded: cannot make the directory {self.directory}: {why.strerror}"
            ) from None
        _check_content(self.directory)
        _check_owner(self.directory)
        try:
            os.chmod(self.directory, 0o700)
        except OSError as why:
            raise ConfigurationError(
                f"embedded: cannot close the directory {self.directory} to others: {why.strerror}"
            ) from None

    def sweep(self) -> None:
        """Remove the temporary directory of a guard that did not come to it."""
        if self.temporary:
            shutil.rmtree(self.temporary, ignore_errors=True)


def choose_directory(directory: str | None) -> ServerDirectory:
    """The place for items that are kept in a directory; C{None} for a temporary one."""
    lock = ""
    if directory is not None:
        directory = os.path.normpath(directory)
        lock = os.path.join(directory, LOCK)
        socket = os.path.join(directory, SOCKET)
        if _fits(socket):
            return ServerDirectory(directory, socket, lock=lock)
    temporary = _temporary_directory()
    return ServerDirectory(directory or temporary, os.path.join(temporary, SOCKET), temporary, lock)


def _temporary_directory() -> str:
    """A new name for a temporary directory, short enough for a socket in it."""
    name = "redcouch-" + secrets.token_hex(8)
    try:
        parent = os.path.abspath(tempfile.gettempdir())
    except FileNotFoundError as why:
        raise ConfigurationError(f"embedded: {why.strerror}") from None
    if not _fits(os.path.join(parent, name, SOCKET)):
        parent = "/tmp"
    return os.path.join(parent, name)


def _fits(socket: str) -> bool:
    return len(os.fsencode(socket)) <= SOCKET_PATH_MAX


def _check_content(directory: str) -> None:
    """
    The directory is going to be closed to others, and Redis to write in it:
    that must not happen to a directory that was meant for something else.
    """
    try:
        names = os.listdir(directory)
    except NotADirectoryError:
        raise ConfigurationError(f"embedded: {directory} is not a directory") from None
    except OSError as why:
        raise ConfigurationError(
            f"embedded: cannot read the directory {directory}: {why.strerror}"
        ) from None
    if names and LOCK not in names:
        raise ConfigurationError(
            f"embedded: {directory} holds other files; name a new directory, or an empty one"
        )


def _check_owner(directory: str) -> None:
    if os.stat(directory).st_uid != os.geteuid():
        raise ConfigurationError(
            f"embedded: the directory {directory} belongs to another user; "
            "name one that belongs to the user of this service"
        )
    effective = os.access in os.supports_effective_ids
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=effective):
        raise ConfigurationError(f"embedded: the directory {directory} is not writable")
