"""From a storage URL to a backend, and what of a URL may be shown."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.plugin import IPlugin
from zope.interface.verify import verifyClass, verifyObject

from redcouch.backends.memory import MemoryBackend
from redcouch.backends.registry import (
    BackendMaker,
    factories,
    make_backend,
    read_parameters,
    redact,
)
from redcouch.errors import ConfigurationError
from redcouch.interfaces import IStorageBackendFactory, Surroundings
from redcouch.limits import Limits

SURROUNDINGS = Surroundings(Clock(), Limits(), lambda: 0.0, print)

SCHEMES = {"memory", "embedded", "redis", "rediss", "redis+unix", "redis+sentinel"}


def test_plugins() -> None:
    """Every scheme of the manual is there, each with a line for --help."""
    known = factories()
    assert set(known) >= SCHEMES
    for scheme in SCHEMES:
        verifyObject(IStorageBackendFactory, known[scheme])
        assert known[scheme].summary
        assert known[scheme].scheme == scheme


def test_maker() -> None:
    """What a plugin file makes is a plugin, and one that builds."""
    verifyClass(IStorageBackendFactory, BackendMaker)
    maker = BackendMaker("memory", "redcouch.backends.memory", "a dict")
    verifyObject(IPlugin, maker)
    verifyObject(IStorageBackendFactory, maker)
    assert isinstance(maker.build("memory:", SURROUNDINGS), MemoryBackend)


def test_nothing_is_imported_before_it_is_chosen() -> None:
    """C{twistd --help} does not load a Redis client to show its list."""
    script = (
        "import sys; from redcouch.backends.registry import factories; factories();"
        "print([name for name in sys.modules if name.startswith(('txredisapi', 'hiredis',"
        " 'redcouch.backends.redis', 'redcouch.service', 'twisted.internet.reactor'))])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert loaded.stdout == "[]\n", loaded.stderr


def test_scheme_in_capitals() -> None:
    """Schemes are the same in upper case."""
    assert isinstance(make_backend("Memory:", SURROUNDINGS), MemoryBackend)


@pytest.mark.parametrize("url", ["", "memory", "nosuch:", "localhost:6379", "://"])
def test_no_such_scheme(url: str) -> None:
    """A wrong scheme is answered with the list of the right ones."""
    schemes = r"embedded:, memory:, redis:, .*rediss:"
    with pytest.raises(ConfigurationError, match=schemes) as caught:
        make_backend(url, SURROUNDINGS)
    assert repr(url) in str(caught.value)


def test_no_such_scheme_with_a_password() -> None:
    """The password of a mistyped URL is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        make_backend("reddis://:secret@host", SURROUNDINGS)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory:", "memory:"),
        ("redis:", "redis:"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://:@host", "redis://:***@host"),
        ("redis://user:secret@host:1/2?prefix=a", "redis://user:***@host:1/2?prefix=a"),
        ("redis://secret@host", "redis://***@host"),
        ("redis://:sec:ret@host", "redis://:***@host"),
        ("redis://u:sec@ret@host", "redis://u:***@host"),
        ("redis://u:sec/ret@host", "redis://u:***@host"),
        ("redis://u:sec?ret@host", "redis://u:***@host"),
        ("redis://u:sec#ret@host/1", "redis://u:***@host/1"),
        ("redis://u:12?3@host", "redis://u:***@host"),
        ("redis://u:12/3?4@host", "redis://u:***@host"),
        ("redis://u:secret@[::1]:7/1", "redis://u:***@[::1]:7/1"),
        ("redis://host/0?prefix=a@b", "redis://host/0?prefix=a@b"),
        ("redis://[::1]:1/0?prefix=a%40b", "redis://[::1]:1/0?prefix=a%40b"),
        ("redis://u:secret@host/0?prefix=a%40b", "redis://u:***@host/0?prefix=a%40b"),
        ("redis://u:sec@?ret@host", "redis://u:***@host"),
        ("redis+unix:///run/a@b/socket", "redis+unix:///run/a@b/socket"),
        ("redis+unix://u:secret@/run/socket", "redis+unix://u:***@/run/socket"),
        (
            "redis+sentinel://u:secret@a:1,b:2/m/0?sentinel_password=hidden&prefix=x",
            "redis+sentinel://u:***@a:1,b:2/m/0?sentinel_password=***&prefix=x",
        ),
        ("redis://host?Password=hidden", "redis://host?Password=***"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    """What is shown of a URL is all but its passwords."""
    assert redact(url) == shown


@given(st.text(min_size=1), st.sampled_from(["", "user"]), st.sampled_from(["", ":6379", "/0"]))
def test_no_password_is_shown(password: str, user: str, rest: str) -> None:
    """Whatever a password is made of, escaped or not, no piece of it is shown."""
    shown = redact(f"redis://{user}:{password}@host{rest}")
    assert shown == f"redis://{user}:***@host{rest}"


def test_parameters() -> None:
    """Parameters are bytes, with percent-encoding undone and plus signs left alone."""
    given = read_parameters("prefix=a%00%ff%26+b&empty=", ("prefix", "empty"), "redis:")
    assert given == {"prefix": b"a\x00\xff&+b", "empty": b""}
    assert read_parameters("", ("prefix",), "redis:") == {}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("nosuch=1", "unknown parameter 'nosuch'; known are prefix, timeout"),
        ("prefix=1&prefix=2", "gives 'prefix' twice"),
        ("prefix", "cannot read the parameters"),
        ("prefix=1&&timeout=2", "cannot read the parameters"),
        ("&", "cannot read the parameters"),
    ],
)
def test_wrong_parameters(query: str, words: str) -> None:
    """A wrong parameter is named, with those that there are; the password is not."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_parameters(query, ("timeout", "prefix"), f"redis://:secret@host?{query}")
    assert "secret" not in str(caught.value)
