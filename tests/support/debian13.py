"""
The servers of Debian 13, on a machine that need not be one.

Where the machine is a Debian 13, its installed packages serve. On another
Debian, apt-get downloads the packages once, for nobody but the tests: with
lists and a cache of its own, from the mirror that the machine uses, checked
against the machine's Debian keyring. Nothing is installed and nobody has to be
root: the packages are unpacked in a folder (L{CACHE}), and their programs are
started by the dynamic linker among them, with the libraries among them, which
a small script for each sees to.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from shutil import which

SUITE = "trixie"
PACKAGES = ("valkey-server", "valkey-tools", "redis-server", "redis-tools", "memcached")
PROGRAMS = ("valkey-server", "valkey-cli", "redis-server", "redis-cli", "memcached")

CACHE = Path(
    os.environ.get("REDCOUCH_TESTS_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "redcouch-tests"
)
"""What the tests download, and keep for the next run. Runs share it, also at the same time."""

_STARTS = "bin"
"""Where the scripts are, in the folder; on a Debian 13, the programs are."""

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_FAILURE_SECONDS = 600.0
_DOWNLOAD_SECONDS = 300.0


class UnavailableError(Exception):
    """The packages cannot be had. The text says why."""


def find(program: str) -> str | None:
    """
    The path of one of L{PROGRAMS}, or of a script that starts it; C{None} if it
    cannot be had. Downloads them all if need be.
    """
    assert program in PROGRAMS, f"no package here has {program}"
    return None if missing() else str(_root() / _STARTS / program)


@cache
def missing() -> str | None:
    """Why L{PROGRAMS} cannot be started here; C{None} if they can."""
    try:
        for program in PROGRAMS:
            _run(_root() / _STARTS / program, "--version")
    except (UnavailableError, OSError) as why:  # OSError: L{CACHE} cannot be written
        return f"the servers of Debian 13 cannot be had: {why}"
    return None


def is_here() -> bool:
    """Whether this machine is a Debian 13."""
    return _system().get("VERSION_CODENAME") == SUITE


@contextmanager
def exclusive(name: str) -> Iterator[Path]:
    """
    A path in L{CACHE}, while no other process has it, for what is to be made
    there once: made beside it and then renamed, so that it is never seen half
    made.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield CACHE / name


def apt_options(folder: Path) -> list[str]:
    """Options with which apt-get keeps everything of its own in a folder, for L{SUITE} alone."""
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State": folder,
        "Dir::State::Lists": folder / "lists",
        "Dir::State::Status": folder / "status",
        "Dir::Cache": folder,
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
        "Acquire::Languages": "none",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def mirrors() -> list[str]:
    """
    Where this machine's apt looks for the Debian that it is; there may be others' among them.

    @raise UnavailableError: it is no Debian, or has no such place.
    """
    system = _system()
    codename = system.get("VERSION_CODENAME")
    if system.get("ID") != "debian" or which("apt-get") is None or codename is None:
        raise UnavailableError("this is no Debian, whose mirror could be asked")
    with tempfile.TemporaryDirectory() as folder:
        listed = _run("apt-get", "update", "--print-uris", "-o", f"Dir::State::Lists={folder}")
    found = re.findall(rf"^'(\S+)/dists/{re.escape(codename)}/InRelease'", listed, re.M)
    if not found:
        raise UnavailableError("apt has no mirror of Debian in its sources")
    return found


@cache
def _root() -> Path:
    """The folder under which the packages lie: that of the system itself on a Debian 13."""
    if is_here():
        absent = [name for name in PROGRAMS if not Path("/bin", name).exists()]
        if absent:
            raise UnavailableError(f"apt-get install {' '.join(PACKAGES)}")
        return Path("/")
    with exclusive(f"debian-13-{platform.machine()}") as root:
        if not root.exists():
            _make(root)
    return root


def _make(root: Path) -> None:
    """Download the packages and unpack them. Who fails leaves a note, so that few others try."""
    failure = root.with_suffix(".failure")
    if failure.exists() and time.time() - failure.stat().st_mtime < _FAILURE_SECONDS:
        raise UnavailableError(failure.read_text())
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        try:
            _download(folder)
        except UnavailableError as why:
            failure.write_text(str(why))
            raise
        for package in sorted(folder.glob("archives/*.deb")):
            if package.name.startswith(("lib", *PACKAGES)):
                _run("dpkg-deb", "-x", package, folder / "root")
        _write_starts(folder / "root", root)
        (folder / "root").rename(root)


def _write_starts(folder: Path, root: Path) -> None:
    """Write the scripts that start the programs of a folder once it has its name."""
    # Neither the name of the linker nor that of its folder is the same on all architectures.
    (linker,) = folder.glob("usr/lib/*-linux-*/ld-linux*.so.*")
    linker = root / linker.relative_to(folder)
    for program in PROGRAMS:
        words = (linker, "--library-path", linker.parent, root / "usr/bin" / program)
        start = folder / _STARTS / program
        start.parent.mkdir(exist_ok=True)
        start.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
        start.chmod(0o755)


def _download(folder: Path) -> None:
    """The packages and all that they depend on, from the first mirror that has them."""
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "archives/partial").mkdir(parents=True)
    (folder / "status").touch()
    options = apt_options(folder)
    for mirror in (candidates := mirrors()):
        source = f"deb [signed-by={_KEYRING}] {mirror} {SUITE} main\n"
        (folder / "sources.list").write_text(source)
        try:
            _run("apt-get", "-q", *options, "update")
            wanted = ("install", "--download-only", "--no-install-recommends", "-y", *PACKAGES)
            _run("apt-get", "-q", *options, *wanted)
            return
        except UnavailableError:
            if mirror == candidates[-1]:
                raise


def _run(*words: object) -> str:
    """
    A command's output.

    @raise UnavailableError: there is no such command, or it failed.
    """
    line = [str(word) for word in words]
    try:
        done = subprocess.run(
            line,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as why:
        raise UnavailableError(str(why)) from why
    if done.returncode:
        raise UnavailableError(_last_line(done.stderr) or f"{line[0]} ended with {done.returncode}")
    return done.stdout


def _last_line(said: str) -> str:
    return said.strip().rpartition("\n")[2]


def _system() -> dict[str, str]:
    """What /etc/os-release says; nothing where there is none."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}
