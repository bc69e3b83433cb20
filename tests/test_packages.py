"""
What is installed, and not what lies in the working tree: the wheel in a clean
environment, and a storage backend from a package of somebody else's beside it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from email import message_from_bytes
from pathlib import Path

import pytest

from redcouch.http.routes import FILES
from tests.support.servers import RedCouch
from tests.support.wire import Address, ask

pytestmark = pytest.mark.once

_ROOT = Path(__file__).parent.parent


def _run(*command: object) -> str:
    """A command's output; it has to succeed."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project's sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("distribution")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, _ROOT)
    return folder


@pytest.fixture(scope="session")
def wheel(distribution: Path) -> Path:
    """The project's wheel."""
    (built,) = distribution.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    The C{bin} of an environment with the wheel and the example package. What
    they depend on is that of the tests' own environment.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    programs = folder / "bin"
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    twistd = programs / "twistd"
    twistd.write_text(f"#!{programs}/python\nfrom twisted.scripts.twistd import run\nrun()\n")
    twistd.chmod(0o755)
    pip = (sys.executable, "-m", "pip", "--python", programs / "python", "install")
    example = _ROOT / "examples/redcouch-example"
    _run(*pip, "--no-deps", "--no-build-isolation", "--ignore-installed", wheel, example)
    return programs


class _Installed(RedCouch):
    """The service as it is installed in an environment, run from an unrelated folder."""

    def __init__(self, programs: Path, folder: Path, storage: str) -> None:
        super().__init__(folder, storage, (), ready=True)
        self._twistd = programs / "twistd"

    def command(self) -> Sequence[str]:
        return [str(self._twistd), *super().command()[1:]]


@contextmanager
def _service(programs: Path, storage: str, folder: Path) -> Iterator[Address]:
    """The installed service; gives its address."""
    server = _Installed(programs, folder, storage)
    server.start()
    try:
        yield server.address
    finally:
        server.stop()
    server.check_log()


def test_the_wheel_is_complete(wheel: Path) -> None:
    """It has the plugin, the scripts, the mark of types and the licence."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "twisted/plugins/redcouch_plugin.py" in names
    assert "twisted/plugins/__init__.py" not in names
    assert "twisted/__init__.py" not in names
    assert "redcouch/py.typed" in names
    assert any(name.endswith("/LICENSE") for name in names)
    scripts = {path.name for path in (_ROOT / "redcouch").rglob("*.lua")}
    assert {name.rpartition("/")[2] for name in names if name.endswith(".lua")} == scripts
    assert {f"redcouch/http/page/{file}" for file, _ in FILES.values()} <= names
    assert not any(name.startswith(("tests", "bench", "examples")) for name in names)


def test_the_sdist_is_complete(distribution: Path) -> None:
    """It has the source, the tests and the documents, and not what CI alone runs."""
    (built,) = distribution.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "docs/migration.md"} <= names
    assert {"redcouch/service.py", "twisted/plugins/redcouch_plugin.py", "tox.ini"} <= names
    assert "contrib/systemd/redcouch.service" in names
    assert not any(name.startswith(".ci") for name in names)


def test_a_package_index_takes_both(distribution: Path, wheel: Path) -> None:
    """What they say of the project is complete, and its links lead somewhere from there."""
    _run(sys.executable, "-m", "twine", "check", "--strict", *distribution.iterdir())
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    labels = {line.partition(",")[0] for line in metadata.get_all("Project-URL", [])}
    assert labels == {"Homepage", "Documentation", "Source", "Issues", "Changelog"}
    shown = str(metadata.get_payload())
    assert shown.startswith("# RedCouch")
    links = re.findall(r"\]\(([^)]*)\)", shown)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    for place in re.findall(r"github.com/redcouch/redcouch/(?:blob|raw)/main/([^)#]*)", shown):
        assert (_ROOT / place).exists(), place


def test_contrib_is_installed(environment: Path) -> None:
    """Whoever has the wheel has the units, the dashboard and the alerts."""
    installed = environment.parent / "share/redcouch"
    for path in filter(Path.is_file, (_ROOT / "contrib").rglob("*")):
        assert (installed / path.relative_to(_ROOT / "contrib")).read_bytes() == path.read_bytes()


def test_twistd_lists_it(environment: Path) -> None:
    """
    C{twistd --help} offers redcouch, and notes the plugins for who may not write there,
    as C{docs/operations.md} says; its own help names each storage.
    """
    assert "redcouch" in _run(environment / "twistd", "--help")
    assert [*environment.parent.glob("lib/python*/site-packages/twisted/plugins/dropin.cache")]
    text = _run(environment / "twistd", "redcouch", "--help")
    for scheme in ("redis:", "rediss:", "redis+unix:", "redis+sentinel:", "embedded:", "example:"):
        assert scheme in text


def test_the_command(environment: Path) -> None:
    """C{redcouch} is there, with all that it needs."""
    assert _run(environment / "redcouch", "--version").startswith("RedCouch ")
    assert "promote" in _run(environment / "redcouch", "--help")


def test_the_plugin_is_light(environment: Path) -> None:
    """Listing the plugins imports neither the service nor the Redis client."""
    source = (
        "import sys, twisted.plugins.redcouch_plugin; "
        "print([name for name in ('redcouch.service', 'txredisapi', 'hiredis', "
        "'redcouch.backends.redis.connection') if name in sys.modules])"
    )
    assert _run(environment / "python", "-c", source).strip() == "[]"


def test_the_first_command_of_the_readme(environment: Path, tmp_path: Path) -> None:
    """The installed service runs on its own Redis, and leaves nothing behind."""
    with _service(environment, "embedded:", tmp_path) as address:
        assert ask(address, b"set a 5 0 1\r\nx\r\nget a\r\n", b"END\r\n").endswith(
            b"VALUE a 5 1\r\nx\r\nEND\r\n"
        )
    log = (tmp_path / "log").read_text()
    found = re.search(r"kept by a private Redis at (.*)/redis.sock", log)
    assert found, log
    assert not Path(found[1]).exists()
    assert _processes(found[1]) == []


def _processes(words: str) -> list[str]:
    """The processes, if the system can list them, that have these words in their command line."""
    lines = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(place.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if words in line]


def test_a_storage_of_somebody_elses(environment: Path, tmp_path: Path) -> None:
    """A package with a backend and a plugin file is all that C{example:} takes."""
    storage = f"example:{tmp_path / 'items.sqlite3'}"
    with _service(environment, storage, tmp_path) as address:
        said = ask(
            address,
            b"set n 5 0 2\r\n10\r\nincr n 5\r\nappend n 0 0 1\r\n0\r\ndelete x\r\nget n\r\n",
            b"END\r\n",
        )
        assert said == (b"STORED\r\n15\r\nSTORED\r\nNOT_FOUND\r\nVALUE n 5 3\r\n150\r\nEND\r\n")
    with _service(environment, storage, tmp_path) as address:
        assert ask(address, b"get n\r\n", b"END\r\n") == b"VALUE n 5 3\r\n150\r\nEND\r\n"
