"""
Containers without an engine: the steps of a Containerfile, taken in a root made
by debootstrap, and what the image starts, in namespaces of its own.

A container has a network without a way out, processes of which the service is
the first, and a root that nobody can write to. Nothing of it is left once the
service has ended: all mounts are in its own namespace.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.request import urlopen

from packaging.tags import platform_tags

from tests.support import debian13
from tests.support.debian13 import UnavailableError
from tests.support.polling import PATIENCE
from tests.support.requirements import installed
from tests.support.servers import Server, children

_SECONDS = 900.0
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MACHINES = "/mnt"
"""Where the steps find what they need of the machine."""

_LOOPBACK_UP = """
import fcntl, socket, struct
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sH22x", b"lo", 0x1 | 0x40))
"""
"""SIOCSIFFLAGS of IFF_UP and IFF_RUNNING; iproute2 may not be there."""


@dataclass(frozen=True)
class Image:
    """What a Containerfile makes: a root, and what its last stage says."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = "root"
    folder: str = "/"
    ports: tuple[int, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] = ()

    def line(self, command: Iterable[str], environment: Mapping[str, str]) -> list[str]:
        """A command line that runs a command in the root, as the image's user."""
        variables = {**self.environment, **environment}
        settings = [f"{name}={value}" for name, value in variables.items()]
        enter = ["chroot", f"--userspec={self.user}", str(self.root)]
        return [*enter, "env", "-i", "-C", self.folder, *settings, *command]


class Container(Server):
    """A running image."""

    name = "container"

    def __init__(
        self,
        image: Image,
        folder: Path,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        volumes: Mapping[Path, str] | None = None,
    ) -> None:
        """
        @param options: what comes after the image's entry point; its command, if there are none.
        @param volumes: folders of the machine, and where the container has them.
        """
        super().__init__(folder)
        (self.port,) = image.ports
        self._image = image
        self._options = tuple(options) or image.command
        self._environment = environment or {}
        self._volumes = volumes or {}

    @property
    def pid(self) -> int:
        """The container's first process."""
        (first,) = children(super().pid)
        return first

    def command(self) -> Sequence[str]:
        start = self._image.line((*self._image.entrypoint, *self._options), self._environment)
        return _isolated(start, self._image.root, self._volumes, own_network=True)

    def answers(self) -> bool:
        connect = f"import socket; socket.create_connection(('127.0.0.1', {self.port}))"
        return bool(children(super().pid)) and self.run("python3", "-c", connect)[0] == 0

    def run(self, *command: str) -> tuple[int, str]:
        """The status and the words with which a command ends in the container."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid"]
        done = subprocess.run(
            [*enter, *self._image.line(command, self._environment)],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        return done.returncode, done.stdout + done.stderr

    def is_healthy(self) -> bool:
        """What an engine would say of it."""
        return self.run(*self._image.healthcheck)[0] == 0

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """As of any server; it is the first process in the container that hears of it."""
        process = self._process
        if process is not None and process.poll() is None:
            os.kill(self.pid, how)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        return super().stop(signal.SIGKILL)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Containerfile: their names in upper case, and what follows."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


def build(containerfile: Path, context: Path, folder: Path) -> Image:
    """
    Take the steps of a Containerfile.

    @param folder: where the stages' roots are made.
    @raise UnavailableError: Debian's or Python's packages cannot be had.
    @raise AssertionError: a step failed, or is of a kind that is not known here.
    """
    builder = _Builder(context, folder)
    for name, rest in instructions(containerfile.read_text()):
        builder.step(name, rest)
    return builder.image


class _Builder:
    def __init__(self, context: Path, folder: Path) -> None:
        self._context = context
        self._folder = folder
        self._stages: dict[str, Image] = {}
        self._wheels = folder / "wheels"
        self.image = Image(Path("/nonexistent"))

    def step(self, name: str, rest: str) -> None:
        step = getattr(self, f"_{name.lower()}", None)
        assert step is not None, f"the tests know no {name}"
        step(rest)

    def _from(self, rest: str) -> None:
        parent, _, name = rest.partition(" AS ")
        root = self._folder / (name or "image")
        if parent in self._stages:
            self.image = replace(self._stages[parent], root=root)
            _copy_tree(self._stages[parent].root, root)
        else:
            found = re.fullmatch(r"debian:(\w+)-slim", parent)
            assert found, f"the tests know no image {parent}"
            _make_debian(found[1], root)
            self.image = Image(root, {"PATH": os.defpath + ":/sbin:/usr/sbin"})
        self._stages[name] = self.image

    def _run(self, rest: str) -> None:
        variables = {name: value for name, value in os.environ.items() if name.endswith("_proxy")}
        mounts = {path: f"{_MACHINES}{path}" for path in [_authorities()] if path.exists()}
        if "/pip " in rest:
            # Whichever index the machine's pip is told of, and however: it alone has to reach it.
            self._find_wheels()
            variables |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{_MACHINES}/wheels"}
            mounts[self._wheels] = f"{_MACHINES}/wheels"
        words = self.image.line(("/bin/sh", "-c", rest), variables)
        done = subprocess.run(
            _isolated(words, self.image.root, mounts, own_network=False),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
        )
        assert done.returncode == 0, f"RUN {rest}\n{done.stdout}"

    def _find_wheels(self) -> None:
        if not self._wheels.exists():
            ask = ("python3", "-c", "import platform; print(platform.python_version())")
            python = _output(*self.image.line(ask, {})).strip()
            _download_wheels(self._context, python, self._wheels)

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        origin = self._context
        if sources[0].startswith("--from="):
            origin = self._stages[sources.pop(0).partition("=")[2]].root
        place = self.image.root / self.image.folder.lstrip("/") / target
        if target.startswith("/"):
            place = self.image.root / target.lstrip("/")
        for source in sources:
            path = origin / source.lstrip("/")
            if path.is_dir():
                _copy_tree(path, place)
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, place)

    def _workdir(self, rest: str) -> None:
        (self.image.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self._say(folder=rest)

    def _env(self, rest: str) -> None:
        variables = dict(word.split("=", 1) for word in shlex.split(rest))
        self._say(environment={**self.image.environment, **variables})

    def _user(self, rest: str) -> None:
        self._say(user=rest)

    def _expose(self, rest: str) -> None:
        self._say(ports=tuple(int(port) for port in rest.split()))

    def _entrypoint(self, rest: str) -> None:
        self._say(entrypoint=words(rest))

    def _cmd(self, rest: str) -> None:
        self._say(command=words(rest))

    def _healthcheck(self, rest: str) -> None:
        self._say(healthcheck=words(rest.partition(" CMD ")[2]))

    def _say(self, **what: object) -> None:
        self.image = replace(self.image, **what)  # type: ignore[arg-type]


def words(rest: str) -> tuple[str, ...]:
    """A command in the form that needs no shell: a shell would keep the signals for itself."""
    assert rest.startswith("["), f"not a list of words: {rest}"
    return tuple(json.loads(rest))


def _isolated(
    command: Iterable[str], root: Path, mounts: Mapping[Path, str], *, own_network: bool
) -> list[str]:
    """
    A command line that begins processes of their own with a command, after mounting
    what it needs under a root. With a network of its own, the root cannot be written to.
    """
    at = shlex.quote(str(root))
    lines = ["set -e", f"mount --bind {at} {at}", f"mount -t proc proc {at}/proc"]
    for source, target in mounts.items():
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(exist_ok=True) if source.is_dir() else place.touch()
        lines.append(shlex.join(["mount", "--bind", str(source), str(place)]))
    if own_network:
        lines.append(shlex.join([sys.executable, "-c", _LOOPBACK_UP]))
        lines.append(f"mount -t tmpfs tmpfs {at}/tmp")
        lines.append(f"mount -o remount,bind,ro {at}")
    lines.append(f"exec {shlex.join(command)}")
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    return [*alone, *(["--net"] if own_network else []), "sh", "-c", "\n".join(lines)]


def _copy_tree(source: Path, target: Path) -> None:
    """Copy what is in a folder into another, as it is."""
    target.mkdir(parents=True, exist_ok=True)
    _output("cp", "-a", "--reflink=auto", f"{source}/.", target)


# -- Debian, and what the machine needs to reach others -------------------------------------------


def _make_debian(suite: str, root: Path) -> None:
    """Make a root of a Debian, from one that debootstrap has made once."""
    mirror = _mirror(suite)
    with debian13.exclusive(f"slim-{suite}-{platform.machine()}") as made:
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=debian13.CACHE) as folder:
                words = ("--variant=minbase", f"--keyring={_KEYRING}", suite, f"{folder}/root")
                _output("unshare", "--mount", installed("debootstrap"), *words, mirror)
                _slim_down(Path(folder, "root"))
                Path(folder, "root").rename(made)
        _copy_tree(made, root)
    (root / "etc/apt/sources.list").write_text(f"deb {mirror} {suite} main\n")
    trusted = f'Acquire::https::CaInfo "{_MACHINES}{_authorities()}";\n'
    (root / "etc/apt/apt.conf.d/99tests").write_text(trusted)


def _slim_down(root: Path) -> None:
    """Take away what Debian's slim images do without, and keep packages from bringing it back."""
    unwanted = ("usr/share/doc", "usr/share/locale", "usr/share/man")
    for place in (*unwanted, "var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / place)
        (root / place / "partial").mkdir(parents=True)  # apt's own want it
    lines = ["force-unsafe-io", *(f"path-exclude /{place}/*" for place in unwanted)]
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text("\n".join(lines) + "\n")
    clean = 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin"; };\n'
    (root / "etc/apt/apt.conf.d/slim").write_text(clean)


def _mirror(suite: str) -> str:
    """The first of the machine's mirrors of Debian that has a suite just now."""
    reason = ""
    for mirror in debian13.mirrors():
        try:
            with urlopen(f"{mirror}/dists/{suite}/InRelease", timeout=20):
                return mirror
        except OSError as why:
            reason = str(why)
    raise UnavailableError(f"no mirror of Debian has {suite}: {reason}")


def _authorities() -> Path:
    """The file of those whose certificates the machine takes; there may be none."""
    return Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")


def _download_wheels(project: Path, python: str, folder: Path) -> None:
    """Download what a project is built with, and what it needs, for a version of Python."""
    said = tomllib.loads((project / "pyproject.toml").read_text())
    wanted = (*said["build-system"]["requires"], *said["project"]["dependencies"])
    platforms = [word for tag in platform_tags() for word in ("--platform", tag)]
    kinds = ("--only-binary=:all:", "--python-version", python, *platforms)
    _output(sys.executable, "-m", "pip", "download", "-q", "--dest", folder, *kinds, *wanted)


def _output(*words: object) -> str:
    """
    A command's output.

    @raise UnavailableError: it failed.
    """
    line = [str(word) for word in words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=_SECONDS)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise UnavailableError(f"{line[0]}: {last}")
    return done.stdout
