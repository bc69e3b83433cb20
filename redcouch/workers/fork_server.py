"""
The process that workers are forked from: C{python -m redcouch.workers.fork_server
REACTOR}, run by the parent and by nobody else.

It has imported what a worker needs, so a worker starts at once, and its memory
is shared with all others as long as nobody writes to it. So that it can be
forked at any time it has no reactor, no thread and no connection but that to
the parent, which asks it for workers and is told how each ends.

When the parent asks no more, or is gone, it keeps no port open, waits for the
workers that are left, and ends. Its death ends no worker. Signals to stop or to
reload are held back here from its birth on, and so in each worker.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress

import redcouch.backends.fill_leases
import redcouch.backends.redis.hash_codec
import redcouch.backends.registry
from redcouch.process.tuning import name_process
from redcouch.workers.channel import CONTROL, COUNTS, REPORT, REQUEST, RUNNING
from redcouch.workers.worker import serve

_CANNOT_FORK = 1 << 8
"""The wait status of a process that has exited with 1."""


class Forks:
    """The workers that have been forked here."""

    def __init__(self) -> None:
        self._control = socket.socket(fileno=CONTROL)
        self._requests: dict[int, int] = {}  # by process id
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def run(self) -> tuple[int, socket.socket] | None:
        """
        Fork workers as the parent asks for them. Gives C{None} at the end, and
        in each worker its number and its channel.
        """
        asked = True
        while asked or self._requests:
            watched = [self._woken, CONTROL] if asked else [self._woken]
            readable = select.select(watched, [], [])[0]
            if self._woken in readable:
                os.read(self._woken, 1024)
                self._reap()
            if CONTROL in readable:
                request, descriptors = self._receive()
                if request is None:
                    asked = False
                    os.closerange(COUNTS, self._woken)
                elif self._fork(request[0], descriptors):
                    return request[1], socket.socket(fileno=descriptors[0])
        return None

    def _receive(self) -> tuple[tuple[int, ...] | None, list[int]]:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, REQUEST.size, 2)
        except OSError:
            return None, []
        return (REQUEST.unpack(data) if data else None), descriptors

    def _fork(self, request: int, descriptors: list[int]) -> bool:
        """Fork a worker; whether this process is the worker."""
        channel, output = descriptors
        try:
            pid = os.fork()
        except OSError as error:
            os.write(output, f"redcouch: cannot fork: {error}\n".encode())
            self._report(request, 0, _CANNOT_FORK)
        else:
            if not pid:
                self._be_worker(output)
                return True
            self._requests[pid] = request
            self._report(request, pid, RUNNING)
        os.close(channel)
        os.close(output)
        return False

    def _be_worker(self, output: int) -> None:
        """Keep nothing of what is the fork server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._woken)
        os.close(self._wake)
        self._control.detach()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, place in ((nothing, CONTROL), (output, 1), (output, 2)):
            os.dup2(descriptor, place)
        os.close(nothing)
        os.close(output)

    def _reap(self) -> None:
        while self._requests:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            self._report(self._requests.pop(pid), pid, status)

    def _report(self, request: int, pid: int, status: int) -> None:
        with suppress(OSError):  # the parent is gone
            self._control.sendall(REPORT.pack(request, pid, status))


def main(reactor_module: str) -> int:
    """Fork workers, and serve in each; gives the exit status."""
    redcouch.backends.registry.factories()
    sys.stdout.flush()
    gc.collect()
    gc.freeze()
    worker = Forks().run()
    if worker is None:
        return 0
    number, channel = worker
    name_process(f"redcouch worker {number}")
    return serve(number, channel, reactor_module)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
