"""A run of tests on a machine that lacks something, as it begins and as it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.once

_ROOT = Path(__file__).parents[2]

_CONFTEST = """
from tests.support import requirements
from tests.support.requirements import Requirement

requirements.REQUIREMENTS = {
    "there": Requirement(lambda: "/bin/there"),
    "gone": Requirement(lambda: None, ("package-of-it", "another")),
    "lost": Requirement(lambda: None, ("another",)),
    "redis": Requirement(lambda: None),
}

from tests.support.skipping import Skipping

def pytest_configure(config):
    config.pluginmanager.register(Skipping(config))
"""

_TESTS = """
import pytest
from tests.support.requirements import OnRedis, fixture_needs, installed, needs

@pytest.fixture(scope="module")
@fixture_needs("gone")
def server():
    raise RuntimeError("it is not there")

@pytest.fixture
def client(server):
    return server

def test_nothing(): pass

@needs("there")
def test_there(): assert installed("there") == "/bin/there"

@needs("there", "lost")
def test_lost(): raise RuntimeError("it runs")

@pytest.mark.parametrize("one", [1, pytest.param(2, marks=needs("gone"))])
def test_parameter(one): assert one == 1

def test_fixture(client): pass
"""


@pytest.fixture
def machine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A machine on which two things are missing, and some tests that need them."""
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the others only take time
    for name in ("CI", "REDCOUCH_TESTS_STRICT", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini("[pytest]\nmarkers =\n    needs\n    once\naddopts = -p no:cacheprovider")
    pytester.makeconftest(_CONFTEST)
    pytester.makepyfile(_TESTS)
    return pytester


WORKERS = pytest.mark.parametrize(
    "workers", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "xdist"]
)


@WORKERS
def test_what_is_missing_is_said(machine: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """First and last the run names what is missing, and all ends well."""
    result = machine.runpytest_subprocess(*workers)
    assert result.ret == 0
    result.assert_outcomes(passed=3, skipped=3)
    result.stdout.fnmatch_lines(
        [
            "missing here: gone, lost, redis; tests that need it are skipped",
            "apt-get install another package-of-it",
            "3 of 6 tests need what is missing here",
            "3 tests are skipped, since this is missing here: gone, lost, redis",
            "apt-get install another package-of-it",
            "*3 passed, 3 skipped*",
        ]
    )


@WORKERS
@pytest.mark.parametrize("setting", [("CI", "true"), ("REDCOUCH_TESTS_STRICT", "1")])
def test_strictly(
    machine: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    workers: tuple[str, ...],
    setting: tuple[str, str],
) -> None:
    """Where nothing may be skipped, those tests fail."""
    monkeypatch.setenv(*setting)
    result = machine.runpytest_subprocess(*workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["3 tests fail, since this is missing here: gone, lost, redis"])
    assert "it runs" not in result.stdout.str()


def test_who_does_not_say_it(machine: pytest.Pytester) -> None:
    """On every machine a test fails that takes what it has not said that it needs."""
    machine.makepyfile(
        test_quiet="""
        from tests.support.requirements import installed

        def test_quiet(): installed("there")
        """
    )
    result = machine.runpytest_subprocess("test_quiet.py")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*the test has to say that it needs this: @needs('there')"])


@WORKERS
def test_what_is_left_out_is_counted(machine: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """Tests that are left out by their marks are neither skipped nor forgotten."""
    machine.makepyfile(
        test_marked="""
        import pytest

        @pytest.mark.once
        def test_once(): raise RuntimeError("it runs")

        def test_always(): pass
        """
    )
    result = machine.runpytest_subprocess("test_marked.py", "-m", "not once", *workers)
    assert result.ret == 0
    result.assert_outcomes(passed=1, deselected=1)
