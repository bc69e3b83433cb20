"""From a storage URL to a backend."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from twisted.internet.task import Clock
from twisted.plugin import IPlugin
from zope.interface.verify import verifyClass, verifyObject

from redcouch.backends import registry
from redcouch.backends.memory import MemoryBackend
from redcouch.backends.registry import BackendMaker, factories, make_backend
from redcouch.errors import ConfigurationError
from redcouch.interfaces import BackendContext, IStorageBackendFactory
from redcouch.limits import Limits

SURROUNDINGS = BackendContext(Clock(), Limits(), lambda: 0.0, print)

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
    """Schemes are the same in upper case, in a URL and in a plugin."""
    maker = BackendMaker("Dict", "redcouch.backends.memory", "a dict")
    with mock.patch.object(registry, "getPlugins", return_value=[maker]):
        assert set(factories()) == {"dict"}
        with pytest.raises(ConfigurationError, match="takes nothing behind the colon"):
            make_backend("DICT:", SURROUNDINGS)
    assert isinstance(make_backend("Memory:", SURROUNDINGS), MemoryBackend)


def _raise(*_: object) -> None:
    raise LookupError("no table\nin mine://ann:secret@host")


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda *_: None, "it made None, which is no IStorageBackend"),
        (lambda *_: MemoryBackend, "it made <class .*MemoryBackend.*which is no IStorageBackend"),
        (_raise, r"LookupError\(.no table.*in mine://ann:\*\*\*@host.*\(.*test_registry.py, line"),
    ],
)
def test_faults_of_a_plugin(build: Any, said: str) -> None:
    """They end the start with a line that says whose fault it is and where; without passwords."""
    plugin = SimpleNamespace(scheme="mine", build=build)
    with (
        mock.patch.object(registry, "getPlugins", return_value=[plugin]),
        pytest.raises(ConfigurationError, match="a fault in the plugin of mine: " + said) as caught,
    ):
        make_backend("mine://ann:secret@host", SURROUNDINGS)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "memory", "nosuch:", "localhost:6379", "://"])
def test_no_such_scheme(url: str) -> None:
    """A wrong scheme is answered with the list of the right ones."""
    schemes = r"embedded:, .*memory:, redis:, .*rediss:, .*warm:"
    with pytest.raises(ConfigurationError, match=schemes) as caught:
        make_backend(url, SURROUNDINGS)
    assert repr(url) in str(caught.value)


def test_no_such_scheme_with_a_password() -> None:
    """The password of a mistyped URL is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        make_backend("reddis://:secret@host", SURROUNDINGS)
    assert "secret" not in str(caught.value)
