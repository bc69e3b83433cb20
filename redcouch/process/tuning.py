"""
What a long-running process asks of its garbage collector and its allocator.

Measured: fifty requests in flight make enough objects to set the collector off
in every turn of the reactor, for a fifth of the CPU time, though requests leave
no cycles behind. Set off by five times as many as now it looked at so many at a
time, when clients sent all they could, that everybody waited for 60 ms. And
glibc gives the memory of each large value back to the kernel, to fault it in
again page by page for the next one: kept, a 1 MiB value is answered twice as
fast, for at most 32 MiB.
"""

from __future__ import annotations

import ctypes
import gc
import resource
from pathlib import Path
from threading import Thread
from typing import Any

_COLLECT_AFTER = (10_000, 10, 50)
_KEEP = 32 * 1024 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def tune_process() -> None:
    """Called once, when everything that stays is made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    _keep_memory()


def _keep_memory() -> None:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # no glibc: nothing to ask for
        return
    mallopt(_M_TRIM_THRESHOLD, _KEEP)
    mallopt(_M_MMAP_THRESHOLD, _KEEP)


class _LeftThread(Thread):
    def __init__(self, **options: Any) -> None:
        super().__init__(daemon=True, **options)

    def join(self, timeout: float | None = 0.1) -> None:
        super().join(timeout)


def leave_threads(reactor: Any) -> None:
    """
    Have nobody wait for the reactor's threads when all is done: where no resolver answers, the
    look-up of a name takes half a minute.
    """
    reactor.getThreadPool().threadFactory = _LeftThread


def raise_fd_limit(wanted: int) -> int:
    """
    Raise the number of files and sockets that this process may open, as
    memcached does for its -c. Gives how many it may open then, which is fewer
    where the system's own limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft


def name_process(title: str) -> None:
    """Have C{ps} and C{top} show a title in place of the command line. Only on Linux."""
    process = Path("/proc/self")
    try:
        (process / "comm").write_text(title)
        begin, end = map(int, (process / "stat").read_text().rpartition(")")[2].split()[45:47])
    except OSError:
        return
    room = end - begin  # where the arguments stand
    if room:
        ctypes.memmove(begin, title.encode()[: room - 1].ljust(room, b"\0"), room)
