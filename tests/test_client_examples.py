"""
The programs of docs/examples.md and docs/python-client.md do what stands beside them, through
RedCouch as with a memcached.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from tests.integration.clients.programs import GO, run
from tests.support.documents import blocks, patient
from tests.support.requirements import installed, needs
from tests.support.servers import Memcached, RedCouch, RedisServer

pytestmark = pytest.mark.once

_DOCS = Path(__file__).parents[1] / "docs"
_EXAMPLES, _PYTHON = _DOCS / "examples.md", _DOCS / "python-client.md"


def check(language: str, play: Callable[[str], str], *servers: RedCouch | Memcached) -> None:
    """Run the example in a language on each of these; it prints what all of them print."""
    (expected,) = blocks(_EXAMPLES, "text")
    (source,) = blocks(_EXAMPLES, language)
    assert "11210" in source
    for server in servers:
        assert play(patient(source).replace("11210", str(server.port))) == expected, server.name


@needs("node", "npm packages")
def test_node(redcouch: RedCouch, memcached: Memcached, tmp_path: Path) -> None:
    modules = Path(installed("npm packages")).parent

    def play(source: str) -> str:
        (tmp_path / "program.js").write_text(source)
        program = str(tmp_path / "program.js")
        return run([installed("node"), program], {"NODE_PATH": str(modules)})

    check("js", play, redcouch, memcached)


@needs("go", "go memcache")
def test_go(redcouch: RedCouch, memcached: Memcached, tmp_path: Path) -> None:
    def play(source: str) -> str:
        (tmp_path / "program.go").write_text(source)
        return run([installed("go"), "run", str(tmp_path / "program.go")], GO)

    check("go", play, redcouch, memcached)


@needs("php", "php memcached")
def test_php(redcouch: RedCouch, memcached: Memcached, tmp_path: Path) -> None:
    def play(source: str) -> str:
        (tmp_path / "program.php").write_text(source)
        return run([installed("php"), str(tmp_path / "program.php")])

    check("php", play, redcouch, memcached)


@needs("ruby", "dalli")
def test_ruby(redcouch: RedCouch, memcached: Memcached) -> None:
    check("ruby", lambda source: run([installed("ruby"), "-e", source]), redcouch, memcached)


@needs("java", "javac", "spymemcached")
def test_java(redcouch: RedCouch, memcached: Memcached, tmp_path: Path) -> None:
    library = installed("spymemcached")

    def play(source: str) -> str:
        (tmp_path / "Example.java").write_text(source)
        run([installed("javac"), "-cp", library, "-d", str(tmp_path), f"{tmp_path}/Example.java"])
        java = f"{installed('java')} -cp {library}:{tmp_path} Example"
        return run(["bash", "-c", f"{java} 2>/dev/null"])  # where the library has its log

    check("java", play, redcouch, memcached)


@needs("nc")
def test_command_line(redcouch: RedCouch, memcached: Memcached) -> None:
    check("sh", lambda source: run(["bash", "-c", source]), redcouch, memcached)


def test_python(any_redis: RedisServer, redcouch: RedCouch) -> None:
    """Step by step, each prints what its comment says."""
    names: dict[str, object] = {}
    for source in blocks(_PYTHON, "python"):
        told = re.findall(r"^print\(.*\)  # (.*)$", source, re.M)
        assert len(told) == source.count("print(")
        placed = source.replace("11210", str(redcouch.port)).replace("6379", str(any_redis.port))
        with redirect_stdout(StringIO()) as printed:
            exec(placed, names)
        assert printed.getvalue().splitlines() == told, source
    for name in ("cache", "objects"):
        getattr(names[name], "close")()  # noqa: B009 - it has no type here


def test_every_language_is_run() -> None:
    """A language that is added to the examples needs a test."""
    kinds = set(re.findall(r"^```(\w+)$", _EXAMPLES.read_text(), re.M))
    assert kinds == {"text", "js", "go", "php", "ruby", "java", "sh"}
