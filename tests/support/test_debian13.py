"""How the packages of another Debian are found, and what is said where they cannot be had."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import debian13
from tests.support.debian13 import UnavailableError

_SOURCES = """\
'https://mirror.example/debian/dists/bookworm/InRelease' mirror.example_InRelease 0
'https://mirror.example/debian/dists/bookworm-updates/InRelease' mirror.example_updates 0
'https://tools.example/apt/dists/bookworm/InRelease' tools.example_InRelease 0
'https://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' packages 0
"""

Apt = Callable[..., str]


@pytest.fixture(autouse=True)
def bookworm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Debian 12 on which nothing has been downloaded."""
    system = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: system)
    monkeypatch.setattr(debian13, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(debian13, "CACHE", tmp_path)
    for cached in (debian13.missing, debian13._root):
        cached.cache_clear()
    yield
    for cached in (debian13.missing, debian13._root):
        cached.cache_clear()


def _apt(monkeypatch: pytest.MonkeyPatch, refuse: str) -> list[tuple[object, ...]]:
    """Put something in apt's place that knows no signed suite on a mirror; gives what it ran."""
    ran: list[tuple[object, ...]] = []

    def run(*words: object) -> str:
        ran.append(words)
        if "--print-uris" in words:
            return _SOURCES
        folder = next(str(word) for word in words if str(word).startswith("Dir::State="))
        sources = Path(folder.partition("=")[2], "sources.list").read_text()
        assert "signed-by=/usr/share/keyrings/" in sources
        if refuse in sources:
            raise UnavailableError("E: not signed")
        if "install" in words:
            raise UnavailableError("E: the mirror is full")
        return ""

    monkeypatch.setattr(debian13, "_run", run)
    return ran


def test_the_mirror_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where apt looks for this Debian, it is asked for the other one; others' archives may be
    among the places, and are passed over."""
    _apt(monkeypatch, "nothing")
    assert debian13.mirrors() == ["https://mirror.example/debian", "https://tools.example/apt"]
    ran = _apt(monkeypatch, "tools.example")
    assert debian13.missing() == "the servers of Debian 13 cannot be had: E: not signed"
    assert sum("install" in words for words in ran) == 1


def test_a_failure_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes soon after hears the reason without asking the mirror again."""
    ran = _apt(monkeypatch, "example")
    assert debian13.find("memcached") is None
    asked = len(ran)
    debian13.missing.cache_clear()
    assert debian13.find("valkey-server") is None
    assert debian13.missing() == "the servers of Debian 13 cannot be had: E: not signed"
    assert len(ran) == asked
    assert [path.suffix for path in tmp_path.iterdir() if path.is_dir()] == []


def test_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no folder to keep them in, as C{nobody}, runs the other tests, and is told so."""
    (tmp_path / "nothing").touch()
    monkeypatch.setattr(debian13, "CACHE", tmp_path / "nothing/.cache/redcouch-tests")
    assert debian13.find("memcached") is None
    assert str(tmp_path / "nothing") in str(debian13.missing())


def test_no_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system has no mirror of Debian."""
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "fedora"})
    assert debian13.missing() == (
        "the servers of Debian 13 cannot be had: this is no Debian, whose mirror could be asked"
    )


def test_a_debian_13(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the installed programs serve, and what to install is said."""
    system = {"ID": "debian", "VERSION_CODENAME": "trixie"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: system)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    said = debian13.missing()
    assert said is not None
    assert "apt-get install valkey-server" in said
    debian13.missing.cache_clear()
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(debian13, "_run", lambda *words: "")
    assert debian13.find("valkey-server") == "/bin/valkey-server"
