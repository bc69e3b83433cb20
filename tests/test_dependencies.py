"""What is depended upon: from which version on, and that this is what is tested."""

from __future__ import annotations

import configparser
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

_ROOT = Path(__file__).parent.parent
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())


def _requirements() -> list[Requirement]:
    """What somebody gets who installs RedCouch with its extras."""
    project = _PROJECT["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in lines]


def _bound(requirement: Requirement) -> str:
    """The oldest version that is allowed; there is one, and nothing else is said."""
    (specifier,) = requirement.specifier
    assert specifier.operator == ">=", requirement
    return specifier.version


@pytest.mark.parametrize("requirement", _requirements(), ids=str)
def test_each_has_a_lower_bound(requirement: Requirement) -> None:
    """No version too old is taken, and none that mends a weakness is kept out."""
    assert _bound(requirement)
    assert requirement.specifier.contains(version(requirement.name), prereleases=True)


def test_the_oldest_are_tested() -> None:
    """C{tox -e lowest} runs the tests with just the oldest versions that are allowed."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(_ROOT / "tox.ini")
    pinned = {}
    for line in tox["testenv:lowest"]["deps"].split():
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        pinned[requirement.name] = requirement
    allowed = {
        Requirement(line).name: Requirement(line) for line in _PROJECT["project"]["dependencies"]
    }
    assert pinned.keys() == allowed.keys()
    for name, requirement in pinned.items():
        assert requirement.specifier.contains(_bound(allowed[name])), name
        assert requirement.extras == allowed[name].extras
