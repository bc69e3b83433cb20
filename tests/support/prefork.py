"""
C{twistd redcouch} as often as tests want it, imported once.

A start of the service is one half second of imports. So one process for each process of the
tests has them behind it, and becomes the service in a child of its own, with the command line,
the folder, the environment and the log that it is given. All else is as in any other start.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_IMPORTED = (
    "redcouch.backends.cached.table",
    "redcouch.backends.origin.url",
    "redcouch.backends.redis.cluster.slots",
    "redcouch.backends.redis.hash_codec",
    "redcouch.backends.redis.scripts",
    "redcouch.backends.redis.string_codec",
    "redcouch.backends.redis.usage_store",
    "redcouch.http.service",
    "redcouch.memcached_client.twisted_client",
    "redcouch.service",
    "twisted.internet.epollreactor",
    "twisted.scripts.twistd",
    "twisted.trial.itrial",
)
"""Of what a service imports, what brings no reactor along."""
_PR_SET_PDEATHSIG = 1


class Preforked:
    """A process that another one has started for us, with the methods of L{subprocess.Popen}."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        out: Path,
        err: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._told.connect(_starter())
        for file in (out, err):
            file.touch()
        wanted = [[*command], str(folder), [str(out), str(err)], {**environment}]
        self._told.sendall(json.dumps(wanted).encode())
        self.pid = self._next(None)
        self._status: int | None = None

    def _next(self, timeout: float | None) -> int:
        self._told.settimeout(timeout)
        return int(self._told.recv(64))

    def poll(self) -> int | None:
        """Its exit status as that of L{subprocess.Popen}, C{None} while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended. @raise subprocess.TimeoutExpired: it has not."""
        if self._status is None:
            try:
                self._status = self._next(timeout)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("twistd", timeout or 0.0) from None
            self._told.close()
        return self._status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """As C{subprocess.run}: one that is to end by itself, and all that it has printed."""
    with tempfile.TemporaryDirectory() as name:
        out, err = (Path(name) / stream for stream in ("out", "err"))
        process = Preforked(command, folder, out, err, environment)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        return subprocess.CompletedProcess(command, status, out.read_text(), err.read_text())


def run_anew(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """The same, of any program."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


@cache
def _starter() -> str:
    """The address of the process that has imported all; it ends with this one."""
    address = f"\0redcouch-tests-{os.getpid()}-{time.monotonic_ns()}"
    ours, its = socket.socketpair()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening, its:
        listening.bind(address)
        listening.listen(64)
        process = subprocess.Popen(
            # The package that is installed, not the one that these tests lie beside.
            [sys.executable, "-P", __file__, str(listening.fileno()), str(its.fileno())],
            pass_fds=[listening.fileno(), its.fileno()],
            start_new_session=True,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)  # before; and so it is where this process is killed
    return address


# -- in the process that starts them ---------------------------------------------------------------


def main(listening: socket.socket, parent: socket.socket) -> None:
    """Start what is asked for, and tell of each its id and its status, until nobody is there."""
    for module in _IMPORTED:
        importlib.import_module(module)
    assert "twisted.internet.reactor" not in sys.modules, "each is to choose its own"
    gc.freeze()
    asking: dict[int, socket.socket] = {}
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    with selectors.DefaultSelector() as selector:
        for source in (listening, parent, woken):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is parent:
                    for pid in asking:
                        os.kill(pid, signal.SIGKILL)
                    return
                if key.fileobj is woken:
                    woken.recv(4096)
                    _tell_of_ended(asking)
                    continue
                asked, _address = listening.accept()
                wanted = json.loads(asked.recv(1 << 20))
                pid = os.fork()
                if pid == 0:
                    _become(*wanted)
                asked.sendall(b"%d" % pid)
                asking[pid] = asked


def _tell_of_ended(asking: dict[int, socket.socket]) -> None:
    while asking:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        # Perhaps nobody wants to know.
        with asking.pop(pid) as asked, suppress(BrokenPipeError):
            asked.sendall(b"%d" % os.waitstatus_to_exitcode(status))


def _become(
    command: Sequence[str], folder: str, files: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Be the service, from here on."""
    status: Any = 1
    try:
        atexit._clear()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, file in enumerate(files, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), descriptor)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        sys.argv[:] = command
        sys.orig_argv[:] = [sys.executable, *command]
        from twisted.scripts.twistd import run

        run()
        status = 0
    except SystemExit as ended:
        status = ended.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        atexit._run_exitfuncs()
        os._exit(status or 0)


if __name__ == "__main__":
    main(*(socket.socket(fileno=int(number)) for number in sys.argv[1:]))
