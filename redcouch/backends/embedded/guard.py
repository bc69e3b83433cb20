"""
Stays with one redis-server and sees to its end.

The service runs this file by its path, as a process of its own, and holds the
other end of its standard input. The end of that input means that the service
has stopped or is gone, whichever way: redis-server is then stopped, the
temporary directory removed, and this process ends. So a service that is killed
without warning leaves nothing behind either.

A process that should outlive trouble holds as little as it can: this file
imports a few modules of the standard library and nothing of RedCouch. These
are its precautions:

  - It leads a session of its own, so that Ctrl-C in a terminal reaches neither
    it nor redis-server: the service is to answer its clients first.
  - A service manager may send SIGTERM to every process of a service at once.
    This one ignores it, and redis-server starts with SIGTERM blocked, for it
    sets a handler of its own but leaves the signal mask alone. It is stopped
    with SIGINT, which it treats in the same way.
  - On Linux, the kernel kills redis-server if this process is killed.
  - The lock on a lasting directory is inherited by redis-server, and so is
    held until the last process that may write there is gone.

Arguments: the temporary directory to make, or nothing; the file to lock, or
nothing; then the command to run.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import stat
import sys
import time

TYPE_CHECKING = False  # What typing has under this name, without importing it.
if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import CDLL

STOPPING = 5.0
"""Seconds that redis-server has to finish what it is writing."""

PATIENCE = STOPPING + 1
"""Seconds to wait for the lock: somebody else's redis-server may be just stopping."""

STARTING = b"starting redis-server"
"""
The first line on standard output, once the lock is held. From then on, and not
before, what answers on the socket is this redis-server.
"""

PR_SET_PDEATHSIG = 1

SERVICE = 0
"""The file descriptor whose end means that the service is gone."""


def main(arguments: list[str]) -> int:
    """Run redis-server as long as the service wants it; gives the exit status."""
    temporary, lock, *command = arguments
    os.umask(0o077)
    os.chdir("/")
    keep_to_itself()
    try:
        if temporary:
            os.mkdir(temporary, 0o700)
    except OSError as why:
        return complain(f"cannot make the directory {temporary}: {why.strerror}")
    try:
        return run(lock, command)
    finally:
        if temporary:
            remove(temporary)


def keep_to_itself() -> None:
    """Take no signals but those of the own child."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def run(lock: str, command: list[str]) -> int:
    """Run redis-server under the lock."""
    if lock and not take_lock(lock):
        return 1
    ended = wake_on_child()
    os.write(1, STARTING + b"\n")
    child = start(command)
    status = attend(child, ended)
    kill_group(child)
    return status


def take_lock(path: str) -> bool:
    """Lock a file until this process and its children are gone; whether that worked."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        if why := not_ours(os.fstat(lock)):
            os.close(lock)
            complain(f"cannot lock {path}: {why}")
            return False
        if not locked_in_time(lock):
            holder = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
            directory = os.path.dirname(path)
            complain(f"the directory {directory} is in use by another service (process {holder})")
            return False
        os.truncate(lock, 0)
        os.write(lock, b"%d\n" % os.getppid())
    except OSError as why:
        complain(f"cannot lock {path}: {why.strerror}")
        return False
    os.set_inheritable(lock, True)
    return True


def not_ours(file: os.stat_result) -> str:
    """Why an open file must not be written to: somebody may have put another there."""
    if not stat.S_ISREG(file.st_mode):
        return "it is no plain file"
    if file.st_uid != os.geteuid():
        return "it belongs to somebody else"
    return "it has a second name" if file.st_nlink > 1 else ""


def locked_in_time(lock: int) -> bool:
    """Whether a lock could be had before patience, or the service, came to an end."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline or select.select([SERVICE], [], [], 0.05)[0]:
                return False
        else:
            return True


def wake_on_child() -> int:
    """A file descriptor that becomes readable whenever a child has ended."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(writable)
    return readable


def start(command: list[str]) -> int:
    """Start redis-server as a child; gives its process id."""
    libc = load_libc()
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setpgid(0, 0)
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execv(command[0], command)
    except OSError as why:
        complain(f"cannot run {command[0]}: {why.strerror}")
    finally:
        os._exit(127)


def load_libc() -> CDLL | None:
    """The C library, for a call that only Linux has."""
    if sys.platform != "linux":
        return None
    import ctypes

    return ctypes.CDLL(None)


def attend(child: int, ended: int) -> int:
    """Wait until redis-server ends or is to be ended; gives the exit status."""
    while True:
        readable = select.select([SERVICE, ended], [], [])[0]
        if ended in readable and (status := reap(child, ended)) is not None:
            return status
        if SERVICE in readable and not os.read(SERVICE, 1024):
            return end(child, ended)


def end(child: int, ended: int) -> int:
    """Stop redis-server, with force if it takes too long; gives the exit status."""
    os.kill(child, signal.SIGINT)
    deadline = time.monotonic() + STOPPING
    while (left := deadline - time.monotonic()) > 0:
        if select.select([ended], [], [], left)[0] and (status := reap(child, ended)) is not None:
            return status
    os.kill(child, signal.SIGKILL)
    return exit_status(os.waitpid(child, 0)[1])


def reap(child: int, ended: int) -> int | None:
    """The exit status of redis-server, if it is the child that has ended."""
    os.read(ended, 1024)
    pid, status = os.waitpid(child, os.WNOHANG)
    return exit_status(status) if pid else None


def exit_status(status: int) -> int:
    """An exit status as a shell gives it: a signal counts from 128."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def kill_group(leader: int) -> None:
    """End what redis-server may have left: a process that rewrites its file, say."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # Nothing is left, as most times (macOS says so in its own way).


def remove(directory: str) -> None:
    """Remove a directory and all that is in it, as far as possible."""
    for folder, folders, files in os.walk(directory, topdown=False):
        for name in files:
            attempt(os.unlink, os.path.join(folder, name))
        for name in folders:
            attempt(os.rmdir, os.path.join(folder, name))
    attempt(os.rmdir, directory)


def attempt(function: Callable[[str], None], path: str) -> None:
    """Remove what may be gone already."""
    try:
        function(path)
    except OSError as why:
        complain(f"cannot remove {path}: {why.strerror}")


def complain(message: str) -> int:
    """Tell the service what is wrong; gives the exit status for it."""
    try:
        os.write(2, os.fsencode(message) + b"\n")
    except OSError:
        return 1  # Nobody is left to be told.
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
